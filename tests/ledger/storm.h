/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_STORM_H
#define LEDGER_STORM_H

/*
 * A storm: processes that load one daemon with everything at once and write down what they do. This header holds what
 * its parts share: the board that all processes see, the client with its workers, connections and operations.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/c/overlap.h"
#include "tests/ledger/journal.h"

#define STORM_STEADY 4 /* clients that live to the end */
#define STORM_DOOMED 3 /* clients at a time that are killed, or leave */
#define STORM_SLOTS (STORM_STEADY + STORM_DOOMED + 2)
#define STORM_PEER (STORM_SLOTS - 2) /* slot of the process with ordinary sockets */
#define STORM_RAW (STORM_SLOTS - 1)  /* slot of the process that speaks the protocol itself */
#define STORM_WORKERS 5
#define STORM_PLACES (STORM_SLOTS * STORM_WORKERS * 2)
#define STORM_OPS 256        /* operations that one worker may have in flight */
#define STORM_OP_SIZE 16384u /* bytes of one operation at most */
#define STORM_PIECES 4
#define STORM_CONNS 64 /* connections of a worker, or of all port workers of a client together */
#define STORM_PACKETS 8
#define STORM_DEPTH 4 /* routines that wait alertably within another */

/* Exit statuses of the processes. */
enum {
        STORM_EXIT_MISSING = 3, /* operations did not end in time: the ledger knows which */
        STORM_EXIT_FAILED = 4,  /* a call failed that nothing in the storm explains */
};

/* Seen by all processes of a storm; each word is atomic. */
struct storm_board {
        uint64_t goal;
        uint64_t n_posts;
        uint32_t is_over;              /* everything is to end */
        uint32_t places[STORM_PLACES]; /* where somebody listens: port, plus STORM_PLACE_V6; 0: nobody */
        uint32_t leave[STORM_SLOTS];   /* the client of this slot is to free its session at once */
        uint64_t posts[STORM_SLOTS];   /* by the present client of the slot */
        uint64_t steps[STORM_SLOTS];   /* posts and records: whoever stands still is stuck */
};

#define STORM_PLACE_V6 0x10000u

struct storm_random {
        uint64_t state;
};

static inline uint64_t storm_random(struct storm_random *random) {
        uint64_t x = random->state += UINT64_C(0x9e3779b97f4a7c15);

        x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
        return x ^ (x >> 31);
}

/* A number from 0 to below - 1. */
static inline uint32_t storm_pick(struct storm_random *random, uint32_t below) {
        return (uint32_t) (storm_random(random) % below);
}

enum storm_conn_state {
        CONN_FREE,
        CONN_LISTENING,
        CONN_CONNECTING,
        CONN_OPEN,
        CONN_FLUSHING, /* its end of the stream follows when its sends have ended */
        CONN_HALF,     /* has sent its end, and reads up to the other's */
        CONN_SHUT,     /* waits for its operations and is then closed */
        CONN_CLOSED,   /* waits for its operations and is then free */
};

struct storm_worker;

struct storm_conn {
        pthread_mutex_t lock;
        enum storm_conn_state state; /* atomic: it is also looked at without the lock */
        uint64_t number;             /* of the connection, and of the stream that it sends */
        uint64_t socket;
        uint64_t offset;              /* of the next send in the pattern */
        uint64_t moved_ns;            /* when something last happened */
        uint32_t order[5];            /* posts so far, by enum event_op */
        uint32_t n_out[5];            /* in flight, by enum event_op */
        struct storm_worker *last[5]; /* borrowed: who posted last, by enum event_op */
        uint32_t *is_listening;       /* borrowed: whose word says that this listener is there; NULL: it is none */
        uint32_t budget;              /* posts until it ends */
        uint8_t want[3];              /* receives and sends to hold in flight, by enum event_op */
        bool is_narrow;               /* small buffers in the kernel and large sends: much is half sent at any time */
        bool is_settled;              /* posts ask for a verdict, so that threads may post one after the other */
        bool has_ended;               /* the end of the other's stream was received */
        bool has_failed;
};

struct storm_conns {
        struct storm_conn all[STORM_CONNS];
};

struct storm_op {
        struct ovl_overlapped overlapped;
        struct storm_conn *conn;     /* borrowed; NULL: free */
        struct storm_worker *worker; /* borrowed: who posted it */
        struct storm_op *next_free;
        uint64_t id;
        uint8_t *memory; /* STORM_OP_SIZE bytes of the worker's region */
        uint32_t len;
        uint32_t n_pieces;
        struct ovl_buffer pieces[STORM_PIECES];
        uint8_t op;
        uint8_t mode; /* enum event_mode: how it is to be indicated */
        uint8_t flags;
        bool in_flight;
};

struct storm_client {
        struct storm_board *board; /* borrowed, as are the next two */
        const char *path;
        struct journal *journals; /* STORM_WORKERS of them */
        uint32_t number;
        uint32_t slot;
        uint64_t seed;
        unsigned patience_s;
        uint32_t n_conns;    /* ever: the next connection's number; atomic */
        uint32_t n_port_out; /* operations in flight that end at the port; atomic */
        uint32_t is_leaving; /* atomic, as are the next three */
        uint32_t is_aborted;
        uint32_t is_missing;
        uint32_t has_failed;
        struct ovl_session *session;
        struct ovl_port *port;
        struct storm_conns port_conns;
        struct storm_worker *workers;
};

struct storm_worker {
        struct storm_client *client; /* borrowed */
        struct journal *journal;     /* borrowed */
        unsigned index;
        enum event_mode mode;
        struct storm_random random;
        struct ovl_thread *thread;
        struct ovl_region *region;
        struct storm_conns *conns; /* its own, or the client's for port workers */
        struct storm_conns own_conns;
        pthread_mutex_t lock; /* of the free operations: who sees a packet gives the operation back to its poster */
        struct storm_op *free;
        struct storm_op ops[STORM_OPS];
        uint32_t n_out;                /* atomic */
        uint32_t is_listening[2];      /* by address family; atomic: another worker may close a listener of a port */
        uint64_t running[STORM_DEPTH]; /* connections whose routines run now, one within the other */
        unsigned depth;
        uint64_t tended_ns;
        uint64_t over_ns; /* since when everything is to end; 0: not yet */
};

/* --- storm-op.c ------------------------------------------------------------------------------------------------- */

/* Cuts the worker's region into operations. */
void storm_ops_init(struct storm_worker *worker);

/*
 * Posts one operation on a connection, which the caller holds locked, and writes it down.
 *
 * flags: of enum event_flags. address: for a connect.
 *
 * Returns 0, -EAGAIN when the worker has no operation left, or -errno of the call.
 */
int storm_op_post(struct storm_worker *worker, struct storm_conn *conn, enum event_op op, uint32_t len, unsigned flags,
                  const struct sockaddr *address, socklen_t address_len);

/* Writes a completion down and goes on with its connection. key: as the packet said, or 0. */
void storm_op_done(struct storm_worker *worker, struct storm_op *op, enum event_mode mode, uint64_t key);

/* An operation in flight of this worker on this connection, or NULL. */
struct storm_op *storm_op_find(struct storm_worker *worker, const struct storm_conn *conn);

/* --- storm-conn.c ----------------------------------------------------------------------------------------------- */

/* Opens a connection to somewhere, or a listener; -EAGAIN when there is no room or nobody to connect to. */
int storm_conn_connect(struct storm_worker *worker);
int storm_conn_listen(struct storm_worker *worker, bool is_v6);

/* Takes an accepted socket. */
void storm_conn_adopt(struct storm_worker *worker, uint64_t socket);

/* Takes in the end of an operation: the caller holds the connection locked. is_end: of the other's stream. */
void storm_conn_op_ended(struct storm_worker *worker, struct storm_conn *conn, enum event_op op, int status,
                         bool is_end);

/* Does what is due on all connections, and opens further ones. */
void storm_conns_tend(struct storm_worker *worker);

unsigned storm_conns_count(const struct storm_conns *conns);

/* --- Processes: each returns its exit status -------------------------------------------------------------------- */

int storm_client_run(struct storm_client *client);
int storm_peer_run(struct storm_board *board, struct journal *journal, uint64_t seed);
int storm_raw_run(struct storm_board *board, struct journal *journal, const char *path, uint32_t client, uint64_t seed,
                  unsigned patience_s);

/* --- For all ---------------------------------------------------------------------------------------------------- */

/* Marks in a journal; storm_worker_failed() also tells the client, once per kind. */
void storm_mark(struct journal *journal, enum event_kind kind, uint64_t id, uint64_t conn, uint64_t detail, int status);

/* A call failed. -ECONNABORTED: the session is gone. Others are told on stderr, and the process will fail. */
void storm_worker_failed(struct storm_worker *worker, const char *call, int status);

/* Whether everything is to end. */
bool storm_worker_is_over(const struct storm_worker *worker);

/* Loopback addresses of a place. */
socklen_t storm_place_address(uint32_t place, struct sockaddr_storage *ret_address);

/* A place where somebody listens, or 0. */
uint32_t storm_board_pick(struct storm_board *board, struct storm_random *random);

uint32_t storm_size(struct storm_random *random);

#endif
