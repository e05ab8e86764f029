/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl ping: what a round trip to the daemon costs a program, in the program's own terms, so it is written
 * against overlap.h alone.
 *
 * Four ways are measured, one after the other, each with a session of its own: a request on the control channel; an
 * operation that crosses in a frame (the level "inline"); the same through the shared rings (the level "ring") while
 * both sides are awake; and that again after a pause, in which both sides fell asleep. The last two differ in nothing
 * else, so the difference of their medians is what waking costs on this machine.
 *
 * The operation asks how many bytes can be read from a Unix socket that was opened for it and is connected to nobody.
 * That is answered without waiting for anything, and no rule of a policy is about it: what is measured is the way there
 * and back, and no network.
 *
 * A daemon that was stopped takes a request and never answers. An alarm ends the program then, and says so.
 *
 * Rejected: averages, which say nothing of what a program waits for at worst.
 */

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "client/c/overlap.h"
#include "client/ctl/ctl.h"
#include "client/ctl/output.h"
#include "client/ctl/samples.h"

#define PING_COUNT 1000u
#define PING_COUNT_MAX 1000000u
#define PING_INTERVAL_MAX_S 3600.0
#define PING_WARM_UP 100u      /* round trips that are not counted, until both sides look before they sleep */
#define PING_ASLEEP_COUNT 100u /* at most so many of those that begin asleep, for each costs a pause */
#define PING_ASLEEP_NS (5 * NS_PER_MS)
#define PING_PATIENCE_S 10u

const char ping_help[] =
        "Usage: overlapctl ping [-c N] [-i SECONDS] [--json]\n"
        "\n"
        "Measures what a round trip to the daemon costs: a request, an operation in a frame, an operation through the\n"
        "shared rings, and the same when both sides have to be woken.\n"
        "\n"
        "  -c, --count N           round trips of each kind (1000; of those that begin asleep at most 100)\n"
        "  -i, --interval SECONDS  pause before each of them (0; of those that begin asleep at least 0.005)\n";

enum ping_way {
        PING_CONTROL,
        PING_FRAME,
        PING_RING,
        PING_ASLEEP,
        PING_N_WAYS,
};

static const struct ping_kind {
        const char *name;  /* in JSON */
        const char *title; /* for people */
        const char *level; /* NULL: the best that is granted */
        uint32_t poll_us;
} ping_kinds[PING_N_WAYS] = {
        [PING_CONTROL] = { "control", "control request", NULL, 0 },
        [PING_FRAME] = { "frame", "operation in a frame", "inline", 0 },
        [PING_RING] = { "ring", "operation through rings", "ring", 0 },
        [PING_ASLEEP] = { "asleep", "the same, from sleep", "ring", OVL_POLL_NEVER },
};

static const unsigned ping_percents[] = { 0, 50, 90, 99, 100 };

#define PING_N_PERCENTS (sizeof(ping_percents) / sizeof(ping_percents[0]))

struct ping {
        const struct ctl *ctl;
        unsigned n_rounds;
        uint64_t interval_ns;
        struct samples samples[PING_N_WAYS];
        char engine[16];
        char engine_reason[512];
        uint32_t level; /* that a program gets which asks for nothing */
        uint32_t worker_pid;
};

/* One way to the daemon, open. */
struct ping_path {
        struct ovl_session *session;
        struct ovl_thread *thread;
        uint64_t socket;
        struct ovl_session_info info;
};

static void ping_late(int signal) {
        static const char text[] = "overlapctl: overlapd took a request and did not answer within 10 s: is it stopped "
                                   "(systemctl status overlapd.service), or its machine overloaded?\n";
        ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);

        (void) n;
        _exit(CTL_LOST);
}

static void ping_path_close(struct ping_path *path) {
        if (path->socket)
                ovl_socket_close(path->thread, path->socket);
        path->thread = ovl_thread_close(path->thread);
        path->session = ovl_session_free(path->session);
}

/* Returns 0, or the exit status after the complaint. */
static int ping_path_open(struct ping_path *path, const struct ctl *ctl, const struct ping_kind *kind) {
        struct ovl_session_options options = {
                .path = ctl->socket_path,
                .level = kind->level,
                .poll_us = kind->poll_us,
                .name = "overlapctl",
        };
        struct ovl_error error = { 0 };
        int r;

        *path = (struct ping_path){ 0 };
        r = ovl_session_open(&options, &path->session, &error);
        if (r >= 0)
                r = ovl_thread_open(path->session, &path->thread, &error);
        if (r < 0) {
                ctl_complain("%s", error.text);
                if (r != -EINVAL && r != -ENAMETOOLONG)
                        ctl_complain("'overlapctl doctor' looks for the cause.");
                return r == -EINVAL || r == -ENAMETOOLONG ? CTL_USAGE : CTL_LOST;
        }
        ovl_session_info(path->session, &path->info);
        return 0;
}

/* Returns CTL_LOST after it was said what the last call on the thread met. */
static int ping_lost(const struct ping_path *path) {
        ctl_complain("%s", ovl_thread_error(path->thread)->text);
        return CTL_LOST;
}

/* One round trip. Returns 0 or -errno. */
static int ping_go(struct ping_path *path, enum ping_way way) {
        struct ovl_status status;

        if (way == PING_CONTROL)
                return ovl_status(path->thread, &status);
        return ovl_ioctl(path->thread, path->socket, OVL_BYTES_TO_READ, 0, NULL, NULL);
}

static void ping_pause(uint64_t ns) {
        struct timespec pause = { .tv_sec = (time_t) (ns / NS_PER_S), .tv_nsec = (long) (ns % NS_PER_S) };

        while (ns > 0 && nanosleep(&pause, &pause) < 0)
                ;
}

/* Returns 0, or the exit status after the complaint. */
static int ping_measure(struct ping *ping, struct ping_path *path, enum ping_way way) {
        struct samples *samples = &ping->samples[way];
        uint64_t interval_ns = ping->interval_ns;
        unsigned n_warm_up = way == PING_ASLEEP ? 1 : PING_WARM_UP;
        int r;

        if (way == PING_ASLEEP && interval_ns < PING_ASLEEP_NS)
                interval_ns = PING_ASLEEP_NS;
        for (unsigned i = 0; i < n_warm_up; i++)
                if (ping_go(path, way) < 0)
                        return ping_lost(path);
        while (samples->n < samples->size) {
                uint64_t start;

                alarm(0);
                ping_pause(interval_ns);
                alarm(PING_PATIENCE_S);
                start = now_ns();
                r = ping_go(path, way);
                samples_add(samples, now_ns() - start);
                if (r < 0)
                        return ping_lost(path);
        }
        samples_sort(samples);
        return 0;
}

static void ping_learn(struct ping *ping, struct ping_path *path) {
        struct ovl_status status;

        ping->level = path->info.level;
        output_clean(path->info.engine, ping->engine, sizeof(ping->engine));
        output_clean(path->info.engine_reason, ping->engine_reason, sizeof(ping->engine_reason));
        if (ovl_status(path->thread, &status) >= 0)
                ping->worker_pid = status.worker_pid;
}

/* Returns 0, or the exit status after the complaint. */
static int ping_way(struct ping *ping, enum ping_way way) {
        unsigned n = way == PING_ASLEEP && ping->n_rounds > PING_ASLEEP_COUNT ? PING_ASLEEP_COUNT : ping->n_rounds;
        cleanup(ping_path_close) struct ping_path path = { 0 };
        int r;

        alarm(PING_PATIENCE_S);
        r = ping_path_open(&path, ping->ctl, &ping_kinds[way]);
        if (r != 0)
                return r;
        if (way == PING_CONTROL)
                ping_learn(ping, &path);
        if (ping_kinds[way].level && strcmp(ping_kinds[way].level, "ring") == 0 && path.info.level < 2)
                return 0; /* a daemon that grants no rings: told as such */
        if (samples_init(&ping->samples[way], n) < 0) {
                ctl_complain("no memory for %u round trips: make -c smaller", n);
                return CTL_FAILED;
        }
        if (way != PING_CONTROL && ovl_socket_open(path.thread, AF_UNIX, SOCK_STREAM, &path.socket) < 0)
                return ping_lost(&path);
        return ping_measure(ping, &path, way);
}

/* What waking costs. Returns false where that is not known. */
static bool ping_wake_up(const struct ping *ping, int64_t *ret_ns) {
        const struct samples *awake = &ping->samples[PING_RING], *asleep = &ping->samples[PING_ASLEEP];

        if (awake->n == 0 || asleep->n == 0)
                return false;
        *ret_ns = (int64_t) (samples_percentile(asleep, 50) - samples_percentile(awake, 50));
        return true;
}

static double ping_us(uint64_t ns) {
        return (double) ns / 1000;
}

static struct json_object *ping_json_us(double us) {
        char text[32];

        snprintf(text, sizeof(text), "%.1f", us);
        return json_object_new_double_s(us, text);
}

static int ping_print_json(const struct ping *ping) {
        static const char *const names[] = { "min_us", "p50_us", "p90_us", "p99_us", "max_us" };
        struct json_object *all = output_json_object(), *part;
        int64_t wake_up_ns;

        output_json_string(all, "socket", ping->ctl->socket_path);
        output_json_string(all, "engine", ping->engine);
        output_json_string(all, "engine_reason", ping->engine_reason);
        output_json_string(all, "level", output_level(ping->level));
        output_json_number(all, "worker_pid", ping->worker_pid);
        for (unsigned way = 0; way < PING_N_WAYS; way++) {
                const struct samples *samples = &ping->samples[way];

                if (samples->n == 0) {
                        output_json_add(all, ping_kinds[way].name, NULL);
                        continue;
                }
                part = output_json_object();
                output_json_number(part, "count", samples->n);
                for (size_t i = 0; i < PING_N_PERCENTS; i++)
                        output_json_add(part, names[i],
                                        ping_json_us(ping_us(samples_percentile(samples, ping_percents[i]))));
                output_json_add(all, ping_kinds[way].name, part);
        }
        output_json_add(all, "wake_up_us",
                        ping_wake_up(ping, &wake_up_ns) ? ping_json_us((double) wake_up_ns / 1000) : NULL);
        return output_json_print(all) < 0 ? CTL_FAILED : CTL_DONE;
}

static int ping_print(const struct ping *ping) {
        cleanup(output_table_deinit) struct output_table table =
                OUTPUT_TABLE("ROUND TRIP", ">COUNT", ">MIN", ">P50", ">P90", ">P99", ">MAX");
        char path[128];
        int64_t wake_up_ns;

        printf("overlapd at %s: engine %s (%s), level %s, worker %u\n\n",
               output_clean(ping->ctl->socket_path, path, sizeof(path)), ping->engine, ping->engine_reason,
               output_level(ping->level), ping->worker_pid);
        for (unsigned way = 0; way < PING_N_WAYS; way++) {
                const struct samples *samples = &ping->samples[way];

                if (samples->n == 0)
                        continue;
                output_cell(&table, "%s", ping_kinds[way].title);
                output_cell(&table, "%zu", samples->n);
                for (size_t i = 0; i < PING_N_PERCENTS; i++)
                        output_cell(&table, "%.1f", ping_us(samples_percentile(samples, ping_percents[i])));
        }
        output_table_print(&table);
        if (ping_wake_up(ping, &wake_up_ns) && wake_up_ns <= 0)
                printf("\nAll in microseconds. From sleep it took no longer: other work keeps this machine awake.\n");
        else if (ping_wake_up(ping, &wake_up_ns))
                printf("\nAll in microseconds. Waking costs %.1f: so much longer takes the median from sleep.\n",
                       (double) wake_up_ns / 1000);
        else
                printf("\nAll in microseconds. The daemon grants no rings: what waking costs was not measured.\n");
        return CTL_DONE;
}

/* Returns 0, or CTL_USAGE after the complaint. */
static int ping_take_count(const char *value, unsigned *ret_n) {
        unsigned long n;
        char *end;

        errno = 0;
        n = strtoul(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end || errno || n < 1 || n > PING_COUNT_MAX)
                return ctl_complain_usage("ping", "-c %s: must be a number from 1 to %u", value, PING_COUNT_MAX);
        *ret_n = (unsigned) n;
        return 0;
}

static int ping_take_interval(const char *value, uint64_t *ret_ns) {
        double seconds;
        char *end;

        errno = 0;
        seconds = strtod(value, &end);
        if (end == value || *end || errno || !(seconds >= 0) || seconds > PING_INTERVAL_MAX_S)
                return ctl_complain_usage("ping", "-i %s: must be a number of seconds from 0 to %.0f", value,
                                          PING_INTERVAL_MAX_S);
        *ret_ns = (uint64_t) (seconds * 1e9 + 0.5);
        return 0;
}

/* Returns 0, or CTL_USAGE after the complaint. */
static int ping_parse(struct ping *ping, int argc, char *argv[]) {
        static const struct option names[] = {
                { "count", required_argument, NULL, 'c' },
                { "interval", required_argument, NULL, 'i' },
                { 0 },
        };
        int option, r = 0;

        opterr = 0;
        while (r == 0 && (option = getopt_long(argc, argv, ":c:i:", names, NULL)) != -1)
                switch (option) {
                case 'c':
                        r = ping_take_count(optarg, &ping->n_rounds);
                        break;
                case 'i':
                        r = ping_take_interval(optarg, &ping->interval_ns);
                        break;
                default:
                        return ctl_complain_option("ping", option, argv);
                }
        if (r == 0 && optind < argc)
                return ctl_complain_usage("ping", "ping: unexpected argument '%s'", argv[optind]);
        return r;
}

static void ping_deinit(struct ping *ping) {
        for (unsigned way = 0; way < PING_N_WAYS; way++)
                samples_deinit(&ping->samples[way]);
}

int ping_main(const struct ctl *ctl, int argc, char *argv[]) {
        cleanup(ping_deinit) struct ping ping = { .ctl = ctl, .n_rounds = PING_COUNT };
        int r;

        r = ping_parse(&ping, argc, argv);
        if (r != 0)
                return r;
        signal(SIGALRM, ping_late);
        for (unsigned way = 0; way < PING_N_WAYS; way++) {
                r = ping_way(&ping, way);
                alarm(0);
                if (r != 0)
                        return r;
        }
        if (ctl->is_quiet)
                return CTL_DONE;
        return ctl->is_json ? ping_print_json(&ping) : ping_print(&ping);
}
