/* SPDX-License-Identifier: Apache-2.0 */

/*
 * On the way up, ops that have ended are completed here (the record learns where it goes) and wait at their peer for
 * the end of the turn. The way down is in post.c, and of descriptors that become sockets in succession.c.
 *
 * Credits. A session has as many ops as credits and a few more. An entry beyond the credits takes one of the few for
 * the record that refuses it; when they are used up too, because the client does not read its records, its connections
 * are held. Nothing is ever allocated for an entry.
 *
 * Where a record goes: with a port, if the socket has one when the op ends and the entry left the indication plain;
 * else to the connection of the posting thread; if that is gone, to the first connection of the session. A client that
 * closes that one, too, has given up the records of threads that are gone, until it attaches another: that is the first
 * from then on.
 *
 *   serving -> ending   its last connection is gone, or it was kicked
 *   ending -> over      the kernel is done with every op: then memory is unmapped, and not before
 */

#include "daemon/worker/session.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/killpoint.h"
#include "base/time.h"
#include "daemon/worker/invitation.h"
#include "daemon/worker/ioctls.h"
#include "daemon/worker/lane.h"
#include "daemon/worker/plant.h"
#include "daemon/worker/succession.h"

/* --- Life ------------------------------------------------------------------------------------------------------- */

static void *session_map(size_t size) {
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        return memory == MAP_FAILED ? NULL : memory;
}

/* All ops that the session can have. */
static uint32_t session_n_places(const struct session *session) {
        return session->n_ops_max + SESSION_APCS_MAX;
}

static int session_init_ops(struct session *session, uint32_t credits) {
        uint64_t max = session->unit->credits_max;

        if (credits == 0)
                credits = SESSION_CREDITS_DEFAULT;
        if (credits > SESSION_CREDITS_MAX)
                credits = SESSION_CREDITS_MAX;
        if (credits > max)
                credits = max > 0 ? (uint32_t) max : 1;
        session->n_credits = credits;
        session->n_ops_max = credits + SESSION_SPARE_OPS;
        session->ops = session_map(session_n_places(session) * sizeof(*session->ops));
        session->scratch = session_map(session_n_places(session) * OP_SCRATCH_SIZE);
        if (!session->ops || !session->scratch)
                return -ENOMEM;
        return payload_pool_init(&session->payloads, SESSION_PIECES);
}

int session_new(struct resources *resources, const struct link_peer *identity, struct quota_unit *unit, uint32_t level,
                uint32_t credits, struct session **ret_session, struct quota_refusal *ret_refusal) {
        cleanup(charge_release) struct charge place = { 0 };
        struct session *session;
        int r;

        r = charge_take(&place, &unit->quota, LIMIT_SESSIONS, 1, ret_refusal);
        if (r < 0)
                return r;
        session = calloc(1, sizeof(*session));
        if (!session)
                return -ENOMEM;
        *session = (struct session){
                .resources = resources,
                .identity = *identity,
                .rules = rules_ref(&resources->rules, identity->ruling),
                .level = level,
                .unit = quota_unit_ref(unit),
                .place = charge_move(&place),
        };
        quota_init(&session->quota, unit);
        list_init(&session->link);
        list_init(&session->touched);
        list_init(&session->starved);
        list_init(&session->peers);
        list_init(&session->threads);
        list_init(&session->ports);
        list_init(&session->handles);
        list_init(&session->closing);
        list_init(&session->invitations);
        list_init(&session->resolving);
        list_init(&session->free_ops);
        apc_party_init(&session->apcs);
        r = session_init_ops(session, credits);
        if (r == 0)
                r = slots_init(&session->socket_numbers, SESSION_SOCKETS_MAX);
        if (r == 0 && getrandom(session->secret, sizeof(session->secret), 0) != sizeof(session->secret))
                r = -EIO;
        if (r < 0) {
                session_free(session);
                return r;
        }
        session->number = ((uint64_t) (uint32_t) getpid() << 32) | ++resources->session_number;
        list_push_back(&resources->sessions, &session->link);
        resources->stats.n_sessions++;
        *ret_session = session;
        return 0;
}

struct session *session_free(struct session *session) {
        struct list *link;

        if (!session)
                return NULL;
        if (list_is_linked(&session->link))
                session->resources->stats.n_sessions--;
        list_unlink(&session->link);
        list_unlink(&session->touched);
        list_unlink(&session->starved);
        session->rules = rules_unref(session->rules);
        apc_party_deinit(&session->apcs);
        while ((link = list_pop_front(&session->threads)))
                free(list_entry(link, struct thread, link));
        while ((link = list_pop_front(&session->ports)))
                free(list_entry(link, struct port, link));
        for (uint32_t i = 0; i < SESSION_REGIONS_MAX; i++)
                region_deinit(&session->regions[i]);
        for (uint32_t i = 0; i < SESSION_FILES_MAX; i++)
                session->files[i] = file_forget(session->files[i]);
        while (session->invitations.next && !list_is_empty(&session->invitations))
                invitation_free(list_entry(session->invitations.next, struct invitation, link));
        slots_deinit(&session->socket_numbers);
        payload_pool_deinit(&session->payloads);
        if (session->ops)
                munmap(session->ops, session_n_places(session) * sizeof(*session->ops));
        if (session->scratch)
                munmap(session->scratch, session_n_places(session) * OP_SCRATCH_SIZE);
        charge_release(&session->place);
        quota_unit_unref(session->unit);
        free(session);
        return NULL;
}

bool session_secret_is_equal(const uint8_t *secret, const uint8_t *presented) {
        uint8_t difference = 0;

        for (size_t i = 0; i < SESSION_SECRET_SIZE; i++)
                difference |= secret[i] ^ presented[i];
        return difference == 0;
}

void session_touch(struct session *session) {
        if (!list_is_linked(&session->touched))
                list_push_back(&session->resources->touched, &session->touched);
}

void session_mark_publish(struct session *session, struct peer *peer) {
        if (!list_is_linked(&peer->publish))
                list_push_back(&session->resources->publish, &peer->publish);
}

/* --- Threads, ports and their connections ----------------------------------------------------------------------- */

static void session_join(struct session *session, struct peer *peer) {
        peer->session = session;
        list_unlink(&peer->in_session);
        list_push_back(&session->peers, &peer->in_session);
        session->n_peers++;
        if (!session->first)
                session->first = peer;
}

struct thread *session_find_thread(const struct session *session, uint64_t number) {
        list_for_each(link, &session->threads) {
                struct thread *thread = list_entry(link, struct thread, link);

                if (thread->number == number)
                        return thread;
        }
        return NULL;
}

struct port *session_find_port(const struct session *session, uint64_t number) {
        list_for_each(link, &session->ports) {
                struct port *port = list_entry(link, struct port, link);

                if (port->number == number)
                        return port;
        }
        return NULL;
}

int session_add_thread(struct session *session, struct peer *peer, uint64_t number, uint32_t tid) {
        struct thread *thread;

        if (session_find_thread(session, number))
                return -EEXIST;
        thread = malloc(sizeof(*thread));
        if (!thread)
                return -ENOMEM;
        *thread = (struct thread){ .number = number, .tid = tid, .peer = peer };
        list_push_back(&session->threads, &thread->link);
        peer->thread = thread;
        session_join(session, peer);
        return 0;
}

int session_add_port(struct session *session, struct peer *peer, uint64_t number) {
        struct port *port;

        if (session_find_port(session, number))
                return -EEXIST;
        port = malloc(sizeof(*port));
        if (!port)
                return -ENOMEM;
        *port = (struct port){ .number = number, .peer = peer };
        list_push_back(&session->ports, &port->link);
        peer->port = port;
        session_join(session, peer);
        return 0;
}

/*
 * A process that is killed loses its connections one after the other, and nothing tells that from the end of a thread:
 * a send that ended with the first of them would leave a hole in a stream that the others' sends go on with.
 */
static bool op_ends_with(const struct op *op, const void *argument) {
        return op->peer == argument && !op_sends(op);
}

/* Their end comes from the monitor in any case. */
static void session_cancel_resolving(struct session *session,
                                     bool (*matches)(const struct op *op, const void *argument), const void *argument,
                                     unsigned reason, uint32_t *cancelled) {
        list_for_each(link, &session->resolving) {
                struct op *op = list_entry(link, struct op, link);

                if (op->cancel != 0 || (matches && !matches(op, argument)))
                        continue;
                op->cancel = (uint16_t) reason;
                op->cancelled = cancelled;
                ask_cancel(&session->resources->ask, &op->ticket);
        }
}

static void handles_end_thread(struct list *handles, const struct peer *peer) {
        list_for_each_safe(link, handles) {
                struct handle *handle = list_entry(link, struct handle, link);

                if (!handle->port)
                        handle_cancel(handle, op_ends_with, peer, OVL_REASON_THREAD_ENDED, NULL);
        }
}

/* What a thread posted ends with it; sends, and ops that will be indicated at a port, go on. */
static void session_end_thread(struct session *session, struct peer *peer) {
        handles_end_thread(&session->handles, peer);
        handles_end_thread(&session->closing, peer);
        apc_forget_thread(&session->apcs, peer->thread);
        session_cancel_resolving(session, op_ends_with, peer, OVL_REASON_THREAD_ENDED, NULL);
        list_unlink(&peer->thread->link);
        free(peer->thread);
        peer->thread = NULL;
}

static void handles_leave_port(const struct list *handles, const struct port *port) {
        list_for_each(link, handles) {
                struct handle *handle = list_entry(link, struct handle, link);

                if (handle->port == port)
                        handle->port = NULL;
        }
}

/* Handles that were closed, and of which ops have not ended, still have records to come. */
static void session_end_port(struct session *session, struct peer *peer) {
        handles_leave_port(&session->handles, peer->port);
        handles_leave_port(&session->closing, peer->port);
        list_unlink(&peer->port->link);
        free(peer->port);
        peer->port = NULL;
}

/* What a thread was to call and has not heard of is lost with it. */
static void session_drop_apcs(struct session *session, struct peer *peer) {
        list_for_each_safe(link, &peer->records) {
                struct op *op = list_entry(link, struct op, link);

                if (op->kind != OVL_RECORD_APC)
                        continue;
                list_unlink(link);
                session_recycle(op);
        }
}

/* Nobody waits for a verdict on a connection that is gone. */
static void session_change_peer(struct op *op, struct peer *heir) {
        op->peer = heir;
        op->is_arming = false;
}

/*
 * Records that the connection has not sent go to the first one, those of a frame that was cut off, too: the client can
 * have used none of them.
 */
static void session_move_records(struct session *session, struct peer *peer) {
        struct peer *heir = session->first;

        list_splice_back(&peer->framed, &peer->records);
        list_splice_back(&peer->records, &peer->framed);
        session_drop_apcs(session, peer);
        for (uint32_t i = 0; i < session->n_ops_high; i++) {
                if (!op_is_free(&session->ops[i]) && session->ops[i].peer == peer)
                        session_change_peer(&session->ops[i], heir);
        }
        if (heir) {
                list_splice_back(&heir->records, &peer->records);
                session_mark_publish(session, heir);
                return;
        }
        while (!list_is_empty(&peer->records))
                session_recycle(list_entry(list_pop_front(&peer->records), struct op, link));
}

/* What the client has not taken from the lane of a connection that is gone goes to the first one, in frames. */
static void session_move_lane(struct session *session, struct peer *peer) {
        struct lane *lane = take_ptr(peer->lane);
        struct peer *heir = session->first;

        list_unlink(&peer->awake);
        session->resources->stats.n_lanes--;
        if (!heir || lane_retire(lane) == 0) {
                lane_free(lane);
                return;
        }
        list_push_back(&heir->left, &lane->link);
        session_mark_publish(session, heir);
}

static void handles_cancel(struct list *handles, bool (*matches)(const struct op *op, const void *argument),
                           const void *argument, unsigned reason, uint32_t *cancelled) {
        list_for_each_safe(link, handles)
                handle_cancel(list_entry(link, struct handle, link), matches, argument, reason, cancelled);
}

void session_cancel(struct session *session, bool (*matches)(const struct op *op, const void *argument),
                    const void *argument, unsigned reason, uint32_t *cancelled) {
        handles_cancel(&session->handles, matches, argument, reason, cancelled);
        handles_cancel(&session->closing, matches, argument, reason, cancelled);
        session_cancel_resolving(session, matches, argument, reason, cancelled);
}

static void session_begin_end(struct session *session) {
        session->is_ending = true;
        apc_party_deinit(&session->apcs);
        invitation_forget(session);
        session_cancel(session, NULL, NULL, OVL_REASON_SESSION_ENDED, NULL);
        list_for_each_safe(link, &session->handles)
                handle_close(list_entry(link, struct handle, link));
}

void session_remove_peer(struct session *session, struct peer *peer) {
        if (peer == session->first)
                session->first = NULL;
        list_unlink(&peer->in_session);
        session->n_peers--;
        peer_drop_continued(peer);
        if (peer->thread)
                session_end_thread(session, peer);
        if (peer->port)
                session_end_port(session, peer);
        if (peer->lane)
                session_move_lane(session, peer);
        session_move_records(session, peer);
        peer_forget_left(peer);
        peer->session = NULL;
        if (session->n_peers == 0)
                session_begin_end(session);
        session_touch(session);
}

/* --- Ends ------------------------------------------------------------------------------------------------------- */

bool session_bury(struct session *session) {
        list_for_each_safe(link, &session->closing) {
                struct handle *handle = list_entry(link, struct handle, link);

                if (handle_is_over(handle))
                        handle_bury(handle);
        }
        if (!session->is_ending || session->n_ops > 0 || session->n_calls > 0 || !list_is_empty(&session->closing))
                return false;
        /* All that was charged was released: what is charged is there, and nothing of this session is. */
        assert(session->quota.used[LIMIT_SOCKETS] == 0);
        assert(session->quota.used[LIMIT_OPS] == 0);
        assert(session->n_started == 0);
        return true;
}

/* --- Ops -------------------------------------------------------------------------------------------------------- */

static struct op *session_take_any_op(struct session *session) {
        struct list *link = list_pop_front(&session->free_ops);
        struct op *op = NULL;

        if (link) {
                op = list_entry(link, struct op, link);
        } else if (session->n_ops_high < session_n_places(session)) {
                op = &session->ops[session->n_ops_high];
                op->scratch = session->scratch + session->n_ops_high * OP_SCRATCH_SIZE;
                session->n_ops_high++;
        } else {
                return NULL;
        }
        *op = (struct op){
                .session = session, .scratch = op->scratch, .state = OP_QUEUED, .fd = -1, .taken_ns = now_about_ns()
        };
        list_init(&op->link);
        list_init(&op->stray);
        list_init(&op->unpaid);
        session->n_ops++;
        session->resources->stats.n_ops++;
        return op;
}

struct op *session_take_op(struct session *session) {
        return session_has_op(session) ? session_take_any_op(session) : NULL;
}

bool session_may_start(struct session *session) {
        struct quota_refusal refusal;

        if (quota_has(&session->unit->quota, LIMIT_OPS, 1, &refusal))
                return true;
        if (!list_is_linked(&session->starved)) {
                quota_note(&session->quota, &refusal);
                list_push_back(&session->resources->starved, &session->starved);
        }
        return false;
}

static void session_unpin(struct session *session, struct op *op) {
        for (uint64_t left = op->regions; left != 0; left &= left - 1)
                session->regions[__builtin_ctzll(left)].n_loans--;
        op->regions = 0;
        if (op->transmit.file)
                op->transmit.file->n_ops--;
        op->transmit.file = NULL;
}

void session_recycle(struct op *op) {
        struct session *session = op->session;

        payload_release(&op->payload);
        if (op->kind == OVL_RECORD_APC)
                session->n_apcs--;
        op->state = OP_FREE;
        list_push_front(&session->free_ops, &op->link);
        session->n_ops--;
        session->resources->stats.n_ops--;
        if (session->is_held || session->is_ending || session->n_ops == 0)
                session_touch(session);
}

/* --- Up: records ------------------------------------------------------------------------------------------------ */

static void session_count(struct session *session, const struct op *op) {
        if (op_form(op)->receives) {
                session->resources->stats.bytes_received += op->bytes;
                session->totals.bytes_received += op->bytes;
        } else if (op_form(op)->sends) {
                session->resources->stats.bytes_sent += op->bytes;
                session->totals.bytes_sent += op->bytes;
        }
        if (op->cancelled && op->status == -ECANCELED)
                ++*op->cancelled;
}

/* Where the record goes. */
static struct peer *session_route(struct op *op) {
        struct handle *handle = op->handle;

        if (handle && handle->port && op->indication == OVL_INDICATE_PLAIN &&
            !(op->record_flags & OVL_RECORD_REFUSED)) {
                op->record_flags |= OVL_RECORD_PORT;
                op->key = handle->port_key;
                return handle->port->peer;
        }
        return op->peer;
}

/* What was received goes with the record; what was sent has left. */
static void session_keep_payload(struct op *op) {
        if (op->payload.pool && !op_form(op)->sends && !(op->record_flags & OVL_RECORD_REFUSED))
                op->payload_len = (uint32_t) op->bytes + op->aux_len;
        if (op->payload_len == 0)
                payload_release(&op->payload);
}

/*
 * The last op has ended on a socket that is on its way out, whose ever it was: the handles of others, which another
 * socket has replaced for their clients, wait for nothing else.
 */
static void session_leave_socket(const struct socket *socket) {
        if (!socket || !socket->is_closing || !socket_is_idle(socket))
                return;
        list_for_each(link, &socket->handles)
                session_touch(list_entry(link, struct handle, in_socket)->session);
}

/* An op that was accepted gives back its credit, and its handle may be over. */
static void session_return_credit(struct session *session, struct op *op) {
        struct handle *handle = op->handle;

        op->handle = NULL;
        list_unlink(&op->stray);
        list_unlink(&op->unpaid);
        if (!op->has_credit)
                return;
        op->has_credit = false;
        session->n_started--;
        quota_give(&session->quota, LIMIT_OPS, 1);
        if (handle)
                handle->n_posted--;
        if (handle && --handle->n_ops == 0 && handle->number == 0)
                session_touch(session);
}

/* An op has ended: it is a record from here on, and holds nothing but itself and what it received inline. */
static void session_indicate(struct session *session, struct op *op, struct list *ended) {
        struct peer *peer;

        if (op->code == OVL_OP_ACCEPT || op->fd >= 0)
                succession_end(op, ended);
        session_count(session, op);
        if (op->turn + 1 >= session->resources->turn || op->is_arming)
                op->record_flags |= OVL_RECORD_IMMEDIATE;
        session_arm(op);
        peer = session_route(op);
        plant_swaps(session, op);
        op->sequence = ++session->sequence;
        session_return_credit(session, op);
        session_leave_socket(op->socket);
        op->socket = NULL;
        op->cancelled = NULL;
        op->peer = peer;
        session_unpin(session, op);
        session_keep_payload(op);
        KILLPOINT("session-indicate");
        if (!peer || plant_loses(session, op)) {
                session_recycle(op);
                return;
        }
        list_push_back(&peer->records, &op->link);
        plant_doubles(session, op);
        session_mark_publish(session, peer);
}

int session_queue_apc(struct session *session, struct thread *thread, uint64_t function, uint64_t argument) {
        struct op *op;

        if (session->n_apcs >= SESSION_APCS_MAX)
                return -ENOBUFS;
        if (plant_loses_apc(session))
                return 0;
        op = session_take_any_op(session);
        if (!op)
                return -ENOBUFS;
        session->n_apcs++;
        op->kind = OVL_RECORD_APC;
        op->peer = thread->peer;
        op->tag = function;
        op->thread = thread->number;
        op->value = argument;
        op->sequence = ++session->sequence;
        op->state = OP_ENDED;
        list_push_back(&thread->peer->records, &op->link);
        session_mark_publish(session, thread->peer);
        return plant_doubles_apc(session) ? session_queue_apc(session, thread, function, argument) : 0;
}

void session_indicate_all(struct list *ended) {
        struct list *link;

        while ((link = list_pop_front(ended))) {
                struct op *op = list_entry(link, struct op, link);
                const struct handle *handle = op->has_credit ? op->handle : NULL;
                uint64_t serial = op->serial;

                if (op->state != OP_ENDED) {
                        succession_begin(op, ended);
                        continue;
                }
                session_indicate(op->session, op, ended);
                if (handle)
                        ioctls_pass(handle->socket, handle, serial, ended);
        }
}

/* What a socket gave up is indicated; what it put off is remembered. */
static void session_after(struct resources *resources, struct socket *socket, struct list *ended) {
        if (socket_retry_at(socket) != UINT64_MAX && !list_is_linked(&socket->retry))
                list_push_back(&resources->retrying, &socket->retry);
        session_indicate_all(ended);
}

void session_answer(struct op *op, const struct link_message *answer, int fd) {
        struct list ended;

        list_init(&ended);
        ioctls_answer(op, answer, fd, &ended);
        session_indicate_all(&ended);
}

void session_settle(struct session *session, struct peer *peer) {
        if (list_is_linked(&peer->settle))
                return;
        peer->settle_turn = session->resources->turn;
        list_push_back(&session->resources->settle, &peer->settle);
}

void session_arm(struct op *op) {
        if (!op->is_arming)
                return;
        op->is_arming = false;
        op->peer->n_arming--;
        if (op->peer->n_wished > op->peer->settle_mark)
                session_settle(op->session, op->peer);
}

void session_finish(struct op *op, int32_t result, unsigned reason) {
        struct resources *resources = op->session->resources;
        struct socket *socket = op->socket;
        struct list ended;

        list_init(&ended);
        socket_finish(socket, op, result, reason, &ended);
        session_after(resources, socket, &ended);
}

void session_serve_files(struct resources *resources) {
        struct list read, ended;
        struct list *link;

        list_init(&read);
        reader_take(resources->files.reader, &read);
        while ((link = list_pop_front(&read))) {
                struct piece *piece = list_entry(link, struct piece, link);
                struct op *op = piece->op;

                list_init(&ended);
                if (op) {
                        struct socket *socket = op->socket;

                        socket_read(socket, op, &ended);
                        session_after(resources, socket, &ended);
                } else if (piece->job == PIECE_CHECKS) {
                        file_checked(piece);
                } else {
                        file_release(piece);
                }
        }
        transmit_serve(&resources->files);
}

/* An accept has what it waited for. */
static void session_pay(struct resources *resources, struct op *op) {
        struct socket *socket = op->socket;
        struct list ended;

        list_init(&ended);
        op->is_unpaid = false;
        op->holds_socket_charge = true;
        socket_resume(socket, op, &ended);
        session_after(resources, socket, &ended);
}

static void session_feed_starved(struct resources *resources) {
        list_for_each_safe(link, &resources->starved) {
                struct session *session = list_entry(link, struct session, starved);

                if (!quota_has(&session->unit->quota, LIMIT_OPS, 1, NULL))
                        continue;
                list_unlink(link);
                session_touch(session);
        }
}

/* In the order in which they came. Where it is the unit that has no room, another of the user's may have. */
static void session_pay_all(struct resources *resources, struct quota_user *user) {
        struct quota_refusal refusal;
        struct list unpaid;
        struct list *link;

        list_init(&unpaid);
        list_splice_back(&unpaid, &user->unpaid);
        while ((link = list_pop_front(&unpaid))) {
                struct op *op = list_entry(link, struct op, unpaid);
                struct quota *quota = &op->session->quota;

                if (quota_has(quota, LIMIT_SOCKETS, 1, &refusal)) {
                        quota_take(quota, LIMIT_SOCKETS, 1, NULL);
                        session_pay(resources, op);
                        continue;
                }
                list_push_back(&user->unpaid, link);
                if (refusal.quota->level >= LIMIT_USER)
                        break;
        }
        list_splice_back(&user->unpaid, &unpaid);
}

void session_feed(struct resources *resources) {
        struct quotas *quotas = &resources->quotas;

        if (quotas->has_room[LIMIT_OPS]) {
                quotas->has_room[LIMIT_OPS] = false;
                session_feed_starved(resources);
        }
        if (quotas->has_room[LIMIT_SOCKETS]) {
                quotas->has_room[LIMIT_SOCKETS] = false;
                list_for_each(link, &quotas->users)
                        session_pay_all(resources, list_entry(link, struct quota_user, link));
        }
}

void session_retry(struct resources *resources, struct socket *socket, uint64_t now) {
        struct list ended;

        list_init(&ended);
        list_unlink(&socket->retry);
        socket_retry(socket, now, &ended);
        session_after(resources, socket, &ended);
}
