/* SPDX-License-Identifier: Apache-2.0 */
/*
 * echo-routines PORT: an echo server by completion routines, on 127.0.0.1; SIGTERM or SIGINT ends it.
 *
 * Every connection has several receives outstanding. They fill in the order in which they were posted, and their
 * routines run in that order in the thread that posted them: a routine that sends at once sends in order, and needs no
 * lock. A buffer goes round: received, sent, received again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <overlap.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
        CONNECTIONS = 128,
        RECEIVES = 4,
        BUFFER_SIZE = 65536
};

struct buffer {
        struct ovl_overlapped overlapped;
        struct connection *connection;
        char *data;
};

struct connection {
        struct server *server;
        uint64_t socket; /* 0: the connection is free */
        int n_pending;   /* operations that have not been indicated */
        bool ended;      /* no more receives are posted */
        struct buffer buffers[RECEIVES];
};

struct server {
        struct ovl_thread *thread;
        struct ovl_overlapped accept;
        uint64_t listener;
        pthread_t poster; /* the thread that posts everything */
        int n_connections;
        unsigned long n_routines, n_strays;
        bool accepting;
        struct connection connections[CONNECTIONS];
};

static void echo_accepted(struct ovl_thread *thread, struct ovl_overlapped *overlapped);
static void echo_received(struct ovl_thread *thread, struct ovl_overlapped *overlapped);

static void echo_accept(struct server *server) {
        server->accept.user = server;
        if (!server->accepting && server->n_connections < CONNECTIONS)
                server->accepting =
                        ovl_accept(server->thread, server->listener, 0, &server->accept, echo_accepted) >= 0;
}

/* Gives a connection up: what is pending on it ends, and nothing more is posted. */
static void echo_abandon(struct connection *connection) {
        if (!connection->ended)
                ovl_cancel(connection->server->thread, connection->socket, NULL);
        connection->ended = true;
}

static void echo_receive(struct buffer *buffer) {
        struct connection *connection = buffer->connection;
        struct ovl_buffer empty = { buffer->data, BUFFER_SIZE };

        buffer->overlapped.user = buffer;
        if (ovl_recv(connection->server->thread, connection->socket, &empty, 1, 0, &buffer->overlapped,
                     echo_received) >= 0)
                connection->n_pending++;
        else
                echo_abandon(connection);
}

/* Begins every routine of a connection, ... */
static struct buffer *echo_indicated(struct ovl_overlapped *overlapped) {
        struct buffer *buffer = overlapped->user;
        struct server *server = buffer->connection->server;

        server->n_routines++;
        server->n_strays += !pthread_equal(pthread_self(), server->poster);
        buffer->connection->n_pending--;
        if (overlapped->status < 0)
                echo_abandon(buffer->connection);
        return buffer;
}

/* ... and ends it: where nothing is pending any more, the next peer may come. */
static void echo_settle(struct connection *connection) {
        if (connection->n_pending > 0)
                return;
        ovl_socket_close(connection->server->thread, connection->socket);
        connection->socket = 0;
        connection->server->n_connections--;
        echo_accept(connection->server);
}

static void echo_sent(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct buffer *buffer = echo_indicated(overlapped);

        if (!buffer->connection->ended)
                echo_receive(buffer);
        echo_settle(buffer->connection);
}

static void echo_received(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct buffer *buffer = echo_indicated(overlapped);
        struct connection *connection = buffer->connection;
        struct ovl_buffer filled = { buffer->data, overlapped->bytes };

        if (filled.len == 0)
                connection->ended = true;
        else if (ovl_send(thread, connection->socket, &filled, 1, 0, overlapped, echo_sent) >= 0)
                connection->n_pending++;
        else
                echo_abandon(connection);
        echo_settle(connection);
}

static void echo_accepted(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct server *server = overlapped->user;
        struct connection *connection = server->connections;
        int i;

        server->accepting = false;
        if (overlapped->status < 0)
                return;            /* tried again when a connection ends */
        while (connection->socket) /* one is free: otherwise no accept was posted */
                connection++;
        server->n_connections++;
        connection->socket = overlapped->value;
        connection->ended = false;
        for (i = 0; i < RECEIVES && !connection->ended; i++)
                echo_receive(&connection->buffers[i]);
        echo_settle(connection);
        echo_accept(server);
}

/* Runs what has arrived, posts what follows from it with one system call, and waits for more, until a signal comes. */
static int echo_run(struct server *server, int signal_fd) {
        struct pollfd fds[2] = { { .fd = signal_fd, .events = POLLIN },
                                 { .fd = ovl_thread_fd(server->thread), .events = POLLIN } };
        int r = 0;

        server->poster = pthread_self();
        echo_accept(server);
        while (r >= 0 && fds[0].revents == 0) {
                ovl_cork(server->thread);
                r = ovl_sleep(server->thread, 0);
                if (ovl_uncork(server->thread) >= 0 && r >= 0)
                        poll(fds, 2, -1);
        }
        if (r < 0)
                fprintf(stderr, "echo-routines: %s\n", ovl_thread_error(server->thread)->text);
        printf("%lu routines ran, %lu of them in another thread than had posted\n", server->n_routines,
               server->n_strays);
        return server->n_strays > 0 ? -EXDEV : r;
}

/* A server that cannot start says why and ends; the end of its session gives back what it had. */
static void echo_must(int r, const struct ovl_error *error) {
        if (r < 0) {
                fprintf(stderr, "echo-routines: %s\n", error->text);
                exit(EXIT_FAILURE);
        }
}

static void echo_listen(struct server *server, uint16_t port) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
        struct ovl_thread *thread = server->thread;
        socklen_t len = sizeof address;
        int r;

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        r = ovl_socket_open(thread, AF_INET, SOCK_STREAM, &server->listener);
        if (r >= 0)
                r = ovl_bind(thread, server->listener, (struct sockaddr *) &address, len);
        if (r >= 0)
                r = ovl_listen(thread, server->listener, 128);
        if (r >= 0)
                r = ovl_getsockname(thread, server->listener, (struct sockaddr *) &address, &len);
        echo_must(r, ovl_thread_error(thread));
        printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
        fflush(stdout);
}

int main(int argc, char **argv) {
        static const struct ovl_session_options options = { .name = "echo-routines" };
        struct server *server = calloc(1, sizeof *server);
        struct ovl_session *session;
        struct ovl_region *region;
        struct ovl_error error;
        sigset_t signals;
        int i, r;

        if (!server)
                return EXIT_FAILURE;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        echo_must(ovl_session_open(&options, &session, &error), &error);
        echo_must(ovl_thread_open(session, &server->thread, &error), &error);
        r = ovl_region_open(server->thread, (size_t) CONNECTIONS * RECEIVES * BUFFER_SIZE, &region);
        echo_must(r, ovl_thread_error(server->thread));
        for (i = 0; i < CONNECTIONS * RECEIVES; i++) {
                struct connection *connection = &server->connections[i / RECEIVES];

                connection->server = server;
                connection->buffers[i % RECEIVES].connection = connection;
                connection->buffers[i % RECEIVES].data = (char *) ovl_region_data(region) + (size_t) i * BUFFER_SIZE;
        }
        echo_listen(server, argc > 1 ? atoi(argv[1]) : 0);
        r = echo_run(server, signalfd(-1, &signals, SFD_CLOEXEC));
        for (i = 0; i < CONNECTIONS; i++)
                if (server->connections[i].socket)
                        ovl_socket_close(server->thread, server->connections[i].socket);
        ovl_region_close(server->thread, region); /* waits until the kernel is done with the buffers */
        ovl_thread_close(server->thread);
        ovl_session_free(session);
        free(server);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
