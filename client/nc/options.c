/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command line. Letters mean what they mean in OpenBSD's nc, and each has a long name beside it.
 *
 * Invariant: options that contradict each other, or that would have no effect, are errors and name both sides: what
 * carries somebody's data must not guess what was meant.
 *
 * Rejected: ranges of ports without --probe (with them the same standard input goes to whoever answers first), and the
 * letters that make no sense where another process owns the socket (-x and -X: proxies; -F: overlapd hands sockets out
 * by itself).
 */

#include "client/nc/options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/time.h"
#include "client/c/overlap.h"
#include "client/nc/report.h"

#define OPTIONS_SECONDS_MAX 86400000UL

enum {
        OPTIONS_LOCAL = 256,
        OPTIONS_SOCKET,
};

static const char options_letters[] = ":46dhklNnp:q:s:UuVvw:z";

static const struct option options_names[] = {
        { "ipv4", no_argument, NULL, '4' },
        { "ipv6", no_argument, NULL, '6' },
        { "no-input", no_argument, NULL, 'd' },
        { "help", no_argument, NULL, 'h' },
        { "keep", no_argument, NULL, 'k' },
        { "listen", no_argument, NULL, 'l' },
        { "local", required_argument, NULL, OPTIONS_LOCAL },
        { "shutdown", no_argument, NULL, 'N' },
        { "numeric", no_argument, NULL, 'n' },
        { "source-port", required_argument, NULL, 'p' },
        { "quit", required_argument, NULL, 'q' },
        { "source", required_argument, NULL, 's' },
        { "socket", required_argument, NULL, OPTIONS_SOCKET },
        { "unix", no_argument, NULL, 'U' },
        { "udp", no_argument, NULL, 'u' },
        { "version", no_argument, NULL, 'V' },
        { "verbose", no_argument, NULL, 'v' },
        { "timeout", required_argument, NULL, 'w' },
        { "probe", no_argument, NULL, 'z' },
        { 0 },
};

/* What was given, before it was looked at as a whole. */
struct options_given {
        bool has[128]; /* by letter */
        const char *source_port;
        char **arguments;
        int n_arguments;
};

static void options_print_help(void) {
        puts("Usage: overlap-nc [OPTIONS] HOST PORT            connects\n"
             "       overlap-nc -l [OPTIONS] [HOST] PORT       waits for a connection\n"
             "       overlap-nc --local PATH|PORT HOST PORT    connects whoever comes to PATH or PORT here\n"
             "       overlap-nc -z [OPTIONS] HOST PORT[-PORT]  says where somebody listens\n"
             "       overlap-nc -U [-l] [OPTIONS] PATH         the same with a Unix socket\n"
             "\n"
             "Moves standard input to a connection and the connection to standard output, where overlapd owns the\n"
             "socket: the program itself needs no network. As ssh's way out: ssh -o ProxyCommand='overlap-nc %h %p'\n"
             "\n"
             "  -l, --listen          wait for a connection instead of making one\n"
             "  -k, --keep            with -l: after a connection wait for the next one\n"
             "  -u, --udp             datagrams\n"
             "  -U, --unix            Unix sockets, as overlapd's machine names them; with -u datagrams\n"
             "  -4, --ipv4            IPv4 only\n"
             "  -6, --ipv6            IPv6 only\n"
             "  -n, --numeric         hosts and ports are numbers: no name is looked up\n"
             "  -s, --source ADDRESS  send from this address, or from this path with -U\n"
             "  -p, --source-port N   send from this port; with -l: wait on it\n"
             "  -N, --shutdown        the end of standard input ends the sending\n"
             "  -q, --quit SECONDS    as -N, and end so long after it; a negative number: never\n"
             "  -d, --no-input        do not read standard input\n"
             "  -w, --timeout SECONDS give up connecting after so long; end when so long nothing came or went\n"
             "  -z, --probe           connect, transfer nothing, say what was found\n"
             "      --local WHERE     accept connections here: on the Unix socket WHERE, which has a slash, or on\n"
             "                        this port of 127.0.0.1; each is connected to HOST PORT\n"
             "      --socket PATH     of overlapd ($OVERLAPD_SOCKET, or /run/overlapd/overlapd.sock)\n"
             "  -v, --verbose         say what happens\n"
             "  -V, --version\n"
             "  -h, --help\n"
             "\n"
             "Exit status: 0 done, 1 failed (network, name, policy, standard output), 2 the command line is wrong,\n"
             "3 overlapd cannot be reached or was lost.");
}

__attribute__((format(printf, 1, 2))) static int options_complain(const char *format, ...) {
        char text[512];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        report("%s", text);
        report("Try 'overlap-nc --help'.");
        return -EINVAL;
}

static int options_take_seconds(const char *what, const char *value, unsigned long min, uint64_t *ret_ns) {
        unsigned long seconds;
        char *end;

        errno = 0;
        seconds = strtoul(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end || errno || seconds < min || seconds > OPTIONS_SECONDS_MAX)
                return options_complain("%s %s: must be a number of seconds from %lu to %lu", what, value, min,
                                        OPTIONS_SECONDS_MAX);
        *ret_ns = seconds * NS_PER_S;
        return 0;
}

static int options_take_quit(struct options *options, const char *value) {
        if (value[0] == '-' && value[1] >= '0' && value[1] <= '9' && !value[1 + strspn(value + 1, "0123456789")]) {
                options->quit_ns = OVL_INFINITE;
                return 0;
        }
        options->is_shut = true;
        return options_take_seconds("-q", value, 0, &options->quit_ns);
}

static int options_take(struct options *options, struct options_given *given, int option) {
        if (option < 128)
                given->has[option] = true;
        switch (option) {
        case '4':
        case '6':
                options->family = option == '4' ? AF_INET : AF_INET6;
                return 0;
        case 'd':
                options->is_deaf = true;
                return 0;
        case 'h':
                options_print_help();
                options->mode = OPTIONS_NOTHING;
                return 0;
        case 'k':
                options->is_kept = true;
                return 0;
        case 'l':
                options->mode = OPTIONS_LISTEN;
                return 0;
        case OPTIONS_LOCAL:
                options->local = optarg;
                return 0;
        case 'N':
                options->is_shut = true;
                return 0;
        case 'n':
                options->is_numeric = true;
                return 0;
        case 'p':
                given->source_port = optarg;
                return 0;
        case 'q':
                return options_take_quit(options, optarg);
        case 's':
                options->source = optarg;
                return 0;
        case OPTIONS_SOCKET:
                options->daemon = optarg;
                return 0;
        case 'U':
                options->family = AF_UNIX;
                return 0;
        case 'u':
                options->type = SOCK_DGRAM;
                return 0;
        case 'V':
                printf("overlap-nc %s\n", OVERLAPD_VERSION);
                options->mode = OPTIONS_NOTHING;
                return 0;
        case 'v':
                options->is_verbose = true;
                return 0;
        case 'w':
                return options_take_seconds("-w", optarg, 1, &options->timeout_ns);
        default:
                return 0; /* z: seen in `has` */
        }
}

static int options_conflict(const struct options_given *given, const char *one, const char *others, const char *why) {
        for (const char *other = others; *other; other++)
                if (given->has[(unsigned char) *other])
                        return options_complain("%s and -%c contradict each other: %s", one, *other, why);
        return 0;
}

/* Each pair that makes no sense, with the reason. */
static int options_check_pairs(const struct options *options, const struct options_given *given) {
        static const struct {
                char letter;
                const char *others;
                const char *why;
        } pairs[] = {
                { '4', "6", "a socket has one family" },
                { 'U', "46np", "Unix sockets have neither Internet addresses nor ports" },
                { 'z', "lkNqd", "a probe only connects, and transfers nothing" },
                { 'l', "s", "with -l the address to wait on is the argument HOST" },
                { 'd', "Nq", "what is not read has no end" },
        };
        int r;

        for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
                if (!given->has[(unsigned char) pairs[i].letter])
                        continue;
                r = options_conflict(given, (const char[]){ '-', pairs[i].letter, '\0' }, pairs[i].others,
                                     pairs[i].why);
                if (r < 0)
                        return r;
        }
        if (options->is_kept && !given->has['l'])
                return options_complain("-k goes with -l: only who waits for connections can wait for the next one");
        if (given->has['z'] && options->family == AF_UNIX && options->type == SOCK_DGRAM)
                return options_complain("-z cannot probe Unix datagram sockets: send something instead");
        if (options->local)
                return options_conflict(given, "--local", "lkudzNqU",
                                        "it accepts streams here, passes both of their ends on, and connects to HOST "
                                        "PORT");
        return 0;
}

static int options_take_number(const char *text, uint16_t *ret_port) {
        size_t n_digits = strspn(text, "0123456789");
        unsigned long port;

        if (n_digits == 0 || n_digits > 5 || text[n_digits])
                return -EINVAL;
        port = strtoul(text, NULL, 10);
        if (port > UINT16_MAX)
                return -EINVAL;
        *ret_port = (uint16_t) port;
        return 0;
}

static int options_take_port(const struct options *options, const char *text, uint16_t min, uint16_t *ret_port) {
        const char *protocol = options->type == SOCK_DGRAM ? "udp" : "tcp";
        struct servent *service = NULL;

        if (options_take_number(text, ret_port) == 0 && *ret_port >= min)
                return 0;
        if (!options->is_numeric && (text[0] < '0' || text[0] > '9'))
                service = getservbyname(text, protocol);
        if (!service)
                return options_complain("port '%s': must be a number from %u to 65535%s", text, min,
                                        options->is_numeric ? "" : ", or a name in /etc/services");
        *ret_port = ntohs((uint16_t) service->s_port);
        return 0;
}

/* PORT, or FIRST-LAST for a probe. The names of services may have dashes. */
static int options_take_ports(struct options *options, const char *text) {
        const char *dash = text[0] >= '0' && text[0] <= '9' ? strchr(text, '-') : NULL;
        char first[8];
        int r;

        if (!dash || options->mode != OPTIONS_PROBE) {
                if (dash)
                        return options_complain("port '%s': a range of ports goes only with -z", text);
                r = options_take_port(options, text, options->mode == OPTIONS_LISTEN ? 0 : 1, &options->port);
                options->last_port = options->port;
                return r;
        }
        snprintf(first, sizeof(first), "%.*s", dash - text < 7 ? (int) (dash - text) : 7, text);
        if (options_take_number(first, &options->port) < 0 || options_take_number(dash + 1, &options->last_port) < 0 ||
            options->port < 1 || options->port > options->last_port)
                return options_complain(
                        "ports '%s': must be FIRST-LAST, numbers from 1 to 65535, the smaller one first", text);
        return 0;
}

static int options_check_numeric(const struct options *options, const char *host) {
        struct in6_addr address;
        char bare[INET6_ADDRSTRLEN];

        if (!options->is_numeric || !host)
                return 0;
        snprintf(bare, sizeof(bare), "%.*s", (int) strcspn(host, "%"), host);
        if (inet_pton(AF_INET, host, &address) != 1 && inet_pton(AF_INET6, bare, &address) != 1)
                return options_complain("'%s' is no address, and -n forbids to look names up", host);
        return 0;
}

static int options_take_path(struct options *options, const struct options_given *given) {
        if (given->n_arguments != 1)
                return options_complain("-U takes one argument, the path of a Unix socket, and was given %d",
                                        given->n_arguments);
        options->host = given->arguments[0];
        return 0;
}

/* [HOST] PORT of a listener, whose port may also come from -p. */
static int options_take_listen(struct options *options, const struct options_given *given) {
        const char *port = given->source_port;
        int n = given->n_arguments;

        if (!port && n > 0)
                port = given->arguments[--n];
        if (!port || n > 1)
                return options_complain("-l takes the arguments [HOST] PORT, or [HOST] with -p PORT, and was given %d",
                                        given->n_arguments);
        options->host = n == 1 ? given->arguments[0] : NULL;
        return options_take_ports(options, port);
}

static int options_take_arguments(struct options *options, const struct options_given *given) {
        int r;

        if (options->family == AF_UNIX)
                return options_take_path(options, given);
        if (options->mode == OPTIONS_LISTEN) {
                r = options_take_listen(options, given);
        } else {
                if (given->n_arguments != 2)
                        return options_complain("two arguments are needed, HOST and PORT, and there %s %d",
                                                given->n_arguments == 1 ? "is" : "are", given->n_arguments);
                options->host = given->arguments[0];
                r = options_take_ports(options, given->arguments[1]);
                if (r >= 0 && given->source_port)
                        r = options_take_port(options, given->source_port, 1, &options->source_port);
        }
        if (r >= 0)
                r = options_check_numeric(options, options->host);
        return r < 0 ? r : options_check_numeric(options, options->source);
}

int options_parse(int argc, char **argv, struct options *ret_options) {
        struct options_given given = { 0 };
        struct options options = {
                .family = AF_UNSPEC,
                .type = SOCK_STREAM,
                .timeout_ns = OVL_INFINITE,
                .quit_ns = OVL_INFINITE,
        };
        int option, r;

        opterr = 0;
        while ((option = getopt_long(argc, argv, options_letters, options_names, NULL)) != -1) {
                if (option == ':')
                        return options_complain("%s needs a value", argv[optind - 1]);
                if (option == '?')
                        return optopt > 0 && optopt < 128
                                       ? options_complain("unknown option '-%c'", optopt)
                                       : options_complain("unknown option '%s', or a value that it does not take",
                                                          argv[optind - 1]);
                r = options_take(&options, &given, option);
                if (r < 0)
                        return r;
                if (options.mode == OPTIONS_NOTHING) {
                        *ret_options = options;
                        return 0;
                }
        }
        given.arguments = argv + optind;
        given.n_arguments = argc - optind;
        r = options_check_pairs(&options, &given);
        if (r < 0)
                return r;
        if (given.has['z'])
                options.mode = OPTIONS_PROBE;
        if (options.local)
                options.mode = OPTIONS_FORWARD;
        r = options_take_arguments(&options, &given);
        if (r < 0)
                return r;
        *ret_options = options;
        return 0;
}
