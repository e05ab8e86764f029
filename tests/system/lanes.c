/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Level 2, as a client writes it that shares nothing but the layouts with the daemon, and what a hostile one writes
 * into its lane. And the bell, as the library and foreign loops rely on it.
 *
 * The numbers in comments are cases of the catalogue of hostile input.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/channel.h"
#include "proto/ring.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"
#include "tests/system/estate.h"
#include "tests/system/raw.h"

#define N_SLOTS 8u
#define LANES_IN_FLIGHT 250u

/* A daemon, a session of level 2, and the lane of its first thread. */
struct story {
        struct estate estate;
        struct raw *raw;
        struct ovl_lane_client *mine;
        const struct ovl_lane_daemon *its;
        uint32_t n_slots, n_records;
        struct ring slots, records;
        uint32_t tail, head;
        uint64_t socket;
        int fd; /* the ordinary other end of the socket */
};

/* --- The lane, by hand ------------------------------------------------------------------------------------------ */

/* The memory of a client. */
static int lanes_memfd(uint32_t n_slots, struct ovl_lane_client **ret_words) {
        size_t size = ring_size(n_slots);
        int fd = raw_memfd(size);

        *ret_words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(*ret_words != MAP_FAILED);
        (*ret_words)->magic = OVL_LANE_MAGIC;
        (*ret_words)->version = 1;
        (*ret_words)->n_slots = n_slots;
        return fd;
}

static uint32_t lanes_send_add(struct raw *raw, uint32_t n_slots, int fd) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__LaneAdd lane_add = OVERLAPD__LANE_ADD__INIT;

        lane_add.n_slots = n_slots;
        request.what_case = OVERLAPD__REQUEST__WHAT_LANE_ADD;
        request.lane_add = &lane_add;
        return raw_send(raw, &request, fd);
}

/* Reads the reply to a LaneAdd, which brings a descriptor. */
static int lanes_receive_reply(struct raw *raw) {
        struct pollfd look = { .fd = raw->fd, .events = POLLIN };
        int fds[CHANNEL_FDS_MAX];
        size_t n_fds = 0;
        ssize_t n;

        assert_int_equal(poll(&look, 1, 10000), 1);
        n = channel_receive(raw->fd, raw->in + raw->n_in, sizeof(raw->in) - raw->n_in, fds, &n_fds);
        assert_true(n > 0);
        assert_int_equal(n_fds, 1);
        raw->n_in += (size_t) n;
        assert_int_equal(raw_next(raw), RAW_REPLY);
        return fds[0];
}

static void lanes_add(struct story *story, struct raw *raw, uint32_t n_slots) {
        _cleanup_fd_ int fd = lanes_memfd(n_slots, &story->mine), its_fd = -1;

        lanes_send_add(raw, n_slots, fd);
        its_fd = lanes_receive_reply(raw);
        assert_int_equal(raw->reply->status, 0);
        story->n_slots = n_slots;
        story->n_records = raw->reply->lane_add->n_records;
        assert_true(story->n_records >= raw->credits && ring_n_is_valid(story->n_records));
        /* 59: for reading only. */
        assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, its_fd, 0), MAP_FAILED);
        assert_int_equal(pwrite(its_fd, "x", 1, 4096), -1);
        assert_int_equal(ftruncate(its_fd, 0), -1);
        assert_int_equal(fallocate(its_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
        story->its = mmap(NULL, ring_size(story->n_records), PROT_READ, MAP_SHARED, its_fd, 0);
        assert_true((void *) story->its != MAP_FAILED);
        assert_int_equal(story->its->magic, OVL_LANE_MAGIC);
        assert_int_equal(story->its->version, 1);
        assert_int_equal(story->its->n_records, story->n_records);
        ring_init(&story->slots, story->mine, n_slots);
        ring_init(&story->records, (void *) story->its, story->n_records);
        story->tail = story->head = 0;
}

static void lanes_unmap(struct story *story) {
        munmap(story->mine, ring_size(story->n_slots));
        munmap((void *) story->its, ring_size(story->n_records));
}

static void story_open(struct story *story, uint32_t credits) {
        story->raw = raw_open_level(&story->estate.daemon, 2, credits);
        assert_int_equal(story->raw->level, 2);
        story->socket = raw_pair(story->raw, &story->fd);
        lanes_add(story, story->raw, N_SLOTS);
}

static void story_close(struct story *story) {
        lanes_unmap(story);
        story->fd = fd_close(story->fd);
        story->raw = raw_close(story->raw);
}

static void story_start(struct story *story, uint32_t credits) {
        estate_start(&story->estate, NULL);
        story_open(story, credits);
}

static void story_stop(struct story *story) {
        story_close(story);
        estate_stop(&story->estate);
}

static void lanes_doorbell(struct raw *raw) {
        static const struct ovl_post_header empty;

        raw_frame(raw, OVL_FRAME_POST, &empty, sizeof(empty), 0, -1);
}

/* Shows slots that were written; rings if the daemon asks for it. */
static void story_show(struct story *story) {
        ring_announce(&story->mine->slots_tail, story->tail);
        if (ring_look(&story->its->asleep) != 0)
                lanes_doorbell(story->raw);
}

static void story_put(struct story *story, const struct ovl_entry *entry) {
        ring_write(&story->slots, story->tail, entry, entry->n_slots);
        story->tail += entry->n_slots;
}

/* Waits for a condition that the daemon brings about: nothing tells of it, and it comes soon. */
#define STORY_AWAIT(condition)                                                                                         \
        for (uint64_t deadline = harness_deadline(10); !(condition); sched_yield())                                    \
                if (now_ns() > deadline)                                                                               \
        fail_msg("the daemon does not come to this: %s", #condition)

static struct ovl_record story_take(struct story *story) {
        struct ovl_record record;

        STORY_AWAIT(shm_load32_acquire(&story->its->records_tail) != story->head);
        ring_read(&story->records, story->head++, &record, 1);
        return record;
}

static void story_release(struct story *story) {
        ring_announce(&story->mine->records_head, story->head);
        if (ring_look(&story->its->asleep) == 2)
                lanes_doorbell(story->raw);
}

/* An entry that is refused: its record comes at once. */
static struct ovl_entry story_refused(uint64_t tag) {
        return (struct ovl_entry){ .tag = tag, .socket = 999, .op = OVL_OP_RECV, .n_slots = 1 };
}

/* --- Service ---------------------------------------------------------------------------------------------------- */

/* More entries than slots, of one slot and of three, around the end of the ring; a record for each, in order. */
static void lanes_serve(void **state) {
        struct story story;
        uint64_t sequence = 0;

        story_start(&story, 0);
        for (uint64_t tag = 0; tag < 1000; tag++) {
                struct ovl_entry entry = story_refused(tag);
                struct ovl_record record;

                entry.n_slots = tag % 3 + 1;
                entry.op = entry.n_slots == 1 ? OVL_OP_RECV : OVL_OP_CONNECT;
                STORY_AWAIT(story.tail + 3 - shm_load32_acquire(&story.its->slots_head) <= N_SLOTS);
                story_put(&story, &entry);
                story_show(&story);
                record = story_take(&story);
                story_release(&story);
                assert_int_equal(record.tag, tag);
                assert_int_equal(record.op, entry.op);
                assert_int_equal(record.status, -EBADF);
                assert_int_equal(record.flags & OVL_RECORD_REFUSED, OVL_RECORD_REFUSED);
                assert_true(record.sequence > sequence);
                sequence = record.sequence;
        }
        /* No record came in a frame, and no bell: nobody slept. */
        assert_false(raw_has_input(story.raw));
        assert_int_equal(raw_status(story.raw), 0);
        story_stop(&story);
}

/* Leaves descriptors in flight: as one message, which nobody reads. */
static void lanes_put_in_flight(int fd) {
        int fds[LANES_IN_FLIGHT];
        union {
                char bytes[CMSG_SPACE(sizeof(fds))];
                struct cmsghdr align;
        } control = { 0 };
        struct iovec part = { "x", 1 };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes),
        };
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        for (size_t i = 0; i < LANES_IN_FLIGHT; i++)
                fds[i] = fd;
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(fds));
        memcpy(CMSG_DATA(header), fds, sizeof(fds));
        assert_int_equal(sendmsg(fd, &message, 0), 1);
}

/*
 * Descriptors in flight are counted for the whole user: where others have used them up, a reply that carries one
 * waits, and what the kernel refused is tried again. This process may send what the worker may not.
 */
static void lanes_wait_for_descriptors(void **state) {
        struct rlimit few = { LANES_IN_FLIGHT - 1, LANES_IN_FLIGHT - 1 };
        _cleanup_fd_ int fd = -1, its_fd = -1;
        struct pollfd look = { .events = POLLIN };
        struct raw *other;
        struct story story;
        int pair[2];

        if (geteuid() != 0) {
                skip();
                return;
        }
        estate_start(&story.estate, NULL);
        other = raw_open(&story.estate.daemon, 0);
        story.raw = raw_open_level(&story.estate.daemon, 2, 0);
        assert_int_equal(prlimit(daemon_worker(&story.estate.daemon), RLIMIT_NOFILE, &few, NULL), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        lanes_put_in_flight(pair[0]);
        fd = lanes_memfd(N_SLOTS, &story.mine);
        lanes_send_add(story.raw, N_SLOTS, fd);
        look.fd = story.raw->fd;
        assert_int_equal(poll(&look, 1, 50), 0);
        assert_int_equal(raw_status(other), 0);
        close(pair[0]);
        close(pair[1]);
        its_fd = lanes_receive_reply(story.raw);
        assert_int_equal(story.raw->reply->status, 0);
        munmap(story.mine, ring_size(N_SLOTS));
        raw_close(story.raw);
        raw_close(other);
        estate_stop(&story.estate);
}

static void lanes_settle(void **state) {
        struct ovl_entry entry = { .tag = 1, .op = OVL_OP_RECV, .n_slots = 1, .flags = OVL_ENTRY_WANT_VERDICT };
        _cleanup_fd_ int memory = raw_memfd(4096);
        struct story story;

        story_start(&story, 0);
        entry.socket = story.socket;
        entry.buffer = (struct ovl_slice){ .len = 10, .region = (uint32_t) raw_region_add(story.raw, memory, 4096) };
        /* The connect was the first entry of this channel. */
        story_put(&story, &entry);
        story_show(&story);
        STORY_AWAIT(__atomic_load_n(&story.its->settled, __ATOMIC_ACQUIRE) == 2);
        assert_int_equal(shm_load32_acquire(&story.its->records_tail), 0);
        assert_int_equal(write(story.fd, "data", 4), 4);
        assert_int_equal(story_take(&story).bytes, 4);
        entry = story_refused(2);
        entry.flags = OVL_ENTRY_WANT_VERDICT;
        story_put(&story, &entry);
        story_show(&story);
        STORY_AWAIT(__atomic_load_n(&story.its->settled, __ATOMIC_ACQUIRE) == 3);
        assert_int_equal(shm_load32_acquire(&story.its->records_tail), 2);
        story_stop(&story);
}

/* A client that sleeps gets a bell, and one only, until it has taken what the bell told of. */
static void lanes_ring_the_bell(void **state) {
        struct ovl_entry entry = story_refused(1);
        struct story story;

        story_start(&story, 0);
        ring_announce(&story.mine->asleep, 1);
        for (uint64_t round = 0; round < 3; round++) {
                for (uint64_t i = 0; i < 5; i++) {
                        story_put(&story, &entry);
                        story_show(&story);
                        STORY_AWAIT(shm_load32_acquire(&story.its->records_tail) == round * 5 + i + 1);
                }
                assert_int_equal(raw_next(story.raw), RAW_RECORDS);
                assert_int_equal(story.raw->n_records, 1);
                assert_int_equal(story.raw->records[0].kind, OVL_RECORD_WAITING);
                assert_int_equal(story.raw->records[0].thread, 1);
                assert_true(story.raw->records[0].value >= 1);
                story.raw->n_records = 0;
                assert_int_equal(raw_status(story.raw), 0);
                assert_int_equal(story.raw->n_records, 0);
                for (size_t i = 0; i < 5; i++)
                        story_take(&story);
                story_release(&story);
        }
        ring_announce(&story.mine->asleep, 0);
        story_put(&story, &entry);
        story_show(&story);
        story_take(&story);
        assert_int_equal(raw_status(story.raw), 0);
        assert_int_equal(story.raw->n_records, 0);
        story_stop(&story);
}

/* The reply comes behind the records: entries that were shown before the request was sent have theirs in the lane. */
static void lanes_keep_the_order_of_requests(void **state) {
        struct story story;

        story_start(&story, 0);
        for (uint32_t round = 1; round < 200; round++) {
                struct ovl_entry entry = story_refused(round);

                story_put(&story, &entry);
                ring_announce(&story.mine->slots_tail, story.tail);
                assert_int_equal(raw_status(story.raw), 0);
                assert_int_equal(shm_load32_acquire(&story.its->records_tail), round);
                story_take(&story);
                story_release(&story);
        }
        story_stop(&story);
}

/* 58: who takes no records is held, whatever it says; when it takes them, all are there, in order. */
static void lanes_hold_who_takes_nothing(void **state) {
        struct story story;
        uint32_t n_shown = 0, n = 0;

        story_start(&story, 4);
        for (uint64_t quiet_until = 0; quiet_until == 0 || now_ns() < quiet_until;) {
                struct ovl_entry entry = story_refused(n_shown);

                if (story.tail - shm_load32_acquire(&story.its->slots_head) == N_SLOTS) {
                        /* The ring is full; that it stays so is the point. */
                        if (quiet_until == 0)
                                quiet_until = now_ns() + 50 * NS_PER_MS;
                        sched_yield();
                        continue;
                }
                quiet_until = 0;
                story_put(&story, &entry);
                story_show(&story);
                n_shown++;
        }
        assert_int_equal(shm_load32_acquire(&story.its->records_tail), story.n_records);
        /* More than there are: not believed. */
        ring_announce(&story.mine->records_head, story.n_records + 1);
        lanes_doorbell(story.raw);
        while (n < n_shown) {
                assert_int_equal(story_take(&story).tag, n++);
                story_release(&story);
        }
        assert_int_equal(raw_status(story.raw), 0);
        story_stop(&story);
}

/* What nobody took from the lane of a thread that has ended comes on the first connection. */
static void lanes_leave_their_records(void **state) {
        struct ovl_entry entry = story_refused(0);
        struct story story, other = { 0 };

        story_start(&story, 0);
        other.raw = raw_attach_thread(&story.estate.daemon, story.raw, 7);
        other.raw->credits = story.raw->credits;
        lanes_add(&other, other.raw, N_SLOTS);
        for (entry.tag = 0; entry.tag < 6; entry.tag++)
                story_put(&other, &entry);
        story_show(&other);
        STORY_AWAIT(shm_load32_acquire(&other.its->records_tail) == 6);
        story_take(&other);
        story_take(&other);
        story_release(&other);
        other.raw = raw_close(other.raw);
        for (uint64_t tag = 2; tag < 6; tag++) {
                struct ovl_record record = raw_take(story.raw);

                assert_int_equal(record.tag, tag);
                assert_int_equal(record.thread, 7);
        }
        lanes_unmap(&other);
        story_stop(&story);
}

/* A thread with a lane whose only record, of an entry that was refused, is never taken. */
static void lanes_leave_one(struct story *story) {
        struct ovl_entry entry = story_refused(1);
        struct story other = { .estate = story->estate };

        other.raw = raw_attach_thread(&story->estate.daemon, story->raw, 7);
        other.raw->credits = story->raw->credits;
        lanes_add(&other, other.raw, N_SLOTS);
        story_put(&other, &entry);
        story_show(&other);
        STORY_AWAIT(shm_load32_acquire(&other.its->records_tail) == 1);
        lanes_unmap(&other);
        raw_close(other.raw);
}

/* A client that leaves records in lanes and does not read them either has its memory quota for that, and no more. */
static void lanes_that_are_left_stay_charged(void **state) {
        struct ovl_lane_client *words;
        struct story story;
        unsigned n = 0;
        int status = 0;

        story_start(&story, 16384);
        for (; n < 1000; n++) {
                struct raw *raw = raw_attach_thread(&story.estate.daemon, story.raw, 8);
                _cleanup_fd_ int fd = lanes_memfd(N_SLOTS, &words);

                lanes_send_add(raw, N_SLOTS, fd);
                munmap(words, ring_size(N_SLOTS));
                if (raw_next(raw) == RAW_REPLY)
                        status = raw->reply->status;
                raw_close(raw);
                if (status == -EDQUOT)
                        break;
                assert_int_equal(status, 0);
                lanes_leave_one(&story);
        }
        assert_int_equal(status, -EDQUOT);
        /* They are all there, and when they were read there is room again. */
        for (unsigned i = 0; i < n; i++)
                assert_int_equal(raw_take(story.raw).tag, 1);
        assert_int_equal(raw_status(story.raw), 0);
        lanes_leave_one(&story);
        assert_int_equal(raw_take(story.raw).tag, 1);
        story_stop(&story);
}

/* What a thread was to call is lost with it, also when it was in its lane. */
static void lanes_leave_no_apcs(void **state) {
        static const Overlapd__ThreadHandleOpen of_seven = OVERLAPD__THREAD_HANDLE_OPEN__INIT;
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__FunctionRegister function = OVERLAPD__FUNCTION_REGISTER__INIT;
        Overlapd__ThreadHandleOpen handle_open = of_seven;
        Overlapd__ApcQueue queue = OVERLAPD__APC_QUEUE__INIT;
        struct ovl_entry entry = story_refused(5);
        uint8_t handle[16];
        struct story story, other = { 0 };

        story_start(&story, 0);
        other.raw = raw_attach_thread(&story.estate.daemon, story.raw, 7);
        other.raw->credits = story.raw->credits;
        lanes_add(&other, other.raw, N_SLOTS);
        function.function = queue.function = 3;
        request.what_case = OVERLAPD__REQUEST__WHAT_FUNCTION_REGISTER;
        request.function_register = &function;
        assert_int_equal(raw_call(story.raw, &request, -1), 0);
        handle_open.thread = 7;
        request.id = 0;
        request.what_case = OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_OPEN;
        request.thread_handle_open = &handle_open;
        assert_int_equal(raw_call(story.raw, &request, -1), 0);
        assert_int_equal(story.raw->reply->thread_handle->handle.len, sizeof(handle));
        memcpy(handle, story.raw->reply->thread_handle->handle.data, sizeof(handle));
        queue.handle = (ProtobufCBinaryData){ .len = sizeof(handle), .data = handle };
        request.what_case = OVERLAPD__REQUEST__WHAT_APC_QUEUE;
        request.apc_queue = &queue;
        for (size_t i = 0; i < 2; i++) {
                request.id = 0;
                assert_int_equal(raw_call(story.raw, &request, -1), 0);
                story_put(&other, &entry);
                story_show(&other);
                STORY_AWAIT(shm_load32_acquire(&other.its->records_tail) == 2 * i + 2);
        }
        other.raw = raw_close(other.raw);
        for (size_t i = 0; i < 2; i++) {
                struct ovl_record record = raw_take(story.raw);

                assert_int_equal(record.kind, OVL_RECORD_COMPLETION);
                assert_int_equal(record.tag, 5);
        }
        assert_int_equal(raw_status(story.raw), 0);
        assert_int_equal(story.raw->n_records, 0);
        lanes_unmap(&other);
        story_stop(&story);
}

/* What was received in frames comes in frames, also where a lane is: with a port, and with who inherits it. */
static void lanes_take_no_payload(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__PortAssociate associate = OVERLAPD__PORT_ASSOCIATE__INIT;
        struct ovl_entry entry = { .tag = 9, .op = OVL_OP_RECV, .n_slots = 1, .flags = OVL_ENTRY_INLINE };
        struct story story, port = { 0 };
        struct ovl_record record;
        struct raw *poster;

        story_start(&story, 0);
        port.raw = raw_attach_port(&story.estate.daemon, story.raw, 3);
        port.raw->credits = story.raw->credits;
        lanes_add(&port, port.raw, N_SLOTS);
        poster = raw_attach_thread(&story.estate.daemon, story.raw, 7);
        entry.socket = story.socket;
        entry.buffer.len = 10;
        /* Its thread ends before the record is read: the first connection has a lane. */
        raw_post(poster, &entry, 1);
        entry.op = OVL_OP_SEND;
        raw_post_inline(poster, &entry, 1, "0123456789", 10);
        assert_int_equal(raw_take(poster).tag, 9);
        associate.socket = story.socket;
        associate.port = 3;
        associate.key = 77;
        request.what_case = OVERLAPD__REQUEST__WHAT_PORT_ASSOCIATE;
        request.port_associate = &associate;
        assert_int_equal(raw_call(story.raw, &request, -1), 0);
        peer_write(story.fd, "port", 4);
        record = raw_take(port.raw);
        assert_int_equal(record.key, 77);
        assert_int_equal(record.payload_len, 4);
        assert_memory_equal(port.raw->payload, "port", 4);
        /* A record without payload still comes in the lane. */
        entry.op = OVL_OP_POLL;
        entry.flags = 0;
        entry.buffer.len = 0;
        entry.other = OVL_POLL_OUT;
        raw_post(poster, &entry, 1);
        assert_int_equal(story_take(&port).op, OVL_OP_POLL);
        raw_close(poster);
        lanes_unmap(&port);
        raw_close(port.raw);
        story_stop(&story);
}

/* Who takes no records and goes on asking is not waited for: neither its requests nor its end would be seen. */
static void lanes_end_who_asks_and_takes_nothing(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Status status = OVERLAPD__STATUS__INIT;
        struct story story;
        struct pollfd look = { .events = POLLOUT };

        story_start(&story, 4);
        for (uint64_t quiet_until = 0; quiet_until == 0 || now_ns() < quiet_until;) {
                struct ovl_entry entry = story_refused(1);

                if (story.tail - shm_load32_acquire(&story.its->slots_head) == N_SLOTS) {
                        if (quiet_until == 0)
                                quiet_until = now_ns() + 50 * NS_PER_MS;
                        sched_yield();
                        continue;
                }
                quiet_until = 0;
                story_put(&story, &entry);
                story_show(&story);
        }
        request.what_case = OVERLAPD__REQUEST__WHAT_STATUS;
        request.status = &status;
        look.fd = story.raw->fd;
        for (size_t i = 0; i < 20000; i++) {
                request.id = 0;
                if (poll(&look, 1, 200) != 1 || (look.revents & (POLLERR | POLLHUP)))
                        break;
                raw_send(story.raw, &request, -1);
        }
        story_stop(&story);
}

/* --- Hostile lanes ---------------------------------------------------------------------------------------------- */

static void lanes_expect_kick(struct story *story) {
        lanes_doorbell(story->raw);
        raw_expect_kick(story->raw, OVL_REASON_BAD_LANE, NULL);
        peer_expect_end(story->fd);
        story_close(story);
}

/* 28 and 29: tails that cannot be, and entries that end beyond them. */
static void lanes_bad_tails_kick(void **state) {
        static const uint32_t tails[] = { N_SLOTS + 1, 0x7fffffff, 0x80000000, 0xffffffff, 2 * N_SLOTS };
        struct story story;

        estate_start(&story.estate, NULL);
        for (size_t i = 0; i < HARNESS_N(tails); i++) {
                story_open(&story, 0);
                ring_announce(&story.mine->slots_tail, tails[i]);
                lanes_expect_kick(&story);
        }
        /* Backwards. */
        story_open(&story, 0);
        story_put(&story, &(struct ovl_entry){ .socket = 9, .op = OVL_OP_RECV, .n_slots = 1 });
        story_show(&story);
        story_take(&story);
        ring_announce(&story.mine->slots_tail, 0);
        lanes_expect_kick(&story);
        for (unsigned n_slots = 0; n_slots < 5; n_slots++) {
                struct ovl_entry entry = { .socket = 9, .op = OVL_OP_RECV, .n_slots = (uint8_t) n_slots };

                if (n_slots == 1)
                        continue;
                story_open(&story, 0);
                ring_write(&story.slots, 0, &entry, 1);
                ring_announce(&story.mine->slots_tail, 1);
                lanes_expect_kick(&story);
        }
        estate_stop(&story.estate);
}

/* 30: what is written over the header later has no effect. */
static void lanes_copy_their_geometry(void **state) {
        struct ovl_entry entry = story_refused(5);
        struct story story;

        story_start(&story, 0);
        story.mine->magic = story.mine->version = story.mine->n_slots = UINT32_MAX;
        memset(story.mine->reserved, 0xff, sizeof(story.mine->reserved));
        for (size_t i = 0; i < 3 * N_SLOTS; i++) {
                story_put(&story, &entry);
                story_show(&story);
                assert_int_equal(story_take(&story).tag, 5);
                story_release(&story);
        }
        story_stop(&story);
}

/* 31 and 32: memory that is no lane is refused, and the session goes on. */
static void lanes_are_checked(void **state) {
        static const struct {
                uint32_t declared, magic, version, n_slots;
                int status;
        } bad[] = {
                { 0, OVL_LANE_MAGIC, 1, 0, -EINVAL },
                { 1, OVL_LANE_MAGIC, 1, 1, -EINVAL },
                { 3, OVL_LANE_MAGIC, 1, 3, -EINVAL },
                { 2, OVL_LANE_MAGIC, 1, 2, -EINVAL },
                { 65536, OVL_LANE_MAGIC, 1, 65536, -EINVAL },
                { 0x80000000, OVL_LANE_MAGIC, 1, 0x80000000, -EINVAL },
                { 1024, OVL_LANE_MAGIC, 1, 1024, -EBADFD }, /* does not fit the memory */
                { 8, 0, 1, 8, -EINVAL },
                { 8, OVL_LANE_MAGIC, 2, 8, -EINVAL },
                { 8, OVL_LANE_MAGIC, 1, 16, -EINVAL },
        };
        struct ovl_lane_client *words;
        struct estate estate;
        struct raw *raw;

        estate_start(&estate, NULL);
        raw = raw_open_level(&estate.daemon, 2, 0);
        for (size_t i = 0; i < HARNESS_N(bad); i++) {
                _cleanup_fd_ int fd = lanes_memfd(N_SLOTS, &words);

                words->magic = bad[i].magic;
                words->version = bad[i].version;
                words->n_slots = bad[i].n_slots;
                assert_int_equal(raw_await(raw, lanes_send_add(raw, bad[i].declared, fd))->status, bad[i].status);
                assert_int_equal(raw->reply->reason,
                                 bad[i].status == -EINVAL ? OVL_REASON_BAD_LANE : OVL_REASON_BAD_MEMORY);
                munmap(words, ring_size(N_SLOTS));
        }
        raw_close(raw);
        /* The same memory cannot be a region and a lane, and a session of level 1 has none. */
        raw = raw_open_level(&estate.daemon, 1, 0);
        {
                _cleanup_fd_ int fd = lanes_memfd(N_SLOTS, &words);

                assert_int_equal(raw_await(raw, lanes_send_add(raw, N_SLOTS, fd))->status, -EOPNOTSUPP);
                assert_int_equal(raw->reply->reason, OVL_REASON_LEVEL);
                assert_int_equal(raw_region_add(raw, fd, ring_size(N_SLOTS)), 1);
                munmap(words, ring_size(N_SLOTS));
        }
        raw_close(raw);
        estate_stop(&estate);
}

/* 38: a lane is no region. A second lane is refused. Entries in frames and inline entries do not go with a lane. */
static void lanes_are_exclusive(void **state) {
        struct ovl_lane_client *words;
        _cleanup_fd_ int fd = -1;
        struct ovl_entry entry;
        struct story story;

        story_start(&story, 0);
        fd = lanes_memfd(N_SLOTS, &words);
        assert_int_equal(raw_await(story.raw, lanes_send_add(story.raw, N_SLOTS, fd))->status, -EEXIST);
        munmap(words, ring_size(N_SLOTS));
        entry = story_refused(1);
        entry.socket = story.socket;
        entry.buffer = (struct ovl_slice){ .len = 8, .region = 1 };
        story_put(&story, &entry);
        entry.flags = OVL_ENTRY_INLINE;
        entry.buffer.region = 0;
        story_put(&story, &entry);
        entry.op = OVL_OP_SEND;
        story_put(&story, &entry);
        entry.flags |= OVL_ENTRY_MORE;
        story_put(&story, &entry);
        story_show(&story);
        assert_int_equal(story_take(&story).reason, OVL_REASON_UNKNOWN_REGION);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(story_take(&story).reason, OVL_REASON_UNKNOWN_FLAGS);
        entry = story_refused(1);
        raw_post(story.raw, &entry, 1);
        raw_expect_kick(story.raw, OVL_REASON_BAD_LANE, "lane");
        story_stop(&story);
}

static void lanes_of_ports_take_no_entries(void **state) {
        struct story story;
        struct raw *first;

        estate_start(&story.estate, NULL);
        first = raw_open_level(&story.estate.daemon, 2, 0);
        story.raw = raw_attach_port(&story.estate.daemon, first, 3);
        story.raw->credits = first->credits;
        lanes_add(&story, story.raw, N_SLOTS);
        lanes_doorbell(story.raw);
        assert_int_equal(raw_status(story.raw), 0);
        story_put(&story, &(struct ovl_entry){ .op = OVL_OP_RECV, .n_slots = 1 });
        story_show(&story);
        raw_expect_kick(story.raw, OVL_REASON_BAD_LANE, "port");
        raw_close(first);
        lanes_unmap(&story);
        raw_close(story.raw);
        estate_stop(&story.estate);
}

/* 55: a storm of doorbells that tell of nothing disturbs nobody. */
static void lanes_bear_doorbells(void **state) {
        struct story story;
        struct raw *witness;

        story_start(&story, 0);
        witness = raw_open(&story.estate.daemon, 0);
        for (size_t i = 0; i < 20000; i++) {
                lanes_doorbell(story.raw);
                if (i % 1000 == 0)
                        assert_int_equal(raw_status(witness), 0);
        }
        assert_int_equal(raw_status(story.raw), 0);
        raw_close(witness);
        story_stop(&story);
}

/* --- Loops that are not the library's ---------------------------------------------------------------------------- */

/* The descriptor of a thread becomes readable for every completion, and stays quiet when there is none. */
static void lanes_wake_foreign_loops(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct pollfd look = { .events = POLLIN };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        look.fd = ovl_thread_fd(client.thread);
        for (size_t i = 0; i < 500; i++) {
                assert_ok(client_recv(&client, socket, client.memory, 10, 0, &receiving));
                peer_write(fd, "x", 1);
                while (ovl_result(&receiving) == -EINPROGRESS) {
                        assert_int_equal(poll(&look, 1, 10000), 1);
                        assert_ok(ovl_dispatch(client.thread));
                }
                assert_int_equal(receiving.bytes, 1);
        }
        while (poll(&look, 1, 0) == 1)
                assert_ok(ovl_dispatch(client.thread));
        close(fd);
        client_stop(&client);
}

/* --- Rest ------------------------------------------------------------------------------------------------------- */

/* Counters of the worker, through a session that has a lane itself. */
static struct ovl_status lanes_status(struct client *client) {
        struct ovl_status status;

        assert_ok(ovl_status(client->thread, &status));
        return status;
}

/* What this thread has had of the processor. */
static uint64_t lanes_cpu_ns(void) {
        struct timespec time;

        assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time), 0);
        return (uint64_t) time.tv_sec * NS_PER_S + (uint64_t) time.tv_nsec;
}

/*
 * A worker that was busy a moment ago, so that looking paid, and then has armed receives and lanes alone, sleeps: it
 * wakes for the questions of this test, and for nothing else. So does the library's wait.
 */
static void lanes_let_the_worker_sleep(void **state) {
        enum {
                N = 60,
                IDLE_MS = 1000
        };
        struct ovl_overlapped receiving[N] = { 0 }, sending = { 0 };
        struct pollfd nothing = { .fd = -1 };
        struct ovl_status before, after;
        struct client client;
        uint64_t sockets[N], cpu_ns;
        char byte;
        int fds[N];

        client_start(&client);
        for (size_t i = 0; i < N; i++) {
                sockets[i] = client_pair(&client, AF_INET, &fds[i]);
                assert_ok(client_recv(&client, sockets[i], client.memory + i * 16, 16, 0, &receiving[i]));
        }
        for (size_t i = 0; i < 2000; i++) {
                assert_ok(client_send(&client, sockets[i % N], client.memory + 4096, 1, 0, &sending));
                client_expect(&client, &sending, 0, 1);
                peer_read(fds[i % N], &byte, 1);
        }
        lanes_status(&client);
        poll(&nothing, 1, 50); /* what is left of looking is over by then */
        before = lanes_status(&client);
        cpu_ns = lanes_cpu_ns();
        assert_int_equal(ovl_sleep(client.thread, IDLE_MS * NS_PER_MS), 0);
        cpu_ns = lanes_cpu_ns() - cpu_ns;
        after = lanes_status(&client);
        assert_true(before.lanes > 0);
        assert_true(cpu_ns < IDLE_MS * NS_PER_MS / 20);
        /* The request itself, its verdicts and bells: a few turns, of which a sleeping worker makes no others. */
        assert_true(after.wakeups - before.wakeups <= 4);
        for (size_t i = 0; i < N; i++)
                close(fds[i]);
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "entries and records go through the lane", lanes_serve },
                { "a reply waits until a descriptor may travel", lanes_wait_for_descriptors },
                { "the lane says what is settled", lanes_settle },
                { "the bell is rung for a sleeper, once", lanes_ring_the_bell },
                { "requests do not overtake entries", lanes_keep_the_order_of_requests },
                { "who takes no records is held", lanes_hold_who_takes_nothing },
                { "records that nobody took come on the first connection", lanes_leave_their_records },
                { "records that nobody took stay charged", lanes_that_are_left_stay_charged, 60 },
                { "APCs that nobody took are lost", lanes_leave_no_apcs },
                { "payload comes in frames", lanes_take_no_payload },
                { "who takes no records and asks on is ended", lanes_end_who_asks_and_takes_nothing },
                { "tails that cannot be end the session", lanes_bad_tails_kick },
                { "the geometry is read once", lanes_copy_their_geometry },
                { "memory that is no lane is refused", lanes_are_checked },
                { "a lane goes with nothing else", lanes_are_exclusive },
                { "the lanes of ports take no entries", lanes_of_ports_take_no_entries },
                { "a storm of doorbells", lanes_bear_doorbells },
                { "foreign loops are woken", lanes_wake_foreign_loops },
                { "who has nothing to do sleeps", lanes_let_the_worker_sleep },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
