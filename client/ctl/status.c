/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl status: the first thing that somebody asks. A daemon that does not serve, or lacks a worker, is a "no".
 */

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/ctl/ctl.h"
#include "client/ctl/output.h"
#include "client/ctl/summary.h"

const char status_help[] = "Usage: overlapctl status\n"
                           "\n"
                           "Whether the daemon serves, on which engine and why, and how much it does.\n"
                           "\n"
                           "Exit status: 0 it serves with all its workers; 1 it does not.\n";

static void status_print_worker(const struct summary_worker *worker, struct output_table *table) {
        const Overlapd__AdminWorker *said = &worker->said;
        char received[OUTPUT_TEXT_SIZE], sent[OUTPUT_TEXT_SIZE];

        output_cell(table, "%u", said->index);
        output_cell(table, "%s", !said->is_counted && said->pid > 0 ? "silent" : worker->state);
        output_cell(table, "%u", said->pid);
        output_cell(table, "%s", worker->engine);
        output_cell(table, "%u", said->sessions);
        output_cell(table, "%u", said->sockets);
        output_cell(table, "%u", said->ops);
        output_cell(table, "%llu", (unsigned long long) said->entries);
        output_cell(table, "%s", output_bytes(said->bytes_received, received));
        output_cell(table, "%s", output_bytes(said->bytes_sent, sent));
}

/* Each engine that is there, and why. */
static void status_print_engines(const struct summary *summary) {
        for (size_t i = 0; i < summary->n_workers; i++) {
                const struct summary_worker *worker = &summary->workers[i];
                bool is_told = worker->engine[0] == '\0';

                for (size_t j = 0; j < i && !is_told; j++)
                        is_told = strcmp(summary->workers[j].engine, worker->engine) == 0 &&
                                  strcmp(summary->workers[j].engine_reason, worker->engine_reason) == 0;
                if (!is_told)
                        output_fact("Engine", "%s (%s)", worker->engine, worker->engine_reason);
        }
}

static void status_print(const struct summary *summary) {
        const Overlapd__AdminDaemon *said = &summary->said;
        const Overlapd__AdminWorker *totals = &summary->totals;
        cleanup(output_table_deinit) struct output_table table =
                OUTPUT_TABLE(">WORKER", "STATE", ">PID", "ENGINE", ">SESSIONS", ">SOCKETS", ">OPS", ">ENTRIES",
                             ">RECEIVED", ">SENT");
        char uptime[OUTPUT_TEXT_SIZE], received[OUTPUT_TEXT_SIZE], sent[OUTPUT_TEXT_SIZE];

        printf("overlapd %s, %s at %s\n", summary->version, summary->state, summary->socket_path);
        output_fact("Process", "%u of user %u, up %s", said->pid, said->uid, output_duration(said->uptime_ns, uptime));
        status_print_engines(summary);
        output_fact("Workers", "%u of %u ready, %llu died", said->workers_ready, said->workers_wanted,
                    (unsigned long long) said->worker_deaths);
        output_fact("Connections", "%u open, %llu accepted, %llu refused", said->channels_open,
                    (unsigned long long) said->channels_accepted, (unsigned long long) said->channels_refused);
        output_fact("Now", "%u sessions, %u sockets, %u operations in flight", totals->sessions, totals->sockets,
                    totals->ops);
        output_fact("Totals", "%llu operations, %s received, %s sent", (unsigned long long) totals->entries,
                    output_bytes(totals->bytes_received, received), output_bytes(totals->bytes_sent, sent));
        output_fact("Rules", "%s", summary->policy);
        output_fact("Decisions", "%llu allowed, %llu denied", (unsigned long long) said->policy_allowed,
                    (unsigned long long) said->policy_denied);
        if (said->lines_lost > 0)
                output_fact("Journal", "%llu lines were lost: it does not take them",
                            (unsigned long long) said->lines_lost);
        puts("");
        for (size_t i = 0; i < summary->n_workers; i++)
                status_print_worker(&summary->workers[i], &table);
        output_table_print(&table);
}

int status_main(const struct ctl *ctl, int argc, char *argv[]) {
        struct summary summary;
        int status;

        status = ctl_take_nothing(argc, argv);
        if (status != CTL_DONE)
                return status;
        status = summary_get(ctl, -1, &summary);
        if (!summary.has_daemon)
                return status;
        if (!ctl->is_quiet && ctl->is_json)
                output_json_print(summary_to_json(&summary));
        else if (!ctl->is_quiet)
                status_print(&summary);
        if (status != CTL_DONE)
                return status;
        return strcmp(summary.state, "serving") == 0 && summary.said.workers_ready == summary.said.workers_wanted
                       ? CTL_DONE
                       : CTL_FAILED;
}
