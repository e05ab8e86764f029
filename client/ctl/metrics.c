/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl metrics: the counters as OpenMetrics text (openmetrics.io, version 1.0.0), for a collector that reads
 * files or runs programs.
 *
 * What workers count has a label with the worker's number, and begins at 0 when one is replaced, as counters may: sums
 * over workers are for whoever asks for them.
 *
 * Rejected: a listening port for collectors, in a daemon that exists so that nobody listens who need not.
 */

#include <inttypes.h>
#include <stdio.h>

#include "client/ctl/ctl.h"
#include "client/ctl/output.h"
#include "client/ctl/summary.h"

const char metrics_help[] = "Usage: overlapctl metrics\n"
                            "\n"
                            "The counters, as OpenMetrics text. With --json they are those of status.\n";

enum metrics_type {
        METRICS_GAUGE,
        METRICS_COUNTER,
};

static void metrics_begin(const char *name, enum metrics_type type, const char *unit, const char *help) {
        printf("# TYPE overlapd_%s %s\n", name, type == METRICS_COUNTER ? "counter" : "gauge");
        if (unit)
                printf("# UNIT overlapd_%s %s\n", name, unit);
        printf("# HELP overlapd_%s %s\n", name, help);
}

static void metrics_put(const char *name, enum metrics_type type, const char *unit, const char *help, uint64_t value) {
        metrics_begin(name, type, unit, help);
        printf("overlapd_%s%s %" PRIu64 "\n", name, type == METRICS_COUNTER ? "_total" : "", value);
}

/* A label's value: what would end it is escaped. */
static void metrics_put_label(const char *name, const char *value) {
        printf("%s=\"", name);
        for (; *value; value++) {
                if (*value == '"' || *value == '\\')
                        putchar('\\');
                putchar(*value);
        }
        putchar('"');
}

/* --- Of the daemon --------------------------------------------------------------------------------------------------
 */

static void metrics_put_daemon(const struct summary *summary) {
        const Overlapd__AdminDaemon *said = &summary->said;

        puts("# TYPE overlapd_build info\n# HELP overlapd_build The daemon that answers.");
        printf("overlapd_build_info{");
        metrics_put_label("version", summary->version);
        puts("} 1");
        metrics_begin("uptime_seconds", METRICS_GAUGE, "seconds", "Time since the daemon started.");
        printf("overlapd_uptime_seconds %.3f\n", (double) said->uptime_ns / 1e9);
        metrics_put("serving", METRICS_GAUGE, NULL, "1 while connections are taken.",
                    said->workers_ready > 0 && summary->state[0] == 's' && summary->state[1] == 'e');
        metrics_put("workers_wanted", METRICS_GAUGE, NULL, "Workers that the settings ask for.", said->workers_wanted);
        metrics_put("workers_ready", METRICS_GAUGE, NULL, "Workers that serve.", said->workers_ready);
        metrics_put("worker_deaths", METRICS_COUNTER, NULL, "Workers that died.", said->worker_deaths);
        metrics_put("channels", METRICS_GAUGE, NULL, "Connections of clients.", said->channels_open);
        metrics_put("channels_accepted", METRICS_COUNTER, NULL, "Connections of clients that were taken.",
                    said->channels_accepted);
        metrics_put("channels_refused", METRICS_COUNTER, NULL, "Connections of clients that were refused.",
                    said->channels_refused);
        metrics_put("policy_rules", METRICS_GAUGE, NULL, "Rules of the policy.", said->rules);
        metrics_begin("policy_decisions", METRICS_COUNTER, NULL,
                      "Requests that the policy decided, but for datagrams, which workers decide about.");
        printf("overlapd_policy_decisions_total{decision=\"allowed\"} %" PRIu64 "\n", said->policy_allowed);
        printf("overlapd_policy_decisions_total{decision=\"denied\"} %" PRIu64 "\n", said->policy_denied);
        metrics_put("reloads", METRICS_COUNTER, NULL, "Times that settings and policy were read again.", said->reloads);
        metrics_put("journal_lines_lost", METRICS_COUNTER, NULL, "Lines that the journal did not take.",
                    said->lines_lost);
}

/* --- Of its workers -------------------------------------------------------------------------------------------------
 */

struct metrics_family {
        const char *name;
        enum metrics_type type;
        const char *unit;
        const char *help;
        uint64_t (*get)(const Overlapd__AdminWorker *worker);
};

#define METRICS_GET(field)                                                                                             \
        static uint64_t metrics_get_##field(const Overlapd__AdminWorker *worker) {                                     \
                return worker->field;                                                                                  \
        }
METRICS_GET(sessions)
METRICS_GET(sockets)
METRICS_GET(ops)
METRICS_GET(lanes)
METRICS_GET(entries)
METRICS_GET(records)
METRICS_GET(bytes_received)
METRICS_GET(bytes_sent)
METRICS_GET(turns)
METRICS_GET(wakeups)
METRICS_GET(polls)
METRICS_GET(system_calls)
METRICS_GET(merged_ops)

static const struct metrics_family metrics_families[] = {
        { "sessions", METRICS_GAUGE, NULL, "Sessions of clients.", metrics_get_sessions },
        { "sockets", METRICS_GAUGE, NULL, "Sockets that clients hold.", metrics_get_sockets },
        { "operations_in_flight", METRICS_GAUGE, NULL, "Operations whose record was not taken.", metrics_get_ops },
        { "lanes", METRICS_GAUGE, NULL, "Connections that post through shared memory.", metrics_get_lanes },
        { "operations", METRICS_COUNTER, NULL, "Operations that were taken.", metrics_get_entries },
        { "records", METRICS_COUNTER, NULL, "Records that were sent.", metrics_get_records },
        { "received_bytes", METRICS_COUNTER, "bytes", "Bytes received from the network.", metrics_get_bytes_received },
        { "sent_bytes", METRICS_COUNTER, "bytes", "Bytes sent to the network.", metrics_get_bytes_sent },
        { "turns", METRICS_COUNTER, NULL, "Passes of the loop.", metrics_get_turns },
        { "wakeups", METRICS_COUNTER, NULL, "Passes that slept before they found work.", metrics_get_wakeups },
        { "polls", METRICS_COUNTER, NULL, "Passes that found work by looking for it.", metrics_get_polls },
        { "system_calls", METRICS_COUNTER, NULL, "System calls for operations and records.", metrics_get_system_calls },
        { "merged_operations", METRICS_COUNTER, NULL, "Operations that shared a request of the engine.",
          metrics_get_merged_ops },
};

static void metrics_put_family(const struct summary *summary, const struct metrics_family *family) {
        metrics_begin(family->name, family->type, family->unit, family->help);
        for (size_t i = 0; i < summary->n_workers; i++) {
                const Overlapd__AdminWorker *worker = &summary->workers[i].said;

                if (worker->is_counted)
                        printf("overlapd_%s%s{worker=\"%u\"} %" PRIu64 "\n", family->name,
                               family->type == METRICS_COUNTER ? "_total" : "", worker->index, family->get(worker));
        }
}

static void metrics_put_workers(const struct summary *summary) {
        puts("# TYPE overlapd_worker info\n# HELP overlapd_worker The processes that serve.");
        for (size_t i = 0; i < summary->n_workers; i++) {
                const struct summary_worker *worker = &summary->workers[i];

                printf("overlapd_worker_info{worker=\"%u\",pid=\"%u\",", worker->said.index, worker->said.pid);
                metrics_put_label("state", worker->state);
                putchar(',');
                metrics_put_label("engine", worker->engine);
                puts("} 1");
        }
        for (size_t i = 0; i < sizeof(metrics_families) / sizeof(metrics_families[0]); i++)
                metrics_put_family(summary, &metrics_families[i]);
}

int metrics_main(const struct ctl *ctl, int argc, char *argv[]) {
        struct summary summary;
        int status;

        status = ctl_take_nothing(argc, argv);
        if (status != CTL_DONE)
                return status;
        status = summary_get(ctl, -1, &summary);
        if (!summary.has_daemon || ctl->is_quiet)
                return status;
        if (ctl->is_json) {
                output_json_print(summary_to_json(&summary));
                return status;
        }
        metrics_put_daemon(&summary);
        metrics_put_workers(&summary);
        puts("# EOF");
        return status;
}
