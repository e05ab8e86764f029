/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Control messages are cold: they may allocate, and what they may not do themselves they ask of the monitor. This file
 * takes them in and ends what waited; serve-session.c, serve-socket.c, serve-file.c and serve-apc.c have one function
 * for each.
 */

#include "daemon/worker/control.h"

#include <errno.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/worker/items.h"
#include "daemon/worker/serve.h"

#define CONTROL_STRIKES_MAX 3u
#define CONTROL_STRIKES_WINDOW (10 * NS_PER_S)

void control_init(struct control *control, struct resources *resources, const char *engine_reason) {
        control->resources = resources;
        control->engine_reason = engine_reason;
        list_init(&control->asked);
        list_init(&control->waiting);
        message_arena_init(&control->arena);
}

void control_deinit(struct control *control) {
        struct list *link;

        while ((link = list_first(&control->asked)))
                call_free(list_entry(link, struct call, link));
        while ((link = list_first(&control->waiting)))
                call_free(list_entry(link, struct call, link));
}

/* --- Replies ---------------------------------------------------------------------------------------------------- */

/* Tells one connection why it ends, as far as its socket has room, and ends it. */
static void control_end_peer(struct control *control, struct peer *peer, int status, unsigned reason,
                             const char *text) {
        Overlapd__FromDaemon message = OVERLAPD__FROM_DAEMON__INIT;
        Overlapd__Notice notice = OVERLAPD__NOTICE__INIT;

        notice.status = status;
        notice.reason = reason;
        notice.text = (char *) text;
        notice.closing = true;
        message.what_case = OVERLAPD__FROM_DAEMON__WHAT_NOTICE;
        message.notice = &notice;
        control_send(control, peer, &message, -1);
        peer_publish_replies(peer);
        peer_die(peer, text);
}

void control_kick(struct control *control, struct peer *peer, int status, unsigned reason, const char *text) {
        if (!peer->session) {
                control_end_peer(control, peer, status, reason, text);
                return;
        }
        list_for_each(link, &peer->session->peers) {
                struct peer *other = list_entry(link, struct peer, in_session);

                if (!other->is_dead)
                        control_end_peer(control, other, status, reason, text);
        }
}

static bool list_has_id(const struct list *calls, const struct peer *peer, uint32_t id) {
        list_for_each(link, calls) {
                struct call *call = list_entry(link, struct call, link);

                if (call->peer == peer && call->id == id)
                        return true;
        }
        return false;
}

void control_forget_peer(struct control *control, struct peer *peer) {
        list_for_each(link, &control->asked) {
                struct call *call = list_entry(link, struct call, link);

                if (call->peer == peer)
                        call->peer = NULL;
        }
        list_for_each(link, &control->waiting) {
                struct call *call = list_entry(link, struct call, link);

                if (call->peer == peer)
                        call->peer = NULL;
        }
}

/* --- Serving ---------------------------------------------------------------------------------------------------- */

/* A request that is not served takes its descriptors with it: the next one must not find them. */
static void control_drop_fds(struct serve *serve) {
        for (unsigned i = 0; i < serve->header->n_fds; i++)
                peer_drop_fd(serve->peer, peer_claim_fd(serve->peer));
}

static void serve_request(struct serve *serve) {
        static const struct {
                void (*function)(struct serve *serve);
                uint8_t n_fds;
        } requests[] = {
                [OVERLAPD__REQUEST__WHAT_HELLO] = { serve_hello, 0 },
                [OVERLAPD__REQUEST__WHAT_ATTACH] = { serve_attach, 0 },
                [OVERLAPD__REQUEST__WHAT_REGION_ADD] = { serve_region_add, 1 },
                [OVERLAPD__REQUEST__WHAT_REGION_REMOVE] = { serve_region_remove, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_OPEN] = { serve_socket_open, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_BIND] = { serve_socket_bind, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN] = { serve_socket_listen, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_NAME] = { serve_socket_name, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_SET] = { serve_socket_option_set, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_GET] = { serve_socket_option_get, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_SHUTDOWN] = { serve_socket_shutdown, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_CLOSE] = { serve_socket_close, 0 },
                [OVERLAPD__REQUEST__WHAT_PORT_ASSOCIATE] = { serve_port_associate, 0 },
                [OVERLAPD__REQUEST__WHAT_CANCEL] = { serve_cancel, 0 },
                [OVERLAPD__REQUEST__WHAT_STATUS] = { serve_status, 0 },
                [OVERLAPD__REQUEST__WHAT_DENIED] = { serve_denied, 0 },
                [OVERLAPD__REQUEST__WHAT_LANE_ADD] = { serve_lane_add, 1 },
                [OVERLAPD__REQUEST__WHAT_FILE_ADD] = { serve_file_add, 1 },
                [OVERLAPD__REQUEST__WHAT_FILE_REMOVE] = { serve_file_remove, 0 },
                [OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_OPEN] = { serve_thread_handle_open, 0 },
                [OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_GIVE] = { serve_thread_handle_give, 0 },
                [OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_CLOSE] = { serve_thread_handle_close, 0 },
                [OVERLAPD__REQUEST__WHAT_FUNCTION_REGISTER] = { serve_function_register, 0 },
                [OVERLAPD__REQUEST__WHAT_APC_QUEUE] = { serve_apc_queue, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_ADOPT] = { serve_socket_adopt, 1 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_EXPORT] = { serve_socket_export, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_SHARE] = { serve_socket_share, 0 },
                [OVERLAPD__REQUEST__WHAT_SOCKET_JOIN] = { serve_socket_join, 0 },
        };
        unsigned what = serve->request->what_case;
        bool is_first = what == OVERLAPD__REQUEST__WHAT_HELLO || what == OVERLAPD__REQUEST__WHAT_ATTACH;

        if (!serve->session && !is_first) {
                control_kick(serve->control, serve->peer, -EPROTO, OVL_REASON_OUT_OF_ORDER,
                             "the first message of a connection must be a hello or an attach");
                return;
        }
        if (what >= sizeof(requests) / sizeof(requests[0]) || !requests[what].function) {
                control_drop_fds(serve);
                serve_refuse(serve, -EOPNOTSUPP, OVL_REASON_UNKNOWN_OP,
                             "overlapd %s does not know this request: compare the protocol versions", OVERLAPD_VERSION);
                return;
        }
        if (serve->header->n_fds != requests[what].n_fds) {
                control_kick(serve->control, serve->peer, -EPROTO, OVL_REASON_BAD_FRAME,
                             "a request came with another number of descriptors than it takes");
                return;
        }
        if (serve->session && (list_has_id(&serve->control->asked, serve->peer, serve->request->id) ||
                               list_has_id(&serve->control->waiting, serve->peer, serve->request->id))) {
                control_drop_fds(serve);
                serve_refuse(serve, -EINVAL, OVL_REASON_DUPLICATE,
                             "the request id %u is in use: a request with it has not been answered",
                             serve->request->id);
                return;
        }
        requests[what].function(serve);
}

/* A malformed message: refused twice, the third within ten seconds ends the session. */
static void control_strike(struct control *control, struct peer *peer, const char *problem) {
        uint64_t now = now_ns();

        if (peer->n_strikes == 0 || now - peer->strikes_since > CONTROL_STRIKES_WINDOW) {
                peer->n_strikes = 0;
                peer->strikes_since = now;
        }
        if (++peer->n_strikes >= CONTROL_STRIKES_MAX || !peer->session)
                control_kick(control, peer, -EPROTO, OVL_REASON_BAD_FRAME, problem);
        else
                control_reply(control, peer, 0, -EPROTO, OVL_REASON_BAD_FRAME, "a malformed message: %s", problem);
}

void control_serve(struct control *control, struct peer *peer, const struct ovl_frame_header *header,
                   const uint8_t *body) {
        ProtobufCMessage *message = NULL;
        const char *problem = NULL;
        struct serve serve = { .control = control, .peer = peer, .session = peer->session, .header = header };
        int r;

        if (header->body_len == 0)
                r = -EPROTO;
        else
                r = message_unpack(&control->arena, &overlapd__request__descriptor, body, header->body_len, &message,
                                   &problem);
        if (r < 0) {
                control_drop_fds(&serve);
                control_strike(control, peer, problem ? problem : "it is empty");
                return;
        }
        serve.request = (const Overlapd__Request *) message;
        serve_request(&serve);
}

/* --- Ends of calls ---------------------------------------------------------------------------------------------- */

static void control_finish_open(struct control *control, struct call *call, int *fd) {
        Overlapd__SocketOpenReply open_reply = OVERLAPD__SOCKET_OPEN_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        struct handle *handle;
        int r;

        if (call->session->is_ending)
                return;
        r = handle_open(call->session, fd, call->message.body.socket.family, call->message.body.socket.type,
                        SOCKET_OPEN, &call->charge, &handle);
        if (r < 0) {
                control_reply(control, call->peer, call->id, r, OVL_REASON_QUOTA,
                              "overlapd has as many sockets as it can hold: raise LimitNOFILE");
                return;
        }
        handle->socket->is_non_overlapped = call->is_non_overlapped;
        refusals_start(handle->socket);
        items_start(handle->socket);
        open_reply.socket = handle->number;
        reply.id = call->id;
        reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_OPEN;
        reply.socket_open = &open_reply;
        control_send_reply(control, call->peer, &reply);
}

static void control_finish_listen(struct call *call) {
        struct socket *socket = call->handle->socket;

        socket->state = SOCKET_LISTENING;
        if (!socket->listener.quota)
                socket->listener = charge_move(&call->charge);
}

void control_answer(struct control *control, struct ticket *ticket, const struct link_message *answer, int take_fd) {
        struct call *call = list_entry(ticket, struct call, ticket);
        _cleanup_fd_ int fd = take_fd;

        if (call->kind == CALL_OPEN && answer->status == 0 && fd >= 0) {
                control_finish_open(control, call, &fd);
        } else if (call->kind == CALL_OPEN && answer->status == 0) {
                control_reply(control, call->peer, call->id, -EMFILE, OVL_REASON_QUOTA, SERVE_FILES_TEXT);
        } else {
                /* An accept may have brought the handle a connection meanwhile. */
                if (call->kind == CALL_LISTEN && answer->status == 0 && call->handle->socket->state != SOCKET_CONNECTED)
                        control_finish_listen(call);
                if (call->kind == CALL_BIND && answer->status == 0)
                        call->handle->socket->has_name = true;
                control_reply(control, call->peer, call->id, answer->status, answer->reason, "%s", answer->text);
        }
        call_free(call);
}

static void control_reply_cancel(struct control *control, struct call *call) {
        Overlapd__CancelReply cancel_reply = OVERLAPD__CANCEL_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;

        cancel_reply.cancelled = call->n_cancelled;
        reply.id = call->id;
        reply.what_case = OVERLAPD__REPLY__WHAT_CANCEL;
        reply.cancel = &cancel_reply;
        control_send_reply(control, call->peer, &reply);
}

/* Replies if what the call waits for has come about; returns whether it has. */
static bool call_settle(struct control *control, struct call *call) {
        switch (call->kind) {
        case CALL_REGION_REMOVE:
                if (call->region->n_loans > 0)
                        return false;
                region_deinit(call->region);
                control_reply(control, call->peer, call->id, 0, 0, "%s", "");
                return true;
        case CALL_CLOSE:
                /* While others hold the socket nothing has to end for it. */
                if (call->handle->n_ops > 0 && call->handle->socket->n_open == 0)
                        return false;
                control_reply(control, call->peer, call->id, 0, 0, "%s", "");
                return true;
        case CALL_EXPORT:
                return call_settle_export(control, call);
        case CALL_FILE_ADD:
                return call_settle_file_add(control, call);
        case CALL_FILE_REMOVE:
                return call_settle_file_remove(control, call);
        default:
                if (call->handle ? handle_has_match(call->handle, &call->match)
                                 : session_has_match(call->session, &call->match))
                        return false;
                control_reply_cancel(control, call);
                return true;
        }
}

void control_settle(struct control *control) {
        list_for_each_safe(link, &control->waiting) {
                struct call *call = list_entry(link, struct call, link);

                if (call_settle(control, call))
                        call_free(call);
        }
}
