/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_RESOURCES_H
#define DAEMON_WORKER_RESOURCES_H

/* What all sessions of a worker share: the engine, the link to the monitor, and the lists that a turn works off. */

#include <stdint.h>

#include "base/list.h"
#include "daemon/reaper.h"
#include "daemon/worker/apc.h"
#include "daemon/worker/ask.h"
#include "daemon/worker/engine.h"
#include "daemon/worker/file.h"
#include "daemon/worker/quota.h"
#include "daemon/worker/rules.h"
#include "daemon/worker/stats.h"

struct handle;
struct socket;

/* Test builds: faults that the ledger must find. */
enum plant {
        PLANT_NONE,
        PLANT_LOST_RECORD,
        PLANT_DOUBLED_RECORD,
        PLANT_SWAPPED_BYTES,
        PLANT_SWAPPED_DATAGRAM,
        PLANT_LOST_APC,
        PLANT_DOUBLED_APC,
};

struct resources {
        struct engine *engine;
        struct reaper *reaper;
        struct files files;
        struct engine_file files_bell; /* what can be read when a piece was */
        struct ask ask;
        struct rules rules;
        struct quotas quotas;
        struct apc_table apcs;
        struct stats stats;
        uint64_t turn;
        uint64_t op_serial;
        uint64_t session_number;

        struct list sessions;
        struct list touched;   /* sessions of which something may be buried */
        struct list marked;    /* peers with input to be served */
        struct list publish;   /* peers with output */
        struct list settle;    /* peers that wait for a verdict */
        struct list awake;     /* peers whose lanes are looked at */
        struct list retrying;  /* sockets that start an op again later */
        struct list postponed; /* peers that try to send again later */
        struct list paused;    /* peers of which requests wait: there were too many of late */
        struct list starved;   /* sessions of which an entry waits for a quota to have room */
        struct list spare_sockets;
        struct socket *socket_pool; /* a mapping of RESOURCES_SOCKETS_MAX */
        uint32_t n_sockets_high;
        struct list spare_handles;
        struct handle *handle_pool; /* a mapping of RESOURCES_HANDLES_MAX */
        uint32_t n_handles_high;

        enum plant plant;
        uint64_t n_planted;
};

#define RESOURCES_SOCKETS_MAX 65536u
#define RESOURCES_HANDLES_MAX 65536u

/* Makes the pools and the lists; engine, reaper and ask are the caller's to set. Returns 0 or -ENOMEM. */
int resources_init(struct resources *resources);
void resources_deinit(struct resources *resources);

/* A socket from the pool, or NULL when all are in use. Never allocates. */
struct socket *resources_take_socket(struct resources *resources);
void resources_give_socket(struct resources *resources, struct socket *socket);

/* Likewise a handle. */
struct handle *resources_take_handle(struct resources *resources);
void resources_give_handle(struct resources *resources, struct handle *handle);

#endif
