/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_TEXT_H
#define PROTO_TEXT_H

/* Text that somebody else wrote. */

#include <stdbool.h>
#include <stddef.h>

/* Whether the bytes are UTF-8 without NUL. */
bool text_is_utf8(const void *bytes, size_t len);

/*
 * Makes question marks of what is no UTF-8: of the bytes of a path, and of a character that was cut. Returns `text`.
 * Who gets a message with anything else ends the connection.
 */
char *text_make_utf8(char *text);

/*
 * Whether the bytes can be the name of a host or an address as one writes it: 1 to OVL_RESOLVE_NAME_MAX of UTF-8, in
 * ASCII only letters, digits and "-._:%". Whether there is such a host is another question.
 */
bool text_is_host_name(const void *bytes, size_t len);

/*
 * Whether the bytes can be the name of a service: 1 to OVL_SERVICE_NAME_MAX letters, digits and "-._+", with a letter
 * (RFC 6335, section 5.1). Without one getaddrinfo(3) takes them for a number, whatever its sign and size.
 */
bool text_is_service_name(const void *bytes, size_t len);

#endif
