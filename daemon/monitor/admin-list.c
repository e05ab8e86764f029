/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The items of lists: what a worker has shown, as an administrator is told it, in one frame each.
 *
 * What is in a session is the worker's word; whose it is, the monitor knows itself, as long as the session has a
 * connection. What chooses a word here was checked before (pages.c).
 */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/time.h"
#include "daemon/monitor/admin-answer.h"
#include "proto/address.h"

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

static int admin_show_of_session(struct admin_answer *answer, const struct snapshot_item *from) {
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

int admin_list_show(struct admin_answer *answer, const struct snapshot_item *item) {
        return answer->query.kind == SNAPSHOT_QUOTAS ? admin_show_quota(answer, &item->of.quota)
                                                     : admin_show_of_session(answer, item);
}
