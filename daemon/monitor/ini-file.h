/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_INI_FILE_H
#define DAEMON_MONITOR_INI_FILE_H

/* Files of [Section] and Key=value, as administrators write them: read whole or not at all. */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define INI_FILE_SIZE_MAX (1u << 20)

/* Whose bits of the mode let a file be read. */
enum ini_file_trust {
        INI_FILE_TRUST_ALL,   /* not everybody may write it */
        INI_FILE_TRUST_OWNER, /* nobody but root and the daemon's own user may */
};

/* Where a parse is: what ini_file_error() reports. */
struct ini_file {
        const char *path; /* borrowed */
        FILE *errors;     /* borrowed */
        unsigned line;
        unsigned n_errors;

        /* How the settings are taken. Both may call ini_file_error(), and go on. `data` is borrowed. */
        void (*take_section)(struct ini_file *file, const char *section); /* NULL: sections are not looked at */
        void (*take)(struct ini_file *file, const char *section, const char *name, const char *value);
        void *data;

        const char *rest;
        size_t rest_len;
        unsigned first_error_line;
};

/* Opens what is to be trusted as such a file, or a directory of them. Returns the descriptor, or -errno and a line. */
int ini_file_open(const char *path, enum ini_file_trust trust, bool is_directory, FILE *errors);

/*
 * Reads a file: calls take_section() and take() for all that it says.
 *
 * fd: of ini_file_open(). Borrowed.
 *
 * Returns 0, or -errno after a line for each error.
 */
int ini_file_read(struct ini_file *file, int fd);

/* Reports what is wrong in the present line: PATH:LINE: and the text. */
__attribute__((format(printf, 2, 3))) void ini_file_error(struct ini_file *file, const char *format, ...);

#endif
