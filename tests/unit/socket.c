/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The order of datagrams and polls, with an engine that does nothing: the test decides what the kernel answers, and so
 * also what it answers rarely.
 */

#include "daemon/worker/socket.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/harness/harness.h"

#define UNIT_OPS 8

struct unit {
        struct engine engine;
        struct stats stats;
        struct socket socket;
        struct op ops[UNIT_OPS];
        _Alignas(16) uint8_t scratch[UNIT_OPS][OP_SCRATCH_SIZE];
        struct list ended;
        struct op *started[UNIT_OPS * 4]; /* in order */
        size_t n_started;
        struct op *cancelled; /* the latest */
};

static struct unit *unit_of(struct engine *engine) {
        return list_entry(engine, struct unit, engine);
}

static int unit_attach(struct engine *engine, struct engine_file *file) {
        file->index = 0;
        return 0;
}

static void unit_detach(struct engine *engine, struct engine_file *file) {
        file->index = -1;
}

static void unit_started(struct engine *engine, struct op *op) {
        struct unit *unit = unit_of(engine);

        op->request.file->n_in_flight++;
        unit->started[unit->n_started++] = op;
}

static void unit_cancel(struct engine *engine, struct op *op) {
        unit_of(engine)->cancelled = op;
}

static const struct engine_ops unit_engine_ops = {
        .name = "unit",
        .attach = unit_attach,
        .detach = unit_detach,
        .start = unit_started,
        .cancel = unit_cancel,
};

static void unit_start(struct unit *unit, int family, int type) {
        int fd = socket(family, type | SOCK_CLOEXEC, 0);

        memset(unit, 0, sizeof(*unit));
        unit->engine = (struct engine){ .ops = &unit_engine_ops, .stats = &unit->stats };
        list_init(&unit->ended);
        assert_true(fd >= 0);
        assert_ok(socket_init(&unit->socket, &unit->engine, NULL, &fd, family, type, SOCKET_CONNECTED));
}

static void unit_stop(struct unit *unit) {
        assert_true(socket_is_idle(&unit->socket));
        socket_deinit(&unit->socket);
}

static struct op *unit_post(struct unit *unit, size_t n, uint8_t code) {
        struct op *op = &unit->ops[n];

        *op = (struct op){ .code = code,
                           .steps = op_form_of(code)->steps,
                           .scratch = unit->scratch[n],
                           .n_parts = 1,
                           .socket = &unit->socket };
        op->parts = &op->one;
        op->one.iov_len = op->len = 10;
        list_init(&op->link);
        socket_post(&unit->socket, op, &unit->ended);
        return op;
}

static struct op *unit_post_poll(struct unit *unit, size_t n, uint32_t events) {
        struct op *poll = &unit->ops[n];

        *poll = (struct op){ .code = OVL_OP_POLL, .events = events };
        list_init(&poll->link);
        socket_post(&unit->socket, poll, &unit->ended);
        return poll;
}

/* The kernel's answer to the request of an op, which is in flight. */
static void unit_answer(struct unit *unit, struct op *op, int32_t result) {
        assert_int_equal(op->state, OP_ACTIVE);
        unit->socket.file.n_in_flight--;
        socket_finish(&unit->socket, op, result, OVL_REASON_NONE, &unit->ended);
}

/* The op that ended first, and how. */
static void unit_expect(struct unit *unit, const struct op *op, int status) {
        struct list *link = list_pop_front(&unit->ended);

        assert_non_null(link);
        assert_ptr_equal(list_entry(link, struct op, link), op);
        assert_int_equal(op->status, status);
}

static void unit_expect_started(const struct unit *unit, size_t n, const struct op *latest) {
        assert_int_equal(unit->n_started, n);
        assert_ptr_equal(unit->started[n - 1], latest);
}

/* A send meets the refusal of an earlier datagram while a receive is in flight: the receive's it is. */
static void socket_lends_the_error_to_the_receive(void **state) {
        struct op *receive, *behind, *send;
        struct unit unit;

        unit_start(&unit, AF_INET, SOCK_DGRAM);
        receive = unit_post(&unit, 0, OVL_OP_RECVFROM);
        behind = unit_post(&unit, 1, OVL_OP_RECV);
        send = unit_post(&unit, 2, OVL_OP_SEND);
        unit_answer(&unit, send, -ECONNREFUSED);
        unit_expect_started(&unit, 3, send); /* once more */
        assert_ptr_equal(unit.cancelled, receive);
        assert_true(list_is_empty(&unit.ended));
        unit_answer(&unit, receive, -ECANCELED);
        unit_expect(&unit, receive, -ECONNREFUSED);
        unit_expect_started(&unit, 4, behind);
        unit_answer(&unit, send, 10);
        unit_expect(&unit, send, 0);
        unit_answer(&unit, behind, 10);
        unit_expect(&unit, behind, 0);
        unit_stop(&unit);
}

/* The receive was faster: it has its datagram, and the error is the next one's. */
static void socket_lends_the_error_to_the_next(void **state) {
        struct op *receive, *send, *next;
        struct unit unit;

        unit_start(&unit, AF_INET, SOCK_DGRAM);
        receive = unit_post(&unit, 0, OVL_OP_RECV);
        send = unit_post(&unit, 1, OVL_OP_SENDTO);
        unit_answer(&unit, send, -ECONNREFUSED);
        unit_answer(&unit, receive, 4);
        unit_expect(&unit, receive, 0);
        unit_answer(&unit, send, 10);
        unit_expect(&unit, send, 0);
        next = unit_post(&unit, 2, OVL_OP_RECV);
        unit_expect(&unit, next, -ECONNREFUSED);
        next = unit_post(&unit, 3, OVL_OP_RECV);
        unit_answer(&unit, next, 0);
        unit_expect(&unit, next, 0);
        unit_stop(&unit);
}

/* A send is tried again, not for ever; where no receive is posted each refusal waits for one; and a Unix socket speaks
 * of the send itself.
 */
static void socket_keeps_refusals_for_receives(void **state) {
        struct op *receive, *send;
        struct unit unit;

        unit_start(&unit, AF_INET, SOCK_DGRAM);
        send = unit_post(&unit, 0, OVL_OP_SEND);
        unit_answer(&unit, send, -ECONNREFUSED);
        unit_answer(&unit, send, -ECONNREFUSED);
        unit_answer(&unit, send, 10);
        unit_expect(&unit, send, 0);
        for (size_t i = 1; i <= 2; i++) {
                receive = unit_post(&unit, i, OVL_OP_RECV);
                unit_expect(&unit, receive, -ECONNREFUSED);
        }
        receive = unit_post(&unit, 3, OVL_OP_RECV);
        unit_answer(&unit, receive, -ECONNREFUSED);
        unit_expect(&unit, receive, -ECONNREFUSED);
        unit_stop(&unit);

        unit_start(&unit, AF_INET, SOCK_DGRAM);
        send = unit_post(&unit, 0, OVL_OP_SEND);
        for (size_t i = 0; send->state != OP_ENDED; i++) {
                assert_true(i < UNIT_OPS * 4);
                unit_answer(&unit, send, -ECONNREFUSED);
        }
        unit_expect(&unit, send, -ECONNREFUSED);
        unit_stop(&unit);

        unit_start(&unit, AF_UNIX, SOCK_DGRAM);
        receive = unit_post(&unit, 1, OVL_OP_RECV);
        send = unit_post(&unit, 2, OVL_OP_SEND);
        unit_answer(&unit, send, -ECONNREFUSED);
        unit_expect(&unit, send, -ECONNREFUSED);
        assert_null(unit.cancelled);
        unit_answer(&unit, receive, 0);
        unit_expect(&unit, receive, 0);
        unit_stop(&unit);
}

/* Who does not want to be told of refusals is not, and what was kept is forgotten. */
static void socket_forgets_refusals(void **state) {
        struct op *receive, *send;
        struct unit unit;

        unit_start(&unit, AF_INET, SOCK_DGRAM);
        send = unit_post(&unit, 0, OVL_OP_SEND);
        unit_answer(&unit, send, -ECONNREFUSED);
        unit_answer(&unit, send, 10);
        unit_expect(&unit, send, 0);
        assert_ok(refusals_set(&unit.socket, false));
        receive = unit_post(&unit, 1, OVL_OP_RECV);
        unit_answer(&unit, receive, -ECONNREFUSED);
        assert_true(list_is_empty(&unit.ended));
        send = unit_post(&unit, 2, OVL_OP_SEND);
        unit_answer(&unit, send, -ECONNREFUSED);
        unit_answer(&unit, send, 10);
        unit_expect(&unit, send, 0);
        assert_null(unit.cancelled);
        unit_answer(&unit, receive, 10);
        unit_expect(&unit, receive, 0);
        unit_stop(&unit);
}

/* A refusal that a send met is an error to a poll that looks for data, unless a receive is posted that is told of it.
 */
static void socket_polls_find_refusals(void **state) {
        struct op *poll, *other, *send, *receive;
        struct unit unit;

        unit_start(&unit, AF_INET, SOCK_DGRAM);
        poll = unit_post_poll(&unit, 0, OVL_POLL_IN);
        other = unit_post_poll(&unit, 1, OVL_POLL_OUT);
        send = unit_post(&unit, 2, OVL_OP_SEND);
        unit_answer(&unit, send, -ECONNREFUSED);
        assert_ptr_equal(unit.cancelled, poll);
        unit_answer(&unit, poll, -ECANCELED);
        unit_expect(&unit, poll, 0);
        assert_int_equal(poll->value, OVL_POLL_ERROR);
        unit_answer(&unit, send, 10);
        unit_expect(&unit, send, 0);
        poll = unit_post_poll(&unit, 3, OVL_POLL_IN);
        unit_expect(&unit, poll, 0);
        receive = unit_post(&unit, 4, OVL_OP_RECV);
        unit_expect(&unit, receive, -ECONNREFUSED);
        poll = unit_post_poll(&unit, 5, OVL_POLL_IN);
        assert_true(list_is_empty(&unit.ended));
        unit_answer(&unit, poll, POLLIN);
        unit_expect(&unit, poll, 0);
        unit_answer(&unit, other, POLLOUT);
        unit_expect(&unit, other, 0);
        unit_stop(&unit);
}

/* A receive that is cancelled meanwhile is cancelled, and the error waits. */
static void socket_lends_no_error_to_the_cancelled(void **state) {
        struct op *receive, *send, *next;
        struct unit unit;

        unit_start(&unit, AF_INET, SOCK_DGRAM);
        receive = unit_post(&unit, 0, OVL_OP_RECV);
        send = unit_post(&unit, 1, OVL_OP_SEND);
        unit_answer(&unit, send, -ECONNREFUSED);
        socket_cancel(&unit.socket, NULL, NULL, OVL_REASON_CANCELLED, NULL, &unit.ended);
        unit_answer(&unit, receive, -ECANCELED);
        unit_expect(&unit, receive, -ECANCELED);
        unit_answer(&unit, send, -ECANCELED);
        unit_expect(&unit, send, -ECANCELED);
        next = unit_post(&unit, 2, OVL_OP_RECV);
        unit_expect(&unit, next, -ECONNREFUSED);
        unit_stop(&unit);
}

/* Datagrams that wait together are as many requests, and errors of one break nothing. */
static void socket_merges_no_datagrams(void **state) {
        struct op *ops[4];
        struct unit unit;

        unit_start(&unit, AF_INET, SOCK_DGRAM);
        for (size_t i = 0; i < 4; i++)
                ops[i] = unit_post(&unit, i, i % 2 ? OVL_OP_SEND : OVL_OP_SENDTO);
        for (size_t i = 0; i < 4; i++) {
                unit_expect_started(&unit, i + 1, ops[i]);
                assert_int_equal(ops[i]->request.n_parts, 1);
                assert_true(ops[i]->request.is_message);
                unit_answer(&unit, ops[i], i == 1 ? -EHOSTUNREACH : i == 2 ? -EMSGSIZE : 10);
                unit_expect(&unit, ops[i], i == 1 ? -EHOSTUNREACH : i == 2 ? -EMSGSIZE : 0);
        }
        unit_stop(&unit);
}

/* What is there but was not asked for does not end a poll: it looks again. */
static void socket_polls_are_exact(void **state) {
        static const struct {
                uint32_t asked, answer, told; /* told: 0: started again */
        } cases[] = {
                { OVL_POLL_IN, POLLIN, OVL_POLL_IN },
                { OVL_POLL_IN, POLLOUT, 0 },
                { OVL_POLL_OUT, POLLOUT | POLLIN, OVL_POLL_OUT },
                { OVL_POLL_OUT, POLLRDHUP, OVL_POLL_HUP },
                { 0, POLLERR | POLLHUP, OVL_POLL_ERROR | OVL_POLL_HUP },
                { OVL_POLL_PRIORITY, POLLPRI, OVL_POLL_PRIORITY },
                { OVL_POLL_IN, 0, 0 },
        };
        struct unit unit;
        struct op *poll;

        unit_start(&unit, AF_INET, SOCK_STREAM);
        for (size_t i = 0; i < HARNESS_N(cases); i++) {
                poll = &unit.ops[i];
                *poll = (struct op){ .code = OVL_OP_POLL, .events = cases[i].asked };
                list_init(&poll->link);
                unit.n_started = 0;
                socket_post(&unit.socket, poll, &unit.ended);
                assert_int_equal(poll->request.kind, REQUEST_POLL);
                unit_answer(&unit, poll, (int32_t) cases[i].answer);
                if (cases[i].told == 0) {
                        unit_expect_started(&unit, 2, poll);
                        socket_cancel(&unit.socket, NULL, NULL, OVL_REASON_CANCELLED, NULL, &unit.ended);
                        assert_ptr_equal(unit.cancelled, poll);
                        unit_answer(&unit, poll, -ECANCELED);
                }
                unit_expect(&unit, poll, cases[i].told ? 0 : -ECANCELED);
                assert_int_equal(poll->value, cases[i].told);
        }
        unit_stop(&unit);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "lends-the-error-to-the-receive", socket_lends_the_error_to_the_receive },
                { "lends-the-error-to-the-next", socket_lends_the_error_to_the_next },
                { "keeps-refusals-for-receives", socket_keeps_refusals_for_receives },
                { "forgets-refusals", socket_forgets_refusals },
                { "polls-find-refusals", socket_polls_find_refusals },
                { "lends-no-error-to-the-cancelled", socket_lends_no_error_to_the_cancelled },
                { "merges-no-datagrams", socket_merges_no_datagrams },
                { "polls-are-exact", socket_polls_are_exact },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
