/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_OPTIONS_H
#define CLIENT_NC_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum options_mode {
        OPTIONS_CONNECT,
        OPTIONS_LISTEN,
        OPTIONS_FORWARD, /* --local */
        OPTIONS_PROBE,
        OPTIONS_NOTHING, /* --help, --version: all is done */
};

/* The command line, checked. Strings are borrowed from it. */
struct options {
        enum options_mode mode;
        int family;           /* AF_UNSPEC, AF_INET, AF_INET6 or AF_UNIX */
        int type;             /* SOCK_STREAM or SOCK_DGRAM */
        const char *host;     /* or the path of a Unix socket; NULL: listen on all addresses */
        uint16_t port;        /* the first of a range */
        uint16_t last_port;   /* of the range; else the same as port */
        const char *source;   /* address, or path of a Unix socket; NULL: the kernel's choice */
        uint16_t source_port; /* 0: the kernel's choice */
        const char *local;    /* path or port on which connections are accepted here */
        const char *daemon;   /* path of overlapd's socket; NULL: the library's choice */
        uint64_t timeout_ns;  /* OVL_INFINITE: none */
        uint64_t quit_ns;     /* after the end of standard input; OVL_INFINITE: never */
        bool is_kept;         /* listen: after a connection comes the next one */
        bool is_shut;         /* the end of standard input ends the sending */
        bool is_deaf;         /* standard input is not read */
        bool is_numeric;
        bool is_verbose;
};

/*
 * Reads the command line.
 *
 * Returns 0, or -EINVAL after it was said what is wrong.
 */
int options_parse(int argc, char **argv, struct options *ret_options);

#endif
