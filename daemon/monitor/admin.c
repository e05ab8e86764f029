/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The administrators' socket. It is another one than that of clients, so that permissions of the file system keep the
 * two apart: whoever may use the network through overlapd need not see who else does. Members of the group
 * overlapd-admin may ask beside root, because what watches a machine should not have to be root; nothing that is asked
 * here changes anything.
 *
 * Invariant: nobody who connects here can make the monitor wait, grow or leave its work: a question has at most 16 KiB,
 * of an answer one page is made at a time, connections are few, and each state of one has a deadline.
 *
 *   (none)    -> reading    the listener took a connection of somebody who may ask
 *   reading   -> answering  a question came, whole
 *   answering -> reading    the answer was taken; what came meanwhile is the next question
 *   reading, answering -> (none)  the other side ended; the deadline; bytes that are no question, once their answer,
 *                                 which says so, was taken
 *
 * Who has connected is checked again from the kernel's word, for a path can be bound with another mode by mistake.
 *
 * Rejected: the clients' socket and a first message that says "administrator": every hole in what reads that message
 * would be open to every client.
 */

#include "daemon/monitor/admin.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/monitor/events.h"
#include "proto/frame.h"

#define ADMIN_INBOX_SIZE (sizeof(struct ovl_frame_header) + OVL_FRAME_CONTROL_MAX)
#define ADMIN_ACCEPTS_PER_VISIT 4
#define ADMIN_NAME "admin.sock"
#define ADMIN_BESIDE "/overlapd.sock"

struct admin_peer {
        struct list link;
        struct admin *admin; /* borrowed */
        int fd;
        uid_t uid;
        sd_event_source *source;
        sd_event_source *deadline;
        struct admin_answer answer;
        bool is_answering;
        bool is_waiting; /* for a worker */
        bool is_over;    /* closed, once the answer was taken */
        size_t n_filled;
        uint8_t inbox[ADMIN_INBOX_SIZE];
};

/* --- Connections -------------------------------------------------------------------------------------------------- */

static void admin_peer_free(struct admin_peer *peer) {
        list_unlink(&peer->link);
        peer->admin->n_peers--;
        sd_event_source_disable_unref(peer->source);
        sd_event_source_disable_unref(peer->deadline);
        admin_answer_deinit(&peer->answer);
        fd_close(peer->fd);
        free(peer);
}

/* From here on the connection has this long until it has to be in another state. */
static void admin_peer_set_deadline(struct admin_peer *peer, unsigned seconds) {
        sd_event_source_set_time_relative(peer->deadline, seconds * UINT64_C(1000000));
        sd_event_source_set_enabled(peer->deadline, SD_EVENT_ONESHOT);
}

static void admin_peer_await(struct admin_peer *peer, uint32_t events, unsigned seconds) {
        sd_event_source_set_io_events(peer->source, events);
        admin_peer_set_deadline(peer, seconds);
}

/* Sends what there is. Returns 1 when all of it has left, 0 when there is no room, or -errno. */
static int admin_peer_flush(struct admin_peer *peer) {
        struct admin_out *out = &peer->answer.out;

        while (out->sent < out->len) {
                ssize_t n = send(peer->fd, out->bytes + out->sent, out->len - out->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? 0 : -errno;
                out->sent += (size_t) n;
        }
        out->len = out->sent = 0;
        return 1;
}

/* Takes the next question from the inbox. Returns 1, 0 when it is not whole, or -ENOMEM. */
static int admin_peer_take(struct admin_peer *peer) {
        struct ovl_frame_header header;
        const char *problem = NULL;
        ProtobufCMessage *message;
        size_t len;
        int r;

        r = frame_find(peer->inbox, peer->n_filled, FRAME_FROM_CLIENT, &header, &problem);
        if (r == 0)
                return 0;
        if (r > 0 && (header.kind != OVL_FRAME_CONTROL || header.n_fds > 0)) {
                problem = "questions are CONTROL frames without descriptors";
                r = -EPROTO;
        }
        if (r > 0)
                r = message_unpack(peer->admin->arena, &overlapd__admin_request__descriptor,
                                   peer->inbox + sizeof(header), header.body_len, &message, &problem);
        peer->is_answering = true;
        if (r < 0) {
                peer->is_over = true;
                r = admin_answer_refuse(&peer->answer, -EPROTO, problem);
                return r < 0 ? r : 1;
        }
        r = admin_answer_begin(&peer->answer, (const Overlapd__AdminRequest *) message);
        if (r < 0)
                return r;
        len = sizeof(header) + header.body_len;
        memmove(peer->inbox, peer->inbox + len, peer->n_filled - len);
        peer->n_filled -= len;
        return 1;
}

/* Goes on as far as nobody has to be waited for. Returns 0, or -errno when the connection is over. */
static int admin_peer_go_on(struct admin_peer *peer) {
        int r;

        if (!peer->is_answering) {
                r = admin_peer_take(peer);
                if (r < 0)
                        return r;
                if (r == 0) {
                        admin_peer_await(peer, EPOLLIN, peer->n_filled > 0 ? ADMIN_LATE_S : ADMIN_IDLE_S);
                        return 0;
                }
        }
        r = admin_answer_go_on(&peer->answer);
        if (r < 0 && r != -EAGAIN)
                return r;
        if (r == -EAGAIN && !peer->is_waiting)
                admin_peer_await(peer, 0, ADMIN_WORKER_S);
        peer->is_waiting = r == -EAGAIN;
        if (peer->is_waiting)
                return 0;
        r = admin_peer_flush(peer);
        if (r < 0)
                return r;
        if (r > 0 && !peer->answer.is_open) {
                if (peer->is_over)
                        return -EPROTO;
                peer->is_answering = false;
                /* What stands behind the question is looked at in another turn of the loop: others come first. */
                admin_peer_await(peer, peer->n_filled > 0 ? EPOLLOUT : EPOLLIN, ADMIN_IDLE_S);
                return 0;
        }
        admin_peer_await(peer, EPOLLOUT, ADMIN_LATE_S);
        return 0;
}

static int admin_peer_read(struct admin_peer *peer) {
        ssize_t n;

        n = recv(peer->fd, peer->inbox + peer->n_filled, sizeof(peer->inbox) - peer->n_filled, MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (n == 0)
                return -ECONNRESET;
        peer->n_filled += (size_t) n;
        return 0;
}

static int admin_on_peer(sd_event_source *source, int fd, uint32_t events, void *data) {
        struct admin_peer *peer = data;
        int r = 0;

        if (!peer->is_answering && (events & EPOLLIN))
                r = admin_peer_read(peer);
        else if (events & (EPOLLHUP | EPOLLERR))
                r = -ECONNRESET;
        if (r >= 0 && !peer->is_waiting)
                r = admin_peer_go_on(peer);
        if (r < 0)
                admin_peer_free(peer);
        return 0;
}

static int admin_on_deadline(sd_event_source *source, uint64_t now, void *data) {
        struct admin_peer *peer = data;

        if (!peer->is_waiting) {
                admin_peer_free(peer);
                return 0;
        }
        peer->is_waiting = false;
        admin_answer_skip(&peer->answer);
        if (admin_peer_go_on(peer) < 0)
                admin_peer_free(peer);
        return 0;
}

/* --- Who may ask ---------------------------------------------------------------------------------------------------
 */

static bool admin_may_ask(const struct admin *admin, const struct listener_peer *peer) {
        if (peer->uid == 0 || peer->uid == geteuid())
                return true;
        if (!admin->has_group || admin->listener.is_private)
                return false;
        if (peer->gid == admin->group)
                return true;
        for (size_t i = 0; i < peer->n_groups; i++)
                if (peer->groups[i] == admin->group)
                        return true;
        return false;
}

static unsigned admin_count(const struct admin *admin, uid_t uid) {
        unsigned n = 0;

        list_for_each(link, &admin->peers)
                n += list_entry(link, struct admin_peer, link)->uid == uid;
        return n;
}

/* NULL: it is taken. */
static const char *admin_refusal(const struct admin *admin, const struct listener_peer *peer) {
        if (!admin_may_ask(admin, peer))
                return "only root, the user whom overlapd runs as, and members of the group overlapd-admin may ask";
        if (admin->n_peers >= ADMIN_PEERS_MAX)
                return "16 others are asking already: try again in a moment";
        if (peer->uid != 0 && admin_count(admin, peer->uid) >= ADMIN_PEERS_OF_USER_MAX)
                return "this user asks on 8 other connections already: close one of them";
        return NULL;
}

/* Says it in one frame, as far as there is room, and in the journal. */
static void admin_refuse(struct admin *admin, const struct listener_peer *peer, const char *text) {
        const struct journal_fields fields = {
                .message_id = EVENT_ADMIN_REFUSED,
                .has_client = true,
                .client_pid = peer->pid,
                .client_uid = peer->uid,
                .client_unit = peer->unit,
                .client_cgroup = peer->cgroup,
                .error = admin_may_ask(admin, peer) ? -EBUSY : -EPERM,
        };
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        _cleanup_free_ void *frame = NULL;
        ssize_t n;

        journal_write(admin->journal, LOG_NOTICE, &fields, "administrator refused: %s", text);
        reply.last = true;
        reply.status = fields.error;
        reply.text = (char *) text;
        n = message_pack_frame(&reply.base, 0, &frame);
        if (n > 0)
                n = send(peer->fd, frame, (size_t) n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int admin_peer_new(struct admin *admin, struct listener_peer *from) {
        struct admin_peer *peer = calloc(1, sizeof(*peer));
        int r;

        if (!peer)
                return -ENOMEM;
        peer->admin = admin;
        peer->fd = -1;
        peer->uid = from->uid;
        list_init(&peer->link);
        list_push_back(&admin->peers, &peer->link);
        admin->n_peers++;
        admin_answer_init(&peer->answer, &admin->sources, ++admin->n_ever);
        r = sd_event_add_time_relative(admin->event, &peer->deadline, CLOCK_MONOTONIC, 0, 0, admin_on_deadline, peer);
        if (r >= 0)
                r = sd_event_add_io(admin->event, &peer->source, from->fd, EPOLLIN, admin_on_peer, peer);
        if (r < 0) {
                admin_peer_free(peer);
                return r;
        }
        peer->fd = fd_take(&from->fd);
        admin_peer_set_deadline(peer, ADMIN_LATE_S);
        return 0;
}

static int admin_on_listener(sd_event_source *source, int fd, uint32_t events, void *data) {
        struct admin *admin = data;

        for (int i = 0; i < ADMIN_ACCEPTS_PER_VISIT; i++) {
                cleanup(listener_peer_deinit) struct listener_peer peer = { .fd = -1 };
                const char *refusal;
                int r;

                r = listener_accept(&admin->listener, &peer);
                if (r == -EPERM)
                        continue;
                if (r < 0 || listener_identify(&admin->listener, &peer) < 0)
                        break;
                refusal = admin_refusal(admin, &peer);
                if (!refusal && admin_peer_new(admin, &peer) < 0)
                        refusal = "overlapd is short of memory: try again in a moment";
                if (refusal)
                        admin_refuse(admin, &peer, refusal);
        }
        return 0;
}

/* --- Life ----------------------------------------------------------------------------------------------------------
 */

void admin_init(struct admin *admin, sd_event *event, struct journal *journal, struct reaper *reaper,
                const struct admin_sources *sources) {
        const struct group *group = getgrnam(ADMIN_GROUP);

        *admin = (struct admin){ .event = event, .journal = journal, .reaper = reaper, .sources = *sources };
        list_init(&admin->peers);
        if (group) {
                admin->has_group = true;
                admin->group = group->gr_gid;
        }
}

void admin_deinit(struct admin *admin) {
        if (!admin->peers.next)
                return;
        while (!list_is_empty(&admin->peers))
                admin_peer_free(list_entry(admin->peers.next, struct admin_peer, link));
        admin->source = sd_event_source_disable_unref(admin->source);
        if (admin->is_listening)
                listener_close(&admin->listener);
        admin->is_listening = false;
        free(take_ptr(admin->arena));
}

int admin_path(const char *socket_path, char *to, size_t size) {
        size_t len = strlen(socket_path), end_len = strlen(ADMIN_BESIDE);
        int n;

        if (len >= end_len && strcmp(socket_path + len - end_len, ADMIN_BESIDE) == 0)
                n = snprintf(to, size, "%.*s/%s", (int) (len - end_len), socket_path, ADMIN_NAME);
        else
                n = snprintf(to, size, "%s.admin", socket_path);
        return n >= (int) size ? -ENAMETOOLONG : 0;
}

static int admin_arm(struct admin *admin) {
        admin->is_listening = true;
        admin->arena = malloc(sizeof(*admin->arena));
        if (!admin->arena)
                return -ENOMEM;
        message_arena_init(admin->arena);
        return sd_event_add_io(admin->event, &admin->source, admin->listener.fd, EPOLLIN, admin_on_listener, admin);
}

int admin_open(struct admin *admin, const char *path, bool is_private, char error[LISTENER_ERROR_SIZE]) {
        int r;

        r = listener_open(&admin->listener, admin->reaper, path, ADMIN_GROUP, is_private, error);
        return r < 0 ? r : admin_arm(admin);
}

int admin_adopt(struct admin *admin, int take_fd) {
        int r;

        if (admin->is_listening)
                return -EINVAL;
        r = listener_adopt(&admin->listener, admin->reaper, take_fd);
        return r < 0 ? r : admin_arm(admin);
}

/* Goes on with the first that can. Whoever got a page goes behind the others. Returns whether there was one. */
static bool admin_settle_one(struct admin *admin) {
        list_for_each_safe(link, &admin->peers) {
                struct admin_peer *peer = list_entry(link, struct admin_peer, link);

                if (!peer->is_waiting)
                        continue;
                if (admin_peer_go_on(peer) < 0) {
                        admin_peer_free(peer);
                        return true;
                }
                if (peer->is_waiting)
                        continue;
                list_unlink(&peer->link);
                list_push_back(&admin->peers, &peer->link);
                return true;
        }
        return false;
}

/* The worker that one has an answer of can be asked by the next at once: no event would tell him. */
void admin_settle(struct admin *admin) {
        while (admin_settle_one(admin))
                ;
}
