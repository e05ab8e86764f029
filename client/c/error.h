/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_ERROR_H
#define CLIENT_ERROR_H

/* What went wrong, in a number and in words. */

#include <stdarg.h>

#include "client/c/overlap.h"

/*
 * Describes a failure.
 *
 * error:  filled; NULL if nobody wants to know.
 * status: -errno.
 * reason: enum ovl_reason, or 0.
 *
 * Returns status, so that a failing call ends with `return error_set(...)`.
 */
int error_set(struct ovl_error *error, int status, unsigned reason, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* Copies text of the other side to `to` (NUL-terminated, cut to size); what a terminal would not print becomes '?'. */
void error_copy_text(char *to, size_t size, const char *text);

#endif
