/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_EVENT_H
#define LEDGER_EVENT_H

/*
 * What the processes of a storm write down, and the ledger reads: events of 64 bytes, one file for each thread. These
 * structures are the ledger's own; they follow no header of the daemon or the library.
 */

#include <assert.h>
#include <stdint.h>

enum event_kind {
        EVENT_POST = 1,  /* written before the posting call: body.post */
        EVENT_RESULT,    /* the posting call did not say "pending": status is what it returned */
        EVENT_RECORD,    /* a completion was seen: body.record; id is 0 where it names no operation */
        EVENT_CLOSE,     /* written before a connection is closed: body.mark */
        EVENT_SHUTDOWN,  /* written before a connection is shut down: body.mark */
        EVENT_CANCEL,    /* written before operations are cancelled: body.mark; id: the one operation, or 0 for all */
        EVENT_KILLED,    /* by the driver, before it kills a client with SIGKILL: id is the client */
        EVENT_STUCK,     /* by the driver: a client made no progress and had to be stopped: id is the client */
        EVENT_CRASHED,   /* by the driver: a client ended in a way that nobody asked for: id, status */
        EVENT_DAEMON,    /* by the driver, at the end: status 0 when the daemon lived to the end */
        EVENT_LEFT,      /* the client is about to free its session with operations pending: id is the client */
        EVENT_ABORTED,   /* the library gave the session up: status; body.mark.detail is the reason */
        EVENT_DROPPED,   /* by the driver, at the end: body.mark.detail datagrams found no room at their receivers */
        EVENT_END,       /* the thread ended in order */
        EVENT_NESTED,    /* a routine began while another of the same connection ran: body.mark */
        EVENT_NAME,      /* a datagram socket is bound: body.mark; detail is its place */
        EVENT_SHARED,    /* a connection is another's socket, in another session: body.mark; detail is the other */
        EVENT_ENDING,    /* the thread takes in what is there once more, and is then closed */
        EVENT_WITHDRAWN, /* written before the thread's handle is closed */
        EVENT_APC,       /* written before an APC is queued: body.apc; id: event_id(), counted apart from posts */
        EVENT_QUEUED,    /* the call that queued it has returned: id, status */
        EVENT_RUN,       /* an APC runs in this thread: id is what it was given as its argument */
};

enum event_op {
        EVENT_OP_RECV = 1,
        EVENT_OP_SEND,
        EVENT_OP_ACCEPT,
        EVENT_OP_CONNECT,
        EVENT_OP_RECVFROM, /* one datagram, with or without its sender's address */
        EVENT_OP_SENDTO,   /* one datagram, with an address or to the peer */
        EVENT_OPS,
};

/* How an operation is to be indicated, and how a completion was seen. */
enum event_mode {
        EVENT_MODE_ROUTINE = 1,
        EVENT_MODE_PORT,
        EVENT_MODE_PLAIN,  /* polled or waited for */
        EVENT_MODE_RAW,    /* a record read from the wire, without the library */
        EVENT_MODE_KERNEL, /* an ordinary socket of the storm's own: no operation of the daemon */
        EVENT_MODE_EVENT,  /* its event was set */
        EVENT_MODES,
};

enum event_flags {
        EVENT_FLAG_VERDICT = 0x01,
        EVENT_FLAG_WAITALL = 0x02,
        EVENT_FLAG_PEEK = 0x04,
        EVENT_FLAG_TRUNCATED = 0x08, /* of a record: it said that the datagram was longer */
        EVENT_FLAG_SET = 0x10,       /* of a result: the operation's event was set when the call had returned */
};

struct event {
        uint8_t kind;     /* enum event_kind */
        uint8_t op;       /* enum event_op */
        uint8_t mode;     /* enum event_mode */
        uint8_t flags;    /* enum event_flags */
        int32_t status;   /* 0 or -errno */
        uint64_t id;      /* of the operation: event_id() */
        uint64_t time_ns; /* CLOCK_MONOTONIC: the same in all processes */
        union {
                struct {
                        uint64_t conn;   /* number of the connection; never 0, never used twice */
                        uint64_t offset; /* sends: of the first byte in the connection's pattern */
                        uint32_t order;  /* counts the posts of this connection and direction from 0 */
                        uint32_t len;    /* bytes of the buffers */
                        uint64_t to;     /* datagrams that are sent: the place of the destination */
                        uint64_t zero;
                } post;
                struct {
                        uint64_t from;  /* datagrams that arrived: the sender's place, as the record said, or 0 */
                        uint64_t bytes; /* transferred */
                        uint64_t hash;  /* receives: pattern_hash() of the bytes that arrived */
                        uint64_t head;  /* receives: the first 8 of them */
                        uint64_t key;   /* what the record said it belongs to, where the storm can tell; else 0 */
                } record;
                struct {
                        uint64_t conn;
                        uint64_t detail; /* EVENT_SHUTDOWN: SHUT_*; EVENT_ABORTED: reason; others: see above */
                        uint64_t zero[3];
                } mark;
                struct {
                        uint32_t target;    /* the file of the thread that is to run it */
                        uint32_t is_remote; /* through the daemon */
                        uint64_t zero[4];
                } apc;
        } body;
};
static_assert(sizeof(struct event) == 64, "an event");

/* Operations are numbered by the file in which they were posted and their place in it, both from 0. */
static inline uint64_t event_id(uint32_t journal, uint64_t place) {
        return ((uint64_t) (journal + 1) << 40) | place;
}

/* Of a loopback address: its port, plus this for IPv6. 0: none. */
#define EVENT_PLACE_V6 0x10000u
#define EVENT_PLACES 0x20000u

static inline uint32_t event_id_journal(uint64_t id) {
        return (uint32_t) (id >> 40) - 1;
}

static inline uint64_t event_id_place(uint64_t id) {
        return id & ((UINT64_C(1) << 40) - 1);
}

#endif
