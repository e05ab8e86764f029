/* SPDX-License-Identifier: Apache-2.0 */
/*
 * echo-datagrams PORT: sends every UDP datagram back to where it came from, on 127.0.0.1; SIGTERM or SIGINT ends it.
 *
 * Several receives are outstanding, each with a buffer and with room for its sender. A routine that was given a
 * datagram sends it back with the same overlapped structure, and one whose datagram has left receives the next.
 */
#include <arpa/inet.h>
#include <overlap.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
        RECEIVES = 32,
        BUFFER_SIZE = 4096 /* longer datagrams are counted, and not sent back */
};

struct datagram {
        struct ovl_overlapped overlapped;
        struct server *server;
        struct ovl_buffer buffer;
        struct sockaddr_storage sender;
        socklen_t sender_len;
};

struct server {
        struct ovl_thread *thread;
        uint64_t socket;
        unsigned long n_echoed, n_cut, n_failed;
        int n_pending;
        struct datagram datagrams[RECEIVES];
};

static void echo_received(struct ovl_thread *thread, struct ovl_overlapped *overlapped);

static void echo_receive(struct datagram *datagram) {
        struct server *server = datagram->server;

        datagram->overlapped.user = datagram;
        datagram->buffer.len = BUFFER_SIZE;
        if (ovl_recvfrom(server->thread, server->socket, &datagram->buffer, 1, 0, &datagram->sender,
                         &datagram->sender_len, &datagram->overlapped, echo_received) >= 0)
                server->n_pending++;
        else
                fprintf(stderr, "echo-datagrams: %s\n", ovl_thread_error(server->thread)->text);
}

static void echo_sent(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct datagram *datagram = overlapped->user;

        datagram->server->n_pending--;
        if (overlapped->status < 0)
                datagram->server->n_failed++;
        else
                datagram->server->n_echoed++;
        echo_receive(datagram);
}

static void echo_received(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct datagram *datagram = overlapped->user;
        struct server *server = datagram->server;

        server->n_pending--;
        if (overlapped->flags & OVL_TRUNCATED)
                server->n_cut++;
        else if (overlapped->status < 0)
                server->n_failed++;
        datagram->buffer.len = overlapped->bytes;
        if (overlapped->status == 0 &&
            ovl_sendto(thread, server->socket, &datagram->buffer, 1, 0, (struct sockaddr *) &datagram->sender,
                       datagram->sender_len, overlapped, echo_sent) >= 0)
                server->n_pending++;
        else
                echo_receive(datagram);
}

/* Runs what has arrived, posts what follows from it with one system call, and waits for more, until a signal comes. */
static int echo_run(struct server *server, int signal_fd) {
        struct pollfd fds[2] = { { .fd = signal_fd, .events = POLLIN },
                                 { .fd = ovl_thread_fd(server->thread), .events = POLLIN } };
        int r = 0;

        while (r >= 0 && fds[0].revents == 0 && server->n_pending > 0) {
                ovl_cork(server->thread);
                r = ovl_sleep(server->thread, 0);
                if (ovl_uncork(server->thread) >= 0 && r >= 0)
                        poll(fds, 2, -1);
        }
        if (r < 0)
                fprintf(stderr, "echo-datagrams: %s\n", ovl_thread_error(server->thread)->text);
        printf("%lu datagrams were sent back, %lu were too long, %lu operations failed\n", server->n_echoed,
               server->n_cut, server->n_failed);
        return server->n_pending > 0 ? r : -1;
}

/* A server that cannot start says why and ends; the end of its session gives back what it had. */
static void echo_must(int r, const struct ovl_error *error) {
        if (r < 0) {
                fprintf(stderr, "echo-datagrams: %s\n", error->text);
                exit(EXIT_FAILURE);
        }
}

static void echo_bind(struct server *server, uint16_t port) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
        socklen_t len = sizeof address;
        int r;

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        r = ovl_socket_open(server->thread, AF_INET, SOCK_DGRAM, &server->socket);
        if (r >= 0)
                r = ovl_bind(server->thread, server->socket, (struct sockaddr *) &address, len);
        if (r >= 0)
                r = ovl_getsockname(server->thread, server->socket, (struct sockaddr *) &address, &len);
        echo_must(r, ovl_thread_error(server->thread));
        printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
        fflush(stdout);
}

int main(int argc, char **argv) {
        static const struct ovl_session_options options = { .name = "echo-datagrams" };
        static struct server server;
        struct ovl_session *session;
        struct ovl_region *region;
        struct ovl_error error;
        sigset_t signals;
        int i, r;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        echo_must(ovl_session_open(&options, &session, &error), &error);
        echo_must(ovl_thread_open(session, &server.thread, &error), &error);
        r = ovl_region_open(server.thread, (size_t) RECEIVES * BUFFER_SIZE, &region);
        echo_must(r, ovl_thread_error(server.thread));
        echo_bind(&server, argc > 1 ? atoi(argv[1]) : 0);
        for (i = 0; i < RECEIVES; i++) {
                server.datagrams[i].server = &server;
                server.datagrams[i].buffer.data = (char *) ovl_region_data(region) + (size_t) i * BUFFER_SIZE;
                echo_receive(&server.datagrams[i]);
        }
        r = echo_run(&server, signalfd(-1, &signals, SFD_CLOEXEC));
        ovl_socket_close(server.thread, server.socket);
        ovl_region_close(server.thread, region); /* waits until the kernel is done with the buffers */
        ovl_thread_close(server.thread);
        ovl_session_free(session);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
