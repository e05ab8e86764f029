/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CLIENT_FAKE_H
#define TESTS_CLIENT_FAKE_H

/*
 * A daemon that does nothing of itself: it answers requests as an honest one would, keeps the entries that come, and
 * sends the records that the test tells it to send, honest or not. Lives in a thread of the test's process, so that a
 * checker of races sees both sides. Everything asserts.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/c/overlap.h"
#include "proto/layout.h"
#include "proto/overlapd.pb-c.h"
#include "tests/harness/harness.h"

#define FAKE_CONNECTIONS_MAX 32
#define FAKE_ENTRIES_MAX 32768
#define FAKE_REGIONS_MAX 64
#define FAKE_SOCKETS 100 /* ids of sockets begin above this */

/* An entry that came. */
struct fake_entry {
        struct ovl_entry entry;
        unsigned connection;
        uint64_t thread;  /* of the connection */
        unsigned n_frame; /* the POST frame of the connection in which it came, from 1 */
};

struct fake_connection {
        int fd;
        uint64_t thread; /* 0: a port */
        uint64_t port;
        uint64_t n_entries;
        unsigned n_frames;
        bool is_held; /* nothing is read */
        bool has_ended;
        size_t in_len;
        uint8_t in[262144];
};

struct fake {
        char path[108];
        int listener;
        int wake_fd;
        pthread_t thread;

        /* How it behaves: set before fake_start(), or under the lock. */
        uint32_t credits;
        bool settles;                          /* answers WANT_VERDICT at once with a SETTLED record */
        bool is_inline;                        /* grants no more than level 0 */
        Overlapd__Request__WhatCase mute;      /* requests of this kind get no answer */
        Overlapd__Request__WhatCase refuse;    /* requests of this kind are refused with the following */
        Overlapd__Request__WhatCase hang_up;   /* requests of this kind end the connection */
        Overlapd__Request__WhatCase misanswer; /* requests of this kind are answered with bytes of no meaning */
        int refuse_status;
        unsigned refuse_reason;
        const char *refuse_text;
        size_t handle_len;  /* bytes of a thread handle; 0: 16 */
        const char *notice; /* sent with `closing` before the connection is ended by hang_up */

        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool is_stopping;
        struct fake_connection *connections[FAKE_CONNECTIONS_MAX];
        unsigned n_connections;
        struct fake_entry *entries;
        size_t n_entries;
        uint64_t n_sockets;
        unsigned n_regions;
        int region_fds[FAKE_REGIONS_MAX]; /* region n at place n - 1 */
        unsigned n_region_fds;
        unsigned n_requests[32]; /* by kind */
        uint64_t last_cancel_tag;
        uint64_t n_records;
};

/* Listens in the case's directory and serves. The caller zeroed the structure and set how it behaves. */
void fake_start(struct fake *fake);
void fake_stop(struct fake *fake);

/* Opens a session with it, a thread and a region of `size` bytes (0: none). */
void fake_open(struct fake *fake, struct ovl_session **ret_session, struct ovl_thread **ret_thread, size_t size,
               struct ovl_region **ret_region);

/* Waits until n entries have come in all. Returns the last of them. */
const struct fake_entry *fake_wait_entries(struct fake *fake, size_t n);

/* Waits until n requests of this kind have come. */
void fake_wait_requests(struct fake *fake, Overlapd__Request__WhatCase kind, unsigned n);

/* The connection of a port. */
unsigned fake_port(struct fake *fake, uint64_t number);

/* An honest record of the n-th entry (from 0). */
struct ovl_record fake_record(struct fake *fake, size_t n, int status, uint64_t bytes);

/* Writes bytes to where a slice says, as the daemon does before a record. */
void fake_write_region(struct fake *fake, const struct ovl_slice *slice, const void *bytes);

/* Sends. */
void fake_send(struct fake *fake, unsigned connection, const void *bytes, size_t len);
void fake_send_frame(struct fake *fake, unsigned connection, enum ovl_frame_kind kind, const void *body, size_t len);
void fake_send_records(struct fake *fake, unsigned connection, const struct ovl_record *records, size_t n);

/* Sends an honest record of the n-th entry to the thread that posted it, or to a port. */
void fake_complete(struct fake *fake, size_t n, int status, uint64_t bytes);
void fake_complete_port(struct fake *fake, size_t n, unsigned connection, uint64_t key, int status, uint64_t bytes);

/* Says how many entries of a connection are settled. */
void fake_settle(struct fake *fake, unsigned connection, uint64_t n);

void fake_hold(struct fake *fake, unsigned connection, bool hold);
void fake_hang_up(struct fake *fake, unsigned connection);

/* Whether the library has closed a connection. */
bool fake_has_ended(struct fake *fake, unsigned connection);

/* Changes how requests of one kind are treated. */
void fake_set(struct fake *fake, Overlapd__Request__WhatCase *what, Overlapd__Request__WhatCase kind);

#endif
