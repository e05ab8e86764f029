/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sim [--seed N | --seeds A..B] [--steps N] [--trace] [--plant FAULT] [--find]
 *
 * Runs the worker in a simulated world, once for each seed, each run in a process of its own: a crash is a finding like
 * any other, and a leak is counted for the run that made it. A seed that fails is printed with the command that runs it
 * again. With --find some seed must fail: so the planted faults prove that the oracle sees them.
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/check.h"
#include "tests/sim/model.h"

struct sim_options {
        uint64_t first;
        uint64_t last;
        const char *plant;
        bool is_finding;
        struct world_options world;
};

static int sim_parse_plant(const char *name, enum plant *ret_plant) {
        static const struct {
                const char *name;
                enum plant plant;
        } plants[] = {
                { "lost-record", PLANT_LOST_RECORD },
                { "doubled-record", PLANT_DOUBLED_RECORD },
                { "swapped-bytes", PLANT_SWAPPED_BYTES },
        };

        for (size_t i = 0; i < sizeof(plants) / sizeof(plants[0]); i++) {
                if (strcmp(plants[i].name, name) == 0) {
                        *ret_plant = plants[i].plant;
                        return 0;
                }
        }
        return -EINVAL;
}

static int sim_parse(int argc, char **argv, struct sim_options *ret_options) {
        static const struct option known[] = {
                { "seed", required_argument, NULL, 's' },
                { "seeds", required_argument, NULL, 'r' },
                { "steps", required_argument, NULL, 'n' },
                { "plant", required_argument, NULL, 'p' },
                { "trace", no_argument, NULL, 't' },
                { "find", no_argument, NULL, 'f' },
                { NULL, 0, NULL, 0 },
        };
        struct sim_options options = { .first = 1, .last = 100 };
        unsigned long long first, last;
        int c;

        while ((c = getopt_long(argc, argv, "", known, NULL)) >= 0) {
                switch (c) {
                case 's':
                        options.first = options.last = strtoull(optarg, NULL, 0);
                        break;
                case 'r':
                        if (sscanf(optarg, "%llu..%llu", &first, &last) != 2)
                                return -EINVAL;
                        options.first = first;
                        options.last = last;
                        break;
                case 'n':
                        options.world.n_steps = (unsigned) strtoul(optarg, NULL, 0);
                        break;
                case 'p':
                        options.plant = optarg;
                        if (sim_parse_plant(optarg, &options.world.plant) < 0)
                                return -EINVAL;
                        break;
                case 't':
                        options.world.is_traced = true;
                        break;
                case 'f':
                        options.is_finding = true;
                        break;
                default:
                        return -EINVAL;
                }
        }
        *ret_options = options;
        return optind == argc ? 0 : -EINVAL;
}

/* One run in a process of its own. Returns its wait status. */
static int sim_run(const struct world_options *options, struct tally *tally) {
        int status;
        pid_t pid;

        fflush(stdout);
        pid = fork();
        if (pid < 0)
                abort();
        if (pid == 0) {
                world_run(options, tally);
                exit(EXIT_SUCCESS);
        }
        while (waitpid(pid, &status, 0) < 0) {
                if (errno != EINTR)
                        abort();
        }
        return status;
}

static void sim_report(const struct sim_options *options, const char *program, uint64_t seed, int status) {
        if (WIFSIGNALED(status))
                fprintf(stderr, "seed %llu: killed by signal %d (%s)\n", (unsigned long long) seed, WTERMSIG(status),
                        strsignal(WTERMSIG(status)));
        else
                fprintf(stderr, "seed %llu: exit status %d\n", (unsigned long long) seed, WEXITSTATUS(status));
        fprintf(stderr, "again: %s --seed %llu", program, (unsigned long long) seed);
        if (options->world.n_steps)
                fprintf(stderr, " --steps %u", options->world.n_steps);
        if (options->plant)
                fprintf(stderr, " --plant %s", options->plant);
        fprintf(stderr, "\n");
}

/* clang-format off */
#define TALLY_FIELDS(X)                                                                                                \
        X(n_entries)                                                                                                   \
        X(n_done)                                                                                                      \
        X(n_peeked)                                                                                                    \
        X(n_polled)                                                                                                    \
        X(n_vectors)                                                                                                   \
        X(n_whole)                                                                                                     \
        X(n_refused)                                                                                                   \
        X(n_credit_refusals)                                                                                           \
        X(n_cancelled)                                                                                                 \
        X(n_partly_cancelled)                                                                                          \
        X(n_broken)                                                                                                    \
        X(n_wanting)                                                                                                   \
        X(n_ends_of_stream)                                                                                            \
        X(n_accepted)                                                                                                  \
        X(n_prepared)                                                                                                  \
        X(n_first)                                                                                                     \
        X(n_disconnected)                                                                                              \
        X(n_connected)                                                                                                 \
        X(n_through_ports)                                                                                             \
        X(n_inherited)                                                                                                 \
        X(n_settled)                                                                                                   \
        X(n_kicked)                                                                                                    \
        X(n_half_closed)                                                                                               \
        X(n_vanished)                                                                                                  \
        X(n_held)                                                                                                      \
        X(n_starved)                                                                                                   \
        X(n_unpaid)                                                                                                    \
        X(n_quotas)                                                                                                    \
        X(n_merged)                                                                                                    \
        X(n_bytes)                                                                                                     \
        X(n_connect_cancels)                                                                                           \
        X(engine.n_requests)                                                                                           \
        X(engine.n_faults)                                                                                             \
        X(engine.n_resets)                                                                                             \
        X(engine.n_late_cancels)                                                                                       \
        X(engine.n_cancels)                                                                                            \
        X(engine.n_short)
/* clang-format on */

/* Prints what has happened. Returns whether everything did that a hundred runs should bring about. */
static bool sim_print_tally(const struct tally *tally) {
        bool is_complete = true;

        printf("%llu runs\n", (unsigned long long) tally->n_runs);
#define TALLY_PRINT(field)                                                                                             \
        printf("  %-24s %llu\n", #field, (unsigned long long) tally->field);                                           \
        is_complete = is_complete && tally->field > 0;
        TALLY_FIELDS(TALLY_PRINT)
#undef TALLY_PRINT
        return is_complete;
}

/* Runs all seeds. Returns how many failed. */
static uint64_t sim_run_all(const struct sim_options *options, const char *program, struct tally *tally) {
        uint64_t n_failed = 0;

        for (uint64_t seed = options->first; seed <= options->last; seed++) {
                struct world_options world = options->world;
                int status;

                world.seed = seed;
                status = sim_run(&world, tally);
                if (status == 0)
                        continue;
                n_failed++;
                sim_report(options, program, seed, status);
        }
        return n_failed;
}

/*
 * Looks for a seed that the oracle, not a crash, fails because of the planted fault: the same seed must pass without.
 * Returns whether there is one.
 */
static bool sim_find(const struct sim_options *options, const char *program, struct tally *tally) {
        for (uint64_t seed = options->first; seed <= options->last; seed++) {
                struct world_options world = options->world;
                int status;

                world.seed = seed;
                status = sim_run(&world, tally);
                if (status == 0)
                        continue;
                sim_report(options, program, seed, status);
                if (!WIFEXITED(status) || WEXITSTATUS(status) != CHECK_FOUND)
                        return false;
                world.plant = PLANT_NONE;
                return sim_run(&world, tally) == 0;
        }
        return false;
}

int main(int argc, char **argv) {
        struct sim_options options;
        struct tally *tally;
        uint64_t n_failed;
        bool is_complete;

        if (sim_parse(argc, argv, &options) < 0) {
                fprintf(stderr, "usage: %s [--seed N | --seeds A..B] [--steps N] [--trace] [--plant FAULT] [--find]\n",
                        argv[0]);
                return 2;
        }
        tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (tally == MAP_FAILED)
                abort();
        if (options.is_finding) {
                bool is_found = sim_find(&options, argv[0], tally);

                printf("%s: %s\n", options.plant ? options.plant : "nothing is planted",
                       is_found ? "found" : "not found");
                return is_found ? EXIT_SUCCESS : EXIT_FAILURE;
        }
        n_failed = sim_run_all(&options, argv[0], tally);
        is_complete = sim_print_tally(tally);
        if (options.last - options.first >= 99 && !is_complete) {
                fprintf(stderr, "some of this never happened: these seeds prove too little\n");
                return EXIT_FAILURE;
        }
        return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
