/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_READER_H
#define DAEMON_WORKER_READER_H

/*
 * Reads files, in threads of their own: a read may take as long as a disk, a server or a client likes. Each thread has
 * one piece of memory, which it fills.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/list.h"
#include "proto/layout.h"

#define READER_PIECES 16u
#define READER_PIECE_SIZE (256u * 1024u)

struct file;
struct op;
struct reader;

enum piece_state {
        PIECE_FREE,
        PIECE_READING, /* the thread's */
        PIECE_READ,
};

/* What a piece is to do. */
enum piece_job {
        PIECE_CHECKS,   /* learns whether the file is one that can be sent */
        PIECE_MEASURES, /* learns its size, and reads what there is to be read */
        PIECE_READS,
};

struct piece {
        struct list link;      /* among those that are read, until they are taken */
        struct reader *reader; /* borrowed */
        enum piece_state state;
        struct file *file; /* pinned while it is not free */
        struct op *op;     /* borrowed: for which it reads; NULL: for none, or none any more */
        uint64_t session;  /* who has it read */
        uint32_t uid;

        /* the job: set by the worker, changed by the thread while it reads */
        enum piece_job job;
        int fd;                             /* borrowed */
        struct iovec parts[OVL_SLICES_MAX]; /* of files: the place is in the piece, once it was read */
        uint64_t offsets[OVL_SLICES_MAX];   /* of those parts: where in the file they begin */
        uint64_t file_parts;                /* bit n: part n is of the file */
        uint32_t n_parts;
        uint64_t size;       /* of the file, if it was measured */
        int result;          /* 0 or -errno */
        const char *problem; /* a static text, where the file cannot be sent */
};

/*
 * Makes the pieces and starts their threads, which never make a system call that the worker's filter would not know.
 *
 * Returns 0, or -errno.
 */
int reader_new(struct reader **ret_reader);

/* Ends the threads, unless one of them hangs in a read: then all stays as it is. Returns NULL. */
struct reader *reader_free(struct reader *reader);

/* Can be read when a piece was read; goes on being that until reader_take() was called. Borrowed. */
int reader_fd(const struct reader *reader);

/* A free piece, or NULL. It is the caller's until reader_release(). */
struct piece *reader_find(struct reader *reader);

/* How many are free; how many are read for a session, or for a user. */
uint32_t reader_n_free(const struct reader *reader);
uint32_t reader_n_of_session(const struct reader *reader, uint64_t session);
uint32_t reader_n_of_user(const struct reader *reader, uint32_t uid);

/* Gives the piece to its thread, which does its job. Never blocks. */
void reader_start(struct piece *piece);

/* Moves all that were read to the end of a list. */
void reader_take(struct reader *reader, struct list *read);

void reader_release(struct piece *piece);

/* The piece with this index, below READER_PIECES. */
struct piece *reader_piece(struct reader *reader, uint32_t index);

#endif
