/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_QUOTA_H
#define DAEMON_WORKER_QUOTA_H

/*
 * Who pays for what. A charge is embedded in the thing that it pays for, is taken before the thing is made, and goes
 * when the thing goes. It is paid at all levels at once, or at none: session, unit, user, worker.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "daemon/limit.h"

#define QUOTA_TEXT_SIZE 400

/* What one level has. */
struct quota {
        struct quota *parent; /* borrowed; NULL: this is the worker's */
        enum limit_level level;
        const uint64_t *max; /* LIMIT_SLOTS of them; borrowed */
        uint64_t used[LIMIT_SLOTS];
};

/* What is to be told of a user's refusals in one slot. */
struct quota_news {
        uint64_t told_ns;   /* when the monitor was told last; 0: never */
        uint64_t n_refused; /* since then */
        uint64_t shard;     /* of the first of these */
        char text[QUOTA_TEXT_SIZE];
};

struct quota_user {
        struct quota quota;
        struct quotas *quotas; /* borrowed */
        struct list link;
        struct list units;
        struct list unpaid;    /* accepts of his that wait for room for their sockets */
        struct list news_link; /* among those of whom something is to be told */
        uint32_t uid;
        bool is_exempt;
        uint64_t max[LIMIT_SLOTS];
        struct bucket_rate rates[LIMIT_RATES];
        struct bucket buckets[LIMIT_RATES];
        struct quota_news news[LIMIT_KINDS];
};

struct quota_unit {
        struct quota quota;
        struct quota_user *user; /* borrowed */
        struct list link;
        uint64_t shard;
        char *name; /* NULL: its sessions are in no unit */
        unsigned n_refs;
        bool is_announced; /* a connection of it follows, which finds it also when all others have gone meanwhile */
        uint64_t max[LIMIT_SLOTS];
        uint64_t session_max[LIMIT_SLOTS]; /* of each of its sessions */
        struct bucket_rate session_rates[LIMIT_RATES];
        uint64_t credits_max; /* likewise: what is refused beyond is no quota's affair */
};

/* All that a worker counts. */
struct quotas {
        struct quota pool;
        uint64_t max[LIMIT_SLOTS];
        uint64_t capacity[LIMIT_SLOTS]; /* that a limit of the pool cannot exceed */
        struct list users;
        struct list news;
        uint64_t n_users;                /* that are there */
        uint64_t n_holders[LIMIT_SLOTS]; /* of these, who have something */
        bool has_room[LIMIT_SLOTS];      /* something was given back, or limits changed: for who waits, and clears it */
};

struct charge {
        struct quota *quota; /* borrowed; NULL: nothing is charged */
        enum limit_slot slot;
        uint64_t amount;
};

/* Why something was not given. */
struct quota_refusal {
        const struct quota *quota; /* that has too much of it; borrowed; NULL: nothing was refused */
        enum limit_slot slot;
        bool is_share; /* of the worker's pool there is some left, but not for this user */
};

void quotas_init(struct quotas *quotas);

/* Takes a zeroed structure. */
void quotas_deinit(struct quotas *quotas);

/*
 * Takes the limits of a unit, of its user and of the worker. They hold for what is charged from now on.
 *
 * name:   of the unit; NULL or empty: none.
 * is_new: a connection of the unit follows; else one that is not known is not made.
 *
 * Returns 0 or -ENOMEM.
 */
int quotas_take(struct quotas *quotas, uint32_t uid, uint64_t shard, const char *name, const struct limits *limits,
                bool is_new);

/* The unit of a shard, for the connection that was announced; NULL where there is none. */
struct quota_unit *quotas_ref(struct quotas *quotas, uint64_t shard);
struct quota_unit *quota_unit_ref(struct quota_unit *unit);

/* NULL is fine. Its user goes with the last unit. Returns NULL. */
struct quota_unit *quota_unit_unref(struct quota_unit *unit);

/* Embeds the level of a session, which refers to the unit by itself. */
void quota_init(struct quota *quota, struct quota_unit *unit);

/* Whether so much may be taken. If not, ret_refusal (NULL: nobody asks) says why; nobody is told. */
bool quota_has(const struct quota *quota, enum limit_slot slot, uint64_t amount, struct quota_refusal *ret_refusal);

/*
 * Takes so much, at this level and all behind it. An amount that would overflow is not left. A refusal is noted, for
 * quotas_next_news(). Never allocates.
 *
 * Returns 0, or -EDQUOT and why (ret_refusal may be NULL).
 */
int quota_take(struct quota *quota, enum limit_slot slot, uint64_t amount, struct quota_refusal *ret_refusal);

/* Gives back what was taken. */
void quota_give(struct quota *quota, enum limit_slot slot, uint64_t amount);

/* A refusal that is no error for anybody, because the client waits: noted like others. */
void quota_note(const struct quota *quota, const struct quota_refusal *refusal);

/* What was refused, at whose limit, and which setting to change. Returns the text. */
const char *quota_explain(const struct quota_refusal *refusal, char text[QUOTA_TEXT_SIZE]);

/* The same as quota_take() and quota_give() with a charge, which remembers. The charge is taken on success only. */
int charge_take(struct charge *charge, struct quota *quota, enum limit_slot slot, uint64_t amount,
                struct quota_refusal *ret_refusal);
void charge_release(struct charge *charge);

/* Hands the charge over to another owner. */
static inline struct charge charge_move(struct charge *charge) {
        struct charge moved = *charge;

        *charge = (struct charge){ 0 };
        return moved;
}

/*
 * What is to be told of refusals: of each user and slot at most once a minute.
 *
 * now: ns, of the clock that deadlines use.
 *
 * Returns the user, and the kind of news, which count as told; NULL when there are none.
 */
const struct quota_user *quotas_next_news(struct quotas *quotas, uint64_t now, unsigned *ret_kind,
                                          uint64_t *ret_n_refused);

/*
 * Takes a token: of the user, and where there is a session also of its own bucket (NULL: none). Exempt users need none.
 * A refusal is noted.
 *
 * now:    ns, of the clock that deadlines use.
 * bucket: of a session of the unit.
 *
 * Returns 0; or when it is worth to try again, in ns of that clock.
 */
uint64_t quota_pace(struct quota_unit *unit, struct bucket *bucket, enum limit_rate rate, uint64_t now);

/* What one level has and may have: for people. */
struct quota_report {
        enum limit_level level; /* LIMIT_WORKER, LIMIT_USER or LIMIT_UNIT */
        uint32_t uid;
        uint64_t shard;   /* of a unit */
        const char *unit; /* its name; borrowed; NULL: none */
        bool is_exempt;
        uint64_t used[LIMIT_SLOTS];
        uint64_t max[LIMIT_SLOTS];
};

/* Describes the worker, then each user and behind him his units. Returns how many there are; fills at most n_max. */
size_t quotas_describe(const struct quotas *quotas, struct quota_report *reports, size_t n_max);

#endif
