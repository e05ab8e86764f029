/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_FILE_H
#define DAEMON_WORKER_FILE_H

/* A file that a client lent to be sent, and who reads of it next. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "daemon/worker/quota.h"
#include "daemon/worker/reader.h"

struct reaper;

#define FILE_READS_MAX 2u            /* pieces that are read of one file at a time */
#define FILE_READS_OF_SESSION_MAX 4u /* ... and for one session */

struct file {
        struct list hungry;  /* among those of which something is to be read */
        struct list waiting; /* ops that wait for a piece of it */
        struct files *files; /* borrowed */
        int fd;
        uint64_t session; /* whose it is */
        uint32_t uid;
        uint32_t n_ops;   /* that use it */
        uint32_t n_reads; /* pieces that hold it */
        struct charge charge;
        struct quota_unit *unit; /* that pays for it, also when its session has gone. A reference */
        bool wants_check;        /* it is looked at before anything is read */
        bool is_leaving;         /* takes no further op, goes with the last */
        bool is_forgotten;       /* its session has let go of it: it goes with its last piece */
        int status;              /* -EINPROGRESS until it was looked at; 0; or why it cannot be sent */
        const char *problem;
};

/* The files of a worker, and what they are read with. */
struct files {
        struct reader *reader; /* owned */
        struct reaper *reaper; /* borrowed */
        struct list hungry;    /* in the order of their turns */
};

/* Returns 0 or -errno. */
int files_init(struct files *files, struct reaper *reaper);
void files_deinit(struct files *files);

/*
 * Takes a descriptor, which may be anything at all. What can be told of it without waiting is checked at once, the rest
 * as soon as files_next() gave a piece for it: then its status is no longer -EINPROGRESS.
 *
 * fd:     taken on success.
 * unit:   that pays for it.
 * charge: for a file of the unit. Taken on success.
 *
 * Returns 0 and the file; -EBADFD and a static text; or -ENOMEM.
 */
int file_new(struct files *files, int *take_fd, uint64_t session, struct quota_unit *unit, struct charge *charge,
             struct file **ret_file, const char **ret_problem);

/* The session lets go of it, of which no op uses it any more. NULL is fine. Returns NULL. */
struct file *file_forget(struct file *file);

/* The ops that wait for a piece of it are given up with their session, and have no turn any more. NULL is fine. */
void file_give_up(struct file *file);

/* An op is to have a piece, in its turn. waits: a link of the op. */
void file_await(struct file *file, struct list *waits);

/*
 * Who is next. The piece is for the op whose link is given, which describes what is to be read, or, where that is NULL,
 * for the check of the file. To be started by reader_start().
 *
 * Returns the piece, or NULL when nobody can have one now.
 */
struct piece *files_next(struct files *files, struct list **ret_waits);

/* A piece was read and is of no use any more. What waits for one may have its turn: files_next(). */
void file_release(struct piece *piece);

/* A piece that looked at its file has done so. */
void file_checked(struct piece *piece);

#endif
