/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whatever a client may write into an entry. What is wrong with it is told by its record, which is flagged REFUSED, and
 * the session goes on; only slots that cannot be counted end the connection.
 *
 * The numbers in comments are cases of the catalogue of hostile input.
 */

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"
#include "tests/system/estate.h"
#include "tests/system/raw.h"

#define ENTRIES_SIZE 8192u

struct entries {
        struct estate estate;
        struct raw *raw;
        int memory, fd;
        uint8_t *map;
        uint64_t socket;
        struct ovl_slice slice; /* of 10 bytes, as it should be */
};

static void entries_start(struct entries *entries, uint32_t credits) {
        estate_start(&entries->estate, NULL);
        entries->raw = raw_open(&entries->estate.daemon, credits);
        entries->memory = raw_memfd(ENTRIES_SIZE);
        entries->map = mmap(NULL, ENTRIES_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, entries->memory, 0);
        assert_true(entries->map != MAP_FAILED);
        assert_int_equal(raw_region_add(entries->raw, entries->memory, ENTRIES_SIZE), 1);
        entries->socket = raw_pair(entries->raw, &entries->fd);
        entries->slice = (struct ovl_slice){ .len = 10, .region = 1 };
}

static void entries_stop(struct entries *entries) {
        assert_int_equal(raw_status(entries->raw), 0);
        raw_close(entries->raw);
        close(entries->fd);
        close(entries->memory);
        munmap(entries->map, ENTRIES_SIZE);
        estate_stop(&entries->estate);
}

static struct ovl_entry entries_receive(const struct entries *entries) {
        return (struct ovl_entry){
                .tag = 0x1122334455667788,
                .socket = entries->socket,
                .op = OVL_OP_RECV,
                .n_slots = 1,
                .buffer = entries->slice,
        };
}

static void entries_expect_refusal(struct entries *entries, const struct ovl_entry *entry, int status,
                                   unsigned reason) {
        struct ovl_record record = raw_one(entries->raw, entry);

        if (record.status != status || record.reason != reason || !(record.flags & OVL_RECORD_REFUSED))
                fail_msg("op %u was answered with status %d, reason %u, flags %#x, not refused with %d, reason %u",
                         entry->op, record.status, record.reason, record.flags, status, reason);
        assert_true(record.tag == entry->tag);
        assert_int_equal(record.thread, 1);
        assert_int_equal(record.bytes, 0);
        assert_int_equal(record.op, entry->op);
}

/* --- Fields ----------------------------------------------------------------------------------------------------- */

/* 41, 42 */
static void entries_fields_are_checked(void **state) {
        static const struct {
                uint8_t op, indication, n_slots, flags;
                uint32_t op_flags;
                uint64_t other;
                uint32_t aux_len;
                int status;
                unsigned reason;
        } bad[] = {
                { 0, 0, 1, 0, 0, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_OP },
                { 16, 0, 1, 0, 0, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_OP },
                { 255, 0, 1, 0, 0, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_OP },
                { OVL_OP_RECV, 3, 1, 0, 0, 0, 0, -EINVAL, OVL_REASON_BAD_INDICATION },
                { OVL_OP_RECV, 255, 1, 0, 0, 0, 0, -EINVAL, OVL_REASON_BAD_INDICATION },
                { OVL_OP_RECV, 0, 1, 0x10, 0, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECV, 0, 1, 0x80, 0, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECV, 0, 1, OVL_ENTRY_INLINE | OVL_ENTRY_VECTOR, 0, 0, 0, -EOPNOTSUPP,
                  OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_SEND, 0, 1, OVL_ENTRY_MORE, 0, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECV, 0, 1, 0, OVL_MESSAGE_OOB | OVL_MESSAGE_WAITALL, 0, 0, -EOPNOTSUPP,
                  OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECV, 0, 1, 0, OVL_MESSAGE_PARTIAL | OVL_MESSAGE_WAITALL, 0, 0, -EOPNOTSUPP,
                  OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECV, 0, 1, 0, OVL_MESSAGE_DONTWAIT | OVL_MESSAGE_WAITALL, 0, 0, -EOPNOTSUPP,
                  OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECV, 0, 1, 0, OVL_MESSAGE_DONTROUTE, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECV, 0, 1, 0, OVL_MESSAGE_PEEK | OVL_MESSAGE_WAITALL, 0, 0, -EOPNOTSUPP,
                  OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_SEND, 0, 1, 0, OVL_MESSAGE_PUSH_IMMEDIATE, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECV, 0, 1, 0, 0x2000, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },     /* MSG_ERRQUEUE */
                { OVL_OP_SEND, 0, 1, 0, 0x20000000, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS }, /* MSG_FASTOPEN */
                { OVL_OP_SEND, 0, 1, 0, 0x4000000, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },  /* MSG_ZEROCOPY */
                { OVL_OP_SEND, 0, 1, 0, OVL_MESSAGE_PEEK, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECV, 0, 1, 0, 0, 1, 0, -EINVAL, OVL_REASON_RESERVED_BITS },
                { OVL_OP_RECV, 0, 1, 0, 0, 0, 1, -EINVAL, OVL_REASON_RESERVED_BITS },
                { OVL_OP_RECV, 0, 2, 0, 0, 0, 0, -EINVAL, OVL_REASON_RESERVED_BITS },
                { OVL_OP_SEND, 0, 3, 0, 0, 0, 0, -EINVAL, OVL_REASON_RESERVED_BITS },
        };
        struct entries entries;

        entries_start(&entries, 0);
        for (size_t i = 0; i < HARNESS_N(bad); i++) {
                struct ovl_entry entry = entries_receive(&entries);

                entry.op = bad[i].op;
                entry.indication = bad[i].indication;
                entry.n_slots = bad[i].n_slots;
                entry.flags = bad[i].flags;
                entry.op_flags = bad[i].op_flags;
                entry.other = bad[i].other;
                entry.aux.len = bad[i].aux_len;
                entries_expect_refusal(&entries, &entry, bad[i].status, bad[i].reason);
        }
        /* Operations that a later version knows are unknown to this one. */
        for (uint8_t op = OVL_OP_CONNECT_NAME + 1; op <= OVL_OP_CONNECT_NAME + 2; op++) {
                struct ovl_entry entry = { .op = op, .n_slots = 1, .socket = entries.socket };

                entries_expect_refusal(&entries, &entry, -EOPNOTSUPP, OVL_REASON_UNKNOWN_OP);
        }
        entries_stop(&entries);
}

/* 25: no number of a socket but one's own. */
static void entries_sockets_are_known(void **state) {
        static const uint64_t differences[] = { 1, 1u << 31, UINT64_C(1) << 32, UINT64_C(1) << 63 };
        struct ovl_entry entry;
        struct entries entries;

        entries_start(&entries, 0);
        for (size_t i = 0; i < HARNESS_N(differences); i++) {
                entry = entries_receive(&entries);
                entry.socket ^= differences[i];
                entries_expect_refusal(&entries, &entry, -EBADF, OVL_REASON_UNKNOWN_SOCKET);
        }
        entry.socket = 0;
        entries_expect_refusal(&entries, &entry, -EBADF, OVL_REASON_UNKNOWN_SOCKET);
        entry.socket = UINT64_MAX;
        entries_expect_refusal(&entries, &entry, -EBADF, OVL_REASON_UNKNOWN_SOCKET);
        entries_stop(&entries);
}

static void entries_addresses_are_checked(void **state) {
        struct ovl_entry entry = { .op = OVL_OP_CONNECT, .n_slots = 2 };
        struct ovl_record record;
        struct entries entries;

        entries_start(&entries, 0);
        entry.socket = raw_socket(entries.raw, OVL_FAMILY_INET);
        entries_expect_refusal(&entries, &entry, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS);
        entry.address.family = OVL_FAMILY_INET6;
        entries_expect_refusal(&entries, &entry, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS);
        entry.address.family = OVL_FAMILY_INET;
        entry.n_slots = 1;
        entries_expect_refusal(&entries, &entry, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS);
        entry.n_slots = 3;
        entries_expect_refusal(&entries, &entry, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS);
        entry.n_slots = 2;
        entry.aux = entries.slice;
        entries_expect_refusal(&entries, &entry, -EINVAL, OVL_REASON_RESERVED_BITS);
        /* What only the other process can tell ends the operation; nothing is connected. */
        entry.aux = (struct ovl_slice){ 0 };
        entry.address.scope_id = 7;
        record = raw_one(entries.raw, &entry);
        assert_true(record.status < 0);
        entry.address.scope_id = 0;
        entry.address.host[20] = 1;
        record = raw_one(entries.raw, &entry);
        assert_true(record.status < 0);
        entries_stop(&entries);
}

/* --- Buffers ---------------------------------------------------------------------------------------------------- */

/* 34, 35, 36 */
static void entries_buffers_are_checked(void **state) {
        static const struct {
                uint64_t offset;
                uint32_t len, region;
                int status;
                unsigned reason;
        } slices[] = {
                { 0, 10, 0, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { 0, 10, 2, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { 0, 10, 64, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { 0, 10, 65, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { 0, 10, UINT32_MAX, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { 1, 0, 0, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { ENTRIES_SIZE, 1, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { ENTRIES_SIZE + 1, 0, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { ENTRIES_SIZE - 1, 2, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { 0, ENTRIES_SIZE + 1, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { UINT64_MAX, 1, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { UINT64_MAX - 9, 10, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { UINT64_MAX, 0, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { UINT64_C(1) << 63, 10, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { 0, (1u << 30) + 1, 1, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG },
                { 0, UINT32_MAX, 1, -EMSGSIZE, OVL_REASON_BUFFER_TOO_LONG },
                { 0, 1u << 30, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
        };
        struct ovl_record record;
        struct ovl_entry entry;
        struct entries entries;

        entries_start(&entries, 0);
        for (size_t i = 0; i < HARNESS_N(slices); i++) {
                entry = entries_receive(&entries);
                entry.buffer = (struct ovl_slice){ slices[i].offset, slices[i].len, slices[i].region };
                entries_expect_refusal(&entries, &entry, slices[i].status, slices[i].reason);
                entry.op = OVL_OP_SEND;
                entries_expect_refusal(&entries, &entry, slices[i].status, slices[i].reason);
        }
        /* The last byte is fine, and so is nothing at the end. */
        entry = entries_receive(&entries);
        entry.buffer = (struct ovl_slice){ ENTRIES_SIZE - 1, 1, 1 };
        assert_int_equal(write(entries.fd, "z", 1), 1);
        record = raw_one(entries.raw, &entry);
        assert_int_equal(record.status, 0);
        assert_int_equal(entries.map[ENTRIES_SIZE - 1], 'z');
        entry.op = OVL_OP_SEND;
        entry.buffer = (struct ovl_slice){ ENTRIES_SIZE, 0, 1 };
        record = raw_one(entries.raw, &entry);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, 0);
        entries_stop(&entries);
}

/* 37: the array of slices is checked like everything else. */
static void entries_vectors_are_checked(void **state) {
        static const struct {
                uint64_t offset;
                uint32_t len;
                int status;
                unsigned reason;
        } vectors[] = {
                { 0, 15, -EINVAL, OVL_REASON_BAD_VECTOR },
                { 0, 17, -EINVAL, OVL_REASON_BAD_VECTOR },
                { 4, 16, -EINVAL, OVL_REASON_BAD_VECTOR },
                { 0, 0, -EINVAL, OVL_REASON_BAD_VECTOR },
                { 0, 16 * 65, -EMSGSIZE, OVL_REASON_TOO_MANY_BUFFERS },
                { 0, UINT32_MAX - 15, -EMSGSIZE, OVL_REASON_TOO_MANY_BUFFERS },
                { ENTRIES_SIZE - 8, 16, -EFAULT, OVL_REASON_OUTSIDE_REGION },
        };
        struct ovl_slice *slices;
        struct ovl_record record;
        struct ovl_entry entry;
        struct entries entries;

        entries_start(&entries, 0);
        slices = (struct ovl_slice *) entries.map;
        for (size_t i = 0; i < 64; i++)
                slices[i] = (struct ovl_slice){ 4096 + i, 1, 1 };
        for (size_t i = 0; i < HARNESS_N(vectors); i++) {
                entry = entries_receive(&entries);
                entry.flags = OVL_ENTRY_VECTOR;
                entry.buffer = (struct ovl_slice){ vectors[i].offset, vectors[i].len, 1 };
                entries_expect_refusal(&entries, &entry, vectors[i].status, vectors[i].reason);
        }
        entry.buffer = (struct ovl_slice){ 0, 16 * 64, 1 };
        slices[63].region = 2;
        entries_expect_refusal(&entries, &entry, -EFAULT, OVL_REASON_UNKNOWN_REGION);
        slices[63] = (struct ovl_slice){ ENTRIES_SIZE, 1, 1 };
        entries_expect_refusal(&entries, &entry, -EFAULT, OVL_REASON_OUTSIDE_REGION);
        slices[63] = (struct ovl_slice){ 4096 + 63, 1, 1 };
        assert_int_equal(write(entries.fd, "0123456789", 10), 10);
        record = raw_one(entries.raw, &entry);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, 10);
        assert_memory_equal(entries.map + 4096, "0123456789", 10);
        entries_stop(&entries);
}

struct entries_flip {
        struct ovl_slice *slice;
        atomic_bool is_over;
};

static void *entries_flip(void *data) {
        struct entries_flip *flip = data;

        while (!atomic_load(&flip->is_over)) {
                __atomic_store_n(&flip->slice->offset, UINT64_MAX / 2, __ATOMIC_RELAXED);
                __atomic_store_n(&flip->slice->offset, 4096, __ATOMIC_RELAXED);
        }
        return NULL;
}

/* Slices of nothing are nothing, also where the last byte of a send leaves by itself. */
static void entries_slices_may_be_empty(void **state) {
        static const struct {
                uint32_t lens[4];
                uint32_t op_flags;
        } sends[] = {
                { { 0, 5, 0, 0 }, 0 },
                { { 0, 5, 0, 0 }, OVL_MESSAGE_OOB },
                { { 0, 0, 0, 1 }, OVL_MESSAGE_OOB },
                { { 0, 0, 0, 2 }, OVL_MESSAGE_OOB },
                { { 1, 0, 0, 1 }, OVL_MESSAGE_OOB },
                { { 0, 3, 0, 4 }, OVL_MESSAGE_OOB },
                { { 3, 0, 4, 0 }, OVL_MESSAGE_OOB },
                { { 0, 0, 0, 0 }, OVL_MESSAGE_OOB },
        };
        struct entries entries;
        int on = 1;

        entries_start(&entries, 0);
        assert_int_equal(setsockopt(entries.fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)), 0);
        memcpy(entries.map, "0123456789", 10);
        for (size_t i = 0; i < HARNESS_N(sends); i++) {
                struct ovl_slice *slices = (struct ovl_slice *) (entries.map + 4096);
                struct ovl_entry entry = entries_receive(&entries);
                struct ovl_record record;
                char received[16];
                uint32_t len = 0;

                for (size_t k = 0; k < 4; k++) {
                        slices[k] = (struct ovl_slice){ len, sends[i].lens[k], 1 };
                        len += sends[i].lens[k];
                }
                entry.op = OVL_OP_SEND;
                entry.flags = OVL_ENTRY_VECTOR;
                entry.op_flags = sends[i].op_flags;
                entry.buffer = (struct ovl_slice){ 4096, 4 * sizeof(*slices), 1 };
                record = raw_one(entries.raw, &entry);
                assert_int_equal(record.status, 0);
                assert_int_equal(record.bytes, len);
                if (len > 0)
                        peer_read(entries.fd, received, len);
                assert_memory_equal(received, "0123456789", len);
        }
        entries_stop(&entries);
}

/* 37: the array changes while it is read: each entry is taken as it was at one instant, or refused. */
static void entries_vectors_change_meanwhile(void **state) {
        struct entries_flip flip = { 0 };
        size_t n_refused = 0;
        struct ovl_entry entry;
        struct entries entries;
        pthread_t thread;
        char data[10];

        entries_start(&entries, 0);
        flip.slice = (struct ovl_slice *) entries.map;
        *flip.slice = (struct ovl_slice){ 4096, 10, 1 };
        memcpy(entries.map + 4096, "0123456789", 10);
        entry = entries_receive(&entries);
        entry.op = OVL_OP_SEND;
        entry.flags = OVL_ENTRY_VECTOR;
        entry.buffer = (struct ovl_slice){ 0, 16, 1 };
        assert_int_equal(pthread_create(&thread, NULL, entries_flip, &flip), 0);
        for (size_t i = 0; i < 3000; i++) {
                struct ovl_record record = raw_one(entries.raw, &entry);

                if (record.flags & OVL_RECORD_REFUSED) {
                        assert_int_equal(record.status, -EFAULT);
                        n_refused++;
                        continue;
                }
                assert_int_equal(record.status, 0);
                assert_int_equal(record.bytes, 10);
                assert_int_equal(recv(entries.fd, data, 10, MSG_WAITALL), 10);
                assert_memory_equal(data, "0123456789", 10);
        }
        atomic_store(&flip.is_over, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        entries_stop(&entries);
}

/* --- Frames of entries ------------------------------------------------------------------------------------------ */

static void entries_slots_must_be_countable(void **state) {
        static const struct {
                uint32_t n_slots, reserved;
                size_t n_bytes;
                uint8_t first; /* n_slots of the entry */
        } posts[] = {
                { 0, 0, 0, 1 },    { 1, 0, 0, 1 },           { 1, 1, 64, 1 },         { 1, 0, 63, 1 }, { 2, 0, 64, 1 },
                { 1, 0, 128, 1 },  { UINT32_MAX, 0, 64, 1 }, { 0x4000001, 0, 64, 1 }, { 1, 0, 64, 0 }, { 1, 0, 64, 4 },
                { 1, 0, 64, 255 }, { 1, 0, 64, 2 },          { 2, 0, 128, 3 },
        };
        struct entries entries;

        entries_start(&entries, 0);
        for (size_t i = 0; i < HARNESS_N(posts); i++) {
                uint8_t body[8 + 128] = { 0 };
                struct raw *raw = raw_open(&entries.estate.daemon, 0);

                memcpy(body, &posts[i].n_slots, 4);
                memcpy(body + 4, &posts[i].reserved, 4);
                body[8 + 18] = posts[i].first;
                body[8 + 16] = OVL_OP_RECV;
                raw_frame(raw, OVL_FRAME_POST, body, 8 + posts[i].n_bytes, 0, -1);
                raw_expect_kick(raw, OVL_REASON_BAD_FRAME, NULL);
                raw_close(raw);
        }
        entries_stop(&entries);
}

/* 43, and that sequence numbers count the records of the session. */
static void entries_tags_are_the_clients_own(void **state) {
        struct ovl_entry same[20];
        struct entries entries;
        uint64_t sequence = 0;

        entries_start(&entries, 0);
        for (size_t i = 0; i < 20; i++) {
                same[i] = entries_receive(&entries);
                same[i].buffer = (struct ovl_slice){ i, 1, 1 };
        }
        raw_post(entries.raw, same, 20);
        assert_int_equal(write(entries.fd, "abcdefghijklmnopqrst", 20), 20);
        for (size_t i = 0; i < 20; i++) {
                struct ovl_record record = raw_take(entries.raw);

                assert_true(record.tag == same[0].tag);
                assert_int_equal(record.bytes, 1);
                assert_true(sequence == 0 || record.sequence == sequence + 1);
                sequence = record.sequence;
        }
        assert_memory_equal(entries.map, "abcdefghijklmnopqrst", 20);
        entries_stop(&entries);
}

/* 99: one more operation than there are credits, and one more record than a client has read. */
static void entries_beyond_the_credits_are_refused(void **state) {
        struct ovl_entry many[10];
        struct entries entries;
        size_t n_refused = 0, n_served = 0;

        entries_start(&entries, 8);
        assert_int_equal(entries.raw->credits, 8);
        for (size_t i = 0; i < 10; i++) {
                many[i] = entries_receive(&entries);
                many[i].tag = i;
        }
        raw_post(entries.raw, many, 10);
        for (size_t i = 8; i < 10; i++) {
                struct ovl_record record = raw_take(entries.raw);

                assert_int_equal(record.tag, i);
                assert_int_equal(record.status, -ENOBUFS);
                assert_int_equal(record.reason, OVL_REASON_CREDITS);
                assert_true(record.flags & OVL_RECORD_REFUSED);
                n_refused++;
        }
        for (size_t i = 0; i < 8; i++) {
                struct ovl_record record;

                assert_int_equal(write(entries.fd, "x", 1), 1);
                record = raw_take(entries.raw);
                assert_int_equal(record.tag, i);
                assert_int_equal(record.status, 0);
                n_served++;
        }
        assert_int_equal(n_served + n_refused, 10);
        entries_stop(&entries);
}

/* A verdict: the entries of this connection that are settled are counted behind their records. */
static void entries_verdicts_count(void **state) {
        struct ovl_entry entry;
        struct ovl_record record;
        struct entries entries;

        entries_start(&entries, 0);
        entry = entries_receive(&entries);
        entry.flags = OVL_ENTRY_WANT_VERDICT;
        raw_post(entries.raw, &entry, 1);
        while (entries.raw->n_settled < 2) /* the connect was the first */
                assert_int_equal(raw_next(entries.raw), RAW_RECORDS);
        assert_int_equal(entries.raw->n_records, 0);
        entry.socket ^= 1;
        raw_post(entries.raw, &entry, 1);
        while (entries.raw->n_settled < 3)
                assert_int_equal(raw_next(entries.raw), RAW_RECORDS);
        record = raw_take(entries.raw);
        assert_int_equal(record.status, -EBADF);
        assert_int_equal(write(entries.fd, "x", 1), 1);
        record = raw_take(entries.raw);
        assert_int_equal(record.bytes, 1);
        assert_false(record.flags & OVL_RECORD_IMMEDIATE);
        entries_stop(&entries);
}

/* A cancel that finds a socket closing, with its first receive still in the kernel, overtakes nothing. */
static void entries_end_in_order_also_twice(void **state) {
        Overlapd__Request closing = OVERLAPD__REQUEST__INIT, cancelling = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketClose close_it = OVERLAPD__SOCKET_CLOSE__INIT;
        Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;
        struct entries entries;
        struct ovl_entry entry;
        pid_t worker;

        entries_start(&entries, 0);
        worker = daemon_worker(&entries.estate.daemon);
        entry = entries_receive(&entries);
        entry.indication = OVL_INDICATE_ROUTINE;
        for (entry.tag = 1; entry.tag <= 4; entry.tag++)
                raw_post(entries.raw, &entry, 1);
        assert_int_equal(raw_status(entries.raw), 0);
        closing.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_CLOSE;
        closing.socket_close = &close_it;
        close_it.socket = entries.socket;
        cancelling.what_case = OVERLAPD__REQUEST__WHAT_CANCEL;
        cancelling.cancel = &cancel;
        cancel.which_case = OVERLAPD__CANCEL__WHICH_THREAD;
        cancel.thread = 1;
        /* It finds both at once. */
        assert_int_equal(kill(worker, SIGSTOP), 0);
        raw_send(entries.raw, &closing, -1);
        raw_send(entries.raw, &cancelling, -1);
        assert_int_equal(kill(worker, SIGCONT), 0);
        for (uint64_t tag = 1; tag <= 4; tag++) {
                struct ovl_record record = raw_take(entries.raw);

                assert_int_equal(record.tag, tag);
                assert_int_equal(record.status, -ECANCELED);
        }
        entries_stop(&entries);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "each field of an entry is checked", entries_fields_are_checked },
                { "only sockets of the session are known", entries_sockets_are_known },
                { "addresses of connects are checked", entries_addresses_are_checked },
                { "buffers lie within their regions", entries_buffers_are_checked },
                { "arrays of slices are checked", entries_vectors_are_checked },
                { "slices may be empty", entries_slices_may_be_empty },
                { "arrays of slices change meanwhile", entries_vectors_change_meanwhile },
                { "slots that cannot be counted end the connection", entries_slots_must_be_countable },
                { "tags are the client's own", entries_tags_are_the_clients_own },
                { "operations beyond the credits are refused", entries_beyond_the_credits_are_refused },
                { "verdicts count what is settled", entries_verdicts_count },
                { "what is ended twice ends in order", entries_end_in_order_also_twice },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
