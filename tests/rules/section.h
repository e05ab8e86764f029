/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_RULES_SECTION_H
#define TESTS_RULES_SECTION_H

/* What the cases of the rules have in common: a client, one connected socket, and what its routines have done. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/types.h>
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

/* Starts all of it. A case has one section. */
void section_start(struct section *section);
void section_stop(struct section *section);

/* A receive of ten bytes at a place of the client's memory. */
int section_recv(struct section *section, size_t place, unsigned flags, struct ovl_overlapped *overlapped,
                 void (*routine)(struct ovl_thread *, struct ovl_overlapped *));

/* The same as a synchronous call: without a structure. */
int section_recv_sync(struct section *section, size_t place, unsigned flags);

/* Data has come to the socket, and no operation takes it. */
void section_bring(struct section *section, const char *bytes);

/* A routine that counts, and sees that it runs in the thread of the case. */
void section_count(struct ovl_thread *thread, struct ovl_overlapped *overlapped);

/* An APC that counts, and notes its argument. */
void section_apc(struct ovl_thread *thread, uint64_t argument);

/* An APC that counts, and has the ordinary end write as many bytes as its argument says. */
void section_apc_write(struct ovl_thread *thread, uint64_t argument);

/* Returns when a thread of this process, named by its kernel tid, is asleep in a wait of the library. */
void section_await_asleep(pid_t tid);

#endif
