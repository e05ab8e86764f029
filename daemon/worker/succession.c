/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An accept and a disconnect that renews its socket have a step that ends with a descriptor. The op leaves the queue in
 * which it stood, because what comes next is not done there:
 *
 *   accepted -> ended       it was not to wait for data: the client gets the connection with the record
 *   accepted -> receiving   it has room for the first data: it stands in the queue of the new socket, and not in that
 * of the listener, which goes on with the next accept receiving -> ended      data, the end of the stream, an error, or
 * a cancel renewed -> ended        all handles have the new socket
 *
 * Until an accept has succeeded its connection belongs to a hidden handle, and a socket that was prepared for it is as
 * it was. So whatever ends the accept meanwhile needs no way back: the connection goes with the hidden handle, and the
 * prepared socket can be used for the next accept.
 *
 * A kernel socket is never used for a second connection: the new one takes its place, the handles go over to it with
 * their numbers and ports, and what is left of the old one is its own affair until the kernel is done with it.
 *
 * Rejected: giving the prepared socket the connection at once. It would be seen by others, might be used, and would
 * have to be taken away again when the accept is cancelled. And a kernel socket that is disconnected and used again
 * (connect(2) to AF_UNSPEC): what it sent and did not send yet would be thrown away.
 */

#include "daemon/worker/succession.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "daemon/worker/acks.h"
#include "daemon/worker/datagram.h"
#include "daemon/worker/session.h"
#include "proto/address.h"

void succession_ask(struct op *op) {
        struct link_message *question = op_question(op);

        *question = (struct link_message){ .kind = LINK_SOCKET };
        question->body.socket.session = op->session->number;
        question->body.socket.family = op->socket->family;
        question->body.socket.type = op->socket->type;
}

static int succession_open(struct op *op, enum socket_state state, struct handle **ret_handle) {
        const struct socket *socket = op->socket;
        int r = -EMFILE;

        if (op->fd >= 0)
                r = handle_open_hidden(op->session, &op->fd, socket->family, socket->type, state, ret_handle);
        if (r < 0)
                op_end(op, r, OVL_REASON_QUOTA, op->done);
        return r;
}

/* Whether somebody can still have the connection: the socket that was prepared for it is open, here or elsewhere. */
static bool op_has_taker(const struct op *op) {
        return !op->prepared || op->prepared->socket->n_open > 0;
}

/* Returns whether the op goes on. */
static bool succession_accept(struct op *op, struct list *ended) {
        const struct socket *listener = op->socket;
        unsigned left = op->steps & ~(unsigned) STEP_ACCEPT;

        if (op->session->is_ending || !op_has_taker(op) || (left != 0 && op->cancel != 0)) {
                op_end(op, -ECANCELED, op->cancel ? op->cancel : OVL_REASON_SESSION_ENDED, 0);
                return false;
        }
        op->name_len = op->request.message.msg_namelen;
        op->request.message = (struct msghdr){ 0 };
        if (succession_open(op, SOCKET_CONNECTED, &op->into) < 0)
                return false;
        op->into->n_ops++;
        /* It lingers as its listener does, whose option is not ours. */
        op->into->socket->is_foreign = listener->is_foreign;
        op->into->socket->is_non_overlapped = listener->is_non_overlapped;
        op->into->socket->is_unbuffered = listener->is_unbuffered;
        acks_set(op->into->socket, listener->awaits_acks);
        if (left == 0) {
                op_end(op, 0, OVL_REASON_NONE, 0);
                return false;
        }
        op->steps = (uint8_t) left;
        list_push_back(&op->handle->strays, &op->stray);
        socket_post(op->into->socket, op, ended);
        return true;
}

static void succession_renew(struct op *op, struct list *ended) {
        struct handle *hidden;

        if (op->session->is_ending || op->cancel != 0) {
                op_end(op, -ECANCELED, op->cancel ? op->cancel : OVL_REASON_SESSION_ENDED, op->done);
                return;
        }
        if (succession_open(op, SOCKET_OPEN, &hidden) < 0)
                return;
        handle_replace(op->socket, hidden, ended);
        op_end(op, 0, OVL_REASON_NONE, op->done);
}

void succession_begin(struct op *op, struct list *ended) {
        if (op_step(op) == STEP_RENEW)
                succession_renew(op, ended);
        else if (succession_accept(op, ended))
                return;
        list_push_back(ended, &op->link);
}

/* A Unix socket may have no name: that is an address of family 0. */
static struct ovl_address succession_name(const struct sockaddr_storage *kernel, socklen_t len) {
        struct ovl_address name;

        if (len == 0 || address_from_kernel((const struct sockaddr *) kernel, len, &name) < 0 ||
            (name.family == OVL_FAMILY_UNIX && name.path_len == 0))
                return (struct ovl_address){ 0 };
        return name;
}

/* The addresses of the two ends. */
static void succession_tell_names(struct op *op) {
        struct sockaddr_storage local = { 0 };
        socklen_t len = sizeof(local);
        struct ovl_address names[2];

        if (getsockname(op->into->socket->file.fd, (struct sockaddr *) &local, &len) < 0)
                len = 0;
        names[0] = succession_name(&local, len);
        names[1] = succession_name(datagram_name(op), op->name_len);
        if (op->aux) {
                memcpy(op->aux, names, sizeof(names));
        } else {
                payload_put(&op->payload, op->bytes, names, sizeof(names));
                op->aux_len = sizeof(names);
        }
}

/* The client has the connection. Returns the number by which it knows it. */
static uint64_t succession_hand_over(struct op *op, struct charge *charge, struct list *ended) {
        if (op->wants_sender)
                succession_tell_names(op);
        if (op->prepared) {
                handle_replace(op->prepared->socket, op->into, ended);
                return op->prepared->number;
        }
        handle_reveal(op->into, charge);
        return op->into->number;
}

/* What was pinned for the op is not needed any more. */
static void succession_unpin(struct handle *handle) {
        if (handle && --handle->n_ops == 0 && handle->number == 0)
                session_touch(handle->session);
}

void succession_end(struct op *op, struct list *ended) {
        struct charge charge = { 0 };
        bool is_wanted;

        if (op->holds_socket_charge)
                charge = (struct charge){ .quota = &op->session->quota, .slot = LIMIT_SOCKETS, .amount = 1 };
        op->holds_socket_charge = false;
        /* It may linger as its listener does. */
        reaper_close(op->session->resources->reaper, op->fd, op->session->identity.uid);
        op->fd = -1;
        if (op->prepared)
                op->prepared->socket->accept = NULL;
        is_wanted = op->status == 0 && op->into && !op->session->is_ending && op_has_taker(op);
        op->value = is_wanted ? succession_hand_over(op, &charge, ended) : 0;
        charge_release(&charge);
        succession_unpin(op->into);
        succession_unpin(op->prepared);
        op->into = op->prepared = NULL;
}
