/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_LANE_H
#define DAEMON_WORKER_LANE_H

/* A lane, the daemon's end: a ring of entries that one connection posts, and a ring of records for it. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "daemon/worker/quota.h"
#include "daemon/worker/region.h"
#include "proto/layout.h"
#include "proto/ring.h"

struct lane {
        struct list link;     /* among those that were left to a connection */
        struct region memory; /* the client's half */
        struct ring slots;    /* in it */
        uint32_t n_slots;
        uint32_t slots_head; /* ever taken; the word in shared memory only tells */

        struct ovl_lane_daemon *words; /* the daemon's half: a mapping that only the daemon can write */
        struct ring records;           /* in it */
        uint32_t n_records;
        uint32_t records_tail; /* ever written */
        uint32_t records_head; /* ever taken, as far as the client said so and it can be */
        uint32_t asleep;       /* what the client was told */
        uint32_t bell_tail;    /* records_tail at the latest bell */
        uint64_t settled;
        struct charge charge; /* of the daemon's half */
};

/* What a client is told of the daemon's sleep. */
enum lane_sleep {
        LANE_AWAKE = 0,
        LANE_WANTS_ENTRIES = 1, /* ring the doorbell after the next entry */
        LANE_WANTS_ROOM = 2,    /* ... and after taking records */
};

/*
 * Makes a lane of the client's memory.
 *
 * fd:        of the memory; borrowed; may be anything at all.
 * n_slots:   as the client declared.
 * n_records: how many records there must be room for.
 * bytes:     pays for both halves.
 *
 * Returns 0, the lane, and the descriptor of the daemon's half, which is the caller's; -EINVAL (n_slots or the header),
 * -EBADFD or -EDQUOT (the memory) and a static text; or -errno of memfd_create(2) and others.
 */
int lane_new(int fd, uint32_t n_slots, uint32_t n_records, struct quota *quota, struct lane **ret_lane, int *ret_fd,
             struct quota_refusal *ret_refusal, const char **ret_problem);
struct lane *lane_free(struct lane *lane);

/*
 * Takes the next entry: a private copy.
 *
 * Returns 1 and the entry; 0 when there is none; or -EPROTO and a static text when the ring breaks its rules.
 */
int lane_next(struct lane *lane, struct ovl_entry *ret_entry, const char **ret_problem);

/* The entry that lane_next() gave was served: its slots may be used again, once lane_tell() has told. */
void lane_consume(struct lane *lane, const struct ovl_entry *entry);
void lane_tell(struct lane *lane);

/* Puts a record into its place. Returns false when the client has not taken enough of the others. */
bool lane_put(struct lane *lane, const struct ovl_record *record);

/* Shows what was put there, and after it how many entries are settled. Returns whether the bell is due. */
bool lane_publish(struct lane *lane, uint64_t settled);

/* Whether there is no place for one more. */
bool lane_is_full(struct lane *lane);

/* Records that the client has not said to have taken. */
uint32_t lane_n_waiting(struct lane *lane);

/*
 * Its connection is gone: nobody posts or takes any more, and the client's half goes. Returns how many records the
 * client has not taken; they stay, but for APCs, which are lost with their thread.
 */
uint32_t lane_retire(struct lane *lane);

/* What is left in a retired lane: how many there are; a copy of one, of which 0 is the oldest; the oldest `n` go. */
uint32_t lane_n_left(const struct lane *lane);
void lane_peek(const struct lane *lane, uint32_t index, struct ovl_record *ret_record);
void lane_drop(struct lane *lane, uint32_t n);

/* From here on the lane is looked at. */
void lane_awaken(struct lane *lane);

/*
 * From here on the client rings. Returns false when what is wanted has come meanwhile: then the lane is still awake.
 *
 * wants_entries: false: they could not be served.
 * wants_room:    there are records that had no place.
 */
bool lane_fall_asleep(struct lane *lane, bool wants_entries, bool wants_room);

#endif
