/* SPDX-License-Identifier: Apache-2.0 */

/* The requests about the session itself, its threads, ports and regions, and the state of the worker. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/worker/lane.h"
#include "daemon/worker/serve.h"

#define SERVE_LEVEL_MAX 2u

/* --- Sessions --------------------------------------------------------------------------------------------------- */

/* Returns whether the client can be served, or tells it why not. */
static bool serve_check_hello(struct serve *serve, const Overlapd__Hello *hello) {
        if (hello->version_min > OVL_PROTOCOL_MAX || hello->version_max < OVL_PROTOCOL_MIN ||
            hello->version_min > hello->version_max) {
                serve_refuse(serve, -EPROTONOSUPPORT, OVL_REASON_VERSION,
                             "the client speaks protocol versions %u to %u, overlapd %s speaks %u to %u: upgrade the "
                             "older one",
                             hello->version_min, hello->version_max, OVERLAPD_VERSION, OVL_PROTOCOL_MIN,
                             OVL_PROTOCOL_MAX);
                return false;
        }
        return true;
}

/* The highest level up to that which the client wishes. */
static uint32_t serve_grant_level(const Overlapd__Hello *hello) {
        return hello->level < SERVE_LEVEL_MAX ? hello->level : SERVE_LEVEL_MAX;
}

static void serve_hello_reply(struct serve *serve, const Overlapd__Hello *hello) {
        Overlapd__HelloReply hello_reply = OVERLAPD__HELLO_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        struct session *session = serve->session;
        struct resources *resources = serve->control->resources;

        hello_reply.version = hello->version_max < OVL_PROTOCOL_MAX ? hello->version_max : OVL_PROTOCOL_MAX;
        hello_reply.level = session->level;
        hello_reply.session = session->number;
        hello_reply.secret = (ProtobufCBinaryData){ .len = SESSION_SECRET_SIZE, .data = session->secret };
        hello_reply.credits = session->n_credits;
        hello_reply.regions = (uint32_t) session->quota.max[LIMIT_REGIONS];
        hello_reply.region_bytes = session->quota.max[LIMIT_MEMORY];
        hello_reply.sockets = (uint32_t) session->quota.max[LIMIT_SOCKETS];
        hello_reply.inline_bytes = (uint64_t) session->payloads.n_pieces * OVL_INLINE_PIECE;
        hello_reply.engine = (char *) resources->engine->ops->name;
        hello_reply.engine_reason = (char *) serve->control->engine_reason;
        reply.what_case = OVERLAPD__REPLY__WHAT_HELLO;
        reply.hello = &hello_reply;
        serve_send(serve, &reply);
}

void serve_hello(struct serve *serve) {
        const Overlapd__Hello *hello = serve->request->hello;
        struct quota_refusal refusal;
        struct session *session;
        int r;

        if (serve->session) {
                control_kick(serve->control, serve->peer, -EPROTO, OVL_REASON_OUT_OF_ORDER,
                             "a second hello on one connection: open another connection instead");
                return;
        }
        if (!serve_check_hello(serve, hello)) {
                peer_publish_replies(serve->peer);
                peer_die(serve->peer, "no protocol version in common");
                return;
        }
        if (!serve->peer->unit) {
                serve_refuse(serve, -ENOMEM, OVL_REASON_NONE, "overlapd is out of memory: try again later");
                return;
        }
        r = session_new(serve->control->resources, &serve->peer->identity, serve->peer->unit, serve_grant_level(hello),
                        hello->credits, &session, &refusal);
        if (r == -EDQUOT) {
                serve_refuse_quota(serve, &refusal);
                return;
        }
        if (r == 0) {
                r = session_add_thread(session, serve->peer, hello->thread, hello->tid);
                if (r < 0)
                        session_free(session);
        }
        if (r < 0) {
                serve_refuse(serve, r, OVL_REASON_NONE, "overlapd cannot open a session: %s", strerror(-r));
                return;
        }
        serve->session = session;
        serve_hello_reply(serve, hello);
}

/* A session of the same shard, by its number and secret. That a session exists at all is not told. */
static struct session *control_find_session(struct control *control, const struct peer *peer,
                                            const Overlapd__Attach *attach) {
        list_for_each(link, &control->resources->sessions) {
                struct session *session = list_entry(link, struct session, link);

                if (session->number == attach->session && session->identity.shard == peer->identity.shard &&
                    session->identity.uid == peer->identity.uid && !session->is_ending &&
                    attach->secret.len == SESSION_SECRET_SIZE &&
                    session_secret_is_equal(session->secret, attach->secret.data))
                        return session;
        }
        return NULL;
}

void serve_attach(struct serve *serve) {
        const Overlapd__Attach *attach = serve->request->attach;
        struct session *session;
        int r = -EINVAL;

        if (serve->session) {
                control_kick(serve->control, serve->peer, -EPROTO, OVL_REASON_OUT_OF_ORDER,
                             "this connection belongs to a session already: open another connection instead");
                return;
        }
        session = control_find_session(serve->control, serve->peer, attach);
        if (!session) {
                control_kick(serve->control, serve->peer, -EACCES, OVL_REASON_DENIED,
                             "no session of this user and unit has this number and secret");
                return;
        }
        if (session->n_peers >= SESSION_PEERS_MAX) {
                control_kick(serve->control, serve->peer, -EDQUOT, OVL_REASON_QUOTA,
                             "the session has as many threads and ports as are allowed");
                return;
        }
        if (attach->what_case == OVERLAPD__ATTACH__WHAT_THREAD)
                r = session_add_thread(session, serve->peer, attach->thread, attach->tid);
        else if (attach->what_case == OVERLAPD__ATTACH__WHAT_PORT)
                r = session_add_port(session, serve->peer, attach->port);
        if (r < 0) {
                serve_refuse(serve, r, r == -EEXIST ? OVL_REASON_DUPLICATE : OVL_REASON_BAD_FRAME,
                             "the thread or port cannot be attached: %s", strerror(-r));
                return;
        }
        serve->session = session;
        serve_ok(serve);
}

/* --- Regions ---------------------------------------------------------------------------------------------------- */

static void serve_refuse_memory(struct serve *serve, uint64_t size, const struct quota_refusal *refusal) {
        char text[QUOTA_TEXT_SIZE];

        serve_refuse(serve, -EDQUOT, OVL_REASON_QUOTA, "there is no room for %llu bytes: %s", (unsigned long long) size,
                     quota_explain(refusal, text));
}

void serve_region_add(struct serve *serve) {
        Overlapd__RegionAddReply region_reply = OVERLAPD__REGION_ADD_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        cleanup(charge_release) struct charge place = { 0 };
        int fd = peer_claim_fd(serve->peer);
        struct quota_refusal refusal;
        const char *problem = NULL;
        uint32_t index = 0;
        int r;

        while (index < SESSION_REGIONS_MAX && serve->session->regions[index].data)
                index++;
        if (serve->session->level < 1) {
                serve_refuse(serve, -EOPNOTSUPP, OVL_REASON_LEVEL,
                             "a session of level 0 has no regions: ask for level 1 in the hello");
        } else if (charge_take(&place, &serve->session->quota, LIMIT_REGIONS, 1, &refusal) < 0) {
                serve_refuse_quota(serve, &refusal);
        } else {
                r = region_init(&serve->session->regions[index], fd, serve->request->region_add->size,
                                &serve->session->quota, &refusal, &problem);
                if (r == -EDQUOT) {
                        serve_refuse_memory(serve, serve->request->region_add->size, &refusal);
                } else if (r < 0) {
                        serve_refuse(serve, r, OVL_REASON_BAD_MEMORY,
                                     "this descriptor is not accepted as a region of %llu bytes: %s",
                                     (unsigned long long) serve->request->region_add->size,
                                     problem ? problem : strerror(-r));
                } else {
                        serve->session->regions[index].place = charge_move(&place);
                        region_reply.region = index + 1;
                        reply.what_case = OVERLAPD__REPLY__WHAT_REGION_ADD;
                        reply.region_add = &region_reply;
                        serve_send(serve, &reply);
                }
        }
        peer_drop_fd(serve->peer, fd);
}

void serve_region_remove(struct serve *serve) {
        uint32_t number = serve->request->region_remove->region;
        struct region *region = NULL;
        struct call *call;

        if (number >= 1 && number <= SESSION_REGIONS_MAX)
                region = &serve->session->regions[number - 1];
        if (!region || !region->data || region->is_leaving) {
                serve_refuse(serve, -ENOENT, OVL_REASON_UNKNOWN_REGION,
                             "no region of this session has the number %u: it was removed, or never added", number);
                return;
        }
        call = call_new(serve, CALL_REGION_REMOVE, NULL);
        if (!call)
                return;
        region->is_leaving = true;
        call->region = region;
        call_wait(serve, call);
}

/* --- Lanes ------------------------------------------------------------------------------------------------------ */

static void serve_refuse_lane(struct serve *serve, int status, const char *problem) {
        unsigned reason = OVL_REASON_NONE;

        if (status == -EINVAL)
                reason = OVL_REASON_BAD_LANE;
        else if (status == -EBADFD)
                reason = OVL_REASON_BAD_MEMORY;
        else if (status == -EMFILE || status == -ENFILE)
                reason = OVL_REASON_QUOTA;
        serve_refuse(serve, status, reason, "this descriptor is not accepted as a lane of %u slots: %s",
                     serve->request->lane_add->n_slots, problem ? problem : strerror(-status));
}

static void serve_lane_reply(struct serve *serve, int take_fd) {
        Overlapd__LaneAddReply lane_reply = OVERLAPD__LANE_ADD_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;

        lane_reply.n_records = serve->peer->lane->n_records;
        reply.id = serve->request->id;
        reply.what_case = OVERLAPD__REPLY__WHAT_LANE_ADD;
        reply.lane_add = &lane_reply;
        control_send_reply_fd(serve->control, serve->peer, &reply, take_fd);
}

void serve_lane_add(struct serve *serve) {
        struct session *session = serve->session;
        int fd = peer_claim_fd(serve->peer);
        struct quota_refusal refusal;
        const char *problem = NULL;
        int records_fd, r;

        if (session->level < 2) {
                serve_refuse(serve, -EOPNOTSUPP, OVL_REASON_LEVEL,
                             "a session of level %u has no lanes: ask for level 2 in the hello", session->level);
        } else if (serve->peer->lane) {
                serve_refuse(serve, -EEXIST, OVL_REASON_DUPLICATE, "this connection has a lane already");
        } else {
                r = lane_new(fd, serve->request->lane_add->n_slots, session->n_ops_max + SESSION_APCS_MAX,
                             &session->quota, &serve->peer->lane, &records_fd, &refusal, &problem);
                if (r == -EDQUOT) {
                        serve_refuse_quota(serve, &refusal);
                } else if (r < 0) {
                        serve_refuse_lane(serve, r, problem);
                } else {
                        serve->control->resources->stats.n_lanes++;
                        serve_lane_reply(serve, records_fd);
                }
        }
        peer_drop_fd(serve->peer, fd);
}

/* --- Status ----------------------------------------------------------------------------------------------------- */

void serve_status(struct serve *serve) {
        const struct stats *stats = &serve->control->resources->stats;
        Overlapd__StatusReply status_reply = OVERLAPD__STATUS_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;

        status_reply.engine = (char *) serve->control->resources->engine->ops->name;
        status_reply.engine_reason = (char *) serve->control->engine_reason;
        status_reply.worker_pid = (uint32_t) getpid();
        status_reply.turns = stats->turns;
        status_reply.wakeups = stats->wakeups;
        status_reply.system_calls = stats->system_calls;
        status_reply.entries = stats->entries;
        status_reply.records = stats->records;
        status_reply.bytes_received = stats->bytes_received;
        status_reply.bytes_sent = stats->bytes_sent;
        status_reply.sessions = stats->n_sessions;
        status_reply.sockets = stats->n_sockets;
        status_reply.ops_in_flight = stats->n_ops;
        status_reply.merged_ops = stats->merged_ops;
        status_reply.polls = stats->polls;
        status_reply.lanes = stats->n_lanes;
        reply.what_case = OVERLAPD__REPLY__WHAT_STATUS_REPORT;
        reply.status_report = &status_reply;
        serve_send(serve, &reply);
}

/* A record has no room for the rule. */
void serve_denied(struct serve *serve) {
        if (serve->session->denied[0] == '\0')
                serve_refuse(serve, -ENODATA, OVL_REASON_NONE, "the policy has refused no operation of this session");
        else
                serve_refuse(serve, -EACCES, OVL_REASON_DENIED, "%s", serve->session->denied);
}
