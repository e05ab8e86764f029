/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_STATS_H
#define DAEMON_WORKER_STATS_H

/* What a worker counts. Read by the status request. */

#include <stdint.h>

struct stats {
        uint64_t turns;
        uint64_t wakeups;      /* turns that slept before they found work */
        uint64_t system_calls; /* for operations, records and frames */
        uint64_t entries;      /* consumed */
        uint64_t records;      /* sent */
        uint64_t bytes_received;
        uint64_t bytes_sent;
        uint64_t merged_ops; /* that shared a system request with the op before them */
        uint64_t polls;      /* turns that found work by looking for it before they would have slept */
        uint32_t n_sessions; /* these four are there now: they go down, too */
        uint32_t n_sockets;
        uint32_t n_ops;
        uint32_t n_lanes;
};

#endif
