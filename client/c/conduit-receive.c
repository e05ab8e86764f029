/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What comes through a conduit: bytes, frames, records of the lane, replies. Any thread of the program may take it in,
 * so that a thread that is busy elsewhere holds up nobody whose records come this way.
 *
 * Invariants: bytes are read and cut into frames under read_lock only, so frames are handled whole and in order. What a
 * frame changes is changed under the session's lock. Every byte from the daemon is checked before it has an effect; the
 * first thing that an honest daemon would not send ends the session (completion.c has the rules for records).
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

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "client/c/completion.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/lane.h"
#include "client/c/port.h"
#include "client/c/session.h"
#include "client/c/wait.h"
#include "proto/channel.h"

#define CONDUIT_READS_MAX 16u /* in one go: a daemon that never stops talking must not keep a thread here */

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

void conduit_lose(struct conduit *conduit, struct ovl_thread *by, int error) {
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

bool conduit_is_open(struct conduit *conduit) {
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

void conduit_close_lane(struct conduit *conduit, struct ovl_thread *by) {
        size_t n_completions = 0;

        pthread_mutex_lock(&conduit->read_lock);
        if (conduit->lane && conduit_is_open(conduit))
                conduit_take_lane(conduit, by, &n_completions);
        if (conduit->lane)
                conduit->lane->is_closed = true;
        pthread_mutex_unlock(&conduit->read_lock);
}
