/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a careful person writes without overlapd: an echo server on io_uring, one thread, one receive or one send
 * outstanding for each connection, everything of a turn submitted and waited for with one system call.
 *
 * Prints at its end how many messages it echoed and how many system calls it made, counted where they are made.
 */
#include <liburing.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/bench/listen.h"

#define BUFFER_SIZE 65536
#define ENTRIES 1024

struct connection {
        int fd;
        bool sending;
        size_t n_left; /* bytes of the message that have not been sent */
        char *next;    /* the first of them */
        char buffer[BUFFER_SIZE];
};

struct server {
        struct io_uring ring;
        int listen_fd, stop_fd;
        bool stopped;
        uint64_t n_messages, n_calls;
};

static struct io_uring_sqe *server_sqe(struct server *server) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&server->ring);

        if (sqe)
                return sqe;
        io_uring_submit(&server->ring); /* the queue is full; submitting empties it */
        server->n_calls++;
        return io_uring_get_sqe(&server->ring);
}

static void server_accept(struct server *server) {
        struct io_uring_sqe *sqe = server_sqe(server);

        io_uring_prep_accept(sqe, server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        io_uring_sqe_set_data(sqe, &server->listen_fd);
}

static void server_receive(struct server *server, struct connection *connection) {
        struct io_uring_sqe *sqe = server_sqe(server);

        connection->sending = false;
        io_uring_prep_recv(sqe, connection->fd, connection->buffer, BUFFER_SIZE, 0);
        io_uring_sqe_set_data(sqe, connection);
}

static void server_send(struct server *server, struct connection *connection) {
        struct io_uring_sqe *sqe = server_sqe(server);

        connection->sending = true;
        io_uring_prep_send(sqe, connection->fd, connection->next, connection->n_left, MSG_NOSIGNAL);
        io_uring_sqe_set_data(sqe, connection);
}

static void server_accepted(struct server *server, int fd) {
        struct connection *connection;

        server_accept(server);
        if (fd < 0)
                return;
        connection = malloc(sizeof *connection);
        if (!connection) {
                fd_close(fd);
                return;
        }
        bench_no_delay(fd);
        server->n_calls++;
        connection->fd = fd;
        server_receive(server, connection);
}

static void server_ended(struct server *server, struct connection *connection, int result) {
        if (result <= 0) {
                fd_close(connection->fd);
                free(connection);
        } else if (!connection->sending) {
                connection->next = connection->buffer;
                connection->n_left = result;
                server_send(server, connection);
        } else if ((size_t) result < connection->n_left) {
                connection->next += result;
                connection->n_left -= result;
                server_send(server, connection);
        } else {
                server->n_messages++;
                server_receive(server, connection);
        }
}

static int server_turn(struct server *server) {
        struct io_uring_cqe *cqe;
        unsigned head, n = 0;
        int r;

        r = io_uring_submit_and_wait(&server->ring, 1);
        server->n_calls++;
        if (r < 0 && r != -EINTR)
                return r;
        io_uring_for_each_cqe(&server->ring, head, cqe) {
                void *data = io_uring_cqe_get_data(cqe);

                if (data == &server->stop_fd)
                        server->stopped = true;
                else if (data == &server->listen_fd)
                        server_accepted(server, cqe->res);
                else
                        server_ended(server, data, cqe->res);
                n++;
        }
        io_uring_cq_advance(&server->ring, n);
        return 0;
}

static int server_run(struct server *server) {
        struct io_uring_sqe *sqe;
        int r;

        r = io_uring_queue_init(ENTRIES, &server->ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
        if (r == -EINVAL) /* before Linux 6.1 */
                r = io_uring_queue_init(ENTRIES, &server->ring, 0);
        if (r < 0)
                return r;
        sqe = server_sqe(server);
        io_uring_prep_poll_add(sqe, server->stop_fd, POLLIN);
        io_uring_sqe_set_data(sqe, &server->stop_fd);
        server_accept(server);
        while (r >= 0 && !server->stopped)
                r = server_turn(server);
        io_uring_queue_exit(&server->ring);
        return r;
}

int main(void) {
        _cleanup_fd_ int stop_fd = bench_stop_fd(), listen_fd = bench_listen();
        struct server server = { .listen_fd = listen_fd, .stop_fd = stop_fd };
        int r = listen_fd;

        if (stop_fd < 0)
                r = stop_fd;
        if (r >= 0)
                r = server_run(&server);
        if (r < 0) {
                fprintf(stderr, "echo-uring: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        printf("messages %llu calls %llu\n", (unsigned long long) server.n_messages,
               (unsigned long long) server.n_calls);
        return EXIT_SUCCESS;
}
