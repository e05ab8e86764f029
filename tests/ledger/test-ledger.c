/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ledger's own test: event files written by hand, one clean and one for each fault that the ledger is there to
 * find. A ledger that overlooks one of them would call any daemon right.
 */

#include <errno.h>
#include <string.h>

#include "tests/harness/harness.h"
#include "tests/ledger/pattern.h"
#include "tests/ledger/synthetic.h"

#define SENDER 77
#define RECEIVER 78

enum fault {
        NO_FAULT,
        LOST,
        LOST_BUT_KILLED,
        DOUBLED,
        DOUBLED_AND_KILLED,
        FORGED,
        FORGED_AFTER_REFUSAL,
        REFUSED_BY_CALL,
        WRONG_THREAD,
        WRONG_CLIENT,
        WRONG_INDICATION,
        WRONG_KEY,
        ROUTINES_SWAPPED,
        RECEIVES_SWAPPED,
        BYTES_SWAPPED,
        BYTES_OF_ANOTHER_STREAM,
        BYTES_LOST_AT_END,
        BYTES_AFTER_END,
        BYTES_NEVER_SENT,
        SEND_SHORT,
        CANCELLED_WITHOUT_CAUSE,
        CANCELLED_AFTER_CANCEL,
        STRANGE_STATUS,
        STUCK,
        CRASHED,
        ABORTED,
        MISNUMBERED,
};

static void synthetic_send(struct synthetic *synthetic, uint32_t order, uint64_t offset, uint32_t len) {
        synthetic_post(synthetic, 1,
                       (struct event){
                               .op = EVENT_OP_SEND,
                               .mode = EVENT_MODE_ROUTINE,
                               .body.post = { .conn = SENDER, .offset = offset, .order = order, .len = len },
                       });
}

static void synthetic_receive(struct synthetic *synthetic, uint32_t order, uint32_t len) {
        synthetic_post(synthetic, 3,
                       (struct event){
                               .op = EVENT_OP_RECV,
                               .mode = EVENT_MODE_ROUTINE,
                               .body.post = { .conn = RECEIVER, .order = order, .len = len },
                       });
}

/* A record with the bytes of a stream from `offset` on, two of which may be swapped. */
static void synthetic_bytes(struct synthetic *synthetic, uint64_t id, uint64_t stream, uint64_t offset, uint32_t bytes,
                            bool swap) {
        uint8_t data[256], kept;
        uint64_t head = 0;

        pattern_fill(stream, offset, data, bytes);
        for (unsigned i = 1; swap && i < bytes; i++) {
                kept = data[0];
                if (data[i] == kept)
                        continue;
                data[0] = data[i];
                data[i] = kept;
                break;
        }
        memcpy(&head, data, bytes < 8 ? bytes : 8);
        journal_add(&synthetic->files[3],
                    (struct event){
                            .kind = EVENT_RECORD,
                            .mode = EVENT_MODE_ROUTINE,
                            .id = id,
                            .body.record = { .bytes = bytes,
                                             .hash = pattern_hash(PATTERN_HASH_START, data, bytes),
                                             .head = head },
                    });
}

/* Sends of 100, 50 and 50 bytes; the last may be short, or indicated in a wrong way. */
static void synthetic_write_sends(struct synthetic *synthetic, enum fault fault) {
        struct event odd = { .kind = EVENT_RECORD, .mode = EVENT_MODE_ROUTINE, .body.record.bytes = 50 };
        unsigned first = fault == ROUTINES_SWAPPED;

        synthetic_send(synthetic, 0, 0, 100);
        synthetic_send(synthetic, 1, 100, 50);
        synthetic_send(synthetic, 2, 150, 50);
        if (fault == MISNUMBERED)
                synthetic_send(synthetic, 7, 200, 50);
        synthetic_record(synthetic, 1, synthetic->posts[first], 0, first == 0 ? 100 : 50);
        synthetic_record(synthetic, 1, synthetic->posts[!first], 0, first == 0 ? 50 : 100);
        if (fault == WRONG_INDICATION)
                odd.mode = EVENT_MODE_PORT;
        if (fault == WRONG_KEY)
                odd.body.record.key = RECEIVER;
        if (fault == SEND_SHORT)
                odd.body.record.bytes = 49;
        if (fault == STRANGE_STATUS)
                odd.status = -EIO;
        odd.id = synthetic->posts[2];
        if (fault != LOST && fault != LOST_BUT_KILLED)
                journal_add(&synthetic->files[fault == WRONG_THREAD ? 2 : fault == WRONG_CLIENT ? 3 : 1], odd);
        if (fault == DOUBLED || fault == DOUBLED_AND_KILLED)
                journal_add(&synthetic->files[1], odd);
        if (fault == LOST_BUT_KILLED || fault == DOUBLED_AND_KILLED)
                synthetic_mark(synthetic, 0, EVENT_KILLED, 1, 0, 0);
}

/* Receives of 30, 120 and 50 bytes in places of 120, then the end. */
static void synthetic_write_receives(struct synthetic *synthetic, enum fault fault) {
        const uint64_t *receives = &synthetic->posts[synthetic->n_posts];
        uint64_t other = fault == BYTES_OF_ANOTHER_STREAM ? RECEIVER : SENDER;

        for (uint32_t order = 0; order < 4; order++)
                synthetic_receive(synthetic, order, 120);
        synthetic_bytes(synthetic, receives[0], SENDER, 0, 30, false);
        synthetic_bytes(synthetic, receives[1], SENDER, fault == RECEIVES_SWAPPED ? 80 : 30, 120, false);
        if (fault == BYTES_LOST_AT_END)
                synthetic_bytes(synthetic, receives[2], other, 150, 49, false);
        else if (fault == BYTES_NEVER_SENT)
                synthetic_bytes(synthetic, receives[2], other, 150, 60, false);
        else if (fault == BYTES_AFTER_END)
                synthetic_bytes(synthetic, receives[2], other, 150, 0, false);
        else
                synthetic_bytes(synthetic, receives[2], other, 150, 50, fault == BYTES_SWAPPED);
        if (fault == BYTES_AFTER_END)
                synthetic_bytes(synthetic, receives[3], other, 150, 50, false);
        else
                synthetic_bytes(synthetic, receives[3], SENDER, 200, 0, false);
}

/* One more receive that has no part in the stream. */
static void synthetic_write_rest(struct synthetic *synthetic, enum fault fault) {
        uint64_t id;

        if (fault == FORGED)
                synthetic_record(synthetic, 3, event_id(3, 4711), 0, 0);
        if (fault == REFUSED_BY_CALL || fault == FORGED_AFTER_REFUSAL) {
                synthetic_receive(synthetic, 4, 10);
                id = synthetic->posts[synthetic->n_posts - 1];
                journal_add(&synthetic->files[3], (struct event){ .kind = EVENT_RESULT, .id = id, .status = -ENOBUFS });
                if (fault == FORGED_AFTER_REFUSAL)
                        synthetic_record(synthetic, 3, id, 0, 0);
        }
        if (fault == CANCELLED_WITHOUT_CAUSE || fault == CANCELLED_AFTER_CANCEL) {
                synthetic_receive(synthetic, 4, 10);
                if (fault == CANCELLED_AFTER_CANCEL)
                        synthetic_mark(synthetic, 3, EVENT_CANCEL, 0, RECEIVER, 0);
                synthetic_record(synthetic, 3, synthetic->posts[synthetic->n_posts - 1], -ECANCELED, 0);
        }
        if (fault == STUCK)
                synthetic_mark(synthetic, 0, EVENT_STUCK, 2, 0, 0);
        if (fault == CRASHED)
                synthetic_mark(synthetic, 0, EVENT_CRASHED, 2, 0, 0);
        if (fault == ABORTED)
                synthetic_mark(synthetic, 3, EVENT_ABORTED, 2, 0, 0);
}

static void synthetic_run(struct synthetic *synthetic, enum fault fault) {
        synthetic_open(synthetic);
        synthetic_write_sends(synthetic, fault);
        synthetic_write_receives(synthetic, fault);
        synthetic_write_rest(synthetic, fault);
        synthetic_judge(synthetic);
}

static void test_clean(void **state) {
        struct synthetic synthetic;

        synthetic_run(&synthetic, NO_FAULT);
        assert_int_equal(report_total(&synthetic.report), 0);
        assert_int_equal(synthetic.totals.n_all, 7);
        assert_int_equal(synthetic.totals.n_records, 7);
        assert_int_equal(synthetic.totals.n_moved, 6);
        assert_int_equal(synthetic.streams.n_streams, 1);
        assert_int_equal(synthetic.streams.n_ended, 1);
        assert_int_equal(synthetic.streams.bytes_compared, 200);
}

static void test_excused(void **state) {
        static const enum fault faults[] = { LOST_BUT_KILLED, REFUSED_BY_CALL, CANCELLED_AFTER_CANCEL };
        struct synthetic synthetic;

        for (size_t i = 0; i < HARNESS_N(faults); i++) {
                synthetic_run(&synthetic, faults[i]);
                assert_int_equal(report_total(&synthetic.report), 0);
        }
}

static void test_each_fault(void **state) {
        static const struct {
                enum fault fault;
                enum report_kind kind;
        } faults[] = {
                { LOST, REPORT_LOST },
                { DOUBLED, REPORT_DOUBLED },
                { DOUBLED_AND_KILLED, REPORT_DOUBLED },
                { FORGED, REPORT_FORGED },
                { FORGED_AFTER_REFUSAL, REPORT_FORGED },
                { WRONG_THREAD, REPORT_THREAD },
                { WRONG_CLIENT, REPORT_THREAD },
                { WRONG_INDICATION, REPORT_INDICATION },
                { WRONG_KEY, REPORT_INDICATION },
                { ROUTINES_SWAPPED, REPORT_ORDER },
                { RECEIVES_SWAPPED, REPORT_BYTES },
                { BYTES_SWAPPED, REPORT_BYTES },
                { BYTES_OF_ANOTHER_STREAM, REPORT_BYTES },
                { BYTES_LOST_AT_END, REPORT_BYTES },
                { BYTES_AFTER_END, REPORT_ORDER },
                { BYTES_NEVER_SENT, REPORT_BYTES },
                { SEND_SHORT, REPORT_BYTES },
                { CANCELLED_WITHOUT_CAUSE, REPORT_STATUS },
                { STRANGE_STATUS, REPORT_STATUS },
                { STUCK, REPORT_STUCK },
                { CRASHED, REPORT_CRASHED },
                { ABORTED, REPORT_ABORTED },
                { MISNUMBERED, REPORT_FILE },
        };
        struct synthetic synthetic;

        for (size_t i = 0; i < HARNESS_N(faults); i++) {
                synthetic_run(&synthetic, faults[i].fault);
                if (synthetic.report.n[faults[i].kind] == 0)
                        fail_msg("fault %d was not found as \"%s\"", faults[i].fault, report_name(faults[i].kind));
                assert_true(synthetic.report.n_lines > 0);
        }
}

/* What a planted fault leads to, and nothing else, is what the storm accepts. */
static void test_planted(void **state) {
        struct synthetic synthetic;

        synthetic_run(&synthetic, LOST);
        assert_true(report_is(&synthetic.report, REPORT_LOST));
        assert_false(report_is(&synthetic.report, REPORT_DOUBLED));
        synthetic_run(&synthetic, DOUBLED);
        assert_true(report_is(&synthetic.report, REPORT_DOUBLED));
        assert_false(report_is(&synthetic.report, REPORT_LOST));
        synthetic_run(&synthetic, ABORTED);
        assert_true(report_is(&synthetic.report, REPORT_DOUBLED));
        synthetic_run(&synthetic, BYTES_SWAPPED);
        assert_true(report_is(&synthetic.report, REPORT_BYTES));
        assert_false(report_is(&synthetic.report, REPORT_DOUBLED));
        synthetic_run(&synthetic, NO_FAULT);
        assert_false(report_is(&synthetic.report, REPORT_BYTES));
}

/* The pattern is the same however it is cut, and so is its hash. */
static void test_pattern(void **state) {
        uint8_t whole[1000], pieces[1000];
        uint64_t hash = PATTERN_HASH_START, head;

        pattern_fill(42, 0, whole, sizeof(whole));
        memcpy(&head, whole, 8);
        assert_int_equal(head, 42);
        for (size_t at = 0, len; at < sizeof(pieces); at += len) {
                len = at % 13 + 1 < sizeof(pieces) - at ? at % 13 + 1 : sizeof(pieces) - at;
                pattern_fill(42, at, pieces + at, len);
                hash = pattern_hash(hash, pieces + at, len);
        }
        assert_memory_equal(whole, pieces, sizeof(whole));
        assert_true(hash == pattern_hash(PATTERN_HASH_START, whole, sizeof(whole)));
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "ledger_finds_nothing_in_a_clean_storm", test_clean },
                { "ledger_excuses_what_a_killed_client_took_along", test_excused },
                { "ledger_finds_each_fault", test_each_fault },
                { "ledger_names_a_planted_fault_and_no_other", test_planted },
                { "pattern_is_the_same_however_it_is_cut", test_pattern },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
