/* SPDX-License-Identifier: Apache-2.0 */

/* Streams without a send buffer: sends that have left, and that the peer has not acknowledged. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define ACKS_LEN 250000u /* more than a peer acknowledges before it reads, less than the kernel takes */

struct acks {
        struct client client;
        uint64_t socket;
        int fd;
        struct ovl_overlapped sending[2]; /* both have left */
};

/* Both are sent, and the kernel has them. */
static void acks_send(struct acks *acks) {
        assert_ok(ovl_setsockopt(acks->client.thread, acks->socket, SOL_SOCKET, SO_SNDBUF, 400000));
        assert_ok(ovl_setsockopt(acks->client.thread, acks->socket, SOL_SOCKET, SO_SNDBUF, 0));
        pattern_fill(acks->client.memory, ACKS_LEN + 10, 0);
        assert_int_equal(client_send(&acks->client, acks->socket, acks->client.memory, ACKS_LEN, OVL_WANT_VERDICT,
                                     &acks->sending[0]),
                         OVL_PENDING);
        assert_int_equal(client_send(&acks->client, acks->socket, acks->client.memory + ACKS_LEN, 10, OVL_WANT_VERDICT,
                                     &acks->sending[1]),
                         OVL_PENDING);
        assert_int_equal(ovl_sleep(acks->client.thread, 20 * NS_PER_MS), 0);
}

static void acks_start(struct acks *acks) {
        *acks = (struct acks){ 0 };
        client_start(&acks->client);
        acks->socket = client_pair(&acks->client, AF_INET, &acks->fd);
        acks_send(acks);
}

/* All of it arrives, and the end of the stream behind it. */
static void acks_read_to_the_end(struct acks *acks) {
        static char received[ACKS_LEN + 10];

        peer_read(acks->fd, received, sizeof(received));
        pattern_check(received, sizeof(received), 0);
        assert_int_equal(read(acks->fd, received, 1), 0);
}

static void acks_stop(struct acks *acks) {
        if (acks->fd >= 0)
                close(acks->fd);
        client_stop(&acks->client);
}

static void acks_count_whole_sends(void **state) {
        enum {
                N = 64,
                LEN = 10000
        };
        struct ovl_overlapped sending[N] = { 0 };
        static char received[N * LEN];
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_ok(ovl_setsockopt(client.thread, socket, SOL_SOCKET, SO_SNDBUF, 0));
        pattern_fill(client.memory, sizeof(received), 0);
        for (size_t i = 0; i < N; i++)
                assert_ok(client_send(&client, socket, client.memory + i * LEN, LEN, 0, &sending[i]));
        peer_read(fd, received, sizeof(received));
        pattern_check(received, sizeof(received), 0);
        for (size_t i = N; i-- > 0;) {
                client_expect(&client, &sending[i], 0, LEN);
                for (size_t before = 0; before < i; before++)
                        assert_int_equal(ovl_result(&sending[before]), 0);
        }
        close(fd);
        client_stop(&client);
}

static void acks_are_cancelled(void **state) {
        struct acks acks;

        acks_start(&acks);
        assert_ok(ovl_cancel(acks.client.thread, acks.socket, NULL));
        client_expect(&acks.client, &acks.sending[0], -ECANCELED, ACKS_LEN);
        client_expect(&acks.client, &acks.sending[1], -ECANCELED, 10);
        assert_ok(ovl_shutdown(acks.client.thread, acks.socket, SHUT_WR));
        acks_read_to_the_end(&acks);
        acks_stop(&acks);
}

static void acks_come_no_more(void **state) {
        struct acks acks;

        acks_start(&acks);
        peer_reset(acks.fd);
        acks.fd = -1;
        client_expect(&acks.client, &acks.sending[0], -ECONNRESET, 0);
        client_expect(&acks.client, &acks.sending[1], -ECONNRESET, 0);
        assert_int_equal(
                client_send(&acks.client, acks.socket, acks.client.memory, 10, OVL_WANT_VERDICT, &acks.sending[0]),
                -ECONNRESET);
        assert_ok(client_recv(&acks.client, acks.socket, acks.client.memory, 10, 0, &acks.sending[0]));
        client_expect(&acks.client, &acks.sending[0], -ECONNRESET, 0);
        acks_stop(&acks);
}

static void acks_and_a_close(void **state) {
        struct acks acks;

        acks_start(&acks);
        assert_ok(ovl_socket_close(acks.client.thread, acks.socket));
        client_expect(&acks.client, &acks.sending[0], -ECANCELED, ACKS_LEN);
        client_expect(&acks.client, &acks.sending[1], -ECANCELED, 10);
        acks_read_to_the_end(&acks);
        acks_stop(&acks);
}

static void acks_and_a_shutdown(void **state) {
        struct acks acks;

        acks_start(&acks);
        assert_ok(ovl_shutdown(acks.client.thread, acks.socket, SHUT_WR));
        assert_int_equal(ovl_result(&acks.sending[1]), -EINPROGRESS);
        acks_read_to_the_end(&acks);
        client_expect(&acks.client, &acks.sending[0], 0, ACKS_LEN);
        client_expect(&acks.client, &acks.sending[1], 0, 10);
        acks_stop(&acks);
}

static void acks_and_a_disconnect(void **state) {
        struct ovl_overlapped disconnecting = { 0 };
        struct acks acks;

        acks_start(&acks);
        assert_ok(ovl_disconnect(acks.client.thread, acks.socket, OVL_REUSE, &disconnecting, NULL));
        assert_int_equal(ovl_sleep(acks.client.thread, 20 * NS_PER_MS), 0);
        assert_int_equal(ovl_result(&disconnecting), -EINPROGRESS);
        acks_read_to_the_end(&acks);
        client_expect(&acks.client, &disconnecting, 0, 0);
        assert_int_equal(ovl_result(&acks.sending[0]), 0);
        assert_int_equal(ovl_result(&acks.sending[1]), 0);
        acks_stop(&acks);
}

/* A client of its own, in a process of its own, that has sent to a listener of ours. */
static void acks_send_in_child(struct client client, const struct sockaddr_storage *address, socklen_t len, int ready) {
        struct ovl_overlapped connecting = { 0 };
        struct acks acks = { .client = client };

        client_open(&acks.client, 0);
        assert_ok(ovl_socket_open(acks.client.thread, AF_INET, SOCK_STREAM, &acks.socket));
        assert_ok(ovl_connect(acks.client.thread, acks.socket, (const struct sockaddr *) address, len, 0, &connecting,
                              NULL));
        client_expect(&acks.client, &connecting, 0, 0);
        acks_send(&acks);
        assert_int_equal(write(ready, "", 1), 1);
        for (;;)
                pause();
}

static void acks_of_a_client_that_dies(void **state) {
        struct sockaddr_storage address;
        struct acks acks = { .fd = -1 };
        int listener, ready[2];
        socklen_t len;
        pid_t pid;
        char byte;

        client_start(&acks.client);
        len = client_loopback(AF_INET, &address);
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_ok(bind(listener, (struct sockaddr *) &address, len));
        assert_ok(listen(listener, 1));
        assert_ok(getsockname(listener, (struct sockaddr *) &address, &len));
        assert_ok(pipe2(ready, O_CLOEXEC));
        pid = fork();
        if (pid == 0)
                acks_send_in_child(acks.client, &address, len, ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        acks.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        acks_read_to_the_end(&acks);
        close(listener);
        close(ready[0]);
        close(ready[1]);
        acks_stop(&acks);
}

static void acks_are_inherited(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct sockaddr_storage address;
        struct client client;
        uint64_t listener;
        socklen_t len;
        int fd, size;

        client_start(&client);
        listener = client_listen(&client, AF_INET, &address, &len);
        assert_ok(ovl_setsockopt(client.thread, listener, SOL_SOCKET, SO_SNDBUF, 0));
        assert_ok(ovl_accept(client.thread, listener, 0, &accepting, NULL));
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_ok(connect(fd, (struct sockaddr *) &address, len));
        client_expect(&client, &accepting, 0, 0);
        assert_ok(ovl_getsockopt(client.thread, accepting.value, SOL_SOCKET, SO_SNDBUF, &size));
        assert_int_equal(size, 0);
        assert_ok(ovl_setsockopt(client.thread, accepting.value, SOL_SOCKET, SO_SNDBUF, 65536));
        assert_ok(ovl_getsockopt(client.thread, accepting.value, SOL_SOCKET, SO_SNDBUF, &size));
        assert_true(size >= 65536);
        close(fd);
        client_stop(&client);
}

/* They have no acknowledgements: it is their smallest buffer. */
static void acks_are_for_tcp(void **state) {
        static const int kinds[][2] = { { AF_UNIX, SOCK_STREAM }, { AF_INET, SOCK_DGRAM } };
        struct client client;

        client_start(&client);
        for (size_t i = 0; i < HARNESS_N(kinds); i++) {
                uint64_t socket;
                int size;

                assert_ok(ovl_socket_open(client.thread, kinds[i][0], kinds[i][1], &socket));
                assert_ok(ovl_setsockopt(client.thread, socket, SOL_SOCKET, SO_SNDBUF, 0));
                assert_ok(ovl_getsockopt(client.thread, socket, SOL_SOCKET, SO_SNDBUF, &size));
                assert_true(size > 0 && size < 65536);
        }
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "sends end whole and in order", acks_count_whole_sends },
                { "what is not acknowledged is cancelled, and has left", acks_are_cancelled },
                { "what a reset cut off is not acknowledged", acks_come_no_more },
                { "a close ends what is not acknowledged, and it arrives", acks_and_a_close },
                { "a shutdown waits for no acknowledgement", acks_and_a_shutdown },
                { "a disconnect comes behind the acknowledgements", acks_and_a_disconnect },
                { "what a client sent that dies arrives", acks_of_a_client_that_dies },
                { "who is accepted has it of the listener", acks_are_inherited },
                { "others have a smallest buffer", acks_are_for_tcp },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
