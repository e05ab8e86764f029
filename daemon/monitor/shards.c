/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Shards: which sessions may share sockets and APCs with each other (those of the same user and the same unit), and on
 * which worker they live.
 *
 * Invariant: the counters of users, shards and sessions are the sums of the channels that are there; what has no
 * channel left is freed. All of one shard's channels are on one worker for as long as one of them lives.
 *
 *   (none)  -> unopened  the listener took a connection
 *   unopened -> open     the worker accepted the channel's first message
 *   unopened, open -> (none)  the worker reported the end, or is gone itself
 *
 * Users and shards are few, so lists are searched; channels may be many and are named by worker messages, so they have
 * slots with generations, and a number that a worker made up names nothing, or a channel of its own.
 *
 * Rejected: a shard that stays with its worker for ever, which would fix the first accident of distribution.
 */

#include "daemon/monitor/shards.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"

static struct shards_user *shards_find_user(const struct shards *shards, uid_t uid) {
        list_for_each(link, &shards->users) {
                struct shards_user *user = list_entry(link, struct shards_user, link);

                if (user->uid == uid)
                        return user;
        }
        return NULL;
}

static struct shards_user *shards_user_release(struct shards_user *user) {
        if (!user || user->n_channels > 0)
                return NULL;
        list_unlink(&user->link);
        free(user);
        return NULL;
}

static struct shard *shard_release(struct shard *shard) {
        if (!shard || shard->n_channels > 0)
                return NULL;
        list_unlink(&shard->link);
        free(shard->unit);
        free(shard);
        return NULL;
}

static struct shards_session *shards_session_release(struct shards_session *session, struct shards_user *user) {
        if (!session || session->n_channels > 0)
                return NULL;
        list_unlink(&session->link);
        user->n_sessions--;
        rulings_unref(session->client);
        free(session);
        return NULL;
}

int shards_init(struct shards *shards) {
        *shards = (struct shards){ 0 };
        list_init(&shards->users);
        list_init(&shards->all);
        return slots_init(&shards->channels, SHARDS_CHANNELS_MAX);
}

void shards_deinit(struct shards *shards) {
        struct shards_channel *channel;
        uint32_t index = 0;

        if (!shards->users.next)
                return;
        while ((channel = slots_next(&shards->channels, &index)))
                shards_remove(shards, channel);
        slots_deinit(&shards->channels);
}

int shards_admit(const struct shards *shards, uid_t uid, const char **ret_text) {
        const struct shards_user *user = shards_find_user(shards, uid);

        *ret_text = "32 connections have not opened a session yet: try again in a moment";
        if (shards->n_unopened >= SHARDS_UNOPENED_MAX)
                return -EBUSY;
        if (uid == 0 || !user)
                return 0;
        *ret_text = "8 connections of this user have not opened a session yet: try again in a moment";
        if (user->n_unopened >= SHARDS_UNOPENED_PER_USER)
                return -EBUSY;
        return 0;
}

static bool shards_same_unit(const char *a, const char *b) {
        return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

struct shard *shards_find(const struct shards *shards, uid_t uid, const char *unit) {
        list_for_each(link, &shards->all) {
                struct shard *shard = list_entry(link, struct shard, link);

                if (shard->uid == uid && shards_same_unit(shard->unit, unit))
                        return shard;
        }
        return NULL;
}

struct shard *shards_find_of_user(const struct shards *shards, uid_t uid) {
        list_for_each(link, &shards->all) {
                struct shard *shard = list_entry(link, struct shard, link);

                if (shard->uid == uid)
                        return shard;
        }
        return NULL;
}

const struct shard *shards_number(const struct shards *shards, unsigned worker, uint64_t number) {
        list_for_each(link, &shards->all) {
                const struct shard *shard = list_entry(link, struct shard, link);

                if (shard->number == number)
                        return shard->worker == worker ? shard : NULL;
        }
        return NULL;
}

unsigned shards_count_unopened(const struct shards *shards, uid_t uid) {
        const struct shards_user *user = shards_find_user(shards, uid);

        return user ? user->n_unopened : 0;
}

unsigned shards_count(const struct shards *shards, unsigned worker) {
        unsigned n = 0;

        list_for_each(link, &shards->all) {
                const struct shard *shard = list_entry(link, struct shard, link);

                if (shard->worker == worker)
                        n += shard->n_channels;
        }
        return n;
}

static int shards_user_ref(struct shards *shards, uid_t uid, struct shards_user **ret_user) {
        struct shards_user *user = shards_find_user(shards, uid);

        if (!user) {
                user = calloc(1, sizeof(*user));
                if (!user)
                        return -ENOMEM;
                user->uid = uid;
                list_init(&user->link);
                list_push_back(&shards->users, &user->link);
        }
        *ret_user = user;
        return 0;
}

static int shards_ref(struct shards *shards, uid_t uid, const char *unit, unsigned worker, struct shard **ret_shard) {
        struct shard *shard = shards_find(shards, uid, unit);

        if (!shard) {
                shard = calloc(1, sizeof(*shard));
                if (!shard)
                        return -ENOMEM;
                shard->unit = unit ? strdup(unit) : NULL;
                if (unit && !shard->unit) {
                        free(shard);
                        return -ENOMEM;
                }
                shard->number = ++shards->last_number;
                shard->uid = uid;
                shard->worker = worker;
                list_init(&shard->link);
                list_init(&shard->sessions);
                list_push_back(&shards->all, &shard->link);
        }
        *ret_shard = shard;
        return 0;
}

int shards_add(struct shards *shards, uid_t uid, const char *unit, pid_t pid, unsigned worker,
               struct shards_channel **ret_channel) {
        _cleanup_free_ struct shards_channel *channel = NULL;
        struct shards_user *user = NULL;
        struct shard *shard = NULL;
        int r;

        channel = calloc(1, sizeof(*channel));
        if (!channel)
                return -ENOMEM;
        r = shards_user_ref(shards, uid, &user);
        if (r >= 0)
                r = shards_ref(shards, uid, unit, worker, &shard);
        if (r >= 0)
                r = slots_add(&shards->channels, channel, &channel->number);
        if (r < 0) {
                shard_release(shard);
                shards_user_release(user);
                return r;
        }
        channel->shard = shard;
        channel->user = user;
        channel->pid = pid;
        shard->n_channels++;
        user->n_channels++;
        user->n_unopened++;
        shards->n_unopened++;
        *ret_channel = take_ptr(channel);
        return 0;
}

struct shards_channel *shards_channel(const struct shards *shards, unsigned worker, uint64_t number) {
        struct shards_channel *channel = slots_find(&shards->channels, number);

        return channel && channel->shard->worker == worker ? channel : NULL;
}

static struct shards_session *shard_find_session(const struct shard *shard, uint64_t number) {
        list_for_each(link, &shard->sessions) {
                struct shards_session *session = list_entry(link, struct shards_session, link);

                if (session->number == number)
                        return session;
        }
        return NULL;
}

struct shards_session *shards_session(const struct shards *shards, unsigned worker, uint64_t number) {
        list_for_each(link, &shards->all) {
                const struct shard *shard = list_entry(link, struct shard, link);
                struct shards_session *session = shard->worker == worker ? shard_find_session(shard, number) : NULL;

                if (session)
                        return session;
        }
        return NULL;
}

static int shard_session_ref(struct shard *shard, struct shards_user *user, pid_t pid, uint64_t number,
                             struct shards_session **ret_session) {
        struct shards_session *session = shard_find_session(shard, number);

        if (!session) {
                session = calloc(1, sizeof(*session));
                if (!session)
                        return -ENOMEM;
                session->number = number;
                session->shard = shard;
                session->pid = pid;
                session->opened_ns = now_ns();
                list_init(&session->link);
                list_push_back(&shard->sessions, &session->link);
                user->n_sessions++;
        }
        *ret_session = session;
        return 0;
}

int shards_open(struct shards *shards, struct shards_channel *channel, uint64_t session) {
        int r;

        if (channel->is_open)
                return -EALREADY;
        if (session != 0) {
                r = shard_session_ref(channel->shard, channel->user, channel->pid, session, &channel->session);
                if (r < 0)
                        return r;
                channel->session->n_channels++;
                if (!channel->session->client)
                        channel->session->client = rulings_ref_again(channel->client);
        }
        channel->is_open = true;
        channel->user->n_unopened--;
        shards->n_unopened--;
        return 0;
}

void shards_remove(struct shards *shards, struct shards_channel *channel) {
        struct shards_user *user = channel->user;
        struct shard *shard = channel->shard;

        slots_remove(&shards->channels, channel->number);
        if (!channel->is_open) {
                user->n_unopened--;
                shards->n_unopened--;
        }
        if (channel->session) {
                channel->session->n_channels--;
                shards_session_release(channel->session, user);
        }
        rulings_unref(channel->client);
        free(channel);
        shard->n_channels--;
        shard_release(shard);
        user->n_channels--;
        shards_user_release(user);
}

unsigned shards_remove_worker(struct shards *shards, unsigned worker) {
        struct shards_channel *channel;
        uint32_t index = 0;
        unsigned n = 0;

        while ((channel = slots_next(&shards->channels, &index))) {
                if (channel->shard->worker != worker)
                        continue;
                shards_remove(shards, channel);
                n++;
        }
        return n;
}
