/* SPDX-License-Identifier: Apache-2.0 */

#include "proto/reason.h"

#include "proto/layout.h"

const char *reason_text(unsigned reason) {
        switch (reason) {
#define REASON_CASE(name, number, text)                                                                                \
        case number:                                                                                                   \
                return text;
                OVL_REASONS(REASON_CASE)
#undef REASON_CASE
        default:
                return "a reason that this version does not know: the other side is newer";
        }
}
