/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_RULES_SECTION_H
#define TESTS_RULES_SECTION_H

/* What the cases of the rules have in common: a client, one connected socket, and what its routines have done. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define SECTION_NOTHING (50 * NS_PER_MS) /* how long a case waits to see that nothing happens */

struct section {
        struct client client;
        uint64_t socket;
        int fd; /* the ordinary end of the socket */
        pthread_t poster;
        unsigned n_ran; /* routines and APCs */
        unsigned order[32];
};

static inline void section_start(struct section *section) {
        *section = (struct section){ .poster = pthread_self() };
        client_start(&section->client);
        section->socket = client_pair(&section->client, AF_INET, &section->fd);
}

static inline void section_stop(struct section *section) {
        close(section->fd);
        client_stop(&section->client);
}

/* A receive of ten bytes at a place of the client's memory. */
static inline int section_recv(struct section *section, size_t place, unsigned flags, struct ovl_overlapped *overlapped,
                               void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct ovl_buffer buffer = { section->client.memory + place * 10, 10 };

        overlapped->user = section;
        return ovl_recv(section->client.thread, section->socket, &buffer, 1, flags, overlapped, routine);
}

/* Data has come to the socket, and no operation takes it. */
static inline void section_bring(struct section *section, const char *bytes) {
        struct ovl_overlapped polling = { 0 };

        peer_write(section->fd, bytes, strlen(bytes));
        assert_ok(ovl_poll(section->client.thread, section->socket, POLLIN, OVL_QUIET, &polling, NULL));
        assert_int_equal(client_await(&section->client, &polling), 0);
}

/* A routine that counts. */
static inline void section_count(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct section *section = overlapped->user;

        assert_true(pthread_equal(pthread_self(), section->poster));
        section->n_ran++;
}

/* An APC that counts, and notes its argument: the section is what the thread of the case works on. */
static _Thread_local struct section *section_of_apc __attribute__((unused));

static inline void section_apc(struct ovl_thread *thread, uint64_t argument) {
        section_of_apc->order[section_of_apc->n_ran++] = (unsigned) argument;
}

#endif
