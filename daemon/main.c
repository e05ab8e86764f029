/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command line: which role this process plays, and with which settings.
 *
 *   overlapd [OPTIONS]                            the system's daemon
 *   overlapd --private [OPTIONS] -- COMMAND...    a daemon for one command and as long as it runs
 *   overlapd --check-config                       reads the settings and says what is wrong
 *   overlapd --worker ...                         internal: how the monitor starts its workers
 *   overlapd --resolver                           internal: ... and its resolver
 *
 * Settings come from three places: built in, then the file, then the command line. Values on the command line are
 * checked when they are met, so that the error names the option, and applied after the file was read.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "daemon/monitor/config.h"
#include "daemon/monitor/monitor.h"
#include "daemon/monitor/policy-load.h"
#include "daemon/monitor/spawn.h"
#include "daemon/resolver/resolver.h"
#include "daemon/worker/worker.h"

#define MAIN_USAGE 2 /* exit status: the command line is wrong */

enum main_option {
        MAIN_SOCKET = 256,
        MAIN_ENGINE,
        MAIN_WORKERS,
        MAIN_LOG,
        MAIN_POLL,
        MAIN_POLICY,
        MAIN_CONFIG,
        MAIN_CHECK_CONFIG,
        MAIN_PRIVATE,
        MAIN_WORKER,
        MAIN_RESOLVER,
        MAIN_PLANT,
        MAIN_FEATURES,
        MAIN_VERSION,
        MAIN_HELP,
};

struct main_arguments {
        const char *values[CONFIG_N_KEYS]; /* of --socket and so on; NULL: not given */
        const char *config_path;           /* NULL: not given */
        const char *plant;
        const char *features;
        bool is_private;
        bool is_worker;
        bool is_resolver;
        bool is_check;
        char **command; /* NULL: none */
};

static void main_print_help(void) {
        printf("Usage: overlapd [OPTIONS]\n"
               "       overlapd --private [OPTIONS] -- COMMAND [ARGS...]\n"
               "\n"
               "Owns sockets and performs overlapped I/O on them for other processes.\n"
               "\n"
               "  --socket PATH       where clients connect (%s)\n"
               "  --engine ENGINE     what performs the I/O: uring, epoll, or auto, which is uring\n"
               "                      where it can be had (auto)\n"
               "  --workers N         processes that serve, 1 to 64 (1)\n"
               "  --log TARGET        journal or stderr (the journal, where stderr leads there)\n"
               "  --poll-us N         microseconds that a worker looks for work before it sleeps, while that pays,\n"
               "                      0 to 1000 (50)\n"
               "  --policy POLICY     whose rules hold: system (those of the machine), a directory of rules, or own: "
               "the\n"
               "                      user who runs overlapd may do what it could do itself (system, or own where\n"
               "                      --socket or --private is given)\n"
               "  --config FILE       settings (%s, and what overrules it)\n"
               "  --check-config      read the settings, say OK or what is wrong, and exit with 0 or 1\n"
               "  --private           run COMMAND with a daemon of its own, without root: OVERLAPD_SOCKET tells it "
               "where;\n"
               "                      exit with its status\n"
               "  --version\n"
               "  --help\n",
               CONFIG_SOCKET, CONFIG_PATH);
}

__attribute__((format(printf, 1, 2))) static int main_complain(const char *format, ...) {
        va_list arguments;

        fprintf(stderr, "overlapd: ");
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fprintf(stderr, "\nTry 'overlapd --help'.\n");
        return -EINVAL;
}

/* Descriptors 0 to 2 must be something, or the first sockets would take their numbers. */
static int main_open_standard(void) {
        int fd;

        do {
                fd = open("/dev/null", O_RDWR | O_CLOEXEC);
                if (fd < 0)
                        return -errno;
        } while (fd <= STDERR_FILENO && fcntl(fd, F_SETFD, 0) >= 0);
        close(fd);
        return 0;
}

static int main_take_value(struct main_arguments *arguments, enum config_key key, const char *option) {
        struct config scratch;
        const char *allowed;
        int r;

        config_init(&scratch);
        r = config_set(&scratch, key, optarg, &allowed);
        if (r < 0 && key == CONFIG_KEY_SOCKET && optarg[0] == '/')
                return main_complain("--%s: the path has %zu bytes, at most %u are possible: %s", option,
                                     strlen(optarg), CONFIG_SOCKET_PATH_MAX, optarg);
        if (r < 0)
                return main_complain("--%s %s: must be %s", option, optarg, allowed);
        arguments->values[key] = optarg;
        return 0;
}

static int main_take_plant(struct main_arguments *arguments) {
#ifdef OVL_TEST_HOOKS
        static const char *const plants[] = { "lost-record",      "doubled-record", "swapped-bytes",
                                              "swapped-datagram", "lost-apc",       "doubled-apc" };

        for (size_t i = 0; i < sizeof(plants) / sizeof(plants[0]); i++)
                if (strcmp(optarg, plants[i]) == 0) {
                        arguments->plant = plants[i];
                        return 0;
                }
        return main_complain("--plant %s: must be lost-record, doubled-record, swapped-bytes, swapped-datagram, "
                             "lost-apc or doubled-apc",
                             optarg);
#else
        return main_complain("--plant: only builds with test hooks have it");
#endif
}

static int main_take_features(struct main_arguments *arguments) {
#ifdef OVL_TEST_HOOKS
        arguments->features = optarg;
        return 0;
#else
        return main_complain("--features: only builds with test hooks have it");
#endif
}

/* Returns 1 when all is done (the help was printed), 0 to go on, or -EINVAL after the complaint. */
static int main_take_option(struct main_arguments *arguments, int option) {
        switch (option) {
        case MAIN_SOCKET:
                return main_take_value(arguments, CONFIG_KEY_SOCKET, "socket");
        case MAIN_ENGINE:
                return main_take_value(arguments, CONFIG_KEY_ENGINE, "engine");
        case MAIN_WORKERS:
                return main_take_value(arguments, CONFIG_KEY_WORKERS, "workers");
        case MAIN_LOG:
                return main_take_value(arguments, CONFIG_KEY_LOG, "log");
        case MAIN_POLL:
                return main_take_value(arguments, CONFIG_KEY_POLL, "poll-us");
        case MAIN_POLICY:
                return main_take_value(arguments, CONFIG_KEY_POLICY, "policy");
        case MAIN_CONFIG:
                arguments->config_path = optarg;
                return 0;
        case MAIN_CHECK_CONFIG:
                arguments->is_check = true;
                return 0;
        case MAIN_PRIVATE:
                arguments->is_private = true;
                return 0;
        case MAIN_WORKER:
                arguments->is_worker = true;
                return 0;
        case MAIN_RESOLVER:
                arguments->is_resolver = true;
                return 0;
        case MAIN_PLANT:
                return main_take_plant(arguments);
        case MAIN_FEATURES:
                return main_take_features(arguments);
        case MAIN_VERSION:
                printf("overlapd %s\n", OVERLAPD_VERSION);
                return 1;
        case MAIN_HELP:
                main_print_help();
                return 1;
        default:
                return -EINVAL;
        }
}

static int main_check_arguments(const struct main_arguments *arguments) {
        if (arguments->is_private && arguments->values[CONFIG_KEY_SOCKET])
                return main_complain("--socket and --private contradict each other: a private daemon chooses its path "
                                     "and tells it in OVERLAPD_SOCKET");
        if (arguments->is_private && arguments->is_check)
                return main_complain("--check-config and --private contradict each other");
        if (arguments->is_private && !arguments->command)
                return main_complain("--private needs a command: overlapd --private -- COMMAND [ARGS...]");
        if (!arguments->is_private && arguments->command)
                return main_complain("unexpected argument '%s': a command goes only with --private",
                                     arguments->command[0]);
        return 0;
}

/* Returns as main_take_option(). */
static int main_parse(int argc, char **argv, struct main_arguments *arguments) {
        static const struct option options[] = {
                { "socket", required_argument, NULL, MAIN_SOCKET },
                { "engine", required_argument, NULL, MAIN_ENGINE },
                { "workers", required_argument, NULL, MAIN_WORKERS },
                { "log", required_argument, NULL, MAIN_LOG },
                { "poll-us", required_argument, NULL, MAIN_POLL },
                { "policy", required_argument, NULL, MAIN_POLICY },
                { "config", required_argument, NULL, MAIN_CONFIG },
                { "check-config", no_argument, NULL, MAIN_CHECK_CONFIG },
                { "private", no_argument, NULL, MAIN_PRIVATE },
                { "worker", no_argument, NULL, MAIN_WORKER },
                { "resolver", no_argument, NULL, MAIN_RESOLVER },
                { "plant", required_argument, NULL, MAIN_PLANT },
                { "features", required_argument, NULL, MAIN_FEATURES },
                { "version", no_argument, NULL, MAIN_VERSION },
                { "help", no_argument, NULL, MAIN_HELP },
                { 0 },
        };
        int option, r;

        opterr = 0;
        while ((option = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
                if (option == ':')
                        return main_complain("%s needs a value", argv[optind - 1]);
                if (option == '?')
                        return main_complain(
                                "unknown option '%s'; allowed are --socket, --engine, --workers, --log, "
                                "--poll-us, --policy, --config, --check-config, --private, --version, --help",
                                argv[optind - 1]);
                r = main_take_option(arguments, option);
                if (r != 0)
                        return r;
        }
        if (optind < argc)
                arguments->command = argv + optind;
        return main_check_arguments(arguments);
}

/* A private daemon does not read the system's file: it was not written for it. */
static const char *main_config_path(const struct main_arguments *arguments) {
        if (arguments->config_path)
                return arguments->config_path;
        return arguments->is_private ? NULL : CONFIG_PATH;
}

static int main_load(const struct main_arguments *arguments, struct config *config) {
        const char *path = main_config_path(arguments);
        _cleanup_free_ char *errors = NULL;
        const char *allowed;
        int r;

        config_init(config);
        if (arguments->is_private)
                config->log = JOURNAL_TO_STDERR;
        if (path) {
                r = config_load(config, path, arguments->config_path, &errors);
                if (r < 0) {
                        fprintf(stderr, "%s", errors ? errors : "overlapd: no memory to read the settings\n");
                        return r;
                }
        }
        /* Who starts it by hand, somewhere else, starts it for himself. */
        if (!config->is_set[CONFIG_KEY_POLICY] && (arguments->is_private || arguments->values[CONFIG_KEY_SOCKET])) {
                strcpy(config->policy, "own");
                config_place(config, CONFIG_KEY_POLICY, "because of %s",
                             arguments->is_private ? "--private" : "--socket");
        }
        for (int key = 0; key < CONFIG_N_KEYS; key++) {
                if (!arguments->values[key])
                        continue;
                r = config_set(config, (enum config_key) key, arguments->values[key], &allowed);
                if (r < 0)
                        return r;
                config_place(config, (enum config_key) key, "command line");
        }
        return 0;
}

/* Whether the monitor started this process. */
static bool main_has_link(void) {
        socklen_t len = sizeof(int);
        int type;

        return getsockopt(SPAWN_LINK_FD, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
}

static int main_run_resolver(void) {
        if (!main_has_link()) {
                main_complain("--resolver is internal: overlapd starts its resolver itself");
                return MAIN_USAGE;
        }
        prctl(PR_SET_NAME, "overlapd-names");
        return resolver_run(SPAWN_LINK_FD);
}

static int main_run_worker(const struct main_arguments *arguments) {
        struct worker_options options = {
                .link_fd = SPAWN_LINK_FD,
                .plant = arguments->plant,
                .features = arguments->features,
        };

        if (!main_has_link()) {
                main_complain("--worker is internal: overlapd starts its workers itself");
                return MAIN_USAGE;
        }
        prctl(PR_SET_NAME, "overlapd-worker"); /* it was started as /proc/self/exe */
        options.engine = arguments->values[CONFIG_KEY_ENGINE] ? arguments->values[CONFIG_KEY_ENGINE] : "auto";
        if (arguments->values[CONFIG_KEY_POLL])
                options.poll_us = (unsigned) strtoul(arguments->values[CONFIG_KEY_POLL], NULL, 10);
        return worker_run(&options);
}

/* The directories that the setting names. */
static struct rulings_source main_policy(const struct config *config, const char *directories[2]) {
        struct rulings_source source = { .directories = directories, .is_own = strcmp(config->policy, "own") == 0 };

        directories[0] = directories[1] = NULL;
        if (config->policy[0] == '/')
                directories[0] = config->policy;
        else if (!source.is_own)
                source.directories = policy_system_directories;
        return source;
}

/* Reads the rules as a start would. */
static int main_check_policy(const struct rulings_source *source) {
        _cleanup_free_ char *errors = NULL;
        struct policy *policy;
        int r;

        r = policy_load(source->directories, &policy, &errors);
        if (r < 0) {
                fprintf(stderr, "%s", errors ? errors : "overlapd: no memory to read the policy\n");
                return r;
        }
        policy_free(policy);
        return 0;
}

static int main_run_monitor(const struct main_arguments *arguments) {
        const char *directories[2];
        struct monitor_options options = {
                .config_path = main_config_path(arguments),
                .is_config_required = arguments->config_path,
                .is_log_given = arguments->values[CONFIG_KEY_LOG],
                .command = arguments->command,
                .plant = arguments->plant,
                .features = arguments->features,
        };

        if (main_load(arguments, &options.config) < 0)
                return 1;
        options.policy = main_policy(&options.config, directories);
        if (arguments->is_check) {
                if (main_check_policy(&options.policy) < 0)
                        return 1;
                puts("OK");
                return 0;
        }
#ifdef OVL_TEST_HOOKS
        /* The value stays readable after its name is gone from the environment. */
        options.killpoint = getenv("OVL_TEST_KILLPOINT");
        unsetenv("OVL_TEST_KILLPOINT");
#endif
        return monitor_run(&options);
}

int main(int argc, char **argv) {
        struct main_arguments arguments = { 0 };
        int r;

        if (argc < 1 || !argv[0])
                return MAIN_USAGE;
        if (main_open_standard() < 0)
                return 1;
        r = main_parse(argc, argv, &arguments);
        if (r < 0)
                return MAIN_USAGE;
        if (r > 0)
                return 0;
        if (arguments.is_resolver)
                return main_run_resolver();
        return arguments.is_worker ? main_run_worker(&arguments) : main_run_monitor(&arguments);
}
