/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_LISTEN_H
#define TESTS_BENCH_LISTEN_H

/* What the direct servers of the benchmark share: a listening socket, and the two lines that every server prints. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/cleanup.h"

/* Listens on 127.0.0.1, any port, and prints where. Returns the descriptor, the caller's, or -errno. */
static inline int bench_listen(void) {
        struct sockaddr_in address = { .sin_family = AF_INET };
        socklen_t len = sizeof address;
        _cleanup_fd_ int fd = -1;

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *) &address, len) < 0 || listen(fd, 1024) < 0 ||
            getsockname(fd, (struct sockaddr *) &address, &len) < 0)
                return -errno;
        printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
        fflush(stdout);
        return fd_take(&fd);
}

/* A descriptor that becomes readable when SIGTERM or SIGINT asks for the end. Returns it, the caller's, or -errno. */
static inline int bench_stop_fd(void) {
        sigset_t signals;
        int fd;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        fd = signalfd(-1, &signals, SFD_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static inline void bench_no_delay(int fd) {
        int one = 1;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

#endif
