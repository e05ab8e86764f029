/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Between taking an entry and sending its record the worker allocates nothing. The worker runs here in the test's own
 * process, on the real engine and with real connections, so that every allocation can be counted; the test plays the
 * monitor and the client. What is counted are whole turns: from the first that sees the frame with the entries to the
 * one that sends the last of their records.
 *
 * Requests are cold and may allocate. A cancel is a request that ends ops, so its turns are compared: one that ends
 * many ops allocates as often as one that ends a single op.
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "daemon/link.h"
#include "daemon/worker/lane.h"
#include "daemon/worker/worker.h"
#include "proto/channel.h"
#include "proto/message.h"
#include "proto/overlapd.pb-c.h"
#include "tests/harness/harness.h"
#include "tests/sim/count.h"
#include "tests/sim/limit.h"

#define REGION_SIZE 65536u
#define N_OPS 24u
#define INLINE_LEN 2000u

struct bench {
        struct stats stats;
        struct worker *worker;
        int link_fd;
        int channel_fd;
        int peer_fd;   /* the other side of the connection */
        int listen_fd; /* the test's copy of the listener */
        uint8_t *data; /* the region */
        uint64_t connected;
        uint64_t listening;
        uint8_t inbox[65536];
        size_t n_in;
        struct ovl_record records[128];
        size_t n_records;
        uint32_t n_replies;
        uint32_t cancelled;
        uint64_t socket; /* of the last reply to an open */
        struct message_arena arena;
};

/* --- The client -----------------------------------------------------------------------------------------------------
 */

static void bench_take_reply(struct bench *bench, const uint8_t *body, size_t len) {
        const char *problem = "";
        ProtobufCMessage *unpacked;
        Overlapd__Reply *reply;

        assert_ok(message_unpack(&bench->arena, &overlapd__from_daemon__descriptor, body, len, &unpacked, &problem));
        assert_int_equal(((Overlapd__FromDaemon *) unpacked)->what_case, OVERLAPD__FROM_DAEMON__WHAT_REPLY);
        reply = ((Overlapd__FromDaemon *) unpacked)->reply;
        if (reply->status < 0)
                fail_msg("a request failed: %s", reply->text);
        bench->n_replies++;
        if (reply->what_case == OVERLAPD__REPLY__WHAT_SOCKET_OPEN)
                bench->socket = reply->socket_open->socket;
        if (reply->what_case == OVERLAPD__REPLY__WHAT_CANCEL)
                bench->cancelled = reply->cancel->cancelled;
}

static void bench_take_records(struct bench *bench, const uint8_t *body) {
        struct ovl_records_header header;

        memcpy(&header, body, sizeof(header));
        assert_true(bench->n_records + header.n_records <= HARNESS_N(bench->records));
        memcpy(bench->records + bench->n_records, body + sizeof(header), header.n_records * sizeof(struct ovl_record));
        bench->n_records += header.n_records;
}

/* Takes what has come. Does not allocate for records. */
static void bench_read(struct bench *bench) {
        struct ovl_frame_header header;
        ssize_t n =
                recv(bench->channel_fd, bench->inbox + bench->n_in, sizeof(bench->inbox) - bench->n_in, MSG_DONTWAIT);

        if (n > 0)
                bench->n_in += (size_t) n;
        while (bench->n_in >= sizeof(header)) {
                size_t len;

                memcpy(&header, bench->inbox, sizeof(header));
                len = sizeof(header) + header.body_len;
                if (bench->n_in < len)
                        return;
                if (header.kind == OVL_FRAME_RECORDS)
                        bench_take_records(bench, bench->inbox + sizeof(header));
                else
                        bench_take_reply(bench, bench->inbox + sizeof(header), header.body_len);
                bench->n_in -= len;
                memmove(bench->inbox, bench->inbox + len, bench->n_in);
        }
}

static void bench_send(struct bench *bench, const void *bytes, size_t len, int fd) {
        struct iovec part = { (void *) bytes, len };

        assert_int_equal(channel_send(bench->channel_fd, &part, 1, fd), len);
}

static void bench_request(struct bench *bench, Overlapd__Request *request, int fd) {
        _cleanup_free_ void *frame = NULL;
        ssize_t len;

        request->id = bench->n_replies + 1;
        len = message_pack_frame(&request->base, fd >= 0 ? 1 : 0, &frame);
        assert_ok(len);
        bench_send(bench, frame, (size_t) len, fd);
}

/* Bytes of zeros that go along with an entry. */
static uint32_t bench_payload_len(const struct ovl_entry *entry) {
        return entry->op == OVL_OP_SEND && (entry->flags & OVL_ENTRY_INLINE) ? entry->buffer.len : 0;
}

static void bench_post(struct bench *bench, const struct ovl_entry *entries, uint32_t n) {
        uint8_t frame[sizeof(struct ovl_frame_header) + sizeof(struct ovl_post_header) +
                      N_OPS * (OVL_SLOT_SIZE + INLINE_LEN)] = { 0 };
        struct ovl_post_header post = { .n_slots = n };
        struct ovl_frame_header header = {
                .body_len = (uint32_t) (sizeof(post) + n * OVL_SLOT_SIZE),
                .kind = OVL_FRAME_POST,
        };
        uint8_t *to = frame;

        assert_true(n <= N_OPS);
        for (uint32_t i = 0; i < n; i++)
                header.body_len += bench_payload_len(&entries[i]);
        memcpy(to, &header, sizeof(header));
        memcpy(to + sizeof(header), &post, sizeof(post));
        to += sizeof(header) + sizeof(post);
        for (uint32_t i = 0; i < n; i++, to += OVL_SLOT_SIZE)
                memcpy(to, &entries[i], OVL_SLOT_SIZE);
        bench_send(bench, frame, sizeof(header) + header.body_len, -1);
}

/* --- The monitor ----------------------------------------------------------------------------------------------------
 */

static int tcp_listen(struct sockaddr_in *ret_address) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_ok(fd);
        assert_ok(bind(fd, (struct sockaddr *) &address, sizeof(address)));
        assert_ok(listen(fd, 64));
        assert_ok(getsockname(fd, (struct sockaddr *) &address, &len));
        *ret_address = address;
        return fd;
}

static int tcp_connect(int listen_fd) {
        struct sockaddr_in address;
        socklen_t len = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_ok(fd);
        assert_ok(getsockname(listen_fd, (struct sockaddr *) &address, &len));
        assert_ok(connect(fd, (struct sockaddr *) &address, len));
        return fd;
}

/* Answers what the worker asked. with_fd: what an open gets; borrowed. */
static void bench_answer(struct bench *bench, int with_fd) {
        struct link_message message, answer = { .kind = LINK_ANSWER };
        int fd;

        while (link_receive(bench->link_fd, &message, &fd) > 0) {
                fd_close(fd);
                if (message.kind == LINK_CHANNEL_OPEN)
                        continue;
                answer.ticket = message.ticket;
                assert_ok(link_send(bench->link_fd, &answer, message.kind == LINK_SOCKET ? with_fd : -1));
        }
}

static void bench_await(struct bench *bench, uint32_t n_replies, size_t n_records, int with_fd) {
        while (bench->n_replies < n_replies || bench->n_records < n_records) {
                assert_int_equal(worker_turn(bench->worker, true), 1);
                bench_read(bench);
                bench_answer(bench, with_fd);
        }
}

/* As bench_await() for records alone. Returns how often memory was allocated in the meantime. */
static uint64_t bench_count(struct bench *bench, size_t n_records) {
        count_start();
        while (bench->n_records < n_records) {
                if (worker_turn(bench->worker, true) != 1)
                        break;
                bench_read(bench);
        }
        return count_stop();
}

/* --- Set-up ---------------------------------------------------------------------------------------------------------
 */

static void bench_hello(struct bench *bench) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Hello hello = OVERLAPD__HELLO__INIT;

        hello.version_min = hello.version_max = OVL_PROTOCOL_MAX;
        hello.level = 2;
        hello.thread = 1;
        hello.credits = N_OPS;
        request.what_case = OVERLAPD__REQUEST__WHAT_HELLO;
        request.hello = &hello;
        bench_request(bench, &request, -1);
        bench_await(bench, 1, 0, -1);
}

static void bench_add_region(struct bench *bench) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionAdd add = OVERLAPD__REGION_ADD__INIT;
        _cleanup_fd_ int fd = memfd_create("allocation", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_ok(fd);
        assert_int_equal(posix_fallocate(fd, 0, REGION_SIZE), 0);
        bench->data = mmap(NULL, REGION_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(bench->data != MAP_FAILED);
        add.size = REGION_SIZE;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_ADD;
        request.region_add = &add;
        bench_request(bench, &request, fd);
        bench_await(bench, 2, 0, -1);
}

static uint64_t bench_open(struct bench *bench, int fd) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOpen open = OVERLAPD__SOCKET_OPEN__INIT;

        open.family = OVERLAPD__FAMILY__FAMILY_INET;
        open.type = OVERLAPD__TYPE__TYPE_STREAM;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPEN;
        request.socket_open = &open;
        bench_request(bench, &request, -1);
        bench_await(bench, bench->n_replies + 1, 0, fd);
        return bench->socket;
}

/* The monitor says yes to a connect of a socket that is connected already. */
static void bench_connect(struct bench *bench, int fd) {
        struct ovl_frame_header header = {
                .body_len = sizeof(struct ovl_post_header) + 2 * OVL_SLOT_SIZE,
                .kind = OVL_FRAME_POST,
        };
        struct ovl_post_header post = { .n_slots = 2 };
        struct ovl_entry entry = { .tag = 1, .op = OVL_OP_CONNECT, .n_slots = 2 };
        uint8_t frame[sizeof(header) + sizeof(post) + 2 * OVL_SLOT_SIZE];

        bench->connected = bench_open(bench, fd);
        entry.socket = bench->connected;
        entry.address.family = OVL_FAMILY_INET;
        entry.address.host[0] = 127;
        memcpy(frame, &header, sizeof(header));
        memcpy(frame + sizeof(header), &post, sizeof(post));
        memcpy(frame + sizeof(header) + sizeof(post), &entry, 2 * OVL_SLOT_SIZE);
        bench_send(bench, frame, sizeof(frame), -1);
        bench_await(bench, 0, 1, -1);
        assert_int_equal(bench->records[0].status, 0);
        bench->n_records = 0;
}

static void bench_listen(struct bench *bench, int fd) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketListen listen_request = OVERLAPD__SOCKET_LISTEN__INIT;

        bench->listening = bench_open(bench, fd);
        listen_request.socket = bench->listening;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN;
        request.socket_listen = &listen_request;
        bench_request(bench, &request, -1);
        bench_await(bench, bench->n_replies + 1, 0, -1);
}

static struct bench *bench_new(void) {
        struct link_message channel = { .kind = LINK_CHANNEL, .body.peer = { .channel = 1, .shard = 1 } };
        struct link_message limits = limits_message(0, 1);
        struct bench *bench = calloc(1, sizeof(*bench));
        struct sockaddr_in address;
        struct features features = { 0 };
        struct engine *engine;
        char problem[ENGINE_REASON_SIZE];
        int link[2], pair[2];
        int fd;

        assert_non_null(bench);
        message_arena_init(&bench->arena);
        if (engine_new(getenv("OVL_TEST_ENGINE"), &bench->stats, &features, &engine, problem, sizeof(problem)) < 0)
                harness_skip(problem);
        assert_ok(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link));
        assert_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
        assert_ok(worker_new(engine, "the test", link[1], PLANT_NONE, &bench->worker));
        bench->link_fd = link[0];
        bench->channel_fd = pair[0];
        assert_ok(link_send(bench->link_fd, &limits, -1));
        assert_ok(link_send(bench->link_fd, &channel, pair[1]));
        fd_close(pair[1]);
        bench_hello(bench);
        bench_add_region(bench);
        bench->listen_fd = tcp_listen(&address);
        bench->peer_fd = tcp_connect(bench->listen_fd);
        fd = accept4(bench->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        assert_ok(fd);
        bench_connect(bench, fd);
        fd_close(fd);
        bench_listen(bench, bench->listen_fd);
        return bench;
}

static void bench_free(struct bench *bench) {
        bench->worker = worker_free(bench->worker);
        munmap(bench->data, REGION_SIZE);
        fd_close(bench->listen_fd);
        fd_close(bench->peer_fd);
        fd_close(bench->channel_fd);
        fd_close(bench->link_fd);
        free(bench);
}

/* An op on bytes n * 256 to n * 256 + 99 of the region. */
static struct ovl_entry bench_entry(const struct bench *bench, uint8_t op, uint32_t n) {
        return (struct ovl_entry){
                .tag = n + 1,
                .socket = bench->connected,
                .op = op,
                .n_slots = 1,
                .buffer = { .offset = n * 256, .len = 100, .region = 1 },
        };
}

/* --- Cases ----------------------------------------------------------------------------------------------------------
 */

/* Posts n entries that end by themselves and checks that nothing was allocated until all have their records. */
static void bench_check(struct bench *bench, const struct ovl_entry *entries, uint32_t n, bool succeeds) {
        uint64_t n_allocations;

        bench->n_records = 0;
        bench_post(bench, entries, n);
        n_allocations = bench_count(bench, n);
        assert_int_equal(bench->n_records, n);
        for (uint32_t i = 0; i < n; i++) {
                if (succeeds)
                        assert_int_equal(bench->records[i].status, 0);
                else
                        assert_true(bench->records[i].flags & OVL_RECORD_REFUSED);
        }
        assert_int_equal(n_allocations, 0);
}

static void allocation_send(void **state) {
        struct bench *bench = bench_new();
        struct ovl_entry entry = bench_entry(bench, OVL_OP_SEND, 0);

        bench_check(bench, &entry, 1, true);
        bench_free(bench);
}

static void allocation_recv(void **state) {
        struct bench *bench = bench_new();
        struct ovl_entry entry = bench_entry(bench, OVL_OP_RECV, 0);

        assert_int_equal(send(bench->peer_fd, "hello", 5, 0), 5);
        bench_check(bench, &entry, 1, true);
        assert_memory_equal(bench->data, "hello", 5);
        bench_free(bench);
}

/* The receives wait in the kernel before the bytes come; those behind the first share its request. */
static void allocation_merged(void **state) {
        struct bench *bench = bench_new();
        struct ovl_entry entries[N_OPS];
        uint8_t bytes[N_OPS * 100] = { 0 };
        uint64_t n_merged;

        for (uint32_t i = 0; i < N_OPS; i++)
                entries[i] = bench_entry(bench, OVL_OP_SEND, i);
        bench_check(bench, entries, N_OPS, true);
        for (uint32_t i = 0; i < N_OPS; i++)
                entries[i].op = OVL_OP_RECV;
        n_merged = bench->worker->resources.stats.merged_ops;
        assert_int_equal(send(bench->peer_fd, bytes, sizeof(bytes), 0), sizeof(bytes));
        bench_check(bench, entries, N_OPS, true);
        assert_true(bench->worker->resources.stats.merged_ops > n_merged);
        bench_free(bench);
}

static void allocation_vector(void **state) {
        struct bench *bench = bench_new();
        struct ovl_slice slices[3] = { { 0, 10, 1 }, { 512, 20, 1 }, { 1024, 30, 1 } };
        struct ovl_entry entry = bench_entry(bench, OVL_OP_SEND, 0);

        memcpy(bench->data + 4096, slices, sizeof(slices));
        entry.flags = OVL_ENTRY_VECTOR;
        entry.buffer = (struct ovl_slice){ .offset = 4096, .len = sizeof(slices), .region = 1 };
        bench_check(bench, &entry, 1, true);
        entry.op = OVL_OP_RECV;
        assert_int_equal(send(bench->peer_fd, "hello", 5, 0), 5);
        bench_check(bench, &entry, 1, true);
        bench_free(bench);
}

static void allocation_accept(void **state) {
        struct bench *bench = bench_new();
        struct ovl_entry entries[N_OPS];
        int fds[N_OPS];

        for (uint32_t i = 0; i < N_OPS; i++) {
                entries[i] = (struct ovl_entry){
                        .tag = i + 1,
                        .socket = bench->listening,
                        .op = OVL_OP_ACCEPT,
                        .n_slots = 1,
                };
                fds[i] = tcp_connect(bench->listen_fd);
        }
        bench_check(bench, entries, N_OPS, true);
        for (uint32_t i = 0; i < N_OPS; i++) {
                assert_true(bench->records[i].value != 0);
                fd_close(fds[i]);
        }
        bench_free(bench);
}

static void allocation_accept_with_data(void **state) {
        struct bench *bench = bench_new();
        struct ovl_entry entries[N_OPS];
        int fds[N_OPS];

        for (uint32_t i = 0; i < N_OPS; i++) {
                entries[i] = bench_entry(bench, OVL_OP_ACCEPT, i);
                entries[i].socket = bench->listening;
                fds[i] = tcp_connect(bench->listen_fd);
                assert_int_equal(send(fds[i], "hello", 5, 0), 5);
        }
        bench_check(bench, entries, N_OPS, true);
        for (uint32_t i = 0; i < N_OPS; i++) {
                assert_true(bench->records[i].value != 0);
                assert_int_equal(bench->records[i].bytes, 5);
                fd_close(fds[i]);
        }
        bench_free(bench);
}

static void allocation_refused(void **state) {
        struct bench *bench = bench_new();
        struct ovl_entry entries[N_OPS];

        for (uint32_t i = 0; i < N_OPS; i++) {
                entries[i] = bench_entry(bench, i % 3 == 0 ? 77 : OVL_OP_RECV, i);
                entries[i].buffer.region = 9;
                if (i % 3 == 1)
                        entries[i].socket = 12345;
        }
        bench_check(bench, entries, N_OPS, false);
        bench_free(bench);
}

/* Payload goes through pieces that are there from the beginning, of several entries and of several pieces, too. */
static void allocation_inline(void **state) {
        struct bench *bench = bench_new();
        struct ovl_entry entries[N_OPS];
        uint8_t bytes[N_OPS * 100] = { 0 };

        for (uint32_t i = 0; i < N_OPS; i++) {
                entries[i] = bench_entry(bench, OVL_OP_SEND, i);
                entries[i].flags = OVL_ENTRY_INLINE;
                entries[i].buffer = (struct ovl_slice){ .len = INLINE_LEN };
        }
        bench_check(bench, entries, N_OPS, true);
        for (uint32_t i = 0; i < N_OPS; i++) {
                entries[i].tag = 1;
                entries[i].flags |= i + 1 < N_OPS ? OVL_ENTRY_MORE : 0;
        }
        bench->n_records = 0;
        bench_post(bench, entries, N_OPS);
        assert_int_equal(bench_count(bench, 1), 0);
        assert_int_equal(bench->records[0].bytes, N_OPS * INLINE_LEN);
        for (uint32_t i = 0; i < N_OPS; i++) {
                entries[i].op = OVL_OP_RECV;
                entries[i].flags = OVL_ENTRY_INLINE;
                entries[i].buffer.len = 100;
        }
        assert_int_equal(send(bench->peer_fd, bytes, sizeof(bytes), 0), sizeof(bytes));
        bench_check(bench, entries, N_OPS, true);
        for (uint32_t i = 0; i < N_OPS; i++)
                assert_int_equal(bench->records[i].payload_len, 100);
        bench_free(bench);
}

/* The client's half of a lane. The test looks at the daemon's where the worker has it. */
static struct ovl_lane_client *bench_add_lane(struct bench *bench, struct lane **ret_lane) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__LaneAdd lane_add = OVERLAPD__LANE_ADD__INIT;
        _cleanup_fd_ int fd = memfd_create("lane", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        struct ovl_lane_client *words;

        assert_ok(fd);
        assert_int_equal(posix_fallocate(fd, 0, (off_t) ring_size(64)), 0);
        words = mmap(NULL, ring_size(64), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(words != MAP_FAILED);
        words->magic = OVL_LANE_MAGIC;
        words->version = 1;
        words->n_slots = lane_add.n_slots = 64;
        request.what_case = OVERLAPD__REQUEST__WHAT_LANE_ADD;
        request.lane_add = &lane_add;
        bench_request(bench, &request, fd);
        bench_await(bench, bench->n_replies + 1, 0, -1);
        *ret_lane = list_entry(list_first(&bench->worker->peers), struct peer, link)->lane;
        assert_non_null(*ret_lane);
        return words;
}

static void allocation_lane(void **state) {
        struct bench *bench = bench_new();
        struct ovl_lane_client *words;
        struct lane *lane;
        struct ring slots;

        words = bench_add_lane(bench, &lane);
        ring_init(&slots, words, 64);
        for (uint32_t round = 1; round <= 10; round++) {
                for (uint32_t i = 0; i < N_OPS; i++) {
                        struct ovl_entry entry = bench_entry(bench, OVL_OP_SEND, i);

                        ring_write(&slots, words->slots_tail + i, &entry, 1);
                }
                ring_announce(&words->slots_tail, words->slots_tail + N_OPS);
                lane_awaken(lane);
                count_start();
                while (lane->records_tail < round * N_OPS)
                        if (worker_turn(bench->worker, false) != 1)
                                break;
                assert_int_equal(count_stop(), 0);
                ring_announce(&words->records_head, lane->records_tail);
        }
        munmap(words, ring_size(64));
        bench_free(bench);
}

/* Returns how often memory is allocated while a cancel ends n receives. */
static uint64_t bench_cancel(struct bench *bench, uint32_t n) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;
        struct ovl_entry entries[N_OPS];
        uint32_t n_replies = bench->n_replies;
        uint64_t n_allocations;

        for (uint32_t i = 0; i < n; i++)
                entries[i] = bench_entry(bench, OVL_OP_RECV, i);
        bench->n_records = 0;
        bench_post(bench, entries, n);
        cancel.socket = bench->connected;
        cancel.which_case = OVERLAPD__CANCEL__WHICH_ALL;
        cancel.all = true;
        request.what_case = OVERLAPD__REQUEST__WHAT_CANCEL;
        request.cancel = &cancel;
        bench_request(bench, &request, -1);
        n_allocations = bench_count(bench, n);
        bench_await(bench, n_replies + 1, n, -1);
        assert_int_equal(bench->cancelled, n);
        for (uint32_t i = 0; i < n; i++)
                assert_int_equal(bench->records[i].status, -ECANCELED);
        return n_allocations;
}

static void allocation_cancel(void **state) {
        struct bench *bench = bench_new();
        uint64_t one = bench_cancel(bench, 1);

        assert_int_equal(bench_cancel(bench, N_OPS), one);
        assert_int_equal(bench_cancel(bench, 2), one);
        bench_free(bench);
}

/* The counter counts: in this program, and in a library. */
static void allocation_is_counted(void **state) {
        void *volatile memory;
        char *volatile text;

        count_start();
        memory = malloc(10);
        assert_int_equal(count_stop(), 1);
        free(memory);
        count_start();
        text = strdup("duplicated by the C library");
        assert_int_equal(count_stop(), 1);
        free(text);
        count_start();
        memory = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_int_equal(count_stop(), 1);
        munmap(memory, 4096);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "the counter counts", allocation_is_counted, 0 },
                { "nothing is allocated for a send", allocation_send, 0 },
                { "nothing is allocated for a receive", allocation_recv, 0 },
                { "nothing is allocated for vectors", allocation_vector, 0 },
                { "nothing is allocated for merged ops", allocation_merged, 0 },
                { "nothing is allocated for accepts", allocation_accept, 0 },
                { "nothing is allocated for accepts with data", allocation_accept_with_data, 0 },
                { "nothing is allocated for inline payload", allocation_inline, 0 },
                { "nothing is allocated in lanes", allocation_lane, 0 },
                { "nothing is allocated for refused entries", allocation_refused, 0 },
                { "a cancel allocates the same for one op and for many", allocation_cancel, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
