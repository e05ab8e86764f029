/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_REASON_H
#define PROTO_REASON_H

/* What a reason (enum ovl_reason of layout.h) means and what to do about it; never NULL. Static storage. */
const char *reason_text(unsigned reason);

#endif
