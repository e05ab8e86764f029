/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_SESSION_H
#define DAEMON_WORKER_SESSION_H

/* A session: one client process, all that it owns, and the way of its ops to records. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slots.h"
#include "daemon/worker/apc.h"
#include "daemon/worker/file.h"
#include "daemon/worker/handle.h"
#include "daemon/worker/op.h"
#include "daemon/worker/payload.h"
#include "daemon/worker/peer.h"
#include "daemon/worker/port.h"
#include "daemon/worker/quota.h"
#include "daemon/worker/region.h"
#include "daemon/worker/resources.h"
#include "daemon/worker/socket.h"
#include "daemon/worker/thread.h"

#define SESSION_SECRET_SIZE 16
#define SESSION_REGIONS_MAX 64u /* one bit each in op->regions */
#define SESSION_REGION_BYTES_MAX (UINT64_C(256) << 20)
#define SESSION_FILES_MAX 64u
#define SESSION_SOCKETS_MAX 4096u
#define SESSION_PEERS_MAX 1024u
#define SESSION_CREDITS_MAX 16384u
#define SESSION_CREDITS_DEFAULT 4096u
#define SESSION_PIECES 1024u  /* of OVL_INLINE_PIECE bytes, for the payload of inline ops */
#define SESSION_SPARE_OPS 64u /* for the records of entries that are refused beyond the credits */
#define SESSION_APCS_MAX 256u /* APCs whose records wait to be sent: they have as many ops of their own */

struct session {
        struct list link;            /* among all sessions of the worker */
        struct list touched;         /* among those that may have become empty */
        struct list starved;         /* among those that wait for a quota to have room */
        struct resources *resources; /* borrowed */
        struct link_peer identity;   /* of its first connection */
        char denied[LINK_TEXT_SIZE]; /* why the policy refused an operation last; empty: it refused none */
        struct rules_entry *rules;   /* likewise: what the policy says of it. A reference, or NULL */
        struct quota quota;
        struct quota_unit *unit; /* that pays with it. A reference */
        struct charge place;     /* of a session */
        struct bucket requests;
        uint64_t number;
        uint8_t secret[SESSION_SECRET_SIZE];
        uint32_t level; /* 0 inline, 1 shared, 2 ring */
        struct list peers;
        struct peer *first; /* borrowed: takes the records of threads and ports that are gone; NULL: it is gone, too */
        struct list threads;
        struct list ports;
        size_t n_peers;
        struct region regions[SESSION_REGIONS_MAX]; /* number n is at n - 1 */
        struct file *files[SESSION_FILES_MAX];      /* number n is at n - 1 */
        struct slots socket_numbers;
        struct list handles;     /* that are open */
        struct list closing;     /* handles whose number is gone, and of which ops have not ended */
        struct list resolving;   /* ops that have no socket */
        struct list invitations; /* to sockets of this session */
        uint32_t n_invitations;
        struct apc_party apcs;

        struct op *ops; /* a mapping: credits, spare, and APCs */
        uint8_t *scratch;
        uint32_t n_ops_max; /* for entries */
        uint32_t n_credits;
        uint32_t n_ops_high; /* ops below this were used at least once */
        uint32_t n_ops;      /* that are not free */
        uint32_t n_started;  /* of these, that hold a credit */
        uint32_t n_apcs;     /* of these, that are APCs */
        struct list free_ops;
        struct payload_pool payloads;
        uint32_t n_calls; /* requests of the client that are under way */
        uint64_t sequence;
        struct link_totals totals;
        bool is_held;   /* an entry found no free op */
        bool is_ending; /* the client is gone; waits for the kernel */
};

/*
 * Makes a session.
 *
 * level:   that was granted.
 * credits: that the client wishes; 0: the default.
 * unit:    that pays for it.
 *
 * Returns 0; -EDQUOT and why; or -ENOMEM.
 */
int session_new(struct resources *resources, const struct link_peer *identity, struct quota_unit *unit, uint32_t level,
                uint32_t credits, struct session **ret_session, struct quota_refusal *ret_refusal);

/* All is over: no op is in flight, no peer and no socket is left. Returns NULL. */
struct session *session_free(struct session *session);

/* Compares secrets of SESSION_SECRET_SIZE bytes in constant time: what differs must not show in how long it took. */
bool session_secret_is_equal(const uint8_t *secret, const uint8_t *presented);

/* Makes a connection the channel of a new thread or port. Returns 0, -EEXIST when the number is in use, -ENOMEM. */
int session_add_thread(struct session *session, struct peer *peer, uint64_t number, uint32_t tid);
int session_add_port(struct session *session, struct peer *peer, uint64_t number);
struct thread *session_find_thread(const struct session *session, uint64_t number);
struct port *session_find_port(const struct session *session, uint64_t number);

/*
 * A connection is gone: what its thread posted ends, and records that nobody read go to the first connection. With the
 * last connection the session begins to end.
 */
void session_remove_peer(struct session *session, struct peer *peer);

/* A free op, which holds no credit yet; NULL when there is none for an entry. */
struct op *session_take_op(struct session *session);

/* Whether there is one. */
static inline bool session_has_op(const struct session *session) {
        return session->n_ops - session->n_apcs < session->n_ops_max;
}

/*
 * Whether one more op may be in flight, as far as others of the same user are concerned: the session's own credits are
 * another matter. If not, the session is among those that wait, and the user is told of.
 */
bool session_may_start(struct session *session);

/* Ops and sockets were given back, or limits changed: what waited for that goes on. */
void session_feed(struct resources *resources);

/* Queues an APC behind the records of a thread. Returns 0, or -ENOBUFS when too many wait for the session. */
int session_queue_apc(struct session *session, struct thread *thread, uint64_t function, uint64_t argument);

/* Something is to be sent to a connection of the session, at the end of the turn. */
void session_mark_publish(struct session *session, struct peer *peer);

/* These ops, of any sessions, have ended: their records go to where they belong. Leaves the list empty. */
void session_indicate_all(struct list *ended);

/* The request of an op ended: finishes it and those that it served, and starts what queued behind them. */
void session_finish(struct op *op, int32_t result, unsigned reason);

/* Pieces of files were read: what waited for them goes on, and others have their turn. */
void session_serve_files(struct resources *resources);

/* The monitor answered an ioctl. fd: memory with a list, or -1. Borrowed. */
void session_answer(struct op *op, const struct link_message *answer, int fd);

/* An op is armed, or will never be: verdicts that waited for that are given. */
void session_arm(struct op *op);

/* Entries of a connection are to be settled, at the end of this turn and of the next. */
void session_settle(struct session *session, struct peer *peer);

/* Gives back an op whose record was sent. */
void session_recycle(struct op *op);

/* As socket_cancel(), of all ops of the session. */
void session_cancel(struct session *session, bool (*matches)(const struct op *op, const void *argument),
                    const void *argument, unsigned reason, uint32_t *cancelled);

/* As socket_retry(). */
void session_retry(struct resources *resources, struct socket *socket, uint64_t now);

/* Something of the session may be over: it is looked at at the end of the turn. */
void session_touch(struct session *session);

/* Buries what is over; returns whether the session itself is. */
bool session_bury(struct session *session);

#endif
