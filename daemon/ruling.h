/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_RULING_H
#define DAEMON_RULING_H

/*
 * A ruling: what the policy says for one client, in a form that is decided by in well under a microsecond. The monitor
 * makes it (daemon/monitor/policy.h) and decides by it; workers map it read-only and decide by it what they may send
 * without asking. It has no pointers: all that it refers to lies behind it, at offsets.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/layout.h"

#define RULING_NONE UINT32_MAX /* no rule, no node */
#define RULING_TEXT_SIZE 256
#define RULING_NAME_MAX 255u

/* What is asked for. On datagram sockets, to connect and to send somewhere are the same. */
enum ruling_act {
        RULING_CONNECT,
        RULING_LISTEN,
        RULING_SENDTO,
        RULING_RESOLVE,
        RULING_EXPORT,
        RULING_N_ACTS,
};

enum ruling_protocol {
        RULING_TCP,
        RULING_UDP,
        RULING_UNIX,
        RULING_N_PROTOCOLS,
};

/* An address of either family: IPv4 as ::ffff:a.b.c.d, so that both forms of it are the same. */
struct ruling_key {
        uint64_t high, low;
};

/* What is to be decided. Borrowed for the call. */
struct ruling_question {
        enum ruling_act act;
        enum ruling_protocol protocol;
        const struct ovl_address *address; /* of CONNECT, LISTEN and SENDTO: what the kernel is given */
        const char *name; /* of RESOLVE, and of a CONNECT to a name, for which the address was found just now: lower
                             case, without a dot at its end; else NULL */
        uint64_t now_s;   /* monotonic: addresses that were found for names later than this count */
};

struct ruling_verdict {
        bool is_allowed;
        uint32_t rule; /* that decided; RULING_NONE: none did */
};

/* --- The form --------------------------------------------------------------------------------------------------- */

/* Offsets are from the beginning of the ruling. */
struct ruling_list {
        uint32_t at; /* of the first element */
        uint32_t n;
};

/* Ports first to last belong to the rule. Sorted, and apart from each other. */
struct ruling_span {
        uint16_t first, last;
        uint32_t rule;
};

/* A network, or a name, with what rules say of its ports. */
struct ruling_node {
        uint32_t parent; /* the next larger network; RULING_NONE: there is none */
        struct ruling_list spans;
};

/* From this address to the next range's, the network is the node's. Sorted. */
struct ruling_range {
        struct ruling_key first;
        uint32_t node;
        uint32_t reserved;
};

struct ruling_found_node {
        uint64_t name; /* ruling_hash() of what the rule says */
        uint32_t node;
        uint32_t text_at; /* what it says: NUL-terminated */
};

enum ruling_table_kind {
        RULING_TABLE_CONNECT, /* TCP */
        RULING_TABLE_SEND,    /* UDP, connected or not */
        RULING_TABLE_LISTEN,  /* TCP */
        RULING_TABLE_RECEIVE, /* UDP */
        RULING_N_TABLES,
};

struct ruling_table {
        struct ruling_list ranges;
        struct ruling_list nodes;
        struct ruling_list found; /* names; sorted by their hash */
        uint32_t own_node;        /* what holds for the machine's own addresses besides */
        uint32_t reserved;
};

/* A path of a Unix socket, or a name to resolve, and the rule that decides about it. Sorted by bytes. */
struct ruling_word {
        uint32_t at; /* of its bytes */
        uint32_t len;
        uint32_t rule;
};

/* What decides about Unix sockets of one kind of act. */
struct ruling_paths {
        struct ruling_list words;
        uint32_t any; /* the rule about all paths */
};

struct ruling_rule {
        uint32_t text_at; /* what a person is told: NUL-terminated */
        uint32_t is_allowing;
};

struct ruling {
        uint32_t size;      /* of all of it */
        uint32_t is_open;   /* what no rule decides about is allowed */
        uint32_t has_grant; /* there is something that it allows */
        uint32_t exports;   /* the rule about exporting sockets */
        struct ruling_list rules;
        struct ruling_table tables[RULING_N_TABLES][2]; /* [1]: of addresses that a rule must name */
        struct ruling_paths reach;                      /* connect and send */
        struct ruling_paths offer;                      /* bind and listen */
        struct ruling_list names;                       /* to resolve: "host", "*.domain", "*" */
};

/* --- What is known of the machine and its names ------------------------------------------------------------------- */

struct ruling_own {
        struct ruling_key first, last;
};

struct ruling_found {
        struct ruling_key address;
        uint64_t name;
        uint64_t until_s;
};

/* Likewise without pointers. */
struct ruling_facts {
        uint32_t size;
        uint32_t is_incomplete;   /* the machine's addresses are not known: each may be one */
        struct ruling_list own;   /* the machine's addresses. Sorted by `first`, and apart from each other */
        struct ruling_list found; /* for the names in rules. Sorted by address */
};

/* --- Deciding --------------------------------------------------------------------------------------------------- */

/*
 * Decides: the first rule that matches, in the order of the files.
 *
 * facts: of the machine.
 *
 * A pure function: the same arguments always give the same verdict.
 */
struct ruling_verdict ruling_decide(const struct ruling *ruling, const struct ruling_facts *facts,
                                    const struct ruling_question *question);

/* Writes why: "no rule allows it", or which rule denies or allows it, with its file and line. Returns the text. */
const char *ruling_text(const struct ruling *ruling, const struct ruling_verdict *verdict, char text[RULING_TEXT_SIZE]);

/* The key of an IPv4 or IPv6 address. */
struct ruling_key ruling_key(const struct ovl_address *address);

/* Less than 0, 0, or more. */
int ruling_key_compare(const struct ruling_key *a, const struct ruling_key *b);

/*
 * Whether the address is one that is trusted for its nearness: loopback, link-local, multicast and broadcast, "this
 * host", the metadata services of clouds, and the machine's own. A rule must name it, or a part of what it belongs to.
 */
bool ruling_is_near(const struct ruling_key *key, const struct ruling_facts *facts);

/* The number of a name as rules have it. Two that differ may have the same, and somebody may search for such a pair. */
uint64_t ruling_hash(const char *name);

/*
 * Checks that a ruling or facts that came from elsewhere refer to nothing outside their `size`.
 *
 * len: bytes that are there.
 */
bool ruling_is_sound(const struct ruling *ruling, size_t len);
bool ruling_facts_are_sound(const struct ruling_facts *facts, size_t len);

#endif
