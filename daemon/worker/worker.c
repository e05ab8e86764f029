/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The turn: wait -> reap (ops finish; wake-ups only mark) -> serve the marked peers, each at most what its inbox holds,
 * and the lanes that are awake -> publish what has come about -> bury what is over. Nothing dies within a turn but at
 * its end.
 *
 * Within publish: all records first, then the calls that waited for them, then replies, so that a reply never overtakes
 * the records that it speaks of. What has been served in this turn reaches the kernel with the wait of the next one; a
 * verdict is therefore given at the end of the next turn, which does not sleep.
 */

#include "daemon/worker/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/worker/lane.h"
#include "daemon/worker/post.h"
#include "daemon/worker/resolve.h"
#include "daemon/worker/session.h"
#include "daemon/worker/snapshot.h"

#define WORKER_HELLO_NS (5 * NS_PER_S)
#define WORKER_HELLO_FRESH_NS (30 * NS_PER_S) /* while many connect at once because the daemon has just started */
#define WORKER_FRESH_NS (120 * NS_PER_S)
#define WORKER_LANE_MAX 256   /* entries that are taken from one lane in one turn */
#define WORKER_ENTRIES_MAX 64 /* POST frames and messages that are served for one peer in one turn */

/* What an engine_file belongs to. */
enum file_kind {
        FILE_SOCKET,
        FILE_PEER,
        FILE_LINK,
        FILE_BELL, /* of the readers */
};

/* --- Life ------------------------------------------------------------------------------------------------------- */

static int worker_init_files(struct resources *resources) {
        struct engine *engine = resources->engine;
        int r;

        r = files_init(&resources->files, resources->reaper);
        if (r < 0)
                return r;
        engine_file_init(&resources->files_bell, reader_fd(resources->files.reader), FILE_BELL);
        r = engine->ops->attach(engine, &resources->files_bell);
        if (r < 0)
                return r;
        engine->ops->arm(engine, &resources->files_bell, DIRECTION_IN);
        return 0;
}

/* Of the descriptors that this process may have a quarter is for what is no socket: channels, lanes, files. */
static void worker_set_capacity(struct quotas *quotas) {
        struct rlimit limit;

        quotas->capacity[LIMIT_SOCKETS] = RESOURCES_SOCKETS_MAX;
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 4 * 3 < RESOURCES_SOCKETS_MAX)
                quotas->capacity[LIMIT_SOCKETS] = limit.rlim_cur / 4 * 3;
}

static int worker_init(struct worker *worker, struct engine *engine, const char *engine_reason, int link_fd,
                       enum plant plant) {
        struct resources *resources = &worker->resources;
        int r;

        r = resources_init(resources);
        if (r < 0)
                return r;
        resources->engine = engine;
        resources->plant = plant;
        engine->stats = &resources->stats;
        worker_set_capacity(&resources->quotas);
        control_init(&worker->control, resources, engine_reason);
        r = reaper_new(&resources->reaper);
        if (r < 0)
                return r;
        r = worker_init_files(resources);
        if (r < 0)
                return r;
        return ask_init(&resources->ask, engine, link_fd, FILE_LINK);
}

int worker_new(struct engine *engine, const char *engine_reason, int link_fd, enum plant plant,
               struct worker **ret_worker) {
        struct worker *worker = calloc(1, sizeof(*worker));
        int r;

        if (!worker)
                return -ENOMEM;
        list_init(&worker->peers);
        list_init(&worker->unopened);
        list_init(&worker->graveyard);
        worker->started_ns = now_ns();
        r = worker_init(worker, engine, engine_reason, link_fd, plant);
        if (r < 0) {
                files_deinit(&worker->resources.files);
                worker->resources.reaper = reaper_free(worker->resources.reaper);
                ask_deinit(&worker->resources.ask);
                resources_deinit(&worker->resources);
                free(worker);
                return r;
        }
        *ret_worker = worker;
        return 0;
}

static void worker_drop_session(struct session *session) {
        struct list *link;

        while ((link = list_first(&session->handles)) || (link = list_first(&session->closing))) {
                struct socket *socket = list_entry(link, struct handle, link)->socket;

                list_unlink(link);
                if (--socket->n_handles > 0)
                        continue;
                list_unlink(&socket->retry);
                if (socket->is_foreign)
                        reaper_close(session->resources->reaper, socket->file.fd, session->identity.uid);
                else
                        fd_close(socket->file.fd);
        }
        for (uint32_t i = 0; i < SESSION_REGIONS_MAX; i++)
                session->regions[i].n_loans = 0;
        for (uint32_t i = 0; i < SESSION_FILES_MAX; i++)
                file_give_up(session->files[i]);
        session_free(session);
}

/* What others go on with. */
static void worker_restore_sockets(const struct list *handles) {
        list_for_each(link, handles) {
                struct socket *socket = list_entry(link, struct handle, link)->socket;

                if (socket->is_foreign && socket->file.fd >= 0)
                        handle_restore_socket(socket);
        }
}

struct worker *worker_free(struct worker *worker) {
        struct resources *resources;
        struct list *link;

        if (!worker)
                return NULL;
        resources = &worker->resources;
        while ((link = list_first(&worker->peers)))
                peer_free(list_entry(link, struct peer, link));
        list_for_each(session, &resources->sessions) {
                worker_restore_sockets(&list_entry(session, struct session, link)->handles);
                worker_restore_sockets(&list_entry(session, struct session, link)->closing);
        }
        control_deinit(&worker->control);
        /* The ring goes first: what it has in flight must not find other memory at its place. */
        resources->engine = engine_free(resources->engine);
        while ((link = list_first(&resources->sessions)))
                worker_drop_session(list_entry(link, struct session, link));
        files_deinit(&resources->files);
        resources->reaper = reaper_free(resources->reaper);
        fd_close(resources->ask.file.fd);
        ask_deinit(&resources->ask);
        resources_deinit(resources);
        free(worker);
        return NULL;
}

/* --- Peers ------------------------------------------------------------------------------------------------------ */

static void worker_mark(struct worker *worker, struct peer *peer) {
        if (!list_is_linked(&peer->marked))
                list_push_back(&worker->resources.marked, &peer->marked);
}

static void worker_mark_publish(struct worker *worker, struct peer *peer) {
        if (!list_is_linked(&peer->publish))
                list_push_back(&worker->resources.publish, &peer->publish);
}

/* From here on the lane is looked at in every turn, until the worker sleeps. */
static void worker_awaken(struct worker *worker, struct peer *peer) {
        if (!peer->lane || peer->is_dead)
                return;
        lane_awaken(peer->lane);
        if (!list_is_linked(&peer->awake))
                list_push_back(&worker->resources.awake, &peer->awake);
}

static void worker_add_peer(struct worker *worker, int take_fd, const struct link_peer *identity) {
        struct link_message report = { .kind = LINK_CHANNEL_CLOSED };
        _cleanup_fd_ int fd = take_fd;
        uint64_t now = now_ns();
        struct peer *peer;
        int r;

        r = fd < 0 ? -EMFILE
                   : peer_new(worker->resources.engine, worker->resources.reaper, &worker->graveyard, &fd, identity,
                              FILE_PEER, &peer);
        if (r < 0) {
                reaper_close(worker->resources.reaper, fd_take(&fd), identity->uid);
                report.body.channel.channel = identity->channel;
                snprintf(report.text, sizeof(report.text), "the worker cannot take the connection: %s", strerror(-r));
                ask_report(&worker->resources.ask, &report);
                return;
        }
        peer->rules = rules_claim(&worker->resources.rules, identity->ruling);
        peer->unit = quotas_ref(&worker->resources.quotas, identity->shard);
        peer->deadline_ns =
                now + (now - worker->started_ns < WORKER_FRESH_NS ? WORKER_HELLO_FRESH_NS : WORKER_HELLO_NS);
        list_push_back(&worker->peers, &peer->link);
        list_push_back(&worker->unopened, &peer->in_session);
        worker_mark(worker, peer);
}

static void worker_report_open(struct worker *worker, const struct peer *peer) {
        struct link_message report = { .kind = LINK_CHANNEL_OPEN };

        report.body.channel.channel = peer->identity.channel;
        report.body.channel.session = peer->session->number;
        report.body.channel.is_first = peer->session->first == peer;
        ask_report(&worker->resources.ask, &report);
}

static void worker_report_closed(struct worker *worker, const struct peer *peer, uint64_t session) {
        struct link_message report = { .kind = LINK_CHANNEL_CLOSED };

        report.body.channel.channel = peer->identity.channel;
        report.body.channel.session = session;
        if (peer->session)
                report.body.channel.totals = peer->session->totals;
        snprintf(report.text, sizeof(report.text), "%s", peer->why);
        ask_report(&worker->resources.ask, &report);
}

/* A doorbell is an empty POST frame. It says nothing but that the lane is to be looked at. */
static void worker_serve_doorbell(struct worker *worker, struct peer *peer, const struct ovl_frame_header *header,
                                  const uint8_t *body) {
        static const struct ovl_post_header doorbell;

        if (header->body_len == sizeof(doorbell) && memcmp(body, &doorbell, sizeof(doorbell)) == 0)
                peer_consume_frame(peer, header);
        else
                control_kick(&worker->control, peer, -EPROTO, OVL_REASON_BAD_LANE,
                             "a POST frame with entries came on a connection that has a lane");
}

/*
 * A request comes behind the entries that the lane held when it was sent, as it comes behind those of frames: a cancel
 * finds what was posted before it. Returns false when they must wait, and the request with them.
 */
static bool worker_serve_before(struct worker *worker, struct peer *peer) {
        const char *problem = NULL;
        int r;

        if (!peer->lane)
                return true;
        r = post_serve_lane(peer->session, peer, peer->lane->n_slots, &problem);
        if (r < 0 && r != -EAGAIN)
                control_kick(&worker->control, peer, r, OVL_REASON_BAD_LANE, problem);
        return !peer->is_dead && !peer->session->is_held;
}

/* Whether a request is served now. If not, nothing more is read of its connection for a while: at most a second. */
static bool worker_paces(struct worker *worker, struct peer *peer) {
        if (!peer->unit || peer->unit->user->is_exempt)
                return true;
        peer->resume_ns =
                quota_pace(peer->unit, peer->session ? &peer->session->requests : NULL, LIMIT_RATE_REQUESTS, now_ns());
        if (peer->resume_ns == 0)
                return true;
        list_push_back(&worker->resources.paused, &peer->paused);
        return false;
}

static void worker_serve_frame(struct worker *worker, struct peer *peer, const struct ovl_frame_header *header,
                               const uint8_t *body) {
        const char *problem = NULL;
        bool was_open = peer->session;
        int r;

        if (header->kind == OVL_FRAME_CONTROL) {
                if (!worker_serve_before(worker, peer) || !worker_paces(worker, peer))
                        return;
                peer_consume_frame(peer, header);
                control_serve(&worker->control, peer, header, body);
                if (!was_open && peer->session)
                        worker_report_open(worker, peer);
                return;
        }
        if (peer->lane) {
                worker_serve_doorbell(worker, peer, header, body);
                return;
        }
        if (!peer->session || !peer->thread) {
                control_kick(&worker->control, peer, -EPROTO, OVL_REASON_OUT_OF_ORDER,
                             "a POST frame came on a connection that is no thread's");
                return;
        }
        r = post_serve_frame(peer->session, peer, body, header->body_len, &problem);
        if (r < 0)
                control_kick(&worker->control, peer, r, OVL_REASON_BAD_FRAME, problem);
        else if (r > 0)
                peer_consume_frame(peer, header);
}

/* Whether the peer must first be read by its client, or its session be relieved, before more of it is served. */
static bool peer_is_held(const struct peer *peer) {
        return list_is_linked(&peer->paused) || peer->n_replies >= PEER_REPLIES_MAX ||
               (peer->session && peer->session->is_held);
}

/* A client that ended its side stays as long as a record or a reply is to come for it. */
static void worker_await_input(struct peer *peer) {
        if (peer->is_gone || (peer->has_ended && !peer->session))
                peer_die(peer, "");
        else if (peer->has_ended)
                peer_drop_continued(peer);
        if (peer->has_ended && peer->session)
                session_touch(peer->session);
        peer_await_input(peer);
}

/* Takes entries of a lane. Returns how many. */
static unsigned worker_serve_lane(struct worker *worker, struct peer *peer, unsigned max) {
        const char *problem = NULL;
        int r;

        if (peer->session->is_held)
                return 0;
        r = post_serve_lane(peer->session, peer, max, &problem);
        if (r < 0 && r != -EAGAIN)
                control_kick(&worker->control, peer, r, OVL_REASON_BAD_LANE, problem);
        return r > 0 ? (unsigned) r : 0;
}

/*
 * It may be room in the lane that a held peer waits for, and a doorbell that tells of it. That is not seen behind
 * requests that fill the inbox, so who takes no records and asks on is not waited for. Others may be held for what
 * another session has, and for long: their client may end meanwhile.
 */
static void worker_hold(struct worker *worker, struct peer *peer) {
        bool may_ring = peer->lane && !peer->has_ended && !peer->is_dead;

        if (may_ring && peer_has_input_room(peer))
                peer_await_input(peer);
        else if (may_ring && peer_wants_room(peer) && lane_is_full(peer->lane))
                control_kick(&worker->control, peer, -EPROTO, OVL_REASON_BAD_LANE,
                             "the records in the lane are not taken, and requests come all the same");
        else if (peer->session && peer->is_gone)
                session_touch(peer->session);
        else if (peer->session && peer->session->is_held)
                peer_await_hang_up(peer);
}

/* The client has closed the connection. What it posted before may wait for room: see worker_relieve(). */
static void worker_lose_peer(struct peer *peer) {
        peer->is_gone = true;
        if (peer->session && peer->session->is_held)
                session_touch(peer->session);
        else
                peer_die(peer, "");
}

static void worker_serve_peer(struct worker *worker, struct peer *peer) {
        struct ovl_frame_header header;
        const char *problem = NULL;
        const uint8_t *body;
        int n_served = 0;
        int r = 0;

        peer_fill(peer);
        /* Entries that were shown before a request was sent, or before the connection ended, come before that. */
        if (peer->lane)
                worker_serve_lane(worker, peer, peer->lane->n_slots);
        while (!peer->is_dead && !peer_is_held(peer)) {
                r = peer_next_frame(peer, &header, &body, &problem);
                if (r <= 0)
                        break;
                if (n_served++ == WORKER_ENTRIES_MAX)
                        break;
                worker_serve_frame(worker, peer, &header, body);
        }
        if (r < 0)
                control_kick(&worker->control, peer, r, OVL_REASON_BAD_FRAME, problem);
        if (r == 0 && !peer->is_dead && peer->n_fds > 0 && peer->n_taken == peer->n_filled)
                control_kick(&worker->control, peer, -EPROTO, OVL_REASON_BAD_FRAME,
                             "descriptors came that no frame announces");
        worker_awaken(worker, peer);
        peer->is_held = peer_is_held(peer);
        if (peer->is_held) {
                worker_hold(worker, peer);
                return;
        }
        if (r > 0 && !peer->is_dead)
                worker_mark(worker, peer);
        else
                worker_await_input(peer);
}

/* Returns whether the peer is gone; if not, the engine is not done with it. */
static bool worker_bury_peer(struct worker *worker, struct peer *peer) {
        struct engine *engine = worker->resources.engine;

        if (!peer->is_buried) {
                peer->is_buried = true;
                worker_report_closed(worker, peer, peer->session ? peer->session->number : 0);
                control_forget_peer(&worker->control, peer);
                if (peer->session)
                        session_remove_peer(peer->session, peer);
                engine->ops->disarm(engine, &peer->file, DIRECTION_IN);
                engine->ops->disarm(engine, &peer->file, DIRECTION_OUT);
                list_unlink(&peer->in_session);
                list_unlink(&peer->settle);
                list_unlink(&peer->publish);
                list_unlink(&peer->postponed);
                list_unlink(&peer->paused);
                list_unlink(&peer->marked);
                list_unlink(&peer->awake);
                engine->ops->shutdown(engine, &peer->file, SHUT_RDWR);
        }
        if (peer->file.n_in_flight > 0)
                return false;
        peer_free(peer);
        return true;
}

/* --- The turn --------------------------------------------------------------------------------------------------- */

/* Why, if it is the policy that says no: the record will not say. */
static void worker_note_denial(struct ticket *ticket, const struct link_message *message) {
        struct session *session;

        if (message->reason != OVL_REASON_DENIED || (ticket->owner != TICKET_OP && ticket->owner != TICKET_RESOLVE))
                return;
        session = list_entry(ticket, struct op, ticket)->session;
        if (session)
                snprintf(session->denied, sizeof(session->denied), "%s", message->text);
}

static void worker_answer(struct worker *worker, struct ticket *ticket, const struct link_message *message, int fd) {
        worker_note_denial(ticket, message);
        if (ticket->owner == TICKET_OP) {
                struct op *op = list_entry(ticket, struct op, ticket);

                if (op_step(op) == STEP_RENEW)
                        op->fd = fd_take(&fd);
                fd_close(fd);
                session_finish(op, message->status, message->reason);
        } else if (ticket->owner == TICKET_RESOLVE) {
                resolve_finish(list_entry(ticket, struct op, ticket), message, fd);
                fd_close(fd);
        } else if (ticket->owner == TICKET_LOOK) {
                session_answer(list_entry(ticket, struct op, ticket), message, fd);
                fd_close(fd);
        } else {
                control_answer(&worker->control, ticket, message, fd);
        }
}

/* Whoever hears this knows that the turns go on: a worker that hangs, or never ends one, cannot say it. */
static void worker_answer_pulse(struct worker *worker) {
        const struct stats *stats = &worker->resources.stats;
        struct link_message pulse = { .kind = LINK_PULSE };

        pulse.body.pulse.turns = stats->turns;
        pulse.body.pulse.n_sessions = stats->n_sessions;
        pulse.body.pulse.n_sockets = stats->n_sockets;
        pulse.body.pulse.n_ops = stats->n_ops;
        ask_report(&worker->resources.ask, &pulse);
}

static void worker_show(struct worker *worker, const struct link_message *question) {
        struct link_message answer = { .kind = LINK_SNAPSHOT, .ticket = question->ticket };
        int fd = -1;

        answer.status = snapshot_make(&worker->resources, &question->body.snapshot, &fd);
        ask_report_with(&worker->resources.ask, &answer, fd);
}

/* Where there is no memory for them the connections that follow are refused their hello. */
static void worker_take_limits(struct worker *worker, const struct link_message *message) {
        quotas_take(&worker->resources.quotas, message->body.limits.uid, message->body.limits.shard, message->text,
                    &message->body.limits.limits, message->body.limits.is_new);
}

/* Takes what the monitor sent. */
static void worker_serve_link(struct worker *worker) {
        struct ask *ask = &worker->resources.ask;
        struct link_message message;
        struct ticket *ticket;
        int fd;

        while (ask_receive(ask, &message, &fd, &ticket) > 0) {
                switch (message.kind) {
                case LINK_CHANNEL:
                        worker_add_peer(worker, fd, &message.body.peer);
                        break;
                case LINK_ANSWER:
                        worker_answer(worker, ticket, &message, fd);
                        break;
                case LINK_RULING:
                        rules_take(&worker->resources.rules, &message, fd);
                        break;
                case LINK_LIMITS:
                        fd_close(fd);
                        worker_take_limits(worker, &message);
                        break;
                case LINK_FACTS:
                        rules_take_facts(&worker->resources.rules, fd);
                        break;
                case LINK_ARMED:
                        fd_close(fd);
                        if (ticket->owner == TICKET_LOOK)
                                session_arm(list_entry(ticket, struct op, ticket));
                        break;
                case LINK_PULSE:
                        fd_close(fd);
                        worker_answer_pulse(worker);
                        break;
                case LINK_SNAPSHOT:
                        fd_close(fd);
                        worker_show(worker, &message);
                        break;
                case LINK_STOP:
                        worker->is_stopping = true;
                        fd_close(fd);
                        break;
                default:
                        fd_close(fd);
                        break;
                }
        }
        if (!ask->is_gone && !ask->file.armed[DIRECTION_IN])
                worker->resources.engine->ops->arm(worker->resources.engine, &ask->file, DIRECTION_IN);
}

static void worker_wake_file(struct worker *worker, const struct engine_event *event) {
        struct peer *peer;

        switch (event->file->kind) {
        case FILE_LINK:
                if (event->direction == DIRECTION_OUT)
                        ask_flush(&worker->resources.ask);
                break;
        case FILE_PEER:
                peer = list_entry(event->file, struct peer, file);
                if (peer->is_buried)
                        break;
                if (event->direction == DIRECTION_OUT)
                        worker_mark_publish(worker, peer);
                else if (event->file->only_hang_up && event->result == 0)
                        worker_lose_peer(peer);
                else
                        worker_mark(worker, peer);
                break;
        default:
                break;
        }
}

static void worker_serve_files(struct worker *worker) {
        struct resources *resources = &worker->resources;

        session_serve_files(resources);
        resources->engine->ops->arm(resources->engine, &resources->files_bell, DIRECTION_IN);
}

/* Returns how many events there were. */
static unsigned worker_reap(struct worker *worker) {
        struct engine *engine = worker->resources.engine;
        struct engine_event event;
        bool link_is_ready = false, files_are_read = false;
        unsigned n_events = 0;

        while (engine->ops->reap(engine, &event)) {
                n_events++;
                if (event.op)
                        session_finish(event.op, event.result, OVL_REASON_NONE);
                else if (event.file->kind == FILE_LINK && event.direction == DIRECTION_IN)
                        link_is_ready = true;
                else if (event.file->kind == FILE_BELL)
                        files_are_read = true;
                else
                        worker_wake_file(worker, &event);
        }
        if (link_is_ready || !list_is_empty(&worker->resources.ask.cancelled))
                worker_serve_link(worker);
        if (files_are_read)
                worker_serve_files(worker);
        return n_events;
}

/* Peers that are marked while others are served have their turn in the next one. */
static void worker_serve(struct worker *worker) {
        struct list marked;
        struct list *link;

        list_init(&marked);
        list_splice_back(&marked, &worker->resources.marked);
        while ((link = list_pop_front(&marked)))
                worker_serve_peer(worker, list_entry(link, struct peer, marked));
}

/* Lanes of a session that is held are looked at again when it is relieved, unless their records want room. */
static bool worker_forgets_lane(const struct peer *peer) {
        return peer->is_dead || (peer->session->is_held && !peer_wants_room(peer));
}

/* Returns how many entries were taken from the lanes that are awake. */
static unsigned worker_serve_lanes(struct worker *worker) {
        unsigned n_served = 0;

        list_for_each_safe(link, &worker->resources.awake) {
                struct peer *peer = list_entry(link, struct peer, awake);

                if (worker_forgets_lane(peer)) {
                        list_unlink(link);
                        continue;
                }
                n_served += worker_serve_lane(worker, peer, WORKER_LANE_MAX);
                if (peer_wants_room(peer))
                        worker_mark_publish(worker, peer);
        }
        return n_served;
}

/* Before the worker sleeps: clients ring from here on. Returns false when a lane has work after all. */
static bool worker_lanes_fall_asleep(struct worker *worker) {
        bool all_sleep = true;

        list_for_each_safe(link, &worker->resources.awake) {
                struct peer *peer = list_entry(link, struct peer, awake);
                bool wants_room = peer_wants_room(peer);

                if (worker_forgets_lane(peer) || lane_fall_asleep(peer->lane, !peer->session->is_held, wants_room)) {
                        list_unlink(link);
                        continue;
                }
                all_sleep = false;
                if (wants_room)
                        worker_mark_publish(worker, peer);
        }
        return all_sleep;
}

static void worker_settle(struct worker *worker) {
        list_for_each_safe(link, &worker->resources.settle) {
                struct peer *peer = list_entry(link, struct peer, settle);

                if (!peer_settle(peer, worker->resources.turn))
                        list_unlink(link);
                worker_mark_publish(worker, peer);
        }
}

static void worker_publish_records(struct worker *worker, bool with_verdicts, struct list *sent) {
        list_for_each(link, &worker->resources.publish) {
                struct peer *peer = list_entry(link, struct peer, publish);

                if (peer_awaits_verdict(peer) != with_verdicts)
                        continue;
                peer_publish_records(peer, worker->scratch, sent);
                /* Who gets records is likely to post. */
                worker_awaken(worker, peer);
        }
}

static void worker_publish(struct worker *worker) {
        struct list publish, sent;
        struct list *link;

        list_init(&publish);
        list_init(&sent);
        /* A verdict speaks of records that went to ports, too: they leave first. */
        worker_publish_records(worker, false, &sent);
        worker_settle(worker);
        worker_publish_records(worker, true, &sent);
        control_settle(&worker->control);
        list_splice_back(&publish, &worker->resources.publish);
        while ((link = list_pop_front(&publish))) {
                struct peer *peer = list_entry(link, struct peer, publish);

                peer_publish_replies(peer);
                if (peer->retry_ns > 0 && !list_is_linked(&peer->postponed))
                        list_push_back(&worker->resources.postponed, &peer->postponed);
                if (peer->has_ended && peer->session)
                        session_touch(peer->session);
                if (peer->is_held && !peer_is_held(peer))
                        worker_mark(worker, peer);
        }
        while ((link = list_pop_front(&sent)))
                session_recycle(list_entry(link, struct op, link));
}

/* Whether the client has ended its side, and nothing is to come for it any more, nor waits to be served. */
static bool worker_has_served(const struct session *session, const struct peer *peer) {
        return peer->has_ended && !list_is_linked(&peer->marked) && !peer_is_held(peer) && session->n_ops == 0 &&
               session->n_calls == 0 && !peer_has_output(peer);
}

/* Whether no connection has a client any more. */
static bool worker_is_deserted(const struct session *session) {
        list_for_each(link, &session->peers)
                if (!list_entry(link, struct peer, in_session)->is_gone)
                        return false;
        return true;
}

/*
 * A session that has ops to spare again is served on; a client that ended its side has its last record. One that has
 * closed all connections while it was held would wait for room that nobody is left to use.
 */
static void worker_relieve(struct worker *worker, struct session *session) {
        bool has_room = session->is_held && session_has_op(session) && !list_is_linked(&session->starved);
        bool is_deserted = session->is_held && !has_room && worker_is_deserted(session);

        if (has_room)
                session->is_held = false;
        list_for_each(link, &session->peers) {
                struct peer *peer = list_entry(link, struct peer, in_session);

                if (has_room)
                        worker_mark(worker, peer);
                if (is_deserted || worker_has_served(session, peer))
                        peer_die(peer, "");
        }
}

static void worker_bury_peers(struct worker *worker) {
        list_for_each_safe(link, &worker->graveyard)
                worker_bury_peer(worker, list_entry(link, struct peer, dying));
}

/* What users were refused for want of a quota, for the journal. */
static void worker_tell_news(struct worker *worker) {
        struct quotas *quotas = &worker->resources.quotas;
        struct link_message report = { .kind = LINK_QUOTA };
        const struct quota_user *user;
        unsigned kind;
        uint64_t now;

        if (list_is_empty(&quotas->news))
                return;
        now = now_ns();
        while ((user = quotas_next_news(quotas, now, &kind, &report.body.quota.n_refused))) {
                report.body.quota.shard = user->news[kind].shard;
                report.body.quota.kind = (uint8_t) kind;
                snprintf(report.text, sizeof(report.text), "%s", user->news[kind].text);
                ask_report(&worker->resources.ask, &report);
        }
}

static void worker_bury(struct worker *worker) {
        struct list *link;
        struct list touched;

        worker_bury_peers(worker);
        session_feed(&worker->resources);
        list_init(&touched);
        list_splice_back(&touched, &worker->resources.touched);
        while ((link = list_pop_front(&touched))) {
                struct session *session = list_entry(link, struct session, touched);

                worker_relieve(worker, session);
                if (session_bury(session))
                        session_free(session);
        }
        /* What was buried has given back what it had. */
        session_feed(&worker->resources);
        worker_tell_news(worker);
        /* Those that had their last record are dead now, and nothing else would end the sleep for them. */
        worker_bury_peers(worker);
}

/* What waits for a moment rather than for an event. */
static void worker_retry(struct worker *worker) {
        struct resources *resources = &worker->resources;
        struct ask *ask = &resources->ask;
        uint64_t now;

        if (ask->retry_ns == 0 && list_is_empty(&resources->retrying) && list_is_empty(&resources->postponed) &&
            list_is_empty(&resources->paused))
                return;
        now = now_ns();
        if (ask->retry_ns > 0 && ask->retry_ns <= now)
                ask_flush(ask);
        list_for_each_safe(link, &resources->retrying) {
                struct socket *socket = list_entry(link, struct socket, retry);

                if (socket_retry_at(socket) <= now)
                        session_retry(resources, socket, now);
        }
        list_for_each_safe(link, &resources->postponed) {
                struct peer *peer = list_entry(link, struct peer, postponed);

                if (peer->retry_ns > now)
                        continue;
                list_unlink(&peer->postponed);
                worker_mark_publish(worker, peer);
        }
        list_for_each_safe(link, &resources->paused) {
                struct peer *peer = list_entry(link, struct peer, paused);

                if (peer->resume_ns > now)
                        continue;
                list_unlink(&peer->paused);
                worker_mark(worker, peer);
        }
}

/* How long the turn may sleep: until a hello is overdue, or something is to be tried again. */
static uint64_t worker_timeout(struct worker *worker, bool may_sleep) {
        const struct resources *resources = &worker->resources;
        uint64_t deadline = UINT64_MAX;
        uint64_t now;

        if (!may_sleep || !list_is_empty(&resources->marked) || !list_is_empty(&resources->settle) ||
            !list_is_empty(&resources->publish) || !list_is_empty(&resources->touched) ||
            !list_is_empty(&resources->ask.cancelled))
                return 0;
        if (resources->ask.retry_ns > 0)
                deadline = resources->ask.retry_ns;
        list_for_each(link, &resources->retrying) {
                uint64_t at = socket_retry_at(list_entry(link, struct socket, retry));

                deadline = at < deadline ? at : deadline;
        }
        list_for_each(link, &resources->postponed) {
                uint64_t at = list_entry(link, struct peer, postponed)->retry_ns;

                deadline = at < deadline ? at : deadline;
        }
        list_for_each(link, &resources->paused) {
                uint64_t at = list_entry(link, struct peer, paused)->resume_ns;

                deadline = at < deadline ? at : deadline;
        }
        list_for_each(link, &worker->unopened) {
                uint64_t at = list_entry(link, struct peer, in_session)->deadline_ns;

                deadline = at < deadline ? at : deadline;
        }
        if (deadline == UINT64_MAX)
                return ENGINE_FOREVER;
        now = now_ns();
        return deadline > now ? deadline - now : 0;
}

static void worker_expire(struct worker *worker) {
        uint64_t now;

        if (list_is_empty(&worker->unopened))
                return;
        now = now_ns();
        list_for_each(link, &worker->unopened) {
                struct peer *peer = list_entry(link, struct peer, in_session);

                if (peer->deadline_ns <= now)
                        peer_die(peer, "no hello came in time");
        }
}

/* Every client is told, and gets the records that there are. */
static void worker_say_farewell(struct worker *worker) {
        worker_publish(worker);
        list_for_each(link, &worker->peers) {
                struct peer *peer = list_entry(link, struct peer, link);

                if (!peer->is_dead)
                        control_kick(&worker->control, peer, -ESHUTDOWN, OVL_REASON_DAEMON_GONE,
                                     "overlapd is stopping");
        }
}

/* Waits for events: looks for a while first, where that pays, and then sleeps. */
static int worker_wait(struct worker *worker, bool may_sleep) {
        struct resources *resources = &worker->resources;
        uint64_t timeout = worker_timeout(worker, may_sleep);
        uint64_t since = 0;
        int r;

        if (timeout > 0 && worker->polling.limit_ns > 0)
                since = now_ns();
        if (timeout > 0 && (polling_looks(&worker->polling, since) || !worker_lanes_fall_asleep(worker)))
                timeout = 0;
        r = resources->engine->ops->wait(resources->engine, timeout);
        if (r < 0)
                return r;
        resources->stats.turns++;
        if (timeout > 0) {
                resources->stats.wakeups++;
                if (worker->polling.limit_ns > 0)
                        polling_slept(&worker->polling, now_ns() - since);
        }
        return 0;
}

int worker_turn(struct worker *worker, bool may_sleep) {
        struct resources *resources = &worker->resources;
        unsigned n_found;
        int r;

        r = worker_wait(worker, may_sleep);
        if (r < 0)
                return r;
        n_found = worker_reap(worker);
        worker_expire(worker);
        worker_retry(worker);
        worker_serve(worker);
        n_found += worker_serve_lanes(worker);
        /* What was given back in this turn is somebody else's now. */
        transmit_serve(&resources->files);
        if (n_found > 0)
                resources->stats.polls += polling_found(&worker->polling);
        if (worker->is_stopping || resources->ask.is_gone) {
                worker_say_farewell(worker);
                return 0;
        }
        worker_publish(worker);
        /* What ends from here on comes after the verdicts of this turn: it belongs to the next one. */
        resources->turn++;
        worker_bury(worker);
        return 1;
}
