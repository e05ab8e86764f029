/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's numbers, gathered. Workers count for themselves since their own start, so totals may go down when one
 * was replaced; whoever draws curves of them takes the counters of each worker.
 */

#include "client/ctl/summary.h"

#include "client/ctl/output.h"
#include "client/ctl/question.h"

static void summary_add(Overlapd__AdminWorker *to, const Overlapd__AdminWorker *worker) {
        to->sessions += worker->sessions;
        to->sockets += worker->sockets;
        to->ops += worker->ops;
        to->lanes += worker->lanes;
        to->entries += worker->entries;
        to->records += worker->records;
        to->bytes_received += worker->bytes_received;
        to->bytes_sent += worker->bytes_sent;
        to->turns += worker->turns;
        to->wakeups += worker->wakeups;
        to->polls += worker->polls;
        to->system_calls += worker->system_calls;
        to->merged_ops += worker->merged_ops;
}

static void summary_take(const Overlapd__AdminReply *reply, void *data) {
        struct summary *summary = data;
        struct summary_worker *worker;

        if (reply->what_case == OVERLAPD__ADMIN_REPLY__WHAT_DAEMON) {
                summary->has_daemon = true;
                summary->said = *reply->daemon;
                output_clean(reply->daemon->version, summary->version, sizeof(summary->version));
                output_clean(reply->daemon->state, summary->state, sizeof(summary->state));
                output_clean(reply->daemon->socket_path, summary->socket_path, sizeof(summary->socket_path));
                output_clean(reply->daemon->engine_wanted, summary->engine_wanted, sizeof(summary->engine_wanted));
                output_clean(reply->daemon->policy, summary->policy, sizeof(summary->policy));
        }
        if (reply->what_case != OVERLAPD__ADMIN_REPLY__WHAT_WORKER || summary->n_workers == SUMMARY_WORKERS_MAX)
                return;
        worker = &summary->workers[summary->n_workers++];
        worker->said = *reply->worker;
        output_clean(reply->worker->state, worker->state, sizeof(worker->state));
        output_clean(reply->worker->engine, worker->engine, sizeof(worker->engine));
        output_clean(reply->worker->engine_reason, worker->engine_reason, sizeof(worker->engine_reason));
        if (worker->said.is_counted)
                summary_add(&summary->totals, &worker->said);
}

int summary_get(const struct ctl *ctl, int fd, struct summary *ret_summary) {
        Overlapd__AdminRequest request = OVERLAPD__ADMIN_REQUEST__INIT;
        Overlapd__AdminStatus question = OVERLAPD__ADMIN_STATUS__INIT;
        int status;

        *ret_summary = (struct summary){ .totals = OVERLAPD__ADMIN_WORKER__INIT };
        request.what_case = OVERLAPD__ADMIN_REQUEST__WHAT_STATUS;
        request.status = &question;
        status = fd < 0 ? question_ask_once(ctl, &request, summary_take, ret_summary)
                        : question_ask(ctl, fd, &request, summary_take, ret_summary);
        if (status == CTL_DONE && !ret_summary->has_daemon) {
                ctl_complain("%s: who answers there says nothing of itself, and is not overlapd", ctl->admin_path);
                return CTL_LOST;
        }
        return status;
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

static void summary_counts_to_json(const Overlapd__AdminWorker *counts, struct json_object *to) {
        output_json_number(to, "sessions", counts->sessions);
        output_json_number(to, "sockets", counts->sockets);
        output_json_number(to, "ops_in_flight", counts->ops);
        output_json_number(to, "lanes", counts->lanes);
        output_json_number(to, "entries", counts->entries);
        output_json_number(to, "records", counts->records);
        output_json_number(to, "bytes_received", counts->bytes_received);
        output_json_number(to, "bytes_sent", counts->bytes_sent);
        output_json_number(to, "turns", counts->turns);
        output_json_number(to, "wakeups", counts->wakeups);
        output_json_number(to, "polls", counts->polls);
        output_json_number(to, "system_calls", counts->system_calls);
        output_json_number(to, "merged_ops", counts->merged_ops);
}

static struct json_object *summary_worker_to_json(const struct summary_worker *worker) {
        struct json_object *object = output_json_object();

        output_json_number(object, "index", worker->said.index);
        output_json_string(object, "state", worker->state);
        output_json_number(object, "pid", worker->said.pid);
        output_json_string(object, "engine", worker->engine);
        output_json_string(object, "engine_reason", worker->engine_reason);
        output_json_bool(object, "answered", worker->said.is_counted);
        if (worker->said.is_counted)
                summary_counts_to_json(&worker->said, object);
        return object;
}

struct json_object *summary_to_json(const struct summary *summary) {
        struct json_object *object = output_json_object(), *totals = output_json_object(),
                           *workers = output_json_array();

        output_json_string(object, "version", summary->version);
        output_json_number(object, "pid", summary->said.pid);
        output_json_number(object, "uid", summary->said.uid);
        output_json_string(object, "state", summary->state);
        output_json_string(object, "socket", summary->socket_path);
        output_json_number(object, "uptime_ns", summary->said.uptime_ns);
        output_json_string(object, "engine_wanted", summary->engine_wanted);
        output_json_string(object, "policy", summary->policy);
        output_json_number(object, "rules", summary->said.rules);
        output_json_number(object, "policy_allowed", summary->said.policy_allowed);
        output_json_number(object, "policy_denied", summary->said.policy_denied);
        output_json_number(object, "channels_open", summary->said.channels_open);
        output_json_number(object, "channels_accepted", summary->said.channels_accepted);
        output_json_number(object, "channels_refused", summary->said.channels_refused);
        output_json_number(object, "reloads", summary->said.reloads);
        output_json_number(object, "lines_lost", summary->said.lines_lost);
        output_json_number(object, "workers_wanted", summary->said.workers_wanted);
        output_json_number(object, "workers_ready", summary->said.workers_ready);
        output_json_number(object, "worker_deaths", summary->said.worker_deaths);
        summary_counts_to_json(&summary->totals, totals);
        output_json_add(object, "totals", totals);
        for (size_t i = 0; i < summary->n_workers; i++)
                output_json_append(workers, summary_worker_to_json(&summary->workers[i]));
        output_json_add(object, "workers", workers);
        return object;
}
