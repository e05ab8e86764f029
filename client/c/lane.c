/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The library's end of a lane. The daemon's half cannot be written, and everything in it may be garbage: counts are
 * checked against private ones, records are copied before they are looked at. The library's own half can be written by
 * the daemon, too, so that nothing is ever read back from it.
 *
 * A thread posts by writing slots and then the tail; whoever holds the conduit's read_lock takes records, whichever
 * thread that is. Nobody makes a system call for either, unless the other side sleeps:
 *
 *   the daemon sleeps   its word `asleep` says so, and whether only entries or also room for records wakes it:
 *                       lane_announce() and lane_release() tell their callers to ring
 *   a thread sleeps     lane_fall_asleep() before it polls the connection, lane_awaken() after it: the daemon rings
 *
 * Rejected: entries in a private queue behind a full ring (the ring is the queue; a full one is waited for).
 */

#include "client/c/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"
#include "client/c/region.h"

#define LANE_VERSION 1u
#define LANE_RECORDS_MAX (1u << 17) /* more than any daemon needs: bounds what a forged reply makes us map */

DEFINE_CLEANUP(struct lane *, lane_free)

/* --- Life ------------------------------------------------------------------------------------------------------- */

int lane_new(uint32_t n_slots, struct lane **ret_lane, int *ret_fd) {
        _cleanup_(lane_free) struct lane *lane = calloc(1, sizeof(*lane));
        _cleanup_fd_ int fd = -1;
        void *memory;
        int r;

        if (!lane)
                return -ENOMEM;
        lane->n_slots = RING_SLOTS_MIN;
        while (lane->n_slots < n_slots && lane->n_slots < RING_SLOTS_MAX)
                lane->n_slots *= 2;
        r = region_make(ring_size(lane->n_slots), "overlap-lane", &fd);
        if (r < 0)
                return r;
        memory = mmap(NULL, ring_size(lane->n_slots), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (memory == MAP_FAILED)
                return -errno;
        lane->words = memory;
        lane->words->magic = OVL_LANE_MAGIC;
        lane->words->version = LANE_VERSION;
        lane->words->n_slots = lane->n_slots;
        ring_init(&lane->slots, memory, lane->n_slots);
        *ret_lane = take_ptr(lane);
        *ret_fd = fd_take(&fd);
        return 0;
}

/* Memory that shrinks under a reader would kill it. */
static int lane_check_memory(int fd, size_t size) {
        struct stat st;
        int seals;

        seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0 || !(seals & F_SEAL_SHRINK))
                return -EPROTO;
        if (fstat(fd, &st) < 0 || (uint64_t) st.st_size != size)
                return -EPROTO;
        return 0;
}

int lane_complete(struct lane *lane, uint32_t n_records, int fd) {
        void *memory;
        int r;

        if (n_records < RING_SLOTS_MIN || n_records > LANE_RECORDS_MAX || (n_records & (n_records - 1)) != 0)
                return -EPROTO;
        r = lane_check_memory(fd, ring_size(n_records));
        if (r < 0)
                return r;
        memory = mmap(NULL, ring_size(n_records), PROT_READ, MAP_SHARED, fd, 0);
        if (memory == MAP_FAILED)
                return -errno;
        lane->peer = memory;
        lane->n_records = n_records;
        ring_init(&lane->records, memory, n_records);
        if (shm_load32(&lane->peer->magic) != OVL_LANE_MAGIC || shm_load32(&lane->peer->version) != LANE_VERSION)
                return -EPROTO;
        return 0;
}

struct lane *lane_free(struct lane *lane) {
        if (!lane)
                return NULL;
        if (lane->words)
                munmap(lane->words, ring_size(lane->n_slots));
        if (lane->peer)
                munmap((void *) lane->peer, ring_size(lane->n_records));
        free(lane);
        return NULL;
}

/* --- Posting ---------------------------------------------------------------------------------------------------- */

uint32_t lane_room(const struct lane *lane) {
        /* Pairs with the release store of lane_tell() in the daemon: it has copied these slots. */
        uint32_t n_used = lane->slots_tail - shm_load32_acquire(&lane->peer->slots_head);

        return n_used <= lane->n_slots ? lane->n_slots - n_used : 0;
}

void lane_post(struct lane *lane, const struct ovl_entry *entry) {
        ring_write(&lane->slots, lane->slots_tail, entry, entry->n_slots);
        lane->slots_tail += entry->n_slots;
}

bool lane_announce(struct lane *lane) {
        if (lane->slots_shown == lane->slots_tail)
                return false;
        lane->slots_shown = lane->slots_tail;
        /* Pairs with lane_fall_asleep() in the daemon, which announces its sleep and then looks at the tail. */
        ring_announce(&lane->words->slots_tail, lane->slots_tail);
        return ring_look(&lane->peer->asleep) != 0;
}

/* --- Taking ----------------------------------------------------------------------------------------------------- */

uint64_t lane_load_settled(const struct lane *lane) {
        /* Before the tail is read: pairs with lane_publish() in the daemon, which shows the records first. */
        return __atomic_load_n(&lane->peer->settled, __ATOMIC_SEQ_CST);
}

int lane_count(const struct lane *lane, uint32_t *ret_n) {
        /* Pairs with lane_publish() in the daemon: the records up to here are written. */
        uint32_t n = shm_load32_acquire(&lane->peer->records_tail) - lane->records_head;

        if (n > lane->n_records)
                return -EPROTO;
        *ret_n = n;
        return 0;
}

void lane_take(struct lane *lane, struct ovl_record *ret_record) {
        ring_read(&lane->records, lane->records_head, ret_record, 1);
        __atomic_store_n(&lane->records_head, lane->records_head + 1, __ATOMIC_RELAXED);
}

bool lane_release(struct lane *lane) {
        /* Pairs with lane_learn() and lane_fall_asleep() in the daemon: these places may be written again. */
        ring_announce(&lane->words->records_head, lane->records_head);
        return ring_look(&lane->peer->asleep) > 1;
}

/* --- Sleep ------------------------------------------------------------------------------------------------------ */

bool lane_has_news(const struct lane *lane) {
        return ring_look(&lane->peer->records_tail) != __atomic_load_n(&lane->records_head, __ATOMIC_RELAXED) ||
               lane_load_settled(lane) != __atomic_load_n(&lane->settled, __ATOMIC_RELAXED);
}

bool lane_fall_asleep(struct lane *lane) {
        /* Pairs with lane_publish() in the daemon, which announces its tail and then looks whether somebody sleeps. */
        ring_announce(&lane->words->asleep, 1);
        return !lane_has_news(lane);
}

void lane_awaken(struct lane *lane) {
        ring_store(&lane->words->asleep, 0);
}
