/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What belongs to a session stands in its handle: the number by which the client knows the socket, the port, the
 * charge. What belongs to the kernel's socket stands in `struct socket`: its state and its queues. The ops of all
 * handles stand in the same queues, in the order in which their entries were taken; each belongs to the session that
 * posted it, and may share a request with its neighbours whosever they are.
 *
 *   open -> closing   the client closes or exports it, or its session ends. While another handle of the socket is open,
 *                     what was posted through this one goes on; with the last one all ops of the socket are cancelled,
 *                     whichever handle they were posted through (sends that are exported under leave first)
 *   closing -> over   the last of its ops has ended, and no request about it is under way
 *
 * A socket has at least one handle. Once all are closing it is on its way out, and it goes with the last of them, when
 * nothing is in flight.
 *
 * A handle that is closing keeps what its ops need: the charge, the port with its key, the session. So an op that goes
 * on is indicated as if the handle was open, and paid for by who posted it, who can still cancel it as one of the
 * session's. The end of a session cancels all ops of the session first: a client that died leaves nothing behind.
 *
 *   hidden -> open      an accept has ended, and its client learns the number
 *   hidden -> over      ... has failed; or it keeps a socket that was replaced until that is idle
 *
 * The client knows no number of a hidden handle, which stands among those that are closing. What needs a kernel socket
 * for a while therefore needs nothing of its own to give it back.
 *
 * Where another socket takes the place of one, ops that are pending on the old one are strays of their handles: they
 * are found, cancelled and waited for like those in the queues of the handle's socket.
 *
 * Rejected: cancelling what was posted through a handle that is closed. Who hands a connection over and closes its own
 * end would cut off its last sends.
 */

#include "daemon/worker/handle.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "daemon/worker/invitation.h"
#include "daemon/worker/items.h"
#include "daemon/worker/refusals.h"
#include "daemon/worker/session.h"
#include "daemon/worker/unbuffered.h"
#include "proto/channel.h"

/* The ops of one handle, and of these perhaps a part. */
struct handle_match {
        const struct handle *handle;
        bool (*matches)(const struct op *op, const void *argument);
        const void *argument;
};

static int handle_new_socket(struct resources *resources, int *take_fd, int family, int type, enum socket_state state,
                             struct socket **ret_socket) {
        struct socket *socket = resources_take_socket(resources);
        int r;

        if (!socket)
                return -ENFILE;
        /*
         * What is sent along with bytes must not get here: closing it takes as long as its sender likes. A connection
         * that is accepted later has this from its listener. Kernels before 6.16 do not know it.
         */
        if (family == AF_UNIX)
                channel_allow_fds(*take_fd, 0);
        r = socket_init(socket, resources->engine, &resources->ask, take_fd, family, type, state);
        if (r < 0) {
                list_init(&socket->link);
                resources_give_socket(resources, socket);
                return r;
        }
        resources->stats.n_sockets++;
        *ret_socket = socket;
        return 0;
}

static void handle_hold(struct handle *handle, struct socket *socket) {
        handle->socket = socket;
        list_push_back(&socket->handles, &handle->in_socket);
        socket->n_handles++;
        if (handle->number != 0)
                socket->n_open++;
}

/* Returns the socket. */
static struct socket *handle_let_go(struct handle *handle) {
        struct socket *socket = handle->socket;

        list_unlink(&handle->in_socket);
        socket->n_handles--;
        if (handle->number != 0)
                socket->n_open--;
        return socket;
}

static void handle_init(struct handle *handle, struct session *session, struct socket *socket) {
        *handle = (struct handle){ .session = session };
        list_init(&handle->link);
        list_init(&handle->in_socket);
        list_init(&handle->strays);
        list_push_back(&session->closing, &handle->link);
        handle_hold(handle, socket);
}

/* Never fails: there are as many numbers as charges, and one was taken. */
void handle_reveal(struct handle *handle, struct charge *charge) {
        struct session *session = handle->session;

        handle->charge = charge_move(charge);
        if (slots_add(&session->socket_numbers, handle, &handle->number) < 0)
                abort();
        list_unlink(&handle->link);
        list_push_back(&session->handles, &handle->link);
        handle->socket->n_open++;
        session->totals.n_sockets++;
}

int handle_open_hidden(struct session *session, int *take_fd, int family, int type, enum socket_state state,
                       struct handle **ret_handle) {
        struct handle *handle = resources_take_handle(session->resources);
        struct socket *socket;
        int r;

        if (!handle)
                return -ENFILE;
        r = handle_new_socket(session->resources, take_fd, family, type, state, &socket);
        if (r < 0) {
                list_init(&handle->link);
                resources_give_handle(session->resources, handle);
                return r;
        }
        handle_init(handle, session, socket);
        *ret_handle = handle;
        return 0;
}

int handle_open(struct session *session, int *take_fd, int family, int type, enum socket_state state,
                struct charge *charge, struct handle **ret_handle) {
        int r = handle_open_hidden(session, take_fd, family, type, state, ret_handle);

        if (r == 0)
                handle_reveal(*ret_handle, charge);
        return r;
}

int handle_join(struct session *session, struct socket *socket, struct charge *charge, struct handle **ret_handle) {
        struct handle *handle = resources_take_handle(session->resources);

        if (!handle)
                return -ENFILE;
        handle_init(handle, session, socket);
        handle_reveal(handle, charge);
        *ret_handle = handle;
        return 0;
}

struct handle *handle_find(const struct session *session, uint64_t number) {
        return slots_find(&session->socket_numbers, number);
}

static bool op_is_posted_through(const struct op *op, const void *argument) {
        const struct handle_match *match = argument;

        return op->handle == match->handle && (!match->matches || match->matches(op, match->argument));
}

/* An op that stands elsewhere, and that nobody has cancelled. */
static struct op *handle_find_stray(const struct handle_match *match) {
        list_for_each(link, &match->handle->strays) {
                struct op *op = list_entry(link, struct op, stray);

                if (op->cancel == 0 && op->state != OP_ENDED && op_is_posted_through(op, match))
                        return op;
        }
        return NULL;
}

static void handle_cancel_strays(const struct handle_match *match, unsigned reason, uint32_t *cancelled,
                                 struct list *ended) {
        struct op *stray;

        while ((stray = handle_find_stray(match)))
                socket_cancel(stray->socket, op_is_posted_through, match, reason, cancelled, ended);
}

static void handle_cancel_into(struct handle *handle, bool (*matches)(const struct op *op, const void *argument),
                               const void *argument, unsigned reason, uint32_t *cancelled, struct list *ended) {
        struct handle_match match = { .handle = handle, .matches = matches, .argument = argument };

        socket_cancel(handle->socket, op_is_posted_through, &match, reason, cancelled, ended);
        handle_cancel_strays(&match, reason, cancelled, ended);
}

void handle_cancel(struct handle *handle, bool (*matches)(const struct op *op, const void *argument),
                   const void *argument, unsigned reason, uint32_t *cancelled) {
        struct list ended;

        list_init(&ended);
        handle_cancel_into(handle, matches, argument, reason, cancelled, &ended);
        session_indicate_all(&ended);
}

static bool op_is_before(const struct op *op, const void *argument) {
        const struct op *flush = argument;

        return op->serial < flush->serial;
}

void handle_flush(struct handle *handle, const struct op *flush, struct list *ended) {
        handle_cancel_into(handle, op_is_before, flush, OVL_REASON_CANCELLED, NULL, ended);
}

static void handles_leave_op(struct op *op) {
        if (!list_is_linked(&op->stray))
                list_push_back(&op->handle->strays, &op->stray);
}

void handle_replace(struct socket *old, struct handle *hidden, struct list *ended) {
        struct socket *next = handle_let_go(hidden);
        struct list *link;

        for (size_t i = 0; i < SOCKET_QUEUES; i++)
                list_for_each(queued, &old->queues[i].ops)
                        handles_leave_op(list_entry(queued, struct op, link));
        list_for_each(polling, &old->polls)
                handles_leave_op(list_entry(polling, struct op, link));
        list_for_each(asking, &old->ioctls)
                handles_leave_op(list_entry(asking, struct op, link));
        while ((link = list_first(&old->handles))) {
                struct handle *handle = list_entry(link, struct handle, in_socket);

                handle_let_go(handle);
                handle_hold(handle, next);
        }
        next->is_closing = next->n_open == 0;
        next->is_non_overlapped = old->is_non_overlapped;
        handle_hold(hidden, old);
        old->is_closing = true;
        session_touch(hidden->session);
        socket_cancel(old, NULL, NULL, OVL_REASON_REPLACED, NULL, ended);
}

static void handle_invalidate(struct handle *handle) {
        struct session *session = handle->session;

        invitation_revoke(handle);
        slots_remove(&session->socket_numbers, handle->number);
        handle->number = 0;
        handle->socket->n_open--;
        list_unlink(&handle->link);
        list_push_back(&session->closing, &handle->link);
        session_touch(session);
}

static bool op_is(const struct op *op, const void *argument) {
        return op == argument;
}

/* Everything ends that the last open handle kept going, whichever session posted it. */
static void handles_cancel_all(struct socket *socket) {
        struct op *accept = socket->accept;
        struct list ended;

        list_init(&ended);
        if (accept)
                socket_cancel(accept->socket, op_is, accept, OVL_REASON_CLOSED, NULL, &ended);
        socket_cancel(socket, NULL, NULL, OVL_REASON_CLOSED, NULL, &ended);
        list_for_each(link, &socket->handles) {
                struct handle_match match = { .handle = list_entry(link, struct handle, in_socket) };

                handle_cancel_strays(&match, OVL_REASON_CLOSED, NULL, &ended);
        }
        session_indicate_all(&ended);
}

void handle_close(struct handle *handle) {
        handle_invalidate(handle);
        if (handle->socket->n_open > 0)
                return;
        handle->socket->is_closing = true;
        handles_cancel_all(handle->socket);
}

static bool op_is_no_send(const struct op *op, const void *argument) {
        return !op_sends(op);
}

void handle_drain(struct handle *handle, unsigned reason) {
        handle_invalidate(handle);
        handle_cancel(handle, op_is_no_send, NULL, reason, NULL);
}

void handle_restore_socket(struct socket *socket) {
        unbuffered_set(socket, false);
        refusals_stop(socket);
        items_stop(socket);
}

bool handle_is_over(const struct handle *handle) {
        if (handle->n_ops > 0 || handle->n_calls > 0)
                return false;
        return handle->socket->n_handles > 1 || socket_is_idle(handle->socket);
}

void handle_bury(struct handle *handle) {
        struct session *session = handle->session;
        struct resources *resources = session->resources;
        struct socket *socket;

        assert(handle_is_over(handle));
        list_unlink(&handle->link);
        charge_release(&handle->charge);
        socket = handle_let_go(handle);
        resources_give_handle(resources, handle);
        if (socket->n_handles > 0)
                return;
        list_unlink(&socket->retry);
        if (socket->is_foreign && socket->file.fd >= 0) {
                handle_restore_socket(socket);
                reaper_close(resources->reaper, socket_release(socket), session->identity.uid);
        }
        charge_release(&socket->listener);
        socket_deinit(socket);
        resources->stats.n_sockets--;
        resources_give_socket(resources, socket);
}
