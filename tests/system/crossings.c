/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Threads of one session that wait in all ways at once, for what is their own and for what is each other's: whoever
 * reads a channel, takes a bell, leads, leaves or gives up, nobody sleeps over what has come.
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define CROSSINGS_THREADS 8u
#define CROSSINGS_ROUNDS 400u

struct crossings;

/* One thread, with a socket and the ordinary end of its connection. */
struct crosser {
        struct crossings *crossings;
        unsigned number;
        pthread_t pthread;
        struct ovl_thread *thread;
        uint64_t socket;
        int fd;
        struct ovl_overlapped receiving;
        struct ovl_event *event; /* resets itself */
        unsigned n_ran;
};

struct crossings {
        struct client client;
        struct crosser crossers[CROSSINGS_THREADS];
        struct ovl_event *never;
};

static void crossing_ran(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct crosser *crosser = overlapped->user;

        crosser->n_ran++;
}

static void crossing_wait(struct crosser *crosser) {
        assert_int_equal(ovl_wait(crosser->thread, &crosser->receiving, client_patience(), 0), 0);
}

static void crossing_wait_event(struct crosser *crosser) {
        struct ovl_event *events[2] = { crosser->crossings->never, crosser->event };
        size_t index;

        assert_int_equal(ovl_wait_events(crosser->thread, events, 2, 0, client_patience(), 0, &index), 0);
        assert_int_equal(index, 1);
}

static void crossing_sleep(struct crosser *crosser) {
        unsigned n_ran = crosser->n_ran;

        assert_int_equal(ovl_sleep(crosser->thread, client_patience()), OVL_ALERTED);
        assert_int_equal(crosser->n_ran, n_ran + 1);
}

/* A loop that is not the library's. */
static void crossing_loop(struct crosser *crosser) {
        struct pollfd look = { .fd = ovl_thread_fd(crosser->thread), .events = POLLIN };

        while (ovl_result(&crosser->receiving) == -EINPROGRESS) {
                assert_int_equal(poll(&look, 1, (int) (client_patience() / NS_PER_MS)), 1);
                assert_ok(ovl_dispatch(crosser->thread));
        }
}

/* Waits for a moment for what another thread has posted, which may end and begin anew meanwhile. */
static void crossing_look(struct crosser *crosser, struct crosser *other, unsigned round) {
        uint64_t moment = round % 3 * 20000;
        int r;

        if (round % 2 == 0)
                r = ovl_wait(crosser->thread, &other->receiving, moment, 0);
        else
                r = ovl_wait_events(crosser->thread, &crosser->crossings->never, 1, 0, moment, 0, NULL);
        assert_true(r == 0 || r == -ETIMEDOUT || r == -EINVAL);
}

static void *crossing_run(void *argument) {
        static void (*const waits[])(struct crosser *) = { crossing_wait, crossing_wait_event, crossing_sleep,
                                                           crossing_loop };
        struct crosser *crosser = argument;
        struct crossings *crossings = crosser->crossings;
        void (*wait)(struct crosser *) = waits[crosser->number % HARNESS_N(waits)];
        struct ovl_buffer buffer = { crossings->client.memory + crosser->number * 64, 1 };

        assert_ok(ovl_thread_open(crossings->client.session, &crosser->thread, NULL));
        for (unsigned round = 0; round < CROSSINGS_ROUNDS; round++) {
                struct crosser *other = &crossings->crossers[(crosser->number + round) % CROSSINGS_THREADS];

                crosser->receiving.event = wait == crossing_wait_event ? crosser->event : NULL;
                crosser->receiving.user = crosser;
                assert_int_equal(ovl_recv(crosser->thread, crosser->socket, &buffer, 1,
                                          round % 5 == 0 ? OVL_WANT_VERDICT : 0, &crosser->receiving,
                                          wait == crossing_sleep ? crossing_ran : NULL),
                                 OVL_PENDING);
                if (round % 4 == 0)
                        crossing_look(crosser, other, round / 4);
                peer_write(crosser->fd, "x", 1);
                wait(crosser);
                assert_int_equal(ovl_result(&crosser->receiving), 0);
                if (other != crosser)
                        crossing_look(crosser, other, round);
        }
        assert_null(ovl_thread_close(crosser->thread));
        return NULL;
}

static void crossings_lose_nothing(void **state) {
        static struct crossings crossings;

        client_start(&crossings.client);
        assert_ok(ovl_event_open(crossings.client.session, 0, &crossings.never));
        for (unsigned i = 0; i < CROSSINGS_THREADS; i++) {
                struct crosser *crosser = &crossings.crossers[i];

                crosser->crossings = &crossings;
                crosser->number = i;
                crosser->socket = client_pair(&crossings.client, AF_INET, &crosser->fd);
                assert_ok(ovl_event_open(crossings.client.session, 0, &crosser->event));
        }
        for (unsigned i = 0; i < CROSSINGS_THREADS; i++)
                assert_int_equal(
                        pthread_create(&crossings.crossers[i].pthread, NULL, crossing_run, &crossings.crossers[i]), 0);
        for (unsigned i = 0; i < CROSSINGS_THREADS; i++) {
                assert_int_equal(pthread_join(crossings.crossers[i].pthread, NULL), 0);
                assert_null(ovl_event_close(crossings.crossers[i].event));
                close(crossings.crossers[i].fd);
        }
        assert_null(ovl_event_close(crossings.never));
        client_stop(&crossings.client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "lose nothing", crossings_lose_nothing, 120 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
