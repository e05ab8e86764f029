/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A daemon that has nothing to do: its processes sleep, and nothing that nobody asked for wakes them. Waking is counted
 * by the kernel, as the times that a process gave its processor away of itself.
 */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define IDLE_SESSIONS 1000
#define IDLE_STEP_MS 50
#define IDLE_STEPS_SETTLED 4

static void idle_close_file(FILE **file) {
        if (*file)
                fclose(*file);
}

static long idle_count_wakes(pid_t pid) {
        cleanup(idle_close_file) FILE *file = NULL;
        char path[64], line[256];
        long n = -1;

        snprintf(path, sizeof(path), "/proc/%d/status", pid);
        file = fopen(path, "re");
        assert_non_null(file);
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "voluntary_ctxt_switches: %ld", &n) == 1)
                        break;
        assert_true(n >= 0);
        return n;
}

/* Long enough for a periodic wake-up to show: 2 s, or what the environment says. */
static size_t idle_steps(void) {
        const char *seconds = getenv("OVL_TEST_IDLE_S");

        return (size_t) (seconds ? atoi(seconds) : 2) * 1000 / IDLE_STEP_MS;
}

struct idle {
        pid_t pid;
        long n_wakes;
        size_t n_same;
};

static bool idle_is_settled(void *data) {
        struct idle *idle = data;
        long n_wakes = idle_count_wakes(idle->pid);

        idle->n_same = n_wakes == idle->n_wakes ? idle->n_same + 1 : 0;
        idle->n_wakes = n_wakes;
        return idle->n_same >= IDLE_STEPS_SETTLED * 10;
}

/* What went on before has ended. */
static long idle_settle(pid_t pid) {
        struct idle idle = { .pid = pid };

        assert_true(harness_wait(idle_is_settled, &idle, harness_deadline(10)));
        return idle.n_wakes;
}

/* Returns how often the processes wake while `fd` (-1: none) sends something every few milliseconds. */
static long idle_watch(const struct estate *estate, int fd) {
        long before = idle_settle(estate->worker) + idle_settle(estate->daemon.monitor);

        for (size_t i = 0; i < idle_steps(); i++) {
                if (fd >= 0)
                        peer_write(fd, "x", 1);
                assert_int_equal(poll(NULL, 0, IDLE_STEP_MS), 0);
        }
        return idle_count_wakes(estate->worker) + idle_count_wakes(estate->daemon.monitor) - before;
}

static void idle_without_clients(void **state) {
        struct estate estate;

        estate_start(&estate, NULL);
        assert_int_equal(idle_watch(&estate, -1), 0);
        estate_stop(&estate);
}

static void idle_with_a_receive_that_waits(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        assert_int_equal(idle_watch(&client.estate, -1), 0);
        peer_write(fd, "x", 1);
        client_expect(&client, &receiving, 0, 1);
        close(fd);
        client_stop(&client);
}

/* The first byte may tell the worker that nobody wants it; the others find it told. */
static void idle_while_data_come_for_nobody(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
        peer_write(fd, "x", 1);
        client_expect(&client, &receiving, 0, 1);
        peer_write(fd, "x", 1);
        assert_int_equal(idle_watch(&client.estate, fd), 0);
        assert_ok(client_recv(&client, socket, client.memory, CLIENT_MEMORY, 0, &receiving));
        client_expect(&client, &receiving, 0, idle_steps() + 1);
        close(fd);
        assert_true(idle_watch(&client.estate, -1) <= 1);
        client_stop(&client);
}

/* A thousand clients, each with a receive that waits. Of the clients as little as one can have. */
static void idle_with_a_thousand_sessions(void **state) {
        static struct client clients[IDLE_SESSIONS];
        static struct ovl_overlapped receiving[IDLE_SESSIONS];
        static int fds[IDLE_SESSIONS];
        struct estate estate;
        struct rlimit limit;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        if (limit.rlim_max < 8 * IDLE_SESSIONS)
                harness_skip("the limit of descriptors (RLIMIT_NOFILE) is below 8000");
        limit.rlim_cur = 8 * IDLE_SESSIONS;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        estate_start(&estate, NULL);
        for (size_t i = 0; i < IDLE_SESSIONS; i++) {
                uint64_t socket;

                clients[i].estate = estate;
                client_open(&clients[i], 16);
                socket = client_pair(&clients[i], AF_INET, &fds[i]);
                assert_ok(client_recv(&clients[i], socket, clients[i].memory, 10, 0, &receiving[i]));
        }
        assert_int_equal(idle_watch(&estate, -1), 0);
        for (size_t i = 0; i < IDLE_SESSIONS; i++) {
                peer_write(fds[i], "x", 1);
                client_expect(&clients[i], &receiving[i], 0, 1);
                close(fds[i]);
                client_close(&clients[i]);
        }
        estate_stop(&estate);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "a daemon without clients sleeps", idle_without_clients, 60 },
                { "a daemon sleeps while a receive waits", idle_with_a_receive_that_waits, 60 },
                { "a daemon sleeps while data come for nobody", idle_while_data_come_for_nobody, 60 },
                { "a daemon sleeps while a thousand receives wait", idle_with_a_thousand_sessions, 120 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
