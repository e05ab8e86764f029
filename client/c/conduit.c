/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One connection to the daemon. Its owner, a thread, writes to it; any thread of the program may read from it, so that
 * a thread that is busy elsewhere holds up nobody whose records come this way.
 *
 * Invariants: bytes are read and cut into frames under read_lock only, so frames are handled whole and in order. What a
 * frame changes is changed under the session's lock. Every byte from the daemon is checked before it has an effect; the
 * first thing that an honest daemon would not send ends the session (completion.c has the rules for records).
 *
 *   opened -> attached    the daemon accepts the first request: conduit_open()
 *   opened -> closed      it refuses or hangs up: that call fails, the session lives on
 *   attached -> ending    conduit_close(): the connection is shut, so that nothing more can be queued in it
 *   ending -> closed      what had been queued before is taken in
 *   attached -> closed    the daemon hangs up, or lies: session_abort()
 *
 * Descriptors are let in only while a request is outstanding whose reply brings one, and only with that reply. All
 * others are closed, and end the session.
 *
 * The reply to a request is handed over as bytes: whoever reads it is often not who asked, and the one who asked
 * unpacks it into memory of its own.
 *
 * Rejected: a reading thread of the library's own (a library that starts threads cannot be embedded), and one reader
 * for the whole session (every record of a second thread would then cost a switch between threads).
 */

#include "client/c/conduit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "client/c/completion.h"
#include "client/c/error.h"
#include "client/c/lane.h"
#include "client/c/port.h"
#include "client/c/request.h"
#include "client/c/session.h"
#include "client/c/wait.h"
#include "proto/channel.h"

#define CONDUIT_OPEN_NS (10 * NS_PER_S)
#define CONDUIT_READS_MAX 16u /* in one go: a daemon that never stops talking must not keep a thread here */

struct conduit *conduit_ref(struct conduit *conduit) {
        conduit->n_refs++;
        return conduit;
}

struct conduit *conduit_unref(struct conduit *conduit) {
        if (!conduit || --conduit->n_refs > 0)
                return NULL;
        list_unlink(&conduit->link);
        lane_free(conduit->lane);
        fd_close(conduit->reply_fd);
        fd_close(conduit->in_fd);
        fd_close(conduit->fd);
        pthread_mutex_destroy(&conduit->read_lock);
        free(conduit);
        return NULL;
}

/* --- Receiving -------------------------------------------------------------------------------------------------- */

/* The connection is of no use any more: the session's end, unless it was not part of it yet or is being closed. */
static void conduit_fail(struct conduit *conduit, struct ovl_thread *by, const char *why) {
        char text[sizeof(conduit->notice) + 192];

        if (conduit->notice[0])
                snprintf(text, sizeof(text), "overlapd ended the session: %s", conduit->notice);
        else
                snprintf(text, sizeof(text), "%s", why);
        conduit->is_closed = true;
        shutdown(conduit->fd, SHUT_RDWR);
        if (conduit->is_attached)
                session_abort(conduit->session, by, text);
        else if (!conduit->notice[0])
                error_copy_text(conduit->notice, sizeof(conduit->notice), why);
}

static void conduit_lose(struct conduit *conduit, struct ovl_thread *by, int error) {
        char text[192];

        session_lock(conduit->session);
        if (conduit->is_ending) {
                conduit->is_closed = true;
        } else if (!conduit->is_closed) {
                snprintf(text, sizeof(text),
                         "the connection to overlapd was lost (%s): see its journal; open a new session",
                         error < 0 ? strerrordesc_np(-error) : "it hung up");
                conduit_fail(conduit, by, text);
        }
        session_unlock(conduit->session);
}

/* Returns -EPROTO. Not under the lock. */
static int conduit_distrust(struct conduit *conduit, struct ovl_thread *by, const char *problem) {
        char text[192];

        snprintf(text, sizeof(text), "overlapd sent what it must not (%s): the session was ended", problem);
        session_lock(conduit->session);
        if (!conduit->is_closed)
                conduit_fail(conduit, by, text);
        session_unlock(conduit->session);
        return -EPROTO;
}

/* Adds up the payloads. Returns whether they are what is left of the frame. */
static bool conduit_check_records(const uint8_t *body, size_t len, const struct ovl_records_header *header) {
        uint64_t left = len - sizeof(*header), payload_len = 0;

        if (header->n_records > left / sizeof(struct ovl_record))
                return false;
        for (uint32_t i = 0; i < header->n_records; i++) {
                struct ovl_record record;

                memcpy(&record, body + sizeof(*header) + i * sizeof(record), sizeof(record));
                payload_len += record.payload_len;
        }
        return left == (uint64_t) header->n_records * sizeof(struct ovl_record) + payload_len;
}

static int conduit_take_records(struct conduit *conduit, const uint8_t *body, size_t len, struct ovl_thread *by,
                                size_t *n_completions) {
        struct ovl_session *session = conduit->session;
        struct ovl_records_header header;
        const uint8_t *payload;
        const char *problem;
        int r = 0;

        if (len < sizeof(header))
                return conduit_distrust(conduit, by, "a RECORDS frame without a header");
        memcpy(&header, body, sizeof(header));
        if (header.n_records == 0 || header.reserved != 0)
                return conduit_distrust(conduit, by, "a RECORDS frame with a malformed header");
        if (!conduit_check_records(body, len, &header))
                return conduit_distrust(conduit, by, "a RECORDS frame whose length is not that of its records");
        payload = body + sizeof(header) + header.n_records * sizeof(struct ovl_record);
        session_lock(session);
        for (uint32_t i = 0; i < header.n_records && !session->is_gone && !conduit->is_closed; i++) {
                struct ovl_record record;

                memcpy(&record, body + sizeof(header) + i * sizeof(record), sizeof(record));
                r = completion_take(conduit, &record, payload, by, &problem);
                if (r < 0)
                        break;
                payload += record.payload_len;
                *n_completions += record.kind == OVL_RECORD_COMPLETION;
        }
        list_for_each(link, &session->ports)
                port_serve(list_entry(link, struct ovl_port, link), by);
        session_unlock(session);
        return r < 0 ? conduit_distrust(conduit, by, problem) : 0;
}

/* Takes `n` records of the lane, and what is settled behind them. Under the session's lock. Returns 0 or -EPROTO. */
static int conduit_take_from_lane(struct conduit *conduit, uint32_t n, uint64_t settled, struct ovl_thread *by,
                                  size_t *n_completions, const char **ret_problem) {
        struct ovl_session *session = conduit->session;
        struct ovl_record record;
        int r = 0;

        while (r == 0 && n-- > 0 && !session->is_gone && !conduit->is_closed) {
                lane_take(conduit->lane, &record);
                if (record.payload_len != 0) {
                        *ret_problem = "a record with payload in a lane";
                        return -EPROTO;
                }
                r = completion_take(conduit, &record, NULL, by, ret_problem);
                *n_completions += record.kind == OVL_RECORD_COMPLETION;
        }
        if (r == 0 && settled != conduit->lane->settled && !session->is_gone) {
                record = (struct ovl_record){ .kind = OVL_RECORD_SETTLED, .value = settled };
                __atomic_store_n(&conduit->lane->settled, settled, __ATOMIC_RELAXED);
                r = completion_take(conduit, &record, NULL, by, ret_problem);
        }
        list_for_each(link, &session->ports)
                port_serve(list_entry(link, struct ovl_port, link), by);
        return r;
}

/* Takes in what is in the lane now. Returns 0 or -EPROTO. Under read_lock. */
static int conduit_take_lane_once(struct conduit *conduit, struct ovl_thread *by, size_t *n_completions) {
        struct lane *lane = conduit->lane;
        const char *problem = "more records in a lane than it has places";
        uint64_t settled;
        uint32_t n;
        int r;

        settled = lane_load_settled(lane);
        r = lane_count(lane, &n);
        if (r < 0)
                return conduit_distrust(conduit, by, problem);
        if (n == 0 && settled == lane->settled)
                return 0;
        session_lock(conduit->session);
        r = conduit_take_from_lane(conduit, n, settled, by, n_completions, &problem);
        session_unlock(conduit->session);
        if (lane_release(lane))
                conduit_ring(conduit, by);
        return r < 0 ? conduit_distrust(conduit, by, problem) : 0;
}

/* Has somebody else go on: whoever waits, or a loop that is not the library's. */
static void conduit_pass_on(struct conduit *conduit, const struct ovl_thread *by) {
        session_lock(conduit->session);
        if (conduit->leader)
                wait_signal(conduit->leader->thread, by);
        if (conduit->thread && conduit->is_foreign)
                wait_signal(conduit->thread, NULL);
        session_unlock(conduit->session);
}

/*
 * Takes in what is in the lane, and what has come when the daemon is told so: for records that come in between there is
 * no bell, since the one for those before them is not answered, and whoever sleeps would not be woken. Returns 0 or
 * -EPROTO. Under read_lock.
 */
static int conduit_take_lane(struct conduit *conduit, struct ovl_thread *by, size_t *n_completions) {
        struct lane *lane = conduit->lane;
        int r = 0;

        if (!lane || lane->is_closed)
                return 0;
        for (unsigned i = 0; i < CONDUIT_READS_MAX && r == 0 && lane_has_news(lane); i++)
                r = conduit_take_lane_once(conduit, by, n_completions);
        if (r == 0 && lane_has_news(lane))
                conduit_pass_on(conduit, by);
        return r;
}

static int conduit_take_reply(struct conduit *conduit, const Overlapd__Reply *reply,
                              const struct ovl_frame_header *header, const uint8_t *body, struct ovl_thread *by) {
        bool is_awaited;

        if (header->n_fds == 0 && conduit->in_fd >= 0)
                return conduit_distrust(conduit, by, "a descriptor that no frame announces");
        session_lock(conduit->session);
        is_awaited = conduit->wants_reply && reply->id == conduit->request;
        if (is_awaited) {
                memcpy(conduit->reply, body, header->body_len);
                conduit->reply_len = header->body_len;
                fd_close(conduit->reply_fd);
                conduit->reply_fd = header->n_fds > 0 ? fd_take(&conduit->in_fd) : -1;
                conduit->wants_reply = false;
                conduit->has_reply = true;
                if (conduit->thread)
                        wait_signal(conduit->thread, by);
        }
        session_unlock(conduit->session);
        return is_awaited ? 0 : conduit_distrust(conduit, by, "a reply to a request that was not made");
}

static int conduit_take_control(struct conduit *conduit, const struct ovl_frame_header *header, const uint8_t *body,
                                struct ovl_thread *by) {
        ProtobufCMessage *message;
        Overlapd__FromDaemon *from_daemon;
        const char *problem;
        int r;

        r = message_unpack(&conduit->arena, &overlapd__from_daemon__descriptor, body, header->body_len, &message,
                           &problem);
        if (r < 0)
                return conduit_distrust(conduit, by, problem);
        from_daemon = (Overlapd__FromDaemon *) message;
        if (from_daemon->what_case == OVERLAPD__FROM_DAEMON__WHAT_REPLY)
                return conduit_take_reply(conduit, from_daemon->reply, header, body, by);
        if (header->n_fds > 0)
                return conduit_distrust(conduit, by, "a notice with a descriptor");
        if (from_daemon->what_case == OVERLAPD__FROM_DAEMON__WHAT_NOTICE && from_daemon->notice->closing) {
                session_lock(conduit->session);
                error_copy_text(conduit->notice, sizeof(conduit->notice), from_daemon->notice->text);
                conduit->notice_status = from_daemon->notice->status;
                session_unlock(conduit->session);
        }
        return 0;
}

/* Handles the whole frames that are there, and keeps the rest. Returns 0 or -EPROTO. */
static int conduit_take_frames(struct conduit *conduit, struct ovl_thread *by, size_t *n_completions) {
        size_t at = 0;
        int r;

        for (;;) {
                struct ovl_frame_header header;
                const char *problem;
                const uint8_t *body = conduit->in + at + sizeof(header);

                r = frame_find(conduit->in + at, conduit->in_len - at, FRAME_FROM_DAEMON, &header, &problem);
                if (r < 0)
                        return conduit_distrust(conduit, by, problem);
                if (r == 0)
                        break;
                if (header.n_fds > 0 && conduit->in_fd < 0)
                        return conduit_distrust(conduit, by, "a frame without the descriptor that it announces");
                /* What was in the lane before a reply is taken in before it. */
                if (header.kind == OVL_FRAME_RECORDS)
                        r = conduit_take_records(conduit, body, header.body_len, by, n_completions);
                else
                        r = conduit_take_lane(conduit, by, n_completions);
                if (r == 0 && header.kind == OVL_FRAME_CONTROL)
                        r = conduit_take_control(conduit, &header, body, by);
                if (r < 0)
                        return r;
                at += sizeof(header) + header.body_len;
        }
        memmove(conduit->in, conduit->in + at, conduit->in_len - at);
        conduit->in_len -= at;
        if (conduit->in_fd >= 0 && conduit->in_len == 0)
                return conduit_distrust(conduit, by, "a descriptor that belongs to no frame");
        return 0;
}

/* Keeps a descriptor that a reply was asked for. Returns whether it was. */
static bool conduit_keep_fd(struct conduit *conduit, int *fds, size_t n_fds) {
        session_lock(conduit->session);
        if (n_fds == 1 && conduit->wants_reply && conduit->wants_fd && conduit->in_fd < 0)
                conduit->in_fd = fd_take(&fds[0]);
        session_unlock(conduit->session);
        for (size_t i = 0; i < n_fds; i++)
                fd_close(fds[i]);
        return fds[0] < 0;
}

/* Returns 1 when there may be more, 0 when there is nothing more for now, or -errno. Under read_lock. */
static int conduit_read(struct conduit *conduit, struct ovl_thread *by, size_t *n_completions) {
        size_t room = sizeof(conduit->in) - conduit->in_len;
        int fds[CHANNEL_FDS_MAX];
        size_t n_fds = 0;
        ssize_t n;
        int r;

        n = channel_receive(conduit->fd, conduit->in + conduit->in_len, room, fds, &n_fds);
        if (n == -EAGAIN)
                return 0;
        if (n == -EINTR)
                return 1;
        if (n == -EMSGSIZE || (n >= 0 && n_fds > 0 && !conduit_keep_fd(conduit, fds, n_fds)))
                return conduit_distrust(conduit, by, "descriptors that were not asked for");
        if (n <= 0) {
                /* The daemon's last records are in front of the end. */
                if (conduit_take_lane(conduit, by, n_completions) == 0)
                        conduit_lose(conduit, by, (int) n);
                return -ECONNABORTED;
        }
        conduit->in_len += (size_t) n;
        r = conduit_take_frames(conduit, by, n_completions);
        if (r < 0)
                return r;
        return (size_t) n == room;
}

static bool conduit_is_open(struct conduit *conduit) {
        bool is_open;

        session_lock(conduit->session);
        is_open = !conduit->is_closed && !conduit->session->is_gone;
        session_unlock(conduit->session);
        return is_open;
}

size_t conduit_take_in(struct conduit *conduit, struct ovl_thread *by) {
        size_t n_completions = 0;
        int r = 1;

        pthread_mutex_lock(&conduit->read_lock);
        if (conduit_is_open(conduit)) {
                r = conduit_take_lane(conduit, by, &n_completions) < 0 ? -EPROTO : 1;
                for (unsigned i = 0; i < CONDUIT_READS_MAX && r > 0; i++)
                        r = conduit_read(conduit, by, &n_completions);
                /* A bell that was read here can wake nobody else any more: what it rang for is taken here, too. */
                if (r >= 0)
                        conduit_take_lane(conduit, by, &n_completions);
        }
        pthread_mutex_unlock(&conduit->read_lock);
        return n_completions;
}

size_t conduit_look(struct conduit *conduit, struct ovl_thread *by) {
        size_t n_completions = 0;

        /* A foreign loop would find the bell, which nobody else reads, again and again. */
        if (!conduit->lane || __atomic_load_n(&conduit->is_foreign, __ATOMIC_RELAXED))
                return conduit_take_in(conduit, by);
        if (!lane_has_news(conduit->lane))
                return 0;
        pthread_mutex_lock(&conduit->read_lock);
        if (conduit_is_open(conduit))
                conduit_take_lane(conduit, by, &n_completions);
        pthread_mutex_unlock(&conduit->read_lock);
        return n_completions;
}

void conduit_take_in_all(struct ovl_session *session, bool only_ports, struct ovl_thread *by) {
        struct conduit *conduit;
        struct list *link;

        session_lock(session);
        link = session->conduits.next;
        while (link != &session->conduits) {
                conduit = list_entry(link, struct conduit, link);
                if (!conduit->is_attached || (only_ports && !conduit->port)) {
                        link = link->next;
                        continue;
                }
                conduit_ref(conduit);
                session_unlock(session);
                conduit_take_in(conduit, by);
                session_lock(session);
                /* An element that left the list meanwhile points to itself: the rest is then left to the waits. */
                link = list_is_linked(&conduit->link) ? conduit->link.next : &session->conduits;
                conduit_unref(conduit);
        }
        if (by)
                wait_tell(by);
        session_unlock(session);
}

/* --- Sending ---------------------------------------------------------------------------------------------------- */

ssize_t conduit_send(struct conduit *conduit, const void *bytes, size_t len, int with_fd, struct ovl_thread *by) {
        struct iovec part = { (void *) bytes, len };
        ssize_t n;

        do {
                n = channel_send(conduit->fd, &part, 1, with_fd);
        } while (n == -EINTR);
        if (n >= 0 || n == -EAGAIN)
                return n;
        /* The daemon's last words and records may lie in front of the end of the stream. */
        conduit_take_in(conduit, by);
        conduit_lose(conduit, by, (int) n);
        return n;
}

void conduit_begin_sending(struct conduit *conduit) {
        session_lock(conduit->session);
        conduit->is_sending = true;
        session_unlock(conduit->session);
}

void conduit_end_sending(struct conduit *conduit, struct ovl_thread *by) {
        bool owes_doorbell;

        session_lock(conduit->session);
        owes_doorbell = conduit->owes_doorbell;
        conduit->is_sending = conduit->owes_doorbell = false;
        session_unlock(conduit->session);
        if (owes_doorbell)
                conduit_ring(conduit, by);
}

/* So short a frame is sent whole or not at all, and when there is no room for it the daemon will look anyway. */
void conduit_ring(struct conduit *conduit, struct ovl_thread *by) {
        static const struct ovl_post_header empty;
        uint8_t doorbell[sizeof(struct ovl_frame_header) + sizeof(empty)];
        bool may_send;

        session_lock(conduit->session);
        may_send = !conduit->is_sending;
        if (may_send)
                conduit->is_sending = true;
        else
                conduit->owes_doorbell = true;
        session_unlock(conduit->session);
        if (!may_send)
                return;
        frame_pack_header(doorbell, OVL_FRAME_POST, sizeof(empty), 0);
        memcpy(doorbell + sizeof(struct ovl_frame_header), &empty, sizeof(empty));
        /* A connection that is lost is found out by who reads it. */
        channel_send(conduit->fd, &(struct iovec){ doorbell, sizeof(doorbell) }, 1, -1);
        conduit_end_sending(conduit, by);
}

bool conduit_fall_asleep(struct conduit *conduit) {
        if (!conduit->lane)
                return true;
        conduit->n_asleep++;
        return lane_fall_asleep(conduit->lane);
}

void conduit_awaken(struct conduit *conduit) {
        if (conduit->lane && --conduit->n_asleep == 0 && !conduit->is_foreign)
                lane_awaken(conduit->lane);
}

/* Whether the reply to a request brings a descriptor. */
static bool conduit_wants_fd(const Overlapd__Request *request) {
        return request->what_case == OVERLAPD__REQUEST__WHAT_LANE_ADD ||
               request->what_case == OVERLAPD__REQUEST__WHAT_SOCKET_EXPORT;
}

void conduit_expect(struct conduit *conduit, Overlapd__Request *request) {
        conduit->request++;
        conduit->wants_reply = true;
        conduit->wants_fd = conduit_wants_fd(request);
        conduit->has_reply = false;
        fd_close(conduit_take_fd(conduit));
        request->id = conduit->request;
}

int conduit_take_fd(struct conduit *conduit) {
        return fd_take(&conduit->reply_fd);
}

int conduit_reply(struct conduit *conduit, struct message_arena *arena, Overlapd__Reply **ret_reply) {
        ProtobufCMessage *message;
        const char *problem;
        int r;

        r = message_unpack(arena, &overlapd__from_daemon__descriptor, conduit->reply, conduit->reply_len, &message,
                           &problem);
        if (r < 0)
                return r;
        *ret_reply = ((Overlapd__FromDaemon *) message)->reply;
        return 0;
}

/* --- Opening and closing ---------------------------------------------------------------------------------------- */

static void cleanup_conduit_drop(struct conduit **conduit) {
        struct ovl_session *session;

        if (!*conduit)
                return;
        session = (*conduit)->session;
        session_lock(session);
        conduit_unref(*conduit);
        session_unlock(session);
}

static int conduit_new(struct ovl_session *session, int *fd, struct conduit **ret_conduit) {
        struct conduit *conduit = calloc(1, sizeof(*conduit));

        if (!conduit)
                return -ENOMEM;
        list_init(&conduit->link);
        pthread_mutex_init(&conduit->read_lock, NULL);
        message_arena_init(&conduit->arena);
        conduit->session = session;
        conduit->n_refs = 1;
        conduit->fd = fd_take(fd);
        conduit->reply_fd = conduit->in_fd = -1;
        session_lock(session);
        list_push_back(&session->conduits, &conduit->link);
        session_unlock(session);
        *ret_conduit = conduit;
        return 0;
}

static int conduit_explain(const struct ovl_session *session, int r, struct ovl_error *error) {
        const char *path = session->address.sun_path;

        switch (r) {
        case -ENOENT:
        case -ECONNREFUSED:
                return error_set(error, r, 0,
                                 "no overlapd at %s (%s): start it (systemctl start overlapd), or run the program "
                                 "under `overlapd --private -- COMMAND`, or set OVERLAPD_SOCKET",
                                 path, strerrordesc_np(-r));
        case -EACCES:
        case -EPERM:
                return error_set(error, -EACCES, 0,
                                 "no permission to use %s: the user must be in the group that owns the socket", path);
        case -EAGAIN:
        case -ETIMEDOUT:
                return error_set(error, -ETIMEDOUT, 0, "overlapd at %s did not answer within 10 s: see its journal",
                                 path);
        default:
                return error_set(error, r, 0, "cannot connect to overlapd at %s: %s", path, strerrordesc_np(-r));
        }
}

/* Why an exchange ended without an answer. Returns -EBUSY where the daemon said so, else -ECONNABORTED. */
static int conduit_explain_end(struct conduit *conduit, struct ovl_error *error) {
        struct ovl_session *session = conduit->session;
        int r;

        session_lock(session);
        if (session->is_gone)
                r = session_gone(session, error, "a further connection");
        else if (conduit->notice_status == -EBUSY)
                r = error_set(error, -EBUSY, OVL_REASON_BUSY, "overlapd has no room: %s", conduit->notice);
        else
                r = error_set(error, -ECONNABORTED, OVL_REASON_DAEMON_GONE,
                              "overlapd did not accept the connection: %s", conduit->notice);
        session_unlock(session);
        return r;
}

/* Connects within a time. A Unix connect waits only for room in the listener's queue, which has no poll event. */
static int conduit_connect(const struct ovl_session *session, int *ret_fd) {
        struct timeval limit = { .tv_sec = CONDUIT_OPEN_NS / NS_PER_S };
        _cleanup_fd_ int fd = -1;
        int r;

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        r = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        if (r < 0)
                return -errno;
        do {
                r = connect(fd, (const struct sockaddr *) &session->address, sizeof(session->address));
        } while (r < 0 && errno == EINTR);
        if (r < 0)
                return -errno;
        r = fcntl(fd, F_SETFL, O_NONBLOCK);
        if (r < 0)
                return -errno;
        *ret_fd = fd_take(&fd);
        return 0;
}

/* Waits for an event on a connection that only the caller knows. Returns 0, or -ETIMEDOUT. */
static int conduit_poll(struct conduit *conduit, short events, uint64_t deadline) {
        struct pollfd poll_fd = { .fd = conduit->fd, .events = events };
        uint64_t now = now_ns();
        int r;

        if (now >= deadline)
                return -ETIMEDOUT;
        r = poll(&poll_fd, 1, (int) ((deadline - now + NS_PER_MS - 1) / NS_PER_MS));
        return r == 0 ? -ETIMEDOUT : 0;
}

static int conduit_exchange(struct conduit *conduit, Overlapd__Request *request, int with_fd, uint64_t deadline) {
        _cleanup_free_ void *frame = NULL;
        ssize_t n, len;
        size_t sent = 0;
        int r;

        session_lock(conduit->session);
        conduit_expect(conduit, request);
        session_unlock(conduit->session);
        len = message_pack_frame(&request->base, with_fd >= 0, &frame);
        if (len < 0)
                return (int) len;
        while (sent < (size_t) len) {
                n = conduit_send(conduit, (uint8_t *) frame + sent, (size_t) len - sent, sent ? -1 : with_fd, NULL);
                if (n < 0 && n != -EAGAIN)
                        return -ECONNABORTED;
                if (n > 0)
                        sent += (size_t) n;
                r = n < 0 ? conduit_poll(conduit, POLLOUT, deadline) : 0;
                if (r < 0)
                        return r;
        }
        for (;;) {
                conduit_take_in(conduit, NULL);
                if (conduit->has_reply)
                        return 0;
                if (!conduit_is_open(conduit))
                        return -ECONNABORTED;
                r = conduit_poll(conduit, POLLIN, deadline);
                if (r < 0)
                        return r;
        }
}

int conduit_open(struct ovl_session *session, Overlapd__Request *request, struct message_arena *arena,
                 struct ovl_error *error, struct conduit **ret_conduit, Overlapd__Reply **ret_reply) {
        uint64_t deadline = now_ns() + CONDUIT_OPEN_NS;
        cleanup(cleanup_conduit_drop) struct conduit *conduit = NULL;
        _cleanup_fd_ int fd = -1;
        Overlapd__Reply *reply;
        int r;

        r = conduit_connect(session, &fd);
        if (r < 0)
                return conduit_explain(session, r, error);
        r = conduit_new(session, &fd, &conduit);
        if (r < 0)
                return conduit_explain(session, r, error);
        r = conduit_exchange(conduit, request, -1, deadline);
        if (r == -ECONNABORTED)
                return conduit_explain_end(conduit, error);
        if (r < 0)
                return conduit_explain(session, r, error);
        r = conduit_reply(conduit, arena, &reply);
        if (r < 0)
                return conduit_explain(session, r, error);
        if (reply->status != 0)
                return request_refused(reply, "overlapd did not accept the connection", error);
        *ret_reply = reply;
        *ret_conduit = take_ptr(conduit);
        return 0;
}

/* The daemon has accepted the library's half, and shows its own. Returns 0 or -errno. */
static int conduit_complete_lane(struct conduit *conduit, struct lane **lane, const Overlapd__Reply *reply) {
        _cleanup_fd_ int fd = fd_take(&conduit->reply_fd);
        int r;

        if (reply->what_case != OVERLAPD__REPLY__WHAT_LANE_ADD || fd < 0)
                return -EPROTO;
        r = lane_complete(*lane, reply->lane_add->n_records, fd);
        if (r < 0)
                return r;
        session_lock(conduit->session);
        conduit->lane = take_ptr(*lane);
        session_unlock(conduit->session);
        return 0;
}

static void cleanup_lane(struct lane **lane) {
        lane_free(*lane);
}

int conduit_add_lane(struct conduit *conduit, uint32_t n_slots, struct message_arena *arena, struct ovl_error *error) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__LaneAdd lane_add = OVERLAPD__LANE_ADD__INIT;
        cleanup(cleanup_lane) struct lane *lane = NULL;
        _cleanup_fd_ int fd = -1;
        Overlapd__Reply *reply;
        int r;

        if (conduit->session->info.level < 2)
                return 0;
        r = lane_new(n_slots, &lane, &fd);
        if (r < 0)
                return error_set(error, r, 0, "cannot make a lane of %u slots: %s", n_slots, strerrordesc_np(-r));
        lane_add.n_slots = lane->n_slots;
        request.what_case = OVERLAPD__REQUEST__WHAT_LANE_ADD;
        request.lane_add = &lane_add;
        r = conduit_exchange(conduit, &request, fd, now_ns() + CONDUIT_OPEN_NS);
        if (r == -ECONNABORTED)
                return conduit_explain_end(conduit, error);
        if (r == 0)
                r = conduit_reply(conduit, arena, &reply);
        if (r < 0)
                return conduit_explain(conduit->session, r, error);
        if (reply->status == -EDQUOT)
                return 0;
        if (reply->status != 0)
                return request_refused(reply, "overlapd did not accept a lane", error);
        r = conduit_complete_lane(conduit, &lane, reply);
        return r < 0 ? error_set(error, r, OVL_REASON_BAD_LANE, "overlapd answers with a lane that is none") : 0;
}

void conduit_attach(struct conduit *conduit) {
        conduit->is_attached = true;
}

/* Takes what is in the lane, and no more: the daemon sends the rest again through the session's first channel. */
static void conduit_close_lane(struct conduit *conduit, struct ovl_thread *by) {
        size_t n_completions = 0;

        pthread_mutex_lock(&conduit->read_lock);
        if (conduit->lane && conduit_is_open(conduit))
                conduit_take_lane(conduit, by, &n_completions);
        if (conduit->lane)
                conduit->lane->is_closed = true;
        pthread_mutex_unlock(&conduit->read_lock);
}

void conduit_close(struct conduit *conduit, struct ovl_thread *by) {
        struct ovl_session *session = conduit->session;

        session_lock(session);
        conduit->is_ending = true;
        session_unlock(session);
        conduit_close_lane(conduit, by);
        /*
         * From here on the daemon can queue nothing more: what it could not send it sends again through the session's
         * first channel. What it did send is still there to be read.
         */
        shutdown(conduit->fd, SHUT_RDWR);
        while (conduit_is_open(conduit))
                conduit_take_in(conduit, by);
        session_lock(session);
        conduit->is_closed = true;
        list_unlink(&conduit->link);
        conduit_unref(conduit);
        session_unlock(session);
}
