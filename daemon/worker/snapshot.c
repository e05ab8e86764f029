/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Snapshots: the worker's tables, copied out for an administrator who wants to see them.
 *
 * Invariant: one page looks at no more than SNAPSHOT_LOOKS_MAX things and has no more than SNAPSHOT_ITEMS_MAX items, so
 * that the turn in which it is made is longer by less than a millisecond, however much there is. The next page begins
 * at a place, never at a pointer: what was there may be gone. Places of sockets and ops are those of their tables,
 * which do not move; of ports, threads and closing sockets they are counted, so one of these may be missed when another
 * goes.
 *
 * Rejected: one page with everything, which stops all clients for as long as the list is long; a copy that is kept
 * while pages of it are fetched, which somebody who fetches none would keep for ever.
 */

#include "daemon/worker/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"
#include "base/time.h"
#include "daemon/worker/lane.h"
#include "daemon/worker/session.h"
#include "proto/address.h"

#define SNAPSHOT_FIRST_CLOSING 0x80000000u /* places from here on are those of sockets that are closing */

struct snapshot {
        const struct snapshot_query *query; /* borrowed */
        struct snapshot_page *page;         /* borrowed */
        unsigned n_looks;
        uint64_t now;
};

/* Whether one more thing can be looked at, and shown, in this page. */
static bool snapshot_has_room(struct snapshot *snapshot, unsigned n_looks) {
        if (snapshot->page->n_items == SNAPSHOT_ITEMS_MAX || snapshot->n_looks >= SNAPSHOT_LOOKS_MAX)
                return false;
        snapshot->n_looks += n_looks;
        return true;
}

static struct snapshot_item *snapshot_add(struct snapshot *snapshot, const struct session *session) {
        struct snapshot_item *item = &snapshot->page->items[snapshot->page->n_items++];

        item->session = session ? session->number : 0;
        return item;
}

static uint32_t snapshot_count(const struct list *list) {
        uint32_t n = 0;

        list_for_each(link, list)
                n++;
        return n;
}

/* --- One thing each ---------------------------------------------------------------------------------------------- */

static void snapshot_show_counts(struct snapshot *snapshot, const struct stats *stats) {
        snapshot_add(snapshot, NULL)->of.counts = (struct snapshot_counts){
                .turns = stats->turns,
                .wakeups = stats->wakeups,
                .system_calls = stats->system_calls,
                .entries = stats->entries,
                .records = stats->records,
                .bytes_received = stats->bytes_received,
                .bytes_sent = stats->bytes_sent,
                .merged_ops = stats->merged_ops,
                .polls = stats->polls,
                .n_sessions = stats->n_sessions,
                .n_sockets = stats->n_sockets,
                .n_ops = stats->n_ops,
                .n_lanes = stats->n_lanes,
        };
}

static void snapshot_show_session(struct snapshot *snapshot, const struct session *session) {
        snapshot_add(snapshot, session)->of.session = (struct snapshot_session){
                .region_bytes = session->quota.used[LIMIT_MEMORY],
                .n_entries = session->totals.n_entries,
                .bytes_received = session->totals.bytes_received,
                .bytes_sent = session->totals.bytes_sent,
                .level = session->level,
                .n_channels = (uint32_t) session->n_peers,
                .n_threads = snapshot_count(&session->threads),
                .n_ports = snapshot_count(&session->ports),
                .n_sockets = (uint32_t) session->quota.used[LIMIT_SOCKETS],
                .n_ops = session->n_ops,
                .n_credits = session->n_credits,
                .is_held = session->is_held,
                .is_ending = session->is_ending,
        };
}

static void snapshot_find_names(const struct socket *socket, struct snapshot_socket *to) {
        struct sockaddr_storage name;
        socklen_t len = sizeof(name);

        if (getsockname(socket->file.fd, (struct sockaddr *) &name, &len) == 0)
                address_from_kernel((struct sockaddr *) &name, len, &to->local);
        len = sizeof(name);
        if (getpeername(socket->file.fd, (struct sockaddr *) &name, &len) == 0)
                address_from_kernel((struct sockaddr *) &name, len, &to->remote);
}

static uint64_t snapshot_ask(const struct socket *socket, unsigned long request) {
        int n = 0;

        return ioctl(socket->file.fd, request, &n) < 0 || n < 0 ? 0 : (uint64_t) n;
}

static uint8_t snapshot_socket_state(const struct handle *handle) {
        switch (handle->number == 0 ? SOCKET_OPEN : handle->socket->state) {
        case SOCKET_CONNECTING:
                return SNAPSHOT_CONNECTING;
        case SOCKET_CONNECTED:
                return SNAPSHOT_CONNECTED;
        case SOCKET_LISTENING:
                return SNAPSHOT_LISTENING;
        default:
                return handle->number == 0 ? SNAPSHOT_CLOSING : SNAPSHOT_OPEN;
        }
}

static void snapshot_show_socket(struct snapshot *snapshot, const struct handle *handle) {
        const struct socket *socket = handle->socket;
        struct snapshot_socket *to = &snapshot_add(snapshot, handle->session)->of.socket;

        *to = (struct snapshot_socket){
                .number = handle->number,
                .port = handle->port ? handle->port->number : 0,
                .bytes_received = socket->bytes_received,
                .bytes_sent = socket->bytes_sent,
                .n_receives = snapshot_count(&socket->queues[DIRECTION_IN].ops) +
                              snapshot_count(&socket->queues[QUEUE_URGENT].ops),
                .n_sends = snapshot_count(&socket->queues[DIRECTION_OUT].ops) +
                           snapshot_count(&socket->queues[QUEUE_SENT].ops),
                .n_holders = socket->n_handles,
                .error = socket->error,
                .type = socket->type,
                .state = snapshot_socket_state(handle),
                .is_unix = socket->family == AF_UNIX,
        };
        to->n_others = socket->n_ops - (to->n_receives + to->n_sends);
        if (socket->connected_at > 0 && socket->connected_at < snapshot->now)
                to->connected_ns = snapshot->now - socket->connected_at;
        snapshot->n_looks += to->n_receives + to->n_sends;
        if (socket->file.fd < 0)
                return;
        snapshot_find_names(socket, to);
        to->unread = snapshot_ask(socket, FIONREAD);
        to->unsent = snapshot_ask(socket, SIOCOUTQ);
}

static void snapshot_show_op(struct snapshot *snapshot, const struct op *op) {
        static const uint8_t states[] = {
                [OP_QUEUED] = SNAPSHOT_QUEUED, [OP_ACTIVE] = SNAPSHOT_ACTIVE, [OP_ENDED] = SNAPSHOT_ENDED
        };

        snapshot_add(snapshot, op->session)->of.op = (struct snapshot_op){
                .socket = op->handle ? op->handle->number : 0,
                .thread = op->thread,
                .tag = op->tag,
                .len = op->len,
                .done = op->state == OP_ENDED ? op->bytes : op->done,
                .age_ns = snapshot->now > op->taken_ns ? snapshot->now - op->taken_ns : 0,
                .code = op->kind == OVL_RECORD_APC ? 0 : op->code,
                .state = states[op->state],
                .is_cancelled = op->cancel != 0,
        };
}

static uint32_t snapshot_count_records(struct snapshot *snapshot, const struct peer *peer) {
        uint32_t n = 0;

        if (!peer)
                return 0;
        n = snapshot_count(&peer->records) + (uint32_t) peer->n_framed;
        snapshot->n_looks += n;
        return peer->lane ? n + lane_n_waiting(peer->lane) : n;
}

static void snapshot_show_port(struct snapshot *snapshot, const struct session *session, const struct port *port) {
        struct snapshot_port *to = &snapshot_add(snapshot, session)->of.port;

        *to = (struct snapshot_port){ .number = port->number,
                                      .n_records = snapshot_count_records(snapshot, port->peer) };
        list_for_each(link, &session->handles)
                to->n_sockets += list_entry(link, struct handle, link)->port == port;
        snapshot->n_looks += (unsigned) session->quota.used[LIMIT_SOCKETS];
}

static void snapshot_show_thread(struct snapshot *snapshot, const struct session *session,
                                 const struct thread *thread) {
        snapshot_add(snapshot, session)->of.thread = (struct snapshot_thread){
                .number = thread->number,
                .n_entries = thread->peer ? thread->peer->n_entries : 0,
                .tid = thread->tid,
                .n_records = snapshot_count_records(snapshot, thread->peer),
                .has_lane = thread->peer && thread->peer->lane,
        };
}

/* --- All of one session, from a place on. Each returns whether it came to the end -------------------------------- */

static bool snapshot_walk_open(struct snapshot *snapshot, const struct session *session, uint32_t *index) {
        for (;;) {
                const struct handle *handle;
                uint32_t at = *index;

                if (!snapshot_has_room(snapshot, 1))
                        return false;
                handle = slots_next(&session->socket_numbers, &at);
                if (!handle)
                        return true;
                *index = at;
                snapshot_show_socket(snapshot, handle);
        }
}

/* What stands in a list, from the place that *index counts to. Returns the first, or NULL. */
static const struct list *snapshot_seek(struct snapshot *snapshot, const struct list *list, uint32_t n) {
        const struct list *link = list->next;

        snapshot->n_looks += n / 8;
        while (n-- > 0 && link != list)
                link = link->next;
        return link == list ? NULL : link;
}

static bool snapshot_walk_closing(struct snapshot *snapshot, const struct session *session, uint32_t *index) {
        const struct list *link = snapshot_seek(snapshot, &session->closing, *index - SNAPSHOT_FIRST_CLOSING);

        for (; link && link != &session->closing; link = link->next, ++*index) {
                if (!snapshot_has_room(snapshot, 1))
                        return false;
                snapshot_show_socket(snapshot, list_entry(link, struct handle, link));
        }
        return true;
}

static bool snapshot_walk_sockets(struct snapshot *snapshot, const struct session *session, uint32_t *index) {
        if (*index < SNAPSHOT_FIRST_CLOSING) {
                if (!snapshot_walk_open(snapshot, session, index))
                        return false;
                *index = SNAPSHOT_FIRST_CLOSING;
        }
        return snapshot_walk_closing(snapshot, session, index);
}

static bool snapshot_walk_ops(struct snapshot *snapshot, const struct session *session, uint32_t *index) {
        for (; *index < session->n_ops_high; ++*index) {
                if (!snapshot_has_room(snapshot, 1))
                        return false;
                if (!op_is_free(&session->ops[*index]))
                        snapshot_show_op(snapshot, &session->ops[*index]);
        }
        return true;
}

static bool snapshot_walk_ports(struct snapshot *snapshot, const struct session *session, uint32_t *index) {
        const struct list *link = snapshot_seek(snapshot, &session->ports, *index);

        for (; link && link != &session->ports; link = link->next, ++*index) {
                if (!snapshot_has_room(snapshot, 1))
                        return false;
                snapshot_show_port(snapshot, session, list_entry(link, struct port, link));
        }
        return true;
}

static bool snapshot_walk_threads(struct snapshot *snapshot, const struct session *session, uint32_t *index) {
        const struct list *link = snapshot_seek(snapshot, &session->threads, *index);

        for (; link && link != &session->threads; link = link->next, ++*index) {
                if (!snapshot_has_room(snapshot, 1))
                        return false;
                snapshot_show_thread(snapshot, session, list_entry(link, struct thread, link));
        }
        return true;
}

static bool snapshot_walk_session(struct snapshot *snapshot, const struct session *session, uint32_t *index) {
        switch (snapshot->query->kind) {
        case SNAPSHOT_SOCKETS:
                return snapshot_walk_sockets(snapshot, session, index);
        case SNAPSHOT_OPS:
                return snapshot_walk_ops(snapshot, session, index);
        case SNAPSHOT_PORTS:
                return snapshot_walk_ports(snapshot, session, index);
        case SNAPSHOT_THREADS:
                return snapshot_walk_threads(snapshot, session, index);
        default:
                snapshot_show_session(snapshot, session);
                return true;
        }
}

/* --- Pages ------------------------------------------------------------------------------------------------------- */

static bool snapshot_wants(const struct snapshot_query *query, const struct session *session) {
        return (query->session == 0 || query->session == session->number) &&
               (!query->has_uid || query->uid == session->identity.uid);
}

static void snapshot_walk(struct snapshot *snapshot, const struct resources *resources) {
        const struct snapshot_query *query = snapshot->query;
        struct snapshot_page *page = snapshot->page;
        const struct list *last = resources->sessions.previous;

        page->until = query->until;
        if (page->until == 0 && last != &resources->sessions)
                page->until = list_entry(last, struct session, link)->number;
        list_for_each(link, &resources->sessions) {
                const struct session *session = list_entry(link, struct session, link);
                uint32_t index = session->number == query->from.session ? query->from.index : 0;

                if (session->number < query->from.session)
                        continue;
                if (session->number > page->until)
                        break;
                if (snapshot_has_room(snapshot, 1) &&
                    (!snapshot_wants(query, session) || snapshot_walk_session(snapshot, session, &index)))
                        continue;
                page->next = (struct snapshot_place){ .session = session->number, .index = index };
                return;
        }
        page->is_last = true;
}

/* They belong to no session: their list has places only. */
static int snapshot_walk_quotas(struct snapshot *snapshot, const struct resources *resources) {
        const struct snapshot_query *query = snapshot->query;
        size_t n = quotas_describe(&resources->quotas, NULL, 0);
        _cleanup_free_ struct quota_report *reports = calloc(n, sizeof(*reports));
        uint32_t index = query->from.index;

        if (!reports)
                return -ENOMEM;
        quotas_describe(&resources->quotas, reports, n);
        snapshot->page->until = 1;
        for (; index < n; index++) {
                const struct quota_report *report = &reports[index];
                struct snapshot_quota *to;

                if (query->has_uid && (report->level == LIMIT_WORKER || report->uid != query->uid))
                        continue;
                if (!snapshot_has_room(snapshot, 1)) {
                        snapshot->page->next = (struct snapshot_place){ .session = 1, .index = index };
                        return 0;
                }
                to = &snapshot_add(snapshot, NULL)->of.quota;
                *to = (struct snapshot_quota){
                        .shard = report->shard,
                        .uid = report->uid,
                        .level = (uint8_t) report->level,
                        .is_exempt = report->is_exempt,
                };
                memcpy(to->used, report->used, sizeof(to->used));
                memcpy(to->max, report->max, sizeof(to->max));
        }
        snapshot->page->is_last = true;
        return 0;
}

static int snapshot_seal(const struct snapshot_page *page, int *ret_fd) {
        size_t len = SNAPSHOT_PAGE_LEN(page->n_items);
        _cleanup_fd_ int fd = -1;

        fd = memfd_create("overlapd-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
        if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
                fd = memfd_create("overlapd-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        if (write(fd, page, len) != (ssize_t) len)
                return -ENOMEM;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                return -errno;
        *ret_fd = fd_take(&fd);
        return 0;
}

int snapshot_make(const struct resources *resources, const struct snapshot_query *query, int *ret_fd) {
        _cleanup_free_ struct snapshot_page *page = NULL;
        struct snapshot snapshot = { .query = query, .now = now_ns() };
        int r;

        if (query->kind < SNAPSHOT_COUNTS || query->kind >= SNAPSHOT_N_KINDS)
                return -EINVAL;
        page = calloc(1, sizeof(*page));
        if (!page)
                return -ENOMEM;
        snapshot.page = page;
        page->kind = query->kind;
        if (query->kind == SNAPSHOT_COUNTS) {
                snapshot_show_counts(&snapshot, &resources->stats);
                page->is_last = true;
        } else if (query->kind == SNAPSHOT_QUOTAS) {
                r = snapshot_walk_quotas(&snapshot, resources);
                if (r < 0)
                        return r;
        } else {
                snapshot_walk(&snapshot, resources);
        }
        return snapshot_seal(page, ret_fd);
}
