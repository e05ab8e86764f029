/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl: what administrators ask of overlapd. One verb, one file; the table below is all that joins them.
 *
 * The common options may stand anywhere: main.c takes them out, and the verb sees what is left.
 *
 * Invariant: the exit status says what happened (enum ctl_exit), so that a script never has to read what is printed;
 * and output that could not be written is a failure.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/ctl.h"

#define MAIN_SOCKET "/run/overlapd/overlapd.sock"
#define MAIN_BESIDE "/overlapd.sock"
#define MAIN_ADMIN "/admin.sock"

struct main_verb {
        const char *name;
        const char *summary;
        ctl_verb_main *main;
        const char *help;
};

static const struct main_verb main_verbs[] = {
        { "doctor", "what keeps programs from using it here, or makes it slow, and the repair", doctor_main,
          doctor_help },
        { "log", "what the daemon wrote into the journal", log_main, log_help },
        { "ping", "what a round trip to the daemon costs", ping_main, ping_help },
        { "top", "who moves how much at this time", top_main, top_help },
        { "status", "whether the daemon serves, on which engine and why, and how much it does", status_main,
          status_help },
        { "list", "sessions, sockets, operations, ports, threads or quotas, and whose they are", list_main, list_help },
        { "policy", "what the policy allows, and which rule says so", policy_main, policy_help },
        { "metrics", "the counters, as OpenMetrics text", metrics_main, metrics_help },
        { "config", "the settings that are in force, and where each is from", config_main, config_help },
};

#define MAIN_N_VERBS (sizeof(main_verbs) / sizeof(main_verbs[0]))

struct main_given {
        struct ctl ctl;
        bool is_help;
        bool is_version;
};

static void main_write_line(const char *format, va_list arguments) {
        char line[1024] = "overlapctl: ";
        size_t at = strlen(line);
        ssize_t n;

        vsnprintf(line + at, sizeof(line) - at - 1, format, arguments);
        for (; line[at]; at++)
                if ((unsigned char) line[at] < 0x20 || line[at] == 0x7f)
                        line[at] = '?';
        line[at++] = '\n';
        n = write(STDERR_FILENO, line, at);
        (void) n; /* there is no other place to say it */
}

void ctl_complain(const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        main_write_line(format, arguments);
        va_end(arguments);
}

int ctl_complain_usage(const char *verb, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        main_write_line(format, arguments);
        va_end(arguments);
        ctl_complain("Try 'overlapctl %s%s--help'.", verb ? verb : "", verb ? " " : "");
        return CTL_USAGE;
}

int ctl_complain_option(const char *verb, int option, char *argv[]) {
        const char *given = argv[optind - 1];

        if (option == ':')
                return ctl_complain_usage(verb, "%s: %s needs a value", verb, given);
        if (optopt == 0) /* a long one */
                return ctl_complain_usage(verb, "%s: unknown option '%s'", verb, given);
        if (strncmp(given, "--", 2) == 0 && strchr(given, '='))
                return ctl_complain_usage(verb, "%s: %s: this option takes no value", verb, given);
        return ctl_complain_usage(verb, "%s: unknown option '-%c'", verb, optopt); /* one of several letters, perhaps */
}

int ctl_take_nothing(int argc, char *argv[]) {
        static const struct option none[] = { { 0 } };
        int option;

        opterr = 0;
        option = getopt_long(argc, argv, ":", none, NULL);
        if (option != -1)
                return ctl_complain_option(argv[0], option, argv);
        if (optind < argc)
                return ctl_complain_usage(argv[0], "%s: unexpected argument '%s'", argv[0], argv[optind]);
        return 0;
}

static void main_print_help(void) {
        puts("Usage: overlapctl [OPTIONS] VERB [ARGUMENTS]\n"
             "\n"
             "Asks a running overlapd what it does.\n");
        for (size_t i = 0; i < MAIN_N_VERBS; i++)
                printf("  %-10s %s\n", main_verbs[i].name, main_verbs[i].summary);
        puts("\n"
             "  --admin PATH    where administrators connect (admin.sock beside overlapd.sock, or the other's path\n"
             "                  and .admin)\n"
             "  --socket PATH   where clients connect ($OVERLAPD_SOCKET, or " MAIN_SOCKET ")\n"
             "  --json          for programs: one JSON document\n"
             "  --quiet         nothing but errors and the exit status\n"
             "  --version\n"
             "  --help          with a verb: of that verb\n"
             "\n"
             "Exit status: 0 done or yes, 1 no (denied by the policy, not healthy, nothing found), 2 the command line\n"
             "is wrong, 3 overlapd cannot be reached, may not be asked, or was lost.");
}

/*
 * Takes "--name PATH" or "--name=PATH". Returns how many arguments that were, 0 when it is something else, or -EINVAL
 * where there is no path.
 */
static int main_take_path(char **argv, const char *name, const char **ret_value) {
        size_t len = strlen(name);

        if (strncmp(argv[0], name, len) != 0)
                return 0;
        if (argv[0][len] == '=') {
                *ret_value = argv[0] + len + 1;
                return **ret_value ? 1 : -EINVAL;
        }
        if (argv[0][len] != '\0')
                return 0;
        *ret_value = argv[1];
        return argv[1] && *argv[1] ? 2 : -EINVAL;
}

/* Returns how many arguments were taken, 0 for none of the common options, or -EINVAL after the complaint. */
static int main_take_option(struct main_given *given, char **argv) {
        int n;

        n = main_take_path(argv, "--socket", &given->ctl.socket_path);
        if (n == 0)
                n = main_take_path(argv, "--admin", &given->ctl.admin_path);
        if (n != 0)
                return n;
        if (strcmp(argv[0], "--json") == 0)
                given->ctl.is_json = true;
        else if (strcmp(argv[0], "--quiet") == 0)
                given->ctl.is_quiet = true;
        else if (strcmp(argv[0], "--help") == 0)
                given->is_help = true;
        else if (strcmp(argv[0], "--version") == 0)
                given->is_version = true;
        else
                return 0;
        return 1;
}

/* Takes the common options out of argv, which becomes shorter. Returns its new length, or -EINVAL. */
static int main_take_options(struct main_given *given, int argc, char **argv) {
        int n_left = 1;

        for (int i = 1; i < argc;) {
                int n = strcmp(argv[i], "--") == 0 ? -ENOENT : main_take_option(given, argv + i);

                if (n == -EINVAL) {
                        ctl_complain_usage(NULL, "%s needs a path", argv[i]);
                        return n;
                }
                if (n > 0) {
                        i += n;
                        continue;
                }
                do
                        argv[n_left++] = argv[i++];
                while (n == -ENOENT && i < argc);
        }
        argv[n_left] = NULL;
        return n_left;
}

/* As the daemon chooses it: admin.sock beside overlapd.sock, else the same name with .admin behind it. */
static char *main_admin_path(const char *socket_path) {
        size_t len = strlen(socket_path), end_len = strlen(MAIN_BESIDE);
        char *path;
        int n;

        if (len >= end_len && strcmp(socket_path + len - end_len, MAIN_BESIDE) == 0)
                n = asprintf(&path, "%.*s" MAIN_ADMIN, (int) (len - end_len), socket_path);
        else
                n = asprintf(&path, "%s.admin", socket_path);
        return n < 0 ? NULL : path;
}

static const struct main_verb *main_find_verb(const char *name) {
        for (size_t i = 0; i < MAIN_N_VERBS; i++)
                if (strcmp(main_verbs[i].name, name) == 0)
                        return &main_verbs[i];
        return NULL;
}

static int main_complain_verb(const char *name) {
        char known[256] = "";
        size_t at = 0;

        for (size_t i = 0; i < MAIN_N_VERBS && at < sizeof(known); i++)
                at += (size_t) snprintf(known + at, sizeof(known) - at, "%s%s", i ? ", " : "", main_verbs[i].name);
        if (name[0] == '-')
                return ctl_complain_usage(NULL,
                                          "unknown option '%s'; before the verb are allowed --admin, --socket, --json, "
                                          "--quiet, --version, --help",
                                          name);
        return ctl_complain_usage(NULL, "unknown verb '%s'; there are: %s", name, known);
}

static int main_run(struct main_given *given, int argc, char **argv) {
        const struct main_verb *verb = argc > 1 ? main_find_verb(argv[1]) : NULL;
        char *own_admin_path = NULL;
        int status;

        if (given->is_version) {
                printf("overlapctl %s\n", OVERLAPD_VERSION);
                return CTL_DONE;
        }
        if (argc > 1 && !verb)
                return main_complain_verb(argv[1]);
        if (given->is_help && verb)
                fputs(verb->help, stdout);
        else if (given->is_help)
                main_print_help();
        if (given->is_help)
                return CTL_DONE;
        if (!verb)
                return ctl_complain_usage(NULL, "what shall be asked? Name a verb");
        if (!given->ctl.socket_path)
                given->ctl.socket_path = getenv("OVERLAPD_SOCKET");
        if (!given->ctl.socket_path || given->ctl.socket_path[0] == '\0')
                given->ctl.socket_path = MAIN_SOCKET;
        if (!given->ctl.admin_path)
                given->ctl.admin_path = own_admin_path = main_admin_path(given->ctl.socket_path);
        if (!given->ctl.admin_path) {
                ctl_complain("no memory");
                return CTL_FAILED;
        }
        optind = 1;
        status = verb->main(&given->ctl, argc - 1, argv + 1);
        free(own_admin_path);
        return status;
}

/*
 * A standard descriptor that is closed would be the number of the next socket, and what is printed would go to the
 * daemon. What stands in for it can only be used the other way, so that writing still fails. Returns 0 or -errno.
 */
static int main_fill_standard(void) {
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
                        return -errno;
        return 0;
}

int main(int argc, char **argv) {
        struct main_given given = { 0 };
        int status;

        if (argc < 1)
                return CTL_USAGE;
        if (main_fill_standard() < 0)
                return CTL_FAILED;
        signal(SIGPIPE, SIG_IGN);
        argc = main_take_options(&given, argc, argv);
        if (argc < 0)
                return CTL_USAGE;
        status = main_run(&given, argc, argv);
        if (fflush(stdout) == EOF || ferror(stdout)) {
                if (errno != EPIPE)
                        ctl_complain("standard output: %s", strerror(errno));
                return CTL_FAILED;
        }
        return status;
}
