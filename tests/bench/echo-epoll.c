/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a careful person writes without overlapd: an echo server on epoll, one thread, one read and one write for a
 * message. Prints at its end how many messages it echoed and how many system calls it made, counted where they are
 * made.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "tests/bench/listen.h"

#define BUFFER_SIZE 65536

struct server {
        int epoll_fd, listen_fd, stop_fd;
        uint64_t n_messages, n_calls;
        char *buffer;
};

static int server_watch(struct server *server, int fd) {
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

        server->n_calls++;
        return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int server_accept(struct server *server) {
        _cleanup_fd_ int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        int r;

        server->n_calls += 2;
        if (fd < 0)
                return -errno;
        bench_no_delay(fd);
        r = server_watch(server, fd);
        if (r < 0)
                return r;
        fd_take(&fd);
        return 0;
}

static void server_echo(struct server *server, int take_fd) {
        _cleanup_fd_ int fd = take_fd;
        ssize_t n = recv(fd, server->buffer, BUFFER_SIZE, 0), k, sent = 0;

        server->n_calls++;
        while (sent < n) {
                k = send(fd, server->buffer + sent, n - sent, MSG_NOSIGNAL);
                server->n_calls++;
                if (k < 0)
                        return;
                sent += k;
        }
        server->n_messages++;
        if (n > 0)
                fd_take(&fd);
}

static int server_run(struct server *server) {
        struct epoll_event events[256];
        int i, n;

        for (;;) {
                n = epoll_wait(server->epoll_fd, events, 256, -1);
                server->n_calls++;
                if (n < 0 && errno != EINTR)
                        return -errno;
                for (i = 0; i < n; i++)
                        if (events[i].data.fd == server->stop_fd)
                                return 0;
                        else if (events[i].data.fd == server->listen_fd)
                                server_accept(server);
                        else
                                server_echo(server, events[i].data.fd);
        }
}

int main(void) {
        _cleanup_fd_ int epoll_fd = epoll_create1(EPOLL_CLOEXEC), stop_fd = bench_stop_fd(), listen_fd = bench_listen();
        _cleanup_free_ char *buffer = malloc(BUFFER_SIZE);
        struct server server = { .epoll_fd = epoll_fd, .listen_fd = listen_fd, .stop_fd = stop_fd, .buffer = buffer };
        int r = -ENOMEM;

        if (buffer && epoll_fd >= 0 && stop_fd >= 0 && listen_fd >= 0)
                r = server_watch(&server, stop_fd);
        if (r >= 0)
                r = server_watch(&server, listen_fd);
        if (r >= 0)
                r = server_run(&server);
        if (r < 0) {
                fprintf(stderr, "echo-epoll: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        printf("messages %llu calls %llu\n", (unsigned long long) server.n_messages,
               (unsigned long long) server.n_calls);
        return EXIT_SUCCESS;
}
