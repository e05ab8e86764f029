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
#include <sys/socket.h>

#include "client/c/overlap.h"
#include "tests/ledger/journal.h"

#define STORM_STEADY 4 /* clients that live to the end */
#define STORM_DOOMED 3 /* clients at a time that are killed, or leave */
#define STORM_SLOTS (STORM_STEADY + STORM_DOOMED + 2)
#define STORM_PEER (STORM_SLOTS - 2) /* slot of the process with ordinary sockets */
#define STORM_RAW (STORM_SLOTS - 1)  /* slot of the process that speaks the protocol itself */
#define STORM_WORKERS 6
#define STORM_PLACES (STORM_SLOTS * STORM_WORKERS * 2)
#define STORM_OPS 256        /* operations that one worker may have in flight */
#define STORM_OP_SIZE 16384u /* bytes of one operation at most */
#define STORM_PIECES 4
#define STORM_DATAGRAM_ROOM (1 << 20) /* of a receiver's buffer in the kernel: as much as that gives */
#define STORM_CONNS 64                /* connections of a worker, or of all port workers of a client together */
#define STORM_PACKETS 8
#define STORM_LEVELS 3
#define STORM_DEPTH 4 /* routines that wait alertably within another */

/* Exit statuses of the processes. */
enum {
        STORM_EXIT_MISSING = 3, /* operations did not end in time: the ledger knows which */
        STORM_EXIT_FAILED = 4,  /* a call failed that nothing in the storm explains */
};

/* An APC's way to a thread of another process; written by that thread, read by all. */
struct storm_handle {
        uint32_t version; /* odd while it is written; 0: there is none. Atomic, as are the others */
        uint32_t journal; /* the file of the thread */
        uint64_t bytes[2];
        uint64_t given[STORM_SLOTS]; /* the session, by slot, to which it was given */
};

/* A ticket to a socket, on its way to the session of a slot. */
struct storm_mail {
        uint32_t state; /* atomic */
        uint32_t from;  /* slot of who writes, or has written it */
        uint64_t session;
        uint64_t conn; /* the number of the connection */
        uint8_t ticket[16];
};

enum {
        STORM_MAIL_EMPTY,
        STORM_MAIL_WRITTEN, /* somebody writes it */
        STORM_MAIL_FULL,
        STORM_MAIL_READ, /* the session of the slot reads it */
};

/* Seen by all processes of a storm; each word is atomic. */
struct storm_board {
        uint64_t goal;
        uint64_t n_posts;
        uint32_t is_over;                 /* everything is to end */
        uint32_t places[STORM_PLACES];    /* where somebody listens: port, plus EVENT_PLACE_V6; 0: nobody */
        uint32_t datagrams[STORM_PLACES]; /* where somebody receives datagrams, likewise */
        uint64_t sessions[STORM_SLOTS];   /* number of the session of this slot, or 0 */
        struct storm_handle handles[STORM_SLOTS][STORM_WORKERS];
        struct storm_mail mail[STORM_SLOTS];
        uint32_t leave[STORM_SLOTS]; /* the client of this slot is to free its session at once */
        uint64_t posts[STORM_SLOTS]; /* by the present client of the slot */
        uint64_t steps[STORM_SLOTS]; /* posts and records: whoever stands still is stuck */
};

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
        uint64_t offset;                      /* of the next send in the pattern */
        uint64_t moved_ns;                    /* when something last happened */
        uint32_t order[EVENT_OPS];            /* posts so far, by enum event_op */
        uint32_t n_out[EVENT_OPS];            /* in flight, by enum event_op */
        struct storm_worker *last[EVENT_OPS]; /* borrowed: who posted last, by enum event_op */
        uint32_t *presence;      /* borrowed: whose word says that what is on the board is there; NULL: it is not */
        uint32_t budget;         /* posts until it ends */
        uint8_t want[EVENT_OPS]; /* receives and sends to hold in flight, by enum event_op */
        uint32_t peer;           /* datagrams: the place to which it is connected, or 0 */
        bool is_datagram;
        bool is_shared; /* another session has the same socket, or may have it: one sends, the other receives */
        bool is_v6;
        bool is_narrow;  /* small buffers in the kernel and large sends: much is half sent at any time */
        bool is_settled; /* posts ask for a verdict, so that threads may post one after the other */
        bool has_ended;  /* the end of the other's stream was received */
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
        struct sockaddr_storage from; /* who sent the datagram that was received */
        socklen_t from_len;
        uint8_t op;
        uint8_t mode; /* enum event_mode: how it is to be indicated */
        uint8_t flags;
        bool in_flight;              /* atomic where another worker may wait for its event */
        struct ovl_event *event;     /* the one of `events` that it sets; atomic */
        struct ovl_event *events[2]; /* of a worker that waits for events: one that resets itself, and a manual one */
};

struct storm_client {
        struct storm_board *board; /* borrowed, as are the next two */
        const char *path;
        struct journal *journals; /* STORM_WORKERS of them */
        uint32_t number;
        uint32_t slot;
        uint64_t seed;
        int level; /* the only one; -1: by the client's number */
        bool is_leaver;
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
        uint32_t n_out;              /* atomic */
        uint32_t is_listening[2];    /* by address family; atomic: another worker may close a listener of a port */
        uint32_t is_receiving[2];    /* likewise, datagrams */
        pthread_mutex_t thread_lock; /* held while another thread uses `thread`, and when it goes */
        bool is_open;                /* whether others may use `thread`: under its lock */
        struct ovl_thread_handle handle;
        uint64_t given[STORM_SLOTS];   /* the session, by slot, to which the handle was given */
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
 * flags: of enum event_flags. place: for a connect; of a datagram that is sent, 0: to the socket's peer.
 *
 * Returns 0, -EAGAIN when the worker has no operation left, or -errno of the call.
 */
int storm_op_post(struct storm_worker *worker, struct storm_conn *conn, enum event_op op, uint32_t len, unsigned flags,
                  uint32_t place);

/* Writes a completion down and goes on with its connection. key: as the packet said, or 0. */
void storm_op_done(struct storm_worker *worker, struct storm_op *op, enum event_mode mode, uint64_t key);

/* Not who should run a routine, nor whom the library names: the worker of this client whose thread runs. */
struct storm_worker *storm_worker_self(struct storm_worker *worker);

/* An operation in flight of this worker on this connection, or NULL. */
struct storm_op *storm_op_find(struct storm_worker *worker, const struct storm_conn *conn);

/* --- storm-conn.c ----------------------------------------------------------------------------------------------- */

/* Opens a connection to somewhere, or a listener; -EAGAIN when there is no room or nobody to connect to. */
int storm_conn_connect(struct storm_worker *worker);
int storm_conn_listen(struct storm_worker *worker, bool is_v6);

/* Finds a free place for a connection and returns it locked, or NULL. */
struct storm_conn *storm_conn_take(struct storm_worker *worker);

/* Fills it; the caller holds the lock. Returns 0 or -errno: then the place is still free. */
int storm_conn_init(struct storm_worker *worker, struct storm_conn *conn, uint64_t socket, int type,
                    enum storm_conn_state state);

/* Does what is due; the caller holds the lock, as for the two that follow. */
void storm_conn_step(struct storm_worker *worker, struct storm_conn *conn);
void storm_conn_close(struct storm_worker *worker, struct storm_conn *conn);
void storm_conn_cancel(struct storm_worker *worker, struct storm_conn *conn);

/* Posts what is wanted of one kind of operation. */
void storm_conn_feed(struct storm_worker *worker, struct storm_conn *conn, enum event_op op);

/* Takes an accepted socket. */
void storm_conn_adopt(struct storm_worker *worker, uint64_t socket);

/* Takes in the end of an operation: the caller holds the connection locked. is_end: of the other's stream. */
void storm_conn_op_ended(struct storm_worker *worker, struct storm_conn *conn, enum event_op op, int status,
                         bool is_end);

/* Does what is due on all connections, and opens further ones. */
void storm_conns_tend(struct storm_worker *worker);

unsigned storm_conns_count(const struct storm_conns *conns);

/* --- storm-datagram.c ------------------------------------------------------------------------------------------- */

/* Opens a datagram socket that others may find on the board, or one that only sends, or has a peer. */
int storm_datagram_open(struct storm_worker *worker, bool is_v6);
int storm_datagram_open_other(struct storm_worker *worker);

/* Does what is due on a datagram socket; the caller holds the lock. */
void storm_datagram_step(struct storm_worker *worker, struct storm_conn *conn);

/* How long the next datagram, or the buffer for one, is to be. */
uint32_t storm_datagram_size(struct storm_random *random);
uint32_t storm_datagram_room(struct storm_random *random);

/* --- storm-event.c ---------------------------------------------------------------------------------------------- */

/* Opens the events of the worker's operations; the client closes them when its threads are gone. */
int storm_events_open(struct storm_worker *worker);
void storm_events_close(struct storm_worker *worker);

/* Waits for events of this worker's own operations, or of another's. */
void storm_events_wait(struct storm_worker *worker);
void storm_events_wait_foreign(struct storm_worker *worker);

/* --- storm-apc.c ------------------------------------------------------------------------------------------------ */

/* Lets others queue APCs to this thread. Returns 0 or -errno. */
int storm_apc_open(struct storm_worker *worker);

/* Queues some, and gives the worker's handle to whoever has come. */
void storm_apc_tend(struct storm_worker *worker);

/* Takes in and runs what was queued so far: behind it the thread can be closed. */
void storm_apc_close(struct storm_worker *worker);

/* --- storm-share.c ---------------------------------------------------------------------------------------------- */

/* Now and then lets another session receive on a connection that has just opened; the caller holds it locked. */
void storm_share_offer(struct storm_worker *worker, struct storm_conn *conn);

/* Joins a socket that somebody offers to this session. */
void storm_share_join(struct storm_worker *worker);

/* --- Processes: each returns its exit status -------------------------------------------------------------------- */

int storm_client_run(struct storm_client *client);
int storm_peer_run(struct storm_board *board, struct journal *journal, uint64_t seed);
/* level: the only one; -1: one after the other. */
int storm_raw_run(struct storm_board *board, struct journal *journal, const char *path, uint32_t client, uint64_t seed,
                  int level, unsigned patience_s);

/* --- For all ---------------------------------------------------------------------------------------------------- */

/* Marks in a journal; storm_worker_failed() also tells the client, once per kind. */
void storm_mark(struct journal *journal, enum event_kind kind, uint64_t id, uint64_t conn, uint64_t detail, int status);

/* A call failed. -ECONNABORTED: the session is gone. Others are told on stderr, and the process will fail. */
void storm_worker_failed(struct storm_worker *worker, const char *call, int status);

/* Whether everything is to end. */
bool storm_worker_is_over(const struct storm_worker *worker);

/* Loopback addresses of a place. */
socklen_t storm_place_address(uint32_t place, struct sockaddr_storage *ret_address);

/* The place of a loopback address; 0: it is none. */
uint32_t storm_address_place(const struct sockaddr_storage *address);

/* One of the places of the board where somebody is, or 0. family: AF_INET, AF_INET6, or 0: any. */
uint32_t storm_board_pick(const uint32_t places[STORM_PLACES], int family, struct storm_random *random);

uint32_t storm_size(struct storm_random *random);

#endif
