/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load of the echo benchmark: connections that each send a message, wait for all of it to come back, and send
 * again.
 *
 * Invariant: at most one message of a connection is on its way, so the figure is round trips and nothing is pipelined.
 *
 *     load PORT CONNECTIONS SIZE MILLISECONDS
 *
 * Prints the round trips per second after a warm-up of a tenth of the time. Exit status 1 when a connection broke or
 * bytes came back wrong: a figure that was reached with errors is none.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/time.h"

struct load {
        int epoll_fd;
        size_t size;  /* bytes of a message */
        char *sent;   /* what every message contains */
        char *echoed; /* where what comes back is read */
        uint64_t n_trips;
};

struct load_connection {
        int fd;
        size_t n_back; /* bytes of the present message that have come back */
        size_t n_gone; /* bytes of it that have been sent */
};

/* What does not fit into the socket's buffer follows when some of it has come back. */
static int load_send(struct load *load, struct load_connection *connection) {
        while (connection->n_gone < load->size) {
                ssize_t n = send(connection->fd, load->sent + connection->n_gone, load->size - connection->n_gone,
                                 MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                connection->n_gone += n;
        }
        return 0;
}

static int load_receive(struct load *load, struct load_connection *connection) {
        ssize_t n = recv(connection->fd, load->echoed, load->size - connection->n_back, MSG_DONTWAIT);

        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        if (n == 0)
                return -ECONNRESET;
        if (memcmp(load->echoed, load->sent + connection->n_back, n) != 0)
                return -EILSEQ;
        connection->n_back += n;
        if (connection->n_back == load->size) {
                connection->n_back = connection->n_gone = 0;
                load->n_trips++;
        }
        return load_send(load, connection);
}

static int load_connect(struct load *load, struct load_connection *connection, uint16_t port) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
        int one = 1;

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *) &address, sizeof address) < 0)
                return -errno;
        setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) < 0)
                return -errno;
        return 0;
}

/* Runs until a time, and counts from here on. */
static int load_run(struct load *load, uint64_t until_ns) {
        struct epoll_event events[256];
        int i, n, r;

        load->n_trips = 0;
        while (now_ns() < until_ns) {
                n = epoll_wait(load->epoll_fd, events, 256, 100);
                if (n < 0 && errno != EINTR)
                        return -errno;
                for (i = 0; i < n; i++) {
                        r = load_receive(load, events[i].data.ptr);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static int load_main(uint16_t port, int n_connections, size_t size, uint64_t duration_ns) {
        _cleanup_free_ struct load_connection *connections = calloc(n_connections, sizeof *connections);
        _cleanup_free_ char *sent = malloc(size), *echoed = malloc(size);
        _cleanup_fd_ int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        struct load load = { .epoll_fd = epoll_fd, .size = size, .sent = sent, .echoed = echoed };
        uint64_t start;
        size_t k;
        int i, r;

        if (!connections || !sent || !echoed || epoll_fd < 0)
                return -ENOMEM;
        for (k = 0; k < size; k++)
                sent[k] = (char) (k * 7 + k / 256);
        for (i = 0; i < n_connections; i++) {
                r = load_connect(&load, &connections[i], port);
                if (r < 0)
                        return r;
        }
        for (i = 0; i < n_connections; i++) {
                r = load_send(&load, &connections[i]);
                if (r < 0)
                        return r;
        }
        r = load_run(&load, now_ns() + duration_ns / 10);
        if (r < 0)
                return r;
        start = now_ns();
        r = load_run(&load, start + duration_ns);
        if (r < 0)
                return r;
        printf("%.0f\n", (double) load.n_trips * 1e9 / (double) (now_ns() - start));
        return 0;
}

int main(int argc, char **argv) {
        int r;

        if (argc != 5) {
                fprintf(stderr, "Usage: load PORT CONNECTIONS SIZE MILLISECONDS\n");
                return EXIT_FAILURE;
        }
        r = load_main(atoi(argv[1]), atoi(argv[2]), strtoul(argv[3], NULL, 10),
                      strtoull(argv[4], NULL, 10) * NS_PER_MS);
        if (r < 0) {
                fprintf(stderr, "load: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
