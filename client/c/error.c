/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Errors of the library. A call returns -errno; the same number, a finer reason and a sentence are kept with whoever
 * made the call: a struct ovl_thread, or the caller's own variable where there is no thread yet.
 *
 * Invariant: a text never holds a control character, whoever wrote it: programs print it to terminals and journals, and
 * part of it may come from the other side of a socket.
 *
 * Rejected: a description per OS thread (process-wide state), and texts that are composed when they are asked for (by
 * then the values that they name have changed).
 */

#include "client/c/error.h"

#include <stdio.h>
#include <string.h>

#include "proto/reason.h"

OVL_API const char *ovl_reason_text(unsigned reason) {
        return reason_text(reason);
}

void error_copy_text(char *to, size_t size, const char *text) {
        size_t n;

        for (n = 0; n + 1 < size && text[n]; n++) {
                unsigned char c = (unsigned char) text[n];

                to[n] = (c < 0x20 || c == 0x7f) ? '?' : text[n];
        }
        to[n] = '\0';
}

int error_set(struct ovl_error *error, int status, unsigned reason, const char *format, ...) {
        char text[sizeof(error->text)];
        va_list arguments;

        if (!error)
                return status;
        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        error->status = status;
        error->reason = reason;
        error_copy_text(error->text, sizeof(error->text), text);
        return status;
}
