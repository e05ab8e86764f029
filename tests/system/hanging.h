/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SYSTEM_HANGING_H
#define TESTS_SYSTEM_HANGING_H

/*
 * A file whose reads or closes hang as long as a test likes, and questions what it is, too: of a file system (FUSE)
 * that a process of the test serves.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HANGING_LEN (1u << 20) /* bytes of the file, of which each is that of the pattern */

struct hanging {
        char path[128]; /* of the file */
        char folder[96];
        pid_t server;
        int fd;   /* of the file system: the server's */
        int wake; /* an eventfd: something was changed below */
        struct hanging_shared {
                atomic_bool hangs;       /* reads are not answered, nor what asks for the file system */
                atomic_bool closes_hang; /* so are closes */
                atomic_bool is_stopped;  /* the server is to end */
                atomic_uint n_hanging;   /* that are not answered */
                uint64_t waiting[64];
        } * shared;
};

/* Mounts it. Ends the case as skipped where that is not allowed. */
void hanging_start(struct hanging *hanging);

/* From here on reads hang, or are answered, those that hang among them. */
void hanging_set(struct hanging *hanging, bool hangs);

/* The same of closes. */
void hanging_set_closing(struct hanging *hanging, bool hangs);

/* Waits until so many of either hang. */
void hanging_await(struct hanging *hanging, unsigned n);

/* All reads that hang fail; takes the file system away. */
void hanging_stop(struct hanging *hanging);

#endif
