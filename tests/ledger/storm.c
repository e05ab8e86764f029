/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The driver of a storm: starts a daemon, lets clients loose on it, kills some of them at random moments, and hands
 * what all of them wrote to the ledger, whose judgement is the result.
 *
 *   storm [--seed N] [--ops N] [--level N] [--mix] [--raw] [--plant FAULT] [--events DIRECTORY]
 *
 * --ops: operations after which everything ends. --level: of all clients; else each has one of its own. --mix: the
 * ledger demands the shares of the big storm. --plant: the daemon is started with this planted fault, and the storm
 * passes only if the ledger names it. --raw: only the client that does without the library takes part, so that the
 * fault meets it. --events: the event files are written to this directory, which must not exist, and stay, for `ledger
 * --show`.
 *
 * Invariant: the driver has one thread and holds every event file of the living, so it sees who makes progress. Who
 * makes none is stopped and named; nothing here waits without a limit.
 *
 *   slot: empty --driver forks--> running --driver: SIGKILL or leave--> empty, for the doomed
 *                                 running --is_over--> ended; or --no step within the patience--> stopped
 *
 * Rejected: driver and clients as threads of one process. A client that is killed must be a process, and its memory
 * must go with it while the kernel still writes there.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness/daemon.h"
#include "tests/harness/harness.h"
#include "tests/harness/netns.h"
#include "tests/ledger/storm.h"

#define STORM_OPTIONS "OVL_STORM" /* passes the options from main() to the case */
#define STORM_KILLED_SHARE 7      /* per cent of the posts that come from clients that are killed */
#define STORM_LOOK_MS 2

struct storm_options {
        uint64_t seed;
        uint64_t n_ops;
        int mix;
        int raw;
        int level;     /* -1: all of them */
        int output_fd; /* takes what the ledger says, also when all is well */
        char plant[32];
        char events[80];
};

struct storm_slot {
        pid_t pid; /* 0: empty */
        uint32_t client;
        unsigned n_journals;
        struct journal journals[STORM_WORKERS];
        uint64_t limit; /* posts after which a doomed client goes */
        uint64_t steps;
        uint64_t moved_ns;
        bool is_leaver;
        bool is_told;
};

struct storm {
        struct storm_options options;
        struct storm_random random;
        struct storm_board *board;
        struct daemon daemon;
        pid_t worker;           /* must be the same at the end */
        struct journal journal; /* the driver's own */
        char directory[128];
        uint32_t n_journals;
        uint32_t n_clients;
        uint32_t n_doomed;
        uint64_t n_killed_posts;
        unsigned patience_s;
        struct storm_slot slots[STORM_SLOTS];
};

/* --- Starting --------------------------------------------------------------------------------------------------- */

static void storm_open_journal(struct storm *storm, struct journal *journal, uint32_t client) {
        assert_ok(journal_create(journal, storm->directory, storm->n_journals++, client,
                                 4 * storm->options.n_ops + 4000000));
}

static int storm_child(struct storm *storm, unsigned at) {
        struct storm_slot *slot = &storm->slots[at];
        uint64_t seed = storm->options.seed * 1000003 + slot->client;
        struct storm_client *client;

        if (at == STORM_PEER)
                return storm_peer_run(storm->board, slot->journals, seed);
        if (at == STORM_RAW)
                return storm_raw_run(storm->board, slot->journals, storm->daemon.path, slot->client, seed,
                                     storm->options.level, storm->patience_s);
        client = calloc(1, sizeof(*client));
        if (!client)
                return STORM_EXIT_FAILED;
        client->board = storm->board;
        client->path = storm->daemon.path;
        client->journals = slot->journals;
        client->number = slot->client;
        client->slot = at;
        client->seed = seed;
        client->level = storm->options.level;
        client->is_leaver = slot->is_leaver;
        client->patience_s = storm->patience_s;
        return storm_client_run(client);
}

static void storm_start(struct storm *storm, unsigned at) {
        struct storm_slot *slot = &storm->slots[at];

        *slot = (struct storm_slot){ .client = at == STORM_PEER ? 0 : ++storm->n_clients };
        slot->is_leaver = at >= STORM_STEADY && at < STORM_PEER && storm->n_doomed++ % 4 == 3;
        slot->n_journals = at == STORM_PEER || at == STORM_RAW ? 1 : STORM_WORKERS;
        for (unsigned i = 0; i < slot->n_journals; i++)
                storm_open_journal(storm, &slot->journals[i], slot->client);
        storm->board->posts[at] = 0;
        storm->board->leave[at] = 0;
        slot->moved_ns = now_ns();
        fflush(NULL);
        slot->pid = fork();
        assert_true(slot->pid >= 0);
        if (slot->pid > 0)
                return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGABRT, SIG_DFL);
        _exit(storm_child(storm, at));
}

/* One in four leaves, the others are killed; both after a number of posts that the seed decides. */
static void storm_start_doomed(struct storm *storm, unsigned at) {
        uint64_t unit = storm->options.n_ops / 300;

        unit = unit < 100 ? 100 : unit > 800 ? 800 : unit;
        storm_start(storm, at);
        storm->slots[at].limit = unit + storm_random(&storm->random) % (3 * unit);
}

/* --- Watching --------------------------------------------------------------------------------------------------- */

/* Takes away what was meant for a process that is gone, and what it was writing. */
static void storm_empty_mail(struct storm *storm, unsigned at) {
        for (unsigned i = 0; i < STORM_SLOTS; i++) {
                struct storm_mail *mail = &storm->board->mail[i];
                uint32_t state = __atomic_load_n(&mail->state, __ATOMIC_ACQUIRE);
                bool is_writer = state == STORM_MAIL_WRITTEN && __atomic_load_n(&mail->from, __ATOMIC_RELAXED) == at;

                if (is_writer || (i == at && (state == STORM_MAIL_FULL || state == STORM_MAIL_READ)))
                        __atomic_store_n(&mail->state, STORM_MAIL_EMPTY, __ATOMIC_RELEASE);
        }
}

static void storm_empty(struct storm *storm, unsigned at) {
        struct storm_slot *slot = &storm->slots[at];

        slot->pid = 0;
        for (unsigned i = 0; i < slot->n_journals; i++)
                journal_close(&slot->journals[i]);
        __atomic_store_n(&storm->board->sessions[at], 0, __ATOMIC_RELAXED);
        memset(storm->board->handles[at], 0, sizeof(storm->board->handles[at]));
        storm_empty_mail(storm, at);
        if (at < STORM_PEER)
                for (unsigned i = 0; i < STORM_WORKERS * 2; i++) {
                        __atomic_store_n(&storm->board->places[at * STORM_WORKERS * 2 + i], 0, __ATOMIC_RELAXED);
                        __atomic_store_n(&storm->board->datagrams[at * STORM_WORKERS * 2 + i], 0, __ATOMIC_RELAXED);
                }
}

static void storm_kill(struct storm *storm, unsigned at, enum event_kind why) {
        struct storm_slot *slot = &storm->slots[at];

        storm_mark(&storm->journal, why, slot->client, 0, 0, 0);
        kill(slot->pid, SIGKILL);
        waitpid(slot->pid, NULL, 0);
        if (why == EVENT_KILLED)
                storm->n_killed_posts += __atomic_load_n(&storm->board->posts[at], __ATOMIC_RELAXED);
        storm_empty(storm, at);
}

/* Sees whether a process has ended, and how. */
static void storm_reap(struct storm *storm, unsigned at) {
        struct storm_slot *slot = &storm->slots[at];
        int status;

        if (waitpid(slot->pid, &status, WNOHANG) != slot->pid)
                return;
        if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != STORM_EXIT_MISSING))
                storm_mark(&storm->journal, EVENT_CRASHED, slot->client, 0, 0, status);
        storm_empty(storm, at);
}

static void storm_look(struct storm *storm, unsigned at) {
        struct storm_slot *slot = &storm->slots[at];
        uint64_t steps = __atomic_load_n(&storm->board->steps[at], __ATOMIC_RELAXED), now = now_ns();
        uint64_t posts = __atomic_load_n(&storm->board->posts[at], __ATOMIC_RELAXED);

        if (steps != slot->steps)
                slot->moved_ns = now;
        slot->steps = steps;
        if (slot->limit > 0 && posts >= slot->limit && !slot->is_leaver) {
                storm_kill(storm, at, EVENT_KILLED);
                return;
        }
        if (slot->limit > 0 && posts >= slot->limit && !slot->is_told) {
                __atomic_store_n(&storm->board->leave[at], 1, __ATOMIC_RELAXED);
                slot->is_told = true;
        }
        /* Whoever waits in vain for its own operations says so itself: it gets twice the time. */
        if (now > slot->moved_ns + 2 * storm->patience_s * NS_PER_S) {
                storm_kill(storm, at, EVENT_STUCK);
                return;
        }
        storm_reap(storm, at);
}

/* Nobody dies where a fault is planted: it might hit one whose death excuses it. */
static bool storm_wants_doomed(const struct storm *storm, uint64_t n_posts) {
        return !storm->options.raw && !storm->options.plant[0] &&
               storm->n_killed_posts * 100 < STORM_KILLED_SHARE * n_posts + 100;
}

/* Returns how many processes are left. */
static unsigned storm_turn(struct storm *storm) {
        uint64_t n_posts = __atomic_load_n(&storm->board->n_posts, __ATOMIC_RELAXED);
        unsigned n_left = 0;

        /* It goes on a little longer where too few were killed by then. */
        if (n_posts >= storm->options.n_ops &&
            (!storm_wants_doomed(storm, n_posts) || n_posts >= 2 * storm->options.n_ops))
                __atomic_store_n(&storm->board->is_over, 1, __ATOMIC_RELAXED);
        for (unsigned at = 0; at < STORM_SLOTS; at++) {
                if (storm->slots[at].pid > 0)
                        storm_look(storm, at);
                else if (at >= STORM_STEADY && at < STORM_PEER && !storm->board->is_over &&
                         storm_wants_doomed(storm, n_posts))
                        storm_start_doomed(storm, at);
                n_left += storm->slots[at].pid > 0;
        }
        poll(NULL, 0, STORM_LOOK_MS);
        return n_left;
}

/* Whether somebody who was to be there to the end is gone: then the rest need not go on. */
static bool storm_is_broken(const struct storm *storm) {
        for (unsigned at = 0; at < STORM_SLOTS; at++)
                if ((at < STORM_STEADY || at >= STORM_PEER) && storm->slots[at].n_journals > 0 &&
                    storm->slots[at].pid == 0)
                        return true;
        return false;
}

/* Datagrams of this machine for which there was no room where they were to be received, so far. */
static uint64_t storm_count_dropped(void) {
        static const char *const paths[] = { "/proc/net/snmp", "/proc/net/snmp6" };
        unsigned long long n, total = 0;
        char line[512];

        for (size_t i = 0; i < HARNESS_N(paths); i++) {
                FILE *file = fopen(paths[i], "re");

                while (file && fgets(line, sizeof(line), file))
                        if (sscanf(line, "Udp: %*u %*u %*u %*u %llu", &n) == 1 ||
                            sscanf(line, "Udp6RcvbufErrors %llu", &n) == 1)
                                total += n;
                if (file)
                        fclose(file);
        }
        return total;
}

/* --- Judging ---------------------------------------------------------------------------------------------------- */

static void storm_exec_ledger(const struct storm *storm) {
        static const char *const faults[][2] = { { "lost-record", "lost" },    { "doubled-record", "doubled" },
                                                 { "swapped-bytes", "bytes" }, { "swapped-datagram", "bytes" },
                                                 { "lost-apc", "lost" },       { "doubled-apc", "doubled" } };
        const char *program = getenv("OVL_TEST_LEDGER");
        const char *line[8] = { program };
        size_t n = 1;

        if (storm->options.mix)
                line[n++] = "--mix";
        for (size_t i = 0; i < HARNESS_N(faults); i++) {
                if (strcmp(storm->options.plant, faults[i][0]) != 0)
                        continue;
                line[n++] = "--expect";
                line[n++] = faults[i][1];
        }
        line[n] = storm->directory;
        dup2(storm->options.output_fd, STDOUT_FILENO);
        execv(program, (char **) line);
        fprintf(stderr, "cannot start the ledger, %s: %s\n", program, strerror(errno));
        _exit(127);
}

static int storm_judge(const struct storm *storm) {
        pid_t pid;
        int status;

        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                storm_exec_ledger(storm);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* --- The case --------------------------------------------------------------------------------------------------- */

static void storm_open(struct storm *storm) {
        const char *arguments[] = { "--plant", storm->options.plant, NULL };
        const char *slowness = getenv("OVL_TEST_SLOWNESS");

        /* A lost record is waited for in vain: not for long. */
        storm->patience_s = (strcmp(storm->options.plant, "lost-record") == 0 ? 3 : 15) *
                            (slowness && atoi(slowness) > 0 ? atoi(slowness) : 1);
        storm->random.state = storm->options.seed;
        snprintf(storm->directory, sizeof(storm->directory), "%s/events", harness_directory());
        if (strcmp(storm->options.events, "-") != 0)
                snprintf(storm->directory, sizeof(storm->directory), "%s", storm->options.events);
        assert_int_equal(mkdir(storm->directory, 0700), 0);
        storm->board = mmap(NULL, sizeof(*storm->board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(storm->board != MAP_FAILED);
        storm->board->goal = storm->options.n_ops;
        storm_open_journal(storm, &storm->journal, 0);
        journal_start(&storm->journal);
        daemon_start(&storm->daemon, storm->options.plant[0] ? arguments : NULL);
        storm->worker = daemon_worker(&storm->daemon);
        /* A planted fault is to meet the library, or else the one client without it. */
        if (!storm->options.plant[0] || storm->options.raw)
                storm_start(storm, STORM_RAW);
        if (storm->options.raw)
                return;
        storm_start(storm, STORM_PEER);
        for (unsigned at = 0; at < STORM_STEADY; at++)
                storm_start(storm, at);
}

static void test_storm(void **state) {
        struct storm storm = {};
        uint64_t started_ns = now_ns(), n_dropped;
        int r;

        /* What another storm sends to a port that was its own a moment ago must not come here. */
        netns_try_enter();
        n_dropped = storm_count_dropped();
        r = sscanf(getenv(STORM_OPTIONS), "%llu %llu %d %d %d %d %79s %31s", (unsigned long long *) &storm.options.seed,
                   (unsigned long long *) &storm.options.n_ops, &storm.options.mix, &storm.options.raw,
                   &storm.options.level, &storm.options.output_fd, storm.options.events, storm.options.plant);
        assert_true(r >= 7);
        storm_open(&storm);
        while (storm_turn(&storm) > 0)
                if (storm_is_broken(&storm))
                        __atomic_store_n(&storm.board->is_over, 1, __ATOMIC_RELAXED);
        r = waitpid(storm.daemon.monitor, NULL, WNOHANG) == 0 && kill(storm.worker, 0) == 0 ? 0 : -ESRCH;
        storm_mark(&storm.journal, EVENT_DROPPED, 0, 0, storm_count_dropped() - n_dropped, 0);
        storm_mark(&storm.journal, EVENT_DAEMON, 0, 0, 0, r);
        dprintf(storm.options.output_fd, "storm: seed %llu, %.1f s\n", (unsigned long long) storm.options.seed,
                (double) (now_ns() - started_ns) / (double) NS_PER_S);
        r = storm_judge(&storm);
        journal_close(&storm.journal);
        munmap(storm.board, sizeof(*storm.board));
        daemon_stop(&storm.daemon);
        assert_int_equal(r, 0);
}

/* --- The program ------------------------------------------------------------------------------------------------ */

/* What the ledger said, as comments of TAP. */
static void storm_print(int output_fd) {
        _cleanup_free_ char *text = NULL;
        off_t size = lseek(output_fd, 0, SEEK_END);
        char *line, *rest;

        text = calloc(1, (size_t) size + 1);
        if (!text || pread(output_fd, text, (size_t) size, 0) != size)
                return;
        for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
                printf("# %s\n", line);
}

static int storm_usage(void) {
        fprintf(stderr,
                "usage: storm [--seed N] [--ops N] [--level N] [--mix] [--raw] [--plant FAULT] [--events DIRECTORY]\n");
        return 2;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "seed", required_argument, NULL, 's' },   { "ops", required_argument, NULL, 'o' },
                { "level", required_argument, NULL, 'l' },  { "mix", no_argument, NULL, 'm' },
                { "raw", no_argument, NULL, 'r' },          { "plant", required_argument, NULL, 'p' },
                { "events", required_argument, NULL, 'e' }, {},
        };
        struct storm_options storm = {
                .n_ops = 100000, .seed = now_ns() ^ (uint64_t) getpid(), .events = "-", .level = -1
        };
        struct harness_test test = { "storm", test_storm, 0 };
        char text[256];
        int option, r;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                if (option == 's')
                        storm.seed = strtoull(optarg, NULL, 0);
                else if (option == 'o')
                        storm.n_ops = strtoull(optarg, NULL, 0);
                else if (option == 'l')
                        storm.level = atoi(optarg);
                else if (option == 'm')
                        storm.mix = 1;
                else if (option == 'r')
                        storm.raw = 1;
                else if (option == 'e')
                        snprintf(storm.events, sizeof(storm.events), "%s", optarg);
                else if (option == 'p')
                        snprintf(storm.plant, sizeof(storm.plant), "%s", optarg);
                else
                        return storm_usage();
        }
        storm.output_fd = memfd_create("storm", 0);
        if (storm.output_fd < 0 || optind != argc)
                return storm_usage();
        snprintf(text, sizeof(text), "%llu %llu %d %d %d %d %s %s", (unsigned long long) storm.seed,
                 (unsigned long long) storm.n_ops, storm.mix, storm.raw, storm.level, storm.output_fd, storm.events,
                 storm.plant);
        setenv(STORM_OPTIONS, text, 1);
        if (storm.plant[0])
                test.name = storm.plant;
        test.limit_s = 60 + (unsigned) (storm.n_ops / 2500);
        printf("# storm --seed %llu --ops %llu\n", (unsigned long long) storm.seed, (unsigned long long) storm.n_ops);
        fflush(stdout);
        r = harness_main(1, argv, &test, 1);
        storm_print(storm.output_fd);
        return r;
}
