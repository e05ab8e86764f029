/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_SERVE_H
#define DAEMON_WORKER_SERVE_H

/*
 * Serving one control message: what the serving functions have in common. Part of the module control, and of nobody
 * else.
 */

#include <stdint.h>

#include "daemon/worker/control.h"
#include "daemon/worker/session.h"
#include "proto/overlapd.pb-c.h"

enum call_kind {
        CALL_OPEN,
        CALL_BIND,
        CALL_LISTEN,
        CALL_REGION_REMOVE,
        CALL_CLOSE,
        CALL_CANCEL,
        CALL_EXPORT,
        CALL_FILE_ADD,
        CALL_FILE_REMOVE,
};

enum match_kind {
        MATCH_ALL,
        MATCH_TAG,
        MATCH_THREAD,
};

/* The ops that a cancel is for: those that were there when it came. */
struct match {
        enum match_kind kind;
        uint64_t value;
        uint64_t serial;
};

struct call {
        struct list link;
        enum call_kind kind;
        struct peer *peer; /* borrowed; NULL: nobody waits for the reply */
        struct session *session;
        uint32_t id;
        struct ticket ticket;
        struct link_message message;
        struct handle *handle; /* borrowed, pinned; NULL: it is not about a socket */
        struct region *region; /* borrowed */
        uint32_t file;         /* its number */
        struct charge charge;
        struct match match;
        uint32_t n_cancelled;
        bool is_non_overlapped; /* of an open: what the socket is to be */
};

/* What a serving function works on. */
struct serve {
        struct control *control;
        struct peer *peer;
        struct session *session;
        const struct ovl_frame_header *header;
        const Overlapd__Request *request;
};

/* --- Replies ---------------------------------------------------------------------------------------------------- */

/* Queues a message for a peer. Kicks the peer when there is no memory for it. fd: taken; -1: none. */
void control_send(struct control *control, struct peer *peer, Overlapd__FromDaemon *message, int take_fd);

/* peer: NULL if nobody is left to read the reply. */
void control_send_reply(struct control *control, struct peer *peer, Overlapd__Reply *reply);

/* The same with a descriptor, which the client gets with the reply. peer: not NULL. fd: taken. */
void control_send_reply_fd(struct control *control, struct peer *peer, Overlapd__Reply *reply, int take_fd);

/* The reply that says nothing but how it went. */
__attribute__((format(printf, 6, 7))) void control_reply(struct control *control, struct peer *peer, uint32_t id,
                                                         int status, unsigned reason, const char *format, ...);

#define serve_refuse(serve, status, reason, ...)                                                                       \
        control_reply((serve)->control, (serve)->peer, (serve)->request->id, status, reason, __VA_ARGS__)

/* The handle with this number; NULL when there is none, which the client has then been told. */
struct handle *serve_handle(struct serve *serve, uint64_t number);

/* A session with this number that may be given something; NULL when there is none, which the client has been told. */
struct session *serve_partner(struct serve *serve, uint64_t number);

/* Refuses what a quota has no room for, and says which. */
void serve_refuse_quota(struct serve *serve, const struct quota_refusal *refusal);

void serve_ok(struct serve *serve);
void serve_send(struct serve *serve, Overlapd__Reply *reply);

/* --- Calls ------------------------------------------------------------------------------------------------------ */

/*
 * A call of this request.
 *
 * handle: that it is about, and that stays until it is answered. NULL: none.
 *
 * Returns NULL when there is no memory, which the client has then been told.
 */
struct call *call_new(struct serve *serve, enum call_kind kind, struct handle *handle);
struct call *call_free(struct call *call);

/* Asks the monitor. call: taken. fd: borrowed; -1: none. */
void call_ask(struct serve *serve, struct call *call, enum link_kind kind, int fd);

/* What a client is told when this process may have no more descriptors. */
#define SERVE_FILES_TEXT "overlapd has as many descriptors as it may have: close sockets, or raise LimitNOFILE"

/* Waits for the end of ops. call: taken. */
void call_wait(struct serve *serve, struct call *call);

/* Whether an op that was posted through the handle, and is pending, is one of those that a cancel is for. */
bool handle_has_match(const struct handle *handle, const struct match *match);
bool session_has_match(const struct session *session, const struct match *match);

/* --- One function for each message ------------------------------------------------------------------------------ */

void serve_hello(struct serve *serve);
void serve_attach(struct serve *serve);
void serve_region_add(struct serve *serve);
void serve_region_remove(struct serve *serve);
void serve_lane_add(struct serve *serve);
void serve_file_add(struct serve *serve);
void serve_file_remove(struct serve *serve);
void serve_status(struct serve *serve);
void serve_denied(struct serve *serve);

void serve_thread_handle_open(struct serve *serve);
void serve_thread_handle_give(struct serve *serve);
void serve_thread_handle_close(struct serve *serve);
void serve_function_register(struct serve *serve);
void serve_apc_queue(struct serve *serve);

void serve_socket_open(struct serve *serve);
void serve_socket_bind(struct serve *serve);
void serve_socket_listen(struct serve *serve);
void serve_socket_name(struct serve *serve);
void serve_socket_option_set(struct serve *serve);
void serve_socket_option_get(struct serve *serve);
void serve_socket_shutdown(struct serve *serve);
void serve_socket_close(struct serve *serve);
void serve_port_associate(struct serve *serve);
void serve_cancel(struct serve *serve);

void serve_socket_share(struct serve *serve);
void serve_socket_join(struct serve *serve);
void serve_socket_adopt(struct serve *serve);
void serve_socket_export(struct serve *serve);

/* Replies with the descriptor of a socket that is exported, once it is drained. Returns whether it is. */
bool call_settle_export(struct control *control, struct call *call);

/* Replies when it is known what the file is, or when nobody waits any more. Returns whether it did. */
bool call_settle_file_add(struct control *control, struct call *call);

/* Replies when no op uses the file. Returns whether it did. */
bool call_settle_file_remove(struct control *control, struct call *call);

#endif
