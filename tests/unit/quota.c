/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is taken is taken at all levels or at none, no amount overflows, and nobody can take what others need. The long
 * case compares each decision with a model that knows nothing of levels: it adds up all charges that there are, anew
 * for each question, in numbers that cannot overflow.
 */

#include "daemon/worker/quota.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "tests/harness/harness.h"

static struct limits quota_limits(uint64_t max) {
        struct limits limits = { 0 };

        for (unsigned level = 0; level < LIMIT_LEVELS; level++)
                for (unsigned slot = 0; slot < LIMIT_SLOTS; slot++)
                        limits.max[level][slot] = max;
        return limits;
}

static struct quota_unit *quota_expect(struct quotas *quotas, uint32_t uid, uint64_t shard,
                                       const struct limits *limits) {
        struct quota_unit *unit;

        assert_ok(quotas_take(quotas, uid, shard, "a.service", limits, true));
        unit = quotas_ref(quotas, shard);
        assert_non_null(unit);
        return unit;
}

static void quota_expect_empty(struct quotas *quotas) {
        assert_int_equal(quotas->n_users, 0);
        for (unsigned slot = 0; slot < LIMIT_SLOTS; slot++) {
                assert_int_equal(quotas->pool.used[slot], 0);
                assert_int_equal(quotas->n_holders[slot], 0);
        }
        quotas_deinit(quotas);
}

static void quota_counts_at_all_levels_or_none(void **state) {
        struct limits limits = quota_limits(LIMIT_NONE);
        struct quota_refusal refusal;
        struct quota_unit *a, *b;
        struct charge charges[8] = { 0 };
        struct quota session;
        struct quotas quotas;

        quotas_init(&quotas);
        limits.max[LIMIT_SESSION][LIMIT_SOCKETS] = 3;
        limits.max[LIMIT_UNIT][LIMIT_SOCKETS] = 4;
        limits.max[LIMIT_USER][LIMIT_SOCKETS] = 6;
        a = quota_expect(&quotas, 1000, 1, &limits);
        b = quota_expect(&quotas, 1000, 2, &limits);
        quota_init(&session, a);
        for (size_t i = 0; i < 3; i++)
                assert_ok(charge_take(&charges[i], &session, LIMIT_SOCKETS, 1, &refusal));
        assert_int_equal(charge_take(&charges[3], &session, LIMIT_SOCKETS, 1, &refusal), -EDQUOT);
        assert_int_equal(refusal.quota->level, LIMIT_SESSION);
        assert_null(charges[3].quota);
        assert_ok(charge_take(&charges[3], &a->quota, LIMIT_SOCKETS, 1, &refusal));
        assert_int_equal(charge_take(&charges[4], &a->quota, LIMIT_SOCKETS, 1, &refusal), -EDQUOT);
        assert_int_equal(refusal.quota->level, LIMIT_UNIT);
        assert_ok(charge_take(&charges[4], &b->quota, LIMIT_SOCKETS, 2, &refusal));
        assert_int_equal(charge_take(&charges[5], &b->quota, LIMIT_SOCKETS, 1, &refusal), -EDQUOT);
        assert_int_equal(refusal.quota->level, LIMIT_USER);
        assert_int_equal(b->quota.used[LIMIT_SOCKETS], 2);
        assert_int_equal(quotas.pool.used[LIMIT_SOCKETS], 6);
        assert_int_equal(quotas.n_holders[LIMIT_SOCKETS], 1);
        /* What was moved is given back by its new owner. */
        charges[6] = charge_move(&charges[4]);
        charge_release(&charges[4]);
        assert_int_equal(quotas.pool.used[LIMIT_SOCKETS], 6);
        charge_release(&charges[6]);
        assert_int_equal(quotas.pool.used[LIMIT_SOCKETS], 4);
        for (size_t i = 0; i < 4; i++)
                charge_release(&charges[i]);
        quota_unit_unref(a);
        quota_unit_unref(b);
        quota_expect_empty(&quotas);
}

static void quota_amounts_never_wrap(void **state) {
        static const uint64_t amounts[] = { UINT64_MAX, UINT64_MAX - 1, UINT64_MAX / 2 + 1, UINT32_MAX, 1ull << 32 };
        struct limits limits = quota_limits(LIMIT_NONE);
        struct quota_unit *unit;
        struct quota session;
        struct quotas quotas;

        quotas_init(&quotas);
        for (int is_exempt = 0; is_exempt < 2; is_exempt++) {
                limits.is_exempt = is_exempt;
                unit = quota_expect(&quotas, 1000, 1, &limits);
                quota_init(&session, unit);
                assert_ok(quota_take(&session, LIMIT_MEMORY, 5, NULL));
                assert_int_equal(quota_take(&session, LIMIT_MEMORY, UINT64_MAX, NULL), -EDQUOT);
                assert_int_equal(quota_take(&session, LIMIT_MEMORY, UINT64_MAX - 4, NULL), -EDQUOT);
                assert_ok(quota_take(&session, LIMIT_MEMORY, UINT64_MAX - 5, NULL));
                assert_int_equal(session.used[LIMIT_MEMORY], UINT64_MAX);
                for (size_t i = 0; i < HARNESS_N(amounts); i++)
                        assert_int_equal(quota_take(&session, LIMIT_MEMORY, amounts[i], NULL), -EDQUOT);
                assert_ok(quota_take(&session, LIMIT_MEMORY, 0, NULL));
                assert_int_equal(quotas.pool.used[LIMIT_MEMORY], UINT64_MAX);
                quota_give(&session, LIMIT_MEMORY, UINT64_MAX);
                quota_unit_unref(unit);
        }
        /* A pool that is nearly everything: products with it would wrap. */
        limits = quota_limits(LIMIT_NONE - 1);
        unit = quota_expect(&quotas, 1000, 1, &limits);
        quota_init(&session, unit);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(quota_take(&session, LIMIT_MEMORY, amounts[i], NULL), -EDQUOT);
        assert_ok(quota_take(&session, LIMIT_MEMORY, UINT64_MAX / 2, NULL));
        assert_int_equal(quota_take(&session, LIMIT_MEMORY, 1, NULL), -EDQUOT);
        quota_give(&session, LIMIT_MEMORY, UINT64_MAX / 2);
        quota_unit_unref(unit);
        quota_expect_empty(&quotas);
}

/* Takes one after the other as long as there are some. Returns how many. */
static uint64_t quota_hog(struct quota *quota, enum limit_slot slot, struct quota_refusal *ret_refusal) {
        uint64_t n = 0;

        while (quota_take(quota, slot, 1, ret_refusal) == 0)
                n++;
        return n;
}

/* However much a user takes, and however late another comes. */
static void quota_shares_what_is_left(void **state) {
        struct limits limits = quota_limits(LIMIT_NONE);
        struct quota_refusal refusal;
        struct quota_unit *units[20];
        uint64_t had[20], left = 1000;
        struct quotas quotas;
        char text[QUOTA_TEXT_SIZE];

        quotas_init(&quotas);
        limits.max[LIMIT_WORKER][LIMIT_SOCKETS] = 1000;
        for (unsigned i = 0; i < HARNESS_N(units); i++) {
                units[i] = quota_expect(&quotas, 1000 + i, i + 1, &limits);
                had[i] = quota_hog(&units[i]->quota, LIMIT_SOCKETS, &refusal);
                assert_true(refusal.is_share);
                /* Who comes while more than a quarter is left may have to stop there. */
                assert_true(had[i] >= (left < 250 ? left : 250) / (i + 2));
                left -= had[i];
        }
        assert_int_equal(had[0], 500);
        assert_int_equal(had[1], 166);
        assert_int_equal(had[2], 83);
        assert_true(left > 0);
        quota_explain(&refusal, text);
        assert_non_null(strstr(text, "user 1019 has"));
        assert_non_null(strstr(text, "raise Sockets= below [Worker] in overlapd.conf"));
        /* Who had much before cannot use what was kept for others. */
        assert_int_equal(quota_hog(&units[0]->quota, LIMIT_SOCKETS, &refusal), 0);
        for (unsigned i = 0; i < HARNESS_N(units); i++) {
                quota_give(&units[i]->quota, LIMIT_SOCKETS, had[i]);
                quota_unit_unref(units[i]);
        }
        quota_expect_empty(&quotas);
}

static void quota_says_what_to_do(void **state) {
        struct limits limits = quota_limits(LIMIT_NONE);
        struct quota_refusal refusal;
        struct quota_unit *unit;
        struct quota session;
        struct quotas quotas;
        char text[QUOTA_TEXT_SIZE];

        quotas_init(&quotas);
        limits.max[LIMIT_SESSION][LIMIT_REGIONS] = 2;
        limits.max[LIMIT_UNIT][LIMIT_LISTENERS] = 0;
        limits.max[LIMIT_USER][LIMIT_SOCKETS] = 1;
        unit = quota_expect(&quotas, 1000, 1, &limits);
        quota_init(&session, unit);
        assert_ok(quota_take(&session, LIMIT_SOCKETS, 1, &refusal));
        assert_int_equal(quota_take(&session, LIMIT_SOCKETS, 1, &refusal), -EDQUOT);
        assert_string_equal(quota_explain(&refusal, text),
                            "user 1000 has 1 of 1 sockets, with those that accepts will make: close some, or raise "
                            "Sockets= below [User] in overlapd.conf");
        assert_int_equal(quota_take(&session, LIMIT_REGIONS, 3, &refusal), -EDQUOT);
        assert_string_equal(quota_explain(&refusal, text),
                            "the session has 0 of 2 regions: remove one, or raise Regions= below [Session] in "
                            "overlapd.conf");
        assert_int_equal(quota_take(&unit->quota, LIMIT_LISTENERS, 1, &refusal), -EDQUOT);
        assert_non_null(strstr(quota_explain(&refusal, text), "unit a.service of user 1000 has 0 of 0 listening"));
        quota_give(&session, LIMIT_SOCKETS, 1);
        quota_unit_unref(unit);
        quota_expect_empty(&quotas);
}

static void quota_tells_once_a_minute(void **state) {
        struct limits limits = quota_limits(0);
        const struct quota_user *user;
        struct quota_unit *a, *b;
        struct quotas quotas;
        unsigned slot;
        uint64_t n, now = 5;

        quotas_init(&quotas);
        a = quota_expect(&quotas, 1000, 1, &limits);
        b = quota_expect(&quotas, 1001, 2, &limits);
        assert_null(quotas_next_news(&quotas, now, &slot, &n));
        for (int i = 0; i < 3; i++)
                quota_take(&a->quota, LIMIT_SOCKETS, 1, NULL);
        quota_take(&a->quota, LIMIT_REGIONS, 1, NULL);
        quota_take(&b->quota, LIMIT_SOCKETS, 1, NULL);
        user = quotas_next_news(&quotas, now, &slot, &n);
        assert_int_equal(user->uid, 1000);
        assert_int_equal(slot, LIMIT_REGIONS);
        assert_int_equal(n, 1);
        user = quotas_next_news(&quotas, now, &slot, &n);
        assert_int_equal(user->uid, 1000);
        assert_int_equal(slot, LIMIT_SOCKETS);
        assert_int_equal(n, 3);
        assert_int_equal(user->news[slot].shard, 1);
        assert_non_null(strstr(user->news[slot].text, "has 0 of 0 sockets"));
        user = quotas_next_news(&quotas, now, &slot, &n);
        assert_int_equal(user->uid, 1001);
        assert_null(quotas_next_news(&quotas, now, &slot, &n));
        now += 59 * NS_PER_S;
        quota_take(&a->quota, LIMIT_SOCKETS, 1, NULL);
        assert_null(quotas_next_news(&quotas, now, &slot, &n));
        assert_true(list_is_empty(&quotas.news));
        now += NS_PER_S;
        quota_take(&a->quota, LIMIT_SOCKETS, 1, NULL);
        user = quotas_next_news(&quotas, now, &slot, &n);
        assert_int_equal(user->uid, 1000);
        assert_int_equal(n, 2);
        assert_null(quotas_next_news(&quotas, now, &slot, &n));
        quota_unit_unref(a);
        quota_unit_unref(b);
        quota_expect_empty(&quotas);
}

/* The last connection of a unit goes while the next one is on its way: that finds it, and its limits. */
static void quota_units_wait_for_whom_they_know(void **state) {
        struct quotas quotas;
        struct limits limits = quota_limits(10);
        struct quota_unit *unit, *other;

        quotas_init(&quotas);
        assert_ok(quotas_take(&quotas, 1000, 1, NULL, &limits, true));
        unit = quotas_ref(&quotas, 1);
        assert_ok(quotas_take(&quotas, 1000, 1, NULL, &limits, true));
        quota_unit_unref(unit);
        unit = quotas_ref(&quotas, 1);
        assert_non_null(unit);
        quota_unit_unref(unit);
        assert_null(quotas_ref(&quotas, 1));
        /* One that never came is found out with the next. */
        assert_ok(quotas_take(&quotas, 1000, 2, NULL, &limits, true));
        assert_ok(quotas_take(&quotas, 1000, 3, NULL, &limits, true));
        assert_null(quotas_ref(&quotas, 2));
        other = quotas_ref(&quotas, 3);
        assert_non_null(other);
        quota_unit_unref(other);
        assert_int_equal(quotas.n_users, 0);
        quotas_deinit(&quotas);
}

static void quota_limits_change(void **state) {
        struct limits limits = quota_limits(10);
        struct quota_report reports[4];
        struct quota_unit *unit;
        struct quota session;
        struct quotas quotas;

        quotas_init(&quotas);
        quotas.capacity[LIMIT_REGIONS] = 7;
        limits.max[LIMIT_WORKER][LIMIT_SOCKETS] = 100;
        unit = quota_expect(&quotas, 1000, 1, &limits);
        quota_init(&session, unit);
        assert_ok(quota_take(&session, LIMIT_SOCKETS, 5, NULL));
        limits.max[LIMIT_USER][LIMIT_SOCKETS] = 4;
        assert_ok(quotas_take(&quotas, 1000, 1, NULL, &limits, false));
        assert_int_equal(quota_take(&session, LIMIT_SOCKETS, 1, NULL), -EDQUOT);
        quota_give(&session, LIMIT_SOCKETS, 2);
        assert_ok(quota_take(&session, LIMIT_SOCKETS, 1, NULL));
        assert_int_equal(quota_take(&session, LIMIT_SOCKETS, 1, NULL), -EDQUOT);
        /* Exempt: what the session has itself, and its unit, is still asked for, and all is counted. */
        limits.is_exempt = true;
        quotas.has_room[LIMIT_SOCKETS] = false;
        assert_ok(quotas_take(&quotas, 1000, 1, NULL, &limits, false));
        assert_true(quotas.has_room[LIMIT_SOCKETS]);
        assert_ok(quota_take(&session, LIMIT_SOCKETS, 6, NULL));
        assert_int_equal(quota_take(&session, LIMIT_SOCKETS, 1, NULL), -EDQUOT);
        assert_int_equal(quota_take(&unit->quota, LIMIT_SOCKETS, 200, NULL), -EDQUOT);
        limits.max[LIMIT_UNIT][LIMIT_SOCKETS] = LIMIT_NONE;
        assert_ok(quotas_take(&quotas, 1000, 1, NULL, &limits, false));
        assert_ok(quota_take(&unit->quota, LIMIT_SOCKETS, 200, NULL));
        assert_int_equal(quotas_describe(&quotas, reports, 4), 3);
        assert_int_equal(reports[0].level, LIMIT_WORKER);
        assert_int_equal(reports[0].used[LIMIT_SOCKETS], 210);
        assert_int_equal(reports[0].max[LIMIT_SOCKETS], 100);
        assert_int_equal(reports[0].max[LIMIT_REGIONS], 7);
        assert_int_equal(reports[1].level, LIMIT_USER);
        assert_int_equal(reports[1].uid, 1000);
        assert_true(reports[1].is_exempt);
        assert_int_equal(reports[2].level, LIMIT_UNIT);
        assert_string_equal(reports[2].unit, "a.service");
        assert_int_equal(reports[2].used[LIMIT_SOCKETS], 210);
        assert_int_equal(quotas_describe(&quotas, reports, 1), 3);
        quota_give(&unit->quota, LIMIT_SOCKETS, 200);
        quota_give(&session, LIMIT_SOCKETS, 10);
        quota_unit_unref(unit);
        /* One that is announced without a connection goes with the next announcement; one that is unknown stays so. */
        assert_ok(quotas_take(&quotas, 1002, 9, NULL, &limits, true));
        assert_ok(quotas_take(&quotas, 1003, 10, NULL, &limits, false));
        assert_null(quotas_ref(&quotas, 10));
        unit = quota_expect(&quotas, 1001, 3, &limits);
        assert_int_equal(quotas.n_users, 1);
        quota_unit_unref(unit);
        quota_expect_empty(&quotas);
}

/* --- The model --------------------------------------------------------------------------------------------------- */

#define MODEL_USERS 12u
#define MODEL_UNITS 3u    /* of a user */
#define MODEL_SESSIONS 3u /* of a unit */
#define MODEL_CHARGES 400u
#define MODEL_STEPS 100000u

typedef unsigned __int128 model_number;

struct model_charge {
        struct charge charge;
        unsigned user, unit, session; /* session: MODEL_SESSIONS: the unit itself */
        enum limit_slot slot;
        uint64_t amount;
        bool is_there;
};

struct model {
        uint64_t random;
        struct quotas quotas;
        struct limits limits[MODEL_USERS][MODEL_UNITS];
        struct quota_unit *units[MODEL_USERS][MODEL_UNITS];
        struct quota sessions[MODEL_USERS][MODEL_UNITS][MODEL_SESSIONS];
        struct model_charge charges[MODEL_CHARGES];
        unsigned n_taken, n_refused[LIMIT_LEVELS], n_shares, n_exempt;
};

static uint64_t model_random(struct model *model, uint64_t n) {
        model->random ^= model->random << 13;
        model->random ^= model->random >> 7;
        model->random ^= model->random << 17;
        return n == 0 ? model->random : model->random % n;
}

/* Adds up what is charged to a user (MODEL_USERS: to all), in a unit, in a session (likewise). */
static model_number model_sum(const struct model *model, enum limit_slot slot, unsigned user, unsigned unit,
                              unsigned session) {
        model_number sum = 0;

        for (unsigned i = 0; i < MODEL_CHARGES; i++) {
                const struct model_charge *charge = &model->charges[i];

                if (charge->is_there && charge->slot == slot && (user == MODEL_USERS || charge->user == user) &&
                    (unit == MODEL_UNITS || charge->unit == unit) &&
                    (session == MODEL_SESSIONS || charge->session == session))
                        sum += charge->amount;
        }
        return sum;
}

static bool model_share_allows(struct model *model, const struct model_charge *wish, uint64_t pool_max) {
        enum limit_slot slot = wish->slot;
        model_number all = model_sum(model, slot, MODEL_USERS, MODEL_UNITS, MODEL_SESSIONS);
        model_number own = model_sum(model, slot, wish->user, MODEL_UNITS, MODEL_SESSIONS);
        model_number n = 0, left = pool_max - all;

        for (unsigned user = 0; user < MODEL_USERS; user++)
                n += user == wish->user || model_sum(model, slot, user, MODEL_UNITS, MODEL_SESSIONS) > 0;
        if (own + wish->amount > (left + own) / (n + 1))
                return false;
        return left - wish->amount >= pool_max / 4 || own + wish->amount <= (model_number) (pool_max / 4) / (n + 1);
}

/* What is to be answered: LIMIT_LEVELS: yes; LIMIT_LEVELS + 1: the share is too large; else the level that is full. */
static unsigned model_decide(struct model *model, const struct model_charge *wish) {
        const struct limits *limits = &model->limits[wish->user][wish->unit];
        enum limit_slot slot = wish->slot;
        model_number sums[LIMIT_LEVELS] = {
                [LIMIT_SESSION] = model_sum(model, slot, wish->user, wish->unit, wish->session),
                [LIMIT_UNIT] = model_sum(model, slot, wish->user, wish->unit, MODEL_SESSIONS),
                [LIMIT_USER] = model_sum(model, slot, wish->user, MODEL_UNITS, MODEL_SESSIONS),
                [LIMIT_WORKER] = model_sum(model, slot, MODEL_USERS, MODEL_UNITS, MODEL_SESSIONS),
        };

        for (unsigned level = wish->session == MODEL_SESSIONS ? LIMIT_UNIT : LIMIT_SESSION; level < LIMIT_LEVELS;
             level++) {
                uint64_t max = level == LIMIT_SESSION && slot == LIMIT_OPS ? LIMIT_NONE : limits->max[level][slot];

                if (limits->is_exempt && level > LIMIT_UNIT)
                        max = UINT64_MAX;
                if (wish->amount > 0 && sums[level] + wish->amount > max)
                        return level;
        }
        if (limits->is_exempt || wish->amount == 0 || limits->max[LIMIT_WORKER][slot] == LIMIT_NONE)
                return LIMIT_LEVELS;
        return model_share_allows(model, wish, limits->max[LIMIT_WORKER][slot]) ? LIMIT_LEVELS : LIMIT_LEVELS + 1;
}

static uint64_t model_amount(struct model *model) {
        static const uint64_t amounts[] = { 0,         1, 2, 3, UINT32_MAX, 1ull << 32, UINT64_MAX / 2, UINT64_MAX - 1,
                                            UINT64_MAX };
        uint64_t dice = model_random(model, 100);

        if (dice < 60)
                return 1 + model_random(model, 4);
        if (dice < 85)
                return model_random(model, 200);
        if (dice < 92)
                return model_random(model, 0);
        return amounts[model_random(model, HARNESS_N(amounts))];
}

static void model_take(struct model *model, struct model_charge *charge) {
        struct quota_refusal refusal = { 0 };
        struct quota *quota;
        unsigned expected;
        int r;

        *charge = (struct model_charge){
                .user = (unsigned) model_random(model, MODEL_USERS),
                .unit = (unsigned) model_random(model, MODEL_UNITS),
                .session = (unsigned) model_random(model, MODEL_SESSIONS + 1),
                .slot = (enum limit_slot) model_random(model, LIMIT_SLOTS),
                .amount = model_amount(model),
        };
        quota = charge->session == MODEL_SESSIONS ? &model->units[charge->user][charge->unit]->quota
                                                  : &model->sessions[charge->user][charge->unit][charge->session];
        expected = model_decide(model, charge);
        r = charge_take(&charge->charge, quota, charge->slot, charge->amount, &refusal);
        if (expected == LIMIT_LEVELS) {
                assert_int_equal(r, 0);
                charge->is_there = true;
                model->n_taken++;
                model->n_exempt += model->limits[charge->user][charge->unit].is_exempt;
                return;
        }
        assert_int_equal(r, -EDQUOT);
        assert_null(charge->charge.quota);
        assert_int_equal(refusal.is_share, expected == LIMIT_LEVELS + 1);
        if (refusal.is_share) {
                model->n_shares++;
        } else {
                assert_int_equal(refusal.quota->level, expected);
                model->n_refused[expected]++;
        }
}

static void model_check(const struct model *model) {
        for (unsigned slot = 0; slot < LIMIT_SLOTS; slot++) {
                uint64_t n_holders = 0;

                for (unsigned user = 0; user < MODEL_USERS; user++) {
                        model_number sum = model_sum(model, (enum limit_slot) slot, user, MODEL_UNITS, MODEL_SESSIONS);

                        n_holders += sum > 0;
                        assert_true(model->units[user][0]->user->quota.used[slot] == sum);
                        for (unsigned unit = 0; unit < MODEL_UNITS; unit++)
                                assert_true(model->units[user][unit]->quota.used[slot] ==
                                            model_sum(model, (enum limit_slot) slot, user, unit, MODEL_SESSIONS));
                }
                assert_int_equal(model->quotas.n_holders[slot], n_holders);
                assert_true(model->quotas.pool.used[slot] ==
                            model_sum(model, (enum limit_slot) slot, MODEL_USERS, MODEL_UNITS, MODEL_SESSIONS));
        }
}

static uint64_t model_limit(struct model *model, uint64_t usual) {
        uint64_t dice = model_random(model, 10);

        if (dice == 0)
                return LIMIT_NONE;
        if (dice == 1)
                return LIMIT_NONE - 1 - model_random(model, 3);
        return usual / 2 + model_random(model, usual);
}

/* All units of a user have the same limits for him, and everybody the same for the pool. */
static void model_set_limits(struct model *model) {
        static const uint64_t usual[LIMIT_LEVELS] = { 150, 300, 500, 1500 };
        uint64_t pool[LIMIT_SLOTS];

        for (unsigned slot = 0; slot < LIMIT_SLOTS; slot++)
                pool[slot] = model_limit(model, usual[LIMIT_WORKER]);
        for (unsigned user = 0; user < MODEL_USERS; user++) {
                struct limits limits = { .is_exempt = model_random(model, 8) == 0 };

                for (unsigned level = 0; level < LIMIT_WORKER; level++)
                        for (unsigned slot = 0; slot < LIMIT_SLOTS; slot++)
                                limits.max[level][slot] = model_limit(model, usual[level]);
                memcpy(limits.max[LIMIT_WORKER], pool, sizeof(pool));
                for (unsigned unit = 0; unit < MODEL_UNITS; unit++) {
                        model->limits[user][unit] = limits;
                        assert_ok(quotas_take(&model->quotas, user, 1 + user * MODEL_UNITS + unit, NULL, &limits,
                                              !model->units[user][unit]));
                        if (!model->units[user][unit])
                                model->units[user][unit] = quotas_ref(&model->quotas, 1 + user * MODEL_UNITS + unit);
                }
        }
}

static void model_run(uint64_t seed) {
        static struct model model;

        memset(&model, 0, sizeof(model));
        model.random = seed;
        quotas_init(&model.quotas);
        model_set_limits(&model);
        for (unsigned user = 0; user < MODEL_USERS; user++)
                for (unsigned unit = 0; unit < MODEL_UNITS; unit++)
                        for (unsigned session = 0; session < MODEL_SESSIONS; session++)
                                quota_init(&model.sessions[user][unit][session], model.units[user][unit]);
        for (unsigned step = 0; step < MODEL_STEPS; step++) {
                struct model_charge *charge = &model.charges[model_random(&model, MODEL_CHARGES)];

                if (model_random(&model, 5000) == 0)
                        model_set_limits(&model);
                if (!charge->is_there) {
                        model_take(&model, charge);
                } else if (model_random(&model, 3) == 0) {
                        charge_release(&charge->charge);
                        charge->is_there = false;
                }
                if (step % 1000 == 0)
                        model_check(&model);
        }
        for (unsigned i = 0; i < MODEL_CHARGES; i++) {
                charge_release(&model.charges[i].charge);
                model.charges[i].is_there = false;
        }
        model_check(&model);
        printf("# seed %#llx: %u taken (%u by exempt users), %u, %u, %u and %u refused at a level, %u shares\n",
               (unsigned long long) seed, model.n_taken, model.n_exempt, model.n_refused[0], model.n_refused[1],
               model.n_refused[2], model.n_refused[3], model.n_shares);
        assert_true(model.n_taken > 1000 && model.n_shares > 100 && model.n_exempt > 10);
        for (unsigned level = 0; level < LIMIT_LEVELS; level++)
                assert_true(model.n_refused[level] > 10);
        for (unsigned user = 0; user < MODEL_USERS; user++)
                for (unsigned unit = 0; unit < MODEL_UNITS; unit++)
                        quota_unit_unref(model.units[user][unit]);
        quota_expect_empty(&model.quotas);
}

static void quota_decides_as_the_model(void **state) {
        model_run(0x9e3779b97f4a7c15);
        model_run(0xd1b54a32d192ed03);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "all levels or none", quota_counts_at_all_levels_or_none },
                { "amounts never wrap", quota_amounts_never_wrap },
                { "what is left is shared", quota_shares_what_is_left },
                { "a refusal says what to do", quota_says_what_to_do },
                { "told once a minute", quota_tells_once_a_minute },
                { "units wait for whom they know", quota_units_wait_for_whom_they_know },
                { "limits change", quota_limits_change },
                { "the model", quota_decides_as_the_model, 120 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
