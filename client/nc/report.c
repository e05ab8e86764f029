/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What overlap-nc says, all of it to standard error: standard output belongs to the data.
 *
 * Invariant: a line leaves in one write, so that the lines of several overlap-nc on one terminal do not mix, and it
 * holds no control character, for part of it may come from a peer or from a name that somebody else chose.
 */

#include "client/nc/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void report(const char *format, ...) {
        char line[1024] = "overlap-nc: ";
        size_t at = strlen(line);
        va_list arguments;
        ssize_t n;

        va_start(arguments, format);
        vsnprintf(line + at, sizeof(line) - at - 1, format, arguments);
        va_end(arguments);
        for (; line[at]; at++)
                if ((unsigned char) line[at] < 0x20 || line[at] == 0x7f)
                        line[at] = '?';
        line[at++] = '\n';
        n = write(STDERR_FILENO, line, at);
        (void) n; /* there is no other place to say it */
}
