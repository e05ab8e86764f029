/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_CONNECTOR_H
#define DAEMON_MONITOR_CONNECTOR_H

/* The cold network calls on behalf of one worker: open, bind, listen, connect. */

#include <systemd/sd-event.h>

#include "base/list.h"
#include "daemon/link.h"
#include "daemon/monitor/journal.h"
#include "daemon/monitor/outbox.h"
#include "daemon/monitor/rulings.h"

#define CONNECTOR_CONNECTS_MAX 4096u /* in progress at once, where there are descriptors for so many */

struct names;

struct connector {
        sd_event *event;         /* borrowed */
        struct outbox *outbox;   /* borrowed: where answers go */
        struct journal *journal; /* borrowed */
        struct rulings *rulings; /* borrowed */
        struct names *names;     /* borrowed: whoever connects to a name asks there */
        struct list connects;
        unsigned n_connects;
        unsigned n_connects_max;
};

/* On whose behalf a request is made, as the monitor knows it. */
struct connector_client {
        bool is_known;
        bool is_exempt; /* of quotas */
        uint64_t session;
        pid_t pid;
        uid_t uid;
        const char *unit;   /* borrowed, or NULL */
        const char *cgroup; /* likewise */
        struct link_asker asker;
        struct rulings_client *rulings; /* borrowed while the request is taken; NULL where it is not known */
};

/* n_connects_max: connects that may be in progress at once; each holds a descriptor. */
void connector_init(struct connector *connector, sd_event *event, struct outbox *outbox, struct journal *journal,
                    struct rulings *rulings, struct names *names, unsigned n_connects_max);

/* Gives up what is in progress; nobody is answered. Takes a zeroed connector. */
void connector_deinit(struct connector *connector);

/* Whether this kind of message is a request that connector_handle() takes. */
bool connector_wants(uint32_t kind);

/*
 * Carries out one request; its answer goes to the outbox, now or when a connect ends.
 *
 * fd: the descriptor that came with the message, -1, or -EMFILE when it was lost on the way. Borrowed.
 *
 * Returns 0; -EBADMSG and a static text when no honest worker would have sent this; or another -errno when the answer
 * could not be given.
 */
int connector_handle(struct connector *connector, const struct link_message *message, int fd,
                     const struct connector_client *client, const char **ret_problem);

/* What a journal line about a request that was refused says of its client. */
struct journal_fields connector_describe(const struct connector_client *client, int error);

#endif
