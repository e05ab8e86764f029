/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl top: who moves how much at this time. Live on a terminal (top-screen.c), or with --batch as one table
 * after the other, for files and programs. Both show the same samples (top-sample.c).
 *
 * With --batch the first table comes after the first interval: a rate needs two looks.
 */

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "client/ctl/membership.h"
#include "client/ctl/output.h"
#include "client/ctl/question.h"
#include "client/ctl/top-sample.h"
#include "client/ctl/top-screen.h"

#define TOP_DELAY_MIN_S 0.1
#define TOP_DELAY_MAX_S 3600.0

const char top_help[] =
        "Usage: overlapctl top [-d SECONDS] [-o COLUMN]\n"
        "       overlapctl top --batch [-n N] [-d SECONDS] [-o COLUMN] [--json]\n"
        "\n"
        "Shows the sessions, and how many operations and bytes each moves in a second.\n"
        "\n"
        "  -b, --batch            tables instead of a screen; with --json an object a line\n"
        "  -n, --iterations N     with --batch: end after N tables (else never)\n"
        "  -d, --delay SECONDS    between two looks: 0.1 to 3600 (1)\n"
        "  -o, --sort COLUMN      bytes, ops, received, sent, sockets, in-flight or age: the greatest first (bytes)\n"
        "\n"
        "Keys: q end, s sort by the next column, p pause, space look now, arrows and page keys move, h help.\n";

struct top {
        bool is_batch;
        unsigned n_iterations; /* 0: no end */
        uint64_t delay_ns;
        enum top_sort sort;
};

/* --- The command line -------------------------------------------------------------------------------------------- */

static int top_take_iterations(struct top *top, const char *value) {
        unsigned long n;
        char *end;

        errno = 0;
        n = strtoul(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end || errno || n < 1 || n > INT_MAX)
                return ctl_complain_usage("top", "-n %s: must be a number from 1 to %d", value, INT_MAX);
        top->n_iterations = (unsigned) n;
        return 0;
}

static int top_take_delay(struct top *top, const char *value) {
        double seconds;
        char *end;

        errno = 0;
        seconds = strtod(value, &end);
        if (end == value || *end || errno || !(seconds >= TOP_DELAY_MIN_S) || seconds > TOP_DELAY_MAX_S)
                return ctl_complain_usage("top", "-d %s: must be a number of seconds from %.1f to %.0f", value,
                                          TOP_DELAY_MIN_S, TOP_DELAY_MAX_S);
        top->delay_ns = (uint64_t) (seconds * 1e9 + 0.5);
        return 0;
}

static int top_take_sort(struct top *top, const char *value) {
        top->sort = top_sort_find(value);
        if (top->sort == TOP_N_SORTS)
                return ctl_complain_usage("top", "-o %s: must be bytes, ops, received, sent, sockets, in-flight or age",
                                          value);
        return 0;
}

static int top_parse(struct top *top, int argc, char *argv[]) {
        static const struct option names[] = {
                { "batch", no_argument, NULL, 'b' },
                { "iterations", required_argument, NULL, 'n' },
                { "delay", required_argument, NULL, 'd' },
                { "sort", required_argument, NULL, 'o' },
                { 0 },
        };
        int option, r = 0;

        opterr = 0;
        while (r == 0 && (option = getopt_long(argc, argv, ":bn:d:o:", names, NULL)) != -1)
                switch (option) {
                case 'b':
                        top->is_batch = true;
                        break;
                case 'n':
                        r = top_take_iterations(top, optarg);
                        break;
                case 'd':
                        r = top_take_delay(top, optarg);
                        break;
                case 'o':
                        r = top_take_sort(top, optarg);
                        break;
                default:
                        return ctl_complain_option("top", option, argv);
                }
        if (r == 0 && optind < argc)
                return ctl_complain_usage("top", "top: unexpected argument '%s'", argv[optind]);
        return r;
}

/* --- Tables ------------------------------------------------------------------------------------------------------ */

static void top_add_rate(double rate, struct output_table *table) {
        char text[OUTPUT_TEXT_SIZE];

        output_cell(table, "%s", output_bytes((uint64_t) (rate + 0.5), text));
}

static void top_add_row(const struct top_row *row, struct output_table *table) {
        char user[MEMBERSHIP_NAME_SIZE] = "", age[OUTPUT_TEXT_SIZE];

        if (row->is_known)
                membership_user_name(row->uid, user);
        output_cell(table, "%016llx", (unsigned long long) row->session);
        output_cell(table, "%d", (int) row->pid);
        output_cell(table, "%s", user);
        output_cell(table, "%s", row->unit);
        output_cell(table, "%s", row->state);
        output_cell(table, "%s", output_duration(row->age_ns, age));
        output_cell(table, "%u", row->sockets);
        output_cell(table, "%u", row->ops);
        output_cell(table, "%.0f", row->ops_s);
        top_add_rate(row->received_s, table);
        top_add_rate(row->sent_s, table);
}

static int top_print(const struct top_sample *sample) {
        cleanup(output_table_deinit) struct output_table table =
                OUTPUT_TABLE("SESSION", ">PID", "USER", "UNIT", "STATE", ">AGE", ">SOCKETS", ">IN FLIGHT", ">OPS/S",
                             ">RECEIVED/S", ">SENT/S");
        const Overlapd__AdminWorker *totals = &sample->summary.totals;
        char received[OUTPUT_TEXT_SIZE], sent[OUTPUT_TEXT_SIZE];

        printf("overlapd %s %s: %u sessions, %u sockets, %u operations in flight; %.0f ops/s, %s/s received, %s/s "
               "sent\n",
               sample->summary.version, sample->summary.state, totals->sessions, totals->sockets, totals->ops,
               sample->ops_s, output_bytes((uint64_t) (sample->received_s + 0.5), received),
               output_bytes((uint64_t) (sample->sent_s + 0.5), sent));
        for (size_t i = 0; i < sample->n_rows; i++)
                top_add_row(&sample->rows[i], &table);
        output_table_print(&table);
        return puts("") < 0 || fflush(stdout) == EOF ? -EIO : 0;
}

static void top_rate_to_json(struct json_object *object, const char *name, double rate) {
        char text[64];

        snprintf(text, sizeof(text), "%.1f", rate);
        output_json_add(object, name, json_object_new_double_s(rate, text));
}

static struct json_object *top_row_to_json(const struct top_row *row) {
        struct json_object *object = output_json_object();

        output_json_id(object, "session", row->session);
        output_json_number(object, "worker", row->worker);
        if (row->is_known) {
                output_json_number(object, "pid", (uint64_t) row->pid);
                output_json_number(object, "uid", row->uid);
        } else {
                output_json_add(object, "pid", NULL);
                output_json_add(object, "uid", NULL);
        }
        output_json_string(object, "unit", row->unit);
        output_json_string(object, "state", row->state);
        output_json_number(object, "age_ns", row->age_ns);
        output_json_number(object, "sockets", row->sockets);
        output_json_number(object, "ops_in_flight", row->ops);
        output_json_number(object, "credits", row->credits);
        output_json_number(object, "entries", row->entries);
        output_json_number(object, "bytes_received", row->bytes_received);
        output_json_number(object, "bytes_sent", row->bytes_sent);
        top_rate_to_json(object, "ops_per_s", row->ops_s);
        top_rate_to_json(object, "received_per_s", row->received_s);
        top_rate_to_json(object, "sent_per_s", row->sent_s);
        return object;
}

static int top_print_json(const struct top_sample *sample) {
        struct json_object *all = output_json_object(), *sessions = output_json_array();
        const char *text;
        int r = -EIO;

        output_json_number(all, "interval_ns", sample->interval_ns);
        output_json_string(all, "version", sample->summary.version);
        output_json_string(all, "state", sample->summary.state);
        output_json_number(all, "sockets", sample->summary.totals.sockets);
        output_json_number(all, "ops_in_flight", sample->summary.totals.ops);
        top_rate_to_json(all, "ops_per_s", sample->ops_s);
        top_rate_to_json(all, "received_per_s", sample->received_s);
        top_rate_to_json(all, "sent_per_s", sample->sent_s);
        for (size_t i = 0; i < sample->n_rows; i++)
                output_json_append(sessions, top_row_to_json(&sample->rows[i]));
        output_json_add(all, "sessions", sessions);
        output_json_bool(all, "complete", !sample->is_partial);
        text = json_object_to_json_string_ext(all, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        if (text && puts(text) >= 0 && fflush(stdout) != EOF)
                r = 0;
        json_object_put(all);
        return r;
}

static void top_pause(uint64_t ns) {
        struct timespec pause = { .tv_sec = (time_t) (ns / NS_PER_S), .tv_nsec = (long) (ns % NS_PER_S) };

        while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
                ;
}

static int top_batch(const struct ctl *ctl, const struct top *top) {
        cleanup(top_sample_deinit) struct top_sample before = { 0 };
        _cleanup_fd_ int fd = question_connect(ctl);
        struct top_sample sample;
        int status;

        if (fd < 0)
                return CTL_LOST;
        status = top_sample_take(ctl, fd, &before, &before);
        for (unsigned i = 0; status == CTL_DONE && (i < top->n_iterations || top->n_iterations == 0); i++) {
                top_pause(top->delay_ns);
                status = top_sample_take(ctl, fd, &before, &sample);
                if (status != CTL_DONE)
                        return status;
                top_sample_deinit(&before);
                before = sample;
                top_sample_sort(&before, top->sort);
                if (ctl->is_quiet)
                        continue;
                if ((ctl->is_json ? top_print_json(&before) : top_print(&before)) < 0)
                        return CTL_FAILED;
        }
        return status == CTL_DONE && before.is_partial ? CTL_LOST : status;
}

int top_main(const struct ctl *ctl, int argc, char *argv[]) {
        struct top top = { .delay_ns = NS_PER_S };
        int r;

        r = top_parse(&top, argc, argv);
        if (r != 0)
                return r;
        if (!top.is_batch && (ctl->is_json || top.n_iterations > 0))
                return ctl_complain_usage("top", "top: %s has a meaning only with --batch",
                                          ctl->is_json ? "--json" : "--iterations");
        return top.is_batch ? top_batch(ctl, &top) : top_screen_run(ctl, top.delay_ns, top.sort);
}
