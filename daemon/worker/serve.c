/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Replies and calls. A request is answered at once, or becomes a call: it waits for the monitor (`asked`), or for the
 * end of ops (`waiting`). A call outlives its peer; its reply is then dropped. Calls that wait for ops do not point
 * into them: what they wait for is looked up anew at the end of each turn, so that an op needs to know nothing of them.
 */

#include "daemon/worker/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "proto/text.h"

#define SERVE_TEXT_SIZE 400

static void control_mark_publish(struct control *control, struct peer *peer) {
        if (!list_is_linked(&peer->publish))
                list_push_back(&control->resources->publish, &peer->publish);
}

void control_send(struct control *control, struct peer *peer, Overlapd__FromDaemon *message, int take_fd) {
        void *frame;
        ssize_t len;

        len = message_pack_frame(&message->base, take_fd >= 0, &frame);
        if (len < 0)
                peer_drop_fd(peer, take_fd);
        if (len < 0 || peer_push_frame(peer, frame, (size_t) len, take_fd) < 0) {
                peer_die(peer, "out of memory for a reply");
                return;
        }
        control_mark_publish(control, peer);
}

void control_send_reply_fd(struct control *control, struct peer *peer, Overlapd__Reply *reply, int take_fd) {
        Overlapd__FromDaemon message = OVERLAPD__FROM_DAEMON__INIT;

        message.what_case = OVERLAPD__FROM_DAEMON__WHAT_REPLY;
        message.reply = reply;
        control_send(control, peer, &message, take_fd);
}

void control_send_reply(struct control *control, struct peer *peer, Overlapd__Reply *reply) {
        if (peer)
                control_send_reply_fd(control, peer, reply, -1);
}

/* The reply that says nothing but how it went. */
void control_reply(struct control *control, struct peer *peer, uint32_t id, int status, unsigned reason,
                   const char *format, ...) {
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        char text[SERVE_TEXT_SIZE];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        reply.id = id;
        reply.status = status;
        reply.reason = reason;
        reply.text = text_make_utf8(text);
        control_send_reply(control, peer, &reply);
}

/* Of the same user and unit. Whether there are others is not told. */
struct session *serve_partner(struct serve *serve, uint64_t number) {
        const struct link_peer *identity = &serve->session->identity;

        list_for_each(link, &serve->control->resources->sessions) {
                struct session *session = list_entry(link, struct session, link);

                if (session->number == number && session->identity.shard == identity->shard &&
                    session->identity.uid == identity->uid && !session->is_ending)
                        return session;
        }
        serve_refuse(serve, -ESRCH, OVL_REASON_UNKNOWN_SESSION,
                     "no session of this user and unit has the number %#llx: sockets and thread handles go only from "
                     "one session to another of one user and unit, by the number that its own hello was answered with",
                     (unsigned long long) number);
        return NULL;
}

void serve_refuse_quota(struct serve *serve, const struct quota_refusal *refusal) {
        char text[QUOTA_TEXT_SIZE];

        serve_refuse(serve, -EDQUOT, OVL_REASON_QUOTA, "%s", quota_explain(refusal, text));
}

void serve_ok(struct serve *serve) {
        control_reply(serve->control, serve->peer, serve->request->id, 0, 0, "%s", "");
}

void serve_send(struct serve *serve, Overlapd__Reply *reply) {
        reply->id = serve->request->id;
        control_send_reply(serve->control, serve->peer, reply);
}

/* --- Calls ------------------------------------------------------------------------------------------------------ */

struct call *call_free(struct call *call) {
        if (!call)
                return NULL;
        /* A session that waited for nothing else is over, and so is a client that ended its side. */
        if (call->session && --call->session->n_calls == 0)
                session_touch(call->session);
        if (call->handle && --call->handle->n_calls == 0)
                session_touch(call->session);
        charge_release(&call->charge);
        list_unlink(&call->link);
        fd_close(call->ticket.fd);
        free(call);
        return NULL;
}

struct call *call_new(struct serve *serve, enum call_kind kind, struct handle *handle) {
        struct call *call = calloc(1, sizeof(*call));

        if (!call) {
                serve_refuse(serve, -ENOMEM, OVL_REASON_NONE, "overlapd is out of memory: try again later");
                return NULL;
        }
        call->kind = kind;
        call->peer = serve->peer;
        call->session = serve->session;
        call->id = serve->request->id;
        call->ticket.fd = -1;
        call->session->n_calls++;
        call->handle = handle;
        if (handle)
                handle->n_calls++;
        list_init(&call->link);
        call->message.body.socket.session = serve->session->number;
        return call;
}

/* Asks the monitor. call: taken. */
void call_ask(struct serve *serve, struct call *call, enum link_kind kind, int fd) {
        call->message.kind = kind;
        call->message.asker.socket = call->handle ? call->handle->number : 0;
        call->message.asker.has_thread = serve->peer->thread != NULL;
        call->message.asker.thread = serve->peer->thread ? serve->peer->thread->number : 0;
        call->ticket.owner = TICKET_CALL;
        call->ticket.message = &call->message;
        /* The socket may be closed before the question has left. */
        call->ticket.fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
        if (fd >= 0 && call->ticket.fd < 0) {
                serve_refuse(serve, -EMFILE, OVL_REASON_QUOTA, SERVE_FILES_TEXT);
                call_free(call);
                return;
        }
        if (ask_send(&serve->control->resources->ask, &call->ticket) < 0) {
                serve_refuse(serve, -ENOBUFS, OVL_REASON_QUOTA, "too many requests are under way: try again later");
                call_free(call);
                return;
        }
        list_push_back(&serve->control->asked, &call->link);
}

void call_wait(struct serve *serve, struct call *call) {
        list_push_back(&serve->control->waiting, &call->link);
}
