/* SPDX-License-Identifier: Apache-2.0 */

/* So many at once, so many a second, and not one more, whatever the moments are. */

#include "base/bucket.h"

#include "tests/harness/harness.h"

static unsigned bucket_empty(struct bucket *bucket, const struct bucket_rate *rate, uint64_t now) {
        unsigned n = 0;

        while (bucket_take(bucket, rate, now))
                n++;
        assert_false(bucket_has(bucket, rate, now));
        return n;
}

static void bucket_burst_and_rate(void **state) {
        const struct bucket_rate rate = { .per_s = 50, .burst = 100 };
        struct bucket bucket = { 0 };
        uint64_t now = 77 * NS_PER_S;

        assert_int_equal(bucket_empty(&bucket, &rate, now), 100);
        assert_int_equal(bucket_empty(&bucket, &rate, now + 19 * NS_PER_MS), 0);
        assert_int_equal(bucket_empty(&bucket, &rate, now + 20 * NS_PER_MS), 1);
        assert_int_equal(bucket_empty(&bucket, &rate, now + NS_PER_S), 49);
        assert_int_equal(bucket_empty(&bucket, &rate, now + 3600 * NS_PER_S), 100);
}

static void bucket_of_one(void **state) {
        const struct bucket_rate rate = { .per_s = 1, .burst = 1 };
        struct bucket bucket = { 0 };

        assert_int_equal(bucket_empty(&bucket, &rate, NS_PER_S), 1);
        assert_int_equal(bucket_empty(&bucket, &rate, 2 * NS_PER_S - 1), 0);
        assert_int_equal(bucket_empty(&bucket, &rate, 2 * NS_PER_S), 1);
}

static void bucket_without_limit(void **state) {
        const struct bucket_rate rate = { 0 }, slow = { .per_s = 1, .burst = 1 };
        struct bucket bucket = { 0 };

        for (unsigned i = 0; i < 1000; i++)
                assert_true(bucket_take(&bucket, &rate, 5));
        bucket_give(&bucket, &rate);
        assert_int_equal(bucket_when(&bucket, &rate, 1), 0);
        /* Nothing was counted meanwhile. */
        assert_true(bucket_take(&bucket, &slow, 5));
}

static void bucket_gives_back(void **state) {
        const struct bucket_rate rate = { .per_s = 10, .burst = 3 };
        struct bucket bucket = { 0 };
        uint64_t now = 9 * NS_PER_S;

        assert_int_equal(bucket_empty(&bucket, &rate, now), 3);
        bucket_give(&bucket, &rate);
        assert_int_equal(bucket_empty(&bucket, &rate, now), 1);
        /* More than was taken is no more than full. */
        for (unsigned i = 0; i < 20; i++)
                bucket_give(&bucket, &rate);
        assert_int_equal(bucket_empty(&bucket, &rate, now), 3);
}

static void bucket_says_when(void **state) {
        const struct bucket_rate rate = { .per_s = 1000, .burst = 2000 };
        struct bucket bucket = { 0 };
        uint64_t now = NS_PER_S, at;

        bucket_empty(&bucket, &rate, now);
        for (uint32_t n = 1; n <= 2000; n += 333) {
                at = bucket_when(&bucket, &rate, n);
                assert_int_equal(at, now + n * NS_PER_MS);
                assert_int_equal(bucket_empty(&(struct bucket){ bucket.full_ns }, &rate, at), n);
        }
        assert_int_equal(bucket_when(&bucket, &rate, 5000), now + 2 * NS_PER_S);
}

/* As many as one gets who adds up, at moments that nobody chose. */
static void bucket_counts(void **state) {
        const struct bucket_rate rates[] = {
                { 1, 1 }, { 7, 3 }, { 999, 10 }, { 50, 100 }, { BUCKET_PER_S_MAX, 30000 }
        };
        uint64_t random = 0x2545f4914f6cdd1d;

        for (size_t i = 0; i < HARNESS_N(rates); i++) {
                uint64_t step_ns = NS_PER_S / rates[i].per_s, most_ns = rates[i].burst * step_ns, has_ns = most_ns;
                uint64_t now = 1000 * NS_PER_S;
                struct bucket bucket = { 0 };

                for (unsigned n = 0; n < 500; n++) {
                        uint64_t pause_ns;

                        assert_int_equal(bucket_empty(&bucket, &rates[i], now), has_ns / step_ns);
                        has_ns %= step_ns;
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        pause_ns = random % (2 * step_ns + NS_PER_S / 50);
                        now += pause_ns;
                        has_ns = has_ns + pause_ns < most_ns ? has_ns + pause_ns : most_ns;
                }
        }
}

/* Whoever owes much by the old rate has tokens by the new one as soon as anybody who took all that fit. */
static void bucket_changes_rate(void **state) {
        const struct bucket_rate slow = { .per_s = 1, .burst = 5000 }, fast = { .per_s = 1000, .burst = 10 },
                                 none = { 0 };
        struct bucket bucket = { 0 };
        uint64_t now = 77 * NS_PER_S;

        assert_int_equal(bucket_empty(&bucket, &slow, now), 5000);
        assert_int_equal(bucket_empty(&bucket, &fast, now), 0);
        assert_int_equal(bucket_empty(&bucket, &fast, now + NS_PER_MS), 1);
        assert_int_equal(bucket_empty(&bucket, &fast, now + NS_PER_S), 10);
        assert_true(bucket_take(&bucket, &none, now + NS_PER_S));
        assert_int_equal(bucket_empty(&bucket, &slow, now + NS_PER_S), 4999);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "burst and rate", bucket_burst_and_rate },
                { "one", bucket_of_one },
                { "without a limit", bucket_without_limit },
                { "gives back", bucket_gives_back },
                { "says when", bucket_says_when },
                { "changes its rate", bucket_changes_rate },
                { "counts", bucket_counts, 60 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
