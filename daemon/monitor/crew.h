/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_CREW_H
#define DAEMON_MONITOR_CREW_H

/* The workers, as the monitor sees them: processes, their links, and what they ask for. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "daemon/monitor/config.h"
#include "daemon/monitor/connector.h"
#include "daemon/monitor/gate.h"
#include "daemon/monitor/journal.h"
#include "daemon/monitor/lookout.h"
#include "daemon/monitor/names.h"
#include "daemon/monitor/outbox.h"
#include "daemon/monitor/pages.h"
#include "daemon/monitor/shards.h"
#include "daemon/monitor/spawn.h"

#define CREW_DEATHS_MAX 5u /* within CREW_DEATHS_S: starting again does not help */
#define CREW_DEATHS_S 60u
#define CREW_PULSES_MISSED_MAX 2u /* in a row: a worker whose turns do not end is killed */
#define CREW_LATE_S 10u           /* until a worker is ready, and until one that closed its link has ended */

enum crew_state {
        CREW_OFF,      /* no process */
        CREW_STARTING, /* not ready yet */
        CREW_READY,
};

struct crew;

struct crew_member {
        struct crew *crew; /* borrowed */
        unsigned index;
        enum crew_state state;
        bool is_condemned; /* was killed; what it still says is not listened to */
        bool is_deaf;      /* its link is not read until it has read some of what waits for it */
        pid_t pid;
        int link_fd;
        sd_event_source *link_source;
        sd_event_source *child_source;
        sd_event_source *deadline;
        bool is_asked; /* for a sign of life that has not come yet */
        unsigned n_pulses_missed;
        unsigned n_sessions; /* this and the next two as it said of late */
        unsigned n_sockets;
        unsigned n_ops;
        struct pages pages;
        struct outbox outbox;
        struct connector connector;
        char failure[LINK_TEXT_SIZE]; /* why it could not start; empty: it did not say */
        char engine[32];
        char engine_reason[LINK_TEXT_SIZE];
};

struct crew {
        sd_event *event;         /* borrowed */
        struct journal *journal; /* borrowed */
        struct shards *shards;   /* borrowed */
        struct rulings *rulings; /* borrowed */
        struct allowances allowances;
        struct gate gate; /* through which connections come */
        struct spawn_worker spawn;
        struct names names;
        struct lookout lookout;
        struct crew_member members[CONFIG_WORKERS_MAX];
        unsigned n_members;
        unsigned n_connects_max; /* of one member */
        unsigned n_alive;
        unsigned n_ready;
        bool is_watched;                     /* crew_pulse() is called */
        uint64_t n_pulses;                   /* signs of life that came */
        uint64_t deaths_ns[CREW_DEATHS_MAX]; /* a ring */
        unsigned n_deaths;                   /* ever */
        bool is_stopping;
        bool has_failed; /* it makes no sense to go on; the reason was written */
};

/*
 * allowances: how much clients may have. Copied.
 * spawn:   how workers are started. Copied; what it points to is borrowed.
 * n_files: descriptors that this process may have, of which connects in progress may use up most.
 */
void crew_init(struct crew *crew, sd_event *event, struct journal *journal, struct shards *shards,
               struct rulings *rulings, const struct allowances *allowances, const struct spawn_worker *spawn,
               unsigned n_members, uint64_t n_files);

/* Kills who is left, without waiting for an end that anybody would report. Takes a zeroed crew. */
void crew_deinit(struct crew *crew);

/* Starts all workers. Returns 0, or -errno when the first could not be started. */
int crew_start(struct crew *crew);

/*
 * Chooses a worker for a connection: where its shard is, else the one with the fewest channels.
 *
 * with_user: where another shard of the user is: he is subject to quotas, and only who has all of him can count.
 *
 * Returns its index, or -EAGAIN when that worker, or every worker, is about to be replaced: ask again later.
 */
int crew_pick(const struct crew *crew, uid_t uid, const char *unit, bool with_user);

/*
 * Hands a connection to a worker, which is told before what the policy says of its client, and how much he may have.
 *
 * take_fd: taken on success.
 *
 * Returns 0; -EPIPE when the worker is gone; or -ENOBUFS when it is behind.
 */
int crew_give(struct crew *crew, const struct shard *shard, const struct link_message *message,
              const struct rulings_client *client, int take_fd);

/* Tells the workers what the policy says since it was read again. */
void crew_tell_rulings(struct crew *crew);

/* Tells the workers how much their clients may have from now on. */
void crew_set_allowances(struct crew *crew, const struct allowances *allowances);

/* Looks after what no event of its own tells: called after each dispatch of the loop. */
void crew_settle(struct crew *crew);

/*
 * Asks every worker for a sign of life, which only the end of a turn of its own can give; it raises n_pulses. One that
 * missed CREW_PULSES_MISSED_MAX questions is killed, and replaced as any other that dies. Questions are counted, not
 * time: when the whole machine stood still, that is no worker's fault.
 */
void crew_pulse(struct crew *crew);

/* Asks all workers to finish. */
void crew_stop(struct crew *crew);

/* Kills all workers. */
void crew_kill(struct crew *crew);

#endif
