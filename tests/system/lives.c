/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Clients that die, freeze or do not read. The daemon must be as it was before them, and nobody else may notice.
 *
 * The numbers in comments are cases of the catalogue of hostile input.
 */

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/channel.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"
#include "tests/system/raw.h"

#define LIVES_MEMORY (8u << 20)

/* --- Death in each state ---------------------------------------------------------------------------------------- */

/* What a client holds when it dies; each step goes one state further. */
struct life {
        const struct daemon *daemon;
        struct raw *raw, *further;
        uint64_t socket;
        int peer; /* of the socket: it dies with the client */
};

static void life_connected(struct life *life) {
        life->raw = raw_connect(life->daemon);
}

static void life_within_a_header(struct life *life) {
        life_connected(life);
        raw_write(life->raw, "\x10\x00\x00", 3, -1);
}

static void life_open(struct life *life) {
        life->raw = raw_open(life->daemon, 0);
}

static void life_memory_sent(struct life *life) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionAdd add = OVERLAPD__REGION_ADD__INIT;

        life_open(life);
        add.size = LIVES_MEMORY;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_ADD;
        request.region_add = &add;
        raw_send(life->raw, &request, raw_memfd(LIVES_MEMORY));
}

static void life_memory_mapped(struct life *life) {
        life_open(life);
        assert_int_equal(raw_region_add(life->raw, raw_memfd(LIVES_MEMORY), LIVES_MEMORY), 1);
}

static void life_with_a_socket(struct life *life) {
        life_memory_mapped(life);
        life->socket = raw_pair(life->raw, &life->peer);
}

static void life_post(struct life *life, unsigned op, uint32_t len, size_t n) {
        for (size_t i = 0; i < n; i++) {
                struct ovl_entry entry = {
                        .tag = i,
                        .socket = life->socket,
                        .op = (uint8_t) op,
                        .n_slots = 1,
                        .buffer = { 0, len, 1 },
                };

                raw_post(life->raw, &entry, 1);
        }
}

static void life_posted_and_gone(struct life *life) {
        life_with_a_socket(life);
        life_post(life, OVL_OP_RECV, 100, 50);
}

static void life_receiving(struct life *life) {
        life_posted_and_gone(life);
        assert_int_equal(raw_status(life->raw), 0);
}

static void life_sending(struct life *life) {
        life_with_a_socket(life);
        life_post(life, OVL_OP_SEND, LIVES_MEMORY, 3);
        assert_int_equal(raw_status(life->raw), 0);
}

static void life_accepting(struct life *life) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Address address = OVERLAPD__ADDRESS__INIT;
        Overlapd__SocketBind bind_it = OVERLAPD__SOCKET_BIND__INIT;
        Overlapd__SocketListen listen_it = OVERLAPD__SOCKET_LISTEN__INIT;

        life_memory_mapped(life);
        life->socket = raw_socket(life->raw, OVL_FAMILY_INET6);
        address.family = OVERLAPD__FAMILY__FAMILY_INET6;
        address.host = (ProtobufCBinaryData){ 16, (uint8_t *) &in6addr_loopback };
        bind_it.socket = life->socket;
        bind_it.address = &address;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_BIND;
        request.socket_bind = &bind_it;
        assert_int_equal(raw_call(life->raw, &request, -1), 0);
        request.id = 0;
        listen_it.socket = life->socket;
        listen_it.backlog = 5;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN;
        request.socket_listen = &listen_it;
        assert_int_equal(raw_call(life->raw, &request, -1), 0);
        for (size_t i = 0; i < 10; i++)
                raw_post(life->raw, &(struct ovl_entry){ .socket = life->socket, .op = OVL_OP_ACCEPT, .n_slots = 1 },
                         1);
        assert_int_equal(raw_status(life->raw), 0);
}

/* A connect that nobody answers: the backlog is full. */
static void life_connecting(struct life *life) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct ovl_entry entry = { .op = OVL_OP_CONNECT, .n_slots = 2 };
        socklen_t len = sizeof(address);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        life_open(life);
        assert_int_equal(bind(listener, (struct sockaddr *) &address, len), 0);
        assert_int_equal(listen(listener, 0), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &len), 0);
        for (size_t i = 0; i < 8; i++)
                connect(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), (struct sockaddr *) &address,
                        len);
        entry.socket = raw_socket(life->raw, OVL_FAMILY_INET);
        entry.address = (struct ovl_address){ .family = OVL_FAMILY_INET, .port = ntohs(address.sin_port) };
        memcpy(entry.address.host, &address.sin_addr, 4);
        raw_post(life->raw, &entry, 1);
        assert_int_equal(raw_status(life->raw), 0);
}

static void life_with_unread_records(struct life *life) {
        life_receiving(life);
        for (size_t i = 0; i < 20; i++)
                assert_int_equal(write(life->peer, "x", 1), 1);
        while (life->raw->n_records < 1)
                raw_next(life->raw);
}

static void life_closing(struct life *life) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketClose close_it = OVERLAPD__SOCKET_CLOSE__INIT;

        life_receiving(life);
        close_it.socket = life->socket;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_CLOSE;
        request.socket_close = &close_it;
        raw_send(life->raw, &request, -1);
}

static void life_cancelling(struct life *life) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;

        life_receiving(life);
        cancel.socket = life->socket;
        cancel.which_case = OVERLAPD__CANCEL__WHICH_ALL;
        cancel.all = true;
        request.what_case = OVERLAPD__REQUEST__WHAT_CANCEL;
        request.cancel = &cancel;
        raw_send(life->raw, &request, -1);
}

static void life_opening(struct life *life) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOpen open_it = OVERLAPD__SOCKET_OPEN__INIT;

        life_open(life);
        open_it.family = OVERLAPD__FAMILY__FAMILY_INET;
        open_it.type = OVERLAPD__TYPE__TYPE_STREAM;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPEN;
        request.socket_open = &open_it;
        for (size_t i = 0; i < 50; i++) {
                request.id = (uint32_t) i + 100;
                raw_send(life->raw, &request, -1);
        }
}

static void life_with_threads_and_ports(struct life *life) {
        life_receiving(life);
        life->further = raw_attach_thread(life->daemon, life->raw, 2);
        raw_attach_port(life->daemon, life->raw, 3);
        raw_post(life->further,
                 &(struct ovl_entry){ .socket = life->socket, .op = OVL_OP_RECV, .n_slots = 1, .buffer = { 0, 9, 1 } },
                 1);
        assert_int_equal(raw_status(life->further), 0);
}

static void life_within_a_post(struct life *life) {
        life_receiving(life);
        raw_write(life->raw, "\x48\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00rest", 20, -1);
}

static void life_leaving_memory(struct life *life) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionRemove remove_it = OVERLAPD__REGION_REMOVE__INIT;

        life_receiving(life);
        remove_it.region = 1;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_REMOVE;
        request.region_remove = &remove_it;
        raw_send(life->raw, &request, -1);
}

static void life_end(const struct daemon *daemon, void (*live)(struct life *)) __attribute__((noreturn));
static void life_end(const struct daemon *daemon, void (*live)(struct life *)) {
        struct life life = { .daemon = daemon };

        live(&life);
        kill(getpid(), SIGKILL);
        abort();
}

/* 119 */
static void lives_end_in_each_state(void **state) {
        static const struct {
                const char *name;
                void (*live)(struct life *life);
        } lives[] = {
                { "connected", life_connected },
                { "within a header", life_within_a_header },
                { "open", life_open },
                { "memory sent", life_memory_sent },
                { "memory mapped", life_memory_mapped },
                { "a socket open", life_with_a_socket },
                { "sockets being opened", life_opening },
                { "entries sent", life_posted_and_gone },
                { "receiving", life_receiving },
                { "sending", life_sending },
                { "accepting", life_accepting },
                { "connecting", life_connecting },
                { "records unread", life_with_unread_records },
                { "closing", life_closing },
                { "cancelling", life_cancelling },
                { "threads and ports", life_with_threads_and_ports },
                { "within a post", life_within_a_post },
                { "memory leaving", life_leaving_memory },
        };
        struct estate estate;
        struct raw *witness;
        int status;

        estate_start(&estate, NULL);
        for (size_t i = 0; i < 3 * HARNESS_N(lives); i++) {
                pid_t pid;

                fflush(NULL);
                pid = fork();
                assert_true(pid >= 0);
                if (pid == 0)
                        life_end(&estate.daemon, lives[i % HARNESS_N(lives)].live);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
                        fail_msg("the client did not reach the state: %s", lives[i % HARNESS_N(lives)].name);
                witness = raw_open(&estate.daemon, 0);
                assert_int_equal(raw_status(witness), 0);
                raw_close(witness);
                estate_check(&estate);
        }
        estate_stop(&estate);
}

/* --- Death at any instant --------------------------------------------------------------------------------------- */

/* Sends itself bytes over a connection of the daemon as fast as it can, until it is killed. */
static void lives_busy(const struct daemon *daemon, int report_fd) __attribute__((noreturn));
static void lives_busy(const struct daemon *daemon, int report_fd) {
        struct client client = { .estate.daemon = *daemon };
        struct ovl_overlapped receiving[8] = { 0 }, sending[8] = { 0 };
        uint64_t socket;
        char *place;
        int fd;

        client_open(&client, 0);
        socket = client_pair(&client, AF_INET, &fd);
        for (uint64_t i = 0;; i++) {
                size_t at = i % 8;

                if (i >= 8) {
                        client_await(&client, &sending[at]);
                        peer_read(fd, client.memory + 65536, 100);
                        peer_write(fd, client.memory + 65536, 100);
                        client_await(&client, &receiving[at]);
                        if (write(report_fd, "x", 1) != 1)
                                abort();
                }
                place = client.memory + at * 200;
                assert_ok(client_recv(&client, socket, place, 100, OVL_WAITALL, &receiving[at]));
                assert_ok(client_send(&client, socket, place + 100, 100, 0, &sending[at]));
        }
}

static void lives_end_at_any_instant(void **state) {
        struct estate estate;
        unsigned seed = 7;
        int status;

        estate_start(&estate, NULL);
        for (size_t i = 0; i < 40; i++) {
                int fds[2], n = rand_r(&seed) % 200;
                char byte;
                pid_t pid;

                assert_int_equal(pipe(fds), 0);
                fflush(NULL);
                pid = fork();
                if (pid == 0) {
                        close(fds[0]);
                        lives_busy(&estate.daemon, fds[1]);
                }
                close(fds[1]);
                for (int k = 0; k <= n; k++)
                        assert_int_equal(read(fds[0], &byte, 1), 1);
                kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                close(fds[0]);
        }
        estate_stop(&estate);
}

/* --- Clients that do not read ----------------------------------------------------------------------------------- */

#define LIVES_BATCH 500u

/* Posts sends of nothing until the daemon takes no more. */
struct lives_flood {
        struct raw *raw;
        uint8_t frame[sizeof(struct ovl_frame_header) + sizeof(struct ovl_post_header) + LIVES_BATCH * OVL_SLOT_SIZE];
        size_t n_sent; /* of the frame */
        uint64_t n_frames;
};

static void lives_make_frame(struct lives_flood *flood, uint64_t socket) {
        struct ovl_entry entry = { .socket = socket, .op = OVL_OP_SEND, .n_slots = 1 };
        struct ovl_post_header header = { .n_slots = LIVES_BATCH };
        uint8_t *to = flood->frame;

        frame_pack_header(to, OVL_FRAME_POST, sizeof(flood->frame) - sizeof(struct ovl_frame_header), 0);
        memcpy(to + sizeof(struct ovl_frame_header), &header, sizeof(header));
        to += sizeof(struct ovl_frame_header) + sizeof(header);
        for (size_t i = 0; i < LIVES_BATCH; i++)
                memcpy(to + i * OVL_SLOT_SIZE, &entry, OVL_SLOT_SIZE);
}

/* Writes on until the daemon takes nothing for a while, or the frame is out when that is all that is wanted. */
static void lives_pour(struct lives_flood *flood, bool only_this_frame) {
        struct pollfd look = { .fd = flood->raw->fd, .events = POLLOUT };

        while (poll(&look, 1, 300) == 1) {
                struct iovec part = { flood->frame + flood->n_sent, sizeof(flood->frame) - flood->n_sent };
                ssize_t n = channel_send(flood->raw->fd, &part, 1, -1);

                if (n == -EAGAIN)
                        continue;
                assert_ok(n);
                flood->n_sent += (size_t) n;
                if (flood->n_sent < sizeof(flood->frame))
                        continue;
                flood->n_sent = 0;
                flood->n_frames++;
                if (only_this_frame)
                        return;
        }
}

/* 121: it is held at its credits, costs a bounded amount, and loses nothing when it reads again. */
static void lives_unread_records_hold_the_client(void **state) {
        static struct lives_flood flood;
        uint64_t n_records = 0, n_entries;
        struct client other = { 0 };
        struct ovl_overlapped receiving = { 0 };
        long kib_before, kib_after;
        uint64_t socket;
        int fd, other_fd;

        client_start(&other);
        flood.raw = raw_open(&other.estate.daemon, 256);
        lives_make_frame(&flood, raw_pair(flood.raw, &fd));
        kib_before = estate_private_kib(other.estate.worker);
        lives_pour(&flood, false);
        kib_after = estate_private_kib(other.estate.worker);
        assert_true(kib_after - kib_before < 4096);
        /* Somebody else is served as ever. */
        socket = client_pair(&other, AF_INET, &other_fd);
        for (size_t i = 0; i < 100; i++) {
                assert_ok(client_recv(&other, socket, other.memory, 10, 0, &receiving));
                peer_write(other_fd, "0123456789", 10);
                client_expect(&other, &receiving, 0, 10);
        }
        n_entries = flood.n_frames * LIVES_BATCH;
        if (flood.n_sent > 0)
                n_entries += LIVES_BATCH;
        assert_true(n_entries > 2000);
        while (n_records < n_entries) {
                struct pollfd look = { .fd = flood.raw->fd, .events = POLLOUT };

                if (flood.n_sent > 0 && poll(&look, 1, 0) == 1)
                        lives_pour(&flood, true);
                assert_int_equal(raw_next(flood.raw), RAW_RECORDS);
                n_records += flood.raw->n_records;
                flood.raw->n_records = 0;
        }
        assert_int_equal(n_records, n_entries);
        assert_int_equal(raw_status(flood.raw), 0);
        assert_int_equal(flood.raw->n_records, 0);
        raw_close(flood.raw);
        close(fd);
        close(other_fd);
        client_stop(&other);
}

/* A client that does not read and dies leaves nothing. */
static void lives_unread_records_die_with_the_client(void **state) {
        static struct lives_flood flood;
        struct estate estate;
        int fd;

        estate_start(&estate, NULL);
        flood.raw = raw_open(&estate.daemon, 64);
        lives_make_frame(&flood, raw_pair(flood.raw, &fd));
        lives_pour(&flood, false);
        raw_close(flood.raw);
        close(fd);
        estate_stop(&estate);
}

/* 120 */
static void lives_frozen_client_goes_on(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct client other = { 0 };
        int fds[2], other_fd, status;
        uint64_t socket;
        char byte;
        pid_t pid;

        client_start(&other);
        assert_int_equal(pipe(fds), 0);
        fflush(NULL);
        pid = fork();
        if (pid == 0)
                lives_busy(&other.estate.daemon, fds[1]);
        close(fds[1]);
        for (size_t i = 0; i < 50; i++)
                assert_int_equal(read(fds[0], &byte, 1), 1);
        kill(pid, SIGSTOP);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        assert_true(WIFSTOPPED(status));
        socket = client_pair(&other, AF_INET, &other_fd);
        for (size_t i = 0; i < 100; i++) {
                assert_ok(client_recv(&other, socket, other.memory, 10, 0, &receiving));
                peer_write(other_fd, "0123456789", 10);
                client_expect(&other, &receiving, 0, 10);
        }
        kill(pid, SIGCONT);
        for (size_t i = 0; i < 2000; i++)
                assert_int_equal(read(fds[0], &byte, 1), 1);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        close(fds[0]);
        close(other_fd);
        client_stop(&other);
}

/* --- Quotas ----------------------------------------------------------------------------------------------------- */

/* 99: exactly as many sockets as were promised; what is closed can be opened again. */
static void lives_sockets_are_limited(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOpen open_it = OVERLAPD__SOCKET_OPEN__INIT;
        struct estate estate;
        uint64_t socket = 0;
        struct rlimit limit;
        struct raw *raw;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        if (limit.rlim_max < 8192)
                harness_skip("the limit of descriptors (RLIMIT_NOFILE) is below 8192");
        limit.rlim_cur = 8192;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        estate_start(&estate, NULL);
        raw = raw_open(&estate.daemon, 0);
        for (size_t i = 0; i < 4096; i++)
                socket = raw_socket(raw, OVL_FAMILY_INET);
        open_it.family = OVERLAPD__FAMILY__FAMILY_INET;
        open_it.type = OVERLAPD__TYPE__TYPE_STREAM;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPEN;
        request.socket_open = &open_it;
        assert_int_equal(raw_call(raw, &request, -1), -EDQUOT);
        assert_int_equal(raw->reply->reason, OVL_REASON_QUOTA);
        assert_non_null(strstr(raw->reply->text, "4096"));
        assert_int_equal(raw_socket_close(raw, socket), 0);
        raw_socket(raw, OVL_FAMILY_INET6);
        raw_close(raw);
        estate_stop(&estate);
}

static void lives_connections_are_limited(void **state) {
        static struct raw *raws[1024];
        struct estate estate;
        struct rlimit limit;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        if (limit.rlim_max < 8192)
                harness_skip("the limit of descriptors (RLIMIT_NOFILE) is below 8192");
        limit.rlim_cur = 8192;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        estate_start(&estate, NULL);
        raws[0] = raw_open(&estate.daemon, 0);
        for (size_t i = 1; i < 1024; i++)
                raws[i] = raw_attach_thread(&estate.daemon, raws[0], 1000 + i);
        for (size_t i = 0; i < 2; i++) {
                Overlapd__Request request = OVERLAPD__REQUEST__INIT;
                Overlapd__Attach attach = OVERLAPD__ATTACH__INIT;
                struct raw *extra = raw_connect(&estate.daemon);

                attach.session = raws[0]->session;
                attach.secret = (ProtobufCBinaryData){ .len = 16, .data = raws[0]->secret };
                attach.what_case = OVERLAPD__ATTACH__WHAT_THREAD;
                attach.thread = 7777 + i;
                request.what_case = OVERLAPD__REQUEST__WHAT_ATTACH;
                request.attach = &attach;
                raw_send(extra, &request, -1);
                raw_expect_kick(extra, OVL_REASON_QUOTA, NULL);
                raw_close(extra);
        }
        for (size_t i = 0; i < 1024; i++)
                assert_int_equal(raw_status(raws[i]), 0);
        for (size_t i = 0; i < 1024; i++)
                raw_close(raws[i]);
        estate_stop(&estate);
}

/* More operations than credits: the library says so, and goes on. */
static void lives_credits_are_limited(void **state) {
        struct ovl_overlapped receiving[33] = { 0 };
        struct ovl_session_info info;
        struct client client = { 0 };
        uint64_t socket;
        int fd;

        estate_start(&client.estate, NULL);
        client_open(&client, 32);
        ovl_session_info(client.session, &info);
        assert_int_equal(info.credits, 32);
        assert_string_equal(info.engine, getenv("OVL_TEST_ENGINE"));
        socket = client_pair(&client, AF_INET, &fd);
        for (size_t i = 0; i < 32; i++)
                assert_ok(client_recv(&client, socket, client.memory + i, 1, 0, &receiving[i]));
        assert_int_equal(client_recv(&client, socket, client.memory, 1, 0, &receiving[32]), -ENOBUFS);
        peer_write(fd, "x", 1);
        client_expect(&client, &receiving[0], 0, 1);
        assert_ok(client_recv(&client, socket, client.memory + 32, 1, 0, &receiving[32]));
        peer_write(fd, client.memory, 32);
        for (size_t i = 1; i < 33; i++)
                client_expect(&client, &receiving[i], 0, 1);
        close(fd);
        client_stop(&client);
}

/* --- Threads that die before their process ---------------------------------------------------------------------- */

static void lives_post_send(struct raw *raw, uint64_t socket, uint64_t offset, uint32_t len) {
        raw_post(raw,
                 &(struct ovl_entry){ .socket = socket, .op = OVL_OP_SEND, .n_slots = 1, .buffer = { offset, len, 1 } },
                 1);
        assert_int_equal(raw_status(raw), 0);
}

/*
 * A process that is killed loses its connections one after the other. What it had sent through the first must not be
 * cut off while what it sent through the others still leaves: the other side would read a stream with a hole.
 */
static void lives_lost_threads_tear_no_stream(void **state) {
        const uint32_t first_len = 24u << 20, second_len = 8u << 20;
        _cleanup_fd_ int memory_fd = raw_memfd(first_len + second_len), fd = -1;
        _cleanup_free_ char *data = malloc(first_len + second_len);
        struct raw *raw, *lost;
        struct estate estate;
        struct ovl_record record;
        uint64_t socket;
        int n_fds;

        estate_start(&estate, NULL);
        raw = raw_open(&estate.daemon, 0);
        pattern_fill(data, first_len + second_len, 0);
        assert_int_equal(pwrite(memory_fd, data, first_len + second_len, 0), first_len + second_len);
        assert_int_equal(raw_region_add(raw, memory_fd, first_len + second_len), 1);
        socket = raw_pair(raw, &fd);
        lost = raw_attach_thread(&estate.daemon, raw, 2);
        lives_post_send(lost, socket, 0, first_len);
        lives_post_send(raw, socket, first_len, second_len);
        n_fds = daemon_count_fds(estate.worker);
        raw_close(lost);
        daemon_wait_fds(estate.worker, n_fds - 1);
        peer_read(fd, data, first_len + second_len);
        pattern_check(data, first_len + second_len, 0);
        record = raw_take(raw);
        assert_int_equal(record.thread, 2);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, first_len);
        record = raw_take(raw);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, second_len);
        raw_close(raw);
        estate_stop(&estate);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "clients are killed in each state", lives_end_in_each_state, 90 },
                { "clients are killed at any instant", lives_end_at_any_instant, 60 },
                { "a client that does not read is held, and loses nothing", lives_unread_records_hold_the_client, 60 },
                { "a client that does not read dies without a trace", lives_unread_records_die_with_the_client },
                { "a client that was frozen goes on", lives_frozen_client_goes_on },
                { "sockets are limited", lives_sockets_are_limited, 60 },
                { "connections of a session are limited", lives_connections_are_limited, 60 },
                { "credits are limited", lives_credits_are_limited },
                { "threads that are lost one after the other tear no stream", lives_lost_threads_tear_no_stream, 60 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
