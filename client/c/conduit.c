/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One connection to the daemon: its life, and what is sent. Its owner, a thread, writes to it; what comes is taken in
 * by conduit-receive.c, in any thread of the program.
 *
 *   opened -> attached    the daemon accepts the first request: conduit_open()
 *   opened -> closed      it refuses or hangs up: that call fails, the session lives on
 *   attached -> ending    conduit_close(): the connection is shut, so that nothing more can be queued in it
 *   ending -> closed      what had been queued before is taken in
 *   attached -> closed    the daemon hangs up, or lies: session_abort()
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
#include "client/c/error.h"
#include "client/c/lane.h"
#include "client/c/request.h"
#include "client/c/session.h"
#include "proto/channel.h"

#define CONDUIT_OPEN_NS (10 * NS_PER_S)

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

bool conduit_brings_strays(const struct conduit *conduit) {
        const struct ovl_session *session = conduit->session;

        return !conduit->port && (!conduit->thread || (conduit == session->first && session->pending.n_strays > 0));
}

/* --- Sending ---------------------------------------------------------------------------------------------------- */

bool conduit_refuses_fd(int with_fd, ssize_t result) {
        return with_fd >= 0 && (result == -EBADF || result == -EINVAL || result == -ETOOMANYREFS);
}

ssize_t conduit_send(struct conduit *conduit, const void *bytes, size_t len, int with_fd, struct ovl_thread *by) {
        struct iovec part = { (void *) bytes, len };
        ssize_t n;

        do {
                n = channel_send(conduit->fd, &part, 1, with_fd);
        } while (n == -EINTR);
        if (n >= 0 || n == -EAGAIN)
                return n;
        if (conduit_refuses_fd(with_fd, n))
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
