/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_JOURNAL_H
#define LEDGER_JOURNAL_H

/* The file in which one thread of a storm writes its events, and from which the ledger reads them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "tests/ledger/event.h"

#define JOURNAL_MAGIC UINT64_C(0x4c4e524a4c564f31)

/* Starts the file. */
struct journal_header {
        uint64_t magic;
        uint32_t index;  /* of this file: part of the numbers of the operations that are posted here */
        uint32_t client; /* which process; 0: the driver and the ordinary sockets */
        uint32_t tid;    /* kernel thread that writes; 0: not started */
        uint32_t reserved;
        uint64_t tail; /* events ever written: stored last, with release order */
};

struct journal {
        struct journal_header *header; /* NULL: not open */
        struct event *events;
        size_t size;      /* bytes that are mapped */
        uint64_t n_posts; /* EVENT_POST among the events: the place of the next operation */
        uint64_t n_apcs;  /* EVENT_APC among the events */
        uint64_t n_max;
};

/*
 * Makes the file `index` of `directory`, with room for n_max events, and maps it for writing. The mapping is shared by
 * processes that are forked from here; one thread writes.
 */
int journal_create(struct journal *journal, const char *directory, uint32_t index, uint32_t client, uint64_t n_max);

/* Maps a file for reading. Returns 0, -ENOENT when there is no such file, -EBADMSG when it is none, or -errno. */
int journal_open(struct journal *journal, const char *directory, uint32_t index);

void journal_close(struct journal *journal);

/* Takes the file for the calling thread. */
void journal_start(struct journal *journal);

/* Writes an event; the time is filled in. A file that is full ends the process: half an account proves nothing. */
void journal_add(struct journal *journal, struct event event);

/* Writes the EVENT_POST of a new operation, and returns its number. */
uint64_t journal_post(struct journal *journal, struct event event);

/* Writes the EVENT_APC of an APC that is about to be queued to the thread of file `target`, and returns its number. */
uint64_t journal_apc(struct journal *journal, uint32_t target, bool is_remote);

/* How many events are there; they may be read. */
uint64_t journal_n_events(const struct journal *journal);

#endif
