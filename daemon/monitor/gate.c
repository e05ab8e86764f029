/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A session that is opened and dropped costs little, a thousand in a second cost others their turns. Each connection
 * takes a token of its user, and has it given back if it turns out to be a further thread or port of a session. One
 * that never says what it is has cost a token, too. While it is not known what they are, connections are not held
 * against the next: a program whose threads all connect at once has taken no token for long.
 *
 *   open   -> closed   a connection finds no token: all are refused for a second, or twice as long as the last time
 *   closed -> open     the time is over
 *
 * A minute after that what was is forgotten; what is forgotten and has all its tokens is freed when another user comes.
 *
 * Rejected: prolonging the time by each try, which would keep out a user for ever for one process that does not give
 * up; letting connections wait, which only moves the crowd.
 */

#include "daemon/monitor/gate.h"

#include <errno.h>
#include <stdlib.h>

struct gate_user {
        struct list link;
        uid_t uid;
        struct bucket bucket;
        uint64_t closed_until_ns;
        uint64_t penalty_ns; /* the last; 0: none */
};

void gate_init(struct gate *gate) {
        list_init(&gate->users);
}

static void gate_user_free(struct gate_user *user) {
        list_unlink(&user->link);
        free(user);
}

void gate_deinit(struct gate *gate) {
        while (gate->users.next && !list_is_empty(&gate->users))
                gate_user_free(list_entry(gate->users.next, struct gate_user, link));
}

static struct gate_user *gate_find(const struct gate *gate, uid_t uid) {
        list_for_each(link, &gate->users) {
                struct gate_user *user = list_entry(link, struct gate_user, link);

                if (user->uid == uid)
                        return user;
        }
        return NULL;
}

static bool gate_forgives(const struct gate_user *user, uint64_t now) {
        return now >= user->closed_until_ns && now - user->closed_until_ns >= GATE_PENALTY_MAX_NS;
}

static void gate_tidy(struct gate *gate, uint64_t now) {
        list_for_each_safe(link, &gate->users) {
                struct gate_user *user = list_entry(link, struct gate_user, link);

                if (gate_forgives(user, now) && user->bucket.full_ns <= now)
                        gate_user_free(user);
        }
}

static struct gate_user *gate_user_new(struct gate *gate, uid_t uid) {
        struct gate_user *user = calloc(1, sizeof(*user));

        if (!user)
                return NULL;
        user->uid = uid;
        list_init(&user->link);
        list_push_back(&gate->users, &user->link);
        return user;
}

static uint64_t gate_next_penalty(const struct gate_user *user, uint64_t now) {
        if (user->penalty_ns == 0 || gate_forgives(user, now))
                return GATE_PENALTY_NS;
        return user->penalty_ns * 2 < GATE_PENALTY_MAX_NS ? user->penalty_ns * 2 : GATE_PENALTY_MAX_NS;
}

/* As many more fit as may turn out to be threads. */
static struct bucket_rate gate_rate_with(const struct bucket_rate *rate, unsigned n_unknown) {
        uint32_t room = BUCKET_BURST_MAX - rate->burst;

        return (struct bucket_rate){ rate->per_s, rate->burst + (n_unknown < room ? n_unknown : room) };
}

int gate_pass(struct gate *gate, uid_t uid, const struct bucket_rate *rate, unsigned n_unknown, uint64_t now,
              uint64_t *ret_wait_ns, bool *ret_begins) {
        const struct bucket_rate with = gate_rate_with(rate, n_unknown);
        struct gate_user *user = gate_find(gate, uid);

        if (rate->per_s == 0)
                return 0;
        if (!user) {
                gate_tidy(gate, now);
                user = gate_user_new(gate, uid);
        }
        if (!user)
                return -ENOMEM;
        *ret_begins = false;
        if (user->closed_until_ns <= now) {
                if (bucket_take(&user->bucket, &with, now))
                        return 0;
                *ret_begins = true;
                user->penalty_ns = gate_next_penalty(user, now);
                user->closed_until_ns = now + user->penalty_ns;
        }
        *ret_wait_ns = user->closed_until_ns - now;
        return -EBUSY;
}

void gate_give_back(struct gate *gate, uid_t uid, const struct bucket_rate *rate) {
        struct gate_user *user = gate_find(gate, uid);

        if (user)
                bucket_give(&user->bucket, rate);
}
