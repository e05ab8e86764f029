/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_LOG_OPTIONS_H
#define CLIENT_CTL_LOG_OPTIONS_H

/* What overlapctl log was asked for. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/ctl/whom.h"

#define LOG_FILES_MAX 64u
#define LOG_ALL UINT64_MAX

/* The command line, checked. Strings are borrowed from it. */
struct log_options {
        bool is_followed;
        bool is_refused;
        bool is_own;
        bool is_any;
        bool has_lines;
        bool has_uid;
        uint64_t n_lines;          /* LOG_ALL: no limit */
        uint64_t since_us;         /* of 1970; 0: none */
        uint64_t until_us;         /* UINT64_MAX: none */
        char unit[WHOM_UNIT_SIZE]; /* of the clients; "": any */
        uid_t uid;
        char session[32];                     /* as the journal has it; "": any */
        const char *directory;                /* NULL: none */
        const char *files[LOG_FILES_MAX + 1]; /* NULL behind the last */
        size_t n_files;
};

/* Returns 0, or CTL_USAGE after the complaint. */
int log_options_parse(struct log_options *options, int argc, char *argv[]);

#endif
