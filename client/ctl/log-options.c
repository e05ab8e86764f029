/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command line of overlapctl log. Letters mean what they mean to journalctl(1) where it has them, so that nobody
 * has to learn two. Options that contradict each other are errors and name both.
 */

#include "client/ctl/log-options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/ctl/ctl.h"
#include "client/ctl/when.h"

#define LOG_LINES 100u /* that are shown where neither a number nor a time was given */
#define LOG_LINES_FOLLOWED 10u

const char log_help[] =
        "Usage: overlapctl log [OPTIONS]\n"
        "\n"
        "Shows what the daemon wrote into the journal: when, what happened, to whom, and what it was about.\n"
        "\n"
        "  -f, --follow         go on with what comes\n"
        "  -n, --lines N        the last N lines, or all (100; with -f 10; with -S all)\n"
        "  -S, --since TIME     not what is older\n"
        "  -U, --until TIME     not what is newer\n"
        "  -u, --unit UNIT      about clients of this unit\n"
        "      --user USER      about clients of this user\n"
        "  -s, --session N      about this session\n"
        "  -r, --refused        what was refused\n"
        "  -D, --directory DIR  of these files, as of another machine\n"
        "      --file FILE      of this file; can be given more than once\n"
        "      --own            of this user's own service\n"
        "      --any            of any daemon: anybody may write lines that look like one's\n"
        "\n"
        "TIME: " WHEN_FORMS ".\n"
        "With --json each line is an object. Exit status: 1 also when nothing is found.\n";

enum {
        LOG_OPTION_USER = 256,
        LOG_OPTION_FILE,
        LOG_OPTION_OWN,
        LOG_OPTION_ANY,
};

static uint64_t log_options_now_us(void) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

static int log_options_take_time(const char *option, const char *value, uint64_t *ret_us) {
        if (when_parse(value, log_options_now_us(), ret_us) < 0)
                return ctl_complain_usage("log", "%s %s: must be a time: %s", option, value, WHEN_FORMS);
        return 0;
}

static int log_options_take_lines(struct log_options *options, const char *value) {
        unsigned long n;
        char *end;

        options->has_lines = true;
        options->n_lines = LOG_ALL;
        if (strcmp(value, "all") == 0)
                return 0;
        errno = 0;
        n = strtoul(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end || errno || n > INT_MAX)
                return ctl_complain_usage("log", "-n %s: must be a number of lines from 0 to %d, or all", value,
                                          INT_MAX);
        options->n_lines = n;
        return 0;
}

/* As it is shown: 16 hexadecimal digits, of which zeros at the beginning may be missing. */
static int log_options_take_session(struct log_options *options, const char *value) {
        size_t len = strlen(value);

        if (len == 0 || len > 16 || value[strspn(value, "0123456789abcdefABCDEF")])
                return ctl_complain_usage("log",
                                          "-s %s: must be the number of a session as it is shown: up to 16 "
                                          "hexadecimal digits",
                                          value);
        snprintf(options->session, sizeof(options->session), "%016llx", strtoull(value, NULL, 16));
        return 0;
}

static int log_options_take_file(struct log_options *options, const char *value) {
        if (options->n_files == LOG_FILES_MAX)
                return ctl_complain_usage("log",
                                          "--file %s: there are %u already, and no more are taken; -D takes a folder",
                                          value, LOG_FILES_MAX);
        options->files[options->n_files++] = value;
        return 0;
}

static int log_options_take(struct log_options *options, int option, char *argv[]) {
        switch (option) {
        case 'f':
                options->is_followed = true;
                return 0;
        case 'n':
                return log_options_take_lines(options, optarg);
        case 'S':
                return log_options_take_time("-S", optarg, &options->since_us);
        case 'U':
                return log_options_take_time("-U", optarg, &options->until_us);
        case 'u':
                return whom_take_unit("log", optarg, options->unit);
        case LOG_OPTION_USER:
                options->has_uid = true;
                return whom_take_user("log", optarg, &options->uid);
        case 's':
                return log_options_take_session(options, optarg);
        case 'r':
                options->is_refused = true;
                return 0;
        case 'D':
                options->directory = optarg;
                return 0;
        case LOG_OPTION_FILE:
                return log_options_take_file(options, optarg);
        case LOG_OPTION_OWN:
                options->is_own = true;
                return 0;
        case LOG_OPTION_ANY:
                options->is_any = true;
                return 0;
        default:
                return ctl_complain_option("log", option, argv);
        }
}

/* What goes together. Returns 0, or CTL_USAGE after the complaint. */
static int log_options_check(struct log_options *options) {
        if (options->directory && options->n_files > 0)
                return ctl_complain_usage("log", "--directory and --file: only one of them can be given");
        if (options->is_own && options->is_any)
                return ctl_complain_usage("log", "--own and --any: only one of them can be given");
        if (options->is_followed && options->until_us != UINT64_MAX)
                return ctl_complain_usage("log",
                                          "--follow and --until: what comes is newer than any time that has passed");
        if (options->since_us > options->until_us)
                return ctl_complain_usage("log", "--since is later than --until: nothing lies between them");
        if (!options->has_lines)
                options->n_lines = options->since_us > 0  ? LOG_ALL
                                   : options->is_followed ? LOG_LINES_FOLLOWED
                                                          : LOG_LINES;
        return 0;
}

int log_options_parse(struct log_options *options, int argc, char *argv[]) {
        static const struct option names[] = {
                { "follow", no_argument, NULL, 'f' },
                { "lines", required_argument, NULL, 'n' },
                { "since", required_argument, NULL, 'S' },
                { "until", required_argument, NULL, 'U' },
                { "unit", required_argument, NULL, 'u' },
                { "user", required_argument, NULL, LOG_OPTION_USER },
                { "session", required_argument, NULL, 's' },
                { "refused", no_argument, NULL, 'r' },
                { "directory", required_argument, NULL, 'D' },
                { "file", required_argument, NULL, LOG_OPTION_FILE },
                { "own", no_argument, NULL, LOG_OPTION_OWN },
                { "any", no_argument, NULL, LOG_OPTION_ANY },
                { 0 },
        };
        int option, r = 0;

        opterr = 0;
        while (r == 0 && (option = getopt_long(argc, argv, ":fn:S:U:u:s:rD:", names, NULL)) != -1)
                r = log_options_take(options, option, argv);
        if (r == 0 && optind < argc)
                return ctl_complain_usage("log", "log: unexpected argument '%s'", argv[optind]);
        return r == 0 ? log_options_check(options) : r;
}
