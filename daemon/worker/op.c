/* SPDX-License-Identifier: Apache-2.0 */

/* What each operation is. A new one is a row here and, where it does what no other does, a file of its own. */

#include "daemon/worker/op.h"

#define OP_MESSAGES_IN (OVL_MESSAGE_PEEK | OVL_MESSAGE_PUSH_IMMEDIATE | OVL_MESSAGE_DONTWAIT | OVL_MESSAGE_PARTIAL)
#define OP_MESSAGES_OUT (OVL_MESSAGE_DONTROUTE | OVL_MESSAGE_DONTWAIT)

const struct op_form op_forms[OP_FORMS] = {
        [OVL_OP_CONNECT] = {
                .is_known = true,
                .direction = DIRECTION_OUT,
                .steps = STEP_CONNECT,
                .types = OP_FOR_STREAM | OP_FOR_DATAGRAM,
                .sends = true,
                .may_transfer = true,
                .has_buffer = true,
                .has_address = true,
                .flags = OVL_ENTRY_VECTOR | OVL_ENTRY_INLINE,
        },
        [OVL_OP_ACCEPT] = {
                .is_known = true,
                .direction = DIRECTION_IN,
                .steps = STEP_ACCEPT,
                .types = OP_FOR_STREAM,
                .receives = true,
                .may_transfer = true,
                .has_buffer = true,
                .n_addresses = 2,
                .has_prepared = true,
                .flags = OVL_ENTRY_VECTOR | OVL_ENTRY_INLINE,
                .messages = OVL_MESSAGE_DONTWAIT,
        },
        [OVL_OP_RECV] = {
                .is_known = true,
                .direction = DIRECTION_IN,
                .steps = STEP_TRANSFER,
                .types = OP_FOR_STREAM | OP_FOR_DATAGRAM,
                .receives = true,
                .has_buffer = true,
                .flags = OVL_ENTRY_VECTOR | OVL_ENTRY_INLINE,
                .messages = OP_MESSAGES_IN,
                .stream_messages = OVL_MESSAGE_OOB | OVL_MESSAGE_WAITALL,
        },
        [OVL_OP_SEND] = {
                .is_known = true,
                .direction = DIRECTION_OUT,
                .steps = STEP_TRANSFER,
                .types = OP_FOR_STREAM | OP_FOR_DATAGRAM,
                .sends = true,
                .has_buffer = true,
                .flags = OVL_ENTRY_VECTOR | OVL_ENTRY_INLINE,
                .messages = OP_MESSAGES_OUT,
                .stream_messages = OVL_MESSAGE_OOB | OVL_MESSAGE_PARTIAL,
        },
        [OVL_OP_RECVFROM] = {
                .is_known = true,
                .direction = DIRECTION_IN,
                .steps = STEP_TRANSFER,
                .types = OP_FOR_DATAGRAM,
                .receives = true,
                .has_buffer = true,
                .n_addresses = 1,
                .flags = OVL_ENTRY_VECTOR | OVL_ENTRY_INLINE,
                .messages = OP_MESSAGES_IN,
        },
        [OVL_OP_SENDTO] = {
                .is_known = true,
                .direction = DIRECTION_OUT,
                .steps = STEP_TRANSFER,
                .types = OP_FOR_DATAGRAM,
                .sends = true,
                .has_buffer = true,
                .has_address = true,
                .flags = OVL_ENTRY_VECTOR | OVL_ENTRY_INLINE,
                .messages = OP_MESSAGES_OUT,
        },
        [OVL_OP_DISCONNECT] = {
                .is_known = true,
                .direction = DIRECTION_OUT,
                .steps = STEP_SHUT,
                .types = OP_FOR_STREAM,
                .messages = OVL_TRANSMIT_REUSE,
        },
        [OVL_OP_TRANSMIT_FILE] = {
                .is_known = true,
                .direction = DIRECTION_OUT,
                .steps = STEP_TRANSFER,
                .types = OP_FOR_STREAM | OP_FOR_DATAGRAM, /* which it refuses as one that is not connected */
                .sends = true,
                .transmits = true,
                .flags = OVL_ENTRY_VECTOR,
                .messages = OVL_TRANSMIT_DISCONNECT | OVL_TRANSMIT_REUSE,
        },
        [OVL_OP_TRANSMIT_PACKETS] = {
                .is_known = true,
                .direction = DIRECTION_OUT,
                .steps = STEP_TRANSFER,
                .types = OP_FOR_STREAM | OP_FOR_DATAGRAM,
                .sends = true,
                .transmits = true,
                .flags = OVL_ENTRY_VECTOR,
                .messages = OVL_TRANSMIT_DISCONNECT | OVL_TRANSMIT_REUSE,
        },
        [OVL_OP_IOCTL] = {
                .is_known = true,
                .direction = DIRECTION_NONE,
                .types = OP_FOR_STREAM | OP_FOR_DATAGRAM,
                .has_payload = true,
                .flags = OVL_ENTRY_INLINE, /* the rest depends on the code: see post-ioctl.c */
        },
        [OVL_OP_POLL] = {
                .is_known = true,
                .direction = DIRECTION_NONE,
                .types = OP_FOR_STREAM | OP_FOR_DATAGRAM,
                .has_events = true,
        },
        [OVL_OP_RESOLVE] = {
                .is_known = true,
                .direction = DIRECTION_NONE,
                .has_payload = true,
                .flags = OVL_ENTRY_INLINE, /* the rest of its entry is checked in resolve.c */
        },
};
