/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ledger's own test for datagrams, events, APCs and shared sockets: as in test-ledger.c, each case is a small storm
 * written by hand. Cases come in two tables: what is right, or excused, and what is off, with the kind of fault that
 * the ledger must name.
 */

#include <errno.h>
#include <string.h>

#include "tests/harness/harness.h"
#include "tests/ledger/pattern.h"
#include "tests/ledger/synthetic.h"

#define SENDER 77   /* of client 1, file 1 */
#define RECEIVER 78 /* of client 2, file 3 */
#define SHARER 79   /* of client 1, file 2 */
#define SENDER_PLACE 5000
#define RECEIVER_PLACE (EVENT_PLACE_V6 + 6000)
#define SIZE 100 /* of the receivers' buffers */

struct kind_case {
        const char *name;
        void (*write)(struct synthetic *synthetic);
        enum report_kind kind; /* REPORT_KINDS: nothing is off */
};

/* --- Datagrams -------------------------------------------------------------------------------------------------- */

struct datagram {
        unsigned serial;
        uint32_t bytes; /* that arrive */
        uint32_t size;  /* of the buffer */
        int status;
        unsigned flags; /* of the post */
        uint64_t from;
        bool is_swapped;
        bool is_untold; /* the record does not say that it was cut */
};

static uint64_t datagram_send(struct synthetic *synthetic, uint32_t serial, uint32_t len, uint64_t to) {
        return synthetic_post(synthetic, 1,
                              (struct event){ .op = EVENT_OP_SENDTO,
                                              .mode = EVENT_MODE_ROUTINE,
                                              .body.post = { .conn = SENDER, .order = serial, .len = len, .to = to } });
}

static void datagram_receive(struct synthetic *synthetic, uint32_t order, struct datagram datagram) {
        struct event post = { .op = EVENT_OP_RECVFROM,
                              .mode = EVENT_MODE_ROUTINE,
                              .flags = (uint8_t) datagram.flags,
                              .body.post = { .conn = RECEIVER, .order = order, .len = datagram.size } };
        bool is_cut = datagram.status == -EMSGSIZE && !datagram.is_untold;
        struct event record = { .kind = EVENT_RECORD,
                                .mode = EVENT_MODE_ROUTINE,
                                .flags = is_cut ? EVENT_FLAG_TRUNCATED : 0,
                                .id = synthetic_post(synthetic, 3, post),
                                .status = datagram.status };
        uint8_t data[256] = {}, kept;

        pattern_fill(pattern_datagram(SENDER, datagram.serial), 0, data, datagram.bytes);
        kept = data[datagram.bytes / 2];
        if (datagram.is_swapped) {
                data[datagram.bytes / 2] = data[datagram.bytes / 2 + 1];
                data[datagram.bytes / 2 + 1] = kept;
        }
        memcpy(&record.body.record.head, data, datagram.bytes < 8 ? datagram.bytes : 8);
        record.body.record.hash = pattern_hash(PATTERN_HASH_START, data, datagram.bytes);
        record.body.record.bytes = datagram.bytes;
        record.body.record.from = datagram.from;
        journal_add(&synthetic->files[3], record);
}

/* Datagrams of 100, 8, 0, 50 and 60 bytes, all of which leave. */
static void datagram_send_all(struct synthetic *synthetic) {
        static const uint32_t lens[] = { 100, 8, 0, 50, 60 };

        synthetic_mark(synthetic, 1, EVENT_NAME, 0, SENDER, SENDER_PLACE);
        synthetic_mark(synthetic, 3, EVENT_NAME, 0, RECEIVER, RECEIVER_PLACE);
        for (uint32_t i = 0; i < HARNESS_N(lens); i++)
                synthetic_record(synthetic, 1, datagram_send(synthetic, i, lens[i], RECEIVER_PLACE), 0, lens[i]);
}

static void datagrams_right(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 0, .bytes = 100, .size = 100 });
        datagram_receive(synthetic, 1,
                         (struct datagram){ .serial = 1, .bytes = 8, .size = 9, .flags = EVENT_FLAG_PEEK });
        datagram_receive(synthetic, 2, (struct datagram){ .serial = 1, .bytes = 8, .size = 8, .from = SENDER_PLACE });
        datagram_receive(synthetic, 3, (struct datagram){ .size = SIZE });
        datagram_receive(synthetic, 4, (struct datagram){ .serial = 3, .bytes = 20, .size = 20, .status = -EMSGSIZE });
        datagram_receive(synthetic, 5, (struct datagram){ .serial = 4, .bytes = 3, .size = 3, .status = -EMSGSIZE });
}

/* Some do not arrive, because there was no room for them. */
static void datagrams_lost(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 1, .bytes = 8, .size = SIZE });
        datagram_receive(synthetic, 1, (struct datagram){ .serial = 4, .bytes = 60, .size = SIZE });
        synthetic_mark(synthetic, 0, EVENT_DROPPED, 0, 0, 2);
}

static void datagrams_lost_although_there_was_room(struct synthetic *synthetic) {
        datagrams_lost(synthetic);
        synthetic_mark(synthetic, 0, EVENT_DROPPED, 0, 0, 1);
}

/* Its sender was killed before it learnt that it had left. */
static void datagram_of_killed(struct synthetic *synthetic) {
        datagram_send(synthetic, 0, 30, RECEIVER_PLACE);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 0, .bytes = 30, .size = SIZE });
        synthetic_mark(synthetic, 0, EVENT_KILLED, 1, 0, 0);
}

/* A socket that has a peer hears of earlier datagrams. */
static void datagram_refused_by_peer(struct synthetic *synthetic) {
        uint64_t connect = synthetic_post(
                synthetic, 1,
                (struct event){ .op = EVENT_OP_CONNECT, .mode = EVENT_MODE_ROUTINE, .body.post.conn = SENDER });

        synthetic_record(synthetic, 1, connect, 0, 0);
        synthetic_record(synthetic, 1, datagram_send(synthetic, 0, 30, RECEIVER_PLACE), 0, 30);
        synthetic_record(synthetic, 1, datagram_send(synthetic, 1, 30, RECEIVER_PLACE), -ECONNREFUSED, 0);
}

static void datagram_refused_without_peer(struct synthetic *synthetic) {
        synthetic_record(synthetic, 1, datagram_send(synthetic, 0, 30, RECEIVER_PLACE), -ECONNREFUSED, 0);
}

static void datagram_never_sent(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 9, .bytes = 50, .size = SIZE });
}

static void datagram_of_refused_send(struct synthetic *synthetic) {
        uint64_t id = datagram_send(synthetic, 0, 30, RECEIVER_PLACE);

        journal_add(&synthetic->files[1], (struct event){ .kind = EVENT_RESULT, .id = id, .status = -ENOBUFS });
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 0, .bytes = 30, .size = SIZE });
}

static void datagram_of_cancelled_send(struct synthetic *synthetic) {
        uint64_t id = datagram_send(synthetic, 0, 30, RECEIVER_PLACE);

        synthetic_mark(synthetic, 1, EVENT_CANCEL, 0, SENDER, 0);
        synthetic_record(synthetic, 1, id, -ECANCELED, 0);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 0, .bytes = 30, .size = SIZE });
}

static void datagram_twice(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 3, .bytes = 50, .size = SIZE });
        datagram_receive(synthetic, 1, (struct datagram){ .serial = 3, .bytes = 50, .size = SIZE });
}

static void datagram_swapped(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 3, .bytes = 50, .size = SIZE, .is_swapped = true });
}

static void datagram_short(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 3, .bytes = 49, .size = SIZE });
}

/* It ends with the status of one that was cut, and was not longer than the buffer. */
static void datagram_not_cut(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 3, .bytes = 50, .size = 50, .status = -EMSGSIZE });
}

static void datagram_cut_too_short(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 3, .bytes = 20, .size = 30, .status = -EMSGSIZE });
}

static void datagram_cut_untold(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(
                synthetic, 0,
                (struct datagram){ .serial = 3, .bytes = 20, .size = 20, .status = -EMSGSIZE, .is_untold = true });
}

static void datagrams_out_of_order(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 3, .bytes = 50, .size = SIZE });
        datagram_receive(synthetic, 1, (struct datagram){ .serial = 0, .bytes = 100, .size = SIZE });
}

static void datagram_looked_at_and_gone(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0,
                         (struct datagram){ .serial = 0, .bytes = 100, .size = SIZE, .flags = EVENT_FLAG_PEEK });
        datagram_receive(synthetic, 1, (struct datagram){ .serial = 3, .bytes = 50, .size = SIZE });
}

static void datagram_looked_at_again(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 0, .bytes = 100, .size = SIZE });
        datagram_receive(synthetic, 1,
                         (struct datagram){ .serial = 0, .bytes = 100, .size = SIZE, .flags = EVENT_FLAG_PEEK });
}

static void datagram_to_another(struct synthetic *synthetic) {
        synthetic_mark(synthetic, 3, EVENT_NAME, 0, RECEIVER, RECEIVER_PLACE);
        synthetic_record(synthetic, 1, datagram_send(synthetic, 0, 30, RECEIVER_PLACE + 1), 0, 30);
        datagram_receive(synthetic, 0, (struct datagram){ .serial = 0, .bytes = 30, .size = SIZE });
}

static void datagram_from_another(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0,
                         (struct datagram){ .serial = 0, .bytes = 100, .size = SIZE, .from = RECEIVER_PLACE });
}

static void datagram_empty_of_nobody(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        datagram_receive(synthetic, 0, (struct datagram){ .size = SIZE });
        datagram_receive(synthetic, 1, (struct datagram){ .size = SIZE });
}

static void datagram_unnamed_of_nobody(struct synthetic *synthetic) {
        datagram_send_all(synthetic);
        for (uint32_t i = 0; i < 6; i++)
                datagram_receive(synthetic, i, (struct datagram){ .bytes = 3, .size = 3, .status = -EMSGSIZE });
}

/* --- Events ----------------------------------------------------------------------------------------------------- */

/* A send of client 1, file 1; its record is written to `file`. */
static void event_send(struct synthetic *synthetic, unsigned flags, bool is_at_once, unsigned set, unsigned file) {
        uint64_t id = synthetic_post(synthetic, 1,
                                     (struct event){ .op = EVENT_OP_SEND,
                                                     .mode = EVENT_MODE_EVENT,
                                                     .flags = (uint8_t) flags,
                                                     .body.post = { .conn = SENDER, .len = 30 } });

        if (is_at_once)
                journal_add(&synthetic->files[1],
                            (struct event){ .kind = EVENT_RESULT, .id = id, .flags = (uint8_t) set });
        journal_add(
                &synthetic->files[file],
                (struct event){ .kind = EVENT_RECORD, .mode = EVENT_MODE_EVENT, .id = id, .body.record.bytes = 30 });
}

static void event_right(struct synthetic *synthetic) {
        event_send(synthetic, 0, false, 0, 1);
}

static void event_seen_by_another_thread(struct synthetic *synthetic) {
        event_send(synthetic, 0, false, 0, 2);
}

static void event_at_once(struct synthetic *synthetic) {
        event_send(synthetic, EVENT_FLAG_VERDICT, true, EVENT_FLAG_SET, 1);
}

static void event_seen_by_another_client(struct synthetic *synthetic) {
        event_send(synthetic, 0, false, 0, 3);
}

static void event_at_once_and_not_set(struct synthetic *synthetic) {
        event_send(synthetic, EVENT_FLAG_VERDICT, true, 0, 1);
}

static void event_at_once_unasked(struct synthetic *synthetic) {
        event_send(synthetic, 0, true, EVENT_FLAG_SET, 1);
}

/* --- Asynchronous procedure calls ------------------------------------------------------------------------------- */

/* From file 1 to `target`. */
static uint64_t apc_queue(struct synthetic *synthetic, uint32_t target, bool is_remote, int status) {
        uint64_t id = journal_apc(&synthetic->files[1], target, is_remote);

        journal_add(&synthetic->files[1], (struct event){ .kind = EVENT_QUEUED, .id = id, .status = status });
        return id;
}

static void apc_run_in(struct synthetic *synthetic, unsigned file, uint64_t id) {
        journal_add(&synthetic->files[file], (struct event){ .kind = EVENT_RUN, .id = id });
}

/* What goes through the daemon and what does not have no order among each other. */
static void apcs_right(struct synthetic *synthetic) {
        uint64_t first = apc_queue(synthetic, 2, true, 0), second = apc_queue(synthetic, 2, false, 0);
        uint64_t third = apc_queue(synthetic, 2, false, 0), elsewhere = apc_queue(synthetic, 3, true, 0);

        apc_queue(synthetic, 3, true, -ENOBUFS);
        synthetic_mark(synthetic, 3, EVENT_WITHDRAWN, 0, 0, 0);
        apc_queue(synthetic, 3, true, -EBADF);
        apc_run_in(synthetic, 2, second);
        apc_run_in(synthetic, 2, third);
        apc_run_in(synthetic, 2, first);
        apc_run_in(synthetic, 3, elsewhere);
}

static void apc_to_killed(struct synthetic *synthetic) {
        apc_queue(synthetic, 3, true, 0);
        synthetic_mark(synthetic, 0, EVENT_KILLED, 2, 0, 0);
}

static void apc_to_ended(struct synthetic *synthetic) {
        synthetic_mark(synthetic, 3, EVENT_ENDING, 0, 0, 0);
        apc_queue(synthetic, 3, true, 0);
        apc_queue(synthetic, 3, true, -ESRCH);
}

static void apc_refused_without_cause(struct synthetic *synthetic) {
        apc_queue(synthetic, 3, true, -EBADF);
}

static void apc_of_killed(struct synthetic *synthetic) {
        journal_apc(&synthetic->files[1], 3, true);
        apc_run_in(synthetic, 3, journal_apc(&synthetic->files[1], 3, true));
        synthetic_mark(synthetic, 0, EVENT_KILLED, 1, 0, 0);
}

static void apc_lost(struct synthetic *synthetic) {
        apc_run_in(synthetic, 3, apc_queue(synthetic, 3, true, 0));
        apc_queue(synthetic, 3, true, 0);
        synthetic_mark(synthetic, 3, EVENT_ENDING, 0, 0, 0);
}

static void apc_doubled(struct synthetic *synthetic) {
        uint64_t id = apc_queue(synthetic, 3, true, 0);

        apc_run_in(synthetic, 3, id);
        apc_run_in(synthetic, 3, id);
}

static void apc_of_nobody(struct synthetic *synthetic) {
        apc_run_in(synthetic, 3, event_id(1, 4711));
}

static void apc_refused_and_run(struct synthetic *synthetic) {
        apc_run_in(synthetic, 3, apc_queue(synthetic, 3, true, -ENOENT));
}

static void apc_in_another_thread(struct synthetic *synthetic) {
        apc_run_in(synthetic, 1, apc_queue(synthetic, 2, false, 0));
}

static void apcs_out_of_order(struct synthetic *synthetic) {
        uint64_t first = apc_queue(synthetic, 2, false, 0), second = apc_queue(synthetic, 2, false, 0);

        apc_run_in(synthetic, 2, second);
        apc_run_in(synthetic, 2, first);
}

/* --- Shared sockets --------------------------------------------------------------------------------------------- */

/* Client 2 receives on the socket on which client 1 sends; the receive ends with `status`. */
static void shared_receive(struct synthetic *synthetic, enum event_kind mark, uint64_t marked, int status) {
        struct event send = { .op = EVENT_OP_SEND, .mode = EVENT_MODE_ROUTINE };
        struct event receive = { .op = EVENT_OP_RECV, .mode = EVENT_MODE_ROUTINE };

        send.body.post.conn = SHARER;
        send.body.post.len = 30;
        receive.body.post.conn = RECEIVER;
        receive.body.post.len = SIZE;
        synthetic_record(synthetic, 2, synthetic_post(synthetic, 2, send), 0, 30);
        synthetic_mark(synthetic, 2, mark, 0, marked, 2);
        synthetic_record(synthetic, 3, synthetic_post(synthetic, 3, receive), status, 0);
}

static void shared_and_shut(struct synthetic *synthetic) {
        synthetic_mark(synthetic, 3, EVENT_SHARED, 0, RECEIVER, SHARER);
        shared_receive(synthetic, EVENT_SHUTDOWN, SHARER, -ESHUTDOWN);
}

static void not_shared_and_shut(struct synthetic *synthetic) {
        shared_receive(synthetic, EVENT_SHUTDOWN, SHARER, -ESHUTDOWN);
}

/* One session's close and cancel end nothing of the other's. */
static void shared_and_closed(struct synthetic *synthetic) {
        synthetic_mark(synthetic, 3, EVENT_SHARED, 0, RECEIVER, SHARER);
        shared_receive(synthetic, EVENT_CLOSE, SHARER, -ECANCELED);
}

static void shared_and_cancelled(struct synthetic *synthetic) {
        synthetic_mark(synthetic, 3, EVENT_SHARED, 0, RECEIVER, SHARER);
        shared_receive(synthetic, EVENT_CANCEL, SHARER, -ECANCELED);
}

/* Two receives of client 2, the later one told first, with this status. */
static void shared_receives(struct synthetic *synthetic, int status) {
        struct event receive = { .op = EVENT_OP_RECV, .mode = EVENT_MODE_ROUTINE };
        uint64_t ids[2];

        synthetic_mark(synthetic, 3, EVENT_SHARED, 0, RECEIVER, SHARER);
        synthetic_mark(synthetic, 2, EVENT_SHUTDOWN, 0, SHARER, 0);
        receive.body.post.conn = RECEIVER;
        receive.body.post.len = SIZE;
        for (uint32_t i = 0; i < 2; i++) {
                receive.body.post.order = i;
                ids[i] = synthetic_post(synthetic, 3, receive);
        }
        synthetic_record(synthetic, 3, ids[1], status, 0);
        synthetic_record(synthetic, 3, ids[0], 0, 0);
}

static void shared_and_refused_early(struct synthetic *synthetic) {
        shared_receives(synthetic, -ESHUTDOWN);
}

static void shared_and_out_of_order(struct synthetic *synthetic) {
        shared_receives(synthetic, 0);
}

/* --- Cases ------------------------------------------------------------------------------------------------------ */

#define KIND_CASE(function, kind)                                                                                      \
        { #function, function, kind }

static void kind_run(const struct kind_case *kind_case, struct synthetic *ret_synthetic) {
        synthetic_open(ret_synthetic);
        kind_case->write(ret_synthetic);
        synthetic_judge(ret_synthetic);
}

static void test_right(void **state) {
        static const struct kind_case cases[] = {
                KIND_CASE(datagrams_right, REPORT_KINDS),
                KIND_CASE(datagrams_lost, REPORT_KINDS),
                KIND_CASE(datagram_of_killed, REPORT_KINDS),
                KIND_CASE(datagram_refused_by_peer, REPORT_KINDS),
                KIND_CASE(event_right, REPORT_KINDS),
                KIND_CASE(event_seen_by_another_thread, REPORT_KINDS),
                KIND_CASE(event_at_once, REPORT_KINDS),
                KIND_CASE(apcs_right, REPORT_KINDS),
                KIND_CASE(apc_to_killed, REPORT_KINDS),
                KIND_CASE(apc_to_ended, REPORT_KINDS),
                KIND_CASE(apc_of_killed, REPORT_KINDS),
                KIND_CASE(shared_and_shut, REPORT_KINDS),
                KIND_CASE(shared_and_refused_early, REPORT_KINDS),
        };
        struct synthetic synthetic;

        for (size_t i = 0; i < HARNESS_N(cases); i++) {
                kind_run(&cases[i], &synthetic);
                if (report_total(&synthetic.report) > 0)
                        fail_msg("%s: %s", cases[i].name, synthetic.report.lines[0]);
        }
}

static void test_off(void **state) {
        static const struct kind_case cases[] = {
                KIND_CASE(datagram_refused_without_peer, REPORT_STATUS),
                KIND_CASE(datagram_never_sent, REPORT_BYTES),
                KIND_CASE(datagram_of_refused_send, REPORT_BYTES),
                KIND_CASE(datagram_of_cancelled_send, REPORT_BYTES),
                KIND_CASE(datagram_twice, REPORT_DOUBLED),
                KIND_CASE(datagram_swapped, REPORT_BYTES),
                KIND_CASE(datagram_short, REPORT_BYTES),
                KIND_CASE(datagram_not_cut, REPORT_BYTES),
                KIND_CASE(datagram_cut_too_short, REPORT_STATUS),
                KIND_CASE(datagram_cut_untold, REPORT_STATUS),
                KIND_CASE(datagrams_out_of_order, REPORT_ORDER),
                KIND_CASE(datagram_looked_at_and_gone, REPORT_ORDER),
                KIND_CASE(datagram_looked_at_again, REPORT_ORDER),
                KIND_CASE(datagram_to_another, REPORT_BYTES),
                KIND_CASE(datagram_from_another, REPORT_INDICATION),
                KIND_CASE(datagram_empty_of_nobody, REPORT_BYTES),
                KIND_CASE(datagrams_lost_although_there_was_room, REPORT_LOST),
                KIND_CASE(datagram_unnamed_of_nobody, REPORT_BYTES),
                KIND_CASE(event_seen_by_another_client, REPORT_THREAD),
                KIND_CASE(event_at_once_and_not_set, REPORT_INDICATION),
                KIND_CASE(event_at_once_unasked, REPORT_INDICATION),
                KIND_CASE(apc_lost, REPORT_LOST),
                KIND_CASE(apc_doubled, REPORT_DOUBLED),
                KIND_CASE(apc_of_nobody, REPORT_FORGED),
                KIND_CASE(apc_refused_and_run, REPORT_FORGED),
                KIND_CASE(apc_refused_without_cause, REPORT_STATUS),
                KIND_CASE(apc_in_another_thread, REPORT_THREAD),
                KIND_CASE(apcs_out_of_order, REPORT_ORDER),
                KIND_CASE(not_shared_and_shut, REPORT_STATUS),
                KIND_CASE(shared_and_out_of_order, REPORT_ORDER),
                KIND_CASE(shared_and_closed, REPORT_STATUS),
                KIND_CASE(shared_and_cancelled, REPORT_STATUS),
        };
        struct synthetic synthetic;

        for (size_t i = 0; i < HARNESS_N(cases); i++) {
                kind_run(&cases[i], &synthetic);
                if (synthetic.report.n[cases[i].kind] == 0)
                        fail_msg("%s was not found as \"%s\"", cases[i].name, report_name(cases[i].kind));
        }
}

static void test_counts(void **state) {
        const struct kind_case datagrams = KIND_CASE(datagrams_right, REPORT_KINDS);
        const struct kind_case lost = KIND_CASE(datagrams_lost, REPORT_KINDS),
                               apcs = KIND_CASE(apcs_right, REPORT_KINDS);
        struct synthetic synthetic;

        kind_run(&datagrams, &synthetic);
        assert_int_equal(synthetic.datagrams.n_sent, 5);
        assert_int_equal(synthetic.datagrams.n_taken, 5);
        assert_int_equal(synthetic.datagrams.n_peeked, 1);
        assert_int_equal(synthetic.datagrams.n_truncated, 2);
        assert_int_equal(synthetic.datagrams.n_empty, 1);
        assert_int_equal(synthetic.datagrams.n_unnamed, 1);
        assert_int_equal(synthetic.datagrams.n_addressed, 1);
        assert_int_equal(synthetic.datagrams.n_lost, 0);
        kind_run(&lost, &synthetic);
        assert_int_equal(synthetic.datagrams.n_lost, 3);
        assert_int_equal(synthetic.datagrams.n_overtaken, 2);
        kind_run(&apcs, &synthetic);
        assert_int_equal(synthetic.apcs.n_queued[0], 2);
        assert_int_equal(synthetic.apcs.n_queued[1], 2);
        assert_int_equal(synthetic.apcs.n_run[0], 2);
        assert_int_equal(synthetic.apcs.n_run[1], 2);
        assert_int_equal(synthetic.apcs.n_refused, 2);
        assert_int_equal(synthetic.apcs.n_excused, 0);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "ledger_finds_nothing_off_in_what_is_right", test_right },
                { "ledger_finds_what_is_off_with_datagrams_events_apcs_and_shares", test_off },
                { "ledger_counts_datagrams_and_apcs", test_counts },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
