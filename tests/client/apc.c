/* SPDX-License-Identifier: Apache-2.0 */

/* APCs: the order in which they run among completion routines, who is woken, and what another process may ask for. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/client/fake.h"

#define APC_PATIENCE (20 * NS_PER_S)
#define APC_LOG_MAX 64u

struct apc_case {
        struct fake fake;
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        pthread_t owner;
        uint64_t log[APC_LOG_MAX]; /* what ran, in order: the arguments of APCs, the bytes of operations */
        size_t n_log;
        size_t n_posted;
        uint64_t n_left;
        void *frame; /* of the stack of the first APC */
};

/* APCs find their case here: the argument of one that comes from another process is just a number. */
static __thread struct apc_case *apc_current;

static void apc_start(struct apc_case *c) {
        fake_start(&c->fake);
        fake_open(&c->fake, &c->session, &c->thread, 65536, &c->region);
        c->owner = pthread_self();
        apc_current = c;
}

static void apc_stop(struct apc_case *c) {
        ovl_region_close(c->thread, c->region);
        ovl_thread_close(c->thread);
        ovl_session_free(c->session);
        fake_stop(&c->fake);
        unlink(c->fake.path);
}

static void apc_log(struct ovl_thread *thread, uint64_t argument) {
        struct apc_case *c = apc_current;

        assert_non_null(c);
        assert_true(pthread_equal(c->owner, pthread_self()));
        assert_ptr_equal(thread, c->thread);
        assert_true(c->n_log < APC_LOG_MAX);
        c->log[c->n_log++] = argument;
}

static void apc_routine(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        apc_log(thread, overlapped->bytes);
}

static void apc_post(struct apc_case *c, uint64_t socket, struct ovl_overlapped *overlapped,
                     void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct ovl_buffer buffer = { ovl_region_data(c->region), 100 };

        assert_int_equal(ovl_recv(c->thread, socket, &buffer, 1, 0, overlapped, routine), OVL_PENDING);
        fake_wait_entries(&c->fake, ++c->n_posted);
}

/* A record of an APC that an honest daemon may send. */
static struct ovl_record apc_record(struct apc_case *c, uint64_t function, uint64_t argument) {
        return (struct ovl_record){
                .tag = function,
                .thread = ovl_thread_number(c->thread),
                .sequence = ++c->fake.n_records,
                .value = argument,
                .kind = OVL_RECORD_APC,
        };
}

static void apc_expect_log(struct apc_case *c, const uint64_t *log, size_t n) {
        assert_int_equal(c->n_log, n);
        assert_memory_equal(c->log, log, n * sizeof(*log));
        c->n_log = 0;
}

/* --- APCs of the program ---------------------------------------------------------------------------------------- */

/* SEMANTICS 4.5: first in, first out, over all sources; what had ended before stands in front although nobody read it.
 */
static void apc_order(void **state) {
        struct apc_case c = { 0 };
        struct ovl_overlapped ops[3] = { 0 };
        struct pollfd look = { .events = POLLIN };

        apc_start(&c);
        look.fd = ovl_thread_fd(c.thread);
        for (size_t i = 0; i < 3; i++)
                apc_post(&c, i, &ops[i], apc_routine);
        assert_ok(ovl_apc_queue(c.thread, apc_log, 100));
        for (size_t i = 0; i < 3; i++) {
                fake_complete(&c.fake, i, 0, i + 1);
                assert_int_equal(poll(&look, 1, 10000), 1);
                assert_ok(ovl_apc_queue(c.thread, apc_log, 101 + i));
        }
        assert_int_equal(c.n_log, 0);
        assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
        apc_expect_log(&c, (uint64_t[]){ 100, 1, 101, 2, 102, 3, 103 }, 7);
        assert_int_equal(ovl_sleep(c.thread, 0), 0);
        apc_stop(&c);
}

/* 4.1, 5.7: only in alertable waits; 4.14: a function that is none runs nothing and ends no wait. */
static void apc_where(void **state) {
        struct apc_case c = { 0 };
        struct ovl_overlapped op = { 0 };

        apc_start(&c);
        apc_post(&c, 1, &op, NULL);
        assert_ok(ovl_apc_queue(c.thread, apc_log, 1));
        assert_int_equal(ovl_wait(c.thread, &op, 0, 0), -ETIMEDOUT);
        assert_int_equal(ovl_dispatch(c.thread), 0);
        fake_complete(&c.fake, 0, 0, 5);
        assert_int_equal(ovl_wait(c.thread, &op, APC_PATIENCE, 0), 0);
        assert_int_equal(c.n_log, 0);
        assert_int_equal(ovl_wait(c.thread, &op, APC_PATIENCE, 1), OVL_ALERTED);
        apc_expect_log(&c, (uint64_t[]){ 1 }, 1);
        assert_ok(ovl_apc_queue(c.thread, NULL, 2));
        assert_int_equal(ovl_sleep(c.thread, NS_PER_MS), 0);
        apc_stop(&c);
}

/* Waits alertably, once for each APC, inside of a routine. */
static void apc_waiting_routine(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        apc_log(thread, 1000 + overlapped->bytes);
        ovl_sleep(thread, 0);
        apc_log(thread, 2000 + overlapped->bytes);
}

/* 4.7: inside a routine's wait APCs may run, and routines of other sockets; those of its own socket wait. */
static void apc_within_routines(void **state) {
        struct apc_case c = { 0 };
        struct ovl_overlapped ops[3] = { 0 };

        apc_start(&c);
        apc_post(&c, 1, &ops[0], apc_waiting_routine);
        apc_post(&c, 1, &ops[1], apc_routine);
        apc_post(&c, 2, &ops[2], apc_routine);
        for (size_t i = 0; i < 3; i++)
                fake_complete(&c.fake, i, 0, i + 1);
        assert_int_equal(ovl_wait(c.thread, &ops[2], APC_PATIENCE, 0), 0);
        assert_ok(ovl_apc_queue(c.thread, apc_log, 77));
        assert_int_equal(ovl_sleep(c.thread, 0), OVL_ALERTED);
        apc_expect_log(&c, (uint64_t[]){ 1001, 3, 77, 2001, 2 }, 5);
        apc_stop(&c);
}

static void apc_again(struct ovl_thread *thread, uint64_t argument) {
        struct apc_case *c = apc_current;
        /* Not the address of a variable: the address sanitizer keeps those elsewhere. */
        void *frame = __builtin_frame_address(0);

        if (!c->frame)
                c->frame = frame;
        assert_ptr_equal(c->frame, frame);
        if (--c->n_left > 0)
                assert_ok(ovl_apc_queue(thread, apc_again, argument));
}

/* 4.6, 4.8: one wait runs also what is queued meanwhile, at a constant depth of the stack. */
static void apc_queues_itself(void **state) {
        struct apc_case c = { .n_left = 100000 };

        apc_start(&c);
        assert_ok(ovl_apc_queue(c.thread, apc_again, 0));
        assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
        assert_int_equal(c.n_left, 0);
        assert_int_equal(ovl_sleep(c.thread, 0), 0);
        apc_stop(&c);
}

/* 5.6: a thread that has not yet taken from the port runs its APCs first; one that has takes packets that are there. */
static void apc_and_packets(void **state) {
        struct ovl_packet packet = { .key = 5 }, taken[4];
        struct apc_case c = { 0 };
        struct ovl_port *port;
        size_t n = 99;

        apc_start(&c);
        assert_ok(ovl_port_open(c.session, 0, &port, NULL));
        assert_int_equal(ovl_port_wait_alertable(port, c.thread, taken, 0, 0, &n), -EINVAL);
        assert_int_equal(ovl_port_wait_alertable(port, c.thread, taken, 4, NS_PER_MS, &n), -ETIMEDOUT);
        assert_ok(ovl_port_post(port, &packet));
        assert_ok(ovl_apc_queue(c.thread, apc_log, 1));
        assert_int_equal(ovl_port_wait_alertable(port, c.thread, taken, 4, OVL_INFINITE, &n), OVL_ALERTED);
        apc_expect_log(&c, (uint64_t[]){ 1 }, 1);
        /* That did not make it one that takes from the port. */
        assert_ok(ovl_apc_queue(c.thread, apc_log, 2));
        assert_int_equal(ovl_port_wait_alertable(port, c.thread, taken, 4, 0, &n), OVL_ALERTED);
        apc_expect_log(&c, (uint64_t[]){ 2 }, 1);
        assert_int_equal(n, 99);
        assert_int_equal(ovl_port_wait_alertable(port, c.thread, taken, 4, 0, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(taken[0].key, 5);
        assert_ok(ovl_port_post(port, &packet));
        assert_ok(ovl_port_post(port, &packet));
        assert_ok(ovl_apc_queue(c.thread, apc_log, 3));
        assert_int_equal(ovl_port_wait_alertable(port, c.thread, taken, 4, OVL_INFINITE, &n), 0);
        assert_int_equal(n, 2);
        assert_int_equal(c.n_log, 0);
        /* 5.7: not in the wait that is not alertable. Without a packet they run, and it stays one that takes. */
        assert_int_equal(ovl_port_wait(port, c.thread, taken, 4, 0), -ETIMEDOUT);
        assert_int_equal(c.n_log, 0);
        assert_int_equal(ovl_port_wait_alertable(port, c.thread, taken, 4, OVL_INFINITE, &n), OVL_ALERTED);
        apc_expect_log(&c, (uint64_t[]){ 3 }, 1);
        assert_ok(ovl_port_post(port, &packet));
        assert_ok(ovl_apc_queue(c.thread, apc_log, 4));
        assert_int_equal(ovl_port_wait_alertable(port, c.thread, taken, 4, 0, &n), 0);
        ovl_port_close(port);
        apc_stop(&c);
}

/* --- Several threads -------------------------------------------------------------------------------------------- */

#define APC_SENDERS 4u
#define APC_EACH 5000u

struct apc_crowd {
        struct ovl_thread *thread;
        uint64_t next[APC_SENDERS]; /* what each sender is expected to send next */
        uint64_t n;
};

static __thread struct apc_crowd *apc_crowd;

static void apc_check_turn(struct ovl_thread *thread, uint64_t argument) {
        assert_int_equal(argument & UINT32_MAX, apc_crowd->next[argument >> 32]);
        apc_crowd->next[argument >> 32]++;
        apc_crowd->n++;
}

struct apc_sender {
        struct apc_crowd *crowd;
        uint64_t index;
        pthread_t thread;
};

static void *apc_send(void *argument) {
        struct apc_sender *sender = argument;

        for (uint64_t i = 0; i < APC_EACH; i++)
                assert_ok(ovl_apc_queue(sender->crowd->thread, apc_check_turn, sender->index << 32 | i));
        return NULL;
}

/* Any thread of the program queues; the target sleeps and is woken, misses none and keeps each sender's order. */
static void apc_from_many(void **state) {
        struct apc_case c = { 0 };
        struct apc_crowd crowd = { 0 };
        struct apc_sender senders[APC_SENDERS];

        apc_start(&c);
        crowd.thread = c.thread;
        apc_crowd = &crowd;
        for (size_t i = 0; i < APC_SENDERS; i++) {
                senders[i] = (struct apc_sender){ .crowd = &crowd, .index = i };
                assert_int_equal(pthread_create(&senders[i].thread, NULL, apc_send, &senders[i]), 0);
        }
        while (crowd.n < APC_SENDERS * APC_EACH)
                assert_int_equal(ovl_sleep(c.thread, APC_PATIENCE), OVL_ALERTED);
        for (size_t i = 0; i < APC_SENDERS; i++)
                pthread_join(senders[i].thread, NULL);
        apc_stop(&c);
}

/* A thread that closes itself, which takes until the daemon answers. */
struct apc_closer {
        struct apc_case *c;
        pthread_t thread;
        struct ovl_thread *own;
        struct ovl_overlapped op;
        unsigned is_open;
};

static void apc_never(struct ovl_thread *thread, uint64_t argument) {
        fail_msg("an APC ran in a thread that was closed");
}

static void *apc_close(void *argument) {
        struct apc_closer *closer = argument;
        struct ovl_buffer buffer = { ovl_region_data(closer->c->region), 1 };

        assert_ok(ovl_thread_open(closer->c->session, &closer->own, NULL));
        assert_int_equal(ovl_recv(closer->own, 1, &buffer, 1, 0, &closer->op, NULL), OVL_PENDING);
        assert_ok(ovl_apc_queue(closer->own, apc_never, 0));
        __atomic_store_n(&closer->is_open, 1, __ATOMIC_RELEASE);
        ovl_thread_close(closer->own);
        return NULL;
}

/* 4.13: what a thread has not run when it is closed is dropped; meanwhile queueing to it is refused. */
static void apc_closing(void **state) {
        struct apc_case c = { .fake = { .mute = OVERLAPD__REQUEST__WHAT_CANCEL } };
        struct apc_closer closer = { .c = &c };

        apc_start(&c);
        assert_int_equal(pthread_create(&closer.thread, NULL, apc_close, &closer), 0);
        fake_wait_requests(&c.fake, OVERLAPD__REQUEST__WHAT_CANCEL, 1);
        assert_int_equal(__atomic_load_n(&closer.is_open, __ATOMIC_ACQUIRE), 1);
        assert_int_equal(ovl_apc_queue(closer.own, apc_never, 0), -ESRCH);
        assert_int_equal(ovl_apc_queue(closer.own, NULL, 0), -ESRCH);
        fake_hang_up(&c.fake, 0);
        assert_int_equal(ovl_sleep(c.thread, APC_PATIENCE), -ECONNABORTED);
        assert_int_equal(pthread_join(closer.thread, NULL), 0);
        apc_stop(&c);
}

/* What is queued runs although the daemon is lost. */
static void apc_daemon_gone(void **state) {
        struct apc_case c = { 0 };

        apc_start(&c);
        fake_hang_up(&c.fake, 0);
        assert_int_equal(ovl_sleep(c.thread, APC_PATIENCE), -ECONNABORTED);
        assert_ok(ovl_apc_queue(c.thread, apc_log, 3));
        assert_int_equal(ovl_sleep(c.thread, APC_PATIENCE), OVL_ALERTED);
        apc_expect_log(&c, (uint64_t[]){ 3 }, 1);
        assert_int_equal(ovl_sleep(c.thread, APC_PATIENCE), -ECONNABORTED);
        apc_stop(&c);
}

/* --- APCs of other processes ------------------------------------------------------------------------------------ */

/* 4.5, 18.2: in their place among the completions, with the exact argument. */
static void apc_remote(void **state) {
        struct apc_case c = { 0 };
        struct ovl_overlapped ops[2] = { 0 };
        struct ovl_record records[4];

        apc_start(&c);
        assert_ok(ovl_function_register(c.thread, 7, apc_log));
        for (size_t i = 0; i < 2; i++)
                apc_post(&c, i, &ops[i], apc_routine);
        records[0] = apc_record(&c, 7, UINT64_MAX);
        records[1] = fake_record(&c.fake, 0, 0, 1);
        records[2] = apc_record(&c, 7, 0);
        records[3] = fake_record(&c.fake, 1, 0, 2);
        fake_send_records(&c.fake, 0, records, 4);
        assert_int_equal(ovl_wait(c.thread, &ops[1], APC_PATIENCE, 0), 0);
        assert_ok(ovl_apc_queue(c.thread, apc_log, 50));
        assert_int_equal(ovl_sleep(c.thread, 0), OVL_ALERTED);
        apc_expect_log(&c, (uint64_t[]){ UINT64_MAX, 1, 0, 2, 50 }, 5);
        apc_stop(&c);
}

static void apc_other(struct ovl_thread *thread, uint64_t argument) {
        apc_log(thread, argument + 1000);
}

/* Numbers: registered again, unknown, taken back before the APC ran. */
static void apc_functions(void **state) {
        struct apc_case c = { 0 };
        struct ovl_record records[3];
        struct pollfd look = { .events = POLLIN };

        apc_start(&c);
        look.fd = ovl_thread_fd(c.thread);
        for (uint64_t i = 0; i < 100; i++)
                assert_ok(ovl_function_register(c.thread, i * 37 % 100, apc_log));
        assert_ok(ovl_function_register(c.thread, 50, apc_other));
        fake_wait_requests(&c.fake, OVERLAPD__REQUEST__WHAT_FUNCTION_REGISTER, 100);
        records[0] = apc_record(&c, 49, 1);
        records[1] = apc_record(&c, 50, 2);
        records[2] = apc_record(&c, 100, 3);
        fake_send_records(&c.fake, 0, records, 3);
        assert_int_equal(ovl_sleep(c.thread, APC_PATIENCE), OVL_ALERTED);
        apc_expect_log(&c, (uint64_t[]){ 1, 1002 }, 2);

        fake_send_records(&c.fake, 0, records, 3);
        assert_int_equal(poll(&look, 1, 10000), 1);
        assert_int_equal(ovl_dispatch(c.thread), 0);
        assert_ok(ovl_function_register(c.thread, 49, NULL));
        assert_int_equal(ovl_sleep(c.thread, APC_PATIENCE), OVL_ALERTED);
        apc_expect_log(&c, (uint64_t[]){ 1002 }, 1);
        assert_ok(ovl_function_register(c.thread, 50, NULL));
        fake_send_records(&c.fake, 0, records, 3);
        assert_int_equal(poll(&look, 1, 10000), 1);
        assert_int_equal(ovl_sleep(c.thread, NS_PER_MS), 0);
        apc_stop(&c);
}

/* A number that the daemon does not accept is not known here either. */
static void apc_refused_function(void **state) {
        struct apc_case c = { .fake = { .refuse = OVERLAPD__REQUEST__WHAT_FUNCTION_REGISTER,
                                        .refuse_status = -EDQUOT,
                                        .refuse_reason = OVL_REASON_QUOTA,
                                        .refuse_text = "too many" } };
        struct ovl_record record;

        apc_start(&c);
        assert_int_equal(ovl_function_register(c.thread, 7, apc_log), -EDQUOT);
        assert_int_equal(ovl_thread_error(c.thread)->reason, OVL_REASON_QUOTA);
        record = apc_record(&c, 7, 1);
        fake_send_records(&c.fake, 0, &record, 1);
        assert_int_equal(ovl_sleep(c.thread, 20 * NS_PER_MS), 0);
        apc_stop(&c);
}

static void apc_tally(struct ovl_thread *thread, uint64_t argument) {
        /* Those that are kept are the first ones, in their order. */
        assert_int_equal(argument, apc_current->n_left);
        apc_current->n_left++;
}

/* Others flood a thread that never runs them: what it keeps is bounded, and the completions behind them come. */
static void apc_flood(void **state) {
        struct apc_case c = { 0 };
        struct ovl_overlapped op = { 0 };
        struct ovl_record records[1000];

        apc_start(&c);
        assert_ok(ovl_function_register(c.thread, 7, apc_tally));
        apc_post(&c, 1, &op, NULL);
        for (size_t k = 0; k < 20; k++) {
                for (size_t i = 0; i < 1000; i++)
                        records[i] = apc_record(&c, 7, k * 1000 + i);
                fake_send_records(&c.fake, 0, records, 1000);
                assert_ok(ovl_dispatch(c.thread));
        }
        fake_complete(&c.fake, 0, 0, 5);
        assert_int_equal(ovl_wait(c.thread, &op, APC_PATIENCE, 0), 0);
        assert_int_equal(ovl_sleep(c.thread, 0), OVL_ALERTED);
        assert_int_equal(c.n_left, 16384);
        /* There is room again. */
        records[0] = apc_record(&c, 7, 16384);
        fake_send_records(&c.fake, 0, records, 1);
        assert_int_equal(ovl_sleep(c.thread, APC_PATIENCE), OVL_ALERTED);
        assert_int_equal(c.n_left, 16385);
        apc_stop(&c);
}

/* --- Handles ---------------------------------------------------------------------------------------------------- */

/* A session's first thread hands its channel and number on: its handles are closed with it. */
static void apc_handles(void **state) {
        struct apc_case c = { 0 };
        struct ovl_thread_handle handle = { { 0 } }, other;
        struct ovl_thread *second;

        apc_start(&c);
        assert_ok(ovl_thread_open(c.session, &second, NULL));
        assert_ok(ovl_thread_handle_open(second, &other));
        assert_ok(ovl_thread_handle_open(c.thread, &handle));
        assert_memory_equal(handle.bytes, "0123456789abcdef", 16);
        assert_ok(ovl_thread_handle_give(c.thread, &handle, 78));
        assert_ok(ovl_apc_queue_remote(c.thread, &handle, 7, 1));
        ovl_thread_close(second);
        ovl_region_close(c.thread, c.region);
        ovl_thread_close(c.thread);
        fake_wait_requests(&c.fake, OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_CLOSE, 1);
        assert_ok(ovl_thread_open(c.session, &c.thread, NULL));
        assert_ok(ovl_region_open(c.thread, 4096, &c.region));
        /* One that was closed by the program is not closed again. */
        assert_ok(ovl_thread_handle_open(c.thread, &handle));
        assert_ok(ovl_thread_handle_close(c.thread, &handle));
        apc_stop(&c);
        assert_int_equal(c.fake.n_requests[OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_CLOSE], 2);
}

static void apc_bad_handle(void **state) {
        struct apc_case c = { .fake = { .handle_len = 15 } };
        struct ovl_thread_handle handle;

        apc_start(&c);
        assert_int_equal(ovl_thread_handle_open(c.thread, &handle), -EPROTO);
        apc_stop(&c);
}

/* --- What no honest daemon sends -------------------------------------------------------------------------------- */

static void apc_hostile(void **state) {
        struct ovl_record record;

#define APC_SPOIL(change, text_part)                                                                                   \
        do {                                                                                                           \
                struct apc_case c = { 0 };                                                                             \
                                                                                                                       \
                apc_start(&c);                                                                                         \
                assert_ok(ovl_function_register(c.thread, 7, apc_never));                                              \
                record = apc_record(&c, 7, 1);                                                                         \
                change;                                                                                                \
                fake_send_records(&c.fake, 0, &record, 1);                                                             \
                assert_int_equal(ovl_sleep(c.thread, APC_PATIENCE), -ECONNABORTED);                                    \
                assert_non_null(strstr(ovl_thread_error(c.thread)->text, text_part));                                  \
                apc_stop(&c);                                                                                          \
        } while (0)
        APC_SPOIL(record.thread++, "an APC ");
        APC_SPOIL(record.key = 1, "an APC ");
        APC_SPOIL(record.bytes = 1, "an APC ");
        APC_SPOIL(record.status = -1, "an APC ");
        APC_SPOIL(record.flags = OVL_RECORD_PORT, "an APC ");
        APC_SPOIL(record.reason = 1, "an APC ");
        APC_SPOIL(record.op = OVL_OP_RECV, "an APC ");
        APC_SPOIL(record.indication = OVL_INDICATE_ROUTINE, "an APC ");
        APC_SPOIL(record.reserved = 1, "an APC ");
        APC_SPOIL(record.payload_len = 1, "length is not that of its records");
#undef APC_SPOIL
}

static void apc_hostile_port(void **state) {
        struct apc_case c = { 0 };
        struct ovl_record record;
        struct ovl_port *port;

        apc_start(&c);
        assert_ok(ovl_function_register(c.thread, 7, apc_never));
        assert_ok(ovl_port_open(c.session, 0, &port, NULL));
        record = apc_record(&c, 7, 1);
        fake_send_records(&c.fake, 1, &record, 1);
        assert_int_equal(ovl_port_wait(port, c.thread, &(struct ovl_packet){ 0 }, 1, APC_PATIENCE), -ECONNABORTED);
        ovl_port_close(port);
        apc_stop(&c);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "order", apc_order, 0 },
                { "where", apc_where, 0 },
                { "within-routines", apc_within_routines, 0 },
                { "queues-itself", apc_queues_itself, 120 },
                { "and-packets", apc_and_packets, 0 },
                { "from-many", apc_from_many, 120 },
                { "closing", apc_closing, 0 },
                { "daemon-gone", apc_daemon_gone, 0 },
                { "remote", apc_remote, 0 },
                { "functions", apc_functions, 0 },
                { "refused-function", apc_refused_function, 0 },
                { "flood", apc_flood, 0 },
                { "handles", apc_handles, 0 },
                { "bad-handle", apc_bad_handle, 0 },
                { "hostile", apc_hostile, 0 },
                { "hostile-port", apc_hostile_port, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
