/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same echo server through overlapd: one thread, completion routines, one receive or one send outstanding for each
 * connection, everything that a batch of completions leads to posted with one system call.
 *
 * Prints at its end how many messages it echoed and what the daemon's worker counted. What this process itself calls
 * happens within the library and is counted from outside, by strace.
 */
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/c/overlap.h"
#include "tests/bench/listen.h"

#define BUFFER_SIZE 65536
#define CONNECTIONS 256
#define LOOKS 1024u                  /* rounds between two looks for the signal to stop */
#define SLEEP_NS UINT64_C(100000000) /* after a wait of so long in vain it is looked for, too */

struct connection {
        struct ovl_overlapped overlapped;
        struct server *server;
        uint64_t socket; /* 0: free */
        char *data;
};

struct server {
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        struct ovl_overlapped accept;
        uint64_t listener, n_messages;
        int stop_fd;
        struct connection connections[CONNECTIONS];
};

static void server_received(struct ovl_thread *thread, struct ovl_overlapped *overlapped);

static void server_close(struct connection *connection) {
        ovl_socket_close(connection->server->thread, connection->socket);
        connection->socket = 0;
}

static void server_receive(struct connection *connection) {
        struct ovl_buffer empty = { connection->data, BUFFER_SIZE };

        connection->overlapped.user = connection;
        if (ovl_recv(connection->server->thread, connection->socket, &empty, 1, 0, &connection->overlapped,
                     server_received) < 0)
                server_close(connection);
}

static void server_sent(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct connection *connection = overlapped->user;

        connection->server->n_messages++;
        if (overlapped->status < 0)
                server_close(connection);
        else
                server_receive(connection);
}

static void server_received(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct connection *connection = overlapped->user;
        struct ovl_buffer filled = { connection->data, overlapped->bytes };

        if (overlapped->status < 0 || overlapped->bytes == 0 ||
            ovl_send(thread, connection->socket, &filled, 1, 0, overlapped, server_sent) < 0)
                server_close(connection);
}

static void server_accepted(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct server *server = overlapped->user;
        struct connection *connection = server->connections;

        if (overlapped->status == 0) {
                while (connection < &server->connections[CONNECTIONS - 1] && connection->socket)
                        connection++;
                if (connection->socket)
                        ovl_socket_close(thread, overlapped->value);
                else {
                        connection->socket = overlapped->value;
                        ovl_setsockopt(thread, connection->socket, IPPROTO_TCP, TCP_NODELAY, 1);
                        server_receive(connection);
                }
        }
        ovl_accept(thread, server->listener, 0, overlapped, server_accepted);
}

static int server_listen(struct server *server) {
        struct sockaddr_in address = { .sin_family = AF_INET };
        socklen_t len = sizeof address;
        int r;

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        r = ovl_socket_open(server->thread, AF_INET, SOCK_STREAM, &server->listener);
        if (r >= 0)
                r = ovl_bind(server->thread, server->listener, (struct sockaddr *) &address, len);
        if (r >= 0)
                r = ovl_listen(server->thread, server->listener, 1024);
        if (r >= 0)
                r = ovl_getsockname(server->thread, server->listener, (struct sockaddr *) &address, &len);
        if (r < 0)
                return r;
        printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
        fflush(stdout);
        return 0;
}

static int server_loop(struct server *server) {
        struct pollfd stop = { .fd = server->stop_fd, .events = POLLIN };
        unsigned n_rounds = 0;
        int r = 0;

        ovl_cork(server->thread);
        /* To look for the end in each round would cost more than the rounds. */
        while (n_rounds++ % LOOKS > 0 || poll(&stop, 1, 0) == 0) {
                r = ovl_sleep(server->thread, SLEEP_NS);
                if (r == 0)
                        n_rounds = 0;
                if (r < 0)
                        break;
        }
        ovl_uncork(server->thread);
        return r < 0 ? r : 0;
}

static int server_open(struct server *server, struct ovl_error *ret_error) {
        int i, r;

        r = ovl_session_open(NULL, &server->session, ret_error);
        if (r < 0)
                return r;
        r = ovl_thread_open(server->session, &server->thread, ret_error);
        if (r < 0)
                return r;
        r = ovl_region_open(server->thread, (size_t) CONNECTIONS * BUFFER_SIZE, &server->region);
        for (i = 0; r >= 0 && i < CONNECTIONS; i++) {
                server->connections[i].server = server;
                server->connections[i].data = (char *) ovl_region_data(server->region) + (size_t) i * BUFFER_SIZE;
        }
        if (r >= 0)
                r = server_listen(server);
        if (r < 0)
                *ret_error = *ovl_thread_error(server->thread);
        return r;
}

static void server_close_all(struct server *server) {
        int i;

        for (i = 0; i < CONNECTIONS; i++)
                if (server->connections[i].socket)
                        server_close(&server->connections[i]);
        if (server->region)
                ovl_region_close(server->thread, server->region);
        ovl_thread_close(server->thread);
        ovl_session_free(server->session);
        free(server);
}

int main(void) {
        struct server *server = calloc(1, sizeof *server);
        _cleanup_fd_ int stop_fd = bench_stop_fd();
        struct ovl_error error = { .text = "the daemon is gone" };
        struct ovl_session_info info;
        struct ovl_status before, after;
        int r;

        if (!server || stop_fd < 0)
                return EXIT_FAILURE;
        server->stop_fd = stop_fd;
        r = server_open(server, &error);
        if (r >= 0)
                r = ovl_status(server->thread, &before);
        if (r >= 0) {
                server->accept.user = server;
                ovl_accept(server->thread, server->listener, 0, &server->accept, server_accepted);
                r = server_loop(server);
        }
        if (r >= 0)
                r = ovl_status(server->thread, &after);
        if (r >= 0)
                ovl_session_info(server->session, &info);
        if (r >= 0)
                printf("messages %llu worker_calls %llu entries %llu wakeups %llu polls %llu level %u\n",
                       (unsigned long long) server->n_messages,
                       (unsigned long long) (after.system_calls - before.system_calls),
                       (unsigned long long) (after.entries - before.entries),
                       (unsigned long long) (after.wakeups - before.wakeups),
                       (unsigned long long) (after.polls - before.polls), info.level);
        else
                fprintf(stderr, "echo-overlap: %s\n", error.text);
        server_close_all(server);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
