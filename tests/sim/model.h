/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_MODEL_H
#define SIM_MODEL_H

/*
 * What the test knows of the world: clients with their channels, regions, sockets and operations, as they must be if
 * the daemon keeps its promises. Shares nothing with the daemon but the contract.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "daemon/link.h"
#include "daemon/worker/worker.h"
#include "proto/layout.h"
#include "proto/message.h"
#include "tests/sim/engine-sim.h"
#include "tests/sim/net.h"
#include "tests/sim/random.h"

#define MODEL_CLIENTS_MAX 64 /* over a run; MODEL_CLIENTS_NOW at a time */
#define MODEL_CLIENTS_NOW 3
#define MODEL_CHANNELS_MAX 10
#define MODEL_CHANNELS_NOW 5
#define MODEL_SOCKETS_MAX 96
#define MODEL_REGIONS_MAX 6
#define MODEL_BUFFER_SIZE 2048u
#define MODEL_BUFFERS 64u /* of a region */
#define MODEL_REGION_SIZE ((uint64_t) MODEL_BUFFER_SIZE * MODEL_BUFFERS)
#define MODEL_SLICES_MAX 3u
#define MODEL_INBOX_SIZE (sizeof(struct ovl_frame_header) + OVL_FRAME_RECORDS_MAX)

/* A frame, or what pretends to be one, on its way to the daemon. */
struct out_frame {
        struct list link;
        uint8_t *bytes;
        size_t len;
        size_t n_sent;
        int fd; /* rides with the first byte; -1: none */
};

struct channel {
        struct client *client; /* borrowed */
        int fd;                /* -1: closed */
        bool is_port;
        bool is_attached; /* the daemon has accepted its first message */
        bool is_silent;   /* never says anything: the daemon must hang up */
        bool is_paused;   /* does not read for a while */
        bool is_half_closed;
        bool has_ended; /* the daemon has hung up */
        bool is_left;   /* closed when all was quiet: what comes for it is inherited */
        uint64_t number;
        uint64_t monitor_number;
        struct list outbox;
        uint8_t *inbox;
        size_t n_in;
        uint64_t n_entries; /* ever pushed */
        uint64_t n_wished;  /* the last of these that wants a verdict */
        uint64_t n_settled; /* as the daemon has said */
        uint64_t last_sequence;
};

struct buffer {
        bool is_used;
        bool is_sealed; /* `sum` is what it must still hold */
        uint64_t sum;
};

struct model_region {
        uint32_t number; /* the daemon's; 0: not added */
        uint8_t *data;
        bool remove_asked;
        bool is_removed;
        struct buffer buffers[MODEL_BUFFERS];
};

enum model_state {
        MODEL_OPEN,
        MODEL_CONNECTED,
        MODEL_LISTENING,
};

struct model_socket {
        uint64_t id;
        struct net_end *end; /* borrowed */
        enum model_state state;
        bool is_connecting;
        bool was_associated; /* a port was asked for */
        uint64_t port;
        uint64_t port_key;
        bool cancel_asked;
        bool close_asked;
        bool is_closed;
        bool send_shut;
        bool receive_shut;
        bool is_blurred;      /* some of its records were lost with the client that should have read them */
        uint32_t n_cancelled; /* as the replies to cancels say */
};

struct model_op {
        uint64_t tag;
        struct client *client;       /* borrowed */
        struct channel *channel;     /* borrowed: that posted it */
        struct model_socket *socket; /* borrowed; NULL: the id names none */
        size_t number;               /* counts the operations of the run from 1 */
        uint64_t entry;              /* its number on the channel, from 1 */
        uint8_t code;
        uint8_t indication;
        uint32_t flags;
        uint16_t expected;           /* enum ovl_reason with which it must be refused; 0: none */
        bool is_sound;               /* nothing that was known when it was posted may refuse it */
        bool was_unconnected;        /* a poll: of a socket that was not known to be connected */
        struct model_socket *into;   /* borrowed: an accept: prepared for it, or the socket that it made; NULL: none */
        bool is_optional;            /* its record may have been lost with its reader */
        struct model_region *region; /* borrowed */
        uint32_t n_slices;
        struct {
                uint32_t buffer;
                uint32_t len;
        } slices[MODEL_SLICES_MAX];
        uint32_t vector_buffer; /* where the array of slices is; MODEL_BUFFERS: there is none */
        size_t len;
        uint8_t *data; /* sent, or received */
        bool has_record;
        struct ovl_record record;
};

enum call_kind {
        MODEL_HELLO,
        MODEL_ATTACH,
        MODEL_REGION_ADD,
        MODEL_REGION_ADD_BAD,
        MODEL_REGION_REMOVE,
        MODEL_OPEN_SOCKET,
        MODEL_BIND,
        MODEL_LISTEN,
        MODEL_SHUTDOWN,
        MODEL_CLOSE,
        MODEL_ASSOCIATE,
        MODEL_CANCEL,
        MODEL_OTHER,
        MODEL_UNKNOWN,
};

struct model_call {
        struct list link;
        enum call_kind kind;
        struct channel *channel; /* borrowed */
        uint32_t id;
        struct model_socket *socket; /* borrowed */
        struct model_region *region; /* borrowed */
        size_t n_ops;                /* operations that were posted before */
        uint64_t tag;                /* of a cancel: 0: any */
        uint64_t thread;             /* of a cancel: 0: any */
        uint64_t number;             /* of what it is about */
};

struct client {
        struct world *world; /* borrowed */
        unsigned number;
        uint64_t session;
        uint8_t secret[16];
        uint32_t n_credits;
        bool is_open;   /* the hello was answered */
        bool is_kicked; /* has misbehaved: the daemon must hang up everywhere */
        bool is_gone;
        bool has_closed_channels;
        struct channel channels[MODEL_CHANNELS_MAX];
        size_t n_channels; /* the first is that of the hello */
        struct model_socket sockets[MODEL_SOCKETS_MAX];
        size_t n_sockets;
        struct net_end *opened; /* what the monitor made for the open that is under way */
        bool is_opening;
        struct model_region regions[MODEL_REGIONS_MAX];
        size_t n_regions;
        struct list calls;
        uint32_t next_call;
        uint64_t next_number;
        uint32_t n_pending;   /* operations without a record */
        size_t n_ops_lacking; /* operations up to this number may have lacked credit */
        uint32_t n_strikes;
};

/* Summed over all runs, so that a suite can tell whether it tried everything. */
struct tally {
        uint64_t n_runs;
        uint64_t n_entries;
        uint64_t n_done;
        uint64_t n_peeked;
        uint64_t n_polled;
        uint64_t n_vectors;
        uint64_t n_whole; /* WAITALL */
        uint64_t n_refused;
        uint64_t n_credit_refusals;
        uint64_t n_cancelled;
        uint64_t n_partly_cancelled;
        uint64_t n_broken;
        uint64_t n_wanting; /* ended for want of memory */
        uint64_t n_ends_of_stream;
        uint64_t n_accepted;
        uint64_t n_prepared; /* accepted into a socket that was there */
        uint64_t n_first;    /* accepts and connects with data */
        uint64_t n_disconnected;
        uint64_t n_connected;
        uint64_t n_through_ports;
        uint64_t n_inherited; /* records that came on another channel because their own was gone */
        uint64_t n_settled;
        uint64_t n_kicked;
        uint64_t n_half_closed;
        uint64_t n_vanished;
        uint64_t n_held;    /* turns in which a client was held because it does not read */
        uint64_t n_starved; /* turns in which a client was held because others have the user's operations */
        uint64_t n_unpaid;  /* turns in which an accept waited for room for its socket */
        uint64_t n_quotas;  /* reports of a quota that was reached */
        uint64_t n_merged;
        uint64_t n_bytes;
        uint64_t n_connect_cancels;
        struct sim_counts engine;
};

struct monitor_ask {
        struct list link;
        struct link_message message;
        int fd;
        bool is_cancelled;
        bool hangs; /* a connect that nobody answers until it is cancelled */
};

struct world {
        struct random random;
        struct net net;
        struct engine *engine; /* borrowed: the worker's */
        struct worker *worker;
        int link_fd; /* the monitor's end */
        struct list asks;
        struct link_message limits; /* that hold now */
        uint64_t n_monitor_channels;
        uint64_t n_monitor_closed;
        struct client *clients[MODEL_CLIENTS_MAX];
        size_t n_clients;
        struct model_op **ops;
        size_t n_ops;
        size_t n_ops_size;
        struct message_arena arena;
        struct tally *tally; /* borrowed */
        bool is_traced;
        bool is_ending; /* no new trouble is made */
        bool worker_has_ended;
        unsigned step;
        uint64_t n_moved; /* bytes and messages that went anywhere: nothing moves when all is quiet */
};

struct world_options {
        uint64_t seed;
        unsigned n_steps; /* 0: the seed says */
        enum plant plant;
        bool is_traced;
};

/* One whole run. Returns if nothing was wrong. */
void world_run(const struct world_options *options, struct tally *tally);

void world_trace(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- wire.c: channels, frames and requests ----------------------------------------------------------------------- */

struct Overlapd__Request;

struct channel *wire_open(struct client *client);
void wire_close(struct channel *channel);

/* bytes: taken. fd: taken. */
void wire_push(struct channel *channel, uint8_t *bytes, size_t len, int fd);
void wire_flush(struct channel *channel, size_t limit);
void wire_read(struct channel *channel);

/* Sends a request and remembers what its reply will be about. Returns the call, to be filled in. */
struct model_call *wire_request(struct channel *channel, enum call_kind kind, struct Overlapd__Request *request,
                                int take_fd);

/* --- oracle.c: is that what was promised? ------------------------------------------------------------------------ */

struct Overlapd__Reply;

void oracle_record(struct channel *channel, const struct ovl_record *record);
void oracle_reply(struct channel *channel, const struct Overlapd__Reply *reply);
void oracle_end(struct channel *channel);

/* The client will not read what it has not read: its operations may or may not have records. */
void oracle_excuse(struct client *client, const struct channel *channel);

/* --- books.c: does it add up? --------------------------------------------------------------------------------------
 */

/* Nothing moves any more: every operation without a record really cannot go on. */
void books_check_quiet(struct world *world);

/* All is over: order, bytes and counts of everything. */
void books_check_all(struct world *world);

/* --- entry.c: operations, good and bad -----------------------------------------------------------------------------
 */

/* Posts a frame of a few entries. */
void entry_post(struct channel *channel);
uint64_t buffer_sum(const struct model_region *region, uint32_t buffer);

/* --- request.c: requests about regions and sockets -----------------------------------------------------------------
 */

void request_add_region(struct channel *channel);
void request_remove_region(struct channel *channel, struct model_region *region);
void request_open_socket(struct channel *channel);
void request_bind(struct channel *channel, struct model_socket *socket);
void request_listen(struct channel *channel, struct model_socket *socket);
void request_shutdown(struct channel *channel, struct model_socket *socket);
void request_close_socket(struct channel *channel, struct model_socket *socket);
void request_associate(struct channel *channel, struct model_socket *socket);
void request_cancel(struct channel *channel, struct model_socket *socket);
void request_ask(struct channel *channel, struct model_socket *socket);

/* More requests at once than the daemon keeps replies for. */
void request_ask_often(struct channel *channel);

/* --- action.c: what clients do -------------------------------------------------------------------------------------
 */

struct client *action_new_client(struct world *world);
void action_of_client(struct client *client);
void action_vanish(struct client *client);
void action_resume(struct client *client);

/* Closes channels from which everything was read: what is still to come for them is inherited. */
void action_close_cleanly(struct client *client);

/* A channel that can send; NULL: there is none. */
struct channel *client_channel(struct client *client, bool needs_thread);

/* --- monitor.c -----------------------------------------------------------------------------------------------------
 */

void monitor_init(struct world *world, enum plant plant);
void monitor_deinit(struct world *world);
void monitor_read(struct world *world);

/* Answers one request. Returns whether there was one. */
bool monitor_answer(struct world *world);
void monitor_give_channel(struct world *world, struct channel *channel, int take_fd);
void monitor_stop(struct world *world);

/* Tells the worker anew how much all clients together may have. */
void monitor_set_limits(struct world *world, bool are_tight);

#endif
