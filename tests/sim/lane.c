/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Both ends of a lane in one process: the worker is a thread, the library's threads are others, and a thread sanitizer
 * sees every access of both to the shared memory. (It sees nothing across processes.) The test plays the monitor, which
 * here only hands connections over: the operations are of the kind that the worker refuses, so that entries and records
 * are all that moves.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "client/c/overlap.h"
#include "daemon/link.h"
#include "daemon/worker/engine-features.h"
#include "daemon/worker/worker.h"
#include "tests/harness/harness.h"
#include "tests/sim/limit.h"

#define LANE_THREADS 2
#define LANE_ROUNDS 300u
#define LANE_OPS 37u

/* The daemon, as far as it takes part. */
struct house {
        struct stats stats;
        pthread_t worker_thread, monitor_thread;
        int link_fd, worker_fd, listen_fd, stop_fds[2];
        char path[108];
};

/* The ring may be used by the thread alone that made it. */
static void *house_work(void *argument) {
        struct features features = { 0 };
        struct house *house = argument;
        struct engine *engine;
        struct worker *worker;
        char problem[ENGINE_REASON_SIZE];

        if (engine_new("auto", &house->stats, &features, &engine, problem, sizeof(problem)) < 0)
                fail_msg("no engine: %s", problem);
        assert_ok(worker_new(engine, "the test", house->worker_fd, PLANT_NONE, &worker));
        worker->polling.limit_ns = 50 * UINT64_C(1000);
        while (worker_turn(worker, true) > 0)
                continue;
        worker_free(worker);
        return NULL;
}

/* Hands connections to the worker, and does not listen to what it reports. */
static void *house_monitor(void *argument) {
        struct link_message channel = { .kind = LINK_CHANNEL, .body.peer = { .channel = 1, .shard = 1 } };
        struct link_message limits = limits_message(0, 1);
        struct link_message stop = { .kind = LINK_STOP }, report;
        struct house *house = argument;
        struct pollfd looks[] = {
                { .fd = house->stop_fds[0], .events = POLLIN },
                { .fd = house->listen_fd, .events = POLLIN },
                { .fd = house->link_fd, .events = POLLIN },
        };

        while (poll(looks, 3, -1) > 0 && !looks[0].revents) {
                _cleanup_fd_ int fd = -1;

                if (looks[1].revents) {
                        _cleanup_fd_ int accepted = accept4(house->listen_fd, NULL, NULL, SOCK_CLOEXEC);

                        channel.body.peer.channel++;
                        assert_ok(link_send(house->link_fd, &limits, -1));
                        assert_ok(link_send(house->link_fd, &channel, accepted));
                }
                if (looks[2].revents && link_receive(house->link_fd, &report, &fd) == 0)
                        break;
        }
        assert_ok(link_send(house->link_fd, &stop, -1));
        return NULL;
}

static void house_open(struct house *house) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int link[2];

        memset(house, 0, sizeof(*house));
        snprintf(house->path, sizeof(house->path), "%s/s", harness_directory());
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", house->path);
        house->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(house->listen_fd, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(listen(house->listen_fd, 10), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link), 0);
        assert_int_equal(pipe2(house->stop_fds, O_CLOEXEC), 0);
        house->link_fd = link[0];
        house->worker_fd = link[1];
        assert_int_equal(pthread_create(&house->worker_thread, NULL, house_work, house), 0);
        assert_int_equal(pthread_create(&house->monitor_thread, NULL, house_monitor, house), 0);
}

static void house_close(struct house *house) {
        assert_int_equal(write(house->stop_fds[1], "x", 1), 1);
        pthread_join(house->monitor_thread, NULL);
        pthread_join(house->worker_thread, NULL);
        close(house->stop_fds[0]);
        close(house->stop_fds[1]);
        close(house->link_fd);
        close(house->listen_fd);
        unlink(house->path);
}

/* --- The program -------------------------------------------------------------------------------------------------- */

struct poster {
        struct ovl_session *session;
        pthread_t thread;
        unsigned n_routines;
};

static void poster_count(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct poster *poster = overlapped->user;

        assert_int_equal(overlapped->status, -EBADF);
        poster->n_routines++;
}

/* Posts by routine, with verdicts, and to be waited for; sleeps in between. */
static void poster_round(struct poster *poster, struct ovl_thread *thread, struct ovl_overlapped *all) {
        unsigned n_before = poster->n_routines;

        for (size_t i = 0; i < LANE_OPS; i++) {
                all[i].user = poster;
                if (ovl_accept(thread, 999, 0, &all[i], i % 2 ? poster_count : NULL) != OVL_PENDING)
                        fail_msg("not posted: %s", ovl_thread_error(thread)->text);
        }
        while (poster->n_routines < n_before + LANE_OPS / 2)
                assert_int_equal(ovl_sleep(thread, 10 * NS_PER_S), OVL_ALERTED);
        for (size_t i = 0; i < LANE_OPS; i += 2)
                assert_ok(ovl_wait(thread, &all[i], 10 * NS_PER_S, 0));
        assert_int_equal(ovl_accept(thread, 999, OVL_WANT_VERDICT, &all[0], NULL), -EBADF);
}

static void *poster_run(void *argument) {
        struct ovl_overlapped all[LANE_OPS] = { 0 };
        struct poster *poster = argument;
        struct ovl_error error = { 0 };
        struct ovl_thread *thread;

        assert_ok(ovl_thread_open(poster->session, &thread, &error));
        for (unsigned round = 0; round < LANE_ROUNDS; round++)
                poster_round(poster, thread, all);
        assert_null(ovl_thread_close(thread));
        return NULL;
}

static void lane_both_ends(void **state) {
        struct poster posters[LANE_THREADS] = { 0 };
        struct ovl_session_options options = { .level = "ring", .poll_us = 20, .credits = 96 };
        struct ovl_error error = { 0 };
        struct ovl_session_info info;
        struct ovl_session *session;
        struct house house;

        house_open(&house);
        options.path = house.path;
        if (ovl_session_open(&options, &session, &error) < 0)
                fail_msg("no session: %s", error.text);
        ovl_session_info(session, &info);
        assert_int_equal(info.level, 2);
        for (size_t i = 0; i < LANE_THREADS; i++) {
                posters[i].session = session;
                assert_int_equal(pthread_create(&posters[i].thread, NULL, poster_run, &posters[i]), 0);
        }
        for (size_t i = 0; i < LANE_THREADS; i++) {
                pthread_join(posters[i].thread, NULL);
                assert_int_equal(posters[i].n_routines, LANE_ROUNDS * (LANE_OPS / 2));
        }
        ovl_session_free(session);
        house_close(&house);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "both ends of a lane, seen at once", lane_both_ends, 120 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
