/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's end of a lane. Two memories: the client's, of which everything is hostile and is read word by word, and
 * the daemon's, which the client can only read. The client's is accepted like any region (region.c), and is none: no
 * slice can name it.
 *
 * Invariants: counts and geometry are private; the words in shared memory are copies for the client. An entry is copied
 * once. A record is written before the tail that shows it, and the tail before the count of settled entries. The room
 * of the record ring is counted by what the client says that it took: one that lies loses its own records.
 *
 *   awake -> asleep   lane_fall_asleep(), before the worker sleeps, when there is nothing in the ring
 *   asleep -> awake   lane_awaken(): the client rang, or got records and is likely to answer
 *   any -> retired    lane_retire(): its connection is gone; what is left in it is sent on another one, and until then
 *                     it stays as it is, and charged: a client that reads nothing can leave no more than its quota
 *
 * Rejected: looking at every lane in each turn (a thousand idle ones would be looked at for one that is busy), and a
 * bell for every record (a bell that was not answered announces those behind it, too).
 */

#include "daemon/worker/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"

#define LANE_VERSION 1u

static const struct ovl_lane_client *lane_client(const struct lane *lane) {
        return (const struct ovl_lane_client *) lane->memory.data;
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

static int lane_refuse(int status, const char *problem, const char **ret_problem) {
        *ret_problem = problem;
        return status;
}

static int lane_take_memory(struct lane *lane, int fd, uint32_t n_slots, struct quota *quota,
                            struct quota_refusal *ret_refusal, const char **ret_problem) {
        const struct ovl_lane_client *client;
        int r;

        if (!ring_n_is_valid(n_slots))
                return lane_refuse(-EINVAL, "the number of slots is not a power of two between 4 and 32768",
                                   ret_problem);
        r = region_init(&lane->memory, fd, ring_size(n_slots), quota, ret_refusal, ret_problem);
        if (r < 0)
                return r;
        client = lane_client(lane);
        if (shm_load32(&client->magic) != OVL_LANE_MAGIC || shm_load32(&client->version) != LANE_VERSION ||
            shm_load32(&client->n_slots) != n_slots)
                return lane_refuse(-EINVAL, "its header does not begin with magic, version and number of slots",
                                   ret_problem);
        lane->n_slots = n_slots;
        ring_init(&lane->slots, lane->memory.data, n_slots);
        return 0;
}

static int lane_create_memory(size_t size, int *ret_fd) {
        _cleanup_fd_ int fd = -1;

        fd = memfd_create("overlapd-lane", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
        if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
                fd = memfd_create("overlapd-lane", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || ftruncate(fd, (off_t) size) < 0)
                return -errno;
        *ret_fd = fd_take(&fd);
        return 0;
}

/* Once the daemon has its mapping nobody else can ever get a writable one. */
static int lane_make_records(struct lane *lane, uint32_t n_records, struct quota *quota,
                             struct quota_refusal *ret_refusal, int *ret_fd) {
        size_t size = ring_size(n_records);
        _cleanup_fd_ int fd = -1;
        void *memory;
        int r;

        r = charge_take(&lane->charge, quota, LIMIT_MEMORY, size, ret_refusal);
        if (r < 0)
                return r;
        r = lane_create_memory(size, &fd);
        if (r < 0)
                return r;
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (memory == MAP_FAILED)
                return -errno;
        lane->words = memory;
        lane->n_records = n_records;
        ring_init(&lane->records, memory, n_records);
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
                return -errno;
        lane->words->magic = OVL_LANE_MAGIC;
        lane->words->version = LANE_VERSION;
        lane->words->n_records = n_records;
        *ret_fd = fd_take(&fd);
        return 0;
}

static uint32_t lane_round_up(uint32_t n) {
        uint32_t power = RING_SLOTS_MIN;

        while (power < n)
                power *= 2;
        return power;
}

int lane_new(int fd, uint32_t n_slots, uint32_t n_records, struct quota *quota, struct lane **ret_lane, int *ret_fd,
             struct quota_refusal *ret_refusal, const char **ret_problem) {
        struct lane *lane = calloc(1, sizeof(*lane));
        int r;

        if (!lane)
                return -ENOMEM;
        list_init(&lane->link);
        r = lane_take_memory(lane, fd, n_slots, quota, ret_refusal, ret_problem);
        if (r == 0)
                r = lane_make_records(lane, lane_round_up(n_records), quota, ret_refusal, ret_fd);
        if (r < 0) {
                lane_free(lane);
                return r;
        }
        *ret_lane = lane;
        return 0;
}

struct lane *lane_free(struct lane *lane) {
        if (!lane)
                return NULL;
        list_unlink(&lane->link);
        region_deinit(&lane->memory);
        if (lane->words)
                munmap(lane->words, ring_size(lane->n_records));
        charge_release(&lane->charge);
        free(lane);
        return NULL;
}

/* --- Entries ---------------------------------------------------------------------------------------------------- */

int lane_next(struct lane *lane, struct ovl_entry *ret_entry, const char **ret_problem) {
        uint32_t n = shm_load32_acquire(&lane_client(lane)->slots_tail) - lane->slots_head;
        struct ovl_entry entry = { 0 };

        if (n == 0)
                return 0;
        if (n > lane->n_slots)
                return lane_refuse(-EPROTO, "the tail of a lane is further ahead than it has slots", ret_problem);
        ring_read(&lane->slots, lane->slots_head, &entry, 1);
        if (entry.n_slots == 0 || entry.n_slots > OVL_ENTRY_SLOTS_MAX || entry.n_slots > n)
                return lane_refuse(-EPROTO, "an entry of a lane has no slots, more than three, or ends beyond the tail",
                                   ret_problem);
        ring_read(&lane->slots, lane->slots_head + 1, (uint8_t *) &entry + OVL_SLOT_SIZE, entry.n_slots - 1u);
        *ret_entry = entry;
        return 1;
}

void lane_consume(struct lane *lane, const struct ovl_entry *entry) {
        lane->slots_head += entry->n_slots;
}

void lane_tell(struct lane *lane) {
        /* Pairs with the acquire load in lane_room() of the client library. */
        ring_store(&lane->words->slots_head, lane->slots_head);
}

/* --- Records ---------------------------------------------------------------------------------------------------- */

/* What the client says that it took; what cannot be is not believed. */
static void lane_learn(struct lane *lane, uint32_t records_head) {
        if (records_head - lane->records_head <= lane->records_tail - lane->records_head)
                lane->records_head = records_head;
}

bool lane_is_full(struct lane *lane) {
        if (lane->records_tail - lane->records_head < lane->n_records)
                return false;
        /* Pairs with the release store in lane_take() of the client library: it has read these places. */
        lane_learn(lane, shm_load32_acquire(&lane_client(lane)->records_head));
        return lane->records_tail - lane->records_head == lane->n_records;
}

bool lane_put(struct lane *lane, const struct ovl_record *record) {
        if (lane_is_full(lane))
                return false;
        ring_write(&lane->records, lane->records_tail, record, 1);
        lane->records_tail++;
        return true;
}

uint32_t lane_n_waiting(struct lane *lane) {
        /* Pairs with lane_release() of the client library, which says what it took and then looks at the tail again. */
        lane_learn(lane, ring_look(&lane_client(lane)->records_head));
        return lane->records_tail - lane->records_head;
}

uint32_t lane_retire(struct lane *lane) {
        uint32_t n_waiting = lane_n_waiting(lane);
        struct ovl_record record;

        lane->records_tail = lane->records_head;
        for (uint32_t i = 0; i < n_waiting; i++) {
                lane_peek(lane, i, &record);
                if (record.kind != OVL_RECORD_APC)
                        ring_write(&lane->records, lane->records_tail++, &record, 1);
        }
        region_deinit(&lane->memory);
        return lane_n_left(lane);
}

uint32_t lane_n_left(const struct lane *lane) {
        return lane->records_tail - lane->records_head;
}

void lane_peek(const struct lane *lane, uint32_t index, struct ovl_record *ret_record) {
        ring_read(&lane->records, lane->records_head + index, ret_record, 1);
}

void lane_drop(struct lane *lane, uint32_t n) {
        lane->records_head += n;
}

/*
 * A bell is due when the client sleeps, unless it was rung before and the client has not come to take the records that
 * were there then: it must look at the tail before it sleeps again, and will find these, too.
 */
bool lane_publish(struct lane *lane, uint64_t settled) {
        bool has_settled = settled != lane->settled;
        bool is_answered;

        /* Shows the records. Pairs with lane_fall_asleep() of the client library, which announces its sleep first. */
        ring_announce(&lane->words->records_tail, lane->records_tail);
        if (has_settled) {
                lane->settled = settled;
                /* Behind the records of these entries. Pairs with the same. */
                __atomic_store_n(&lane->words->settled, settled, __ATOMIC_SEQ_CST);
        }
        if (ring_look(&lane_client(lane)->asleep) == 0)
                return false;
        /* Pairs with lane_release() of the client library, which announces what it took and then looks at the tail. */
        lane_learn(lane, ring_look(&lane_client(lane)->records_head));
        is_answered = (int32_t) (lane->records_head - lane->bell_tail) >= 0;
        if (!has_settled && (!is_answered || lane->records_head == lane->records_tail))
                return false;
        lane->bell_tail = lane->records_tail;
        return true;
}

/* --- Sleep ------------------------------------------------------------------------------------------------------ */

void lane_awaken(struct lane *lane) {
        if (lane->asleep == LANE_AWAKE)
                return;
        lane->asleep = LANE_AWAKE;
        ring_store(&lane->words->asleep, LANE_AWAKE);
}

bool lane_fall_asleep(struct lane *lane, bool wants_entries, bool wants_room) {
        const struct ovl_lane_client *client = lane_client(lane);
        bool has_come;

        lane->asleep = wants_room ? LANE_WANTS_ROOM : LANE_WANTS_ENTRIES;
        /* Pairs with lane_ring() of the client library, which announces its tail, or what it took, and then looks. */
        ring_announce(&lane->words->asleep, lane->asleep);
        has_come = wants_entries && ring_look(&client->slots_tail) != lane->slots_head;
        if (wants_room) {
                lane_learn(lane, ring_look(&client->records_head));
                has_come = has_come || lane->records_tail - lane->records_head < lane->n_records;
        }
        if (has_come)
                lane_awaken(lane);
        return !has_come;
}
