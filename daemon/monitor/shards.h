/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_SHARDS_H
#define DAEMON_MONITOR_SHARDS_H

/* Who is connected: channels, the sessions and users that they count against, and the shards that bind them to workers.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/list.h"
#include "base/slots.h"
#include "daemon/monitor/rulings.h"

#define SHARDS_UNOPENED_MAX 32u     /* connections that did not open yet, of everybody */
#define SHARDS_UNOPENED_PER_USER 8u /* of one user; root is exempt */
#define SHARDS_CHANNELS_MAX 65536u

struct shards_user {
        struct list link;
        uid_t uid;
        unsigned n_channels;
        unsigned n_unopened;
        unsigned n_sessions;
};

struct shard {
        struct list link;
        struct list sessions;
        uint64_t number;
        uid_t uid;
        char *unit; /* NULL: none */
        unsigned worker;
        unsigned n_channels;
};

struct shards_session {
        struct list link;
        uint64_t number;
        struct shard *shard; /* borrowed */
        unsigned n_channels;
        pid_t pid;                     /* of the process that opened it */
        struct rulings_client *client; /* of its first connection. A reference. */
        uint64_t opened_ns;
};

struct shards_channel {
        uint64_t number;
        struct shard *shard;            /* borrowed */
        struct shards_user *user;       /* borrowed */
        struct shards_session *session; /* borrowed; NULL before the channel is open */
        pid_t pid;
        bool is_open;
        struct rulings_client *client; /* what the policy says of it: set by whoever adds it. A reference, or NULL. */
};

struct shards {
        struct list users;
        struct list all;
        struct slots channels;
        uint64_t last_number;
        unsigned n_unopened;
};

/* Returns 0 or -ENOMEM. */
int shards_init(struct shards *shards);
void shards_deinit(struct shards *shards);

/*
 * Asks whether one more connection of this user may be taken.
 *
 * Returns 0, or -EBUSY when others have to open or end first, which is a matter of moments, and a text for the client
 * that names the limit: static storage.
 */
int shards_admit(const struct shards *shards, uid_t uid, const char **ret_text);

/* Returns the shard of this user and unit (NULL: none), or NULL when there is none yet. */
struct shard *shards_find(const struct shards *shards, uid_t uid, const char *unit);

/* Returns a shard of this user, or NULL. */
struct shard *shards_find_of_user(const struct shards *shards, uid_t uid);

/* The shard of this number on this worker, or NULL. */
const struct shard *shards_number(const struct shards *shards, unsigned worker, uint64_t number);

/* The connections of a user that have not opened anything yet. */
unsigned shards_count_unopened(const struct shards *shards, uid_t uid);

/* The channels of a worker: what the choice of a worker goes by. */
unsigned shards_count(const struct shards *shards, unsigned worker);

/*
 * Takes a connection into the tables.
 *
 * worker: where a new shard goes; a shard that is there stays where it is.
 *
 * Returns 0, -ENFILE or -ENOMEM.
 */
int shards_add(struct shards *shards, uid_t uid, const char *unit, pid_t pid, unsigned worker,
               struct shards_channel **ret_channel);

/* Returns the channel if it is one of this worker's, else NULL. */
struct shards_channel *shards_channel(const struct shards *shards, unsigned worker, uint64_t number);

/* Returns the session of this number on this worker, or NULL. */
struct shards_session *shards_session(const struct shards *shards, unsigned worker, uint64_t number);

/* The channel was opened for this session (0: for none). Returns 0, -EALREADY, or -ENOMEM. */
int shards_open(struct shards *shards, struct shards_channel *channel, uint64_t session);

/* The channel is gone; shards, sessions and users that nobody needs any more go with their last channel. */
void shards_remove(struct shards *shards, struct shards_channel *channel);

/* The worker is gone, and its channels with it. Returns how many. */
unsigned shards_remove_worker(struct shards *shards, unsigned worker);

#endif
