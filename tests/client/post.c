/* SPDX-License-Identifier: Apache-2.0 */

/* Posting: what the entries say, what is refused before they are sent, verdicts, and a daemon that does not read. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/client/fake.h"

#define POST_SIZE (1u << 20)

/* What every case here begins with. */
struct post_case {
        struct fake fake;
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        uint8_t *data;
        unsigned n_ran;
};

static void post_start(struct post_case *c) {
        fake_start(&c->fake);
        fake_open(&c->fake, &c->session, &c->thread, POST_SIZE, &c->region);
        c->data = ovl_region_data(c->region);
}

static void post_stop(struct post_case *c) {
        assert_ok(ovl_region_close(c->thread, c->region));
        ovl_thread_close(c->thread);
        ovl_session_free(c->session);
        fake_stop(&c->fake);
}

static void post_ran(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct post_case *c = overlapped->user;

        c->n_ran++;
}

static int post_recv(struct post_case *c, struct ovl_overlapped *overlapped, unsigned flags) {
        struct ovl_buffer buffer = { c->data, 100 };

        return ovl_recv(c->thread, 5, &buffer, 1, flags, overlapped, NULL);
}

/* Ends operations and takes the records in as they come: an unread connection holds few. */
static void post_end(struct post_case *c, size_t from, size_t to, uint64_t bytes) {
        for (size_t i = from; i < to; i++) {
                fake_complete(&c->fake, i, 0, bytes);
                if (i % 100 == 0)
                        assert_ok(ovl_dispatch(c->thread));
        }
}

static void post_entries(void **state) {
        struct post_case c = { 0 };
        struct ovl_overlapped recv = { 0 }, send = { 0 }, accept = { 0 }, connect = { 0 }, empty = { 0 };
        struct sockaddr_in6 address = { .sin6_family = AF_INET6,
                                        .sin6_port = htons(80),
                                        .sin6_addr = in6addr_loopback };
        struct ovl_buffer buffer;
        struct ovl_entry entry;

        post_start(&c);
        buffer = (struct ovl_buffer){ c.data + 4096, 1000 };
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, OVL_PEEK | OVL_QUIET, &recv, NULL), OVL_PENDING);
        assert_int_equal(ovl_result(&recv), -EINPROGRESS);
        entry = fake_wait_entries(&c.fake, 1)->entry;
        assert_int_equal(entry.op, OVL_OP_RECV);
        assert_int_equal(entry.socket, 5);
        assert_int_equal(entry.n_slots, 1);
        assert_int_equal(entry.op_flags, OVL_MESSAGE_PEEK);
        assert_int_equal(entry.indication, OVL_INDICATE_QUIET);
        assert_int_equal(entry.buffer.offset, 4096);
        assert_int_equal(entry.buffer.len, 1000);
        assert_int_equal(entry.buffer.region, 1);

        assert_int_equal(ovl_send(c.thread, 6, &buffer, 1, 0, &send, post_ran), OVL_PENDING);
        entry = fake_wait_entries(&c.fake, 2)->entry;
        assert_int_equal(entry.op, OVL_OP_SEND);
        assert_int_equal(entry.indication, OVL_INDICATE_ROUTINE);

        assert_int_equal(ovl_accept(c.thread, 7, 0, &accept, NULL), OVL_PENDING);
        entry = fake_wait_entries(&c.fake, 3)->entry;
        assert_int_equal(entry.op, OVL_OP_ACCEPT);
        assert_int_equal(entry.indication, OVL_INDICATE_PLAIN);

        assert_int_equal(ovl_connect(c.thread, 8, (struct sockaddr *) &address, sizeof(address), 0, &connect, NULL),
                         OVL_PENDING);
        entry = fake_wait_entries(&c.fake, 4)->entry;
        assert_int_equal(entry.n_slots, 2);
        assert_int_equal(entry.address.family, OVL_FAMILY_INET6);
        assert_int_equal(entry.address.port, 80);
        assert_memory_equal(entry.address.host, &in6addr_loopback, 16);

        buffer = (struct ovl_buffer){ NULL, 0 };
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, 0, &empty, NULL), OVL_PENDING);
        entry = fake_wait_entries(&c.fake, 5)->entry;
        assert_int_equal(entry.buffer.region, 0);
        assert_int_equal(entry.buffer.len, 0);

        fake_complete(&c.fake, 0, 0, 1000);
        assert_int_equal(ovl_wait(c.thread, &recv, OVL_INFINITE, 0), 0);
        assert_int_equal(recv.bytes, 1000);
        /* The others are cancelled by the thread that ends. */
        ovl_region_close(c.thread, c.region);
        ovl_thread_close(c.thread);
        assert_int_equal(ovl_result(&send), -ECANCELED);
        assert_int_equal(ovl_result(&accept), -ECANCELED);
        assert_int_equal(ovl_result(&connect), -ECANCELED);
        assert_int_equal(ovl_result(&empty), -ECANCELED);
        assert_int_equal(c.n_ran, 0);
        ovl_session_free(c.session);
        fake_stop(&c.fake);
}

static void post_vectors(void **state) {
        enum {
                N = 300
        };
        struct post_case c = { .fake = { .credits = N } };
        static struct ovl_overlapped ops[N];
        struct ovl_buffer buffers[65];
        struct ovl_entry entry;

        memset(ops, 0, sizeof(ops));
        post_start(&c);
        for (size_t i = 0; i < 65; i++)
                buffers[i] = (struct ovl_buffer){ c.data + i * 1000, i % 5 };
        assert_int_equal(ovl_send(c.thread, 5, buffers, 65, 0, &ops[0], NULL), -EMSGSIZE);
        /* More in flight than one arena of arrays has places. */
        for (size_t i = 0; i < N; i++)
                assert_int_equal(ovl_send(c.thread, 5, buffers, 64, 0, &ops[i], NULL), OVL_PENDING);
        entry = fake_wait_entries(&c.fake, N)->entry;
        assert_int_equal(entry.flags, OVL_ENTRY_VECTOR);
        assert_int_equal(entry.buffer.len, 51 * sizeof(struct ovl_slice)); /* those of 0 bytes are left out */
        assert_int_not_equal(entry.buffer.region, 1);
        post_end(&c, 0, N, 126);
        for (size_t i = 0; i < N; i++) {
                assert_int_equal(ovl_wait(c.thread, &ops[i], OVL_INFINITE, 0), 0);
                assert_int_equal(ops[i].bytes, 126);
        }
        /* The places are free again. */
        for (size_t i = 0; i < N; i++)
                assert_int_equal(ovl_send(c.thread, 5, buffers, 64, 0, &ops[i], NULL), OVL_PENDING);
        fake_wait_entries(&c.fake, 2 * N);
        assert_int_equal(c.fake.n_regions, 3);
        post_stop(&c);
}

static void post_refusals(void **state) {
        struct post_case c = { .fake = { .credits = 2 } };
        struct ovl_overlapped a = { 0 }, b = { 0 }, d = { 0 };
        struct ovl_buffer buffer;
        struct sockaddr_in address = { .sin_family = AF_INET };
        char elsewhere[16];

        post_start(&c);
        buffer = (struct ovl_buffer){ elsewhere, sizeof(elsewhere) };
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, 0, &a, NULL), -EFAULT);
        assert_non_null(strstr(ovl_thread_error(c.thread)->text, "ovl_region_data"));
        buffer = (struct ovl_buffer){ c.data + POST_SIZE - 10, 11 };
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, 0, &a, NULL), -EFAULT);
        buffer = (struct ovl_buffer){ c.data - 1, 1 };
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, 0, &a, NULL), -EFAULT);
        buffer = (struct ovl_buffer){ c.data, SIZE_MAX };
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, 0, &a, NULL), -EMSGSIZE);
        buffer = (struct ovl_buffer){ c.data, 1 };
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 0, 0, &a, NULL), -EINVAL);
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, 0x10, &a, NULL), -EOPNOTSUPP);
        assert_int_equal(ovl_send(c.thread, 5, &buffer, 1, OVL_PEEK, &a, NULL), -EOPNOTSUPP);
        assert_int_equal(ovl_accept(c.thread, 5, 0, NULL, NULL), -EINVAL);
        assert_int_equal(ovl_connect(c.thread, 5, (struct sockaddr *) &address, 4, 0, &a, NULL), -EINVAL);
        assert_int_equal(ovl_connect(c.thread, 5, NULL, 0, 0, &a, NULL), -EINVAL);
        assert_int_equal(ovl_uncork(c.thread), -EINVAL);

        assert_int_equal(post_recv(&c, &a, 0), OVL_PENDING);
        assert_int_equal(post_recv(&c, &a, 0), -EBUSY);
        assert_int_equal(post_recv(&c, &b, 0), OVL_PENDING);
        assert_int_equal(post_recv(&c, &d, 0), -ENOBUFS);
        assert_int_equal(ovl_thread_error(c.thread)->reason, OVL_REASON_CREDITS);
        fake_wait_entries(&c.fake, 2);
        fake_complete(&c.fake, 0, 0, 1);
        assert_int_equal(ovl_wait(c.thread, &a, OVL_INFINITE, 0), 0);
        assert_int_equal(post_recv(&c, &d, 0), OVL_PENDING);
        assert_int_equal(post_recv(&c, &a, 0), -ENOBUFS);
        post_stop(&c);
}

static void post_corks(void **state) {
        struct post_case c = { .fake = { .credits = 4096 } };
        static struct ovl_overlapped ops[4000];
        uint64_t socket;

        memset(ops, 0, sizeof(ops));
        post_start(&c);
        ovl_cork(c.thread);
        ovl_cork(c.thread);
        for (size_t i = 0; i < 10; i++)
                assert_int_equal(post_recv(&c, &ops[i], 0), OVL_PENDING);
        assert_int_equal(ovl_uncork(c.thread), 0);
        assert_int_equal(c.fake.n_entries, 0);
        assert_int_equal(ovl_uncork(c.thread), 0);
        assert_int_equal(fake_wait_entries(&c.fake, 10)->n_frame, 1);
        /* A request pulls the cork for what was posted before it; a frame that is full leaves by itself. */
        ovl_cork(c.thread);
        for (size_t i = 10; i < 4000; i++)
                assert_int_equal(post_recv(&c, &ops[i], 0), OVL_PENDING);
        assert_ok(ovl_socket_open(c.thread, AF_INET, SOCK_STREAM, &socket));
        assert_int_equal(c.fake.n_entries, 4000);
        assert_int_equal(fake_wait_entries(&c.fake, 4000)->n_frame, 3);
        ovl_uncork(c.thread);
        post_stop(&c);
}

/* --- Verdicts --------------------------------------------------------------------------------------------------- */

static struct ovl_record post_refusal(struct post_case *c, size_t n) {
        struct ovl_record record = fake_record(&c->fake, n, -EBADF, 0);

        record.flags = OVL_RECORD_REFUSED | OVL_RECORD_IMMEDIATE;
        record.reason = OVL_REASON_UNKNOWN_SOCKET;
        return record;
}

static void post_refused_later(void **state) {
        struct post_case c = { 0 };
        struct ovl_overlapped plain = { 0 }, routine = { .user = &c };
        struct ovl_record records[2];

        post_start(&c);
        assert_int_equal(post_recv(&c, &plain, 0), OVL_PENDING);
        assert_int_equal(ovl_accept(c.thread, 9, 0, &routine, post_ran), OVL_PENDING);
        fake_wait_entries(&c.fake, 2);
        records[0] = post_refusal(&c, 0);
        records[1] = post_refusal(&c, 1);
        fake_send_records(&c.fake, 0, records, 2);
        assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
        assert_int_equal(c.n_ran, 1);
        assert_int_equal(ovl_result(&plain), -EBADF);
        assert_int_equal(ovl_result(&routine), -EBADF);
        assert_int_equal(routine.reason, OVL_REASON_UNKNOWN_SOCKET);
        post_stop(&c);
}

/* Answers the entries of a call that waits: from another thread, because the call blocks. */
struct post_answer {
        struct post_case *c;
        size_t n;
        enum {
                POST_REFUSE,
                POST_DONE,
                POST_PENDING,
                POST_HANG_UP,
        } how;
        pthread_t thread;
};

static void *post_answer_run(void *argument) {
        struct post_answer *answer = argument;
        struct ovl_record records[2] = { 0 };
        size_t n = 0;

        fake_wait_entries(&answer->c->fake, answer->n);
        if (answer->how == POST_HANG_UP) {
                fake_hang_up(&answer->c->fake, 0);
                return NULL;
        }
        if (answer->how == POST_REFUSE)
                records[n++] = post_refusal(answer->c, answer->n - 1);
        else if (answer->how == POST_DONE)
                records[n++] = fake_record(&answer->c->fake, answer->n - 1, 0, 50);
        records[n++] = (struct ovl_record){ .kind = OVL_RECORD_SETTLED, .value = answer->n };
        fake_send_records(&answer->c->fake, 0, records, n);
        return NULL;
}

static void post_answer_start(struct post_answer *answer) {
        assert_int_equal(pthread_create(&answer->thread, NULL, post_answer_run, answer), 0);
}

static void post_verdicts(void **state) {
        struct post_case c = { 0 };
        struct ovl_overlapped refused = { .bytes = 3, .user = &c }, done = { .user = &c }, pending = { .user = &c };
        struct post_answer answer = { .c = &c };
        struct ovl_buffer buffer;

        post_start(&c);
        buffer = (struct ovl_buffer){ c.data, 100 };
        answer.n = 1;
        answer.how = POST_REFUSE;
        post_answer_start(&answer);
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, OVL_WANT_VERDICT, &refused, post_ran), -EBADF);
        pthread_join(answer.thread, NULL);
        assert_int_equal(ovl_thread_error(c.thread)->reason, OVL_REASON_UNKNOWN_SOCKET);
        assert_int_equal(ovl_result(&refused), -EBADF);
        assert_int_equal(refused.bytes, 3);
        assert_int_equal(ovl_sleep(c.thread, 0), 0);

        answer.n = 2;
        answer.how = POST_DONE;
        post_answer_start(&answer);
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, OVL_WANT_VERDICT, &done, post_ran), 0);
        pthread_join(answer.thread, NULL);
        assert_int_equal(ovl_result(&done), 0);
        assert_int_equal(done.bytes, 50);
        assert_int_equal(c.n_ran, 0);
        assert_int_equal(ovl_sleep(c.thread, 0), OVL_ALERTED);
        assert_int_equal(c.n_ran, 1);

        answer.n = 3;
        answer.how = POST_PENDING;
        post_answer_start(&answer);
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, OVL_WANT_VERDICT, &pending, post_ran), OVL_PENDING);
        pthread_join(answer.thread, NULL);
        assert_int_equal(ovl_result(&pending), -EINPROGRESS);
        fake_complete(&c.fake, 2, -ECONNRESET, 0);
        assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
        assert_int_equal(c.n_ran, 2);
        assert_int_equal(ovl_result(&pending), -ECONNRESET);
        post_stop(&c);
}

static void post_verdict_lost(void **state) {
        struct post_case c = { 0 };
        struct ovl_overlapped op = { .user = &c };
        struct post_answer answer = { .c = &c, .n = 1, .how = POST_HANG_UP };
        struct ovl_buffer buffer;

        post_start(&c);
        buffer = (struct ovl_buffer){ c.data, 100 };
        post_answer_start(&answer);
        /* It was indicated as everything else that was pending, so the call says so. */
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, OVL_WANT_VERDICT, &op, post_ran), 0);
        pthread_join(answer.thread, NULL);
        assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
        assert_int_equal(c.n_ran, 1);
        assert_int_equal(ovl_result(&op), -ECONNABORTED);
        assert_int_equal(ovl_recv(c.thread, 5, &buffer, 1, OVL_WANT_VERDICT, &op, post_ran), -ECONNABORTED);
        assert_int_equal(ovl_region_close(c.thread, c.region), -ECONNABORTED);
        ovl_thread_close(c.thread);
        ovl_session_free(c.session);
        fake_stop(&c.fake);
}

/* --- A daemon that does not read -------------------------------------------------------------------------------- */

#define POST_MANY 20000u

struct post_full {
        struct post_case *c;
        struct ovl_overlapped *ops;
};

static bool post_is_done(void *data) {
        return ovl_result(data) == 0;
}

/* Ends operations while the posting thread is stuck; only when they have ended, its entries are read. */
static void *post_unblock(void *argument) {
        struct post_full *full = argument;
        uint64_t deadline = harness_deadline(20);

        for (size_t i = 0; i < 100; i++)
                fake_complete(&full->c->fake, i, 0, 100);
        assert_true(harness_wait(post_is_done, &full->ops[99], deadline));
        fake_hold(&full->c->fake, 0, false);
        return NULL;
}

static void post_full_socket(void **state) {
        struct post_case c = { .fake = { .credits = POST_MANY } };
        struct ovl_overlapped *ops = calloc(POST_MANY, sizeof(*ops));
        struct post_full full = { &c, ops };
        pthread_t thread;

        post_start(&c);
        for (size_t i = 0; i < 100; i++)
                assert_int_equal(post_recv(&c, &ops[i], 0), OVL_PENDING);
        fake_wait_entries(&c.fake, 100);
        fake_hold(&c.fake, 0, true);
        pthread_create(&thread, NULL, post_unblock, &full);
        for (size_t i = 100; i < POST_MANY; i++)
                assert_int_equal(post_recv(&c, &ops[i], 0), OVL_PENDING);
        fake_wait_entries(&c.fake, POST_MANY);
        pthread_join(thread, NULL);
        post_end(&c, 100, POST_MANY, 100);
        assert_int_equal(ovl_wait(c.thread, &ops[POST_MANY - 1], OVL_INFINITE, 0), 0);
        post_stop(&c);
        free(ops);
}

static void post_cancel(void **state) {
        struct post_case c = { 0 };
        struct ovl_overlapped a = { 0 }, b = { 0 }, other = { 0 };

        post_start(&c);
        assert_int_equal(ovl_cancel(c.thread, 5, &a), -ENOENT);
        assert_int_equal(post_recv(&c, &a, 0), OVL_PENDING);
        assert_int_equal(post_recv(&c, &b, 0), OVL_PENDING);
        assert_int_equal(ovl_accept(c.thread, 6, 0, &other, NULL), OVL_PENDING);
        assert_int_equal(ovl_cancel(c.thread, 6, &a), -ENOENT);
        assert_int_equal(ovl_cancel(c.thread, 5, &b), 1);
        assert_int_equal(ovl_result(&b), -ECANCELED);
        assert_int_equal(ovl_result(&a), -EINPROGRESS);
        assert_int_equal(ovl_cancel(c.thread, 5, NULL), 1);
        assert_int_equal(ovl_result(&a), -ECANCELED);
        assert_int_equal(ovl_result(&other), -EINPROGRESS);
        assert_int_equal(ovl_cancel(c.thread, 5, NULL), -ENOENT);
        post_stop(&c);
        assert_int_equal(ovl_result(&other), -ECANCELED);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "entries", post_entries, 0 },
                { "vectors", post_vectors, 0 },
                { "refusals", post_refusals, 0 },
                { "corks", post_corks, 0 },
                { "refused-later", post_refused_later, 0 },
                { "verdicts", post_verdicts, 0 },
                { "verdict-lost", post_verdict_lost, 0 },
                { "full-socket", post_full_socket, 0 },
                { "cancel", post_cancel, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
