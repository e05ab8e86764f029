/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The crew: the workers.
 *
 * Invariant: a member has either nothing, or a process together with its link, outbox, connector and event sources;
 * they come and go together. Channels in the tables of shards name only members that are alive. What a worker says is
 * checked here or in the connector; a worker that says what no honest one would say is killed, and its successor
 * starts.
 *
 *   off      -> starting  at start, and by the death of the one before it
 *   starting -> ready     by LINK_READY
 *   starting -> off       by LINK_READY with an error, by the time limit, by its death: it is not tried again
 *   ready    -> off       by its death (a crash, a message that condemned it, the end that the monitor asked for)
 *
 * A successor starts at once: clients reconnect at once. Five deaths in a minute are no accident any more, and the
 * service manager's back-off is better than ours, so the crew then reports that it failed and the monitor ends.
 *
 * Nothing here calls the monitor: it reads n_ready, n_alive and has_failed after each dispatch.
 *
 * Rejected: deciding by exit status whether a worker is worth a successor (a worker that was taken over chooses its
 * own).
 */

#include "daemon/monitor/crew.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/events.h"
#include "proto/address.h"

#define CREW_MESSAGES_PER_VISIT 64
#define CREW_FILES_RESERVED 512 /* descriptors for all but connects: links, queues of descriptors, the lobby */
#define CREW_END_NS (2 * NS_PER_S)
#define CREW_END_STEP_NS 2000000
#define CREW_OUTBOX_PAUSE 64 /* messages that wait for a worker before no more of its requests are read */
#define CREW_LEFT_MAX 20000  /* packets of a worker that is gone: more than a link holds */

void crew_init(struct crew *crew, sd_event *event, struct journal *journal, struct shards *shards,
               struct rulings *rulings, const struct allowances *allowances, const struct spawn_worker *spawn,
               unsigned n_members, uint64_t n_files) {
        uint64_t reserved = n_files / 2 < CREW_FILES_RESERVED ? n_files / 2 : CREW_FILES_RESERVED;
        uint64_t share = (n_files - reserved) / n_members;

        *crew = (struct crew){ .event = event, .journal = journal, .shards = shards, .n_members = n_members };
        crew->rulings = rulings;
        crew->allowances = *allowances;
        gate_init(&crew->gate);
        crew->spawn = *spawn;
        names_init(&crew->names, event, journal, rulings);
        lookout_init(&crew->lookout, event, journal);
        crew->n_connects_max = share < CONNECTOR_CONNECTS_MAX ? (unsigned) share : CONNECTOR_CONNECTS_MAX;
        for (unsigned i = 0; i < n_members; i++)
                crew->members[i] =
                        (struct crew_member){ .crew = crew, .index = i, .link_fd = -1, .pages = { .fd = -1 } };
}

/*
 * Takes what nobody has read, and nobody will: a socket in it would be closed with the link, and linger there. A packet
 * of no bytes looks like the end, and need not be it.
 */
static void crew_empty_link(const struct crew_member *member) {
        struct link_message message;
        int r = 0;

        for (unsigned n = 0; n < CREW_LEFT_MAX && (r >= 0 || r == -EBADMSG || r == -EINTR); n++) {
                int fd = -1;

                r = link_receive(member->link_fd, &message, &fd);
                link_close(fd);
        }
}

/* Everything of a process but the process; what it had in progress is given up. Returns how many channels ended. */
static unsigned crew_member_clear(struct crew_member *member) {
        struct crew *crew = member->crew;

        member->link_source = sd_event_source_disable_unref(member->link_source);
        member->child_source = sd_event_source_disable_unref(member->child_source);
        member->deadline = sd_event_source_disable_unref(member->deadline);
        connector_deinit(&member->connector);
        if (crew->names.event)
                names_forget(&crew->names, &member->outbox);
        if (crew->lookout.event)
                lookout_forget(&crew->lookout, &member->outbox);
        outbox_deinit(&member->outbox);
        if (member->link_fd >= 0)
                crew_empty_link(member);
        member->link_fd = fd_close(member->link_fd);
        if (member->state == CREW_READY)
                crew->n_ready--;
        if (member->state != CREW_OFF)
                crew->n_alive--;
        member->state = CREW_OFF;
        member->is_condemned = false;
        member->is_deaf = false;
        member->is_asked = false;
        pages_end(&member->pages);
        member->n_pulses_missed = member->n_sessions = member->n_sockets = member->n_ops = 0;
        member->pid = 0;
        return shards_remove_worker(crew->shards, member->index);
}

/*
 * Ends a process and waits for its end, until a moment: one that a file system keeps in a read (see reader.c) goes only
 * when that answers, which is up to whoever serves the files.
 */
static void crew_end_process(pid_t pid, uint64_t until_ns) {
        const struct timespec step = { .tv_nsec = CREW_END_STEP_NS };

        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, WNOHANG) == 0 && now_ns() < until_ns)
                nanosleep(&step, NULL);
}

void crew_deinit(struct crew *crew) {
        uint64_t until_ns = now_ns() + CREW_END_NS;

        for (unsigned i = 0; i < crew->n_members; i++) {
                struct crew_member *member = &crew->members[i];

                if (member->pid > 0)
                        crew_end_process(member->pid, until_ns);
                crew_member_clear(member);
        }
        crew->n_members = 0;
        gate_deinit(&crew->gate);
        names_deinit(&crew->names);
        lookout_deinit(&crew->lookout);
}

__attribute__((format(printf, 2, 3))) static void crew_condemn(struct crew_member *member, const char *format, ...) {
        struct journal_fields fields = { .message_id = EVENT_WORKER_FAILED, .worker_pid = member->pid };
        char text[256];
        va_list arguments;

        if (member->is_condemned)
                return;
        member->is_condemned = true;
        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        journal_write(member->crew->journal, LOG_ERR, &fields, "worker %d is killed: it %s", (int) member->pid, text);
        if (member->state == CREW_STARTING && member->failure[0] == '\0')
                snprintf(member->failure, sizeof(member->failure), "it %.250s", text);
        sd_event_source_set_enabled(member->link_source, SD_EVENT_OFF);
        kill(member->pid, SIGKILL);
}

/* --- What workers say ------------------------------------------------------------------------------------------- */

static void crew_ask_pulse(struct crew_member *member) {
        struct link_message message = { .kind = LINK_PULSE };

        if (member->state != CREW_READY || member->is_condemned)
                return;
        if (!member->is_asked)
                member->is_asked = outbox_push(&member->outbox, &message, -1, OUTBOX_MAX) >= 0;
        else if (++member->n_pulses_missed >= CREW_PULSES_MISSED_MAX)
                crew_condemn(member, "finished no turn while it was asked %u times whether it lives",
                             CREW_PULSES_MISSED_MAX);
}

static void crew_take_ready(struct crew_member *member, const struct link_message *message) {
        struct journal_fields fields = {
                .message_id = EVENT_WORKER_READY,
                .worker_pid = member->pid,
                .engine = member->engine,
        };

        if (member->state != CREW_STARTING) {
                crew_condemn(member, "said twice that it is ready");
                return;
        }
        if (message->status < 0) {
                snprintf(member->failure, sizeof(member->failure), "%s",
                         message->text[0] != '\0' ? message->text : strerror(-message->status));
                return;
        }
        member->deadline = sd_event_source_disable_unref(member->deadline);
        member->state = CREW_READY;
        member->crew->n_ready++;
        snprintf(member->engine, sizeof(member->engine), "%.31s", message->text);
        snprintf(member->engine_reason, sizeof(member->engine_reason), "%s", message->body.ready.reason);
        /* Whoever counts on the first choice must not have to search for the news. */
        journal_write(member->crew->journal, message->body.ready.is_second_choice ? LOG_WARNING : LOG_INFO, &fields,
                      "worker %d is ready: engine %s (%s)", (int) member->pid, member->engine, member->engine_reason);
        /* It may follow one that hung: the watchdog has heard of nobody for a while. */
        if (member->crew->is_watched)
                crew_ask_pulse(member);
}

static void crew_take_pulse(struct crew_member *member, const struct link_message *message) {
        if (!member->is_asked) {
                crew_condemn(member, "gave a sign of life that nobody asked for");
                return;
        }
        member->is_asked = false;
        member->n_pulses_missed = 0;
        member->n_sessions = message->body.pulse.n_sessions;
        member->n_sockets = message->body.pulse.n_sockets;
        member->n_ops = message->body.pulse.n_ops;
        member->crew->n_pulses++;
}

static struct journal_fields crew_describe(const struct shards_channel *channel, const char *message_id) {
        return (struct journal_fields){
                .message_id = message_id,
                .session = channel->session ? channel->session->number : 0,
                .has_client = true,
                .client_pid = channel->pid,
                .client_uid = channel->shard->uid,
                .client_unit = channel->shard->unit,
                .client_cgroup = channel->client ? channel->client->peer.cgroup : NULL,
        };
}

/* The last connection of a session is gone. What of it the kernel still works on ends, and is not counted. */
static void crew_tell_session_end(struct crew *crew, const struct shards_channel *channel,
                                  const struct link_totals *said) {
        struct journal_fields fields = crew_describe(channel, EVENT_SESSION_ENDED);
        struct journal_totals totals = {
                .duration_ns = now_ns() - channel->session->opened_ns,
                .n_ops = said->n_entries,
                .n_sockets = said->n_sockets,
                .bytes_received = said->bytes_received,
                .bytes_sent = said->bytes_sent,
        };

        fields.client_pid = channel->session->pid;
        fields.totals = &totals;
        journal_write(crew->journal, LOG_INFO, &fields,
                      "session ended after %.3f s: %llu operations, %llu sockets, %llu bytes received, %llu bytes sent",
                      (double) totals.duration_ns / NS_PER_S, (unsigned long long) totals.n_ops,
                      (unsigned long long) totals.n_sockets, (unsigned long long) totals.bytes_received,
                      (unsigned long long) totals.bytes_sent);
}

/* The connection is a further one of a session. */
static void crew_give_back(struct crew *crew, uid_t uid) {
        const struct bucket_rate rate = allowances_rate(&crew->allowances, uid, LIMIT_RATE_SESSIONS);

        gate_give_back(&crew->gate, uid, &rate);
}

static void crew_take_channel(struct crew_member *member, const struct link_message *message) {
        struct shards *shards = member->crew->shards;
        struct shards_channel *channel = shards_channel(shards, member->index, message->body.channel.channel);
        int r;

        if (!channel) {
                crew_condemn(member, "reported a channel that it does not have");
                return;
        }
        if (message->kind == LINK_CHANNEL_OPEN) {
                r = shards_open(shards, channel, message->body.channel.session);
                if (r == -EALREADY)
                        crew_condemn(member, "reported twice that a channel is open");
                else if (r < 0)
                        crew_condemn(member, "cannot be followed any more: %s", strerror(-r));
                else if (message->body.channel.session != 0 && !message->body.channel.is_first)
                        crew_give_back(member->crew, channel->shard->uid);
                return;
        }
        if (message->text[0] != '\0') {
                struct journal_fields fields = crew_describe(channel, EVENT_CHANNEL_KICKED);

                journal_write(member->crew->journal, LOG_NOTICE, &fields, "connection ended: %s", message->text);
        }
        if (channel->session && channel->session->n_channels == 1)
                crew_tell_session_end(member->crew, channel, &message->body.channel.totals);
        shards_remove(shards, channel);
}

static uint64_t crew_session_of(const struct link_message *message) {
        switch (message->kind) {
        case LINK_SOCKET:
                return message->body.socket.session;
        case LINK_BIND:
        case LINK_CONNECT:
                return message->body.name.session;
        case LINK_CONNECT_NAME:
                return message->body.by_name.session;
        case LINK_LISTEN:
                return message->body.listen.session;
        case LINK_RESOLVE:
                return message->body.resolve.session;
        case LINK_LOOK:
                return message->body.look.session;
        default:
                return 0;
        }
}

/* The client that a worker speaks of, as it is known here. */
static struct connector_client crew_client(const struct crew_member *member, uint64_t number,
                                           const struct link_asker *asker) {
        const struct shards_session *session = shards_session(member->crew->shards, member->index, number);
        struct connector_client client = { .is_known = session, .session = number, .asker = *asker };

        if (!session)
                return client;
        client.pid = session->pid;
        client.uid = session->shard->uid;
        client.is_exempt = allowances_exempt(&member->crew->allowances, client.uid);
        client.unit = session->shard->unit;
        client.cgroup = session->client ? session->client->peer.cgroup : NULL;
        client.rulings = session->client;
        return client;
}

static void crew_take_request(struct crew_member *member, const struct link_message *message, int fd) {
        const struct connector_client client = crew_client(member, crew_session_of(message), &message->asker);
        const char *problem = "asked for something that could not be answered";
        int r;

        if (message->kind == LINK_RESOLVE)
                r = names_ask(&member->crew->names, &member->outbox, message, &client, &problem);
        else if (message->kind == LINK_LOOK)
                r = lookout_ask(&member->crew->lookout, &member->outbox, message, &client, &problem);
        else
                r = connector_handle(&member->connector, message, fd, &client, &problem);
        /* A ticket is that of a connect, a name or a look: whoever does not know it does nothing. */
        if (message->kind == LINK_CANCEL) {
                names_cancel(&member->crew->names, &member->outbox, message->ticket);
                lookout_cancel(&member->crew->lookout, &member->outbox, message->ticket);
        }
        if (r == -EBADMSG)
                crew_condemn(member, "sent %s", problem);
}

/* What a worker has refused by itself. */
static void crew_take_denied(struct crew_member *member, const struct link_message *message) {
        const struct connector_client client = crew_client(member, message->body.denied.session, &message->asker);
        struct journal_fields fields = connector_describe(&client, -EACCES);
        char remote[ADDRESS_TEXT_SIZE], more[64] = "";

        if (!client.is_known)
                return;
        fields.remote = address_format(&message->body.denied.address, remote);
        fields.rule = message->text;
        if (message->body.denied.n_more > 0)
                snprintf(more, sizeof(more), "; %u more were not told", message->body.denied.n_more);
        journal_write(member->crew->journal, LOG_NOTICE, &fields, "send to %s: the policy does not allow this: %s%s",
                      remote, message->text, more);
}

/* A client was refused something for want of a quota. */
static void crew_take_quota(struct crew_member *member, const struct link_message *message) {
        const struct shard *shard = shards_number(member->crew->shards, member->index, message->body.quota.shard);
        struct journal_fields fields = { .message_id = EVENT_QUOTA_REACHED, .error = -EDQUOT, .has_client = true };
        char more[64] = "";

        if (message->body.quota.kind >= LIMIT_KINDS) {
                crew_condemn(member, "reported a quota of kind %u", message->body.quota.kind);
                return;
        }
        /* Its last connection may have ended meanwhile. */
        if (!shard)
                return;
        fields.client_uid = shard->uid;
        fields.client_unit = shard->unit;
        fields.rule = limit_names[message->body.quota.kind].key;
        if (message->body.quota.n_refused > 1)
                snprintf(more, sizeof(more), "; %llu more times of late",
                         (unsigned long long) message->body.quota.n_refused - 1);
        journal_write(member->crew->journal, LOG_WARNING, &fields, "quota reached: %s%s", message->text, more);
}

/* Requests that come without a descriptor, and that the connector knows nothing of. */
static bool crew_answers(uint32_t kind) {
        return kind == LINK_RESOLVE || kind == LINK_LOOK;
}

static void crew_take(struct crew_member *member, const struct link_message *message, int fd) {
        if ((connector_wants(message->kind) || (crew_answers(message->kind) && fd < 0)) &&
            member->state == CREW_READY) {
                crew_take_request(member, message, fd);
                return;
        }
        if (message->kind == LINK_SNAPSHOT) {
                if (pages_answer(&member->pages, message, fd) < 0)
                        crew_condemn(member, "showed what nobody had asked for");
                return;
        }
        if (fd >= 0) {
                crew_condemn(member, "sent a descriptor that nobody asked for");
                return;
        }
        switch (message->kind) {
        case LINK_READY:
                crew_take_ready(member, message);
                break;
        case LINK_DENIED:
                crew_take_denied(member, message);
                break;
        case LINK_QUOTA:
                crew_take_quota(member, message);
                break;
        case LINK_PULSE:
                crew_take_pulse(member, message);
                break;
        case LINK_CHANNEL_OPEN:
        case LINK_CHANNEL_CLOSED:
                crew_take_channel(member, message);
                break;
        default:
                crew_condemn(member, "sent a message of kind %u in state %d", message->kind, (int) member->state);
        }
}

static int crew_on_late(sd_event_source *source, uint64_t now, void *data) {
        struct crew_member *member = data;

        if (member->state == CREW_STARTING)
                crew_condemn(member, "was not ready within %u s", CREW_LATE_S);
        else
                crew_condemn(member, "closed its link and did not end within %u s", CREW_LATE_S);
        return 0;
}

static int crew_set_deadline(struct crew_member *member) {
        member->deadline = sd_event_source_disable_unref(member->deadline);
        return sd_event_add_time_relative(member->crew->event, &member->deadline, CLOCK_MONOTONIC,
                                          CREW_LATE_S * UINT64_C(1000000), 0, crew_on_late, member);
}

/* Returns 1 when a message was taken, 0 when there is none now or never again. */
static int crew_read(struct crew_member *member) {
        struct link_message message;
        int fd = -1, r;

        if (member->is_condemned)
                return 0;
        r = link_receive(member->link_fd, &message, &fd);
        if (r == -EAGAIN || r == -EINTR)
                return 0;
        if (r == -EBADMSG) {
                crew_condemn(member, "sent bytes that are no message");
                return 0;
        }
        if (r <= 0) {
                /* The process is about to end, or has ended: its exit says the rest. */
                sd_event_source_set_enabled(member->link_source, SD_EVENT_OFF);
                crew_set_deadline(member);
                return 0;
        }
        crew_take(member, &message, fd);
        link_close(fd);
        return 1;
}

static int crew_on_link(sd_event_source *source, int fd, uint32_t events, void *data) {
        struct crew_member *member = data;

        for (int i = 0; i < CREW_MESSAGES_PER_VISIT && member->outbox.n_queued < CREW_OUTBOX_PAUSE; i++)
                if (crew_read(member) <= 0)
                        break;
        return 0;
}

/* --- The life of a worker --------------------------------------------------------------------------------------- */

static int crew_on_child(sd_event_source *source, const siginfo_t *info, void *data);

static int crew_watch(struct crew_member *member) {
        sd_event *event = member->crew->event;
        int r;

        r = outbox_init(&member->outbox, event, member->link_fd);
        if (r < 0)
                return r;
        connector_init(&member->connector, event, &member->outbox, member->crew->journal, member->crew->rulings,
                       &member->crew->names, member->crew->n_connects_max);
        r = rulings_tell_facts(member->crew->rulings, &member->outbox);
        if (r < 0)
                return r;
        r = sd_event_add_io(event, &member->link_source, member->link_fd, EPOLLIN, crew_on_link, member);
        if (r < 0)
                return r;
        r = crew_set_deadline(member);
        if (r < 0)
                return r;
        return sd_event_add_child(event, &member->child_source, member->pid, WEXITED, crew_on_child, member);
}

static int crew_member_start(struct crew_member *member) {
        struct crew *crew = member->crew;
        int r;

        member->failure[0] = '\0';
        r = spawn_worker(&crew->spawn, &member->pid, &member->link_fd);
        if (r < 0)
                return r;
        member->state = CREW_STARTING;
        crew->n_alive++;
        r = crew_watch(member);
        if (r < 0) {
                crew_end_process(member->pid, now_ns() + CREW_END_NS);
                crew_member_clear(member);
                return r;
        }
        return 0;
}

int crew_start(struct crew *crew) {
        int r;

        for (unsigned i = 0; i < crew->n_members; i++) {
                r = crew_member_start(&crew->members[i]);
                if (r < 0) {
                        journal_write(crew->journal, LOG_ERR,
                                      &(struct journal_fields){ .message_id = EVENT_WORKER_FAILED },
                                      "worker %u cannot be started: %s", i, strerror(-r));
                        if (i == 0)
                                return r;
                }
        }
        return 0;
}

/* Whether so many workers died of late that it is no accident any more. */
static bool crew_count_death(struct crew *crew) {
        uint64_t now = now_ns(), oldest;

        crew->deaths_ns[crew->n_deaths % CREW_DEATHS_MAX] = now;
        crew->n_deaths++;
        oldest = crew->deaths_ns[crew->n_deaths % CREW_DEATHS_MAX];
        return crew->n_deaths >= CREW_DEATHS_MAX && now - oldest < CREW_DEATHS_S * NS_PER_S;
}

static void crew_replace(struct crew_member *member) {
        struct crew *crew = member->crew;
        int r;

        if (crew_count_death(crew)) {
                journal_write(crew->journal, LOG_CRIT, &(struct journal_fields){ .message_id = EVENT_WORKER_FAILED },
                              "%u workers died within %u s: overlapd stops", CREW_DEATHS_MAX, CREW_DEATHS_S);
                crew->has_failed = true;
                return;
        }
        r = crew_member_start(member);
        if (r < 0)
                journal_write(crew->journal, LOG_ERR, &(struct journal_fields){ .message_id = EVENT_WORKER_FAILED },
                              "a worker cannot be started: %s", strerror(-r));
}

static void crew_describe_exit(const siginfo_t *info, char *to, size_t size) {
        if (info->si_code == CLD_EXITED)
                snprintf(to, size, "exit status %d", info->si_status);
        else
                snprintf(to, size, "signal %d (%s)%s", info->si_status, strsignal(info->si_status),
                         info->si_code == CLD_DUMPED ? ", core dumped" : "");
}

static int crew_on_child(sd_event_source *source, const siginfo_t *info, void *data) {
        struct journal_fields fields = { .message_id = EVENT_WORKER_DIED, .worker_pid = info->si_pid };
        struct crew_member *member = data;
        struct crew *crew = member->crew;
        bool was_ready, ended_in_order = info->si_code == CLD_EXITED && info->si_status == 0;
        unsigned n_channels;
        char how[128];

        /* Its last words may still be on the link. */
        while (crew_read(member) > 0)
                ;
        was_ready = member->state == CREW_READY;
        n_channels = crew_member_clear(member);
        crew_describe_exit(info, how, sizeof(how));
        if (crew->is_stopping) {
                journal_write(crew->journal, ended_in_order ? LOG_DEBUG : LOG_WARNING,
                              &(struct journal_fields){ .message_id = EVENT_WORKER_ENDED }, "worker %d ended: %s",
                              (int) info->si_pid, how);
                return 0;
        }
        if (!was_ready) {
                fields.message_id = EVENT_WORKER_FAILED;
                journal_write(crew->journal, LOG_ERR, &fields, "worker %d could not start: %s (%s)", (int) info->si_pid,
                              member->failure[0] != '\0' ? member->failure : "it did not say why", how);
        } else {
                journal_write(crew->journal, LOG_ERR, &fields,
                              "worker %d died: %s; %u connections ended; another one is started", (int) info->si_pid,
                              how, n_channels);
                crew_replace(member);
        }
        if (crew->n_alive == 0)
                crew->has_failed = true;
        return 0;
}

/* --- What the monitor asks for ---------------------------------------------------------------------------------- */

static bool crew_can_serve(const struct crew_member *member) {
        return member->state == CREW_READY && !member->is_condemned && !member->outbox.is_broken;
}

int crew_pick(const struct crew *crew, uid_t uid, const char *unit, bool with_user) {
        const struct shard *shard = shards_find(crew->shards, uid, unit);
        unsigned n_fewest = 0;
        int best = -EAGAIN;

        if (!shard && with_user)
                shard = shards_find_of_user(crew->shards, uid);
        if (shard)
                return crew_can_serve(&crew->members[shard->worker]) ? (int) shard->worker : -EAGAIN;
        for (unsigned i = 0; i < crew->n_members; i++) {
                unsigned n;

                if (!crew_can_serve(&crew->members[i]))
                        continue;
                n = shards_count(crew->shards, i);
                if (best >= 0 && n >= n_fewest)
                        continue;
                best = (int) i;
                n_fewest = n;
        }
        return best;
}

static int crew_tell_limits(struct crew *crew, const struct shard *shard, bool is_new) {
        struct link_message message = { .kind = LINK_LIMITS };

        message.body.limits.shard = shard->number;
        message.body.limits.uid = shard->uid;
        message.body.limits.is_new = is_new;
        allowances_for(&crew->allowances, shard->uid, shard->unit, &message.body.limits.limits);
        snprintf(message.text, sizeof(message.text), "%.255s", shard->unit ? shard->unit : "");
        return outbox_push(&crew->members[shard->worker].outbox, &message, -1, OUTBOX_MAX);
}

int crew_give(struct crew *crew, const struct shard *shard, const struct link_message *message,
              const struct rulings_client *client, int take_fd) {
        struct outbox *outbox = &crew->members[shard->worker].outbox;
        int r;

        r = outbox->n_queued < OUTBOX_CHANNELS_MAX ? rulings_tell_client(client, outbox, true) : -EAGAIN;
        if (r >= 0)
                r = crew_tell_limits(crew, shard, true);
        if (r >= 0)
                r = outbox_push(outbox, message, take_fd, OUTBOX_MAX);

        return r == -EAGAIN ? -ENOBUFS : r;
}

void crew_tell_rulings(struct crew *crew) {
        list_for_each(link, &crew->rulings->clients) {
                const struct rulings_client *client = list_entry(link, struct rulings_client, link);
                struct outbox *outbox = &crew->members[client->worker].outbox;

                /* A worker that goes on by the old rules would be worse than none. */
                if (rulings_tell_client(client, outbox, false) < 0)
                        outbox_fail(outbox);
        }
}

void crew_set_allowances(struct crew *crew, const struct allowances *allowances) {
        crew->allowances = *allowances;
        list_for_each(link, &crew->shards->all) {
                const struct shard *shard = list_entry(link, struct shard, link);

                if (crew_tell_limits(crew, shard, false) < 0)
                        outbox_fail(&crew->members[shard->worker].outbox);
        }
}

static void crew_tell_facts(struct crew *crew) {
        if (!crew->rulings->facts.has_news)
                return;
        crew->rulings->facts.has_news = false;
        for (unsigned i = 0; i < crew->n_members; i++)
                if (crew->members[i].state != CREW_OFF &&
                    rulings_tell_facts(crew->rulings, &crew->members[i].outbox) < 0)
                        outbox_fail(&crew->members[i].outbox);
}

void crew_settle(struct crew *crew) {
        crew_tell_facts(crew);
        for (unsigned i = 0; i < crew->n_members; i++) {
                struct crew_member *member = &crew->members[i];
                bool is_deaf = member->outbox.n_queued >= CREW_OUTBOX_PAUSE;

                if (member->state == CREW_OFF || member->is_condemned)
                        continue;
                if (member->outbox.is_broken && !member->outbox.is_gone && !crew->is_stopping)
                        crew_condemn(member, "does not read what it is sent");
                else if (is_deaf != member->is_deaf) {
                        member->is_deaf = is_deaf;
                        sd_event_source_set_enabled(member->link_source, is_deaf ? SD_EVENT_OFF : SD_EVENT_ON);
                }
        }
}

void crew_pulse(struct crew *crew) {
        crew->is_watched = true;
        for (unsigned i = 0; i < crew->n_members && !crew->is_stopping; i++)
                crew_ask_pulse(&crew->members[i]);
}

void crew_stop(struct crew *crew) {
        struct link_message message = { .kind = LINK_STOP };

        crew->is_stopping = true;
        for (unsigned i = 0; i < crew->n_members; i++)
                if (crew->members[i].state != CREW_OFF)
                        outbox_push(&crew->members[i].outbox, &message, -1, OUTBOX_MAX);
}

void crew_kill(struct crew *crew) {
        crew->is_stopping = true;
        for (unsigned i = 0; i < crew->n_members; i++)
                if (crew->members[i].state != CREW_OFF)
                        kill(crew->members[i].pid, SIGKILL);
}
