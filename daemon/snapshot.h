/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_SNAPSHOT_H
#define DAEMON_SNAPSHOT_H

/*
 * What a worker shows the monitor of what it holds: a page of a list, in sealed memory that comes with the answer to
 * LINK_SNAPSHOT. A page is short, so that the worker is back at its work at once; a list has as many as it takes. The
 * worker may have been taken over: the monitor reads a page once, and checks every field.
 */

#include <stddef.h>
#include <stdint.h>

#include "daemon/limit.h"
#include "proto/layout.h"

#define SNAPSHOT_ITEMS_MAX 256u  /* of one page */
#define SNAPSHOT_LOOKS_MAX 4096u /* things that are looked at for one page, also where a filter skips them */

enum snapshot_kind {
        SNAPSHOT_COUNTS = 1, /* one item */
        SNAPSHOT_SESSIONS,
        SNAPSHOT_SOCKETS,
        SNAPSHOT_OPS,
        SNAPSHOT_PORTS,
        SNAPSHOT_THREADS,
        SNAPSHOT_QUOTAS, /* of the worker, and of each user and unit; no sessions are looked at */
        SNAPSHOT_N_KINDS,
};

/* Where a list goes on: sessions are in the order of their numbers, and what they have is in that of its places. */
struct snapshot_place {
        uint64_t session; /* 0: with the first */
        uint32_t index;
        uint32_t reserved;
};

struct snapshot_query {
        struct snapshot_place from;
        uint64_t session; /* of this one only; 0: of all */
        uint64_t until;   /* sessions that came later are left out, or the list might never end; 0: none */
        uint32_t uid;
        uint8_t has_uid; /* of this user only */
        uint8_t kind;    /* enum snapshot_kind */
};

struct snapshot_counts {
        uint64_t turns;
        uint64_t wakeups;
        uint64_t system_calls;
        uint64_t entries;
        uint64_t records;
        uint64_t bytes_received;
        uint64_t bytes_sent;
        uint64_t merged_ops;
        uint64_t polls;
        uint32_t n_sessions;
        uint32_t n_sockets;
        uint32_t n_ops;
        uint32_t n_lanes;
};

struct snapshot_session {
        uint64_t region_bytes;
        uint64_t n_entries;
        uint64_t bytes_received;
        uint64_t bytes_sent;
        uint32_t level;
        uint32_t n_channels;
        uint32_t n_threads;
        uint32_t n_ports;
        uint32_t n_sockets;
        uint32_t n_ops;
        uint32_t n_credits;
        uint8_t is_held;
        uint8_t is_ending;
};

enum snapshot_socket_state {
        SNAPSHOT_OPEN,
        SNAPSHOT_CONNECTING,
        SNAPSHOT_CONNECTED,
        SNAPSHOT_LISTENING,
        SNAPSHOT_CLOSING,
        SNAPSHOT_N_SOCKET_STATES,
};

struct snapshot_socket {
        uint64_t number;
        uint64_t port;
        uint64_t bytes_received;
        uint64_t bytes_sent;
        uint64_t unread;
        uint64_t unsent;
        uint64_t connected_ns;
        struct ovl_address local; /* family 0: none */
        struct ovl_address remote;
        uint32_t n_receives;
        uint32_t n_sends;
        uint32_t n_others;
        uint32_t n_holders;
        int32_t error;
        int32_t type;  /* SOCK_* */
        uint8_t state; /* enum snapshot_socket_state */
        uint8_t is_unix;
};

enum snapshot_op_state {
        SNAPSHOT_QUEUED,
        SNAPSHOT_ACTIVE,
        SNAPSHOT_ENDED,
        SNAPSHOT_N_OP_STATES,
};

struct snapshot_op {
        uint64_t socket;
        uint64_t thread;
        uint64_t tag;
        uint64_t len;
        uint64_t done;
        uint64_t age_ns;
        uint8_t code; /* enum ovl_op; 0: an APC */
        uint8_t state;
        uint8_t is_cancelled;
};

struct snapshot_port {
        uint64_t number;
        uint32_t n_sockets;
        uint32_t n_records;
};

struct snapshot_thread {
        uint64_t number;
        uint64_t n_entries;
        uint32_t tid;
        uint32_t n_records;
        uint8_t has_lane;
};

struct snapshot_quota {
        uint64_t shard; /* that a unit is */
        uint32_t uid;
        uint8_t level; /* enum limit_level: of a unit, a user or the worker */
        uint8_t is_exempt;
        uint64_t used[LIMIT_SLOTS];
        uint64_t max[LIMIT_SLOTS];
};

struct snapshot_item {
        uint64_t session; /* that it is, or belongs to */
        union {
                struct snapshot_counts counts;
                struct snapshot_session session;
                struct snapshot_socket socket;
                struct snapshot_op op;
                struct snapshot_port port;
                struct snapshot_thread thread;
                struct snapshot_quota quota;
        } of;
};

struct snapshot_page {
        uint32_t n_items;
        uint8_t kind;    /* as asked */
        uint8_t is_last; /* of the list */
        uint16_t reserved;
        uint64_t until;             /* for the next query: the last session that there is now */
        struct snapshot_place next; /* likewise: its `from` */
        struct snapshot_item items[SNAPSHOT_ITEMS_MAX];
};

/* How long a page is. */
#define SNAPSHOT_PAGE_LEN(n_items) (offsetof(struct snapshot_page, items) + (n_items) * sizeof(struct snapshot_item))

#endif
