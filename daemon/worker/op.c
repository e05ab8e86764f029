/* SPDX-License-Identifier: Apache-2.0 */

/* What each operation is. A new one is a row here and, where it does what no other does, a file of its own. */

#include "daemon/worker/op.h"

const struct op_form op_forms[OP_FORMS] = {
        [OVL_OP_CONNECT] = {
                .is_known = true,
                .direction = DIRECTION_OUT,
                .types = OP_FOR_STREAM | OP_FOR_DATAGRAM,
                .has_address = true,
        },
        [OVL_OP_ACCEPT] = {
                .is_known = true,
                .direction = DIRECTION_IN,
                .types = OP_FOR_STREAM,
        },
        [OVL_OP_RECV] = {
                .is_known = true,
                .direction = DIRECTION_IN,
                .types = OP_FOR_STREAM | OP_FOR_DATAGRAM,
                .receives = true,
                .has_buffer = true,
                .flags = OVL_ENTRY_VECTOR | OVL_ENTRY_INLINE,
                .messages = OVL_MESSAGE_PEEK | OVL_MESSAGE_WAITALL,
        },
        [OVL_OP_SEND] = {
                .is_known = true,
                .direction = DIRECTION_OUT,
                .types = OP_FOR_STREAM | OP_FOR_DATAGRAM,
                .sends = true,
                .has_buffer = true,
                .flags = OVL_ENTRY_VECTOR | OVL_ENTRY_INLINE,
        },
        [OVL_OP_RECVFROM] = {
                .is_known = true,
                .direction = DIRECTION_IN,
                .types = OP_FOR_DATAGRAM,
                .receives = true,
                .has_buffer = true,
                .has_aux = true,
                .flags = OVL_ENTRY_VECTOR | OVL_ENTRY_INLINE,
                .messages = OVL_MESSAGE_PEEK,
        },
        [OVL_OP_SENDTO] = {
                .is_known = true,
                .direction = DIRECTION_OUT,
                .types = OP_FOR_DATAGRAM,
                .sends = true,
                .has_buffer = true,
                .has_address = true,
                .flags = OVL_ENTRY_VECTOR | OVL_ENTRY_INLINE,
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
