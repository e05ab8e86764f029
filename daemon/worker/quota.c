/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Invariant: what a level has used is the sum of what the levels below it have, and of what was charged to it directly;
 * a user who is gone has nothing. Units and users are made when a connection of theirs is announced, never for a
 * charge.
 *
 *   unit: (none) -> there   the limits come, and then a connection
 *         there -> (none)   its last connection, session, and file that is still read, unless a connection was
 * announced user: as long as he has a unit
 *
 * Shares. What a worker has of something is everybody's, so no user may take too much of it: with what he takes he may
 * have at most 1/(n+1) of what is left and what he has, where n users have some, himself included. So who is alone gets
 * half, and there is always something left for the next one. The last quarter is for those who have next to nothing: no
 * more than 1/(n+1) of that quarter. A user who comes late finds it, however many came before.
 *
 * No sum and no product may overflow: what would is refused. So it is for users that are exempt, whose charges count at
 * all levels, so that what is left is what is left.
 *
 * Limits may be lowered below what is used: then nothing is taken away, and nothing is given.
 *
 * Rejected: remembering who took something of the last quarter. What is given back would have to know where it came
 * from, and who holds one thing from better times would be shut out of the reserve for as long as he keeps it.
 */

#include "daemon/worker/quota.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"

#define QUOTA_NEWS_NS (60 * NS_PER_S)

void quotas_init(struct quotas *quotas) {
        *quotas = (struct quotas){ .pool = { .level = LIMIT_WORKER } };
        quotas->pool.max = quotas->max;
        list_init(&quotas->users);
        list_init(&quotas->news);
        for (size_t slot = 0; slot < LIMIT_SLOTS; slot++)
                quotas->max[slot] = quotas->capacity[slot] = LIMIT_NONE;
}

/* --- Units and users --------------------------------------------------------------------------------------------- */

static struct quota_user *quota_user_free(struct quota_user *user) {
        if (!user)
                return NULL;
        list_unlink(&user->link);
        list_unlink(&user->news_link);
        user->quotas->n_users--;
        free(user);
        return NULL;
}

static struct quota_unit *quota_unit_free(struct quota_unit *unit) {
        struct quota_user *user = unit->user;

        list_unlink(&unit->link);
        free(unit->name);
        free(unit);
        if (list_is_empty(&user->units))
                quota_user_free(user);
        return NULL;
}

void quotas_deinit(struct quotas *quotas) {
        struct list *link;

        if (!quotas->users.next)
                return;
        while ((link = list_first(&quotas->users))) {
                struct quota_user *user = list_entry(link, struct quota_user, link);

                quota_unit_free(list_entry(user->units.next, struct quota_unit, link));
        }
}

static struct quota_user *quotas_find_user(const struct quotas *quotas, uint32_t uid) {
        list_for_each(link, &quotas->users) {
                struct quota_user *user = list_entry(link, struct quota_user, link);

                if (user->uid == uid)
                        return user;
        }
        return NULL;
}

static struct quota_unit *quotas_find(const struct quotas *quotas, uint64_t shard) {
        list_for_each(link, &quotas->users) {
                const struct quota_user *user = list_entry(link, struct quota_user, link);

                list_for_each(unit_link, &user->units) {
                        struct quota_unit *unit = list_entry(unit_link, struct quota_unit, link);

                        if (unit->shard == shard)
                                return unit;
                }
        }
        return NULL;
}

static struct quota_user *quota_user_new(struct quotas *quotas, uint32_t uid) {
        struct quota_user *user = calloc(1, sizeof(*user));

        if (!user)
                return NULL;
        *user = (struct quota_user){
                .quota = { .parent = &quotas->pool, .level = LIMIT_USER },
                .quotas = quotas,
                .uid = uid,
        };
        user->quota.max = user->max;
        list_init(&user->link);
        list_init(&user->units);
        list_init(&user->unpaid);
        list_init(&user->news_link);
        list_push_back(&quotas->users, &user->link);
        quotas->n_users++;
        return user;
}

static struct quota_unit *quota_unit_new(struct quota_user *user, uint64_t shard, const char *name) {
        struct quota_unit *unit = calloc(1, sizeof(*unit));

        if (!unit)
                return NULL;
        *unit = (struct quota_unit){
                .quota = { .parent = &user->quota, .level = LIMIT_UNIT },
                .user = user,
                .shard = shard,
        };
        unit->quota.max = unit->max;
        if (name && name[0] != '\0' && !(unit->name = strdup(name))) {
                free(unit);
                return NULL;
        }
        list_init(&unit->link);
        list_push_back(&user->units, &unit->link);
        return unit;
}

/* Those whose connection was announced and never came: the next announcement shows it. */
static void quotas_drop_unused(struct quotas *quotas) {
        list_for_each_safe(link, &quotas->users) {
                struct quota_user *user = list_entry(link, struct quota_user, link);
                struct list *first = list_first(&user->units);

                while (first) {
                        struct quota_unit *unit = list_entry(first, struct quota_unit, link);
                        bool is_last = first->next == &user->units;

                        first = is_last ? NULL : first->next;
                        if (unit->n_refs == 0)
                                quota_unit_free(unit);
                }
        }
}

static int quotas_make(struct quotas *quotas, uint32_t uid, uint64_t shard, const char *name,
                       struct quota_unit **ret_unit) {
        struct quota_user *user;
        struct quota_unit *unit;

        quotas_drop_unused(quotas);
        user = quotas_find_user(quotas, uid);
        if (!user)
                user = quota_user_new(quotas, uid);
        if (!user)
                return -ENOMEM;
        unit = quota_unit_new(user, shard, name);
        if (!unit) {
                if (list_is_empty(&user->units))
                        quota_user_free(user);
                return -ENOMEM;
        }
        *ret_unit = unit;
        return 0;
}

int quotas_take(struct quotas *quotas, uint32_t uid, uint64_t shard, const char *name, const struct limits *limits,
                bool is_new) {
        struct quota_unit *unit = quotas_find(quotas, shard);
        int r;

        if (!unit && !is_new)
                return 0;
        if (!unit) {
                r = quotas_make(quotas, uid, shard, name, &unit);
                if (r < 0)
                        return r;
        }
        unit->is_announced |= is_new;
        memcpy(unit->session_max, limits->max[LIMIT_SESSION], sizeof(unit->session_max));
        unit->credits_max = unit->session_max[LIMIT_OPS];
        unit->session_max[LIMIT_OPS] = LIMIT_NONE;
        memcpy(unit->max, limits->max[LIMIT_UNIT], sizeof(unit->max));
        memcpy(unit->user->max, limits->max[LIMIT_USER], sizeof(unit->user->max));
        memcpy(unit->session_rates, limits->rates[LIMIT_SESSION], sizeof(unit->session_rates));
        memcpy(unit->user->rates, limits->rates[LIMIT_USER], sizeof(unit->user->rates));
        unit->user->is_exempt = limits->is_exempt;
        for (size_t slot = 0; slot < LIMIT_SLOTS; slot++) {
                uint64_t max = limits->max[LIMIT_WORKER][slot];

                quotas->max[slot] = max < quotas->capacity[slot] ? max : quotas->capacity[slot];
                quotas->has_room[slot] = true;
        }
        return 0;
}

struct quota_unit *quota_unit_ref(struct quota_unit *unit) {
        if (unit)
                unit->n_refs++;
        return unit;
}

struct quota_unit *quotas_ref(struct quotas *quotas, uint64_t shard) {
        struct quota_unit *unit = quota_unit_ref(quotas_find(quotas, shard));

        if (unit)
                unit->is_announced = false;
        return unit;
}

struct quota_unit *quota_unit_unref(struct quota_unit *unit) {
        return unit && --unit->n_refs == 0 && !unit->is_announced ? quota_unit_free(unit) : NULL;
}

void quota_init(struct quota *quota, struct quota_unit *unit) {
        *quota = (struct quota){ .parent = &unit->quota, .level = LIMIT_SESSION, .max = unit->session_max };
}

/* --- Taking and giving ------------------------------------------------------------------------------------------- */

static struct quota_user *quota_user_of(const struct quota *quota) {
        while (quota->level < LIMIT_USER)
                quota = quota->parent;
        return list_entry(quota, struct quota_user, quota);
}

static bool quota_refuse(const struct quota *quota, enum limit_slot slot, bool is_share,
                         struct quota_refusal *ret_refusal) {
        if (ret_refusal)
                *ret_refusal = (struct quota_refusal){ .quota = quota, .slot = slot, .is_share = is_share };
        return false;
}

static bool quota_fits(const struct quota *quota, enum limit_slot slot, uint64_t amount) {
        uint64_t used = quota->used[slot], max = quota->max[slot];

        return amount == 0 || (used < max && amount <= max - used);
}

static bool quota_overflows(const struct quota *quota, enum limit_slot slot, uint64_t amount) {
        return amount > UINT64_MAX - quota->used[slot];
}

/* Whether amount <= whole / n, without an overflow. */
static bool amount_is_part(uint64_t amount, uint64_t n, uint64_t whole) {
        uint64_t product;

        return !__builtin_mul_overflow(amount, n, &product) && product <= whole;
}

/* Whether a user's share of the pool has room for the amount, which the pool has. */
static bool quota_shares(const struct quota_user *user, enum limit_slot slot, uint64_t amount) {
        const struct quotas *quotas = user->quotas;
        uint64_t max = quotas->max[slot], left = max - quotas->pool.used[slot];
        uint64_t used = user->quota.used[slot], holds, whole;
        uint64_t n = quotas->n_holders[slot] + (used == 0) + 1;
        uint64_t reserve = max / 4;

        if (amount == 0 || max == LIMIT_NONE)
                return true;
        if (__builtin_add_overflow(used, amount, &holds) || __builtin_add_overflow(left, used, &whole))
                return false;
        if (!amount_is_part(holds, n, whole))
                return false;
        return left - amount >= reserve || amount_is_part(holds, n, reserve);
}

bool quota_has(const struct quota *quota, enum limit_slot slot, uint64_t amount, struct quota_refusal *ret_refusal) {
        const struct quota_user *user = quota_user_of(quota);

        for (; quota; quota = quota->parent) {
                bool is_asked = !user->is_exempt || quota->level <= LIMIT_UNIT;

                if (quota_overflows(quota, slot, amount) || (is_asked && !quota_fits(quota, slot, amount)))
                        return quota_refuse(quota, slot, false, ret_refusal);
        }
        if (!user->is_exempt && !quota_shares(user, slot, amount))
                return quota_refuse(&user->quota, slot, true, ret_refusal);
        return true;
}

int quota_take(struct quota *quota, enum limit_slot slot, uint64_t amount, struct quota_refusal *ret_refusal) {
        struct quota_user *user = quota_user_of(quota);
        struct quota_refusal refusal;

        if (!quota_has(quota, slot, amount, &refusal)) {
                quota_note(quota, &refusal);
                if (ret_refusal)
                        *ret_refusal = refusal;
                return -EDQUOT;
        }
        if (amount > 0 && user->quota.used[slot] == 0)
                user->quotas->n_holders[slot]++;
        for (; quota; quota = quota->parent)
                quota->used[slot] += amount;
        return 0;
}

void quota_give(struct quota *quota, enum limit_slot slot, uint64_t amount) {
        struct quota_user *user = quota_user_of(quota);

        if (amount == 0)
                return;
        for (; quota; quota = quota->parent) {
                assert(quota->used[slot] >= amount);
                quota->used[slot] -= amount;
        }
        if (user->quota.used[slot] == 0)
                user->quotas->n_holders[slot]--;
        user->quotas->has_room[slot] = true;
}

int charge_take(struct charge *charge, struct quota *quota, enum limit_slot slot, uint64_t amount,
                struct quota_refusal *ret_refusal) {
        int r = quota_take(quota, slot, amount, ret_refusal);

        if (r == 0)
                *charge = (struct charge){ .quota = quota, .slot = slot, .amount = amount };
        return r;
}

void charge_release(struct charge *charge) {
        if (charge->quota)
                quota_give(charge->quota, charge->slot, charge->amount);
        *charge = (struct charge){ 0 };
}

/* --- What people are told ---------------------------------------------------------------------------------------- */

static const struct quota_unit *quota_unit_of(const struct quota *quota) {
        while (quota && quota->level < LIMIT_UNIT)
                quota = quota->parent;
        return quota && quota->level == LIMIT_UNIT ? list_entry(quota, struct quota_unit, quota) : NULL;
}

static const char *quota_owner(const struct quota *quota, char *to, size_t size) {
        const struct quota_unit *unit = quota_unit_of(quota);

        if (quota->level == LIMIT_SESSION)
                snprintf(to, size, "the session");
        else if (quota->level == LIMIT_UNIT && unit->name)
                snprintf(to, size, "unit %.128s of user %u", unit->name, unit->user->uid);
        else if (quota->level == LIMIT_UNIT)
                snprintf(to, size, "what user %u runs outside of units", unit->user->uid);
        else if (quota->level == LIMIT_USER)
                snprintf(to, size, "user %u", list_entry(quota, struct quota_user, quota)->uid);
        else
                snprintf(to, size, "the worker");
        return to;
}

static const char *quota_explain_share(const struct quota_refusal *refusal, char text[QUOTA_TEXT_SIZE]) {
        const struct quota_user *user = quota_user_of(refusal->quota);
        const struct limit_name *name = &limit_names[refusal->slot];
        const struct quotas *quotas = user->quotas;
        uint64_t used = user->quota.used[refusal->slot], max = quotas->max[refusal->slot];

        snprintf(text, QUOTA_TEXT_SIZE,
                 "user %u has %llu %s, and no larger share of the %llu that a worker has, of which %llu are left for "
                 "others (users who have some: %llu): %s, or raise %s= below [Worker] in overlapd.conf",
                 user->uid, (unsigned long long) used, name->noun, (unsigned long long) max,
                 (unsigned long long) (max - quotas->pool.used[refusal->slot]),
                 (unsigned long long) quotas->n_holders[refusal->slot], name->advice, name->key);
        return text;
}

const char *quota_explain(const struct quota_refusal *refusal, char text[QUOTA_TEXT_SIZE]) {
        const struct quota *quota = refusal->quota;
        const struct limit_name *name = &limit_names[refusal->slot];
        char owner[192];

        if (refusal->is_share)
                return quota_explain_share(refusal, text);
        snprintf(text, QUOTA_TEXT_SIZE, "%s has %llu of %llu %s: %s, or raise %s= below [%s] in overlapd.conf",
                 quota_owner(quota, owner, sizeof(owner)), (unsigned long long) quota->used[refusal->slot],
                 (unsigned long long) quota->max[refusal->slot], name->noun, name->advice, name->key,
                 limit_sections[quota->level]);
        return text;
}

/* Returns where the text of news goes that are the first of late, else NULL. */
static char *quota_count_news(struct quota_user *user, const struct quota_unit *unit, unsigned kind) {
        struct quota_news *news = &user->news[kind];

        if (!list_is_linked(&user->news_link))
                list_push_back(&user->quotas->news, &user->news_link);
        if (news->n_refused++ > 0)
                return NULL;
        news->shard = unit ? unit->shard : 0;
        return news->text;
}

void quota_note(const struct quota *quota, const struct quota_refusal *refusal) {
        char *text = quota_count_news(quota_user_of(quota), quota_unit_of(quota), refusal->slot);

        if (text)
                quota_explain(refusal, text);
}

/* --- Rates ------------------------------------------------------------------------------------------------------- */

static uint64_t quota_note_pace(struct quota_unit *unit, enum limit_level level, const struct bucket *bucket,
                                const struct bucket_rate *rate, enum limit_rate kind, uint64_t now) {
        const struct limit_name *name = &limit_names[LIMIT_SLOTS + kind];
        char *text = quota_count_news(unit->user, unit, LIMIT_SLOTS + kind);
        uint64_t when = bucket_when(bucket, rate, rate->burst / 2 + 1);

        if (text)
                snprintf(text, QUOTA_TEXT_SIZE,
                         "%s of user %u made more than %u %s a second, and %u at once: %s; %sPerSecond= and %sBurst= "
                         "below [%s] in overlapd.conf say how many",
                         level == LIMIT_SESSION ? "a session" : "the sessions", unit->user->uid, rate->per_s,
                         name->noun, rate->burst, name->advice, name->key, name->key, limit_sections[level]);
        return when < now + NS_PER_S ? when : now + NS_PER_S;
}

uint64_t quota_pace(struct quota_unit *unit, struct bucket *bucket, enum limit_rate rate, uint64_t now) {
        struct quota_user *user = unit->user;

        if (user->is_exempt)
                return 0;
        if (bucket && !bucket_has(bucket, &unit->session_rates[rate], now))
                return quota_note_pace(unit, LIMIT_SESSION, bucket, &unit->session_rates[rate], rate, now);
        if (!bucket_take(&user->buckets[rate], &user->rates[rate], now))
                return quota_note_pace(unit, LIMIT_USER, &user->buckets[rate], &user->rates[rate], rate, now);
        if (bucket)
                bucket_take(bucket, &unit->session_rates[rate], now);
        return 0;
}

/* --- Describing -------------------------------------------------------------------------------------------------- */

static bool quota_news_are_due(const struct quota_news *news, uint64_t now) {
        return news->n_refused > 0 && (news->told_ns == 0 || now - news->told_ns >= QUOTA_NEWS_NS);
}

const struct quota_user *quotas_next_news(struct quotas *quotas, uint64_t now, unsigned *ret_kind,
                                          uint64_t *ret_n_refused) {
        struct list *link;

        while ((link = list_first(&quotas->news))) {
                struct quota_user *user = list_entry(link, struct quota_user, news_link);

                for (unsigned kind = 0; kind < LIMIT_KINDS; kind++) {
                        struct quota_news *news = &user->news[kind];

                        if (!quota_news_are_due(news, now))
                                continue;
                        *ret_kind = kind;
                        *ret_n_refused = news->n_refused;
                        news->told_ns = now;
                        news->n_refused = 0;
                        return user;
                }
                list_unlink(link);
        }
        return NULL;
}

static size_t quota_describe(const struct quota *quota, struct quota_report *reports, size_t n, size_t n_max) {
        const struct quota_unit *unit = quota_unit_of(quota);
        const struct quota_user *user = quota->level == LIMIT_WORKER ? NULL : quota_user_of(quota);

        if (n >= n_max)
                return n + 1;
        reports[n] = (struct quota_report){
                .level = quota->level,
                .uid = user ? user->uid : 0,
                .shard = unit ? unit->shard : 0,
                .unit = unit ? unit->name : NULL,
                .is_exempt = user && user->is_exempt,
        };
        memcpy(reports[n].used, quota->used, sizeof(reports[n].used));
        memcpy(reports[n].max, quota->max, sizeof(reports[n].max));
        return n + 1;
}

size_t quotas_describe(const struct quotas *quotas, struct quota_report *reports, size_t n_max) {
        size_t n = quota_describe(&quotas->pool, reports, 0, n_max);

        list_for_each(link, &quotas->users) {
                const struct quota_user *user = list_entry(link, struct quota_user, link);

                n = quota_describe(&user->quota, reports, n, n_max);
                list_for_each(unit_link, &user->units)
                        n = quota_describe(&list_entry(unit_link, struct quota_unit, link)->quota, reports, n, n_max);
        }
        return n;
}
