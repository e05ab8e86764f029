/* SPDX-License-Identifier: Apache-2.0 */

#include "proto/text.h"

#include <stdint.h>
#include <string.h>

#include "proto/layout.h"

/* The smallest code point that needs a sequence of this length: anything smaller is an overlong encoding. */
static uint32_t text_point_min(unsigned n_more) {
        return n_more == 1 ? 0x80 : n_more == 2 ? 0x800 : 0x10000;
}

/* How many bytes the first character has; 0: they begin with none. */
static size_t text_first_len(const uint8_t *at, const uint8_t *end) {
        uint8_t first = *at;
        uint32_t point;
        unsigned n_more;

        if (first < 0x80)
                return first ? 1 : 0;
        if (first < 0xc0 || first > 0xf7)
                return 0;
        n_more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        if ((size_t) (end - at) <= n_more)
                return 0;
        point = first & (0x3fu >> n_more);
        for (unsigned i = 1; i <= n_more; i++) {
                if ((at[i] & 0xc0) != 0x80)
                        return 0;
                point = point << 6 | (at[i] & 0x3f);
        }
        if (point < text_point_min(n_more) || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
                return 0;
        return n_more + 1;
}

bool text_is_utf8(const void *bytes, size_t len) {
        const uint8_t *at = bytes, *end = at + len;

        while (at < end) {
                size_t n = text_first_len(at, end);

                if (n == 0)
                        return false;
                at += n;
        }
        return true;
}

char *text_make_utf8(char *text) {
        uint8_t *at = (uint8_t *) text, *end = at + strlen(text);

        while (at < end) {
                size_t n = text_first_len(at, end);

                if (n == 0)
                        *at = '?';
                at += n ? n : 1;
        }
        return text;
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
        bool has_letter = false;

        if (len == 0 || len > OVL_SERVICE_NAME_MAX)
                return false;
        for (size_t i = 0; i < len; i++) {
                if (at[i] >= 0x80 || at[i] == ':' || at[i] == '%' || (at[i] != '+' && !text_is_host_byte(at[i])))
                        return false;
                has_letter = has_letter || ((at[i] | 0x20) >= 'a' && (at[i] | 0x20) <= 'z');
        }
        return has_letter;
}
