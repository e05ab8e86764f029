/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_ADMIN_H
#define DAEMON_MONITOR_ADMIN_H

/* The administrators' socket: who may ask what overlapd does, and is answered. */

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "base/list.h"
#include "daemon/monitor/admin-answer.h"
#include "daemon/monitor/listener.h"
#include "proto/message.h"

#define ADMIN_GROUP "overlapd-admin" /* whose members may ask, beside root and the daemon's own user */
#define ADMIN_PEERS_MAX 16u          /* connections */
#define ADMIN_PEERS_OF_USER_MAX 8u   /* of one user; root is exempt */
#define ADMIN_IDLE_S 60u             /* until a connection on which nothing is asked is closed */
#define ADMIN_LATE_S 5u              /* likewise one that does not send the rest of a question, or take its answer */
#define ADMIN_WORKER_S 2u            /* until a worker that does not answer is left out */

struct admin {
        sd_event *event; /* borrowed */
        struct journal *journal;
        struct admin_sources sources;
        struct reaper *reaper;
        struct listener listener; /* where is_listening is set */
        bool is_listening;
        sd_event_source *source;
        bool has_group;
        gid_t group;
        struct list peers;
        unsigned n_peers;
        uint64_t n_ever;
        struct message_arena *arena;
};

/* journal, reaper: borrowed. sources: copied; what it points to is borrowed. */
void admin_init(struct admin *admin, sd_event *event, struct journal *journal, struct reaper *reaper,
                const struct admin_sources *sources);

/* Takes a zeroed structure. */
void admin_deinit(struct admin *admin);

/*
 * The path of the socket that belongs to a socket of clients: admin.sock beside one that is named overlapd.sock, else
 * the same with .admin behind it.
 *
 * Returns 0 or -ENAMETOOLONG.
 */
int admin_path(const char *socket_path, char *to, size_t size);

/* Makes the socket, and listens. Returns 0 or -errno and a text. */
int admin_open(struct admin *admin, const char *path, bool is_private, char error[LISTENER_ERROR_SIZE]);

/* Uses one of the service manager's. take_fd: taken on success. Returns as listener_adopt(), or another -errno. */
int admin_adopt(struct admin *admin, int take_fd);

/* Goes on with what waited for a worker. To be called after each dispatch. */
void admin_settle(struct admin *admin);

#endif
