/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_LANE_H
#define CLIENT_LANE_H

/* A lane, the library's end: a ring of entries that go to the daemon, and a ring of records that come from it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/layout.h"
#include "proto/ring.h"

struct lane {
        struct ovl_lane_client *words; /* the library's half, which the daemon can write, too */
        uint32_t n_slots;
        struct ring slots;                  /* in it */
        uint32_t slots_tail;                /* written; the owner's */
        uint32_t slots_shown;               /* of these, announced; the owner's */
        const struct ovl_lane_daemon *peer; /* the daemon's half: a mapping for reading */
        uint32_t n_records;                 /* 0: that is not there yet */
        struct ring records;                /* in it */
        uint32_t records_head;              /* taken; stored with the read_lock, loaded atomically */
        uint64_t settled;                   /* taken in; stored with the read_lock, loaded atomically */
        bool is_closed;                     /* no more is taken; guarded by the read_lock */
};

/*
 * Makes the library's half.
 *
 * n_slots: at least; rounded up to a power of two.
 *
 * Returns 0, the lane, and its descriptor, which the caller shows to the daemon and closes; or -errno.
 */
int lane_new(uint32_t n_slots, struct lane **ret_lane, int *ret_fd);

/* Maps the daemon's half. fd: borrowed. Returns 0, -EPROTO when it is not what a lane needs, or -errno. */
int lane_complete(struct lane *lane, uint32_t n_records, int fd);
struct lane *lane_free(struct lane *lane);

/* --- By the thread that posts ----------------------------------------------------------------------------------- */

/* Slots that may be written. */
uint32_t lane_room(const struct lane *lane);

/* Writes an entry, for whose slots there is room. Nobody sees it before lane_announce(). */
void lane_post(struct lane *lane, const struct ovl_entry *entry);

/* Shows what was written. Returns whether the daemon sleeps: the doorbell is then due. */
bool lane_announce(struct lane *lane);

/* --- Under the conduit's read_lock ------------------------------------------------------------------------------ */

/* The count of settled entries: what it counts has its records in the ring already. */
uint64_t lane_load_settled(const struct lane *lane);

/* Returns how many records wait, or -EPROTO when that cannot be. */
int lane_count(const struct lane *lane, uint32_t *ret_n);

/* Takes the next record: a private copy. */
void lane_take(struct lane *lane, struct ovl_record *ret_record);

/* Says what was taken. Returns whether the daemon waits for that: the doorbell is then due. */
bool lane_release(struct lane *lane);

/* --- By anybody ------------------------------------------------------------------------------------------------- */

/* Whether there seems to be something to take. */
bool lane_has_news(const struct lane *lane);

/* From here on the daemon rings the bell. Returns false when something has come meanwhile. Under the session's lock. */
bool lane_fall_asleep(struct lane *lane);
void lane_awaken(struct lane *lane);

#endif
