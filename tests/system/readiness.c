/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What engine.h promises, asked of the engine itself, without a daemon: requests that end at once, later or by a
 * cancel, readiness, timeouts; and what sockets do that is easily overlooked: an end behind data, urgent bytes,
 * descriptors within a stream, errors that stay, descriptions that others share.
 *
 * Both engines must pass; what only one of them could get wrong is tried on both all the same.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/worker/engine.h"
#include "tests/harness/harness.h"

#define READINESS_A_WHILE_NS (50 * NS_PER_MS)
#define READINESS_MANY 400

static struct engine *readiness_engine(struct stats *stats) {
        char reason[ENGINE_REASON_SIZE];
        struct features features;
        struct engine *engine;

        assert_ok(features_parse(getenv("OVL_TEST_FEATURES"), &features));
        if (engine_new(getenv("OVL_TEST_ENGINE"), stats, &features, &engine, reason, sizeof(reason)) < 0)
                fail_msg("%s", reason);
        return engine;
}

static void file_open(struct engine *engine, struct engine_file *file, int fd) {
        engine_file_init(file, fd, 0);
        assert_ok(engine->ops->attach(engine, file));
}

static void file_close(struct engine *engine, struct engine_file *file) {
        assert_int_equal(file->n_in_flight, 0);
        engine->ops->detach(engine, file);
        file->fd = fd_close(file->fd);
}

/* One end belongs to the engine, the other to the test. */
static int file_open_pair(struct engine *engine, struct engine_file *file) {
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        file_open(engine, file, fds[0]);
        return fds[1];
}

static int tcp_listen(struct sockaddr_in *ret_address) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0 && bind(fd, (struct sockaddr *) &address, len) == 0 && listen(fd, 8) == 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) ret_address, &len), 0);
        return fd;
}

static int tcp_connect(const struct sockaddr_in *address) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (const struct sockaddr *) address, sizeof(*address)), 0);
        return fd;
}

static int file_open_tcp(struct engine *engine, struct engine_file *file) {
        struct sockaddr_in address;
        _cleanup_fd_ int listening = tcp_listen(&address);
        int other = tcp_connect(&address), one = 1;
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

        assert_ok(fd);
        assert_int_equal(setsockopt(other, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
        file_open(engine, file, fd);
        return other;
}

/* What has come arrives at the socket before the call that brought it returns, on loopback; this makes sure. */
static void tcp_settle(int fd, short events) {
        struct pollfd look = { .fd = fd, .events = events };

        assert_int_equal(poll(&look, 1, 10000), 1);
}

static void op_prepare(struct op *op, struct engine_file *file, enum request_kind kind, void *data, size_t len) {
        *op = (struct op){ .one = { data, len } };
        op->request.file = file;
        op->request.kind = kind;
        op->request.parts = &op->one;
        op->request.n_parts = 1;
}

static void start(struct engine *engine, struct op *op, struct engine_file *file, enum request_kind kind, void *data,
                  size_t len) {
        op_prepare(op, file, kind, data, len);
        engine->ops->start(engine, op);
}

static void start_poll(struct engine *engine, struct op *op, struct engine_file *file, uint32_t events) {
        op_prepare(op, file, REQUEST_POLL, NULL, 0);
        op->request.events = events;
        engine->ops->start(engine, op);
}

/* Returns whether something came up within so long. */
static bool look(struct engine *engine, struct engine_event *ret_event, uint64_t timeout_ns) {
        uint64_t deadline_ns = now_ns() + timeout_ns;

        for (;;) {
                uint64_t now = now_ns();

                if (engine->ops->reap(engine, ret_event) == 1)
                        return true;
                if (now > deadline_ns)
                        return false;
                assert_int_equal(engine->ops->wait(engine, deadline_ns - now), 0);
        }
}

static void expect_nothing(struct engine *engine) {
        struct engine_event event;

        if (look(engine, &event, READINESS_A_WHILE_NS))
                fail_msg("an event came too early, with result %d", event.result);
}

static struct engine_event expect(struct engine *engine) {
        struct engine_event event;

        if (!look(engine, &event, harness_deadline(10) - now_ns()))
                fail_msg("no event came");
        return event;
}

static void expect_op(struct engine *engine, const struct op *op, int32_t result) {
        struct engine_event event = expect(engine);

        assert_ptr_equal(event.op, op);
        assert_ptr_equal(event.file, op->request.file);
        assert_int_equal(event.result, result);
}

static void expect_ready(struct engine *engine, const struct engine_file *file, enum direction direction,
                         int32_t result) {
        struct engine_event event = expect(engine);

        assert_null(event.op);
        assert_ptr_equal(event.file, file);
        assert_int_equal(event.direction, direction);
        assert_int_equal(event.result, result);
        assert_false(file->armed[direction]);
}

/* Returns how many of ten waits end before their time while `disturb` does something before each. */
static unsigned readiness_count_wakes(struct engine *engine, void (*disturb)(int fd), int fd) {
        unsigned n_wakes = 0;

        for (size_t i = 0; i < 10; i++) {
                struct engine_event event;
                uint64_t before = now_ns();

                disturb(fd);
                assert_int_equal(engine->ops->wait(engine, 20 * NS_PER_MS), 0);
                n_wakes += now_ns() - before < 20 * NS_PER_MS;
                while (engine->ops->reap(engine, &event))
                        fail_msg("something came up that nobody asked for");
        }
        return n_wakes;
}

static void disturb_with_data(int fd) {
        assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), 1);
}

static void disturb_with_nothing(int fd) {
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

static void readiness_requests_end(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        struct op in, out;
        char data[16];
        int other = file_open_pair(engine, &file);

        assert_int_equal(write(other, "hello", 5), 5);
        start(engine, &in, &file, REQUEST_RECV, data, sizeof(data));
        expect_op(engine, &in, 5);
        start(engine, &in, &file, REQUEST_RECV, data, sizeof(data));
        start(engine, &out, &file, REQUEST_SEND, (void *) "world", 5);
        expect_op(engine, &out, 5);
        assert_int_equal(read(other, data, sizeof(data)), 5);
        expect_nothing(engine);
        assert_int_equal(write(other, "again", 5), 5);
        expect_op(engine, &in, 5);
        assert_memory_equal(data, "again", 5);
        start(engine, &in, &file, REQUEST_RECV, data, sizeof(data));
        close(other);
        expect_op(engine, &in, 0);
        op_prepare(&out, &file, REQUEST_SEND, (void *) "world", 5);
        out.request.flags = MSG_NOSIGNAL;
        engine->ops->start(engine, &out);
        expect_op(engine, &out, -EPIPE);
        file_close(engine, &file);
        engine_free(engine);
        assert_true(stats.system_calls > 0);
}

static void readiness_requests_are_cancelled(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        struct op op;
        char data[16];
        int other = file_open_pair(engine, &file);

        /* before it was tried, while it waits, and when it is too late */
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        engine->ops->cancel(engine, &op);
        expect_op(engine, &op, -ECANCELED);
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_nothing(engine);
        engine->ops->cancel(engine, &op);
        engine->ops->cancel(engine, &op);
        expect_op(engine, &op, -ECANCELED);
        assert_int_equal(write(other, "hello", 5), 5);
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        assert_int_equal(engine->ops->wait(engine, 0), 0);
        engine->ops->cancel(engine, &op);
        expect_op(engine, &op, 5);
        file_close(engine, &file);
        close(other);
        engine_free(engine);
}

/* A send goes on where there is room again; what it moved is told exactly. */
static void readiness_sends_wait_for_room(void **state) {
        static char data[1 << 20], back[1 << 20];
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        size_t n_sent = 0, n_read = 0;
        struct op op;
        int other = file_open_tcp(engine, &file);
        const size_t total = sizeof(data) * 16;

        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (char) (i * 7);
        start(engine, &op, &file, REQUEST_SEND, data, sizeof(data));
        while (n_read < total) {
                struct engine_event event;
                ssize_t n;

                if (n_sent < total && look(engine, &event, NS_PER_MS)) {
                        assert_true(event.op == &op && event.result > 0);
                        n_sent += (size_t) event.result;
                        if (n_sent < total)
                                start(engine, &op, &file, REQUEST_SEND, data + n_sent % sizeof(data),
                                      sizeof(data) - n_sent % sizeof(data));
                        continue;
                }
                n = read(other, back, sizeof(back) - n_read % sizeof(back));
                assert_true(n > 0);
                assert_memory_equal(back, data + n_read % sizeof(data), n);
                n_read += (size_t) n;
        }
        assert_int_equal(n_sent, total);
        file_close(engine, &file);
        close(other);
        engine_free(engine);
}

static void readiness_messages_have_names_and_flags(void **state) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, name;
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        _cleanup_fd_ int other = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        socklen_t len = sizeof(address);
        struct engine_file file;
        struct op in, out;
        char data[4];

        assert_int_equal(bind(other, (struct sockaddr *) &address, len), 0);
        assert_int_equal(getsockname(other, (struct sockaddr *) &address, &len), 0);
        file_open(engine, &file, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        op_prepare(&out, &file, REQUEST_SEND, (void *) "message", 7);
        out.request.is_message = true;
        out.request.message = (struct msghdr){ .msg_name = &address, .msg_namelen = sizeof(address) };
        engine->ops->start(engine, &out);
        expect_op(engine, &out, 7);
        len = sizeof(name);
        assert_int_equal(recvfrom(other, data, sizeof(data), 0, (struct sockaddr *) &name, &len), 4);
        op_prepare(&in, &file, REQUEST_RECV, data, sizeof(data));
        in.request.is_message = true;
        in.request.message = (struct msghdr){ .msg_name = &name, .msg_namelen = sizeof(name) };
        engine->ops->start(engine, &in);
        expect_nothing(engine);
        assert_int_equal(sendto(other, "answer", 6, 0, (struct sockaddr *) &name, sizeof(name)), 6);
        expect_op(engine, &in, 4);
        assert_true(in.request.message.msg_flags & MSG_TRUNC);
        assert_int_equal(in.request.message.msg_namelen, sizeof(name));
        assert_int_equal(name.sin_port, address.sin_port);
        file_close(engine, &file);
        engine_free(engine);
}

/* Nobody else's flags make an accept wait; connections that nobody was told of are closed with the engine. */
static void readiness_listeners_may_be_blocking(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct sockaddr_in address;
        struct engine_file file;
        struct engine_event event;
        struct op op;
        int fds[3];

        file_open(engine, &file, tcp_listen(&address));
        for (size_t i = 0; i < 2; i++) {
                start(engine, &op, &file, REQUEST_ACCEPT, NULL, 0);
                expect_nothing(engine);
                assert_int_equal(fcntl(file.fd, F_SETFL, 0), 0);
                fds[i] = tcp_connect(&address);
                event = expect(engine);
                assert_ptr_equal(event.op, &op);
                assert_true(event.result >= 0);
                assert_true(fcntl(event.result, F_GETFD) & FD_CLOEXEC);
                close(event.result);
        }
        /* one that has been accepted, and is not reaped */
        fds[2] = tcp_connect(&address);
        start(engine, &op, &file, REQUEST_ACCEPT, NULL, 0);
        assert_int_equal(engine->ops->wait(engine, ENGINE_FOREVER), 0);
        engine_free(engine);
        for (size_t i = 0; i < 3; i++)
                close(fds[i]);
        close(file.fd);
}

/*
 * Somebody who shares a listener makes it blocking between the moment when it is made non-blocking and the accept, as
 * often as he likes: the calls of this program claim what is not so. The worker goes on within milliseconds.
 */
static bool is_contested;

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);

int __wrap_fcntl64(int fd, int command, ...) {
        va_list arguments;
        long argument;

        va_start(arguments, command);
        argument = va_arg(arguments, long);
        va_end(arguments);
        if (is_contested && command == F_GETFL)
                return O_RDWR | O_NONBLOCK;
        return __real_fcntl64(fd, command, argument);
}

static void readiness_shared_listeners_hold_nobody(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct sockaddr_in address;
        struct engine_event event;
        struct engine_file file;
        struct op op;
        int fd;

        file_open(engine, &file, tcp_listen(&address));
        file.is_shared = true;
        is_contested = true;
        for (size_t i = 0; i < 3; i++) {
                start(engine, &op, &file, REQUEST_ACCEPT, NULL, 0);
                expect_nothing(engine);
                fd = tcp_connect(&address);
                event = expect(engine);
                assert_ptr_equal(event.op, &op);
                assert_ok(event.result);
                close(event.result);
                close(fd);
        }
        is_contested = false;
        assert_int_equal(fcntl(file.fd, F_GETFL) & O_NONBLOCK, 0);
        file_close(engine, &file);
        engine_free(engine);
}

/* Nor do flags that somebody else sets later make a request end, or spin. */
static void readiness_flags_of_others_change_nothing(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        struct op op;
        char data[16];
        int other = file_open_tcp(engine, &file);

        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(fcntl(file.fd, F_SETFL, O_NONBLOCK), 0);
                start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
                expect_nothing(engine);
                assert_true(readiness_count_wakes(engine, disturb_with_nothing, -1) <= 1);
                if (i == 1) {
                        engine->ops->cancel(engine, &op);
                        expect_op(engine, &op, -ECANCELED);
                        continue;
                }
                disturb_with_data(other);
                expect_op(engine, &op, 1);
        }
        file_close(engine, &file);
        close(other);
        engine_free(engine);
}

/* --- Polls ------------------------------------------------------------------------------------------------------ */

static void readiness_polls_are_many(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct op polls[3], room, in;
        struct engine_file file;
        char data[16];
        int other = file_open_pair(engine, &file);

        start_poll(engine, &room, &file, POLLOUT);
        expect_op(engine, &room, POLLOUT);
        for (size_t i = 0; i < 3; i++)
                start_poll(engine, &polls[i], &file, i == 1 ? POLLRDHUP : POLLIN);
        expect_nothing(engine);
        engine->ops->cancel(engine, &polls[2]);
        expect_op(engine, &polls[2], -ECANCELED);
        assert_int_equal(write(other, "hello", 5), 5);
        expect_op(engine, &polls[0], POLLIN);
        /* it consumed nothing, so another one ends at once, and a receive has it all */
        start_poll(engine, &polls[0], &file, POLLIN);
        expect_op(engine, &polls[0], POLLIN);
        start(engine, &in, &file, REQUEST_RECV, data, sizeof(data));
        expect_op(engine, &in, 5);
        start_poll(engine, &polls[0], &file, POLLIN);
        expect_nothing(engine);
        assert_int_equal(shutdown(other, SHUT_WR), 0);
        for (size_t i = 0; i < 2; i++) {
                struct engine_event event = expect(engine);

                assert_true(event.op == &polls[0] || event.op == &polls[1]);
                assert_int_equal(event.result, event.op == &polls[0] ? POLLIN : POLLRDHUP);
        }
        file_close(engine, &file);
        close(other);
        engine_free(engine);
}

/* --- Readiness -------------------------------------------------------------------------------------------------- */

static void readiness_is_told_when_asked(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        int other = file_open_pair(engine, &file);

        engine->ops->arm(engine, &file, DIRECTION_IN);
        expect_nothing(engine);
        engine->ops->arm(engine, &file, DIRECTION_OUT);
        expect_ready(engine, &file, DIRECTION_OUT, 0);
        assert_int_equal(write(other, "hello", 5), 5);
        expect_ready(engine, &file, DIRECTION_IN, 0);
        expect_nothing(engine);
        /* whoever has not read everything is told again, and only when asking */
        engine->ops->arm(engine, &file, DIRECTION_IN);
        expect_ready(engine, &file, DIRECTION_IN, 0);
        assert_int_equal(read(file.fd, (char[8]){ 0 }, 8), 5);
        engine->ops->arm(engine, &file, DIRECTION_IN);
        expect_nothing(engine);
        engine->ops->disarm(engine, &file, DIRECTION_IN);
        expect_ready(engine, &file, DIRECTION_IN, -ECANCELED);
        engine->ops->disarm(engine, &file, DIRECTION_IN);
        expect_nothing(engine);
        file_close(engine, &file);
        close(other);
        engine_free(engine);
}

static void readiness_of_hang_ups_ignores_half_of_them(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        int other = file_open_pair(engine, &file);

        engine->ops->arm(engine, &file, DIRECTION_IN);
        assert_int_equal(shutdown(other, SHUT_WR), 0);
        expect_ready(engine, &file, DIRECTION_IN, 0);
        file.only_hang_up = true;
        engine->ops->arm(engine, &file, DIRECTION_IN);
        expect_nothing(engine);
        close(other);
        expect_ready(engine, &file, DIRECTION_IN, 0);
        expect_nothing(engine);
        file_close(engine, &file);
        engine_free(engine);
}

static void readiness_of_hang_ups_is_taken_back(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        struct engine_event event;
        int other = file_open_pair(engine, &file);

        assert_int_equal(shutdown(other, SHUT_WR), 0);
        file.only_hang_up = true;
        engine->ops->arm(engine, &file, DIRECTION_IN);
        expect_nothing(engine);
        engine->ops->disarm(engine, &file, DIRECTION_IN);
        event = expect(engine);
        assert_ptr_equal(event.file, &file);
        assert_int_equal(file.n_in_flight, 0);
        file_close(engine, &file);
        close(other);
        engine_free(engine);
}

/* --- Sleep ------------------------------------------------------------------------------------------------------ */

static void readiness_timeouts_are_never_early(void **state) {
        static const uint64_t timeouts_ns[] = { 1, 1000, 200000, NS_PER_MS, 1500000, 3 * NS_PER_MS };
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);

        for (size_t i = 0; i < HARNESS_N(timeouts_ns); i++) {
                uint64_t deadline_ns = harness_deadline(10), elapsed;
                size_t n = 0;

                /* exact, unless the machine is busy each time; in milliseconds where the kernel has nothing better */
                do {
                        uint64_t before = now_ns();

                        assert_int_equal(engine->ops->wait(engine, timeouts_ns[i]), 0);
                        elapsed = now_ns() - before;
                        assert_true(elapsed >= timeouts_ns[i] && before < deadline_ns);
                } while (++n < 5 || elapsed > timeouts_ns[i] + 2 * NS_PER_MS);
        }
        engine_free(engine);
}

/* Once is allowed: only then does the engine know that nobody wants it. */
static void readiness_wakes_nobody_for_nothing(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        struct op op;
        char data[16];

        for (size_t i = 0; i < 2; i++) {
                int other = i == 0 ? file_open_tcp(engine, &file) : file_open_pair(engine, &file);

                disturb_with_data(other);
                start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
                expect_op(engine, &op, 1);
                assert_true(readiness_count_wakes(engine, disturb_with_data, other) <= 1);
                close(other);
                assert_true(readiness_count_wakes(engine, disturb_with_nothing, -1) <= 1);
                /* what came meanwhile is there all the same */
                start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
                expect_op(engine, &op, 10);
                file_close(engine, &file);
        }
        engine_free(engine);
}

/* What was armed once and is no longer keeps nobody awake either. */
static void readiness_wakes_nobody_who_was_told(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        int other = file_open_pair(engine, &file);

        engine->ops->arm(engine, &file, DIRECTION_IN);
        disturb_with_data(other);
        expect_ready(engine, &file, DIRECTION_IN, 0);
        assert_true(readiness_count_wakes(engine, disturb_with_data, other) <= 1);
        engine->ops->arm(engine, &file, DIRECTION_OUT);
        expect_ready(engine, &file, DIRECTION_OUT, 0);
        assert_true(readiness_count_wakes(engine, disturb_with_nothing, other) <= 1);
        close(other);
        assert_true(readiness_count_wakes(engine, disturb_with_nothing, -1) <= 2);
        file_close(engine, &file);
        engine_free(engine);
}

/* An error queue that nobody reads is an error for ever: a receive that waits must not spin on it. */
static void readiness_sleeps_beside_an_error(void **state) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(address);
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = 1;
        struct engine_file file;
        struct op op, look_for;
        char data[16];

        /* a port that was just given back */
        assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &len), 0);
        close(fd);
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &one, sizeof(one)), 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, len), 0);
        file_open(engine, &file, fd);
        disturb_with_data(fd);
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_op(engine, &op, -ECONNREFUSED);
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_nothing(engine);
        assert_true(readiness_count_wakes(engine, disturb_with_nothing, fd) <= 1);
        /* who asks for it is told */
        start_poll(engine, &look_for, &file, POLLIN);
        expect_op(engine, &look_for, POLLERR);
        engine->ops->cancel(engine, &op);
        expect_op(engine, &op, -ECANCELED);
        file_close(engine, &file);
        engine_free(engine);
}

/* --- What lies behind data -------------------------------------------------------------------------------------- */

static void readiness_finds_the_end_behind_data(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        struct op op;
        char data[16];
        int other = file_open_tcp(engine, &file);

        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_nothing(engine);
        assert_int_equal(write(other, "hello", 5), 5);
        close(other);
        tcp_settle(file.fd, POLLRDHUP);
        expect_op(engine, &op, 5);
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_op(engine, &op, 0);
        file_close(engine, &file);
        engine_free(engine);
}

static void readiness_finds_data_behind_an_urgent_byte(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        struct op op;
        char data[16];
        int other = file_open_tcp(engine, &file);

        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_nothing(engine);
        assert_int_equal(send(other, "abU", 3, MSG_OOB), 3);
        assert_int_equal(write(other, "cde", 3), 3);
        tcp_settle(file.fd, POLLPRI);
        expect_op(engine, &op, 2);
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_op(engine, &op, 3);
        assert_memory_equal(data, "cde", 3);
        file_close(engine, &file);
        close(other);
        engine_free(engine);
}

/* A Unix stream stops where descriptors ride along. */
static void readiness_finds_data_behind_a_descriptor(void **state) {
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
        struct iovec part = { (void *) "ab", 2 };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof(control.bytes),
        };
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        struct op op;
        char data[16];
        int other = file_open_pair(engine, &file);

        memcpy(CMSG_DATA(&control.header), &other, sizeof(other));
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_nothing(engine);
        assert_int_equal(sendmsg(other, &message, 0), 2);
        assert_int_equal(write(other, "cde", 3), 3);
        expect_op(engine, &op, 2);
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_op(engine, &op, 3);
        file_close(engine, &file);
        close(other);
        engine_free(engine);
}

static void readiness_peeks_take_nothing(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file file;
        struct op op;
        char data[16];
        int other = file_open_tcp(engine, &file);

        for (size_t i = 0; i < 3; i++) {
                op_prepare(&op, &file, REQUEST_RECV, data, sizeof(data));
                op.request.flags = i < 2 ? MSG_PEEK : 0;
                engine->ops->start(engine, &op);
                if (i == 0) {
                        expect_nothing(engine);
                        assert_int_equal(write(other, "hello", 5), 5);
                }
                expect_op(engine, &op, 5);
        }
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_nothing(engine);
        engine->ops->cancel(engine, &op);
        expect_op(engine, &op, -ECANCELED);
        file_close(engine, &file);
        close(other);
        engine_free(engine);
}

/* --- Company ---------------------------------------------------------------------------------------------------- */

/* A file that was given up may live on in another process, which shares its description. */
static void readiness_ends_with_detach(void **state) {
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file first, second;
        struct op op;
        char data[16];
        int other = file_open_pair(engine, &first), shared = dup(first.fd), another;

        start(engine, &op, &first, REQUEST_RECV, data, sizeof(data));
        expect_nothing(engine);
        engine->ops->cancel(engine, &op);
        expect_op(engine, &op, -ECANCELED);
        file_close(engine, &first);
        another = file_open_pair(engine, &second);
        engine->ops->arm(engine, &second, DIRECTION_IN);
        disturb_with_data(other);
        expect_nothing(engine);
        disturb_with_data(another);
        expect_ready(engine, &second, DIRECTION_IN, 0);
        file_close(engine, &second);
        close(shared);
        close(other);
        close(another);
        engine_free(engine);
}

/* Whoever reads from the same description may be faster, again and again. */
static void readiness_may_be_taken_away(void **state) {
        struct stats stats = { 0 };
        struct engine *engine;
        struct engine_file file;
        struct op op;
        char data[16];
        int other, shared;

        if (strcmp(getenv("OVL_TEST_ENGINE"), "uring") == 0)
                harness_skip("nobody is faster than a ring, which receives whenever the process enters the kernel");
        engine = readiness_engine(&stats);
        other = file_open_tcp(engine, &file);
        shared = dup(file.fd);
        start(engine, &op, &file, REQUEST_RECV, data, sizeof(data));
        expect_nothing(engine);
        for (size_t i = 0; i < 10; i++) {
                disturb_with_data(other);
                tcp_settle(shared, POLLIN);
                assert_int_equal(read(shared, data, sizeof(data)), 1);
                expect_nothing(engine);
        }
        disturb_with_data(other);
        expect_op(engine, &op, 1);
        file_close(engine, &file);
        close(shared);
        close(other);
        engine_free(engine);
}

/* A socket that is always ready neither keeps a turn from ending nor anybody else from being served. */
static void readiness_is_fair(void **state) {
        static char data[100000];
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        struct engine_file busy, quiet;
        struct op op, other_op;
        int other = file_open_pair(engine, &busy), another = file_open_pair(engine, &quiet);
        bool is_served = false;

        assert_int_equal(write(other, data, sizeof(data)), sizeof(data));
        start(engine, &op, &busy, REQUEST_RECV, data, 1);
        start(engine, &other_op, &quiet, REQUEST_RECV, data + 1, 1);
        for (size_t i = 0; i < 1000; i++) {
                struct engine_event event;
                size_t n = 0;

                if (i == 900)
                        disturb_with_data(another);
                assert_int_equal(engine->ops->wait(engine, ENGINE_FOREVER), 0);
                while (engine->ops->reap(engine, &event)) {
                        assert_true(++n < 1000);
                        if (event.op == &op)
                                start(engine, &op, &busy, REQUEST_RECV, data, 1);
                        else
                                is_served = true;
                }
        }
        assert_true(is_served);
        engine->ops->cancel(engine, &op);
        expect(engine);
        file_close(engine, &busy);
        file_close(engine, &quiet);
        close(other);
        close(another);
        engine_free(engine);
}

static void readiness_of_many_is_told_of_each(void **state) {
        static struct engine_file files[READINESS_MANY];
        static struct op ops[READINESS_MANY];
        static char data[READINESS_MANY];
        struct stats stats = { 0 };
        struct engine *engine = readiness_engine(&stats);
        int others[READINESS_MANY];

        for (size_t i = 0; i < READINESS_MANY; i++) {
                others[i] = file_open_pair(engine, &files[i]);
                start(engine, &ops[i], &files[i], REQUEST_RECV, &data[i], 1);
        }
        expect_nothing(engine);
        for (size_t i = 0; i < READINESS_MANY; i++)
                disturb_with_data(others[i]);
        for (size_t i = 0; i < READINESS_MANY; i++)
                assert_int_equal(expect(engine).result, 1);
        expect_nothing(engine);
        for (size_t i = 0; i < READINESS_MANY; i++) {
                assert_int_equal(data[i], 'x');
                file_close(engine, &files[i]);
                close(others[i]);
        }
        engine_free(engine);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "requests end at once or when they can", readiness_requests_end },
                { "requests are cancelled", readiness_requests_are_cancelled },
                { "sends wait for room", readiness_sends_wait_for_room },
                { "messages have names and flags", readiness_messages_have_names_and_flags },
                { "listeners may be blocking", readiness_listeners_may_be_blocking },
                { "a shared listener holds nobody", readiness_shared_listeners_hold_nobody },
                { "flags of others change nothing", readiness_flags_of_others_change_nothing },
                { "polls are many", readiness_polls_are_many },
                { "readiness is told when asked for", readiness_is_told_when_asked },
                { "hang-ups are told, half of them are not", readiness_of_hang_ups_ignores_half_of_them },
                { "a wait for a hang-up is taken back", readiness_of_hang_ups_is_taken_back },
                { "timeouts are never early", readiness_timeouts_are_never_early },
                { "nobody is woken for nothing", readiness_wakes_nobody_for_nothing },
                { "nobody is woken who was told", readiness_wakes_nobody_who_was_told },
                { "an error that stays keeps nobody awake", readiness_sleeps_beside_an_error },
                { "the end of a stream is found behind data", readiness_finds_the_end_behind_data },
                { "data are found behind an urgent byte", readiness_finds_data_behind_an_urgent_byte },
                { "data are found behind a descriptor", readiness_finds_data_behind_a_descriptor },
                { "peeks take nothing", readiness_peeks_take_nothing },
                { "a file that was given up is silent", readiness_ends_with_detach },
                { "readiness may be taken away by others", readiness_may_be_taken_away },
                { "readiness is fair", readiness_is_fair },
                { "readiness of many is told of each", readiness_of_many_is_told_of_each },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
