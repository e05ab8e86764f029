/* SPDX-License-Identifier: Apache-2.0 */
/*
 * first-answer PORT...: asks the same of several servers on 127.0.0.1 and prints what the first one answers.
 *
 * Each server has an event, which its operations set one after the other: the connect, and then the receive of the
 * answer. One wait looks at all of them. A server that fails takes no part any more; what is still pending when an
 * answer is there is cancelled, and its end is known when the cancel returns.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <overlap.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        SERVERS = 64, /* as many events as one wait takes */
        ANSWER_SIZE = 4096
};

struct server {
        struct ovl_overlapped overlapped; /* what is pending: the connect, or the receive */
        struct ovl_overlapped sending;
        uint64_t socket;
        char *answer;
        bool is_asked;
};

static const char question[] = "hello\n";

static int first_connect(struct ovl_thread *thread, struct server *server, uint16_t port) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
        int r;

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        r = ovl_socket_open(thread, AF_INET, SOCK_STREAM, &server->socket);
        if (r < 0)
                return r;
        return ovl_connect(thread, server->socket, (struct sockaddr *) &address, sizeof address, 0, &server->overlapped,
                           NULL);
}

/* The connection is made: the event is now for the answer. */
static int first_ask(struct ovl_thread *thread, struct server *server, char *text) {
        struct ovl_buffer ask = { text, sizeof question - 1 }, answer = { server->answer, ANSWER_SIZE };
        int r;

        server->is_asked = true;
        r = ovl_send(thread, server->socket, &ask, 1, 0, &server->sending, NULL);
        if (r < 0)
                return r;
        return ovl_recv(thread, server->socket, &answer, 1, 0, &server->overlapped, NULL);
}

/* Waits until one has answered. Returns its place, or -errno. */
static int first_wait(struct ovl_thread *thread, struct server *servers, struct ovl_event **events, size_t n,
                      char *text) {
        size_t n_failed = 0, i;
        int r;

        while (n_failed < n) {
                r = ovl_wait_events(thread, events, n, 0, OVL_INFINITE, 0, &i);
                if (r < 0)
                        return r;
                if (ovl_result(&servers[i].overlapped) == 0 && servers[i].is_asked && servers[i].overlapped.bytes > 0)
                        return (int) i;
                r = ovl_result(&servers[i].overlapped);
                if (r == 0)
                        r = servers[i].is_asked ? -EPIPE : first_ask(thread, &servers[i], text);
                if (r < 0) {
                        fprintf(stderr, "first-answer: server %zu: %s\n", i + 1, strerror(-r));
                        n_failed++;
                }
        }
        return -ENOENT;
}

static void first_must(int r, const struct ovl_error *error) {
        if (r < 0) {
                fprintf(stderr, "first-answer: %s\n", error->text);
                exit(EXIT_FAILURE);
        }
}

int main(int argc, char **argv) {
        static const struct ovl_session_options options = { .name = "first-answer" };
        size_t n = argc > 1 && argc <= SERVERS + 1 ? (size_t) argc - 1 : 0, i;
        struct server servers[SERVERS] = { 0 };
        struct ovl_event *events[SERVERS];
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        struct ovl_error error;
        char *memory;
        int r;

        if (n == 0)
                return fprintf(stderr, "usage: first-answer PORT... (1 to %d)\n", SERVERS), EXIT_FAILURE;
        first_must(ovl_session_open(&options, &session, &error), &error);
        first_must(ovl_thread_open(session, &thread, &error), &error);
        first_must(ovl_region_open(thread, (n + 1) * ANSWER_SIZE, &region), ovl_thread_error(thread));
        memory = memcpy(ovl_region_data(region), question, sizeof question);
        for (i = 0; i < n; i++) {
                if (ovl_event_open(session, 0, &events[i]) < 0)
                        return EXIT_FAILURE;
                servers[i].overlapped.event = events[i];
                servers[i].answer = memory + (i + 1) * ANSWER_SIZE;
                first_must(first_connect(thread, &servers[i], (uint16_t) atoi(argv[i + 1])), ovl_thread_error(thread));
        }
        r = first_wait(thread, servers, events, n, memory);
        if (r >= 0)
                printf("server %d: %.*s", r + 1, (int) servers[r].overlapped.bytes, servers[r].answer);
        for (i = 0; i < n; i++) {
                ovl_cancel_thread(thread, servers[i].socket); /* its operations have ended when this returns */
                ovl_socket_close(thread, servers[i].socket);
                ovl_event_close(events[i]);
        }
        ovl_region_close(thread, region);
        ovl_thread_close(thread);
        ovl_session_free(session);
        return r >= 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
