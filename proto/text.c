/* SPDX-License-Identifier: Apache-2.0 */

#include "proto/text.h"

#include <stdint.h>
#include <string.h>

#include "proto/layout.h"

/* The smallest code point that needs a sequence of this length: anything smaller is an overlong encoding. */
static uint32_t text_point_min(unsigned n_more) {
        return n_more == 1 ? 0x80 : n_more == 2 ? 0x800 : 0x10000;
}

bool text_is_utf8(const void *bytes, size_t len) {
        const uint8_t *at = bytes, *end = at + len;

        while (at < end) {
                uint8_t first = *at++;
                unsigned n_more;
                uint32_t point;

                if (!first)
                        return false;
                if (first < 0x80)
                        continue;
                if (first < 0xc0 || first > 0xf7)
                        return false;
                n_more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
                if ((size_t) (end - at) < n_more)
                        return false;
                point = first & (0x3fu >> n_more);
                for (unsigned i = 0; i < n_more; i++) {
                        if ((*at & 0xc0) != 0x80)
                                return false;
                        point = point << 6 | (*at++ & 0x3f);
                }
                if (point < text_point_min(n_more) || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
                        return false;
        }
        return true;
}

static bool text_is_host_byte(uint8_t byte) {
        if (byte >= 0x80 || (byte >= '0' && byte <= '9'))
                return true;
        if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z'))
                return true;
        return byte != 0 && strchr("-._:%", byte);
}

bool text_is_host_name(const void *bytes, size_t len) {
        const uint8_t *at = bytes;

        if (len == 0 || len > OVL_RESOLVE_NAME_MAX || !text_is_utf8(bytes, len))
                return false;
        for (size_t i = 0; i < len; i++)
                if (!text_is_host_byte(at[i]))
                        return false;
        return true;
}

bool text_is_service_name(const void *bytes, size_t len) {
        const uint8_t *at = bytes;

        if (len == 0 || len > OVL_SERVICE_NAME_MAX)
                return false;
        for (size_t i = 0; i < len; i++)
                if (at[i] >= 0x80 || at[i] == ':' || at[i] == '%' || (at[i] != '+' && !text_is_host_byte(at[i])))
                        return false;
        return true;
}
