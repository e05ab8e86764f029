/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Answers. Most of what is asked for is in the workers, so an answer that is begun goes from one worker to the next,
 * and through the pages of each.
 *
 * Invariant: no more than one page is ever packed before the administrator has taken the one before it, however long
 * the list is and however slowly he reads. The last frame always comes, and says whether something is missing.
 *
 *   (nothing) -> open       a question
 *   open      -> open       a page came, or its worker was given up
 *   open      -> (nothing)  the last frame is packed
 *
 * What is in a session is the worker's word; whose it is, the monitor knows itself, as long as the session has a
 * connection.
 */

#include "daemon/monitor/admin-answer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/address.h"
#include "proto/message.h"

#define ADMIN_OUT_SIZE 65536u
#define ADMIN_NAME_SIZE 256

void admin_answer_init(struct admin_answer *answer, const struct admin_sources *sources, uint64_t owner) {
        *answer = (struct admin_answer){ .sources = sources, .owner = owner };
}

static void admin_answer_clear(struct admin_answer *answer) {
        for (unsigned i = 0; i < answer->sources->crew->n_members; i++)
                pages_forget(&answer->sources->crew->members[i].pages, answer->owner);
        free(take_ptr(answer->unit));
        answer->is_open = answer->is_asked = false;
}

void admin_answer_deinit(struct admin_answer *answer) {
        admin_answer_clear(answer);
        free(take_ptr(answer->out.bytes));
}

/* --- Frames ------------------------------------------------------------------------------------------------------ */

static int admin_out_append(struct admin_out *out, const void *bytes, size_t len) {
        size_t size = out->size ? out->size : ADMIN_OUT_SIZE;
        uint8_t *longer;

        while (size < out->len + len)
                size *= 2;
        if (size > out->size) {
                longer = realloc(out->bytes, size);
                if (!longer)
                        return -ENOMEM;
                out->bytes = longer;
                out->size = size;
        }
        memcpy(out->bytes + out->len, bytes, len);
        out->len += len;
        return 0;
}

int admin_answer_push(struct admin_answer *answer, Overlapd__AdminReply *reply) {
        _cleanup_free_ void *frame = NULL;
        ssize_t n;

        n = message_pack_frame(&reply->base, 0, &frame);
        return n < 0 ? (int) n : admin_out_append(&answer->out, frame, (size_t) n);
}

static int admin_answer_push_last(struct admin_answer *answer) {
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;

        reply.last = true;
        reply.status = answer->status;
        reply.text = answer->text;
        admin_answer_clear(answer);
        return admin_answer_push(answer, &reply);
}

int admin_answer_refuse(struct admin_answer *answer, int status, const char *text) {
        answer->status = status;
        if (text != answer->text)
                snprintf(answer->text, sizeof(answer->text), "%s", text);
        return admin_answer_push_last(answer);
}

/* A text from elsewhere, as a message may have it. */
static char *admin_clean(const char *text, char to[ADMIN_NAME_SIZE]) {
        snprintf(to, ADMIN_NAME_SIZE, "%s", text ? text : "");
        journal_clean(to);
        for (char *at = to; *at; at++)
                if ((unsigned char) *at > 0x7e)
                        *at = '?';
        return to;
}

/* --- Status ------------------------------------------------------------------------------------------------------ */

static int admin_show_daemon(struct admin_answer *answer) {
        const struct admin_sources *sources = answer->sources;
        const struct admin_about *about = sources->about;
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        Overlapd__AdminDaemon daemon = OVERLAPD__ADMIN_DAEMON__INIT;
        char policy[RULINGS_WHY_SIZE];

        rulings_describe(sources->rulings, policy);
        daemon.version = (char *) OVERLAPD_VERSION;
        daemon.pid = (uint32_t) getpid();
        daemon.uid = geteuid();
        daemon.state = (char *) about->state;
        daemon.socket_path = (char *) about->socket_path;
        daemon.engine_wanted = (char *) about->config->engine;
        daemon.policy = policy;
        daemon.uptime_ns = now_ns() - about->started_ns;
        daemon.rules = (uint32_t) sources->rulings->policy->n_rules;
        daemon.workers_wanted = sources->crew->n_members;
        daemon.workers_ready = sources->crew->n_ready;
        daemon.worker_deaths = sources->crew->n_deaths;
        daemon.channels_accepted = about->n_accepted;
        daemon.channels_refused = about->n_refused;
        daemon.channels_open = sources->shards->channels.n_used;
        daemon.policy_allowed = sources->rulings->n_allowed;
        daemon.policy_denied = sources->rulings->n_denied;
        daemon.reloads = about->n_reloads;
        daemon.lines_lost = sources->journal->n_lost_ever;
        reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_DAEMON;
        reply.daemon = &daemon;
        return admin_answer_push(answer, &reply);
}

static void admin_take_counts(Overlapd__AdminWorker *worker, const struct snapshot_counts *counts) {
        worker->is_counted = true;
        worker->sessions = counts->n_sessions;
        worker->sockets = counts->n_sockets;
        worker->ops = counts->n_ops;
        worker->lanes = counts->n_lanes;
        worker->entries = counts->entries;
        worker->records = counts->records;
        worker->bytes_received = counts->bytes_received;
        worker->bytes_sent = counts->bytes_sent;
        worker->turns = counts->turns;
        worker->wakeups = counts->wakeups;
        worker->polls = counts->polls;
        worker->system_calls = counts->system_calls;
        worker->merged_ops = counts->merged_ops;
}

/* counts: NULL: it has not answered. */
static int admin_show_worker(struct admin_answer *answer, const struct snapshot_counts *counts) {
        static const char *const states[] = {
                [CREW_OFF] = "off", [CREW_STARTING] = "starting", [CREW_READY] = "ready"
        };
        const struct crew_member *member = &answer->sources->crew->members[answer->worker];
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        Overlapd__AdminWorker worker = OVERLAPD__ADMIN_WORKER__INIT;
        char engine[ADMIN_NAME_SIZE], reason[ADMIN_NAME_SIZE];

        worker.index = member->index;
        worker.state = (char *) states[member->state];
        worker.pid = (uint32_t) member->pid;
        if (member->state == CREW_READY) {
                worker.engine = admin_clean(member->engine, engine);
                worker.engine_reason = admin_clean(member->engine_reason, reason);
        }
        if (counts)
                admin_take_counts(&worker, counts);
        reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_WORKER;
        reply.worker = &worker;
        return admin_answer_push(answer, &reply);
}

/* --- Lists ------------------------------------------------------------------------------------------------------- */

/* Whose an item is, and the frame that it goes into. */
struct admin_item {
        const struct snapshot_item *item;
        Overlapd__AdminOwner owner;
        char unit[ADMIN_NAME_SIZE];
        Overlapd__AdminReply reply;
};

static int admin_show_session(struct admin_answer *answer, struct admin_item *item, uint64_t opened_ns) {
        const struct snapshot_session *from = &item->item->of.session;
        Overlapd__AdminSession session = OVERLAPD__ADMIN_SESSION__INIT;

        session.owner = &item->owner;
        session.age_ns = now_ns() - opened_ns;
        session.level = from->level;
        session.channels = from->n_channels;
        session.threads = from->n_threads;
        session.ports = from->n_ports;
        session.sockets = from->n_sockets;
        session.ops = from->n_ops;
        session.credits = from->n_credits;
        session.region_bytes = from->region_bytes;
        session.entries = from->n_entries;
        session.bytes_received = from->bytes_received;
        session.bytes_sent = from->bytes_sent;
        session.is_held = from->is_held;
        session.is_ending = from->is_ending;
        item->reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_SESSION;
        item->reply.session = &session;
        return admin_answer_push(answer, &item->reply);
}

static const char *admin_protocol(const struct snapshot_socket *socket) {
        if (socket->is_unix)
                return socket->type == SOCK_DGRAM ? "unix-datagram" : "unix";
        return socket->type == SOCK_DGRAM ? "udp" : "tcp";
}

/* A name that a socket does not have yet is all zeroes. */
static const char *admin_name(const struct ovl_address *address, char text[ADDRESS_TEXT_SIZE]) {
        static const uint8_t zeroes[sizeof(address->host)];

        if (address->family == OVL_FAMILY_NONE || (address->family == OVL_FAMILY_UNIX && address->path_len == 0) ||
            (address->port == 0 && memcmp(address->host, zeroes, sizeof(zeroes)) == 0))
                return "";
        return address_format(address, text);
}

static int admin_show_socket(struct admin_answer *answer, struct admin_item *item) {
        static const char *const states[] = { "open", "connecting", "connected", "listening", "closing" };
        const struct snapshot_socket *from = &item->item->of.socket;
        Overlapd__AdminSocket socket = OVERLAPD__ADMIN_SOCKET__INIT;
        char local[ADDRESS_TEXT_SIZE], remote[ADDRESS_TEXT_SIZE];

        socket.owner = &item->owner;
        socket.socket = from->number;
        socket.protocol = (char *) admin_protocol(from);
        socket.state = (char *) states[from->state];
        socket.local = (char *) admin_name(&from->local, local);
        socket.remote = (char *) admin_name(&from->remote, remote);
        socket.receives = from->n_receives;
        socket.sends = from->n_sends;
        socket.other_ops = from->n_others;
        socket.bytes_received = from->bytes_received;
        socket.bytes_sent = from->bytes_sent;
        socket.unread = from->unread;
        socket.unsent = from->unsent;
        socket.connected_ns = from->connected_ns;
        socket.port = from->port;
        socket.holders = from->n_holders;
        socket.error = from->error;
        item->reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_SOCKET;
        item->reply.socket = &socket;
        return admin_answer_push(answer, &item->reply);
}

/* As the calls of the library are called. */
static const char *admin_op_name(uint8_t code) {
        static const char *const names[] = {
                [0] = "apc",
                [OVL_OP_CONNECT] = "connect",
                [OVL_OP_ACCEPT] = "accept",
                [OVL_OP_RECV] = "recv",
                [OVL_OP_SEND] = "send",
                [OVL_OP_RECVFROM] = "recvfrom",
                [OVL_OP_SENDTO] = "sendto",
                [OVL_OP_RECVMSG] = "recvmsg",
                [OVL_OP_SENDMSG] = "sendmsg",
                [OVL_OP_DISCONNECT] = "disconnect",
                [OVL_OP_TRANSMIT_FILE] = "transmit-file",
                [OVL_OP_TRANSMIT_PACKETS] = "transmit-packets",
                [OVL_OP_IOCTL] = "ioctl",
                [OVL_OP_POLL] = "poll",
                [OVL_OP_RESOLVE] = "resolve",
                [OVL_OP_CONNECT_NAME] = "connect-name",
        };

        return code < sizeof(names) / sizeof(names[0]) && names[code] ? names[code] : "unknown";
}

static int admin_show_op(struct admin_answer *answer, struct admin_item *item) {
        static const char *const states[] = { "queued", "active", "ended" };
        const struct snapshot_op *from = &item->item->of.op;
        Overlapd__AdminOp op = OVERLAPD__ADMIN_OP__INIT;

        op.owner = &item->owner;
        op.socket = from->socket;
        op.code = (char *) admin_op_name(from->code);
        op.state = (char *) states[from->state];
        op.thread = from->thread;
        op.tag = from->tag;
        op.len = from->len;
        op.done = from->done;
        op.age_ns = from->age_ns;
        op.is_cancelled = from->is_cancelled;
        item->reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_OP;
        item->reply.op = &op;
        return admin_answer_push(answer, &item->reply);
}

static int admin_show_port(struct admin_answer *answer, struct admin_item *item) {
        const struct snapshot_port *from = &item->item->of.port;
        Overlapd__AdminPort port = OVERLAPD__ADMIN_PORT__INIT;

        port.owner = &item->owner;
        port.port = from->number;
        port.sockets = from->n_sockets;
        port.records = from->n_records;
        item->reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_PORT;
        item->reply.port = &port;
        return admin_answer_push(answer, &item->reply);
}

static int admin_show_thread(struct admin_answer *answer, struct admin_item *item) {
        const struct snapshot_thread *from = &item->item->of.thread;
        Overlapd__AdminThread thread = OVERLAPD__ADMIN_THREAD__INIT;

        thread.owner = &item->owner;
        thread.thread = from->number;
        thread.tid = from->tid;
        thread.entries = from->n_entries;
        thread.records = from->n_records;
        thread.has_lane = from->has_lane;
        item->reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_THREAD;
        item->reply.thread = &thread;
        return admin_answer_push(answer, &item->reply);
}

/* NULL: that shard is gone. */
static const struct shard *admin_find_shard(const struct shards *shards, uint64_t number) {
        list_for_each(link, &shards->all) {
                const struct shard *shard = list_entry(link, struct shard, link);

                if (shard->number == number)
                        return shard;
        }
        return NULL;
}

static int admin_push_quota(struct admin_answer *answer, const struct snapshot_quota *from, const char *unit) {
        static const char *const levels[LIMIT_LEVELS] = {
                [LIMIT_SESSION] = "session", [LIMIT_UNIT] = "unit", [LIMIT_USER] = "user", [LIMIT_WORKER] = "worker"
        };
        static const char *const names[LIMIT_SLOTS] = { "sessions",  "regions",    "memory", "sockets",
                                                        "listeners", "operations", "files" };
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        Overlapd__AdminQuota quota = OVERLAPD__ADMIN_QUOTA__INIT;
        Overlapd__AdminUse uses[LIMIT_SLOTS], *places[LIMIT_SLOTS];
        char text[ADMIN_NAME_SIZE];

        for (unsigned slot = 0; slot < LIMIT_SLOTS; slot++) {
                uses[slot] = (Overlapd__AdminUse) OVERLAPD__ADMIN_USE__INIT;
                uses[slot].name = (char *) names[slot];
                uses[slot].used = from->used[slot];
                uses[slot].max = from->max[slot];
                places[slot] = &uses[slot];
        }
        quota.worker = answer->worker;
        quota.level = (char *) levels[from->level];
        quota.uid = from->uid;
        quota.unit = admin_clean(unit, text);
        quota.is_exempt = from->is_exempt;
        quota.n_uses = LIMIT_SLOTS;
        quota.uses = places;
        reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_QUOTA;
        reply.quota = &quota;
        return admin_answer_push(answer, &reply);
}

static int admin_show_quota(struct admin_answer *answer, const struct snapshot_quota *from) {
        const struct shard *shard =
                from->level == LIMIT_UNIT ? admin_find_shard(answer->sources->shards, from->shard) : NULL;

        if (answer->unit && (!shard || !shard->unit || strcmp(shard->unit, answer->unit) != 0))
                return 0;
        if (answer->limit > 0 && answer->n_given == answer->limit)
                return -E2BIG;
        answer->n_given++;
        return admin_push_quota(answer, from, shard ? shard->unit : NULL);
}

static int admin_show_item(struct admin_answer *answer, const struct snapshot_item *from) {
        const struct shards_session *session = shards_session(answer->sources->shards, answer->worker, from->session);
        struct admin_item item = { .item = from,
                                   .owner = OVERLAPD__ADMIN_OWNER__INIT,
                                   .reply = OVERLAPD__ADMIN_REPLY__INIT };

        if (answer->unit && (!session || !session->shard->unit || strcmp(session->shard->unit, answer->unit) != 0))
                return 0;
        if (answer->limit > 0 && answer->n_given == answer->limit)
                return -E2BIG;
        answer->n_given++;
        item.owner.session = from->session;
        item.owner.worker = answer->worker;
        if (session) {
                item.owner.is_known = true;
                item.owner.pid = (uint32_t) session->pid;
                item.owner.uid = session->shard->uid;
                item.owner.unit = admin_clean(session->shard->unit, item.unit);
        }
        switch (answer->query.kind) {
        case SNAPSHOT_SESSIONS:
                return admin_show_session(answer, &item, session ? session->opened_ns : now_ns());
        case SNAPSHOT_SOCKETS:
                return admin_show_socket(answer, &item);
        case SNAPSHOT_OPS:
                return admin_show_op(answer, &item);
        case SNAPSHOT_PORTS:
                return admin_show_port(answer, &item);
        default:
                return admin_show_thread(answer, &item);
        }
}

/* --- From worker to worker ---------------------------------------------------------------------------------------- */

static void admin_next_worker(struct admin_answer *answer) {
        answer->worker++;
        answer->is_asked = false;
        answer->query.from = (struct snapshot_place){ 0 };
        answer->query.until = 0;
}

/* Says for the end that what a worker has is missing. */
static int admin_miss(struct admin_answer *answer, int error) {
        const struct crew_member *member = &answer->sources->crew->members[answer->worker];
        int r = answer->is_status ? admin_show_worker(answer, NULL) : 0;

        answer->status = error;
        snprintf(answer->text, sizeof(answer->text), "what worker %u (process %d) has is missing: %s", answer->worker,
                 (int) member->pid,
                 error == -ETIMEDOUT ? "it does not answer: see whether it hangs, and the journal of overlapd"
                 : error == -EPIPE   ? "it ended meanwhile: ask again"
                 : error == -EBADMSG ? "what it says makes no sense"
                                     : strerror(-error));
        admin_next_worker(answer);
        return r;
}

void admin_answer_skip(struct admin_answer *answer) {
        pages_forget(&answer->sources->crew->members[answer->worker].pages, answer->owner);
        admin_miss(answer, -ETIMEDOUT);
}

static int admin_show_page(struct admin_answer *answer, const struct snapshot_page *page) {
        int r = 0;

        if (answer->is_status)
                r = admin_show_worker(answer, page->n_items == 1 ? &page->items[0].of.counts : NULL);
        for (uint32_t i = 0; i < page->n_items && !answer->is_status && r >= 0; i++)
                r = page->kind == SNAPSHOT_QUOTAS ? admin_show_quota(answer, &page->items[i].of.quota)
                                                  : admin_show_item(answer, &page->items[i]);
        if (r == -E2BIG) {
                answer->status = r;
                snprintf(answer->text, sizeof(answer->text), "there are more than the %llu that were asked for",
                         (unsigned long long) answer->limit);
                answer->worker = answer->sources->crew->n_members;
                return 0;
        }
        if (r < 0)
                return r;
        answer->is_asked = false;
        answer->query.from = page->next;
        answer->query.until = page->until;
        if (page->is_last)
                admin_next_worker(answer);
        return 0;
}

/* Goes one step on. Returns 0, -EAGAIN or -ENOMEM. */
static int admin_step(struct admin_answer *answer) {
        struct crew_member *member = &answer->sources->crew->members[answer->worker];
        _cleanup_free_ struct snapshot_page *page = NULL;
        int r;

        if (!answer->is_asked) {
                if (member->state != CREW_READY || member->is_condemned) {
                        r = answer->is_status ? admin_show_worker(answer, NULL) : 0;
                        admin_next_worker(answer);
                        return r;
                }
                r = pages_ask(&member->pages, &member->outbox, answer->owner, &answer->query);
                if (r == -EBUSY)
                        return -EAGAIN;
                if (r < 0)
                        return admin_miss(answer, r);
                answer->is_asked = true;
        }
        r = pages_take(&member->pages, answer->owner, &answer->query, &page);
        if (r == 0)
                return -EAGAIN;
        return r < 0 ? admin_miss(answer, r) : admin_show_page(answer, page);
}

int admin_answer_go_on(struct admin_answer *answer) {
        int r = 0;

        while (answer->is_open && answer->out.len == 0 && r == 0) {
                if (answer->worker >= answer->sources->crew->n_members)
                        r = admin_answer_push_last(answer);
                else
                        r = admin_step(answer);
        }
        return r;
}

/* --- Questions ---------------------------------------------------------------------------------------------------- */

static int admin_begin_list(struct admin_answer *answer, const Overlapd__AdminList *list) {
        static const uint8_t kinds[] = {
                [OVERLAPD__ADMIN_KIND__ADMIN_SESSIONS] = SNAPSHOT_SESSIONS,
                [OVERLAPD__ADMIN_KIND__ADMIN_SOCKETS] = SNAPSHOT_SOCKETS,
                [OVERLAPD__ADMIN_KIND__ADMIN_OPS] = SNAPSHOT_OPS,
                [OVERLAPD__ADMIN_KIND__ADMIN_PORTS] = SNAPSHOT_PORTS,
                [OVERLAPD__ADMIN_KIND__ADMIN_THREADS] = SNAPSHOT_THREADS,
                [OVERLAPD__ADMIN_KIND__ADMIN_QUOTAS] = SNAPSHOT_QUOTAS,
        };

        if ((unsigned) list->kind >= sizeof(kinds) || kinds[list->kind] == 0) {
                snprintf(answer->text, sizeof(answer->text),
                         "kind %d: can be listed are 1 sessions, 2 sockets, 3 ops, 4 ports, 5 threads, 6 quotas",
                         (int) list->kind);
                return admin_answer_refuse(answer, -EINVAL, answer->text);
        }
        if (list->unit[0] != '\0') {
                answer->unit = strdup(list->unit);
                if (!answer->unit)
                        return -ENOMEM;
        }
        answer->query.kind = kinds[list->kind];
        answer->query.session = list->session;
        answer->query.has_uid = list->has_uid;
        answer->query.uid = list->uid;
        answer->limit = list->limit;
        answer->is_open = true;
        return 0;
}

static int admin_show_setting(struct admin_answer *answer, enum config_key key) {
        const struct config *config = answer->sources->about->config;
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        Overlapd__AdminSetting setting = OVERLAPD__ADMIN_SETTING__INIT;
        char value[CONFIG_VALUE_SIZE], place[ADMIN_NAME_SIZE];

        setting.section = (char *) CONFIG_SECTION;
        setting.name = (char *) config_key_name(key);
        setting.value = (char *) config_format(config, key, value);
        setting.place = admin_clean(config->places[key], place);
        reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_SETTING;
        reply.setting = &setting;
        return admin_answer_push(answer, &reply);
}

static int admin_show_allowance(struct admin_answer *answer, const struct allowances_value *value) {
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        Overlapd__AdminSetting setting = OVERLAPD__ADMIN_SETTING__INIT;
        char section[ADMIN_NAME_SIZE], place[ADMIN_NAME_SIZE];

        setting.section = admin_clean(value->section, section);
        setting.name = (char *) value->key;
        setting.value = (char *) value->value;
        setting.place = admin_clean(value->place, place);
        reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_SETTING;
        reply.setting = &setting;
        return admin_answer_push(answer, &reply);
}

static int admin_show_settings(struct admin_answer *answer) {
        struct allowances_value value;
        unsigned index = 0;
        int r = 0;

        for (int key = 0; key < CONFIG_N_KEYS && r >= 0; key++)
                r = admin_show_setting(answer, (enum config_key) key);
        while (r >= 0 && allowances_next(&answer->sources->crew->allowances, &index, &value))
                r = admin_show_allowance(answer, &value);
        return r < 0 ? r : admin_answer_push_last(answer);
}

int admin_answer_begin(struct admin_answer *answer, const Overlapd__AdminRequest *request) {
        int r;

        admin_answer_clear(answer);
        answer->worker = 0;
        answer->query = (struct snapshot_query){ 0 };
        answer->n_given = answer->limit = 0;
        answer->status = 0;
        answer->text[0] = '\0';
        answer->is_status = request->what_case == OVERLAPD__ADMIN_REQUEST__WHAT_STATUS;
        switch (request->what_case) {
        case OVERLAPD__ADMIN_REQUEST__WHAT_STATUS:
                answer->query.kind = SNAPSHOT_COUNTS;
                answer->is_open = true;
                return admin_show_daemon(answer);
        case OVERLAPD__ADMIN_REQUEST__WHAT_LIST:
                return admin_begin_list(answer, request->list);
        case OVERLAPD__ADMIN_REQUEST__WHAT_POLICY_TEST:
                r = admin_policy_test(answer, request->policy_test);
                return r == -EINVAL ? admin_answer_refuse(answer, r, answer->text)
                       : r < 0      ? r
                                    : admin_answer_push_last(answer);
        case OVERLAPD__ADMIN_REQUEST__WHAT_CONFIG:
                return admin_show_settings(answer);
        default:
                return admin_answer_refuse(answer, -EOPNOTSUPP,
                                           "this daemon does not know the question: it may be older than whoever asks");
        }
}
