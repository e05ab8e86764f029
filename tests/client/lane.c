/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A daemon that lies in lanes: memory that is none, and rings full of garbage. The library refuses the one, and ends
 * the session at the other; it reads nothing beyond the ring, and every pending operation ends once.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "client/c/overlap.h"
#include "proto/channel.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "proto/overlapd.pb-c.h"
#include "proto/ring.h"
#include "tests/harness/harness.h"

#define LANE_RECORDS 8u

/* What the daemon answers to LaneAdd. */
struct offer {
        uint32_t n_records;
        size_t size;    /* of the memory; 0: no descriptor comes */
        uint32_t magic; /* in its header */
        bool is_sealed;
};

/* A daemon for one session of one thread. */
struct liar {
        char path[108];
        int listen_fd, fd;
        pthread_t thread;
        struct offer offer;
        struct ovl_lane_daemon *words; /* its own mapping; NULL: it could not be made */
        size_t size;
        const struct ovl_lane_client *client; /* what the library shows; NULL: nothing came */
        size_t client_size;
        size_t n_in;
        uint8_t in[FRAME_SIZE_MAX];
        struct message_arena arena;
};

static void liar_send(struct liar *liar, Overlapd__Reply *reply, int with_fd) {
        Overlapd__FromDaemon message = OVERLAPD__FROM_DAEMON__INIT;
        _cleanup_free_ void *frame = NULL;
        ssize_t len;

        message.what_case = OVERLAPD__FROM_DAEMON__WHAT_REPLY;
        message.reply = reply;
        len = message_pack_frame(&message.base, with_fd >= 0, &frame);
        assert_ok(len);
        assert_int_equal(channel_send(liar->fd, &(struct iovec){ frame, (size_t) len }, 1, with_fd), len);
}

static void liar_hello(struct liar *liar, uint32_t id) {
        Overlapd__HelloReply hello = OVERLAPD__HELLO_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        static uint8_t secret[16];

        hello.version = 1;
        hello.level = 2;
        hello.session = 77;
        hello.credits = 4;
        hello.secret = (ProtobufCBinaryData){ .len = 16, .data = secret };
        reply.id = id;
        reply.what_case = OVERLAPD__REPLY__WHAT_HELLO;
        reply.hello = &hello;
        liar_send(liar, &reply, -1);
}

static void liar_lane(struct liar *liar, uint32_t id) {
        Overlapd__LaneAddReply lane_add = OVERLAPD__LANE_ADD_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        _cleanup_fd_ int fd = -1;

        if (liar->offer.size > 0) {
                fd = memfd_create("lane", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                assert_int_equal(ftruncate(fd, (off_t) liar->offer.size), 0);
                liar->size = liar->offer.size;
                liar->words = mmap(NULL, liar->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                assert_true(liar->words != MAP_FAILED);
                liar->words->magic = liar->offer.magic;
                liar->words->version = 1;
                if (liar->offer.is_sealed)
                        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
        }
        lane_add.n_records = liar->offer.n_records;
        reply.id = id;
        reply.what_case = OVERLAPD__REPLY__WHAT_LANE_ADD;
        reply.lane_add = &lane_add;
        liar_send(liar, &reply, fd);
}

static void liar_serve(struct liar *liar, const uint8_t *body, size_t len) {
        const Overlapd__Request *request;
        ProtobufCMessage *message;
        const char *problem;

        assert_ok(message_unpack(&liar->arena, &overlapd__request__descriptor, body, len, &message, &problem));
        request = (const Overlapd__Request *) message;
        if (request->what_case == OVERLAPD__REQUEST__WHAT_HELLO)
                liar_hello(liar, request->id);
        else if (request->what_case == OVERLAPD__REQUEST__WHAT_LANE_ADD)
                liar_lane(liar, request->id);
}

static void liar_map_client(struct liar *liar, int fd) {
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        liar->client_size = (size_t) st.st_size;
        liar->client = mmap(NULL, liar->client_size, PROT_READ, MAP_SHARED, fd, 0);
        assert_true(liar->client != MAP_FAILED);
}

static void *liar_run(void *argument) {
        struct liar *liar = argument;
        struct ovl_frame_header header;
        const char *problem;
        struct iovec part;
        ssize_t n;

        liar->fd = accept4(liar->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        for (;;) {
                union {
                        char bytes[CMSG_SPACE(sizeof(int))];
                        struct cmsghdr align;
                } control;
                struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes };
                struct cmsghdr *came;
                int fd;

                message.msg_controllen = sizeof(control.bytes);
                part = (struct iovec){ liar->in + liar->n_in, sizeof(liar->in) - liar->n_in };
                n = recvmsg(liar->fd, &message, MSG_CMSG_CLOEXEC);
                if (n <= 0)
                        return NULL;
                came = CMSG_FIRSTHDR(&message);
                if (came) {
                        memcpy(&fd, CMSG_DATA(came), sizeof(fd));
                        liar_map_client(liar, fd);
                        close(fd);
                }
                liar->n_in += (size_t) n;
                while (frame_find(liar->in, liar->n_in, FRAME_FROM_CLIENT, &header, &problem) > 0) {
                        size_t len = sizeof(header) + header.body_len;

                        if (header.kind == OVL_FRAME_CONTROL)
                                liar_serve(liar, liar->in + sizeof(header), header.body_len);
                        memmove(liar->in, liar->in + len, liar->n_in - len);
                        liar->n_in -= len;
                }
        }
}

static void liar_start(struct liar *liar, const struct offer *offer) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        memset(liar, 0, sizeof(*liar));
        liar->offer = *offer;
        message_arena_init(&liar->arena);
        snprintf(liar->path, sizeof(liar->path), "%s/s", harness_directory());
        memcpy(address.sun_path, liar->path, sizeof(liar->path));
        liar->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(liar->listen_fd, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(listen(liar->listen_fd, 1), 0);
        assert_int_equal(pthread_create(&liar->thread, NULL, liar_run, liar), 0);
}

static int liar_open(struct liar *liar, struct ovl_session **ret_session, struct ovl_error *ret_error) {
        struct ovl_session_options options = { .path = liar->path, .level = "ring" };

        return ovl_session_open(&options, ret_session, ret_error);
}

/* The library has hung up. */
static void liar_stop(struct liar *liar) {
        pthread_join(liar->thread, NULL);
        close(liar->fd);
        close(liar->listen_fd);
        unlink(liar->path);
        if (liar->words)
                munmap(liar->words, liar->size);
        if (liar->client)
                munmap((void *) liar->client, liar->client_size);
}

static const struct offer honest = { LANE_RECORDS, 8192, OVL_LANE_MAGIC, true };

/* --- Memory ----------------------------------------------------------------------------------------------------- */

static void lane_memory_is_checked(void **state) {
        static const struct offer offers[] = {
                { LANE_RECORDS, 0, 0, false },
                { LANE_RECORDS, 8192, OVL_LANE_MAGIC, false }, /* could shrink under the reader */
                { LANE_RECORDS, 4096, OVL_LANE_MAGIC, true },
                { LANE_RECORDS, 16384, OVL_LANE_MAGIC, true },
                { LANE_RECORDS, 8192, 0, true },
                { 0, 8192, OVL_LANE_MAGIC, true },
                { 3, 8192, OVL_LANE_MAGIC, true },
                { 2, 8192, OVL_LANE_MAGIC, true },
                { UINT32_MAX, 8192, OVL_LANE_MAGIC, true },
                { 0x80000000, 8192, OVL_LANE_MAGIC, true },
        };

        for (size_t i = 0; i < HARNESS_N(offers); i++) {
                struct ovl_session *session = NULL;
                struct ovl_error error = { 0 };
                struct liar liar;

                liar_start(&liar, &offers[i]);
                assert_int_equal(liar_open(&liar, &session, &error), -EPROTO);
                assert_int_equal(error.reason, OVL_REASON_BAD_LANE);
                assert_null(session);
                liar_stop(&liar);
        }
}

/* --- Rings ------------------------------------------------------------------------------------------------------ */

/* Puts a record into the ring and shows a tail. */
static void liar_show(struct liar *liar, const struct ovl_record *record, uint32_t tail) {
        struct ring ring;

        ring_init(&ring, liar->words, LANE_RECORDS);
        if (record)
                ring_write(&ring, 0, record, 1);
        ring_announce(&liar->words->records_tail, tail);
}

/* Whatever is shown, the session ends, and the operation with it. */
static void lane_expect_abort(const struct ovl_record *record, uint32_t tail, uint64_t settled) {
        struct ovl_overlapped accepting = { 0 };
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_error error;
        struct liar liar;

        liar_start(&liar, &honest);
        assert_ok(liar_open(&liar, &session, &error));
        assert_ok(ovl_thread_open(session, &thread, &error));
        assert_int_equal(ovl_accept(thread, 5, 0, &accepting, NULL), OVL_PENDING);
        __atomic_store_n(&liar.words->settled, settled, __ATOMIC_SEQ_CST);
        liar_show(&liar, record, tail);
        assert_int_equal(ovl_wait(thread, &accepting, 10 * NS_PER_S, 0), 0);
        assert_int_equal(ovl_result(&accepting), -ECONNABORTED);
        assert_int_equal(ovl_dispatch(thread), -ECONNABORTED);
        assert_int_equal(ovl_accept(thread, 5, 0, &accepting, NULL), -ECONNABORTED);
        assert_null(ovl_thread_close(thread));
        assert_null(ovl_session_free(session));
        liar_stop(&liar);
}

static void lane_garbage_ends_the_session(void **state) {
        const struct ovl_record unknown = { .tag = 999, .thread = 1, .op = OVL_OP_ACCEPT };
        const struct ovl_record settled = { .kind = OVL_RECORD_SETTLED, .value = 1000 };
        struct ovl_record garbage;

        lane_expect_abort(NULL, LANE_RECORDS + 1, 0);
        lane_expect_abort(NULL, UINT32_MAX, 0);
        lane_expect_abort(NULL, 0x80000000, 0);
        lane_expect_abort(NULL, 1, 0); /* a record of zeros */
        lane_expect_abort(&unknown, 1, 0);
        lane_expect_abort(&settled, 1, 0);
        lane_expect_abort(NULL, 0, 2); /* more settled than were posted */
        memset(&garbage, 0xff, sizeof(garbage));
        lane_expect_abort(&garbage, LANE_RECORDS, 0);
}

/* A payload has no place in a lane: nothing is copied from beyond it. */
static void lane_records_have_no_payload(void **state) {
        struct ovl_record record = { .thread = 1, .op = OVL_OP_ACCEPT, .payload_len = 4096, .bytes = 4096 };

        /* The first tag of a session. */
        record.tag = UINT64_C(1) << 32 | 1;
        lane_expect_abort(&record, 1, 0);
}

/* --- Sleep ------------------------------------------------------------------------------------------------------ */

#define LANE_MANY 131072u

static const struct offer roomy = { LANE_MANY, 4096 + LANE_MANY * 64, OVL_LANE_MAGIC, true };

/* A session and its thread, which looks for records for a while before it sleeps. */
struct sleeper {
        struct liar liar;
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ring ring;
        unsigned is_over; /* for a thread of the test's */
};

static void sleeper_start(struct sleeper *sleeper, uint32_t poll_us) {
        struct ovl_session_options options = { .level = "ring", .poll_us = poll_us };

        liar_start(&sleeper->liar, &roomy);
        options.path = sleeper->liar.path;
        assert_ok(ovl_session_open(&options, &sleeper->session, NULL));
        assert_ok(ovl_thread_open(sleeper->session, &sleeper->thread, NULL));
        ring_init(&sleeper->ring, sleeper->liar.words, LANE_MANY);
        sleeper->is_over = 0;
}

static void sleeper_stop(struct sleeper *sleeper) {
        assert_null(ovl_session_free(sleeper->session));
        liar_stop(&sleeper->liar);
}

/* Writes a record; nobody sees it yet. An accept's is the n-th of the session, from 1. */
static void sleeper_write(struct sleeper *sleeper, uint32_t place, uint8_t kind, uint64_t n) {
        struct ovl_record record = { .kind = kind };

        if (kind == OVL_RECORD_COMPLETION)
                record = (struct ovl_record){ .tag = UINT64_C(1) << 32 | n, .thread = 1, .op = OVL_OP_ACCEPT };
        ring_write(&sleeper->ring, place, &record, 1);
}

static void sleeper_ring_bell(struct sleeper *sleeper) {
        struct {
                struct ovl_frame_header frame;
                struct ovl_records_header header;
                struct ovl_record record;
        } bell = {
                .header = { .n_records = 1 },
                .record = { .kind = OVL_RECORD_WAITING, .value = 1 },
        };

        frame_pack_header((uint8_t *) &bell.frame, OVL_FRAME_RECORDS, sizeof(bell) - sizeof(bell.frame), 0);
        assert_int_equal(send(sleeper->liar.fd, &bell, sizeof(bell), 0), sizeof(bell));
}

/* The first of two operations has ended; while that is taken in the second one ends, and no bell is due for it. */
struct late {
        struct sleeper sleeper;
        struct pollfd first;
};

static void *lane_end_late(void *argument) {
        struct late *late = argument;

        assert_int_equal(poll(&late->first, 1, 20000), 1);
        ring_announce(&late->sleeper.liar.words->records_tail, LANE_MANY);
        return NULL;
}

/* A loop that is not the library's hears also of what came between the taking and the bell. */
static void lane_wakes_loops(void **state) {
        struct ovl_overlapped accepting[2] = { 0 };
        static struct late late;
        struct ovl_event *event;
        struct pollfd look = { .events = POLLIN };
        pthread_t thread;

        sleeper_start(&late.sleeper, OVL_POLL_NEVER);
        assert_ok(ovl_event_open(late.sleeper.session, 0, &event));
        late.first = (struct pollfd){ .fd = ovl_event_export(event), .events = POLLIN };
        look.fd = ovl_thread_fd(late.sleeper.thread);
        accepting[0].event = event;
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(ovl_accept(late.sleeper.thread, 5, 0, &accepting[i], NULL), OVL_PENDING);
        sleeper_write(&late.sleeper, 0, OVL_RECORD_COMPLETION, 1);
        for (uint32_t i = 1; i < LANE_MANY - 1; i++)
                sleeper_write(&late.sleeper, i, OVL_RECORD_WAITING, 0);
        sleeper_write(&late.sleeper, LANE_MANY - 1, OVL_RECORD_COMPLETION, 2);
        assert_int_equal(pthread_create(&thread, NULL, lane_end_late, &late), 0);
        ring_announce(&late.sleeper.liar.words->records_tail, LANE_MANY - 1);
        sleeper_ring_bell(&late.sleeper);
        while (ovl_result(&accepting[1]) == -EINPROGRESS) {
                assert_int_equal(poll(&look, 1, 20000), 1);
                assert_ok(ovl_dispatch(late.sleeper.thread));
        }
        pthread_join(thread, NULL);
        assert_null(ovl_event_close(event));
        assert_null(ovl_thread_close(late.sleeper.thread));
        sleeper_stop(&late.sleeper);
}

/* Always has news that concern nobody. */
static void *lane_pump(void *argument) {
        struct sleeper *sleeper = argument;
        uint64_t end = now_ns() + 10 * NS_PER_S;
        uint32_t tail = 0;

        while (__atomic_load_n(&sleeper->is_over, __ATOMIC_RELAXED) == 0 && now_ns() < end) {
                if (tail - shm_load32_acquire(&sleeper->liar.client->records_head) > LANE_MANY / 8 * 7)
                        continue;
                tail += LANE_MANY / 8;
                ring_announce(&sleeper->liar.words->records_tail, tail);
        }
        return NULL;
}

/* A wait ends in time also where news never end. */
static void lane_waits_end(void **state) {
        static struct sleeper sleeper;
        pthread_t thread;
        uint64_t begin;

        sleeper_start(&sleeper, 0);
        for (uint32_t i = 0; i < LANE_MANY; i++)
                sleeper_write(&sleeper, i, OVL_RECORD_WAITING, 0);
        assert_int_equal(pthread_create(&thread, NULL, lane_pump, &sleeper), 0);
        begin = now_ns();
        assert_int_equal(ovl_sleep(sleeper.thread, 50 * NS_PER_MS), 0);
        assert_in_range(now_ns() - begin, 50 * NS_PER_MS, 8 * NS_PER_S);
        __atomic_store_n(&sleeper.is_over, 1, __ATOMIC_RELAXED);
        pthread_join(thread, NULL);
        assert_null(ovl_thread_close(sleeper.thread));
        sleeper_stop(&sleeper);
}

static void lane_nothing(struct ovl_thread *thread, uint64_t argument) {
}

/* Wakes the thread again and again, for nothing. */
static void *lane_disturb(void *argument) {
        struct sleeper *sleeper = argument;
        uint64_t end = now_ns() + 50 * NS_PER_MS, next = 0;

        while (now_ns() < end) {
                if (now_ns() < next)
                        continue;
                next = now_ns() + NS_PER_MS;
                assert_ok(ovl_apc_queue(sleeper->thread, lane_nothing, 0));
        }
        return NULL;
}

static uint64_t lane_cpu_ns(void) {
        struct timespec time;

        assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time), 0);
        return (uint64_t) time.tv_sec * NS_PER_S + (uint64_t) time.tv_nsec;
}

/* Who looks before sleeping, and is told of something that is not what it waits for, does not look for ever. */
static void lane_signals_end(void **state) {
        static struct sleeper sleeper;
        struct ovl_event *event;
        pthread_t thread;
        uint64_t begin;

        sleeper_start(&sleeper, 100000);
        assert_ok(ovl_event_open(sleeper.session, 0, &event));
        /* Short sleeps: looking would have paid. */
        for (size_t i = 0; i < 8; i++)
                assert_int_equal(ovl_sleep(sleeper.thread, NS_PER_MS), 0);
        assert_int_equal(pthread_create(&thread, NULL, lane_disturb, &sleeper), 0);
        begin = lane_cpu_ns();
        assert_int_equal(ovl_wait_events(sleeper.thread, &event, 1, 0, 3 * NS_PER_S, 0, NULL), -ETIMEDOUT);
        assert_in_range(lane_cpu_ns() - begin, 0, 600 * NS_PER_MS);
        pthread_join(thread, NULL);
        assert_null(ovl_event_close(event));
        assert_null(ovl_thread_close(sleeper.thread));
        sleeper_stop(&sleeper);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "memory that is no lane is refused", lane_memory_is_checked, 60 },
                { "garbage in a lane ends the session", lane_garbage_ends_the_session, 60 },
                { "records in a lane have no payload", lane_records_have_no_payload },
                { "what comes beside a bell wakes loops, too", lane_wakes_loops },
                { "waits end in time where news never end", lane_waits_end, 60 },
                { "a signal does not keep a thread awake", lane_signals_end, 60 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
