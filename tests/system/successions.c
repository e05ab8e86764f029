/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Accepts and connects with data, and disconnects, where something goes wrong in between: bad fields, cancels, closes,
 * resets and deaths, in each of the states that such an operation goes through. What the rules promise when all goes
 * well is in tests/rules/section-13.c. That nothing is left behind is seen by the estate at the end of each case, and
 * that no charge is by opening as many sockets as a session may have.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/layout.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"
#include "tests/system/raw.h"

#define STORY_SOCKETS 4096u /* that a session may have */

struct story {
        struct client client;
        uint64_t listener;
        uint64_t prepared;
        struct sockaddr_storage address;
        socklen_t len;
};

static uint64_t story_socket(struct story *story) {
        uint64_t id;

        assert_ok(ovl_socket_open(story->client.thread, AF_INET, SOCK_STREAM, &id));
        return id;
}

static void story_start(struct story *story) {
        client_start(&story->client);
        story->listener = client_listen(&story->client, AF_INET, &story->address, &story->len);
        story->prepared = story_socket(story);
}

static void story_stop(struct story *story) {
        client_stop(&story->client);
}

static int story_join(const struct story *story) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (const struct sockaddr *) &story->address, story->len), 0);
        return fd;
}

static int story_accept(struct story *story, struct ovl_thread *thread, uint64_t prepared, size_t len,
                        struct ovl_overlapped *accepting) {
        struct ovl_buffer buffer = { story->client.memory, len };

        return ovl_accept_into(thread, story->listener, prepared, &buffer, len > 0, NULL, OVL_WANT_VERDICT, accepting,
                               NULL);
}

/* Waits until the accept of the prepared socket has a connection, whose first data it waits for. */
static void story_await_connection(struct story *story) {
        uint64_t deadline = harness_deadline(10);
        uint32_t seconds;

        do {
                assert_ok(ovl_connect_time(story->client.thread, story->prepared, &seconds));
                assert_true(now_ns() < deadline);
        } while (seconds == OVL_NOT_CONNECTED);
}

/* The prepared socket takes the next connection, as if nothing had been. */
static void story_expect_prepared_is_new(struct story *story) {
        struct ovl_overlapped accepting = { 0 };
        int fd;

        assert_int_equal(story_accept(story, story->client.thread, story->prepared, 5, &accepting), OVL_PENDING);
        fd = story_join(story);
        peer_write(fd, "five!", 5);
        client_expect(&story->client, &accepting, 0, 5);
        assert_true(accepting.value == story->prepared);
        close(fd);
}

/* --- Fields ----------------------------------------------------------------------------------------------------- */

/* A session that posts what no library does. */
struct forge {
        struct estate estate;
        struct raw *raw;
        uint64_t listener, fresh, pair;
        int fd;
};

static void forge_expect(struct forge *forge, const struct ovl_entry *entry, int status, unsigned reason) {
        struct ovl_record record = raw_one(forge->raw, entry);

        if (record.status != status || record.reason != reason || !(record.flags & OVL_RECORD_REFUSED))
                fail_msg("op %u was answered with status %d, reason %u, flags %#x, not refused with %d, reason %u",
                         entry->op, record.status, record.reason, record.flags, status, reason);
}

static uint64_t forge_listener(struct raw *raw) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketBind bind = OVERLAPD__SOCKET_BIND__INIT;
        Overlapd__SocketListen listen = OVERLAPD__SOCKET_LISTEN__INIT;
        Overlapd__Address address = OVERLAPD__ADDRESS__INIT;
        uint8_t host[4] = { 127, 0, 0, 1 };

        bind.socket = listen.socket = raw_socket(raw, OVL_FAMILY_INET);
        address.family = OVERLAPD__FAMILY__FAMILY_INET;
        address.host = (ProtobufCBinaryData){ sizeof(host), host };
        bind.address = &address;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_BIND;
        request.socket_bind = &bind;
        assert_int_equal(raw_call(raw, &request, -1), 0);
        request = (Overlapd__Request) OVERLAPD__REQUEST__INIT;
        listen.backlog = 5;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN;
        request.socket_listen = &listen;
        assert_int_equal(raw_call(raw, &request, -1), 0);
        return bind.socket;
}

static void story_fields_are_checked(void **state) {
        _cleanup_fd_ int memory = raw_memfd(8192);
        struct ovl_entry good, entry;
        struct raw *other;
        struct forge forge;

        estate_start(&forge.estate, NULL);
        forge.raw = raw_open(&forge.estate.daemon, 0);
        assert_int_equal(raw_region_add(forge.raw, memory, 8192), 1);
        forge.listener = forge_listener(forge.raw);
        forge.fresh = raw_socket(forge.raw, OVL_FAMILY_INET);
        forge.pair = raw_pair(forge.raw, &forge.fd);
        good = (struct ovl_entry){ .socket = forge.listener, .op = OVL_OP_ACCEPT, .n_slots = 1, .other = forge.fresh };
        /* Places for addresses: too few, too many, outside, nowhere. */
        for (uint32_t len = 0; len <= 3 * sizeof(struct ovl_address); len += sizeof(struct ovl_address) / 2) {
                entry = good;
                entry.aux = (struct ovl_slice){ .len = len, .region = 1 };
                if (len != 2 * sizeof(struct ovl_address))
                        forge_expect(&forge, &entry, -EINVAL, OVL_REASON_BAD_ADDRESS);
        }
        entry = good;
        entry.aux = (struct ovl_slice){ .offset = 8000, .len = 2 * sizeof(struct ovl_address), .region = 1 };
        forge_expect(&forge, &entry, -EFAULT, OVL_REASON_OUTSIDE_REGION);
        entry.aux = (struct ovl_slice){ .len = 2 * sizeof(struct ovl_address), .region = 2 };
        forge_expect(&forge, &entry, -EFAULT, OVL_REASON_UNKNOWN_REGION);
        entry = good;
        entry.buffer = (struct ovl_slice){ .offset = 8190, .len = 3, .region = 1 };
        forge_expect(&forge, &entry, -EFAULT, OVL_REASON_OUTSIDE_REGION);
        entry = good;
        entry.op_flags = OVL_MESSAGE_PEEK;
        forge_expect(&forge, &entry, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS);
        entry = good;
        entry.n_slots = 2;
        forge_expect(&forge, &entry, -EINVAL, OVL_REASON_RESERVED_BITS);
        /* Sockets of others are nobody's. */
        other = raw_open(&forge.estate.daemon, 0);
        entry = good;
        entry.other = raw_socket(other, OVL_FAMILY_INET) | UINT64_C(1) << 40;
        forge_expect(&forge, &entry, -EBADF, OVL_REASON_UNKNOWN_SOCKET);
        raw_close(other);
        /* A disconnect has nothing but one flag. */
        good = (struct ovl_entry){ .socket = forge.pair, .op = OVL_OP_DISCONNECT, .n_slots = 1 };
        entry = good;
        entry.op_flags = OVL_TRANSMIT_DISCONNECT;
        forge_expect(&forge, &entry, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS);
        entry = good;
        entry.buffer = (struct ovl_slice){ .len = 1, .region = 1 };
        forge_expect(&forge, &entry, -EINVAL, OVL_REASON_RESERVED_BITS);
        entry = good;
        entry.other = forge.fresh;
        forge_expect(&forge, &entry, -EINVAL, OVL_REASON_RESERVED_BITS);
        entry = good;
        entry.flags = OVL_ENTRY_INLINE;
        forge_expect(&forge, &entry, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS);
        /* None of it has changed the connection, or taken the socket. */
        peer_write(forge.fd, "!", 1);
        entry = (struct ovl_entry){ .socket = forge.pair, .op = OVL_OP_RECV, .n_slots = 1 };
        entry.buffer = (struct ovl_slice){ .len = 1, .region = 1 };
        assert_int_equal(raw_one(forge.raw, &entry).bytes, 1);
        raw_close(forge.raw);
        close(forge.fd);
        estate_stop(&forge.estate);
}

/* A connect with data is for streams. */
static void story_datagrams_connect_without_data(void **state) {
        struct ovl_overlapped connecting = { 0 };
        struct story story;
        struct ovl_buffer buffer;
        uint64_t id;

        story_start(&story);
        buffer = (struct ovl_buffer){ story.client.memory, 1 };
        assert_ok(ovl_socket_open(story.client.thread, AF_INET, SOCK_DGRAM, &id));
        assert_int_equal(ovl_connect_send(story.client.thread, id, (struct sockaddr *) &story.address, story.len,
                                          &buffer, 1, OVL_WANT_VERDICT, &connecting, NULL),
                         -EOPNOTSUPP);
        assert_int_equal(ovl_disconnect(story.client.thread, id, OVL_WANT_VERDICT, &connecting, NULL), -EOPNOTSUPP);
        story_stop(&story);
}

/* --- Accepts ---------------------------------------------------------------------------------------------------- */

static void story_a_reset_before_the_data(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct story story;
        int fd;

        story_start(&story);
        assert_int_equal(story_accept(&story, story.client.thread, story.prepared, 5, &accepting), OVL_PENDING);
        fd = story_join(&story);
        story_await_connection(&story);
        peer_reset(fd);
        client_expect(&story.client, &accepting, -ECONNRESET, 0);
        assert_int_equal(accepting.value, 0);
        story_expect_prepared_is_new(&story);
        story_stop(&story);
}

/* In the queue of the listener, and in that of its connection; by the operation, and by all of the listener's. */
static void story_a_cancelled_accept(void **state) {
        struct ovl_overlapped accepting[2] = { 0 };
        struct story story;
        int fd;

        story_start(&story);
        assert_int_equal(story_accept(&story, story.client.thread, story.prepared, 5, &accepting[0]), OVL_PENDING);
        assert_int_equal(ovl_cancel(story.client.thread, story.listener, &accepting[0]), 1);
        client_expect(&story.client, &accepting[0], -ECANCELED, 0);
        assert_int_equal(story_accept(&story, story.client.thread, story.prepared, 5, &accepting[0]), OVL_PENDING);
        fd = story_join(&story);
        story_await_connection(&story);
        assert_int_equal(ovl_cancel(story.client.thread, story.listener, &accepting[0]), 1);
        assert_int_equal(ovl_result(&accepting[0]), -ECANCELED);
        peer_expect_end(fd);
        close(fd);
        assert_int_equal(story_accept(&story, story.client.thread, story.prepared, 5, &accepting[0]), OVL_PENDING);
        assert_int_equal(story_accept(&story, story.client.thread, 0, 5, &accepting[1]), OVL_PENDING);
        fd = story_join(&story);
        story_await_connection(&story);
        assert_int_equal(ovl_cancel(story.client.thread, story.listener, NULL), 2);
        client_expect(&story.client, &accepting[0], -ECANCELED, 0);
        client_expect(&story.client, &accepting[1], -ECANCELED, 0);
        peer_expect_end(fd);
        close(fd);
        assert_int_equal(ovl_cancel(story.client.thread, story.listener, NULL), -ENOENT);
        story_expect_prepared_is_new(&story);
        story_stop(&story);
}

/* Either it had its data, or the connection is closed and the socket as it was. */
static void story_cancel_races_with_data(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct story story;
        unsigned n_done = 0;
        int fd, r;

        story_start(&story);
        for (unsigned i = 0; i < 200; i++) {
                assert_int_equal(story_accept(&story, story.client.thread, story.prepared, 5, &accepting), OVL_PENDING);
                fd = story_join(&story);
                if (i % 2)
                        story_await_connection(&story);
                peer_write(fd, "five!", 5);
                r = ovl_cancel(story.client.thread, story.listener, &accepting);
                if (ovl_result(&accepting) == 0) {
                        assert_true(r == 0 || r == -ENOENT);
                        assert_int_equal(accepting.bytes, 5);
                        assert_ok(ovl_socket_close(story.client.thread, story.prepared));
                        story.prepared = story_socket(&story);
                        n_done++;
                } else {
                        assert_int_equal(r, 1);
                        assert_int_equal(accepting.bytes, 0);
                        assert_int_equal(ovl_result(&accepting), -ECANCELED);
                }
                close(fd);
                /* A connection that the accept had not got waits for the next one. */
                assert_ok(ovl_socket_close(story.client.thread, story.listener));
                story.listener = client_listen(&story.client, AF_INET, &story.address, &story.len);
        }
        assert_true(n_done <= 200);
        story_stop(&story);
}

static void story_the_thread_ends(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct ovl_thread *thread;
        struct story story;
        int fd;

        story_start(&story);
        assert_ok(ovl_thread_open(story.client.session, &thread, NULL));
        assert_int_equal(story_accept(&story, thread, story.prepared, 5, &accepting), OVL_PENDING);
        fd = story_join(&story);
        story_await_connection(&story);
        ovl_thread_close(thread);
        assert_int_equal(ovl_result(&accepting), -ECANCELED);
        peer_expect_end(fd);
        close(fd);
        story_expect_prepared_is_new(&story);
        story_stop(&story);
}

/* What is prepared stays here; an accept on a listener that goes ends. */
static void story_exports(void **state) {
        struct ovl_overlapped accepting = { 0 };
        struct story story;
        int fd, out;

        story_start(&story);
        assert_int_equal(story_accept(&story, story.client.thread, story.prepared, 5, &accepting), OVL_PENDING);
        assert_int_equal(ovl_socket_export(story.client.thread, story.prepared, &out), -EBUSY);
        assert_int_equal(ovl_thread_error(story.client.thread)->reason, OVL_REASON_PREPARED);
        fd = story_join(&story);
        story_await_connection(&story);
        assert_ok(ovl_socket_export(story.client.thread, story.listener, &out));
        client_expect(&story.client, &accepting, -ECANCELED, 0);
        assert_int_equal(accepting.reason, OVL_REASON_EXPORTED);
        peer_expect_end(fd);
        close(fd);
        close(out);
        assert_ok(ovl_socket_export(story.client.thread, story.prepared, &out));
        close(out);
        story_stop(&story);
}

static uint64_t story_number(const struct client *client) {
        struct ovl_session_info info;

        ovl_session_info(client->session, &info);
        return info.session;
}

/* All that have joined the prepared socket have the connection; and the new one after a disconnect. */
static void story_shared_sockets(void **state) {
        struct ovl_overlapped accepting = { 0 }, receiving = { 0 }, disconnecting = { 0 };
        struct ovl_ticket ticket;
        struct story story;
        struct client guest;
        uint64_t joined;
        uint32_t seconds;
        int fd;

        story_start(&story);
        guest = story.client;
        client_open(&guest, 0);
        assert_int_equal(story_accept(&story, story.client.thread, story.prepared, 5, &accepting), OVL_PENDING);
        assert_ok(ovl_socket_share(story.client.thread, story.prepared, story_number(&guest), &ticket));
        assert_ok(ovl_socket_join(guest.thread, &ticket, &joined));
        assert_int_equal(ovl_bind(guest.thread, joined, (struct sockaddr *) &story.address, story.len), -EINVAL);
        fd = story_join(&story);
        peer_write(fd, "first", 5);
        client_expect(&story.client, &accepting, 0, 5);
        assert_ok(client_recv(&guest, joined, guest.memory, 6, OVL_WAITALL, &receiving));
        peer_write(fd, "second", 6);
        client_expect(&guest, &receiving, 0, 6);
        assert_ok(client_recv(&guest, joined, guest.memory, 6, OVL_WANT_VERDICT, &receiving));
        assert_ok(ovl_disconnect(story.client.thread, story.prepared, OVL_REUSE, &disconnecting, NULL));
        client_expect(&story.client, &disconnecting, 0, 0);
        client_expect(&guest, &receiving, -ECANCELED, 0);
        assert_int_equal(receiving.reason, OVL_REASON_REPLACED);
        peer_expect_end(fd);
        close(fd);
        assert_ok(ovl_connect_time(guest.thread, joined, &seconds));
        assert_int_equal(seconds, OVL_NOT_CONNECTED);
        /* The host goes, and its socket stays the guest's. */
        assert_ok(ovl_socket_close(story.client.thread, story.prepared));
        assert_ok(
                ovl_connect(guest.thread, joined, (struct sockaddr *) &story.address, story.len, 0, &receiving, NULL));
        client_expect(&guest, &receiving, 0, 0);
        client_close(&guest);
        story_stop(&story);
}

/* Unix sockets: peers without names, and paths. */
static void story_unix_sockets(void **state) {
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        struct ovl_overlapped accepting = { 0 }, connecting = { 0 };
        struct ovl_accepted accepted;
        socklen_t len = sizeof(name);
        struct ovl_buffer buffers[2];
        struct client client;
        uint64_t ids[3];

        client_start(&client);
        for (size_t i = 0; i < HARNESS_N(ids); i++)
                assert_ok(ovl_socket_open(client.thread, AF_UNIX, SOCK_STREAM, &ids[i]));
        assert_ok(ovl_bind(client.thread, ids[0], (struct sockaddr *) &name, sizeof(name.sun_family)));
        assert_ok(ovl_listen(client.thread, ids[0], 5));
        assert_ok(ovl_getsockname(client.thread, ids[0], (struct sockaddr *) &name, &len));
        buffers[0] = (struct ovl_buffer){ client.memory, 2 };
        buffers[1] = (struct ovl_buffer){ client.memory + 100, 8 };
        assert_int_equal(ovl_accept_into(client.thread, ids[0], ids[1], buffers, 2, &accepted, OVL_WANT_VERDICT,
                                         &accepting, NULL),
                         OVL_PENDING);
        memcpy(client.memory + 200, "a path", 6);
        buffers[0] = (struct ovl_buffer){ client.memory + 200, 6 };
        assert_ok(ovl_connect_send(client.thread, ids[2], (struct sockaddr *) &name, len, buffers, 1, 0, &connecting,
                                   NULL));
        client_expect(&client, &connecting, 0, 6);
        client_expect(&client, &accepting, 0, 6);
        assert_memory_equal(client.memory, "a ", 2);
        assert_memory_equal(client.memory + 100, "path", 4);
        assert_int_equal(accepted.local_len, len);
        assert_memory_equal(&accepted.local, &name, len);
        assert_int_equal(accepted.remote_len, 0);
        client_stop(&client);
}

/* --- Charges ---------------------------------------------------------------------------------------------------- */

/* A session may have as many sockets as before, whatever became of its accepts. */
static void story_charges_are_exact(void **state) {
        static uint64_t ids[STORY_SOCKETS];
        struct ovl_overlapped accepting[8] = { 0 };
        struct story story;
        size_t n = 0;
        int fds[3];

        story_start(&story);
        /* Without a prepared socket: two that are cancelled with a connection, one that succeeds, two without. */
        for (size_t i = 0; i < 5; i++)
                assert_int_equal(story_accept(&story, story.client.thread, 0, 5, &accepting[i]), OVL_PENDING);
        for (size_t i = 0; i < 3; i++)
                fds[i] = story_join(&story);
        peer_write(fds[2], "five!", 5);
        client_expect(&story.client, &accepting[2], 0, 5);
        assert_int_equal(ovl_cancel(story.client.thread, story.listener, NULL), 4);
        peer_expect_end(fds[0]);
        peer_expect_end(fds[1]);
        assert_ok(ovl_socket_close(story.client.thread, accepting[2].value));
        peer_expect_end(fds[2]);
        for (size_t i = 0; i < 3; i++)
                close(fds[i]);
        story_expect_prepared_is_new(&story);
        /* The listener and what was prepared are two. */
        while (n < STORY_SOCKETS && ovl_socket_open(story.client.thread, AF_INET, SOCK_STREAM, &ids[n]) == 0)
                n++;
        assert_int_equal(n, STORY_SOCKETS - 2);
        /* One into a socket costs none. */
        story.prepared = ids[0];
        story_expect_prepared_is_new(&story);
        assert_int_equal(story_accept(&story, story.client.thread, 0, 5, &accepting[0]), -ENOBUFS);
        story_stop(&story);
}

/* --- Connects --------------------------------------------------------------------------------------------------- */

/* A listener that is nobody's: it has room for one connection, and never takes it. */
static int story_full_listener(struct sockaddr_un *ret_name, socklen_t *ret_len, int *ret_first) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        *ret_name = (struct sockaddr_un){ .sun_family = AF_UNIX };
        *ret_len = sizeof(*ret_name);
        assert_int_equal(bind(fd, (struct sockaddr *) ret_name, sizeof(sa_family_t)), 0);
        assert_int_equal(listen(fd, 0), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) ret_name, ret_len), 0);
        *ret_first = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(*ret_first, (struct sockaddr *) ret_name, *ret_len), 0);
        return fd;
}

static void story_a_cancelled_connect(void **state) {
        struct ovl_overlapped connecting = { 0 };
        struct ovl_buffer buffer;
        struct sockaddr_un name;
        struct client client;
        int listener, first, fd;
        socklen_t len;
        uint64_t id;
        char bytes[4];

        client_start(&client);
        listener = story_full_listener(&name, &len, &first);
        assert_ok(ovl_socket_open(client.thread, AF_UNIX, SOCK_STREAM, &id));
        memcpy(client.memory, "data", 4);
        buffer = (struct ovl_buffer){ client.memory, 4 };
        assert_int_equal(ovl_connect_send(client.thread, id, (struct sockaddr *) &name, len, &buffer, 1,
                                          OVL_WANT_VERDICT, &connecting, NULL),
                         OVL_PENDING);
        assert_int_equal(ovl_cancel(client.thread, id, &connecting), 1);
        client_expect(&client, &connecting, -ECANCELED, 0);
        /* The socket connects when there is room. */
        close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        assert_ok(
                ovl_connect_send(client.thread, id, (struct sockaddr *) &name, len, &buffer, 1, 0, &connecting, NULL));
        client_expect(&client, &connecting, 0, 4);
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(fd >= 0);
        peer_read(fd, bytes, 4);
        assert_memory_equal(bytes, "data", 4);
        close(fd);
        close(first);
        close(listener);
        client_stop(&client);
}

/* Connected, but the other side takes nothing: a cancel says how much has left, and the connection is there. */
static void story_a_cancel_in_the_middle_of_the_data(void **state) {
        struct sockaddr_storage address;
        struct ovl_overlapped connecting = { 0 };
        struct ovl_session_info info;
        int listener, fd, narrow = 4096;
        struct ovl_buffer buffer;
        struct client client;
        uint32_t seconds;
        uint64_t id;
        socklen_t len;
        char *bytes;

        client_start(&client);
        ovl_session_info(client.session, &info);
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &narrow, sizeof(narrow)), 0);
        len = client_loopback(AF_INET, &address);
        assert_int_equal(bind(listener, (struct sockaddr *) &address, len), 0);
        assert_int_equal(listen(listener, 5), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &len), 0);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &id));
        assert_ok(ovl_setsockopt(client.thread, id, SOL_SOCKET, SO_SNDBUF, narrow));
        buffer = (struct ovl_buffer){ client.memory, info.level == 0 ? OVL_INLINE_LEN_MAX : CLIENT_MEMORY };
        pattern_fill(buffer.data, buffer.len, 0);
        assert_int_equal(ovl_connect_send(client.thread, id, (struct sockaddr *) &address, len, &buffer, 1, 0,
                                          &connecting, NULL),
                         OVL_PENDING);
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(fd >= 0);
        assert_true(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 10000) == 1);
        assert_int_equal(ovl_cancel(client.thread, id, &connecting), 1);
        assert_int_equal(ovl_result(&connecting), -ECANCELED);
        assert_true(connecting.bytes < buffer.len);
        assert_ok(ovl_connect_time(client.thread, id, &seconds));
        assert_true(seconds < 60);
        assert_ok(ovl_shutdown(client.thread, id, SHUT_WR));
        bytes = malloc(CLIENT_MEMORY);
        assert_non_null(bytes);
        peer_read(fd, bytes, connecting.bytes);
        pattern_check(bytes, connecting.bytes, 0);
        peer_expect_end(fd);
        free(bytes);
        close(fd);
        close(listener);
        client_stop(&client);
}

/* --- Disconnects ------------------------------------------------------------------------------------------------ */

/* The end of a connection that is broken cannot be sent, but it can be replaced. */
static void story_a_broken_connection(void **state) {
        struct ovl_overlapped operation = { 0 };
        struct story story;
        uint64_t id;
        int fd;

        story_start(&story);
        id = client_pair(&story.client, AF_INET, &fd);
        assert_ok(client_recv(&story.client, id, story.client.memory, 1, 0, &operation));
        peer_reset(fd);
        client_expect(&story.client, &operation, -ECONNRESET, 0);
        assert_ok(ovl_disconnect(story.client.thread, id, 0, &operation, NULL));
        client_expect(&story.client, &operation, -ECONNRESET, 0);
        assert_ok(ovl_disconnect(story.client.thread, id, OVL_REUSE, &operation, NULL));
        client_expect(&story.client, &operation, 0, 0);
        story.prepared = id;
        story_expect_prepared_is_new(&story);
        story_stop(&story);
}

/* Behind a send that does not leave: a cancel keeps the connection, but not its sending side. */
static void story_a_cancelled_disconnect(void **state) {
        struct ovl_overlapped sending = { 0 }, disconnecting = { 0 };
        struct client client;
        size_t big;
        uint64_t id;
        char *bytes;
        int fd;

        client_start(&client);
        id = client_pair(&client, AF_INET, &fd);
        big = client_big(&client, id, fd, CLIENT_MEMORY);
        assert_ok(ovl_setsockopt(client.thread, id, SOL_SOCKET, SO_SNDBUF, 16384));
        pattern_fill(client.memory, big, 0);
        assert_ok(client_send(&client, id, client.memory, big, 0, &sending));
        assert_ok(ovl_disconnect(client.thread, id, OVL_REUSE, &disconnecting, NULL));
        if (ovl_cancel(client.thread, id, &disconnecting) == 1) {
                assert_int_equal(ovl_result(&disconnecting), -ECANCELED);
                assert_int_equal(client_send(&client, id, client.memory, 1, OVL_WANT_VERDICT, &disconnecting),
                                 -ESHUTDOWN);
        }
        bytes = malloc(big);
        assert_non_null(bytes);
        peer_read(fd, bytes, big);
        pattern_check(bytes, big, 0);
        peer_expect_end(fd);
        free(bytes);
        client_expect(&client, &sending, 0, big);
        close(fd);
        client_stop(&client);
}

/* Receives and polls that are pending end, and the old connection is gone although nobody closed it. */
static void story_reuse_ends_what_is_pending(void **state) {
        struct ovl_overlapped receiving[3] = { 0 }, polling = { 0 }, disconnecting = { 0 };
        struct story story;
        uint64_t id;
        int fd;

        story_start(&story);
        id = client_pair(&story.client, AF_INET, &fd);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(
                        client_recv(&story.client, id, story.client.memory + i, 1, OVL_WANT_VERDICT, &receiving[i]),
                        OVL_PENDING);
        assert_int_equal(ovl_poll(story.client.thread, id, POLLPRI, OVL_WANT_VERDICT, &polling, NULL), OVL_PENDING);
        assert_ok(ovl_disconnect(story.client.thread, id, OVL_REUSE, &disconnecting, NULL));
        client_expect(&story.client, &disconnecting, 0, 0);
        for (size_t i = 0; i < 3; i++) {
                client_expect(&story.client, &receiving[i], -ECANCELED, 0);
                assert_int_equal(receiving[i].reason, OVL_REASON_REPLACED);
        }
        client_expect(&story.client, &polling, -ECANCELED, 0);
        peer_expect_end(fd);
        close(fd);
        assert_int_equal(ovl_cancel(story.client.thread, id, NULL), -ENOENT);
        story.prepared = id;
        story_expect_prepared_is_new(&story);
        story_stop(&story);
}

static void story_reused_many_times(void **state) {
        struct ovl_overlapped operation = { 0 };
        struct story story;

        story_start(&story);
        for (unsigned i = 0; i < 100; i++) {
                story_expect_prepared_is_new(&story);
                assert_ok(ovl_disconnect(story.client.thread, story.prepared, OVL_REUSE, &operation, NULL));
                client_expect(&story.client, &operation, 0, 0);
        }
        story_stop(&story);
}

/* Closing what a disconnect waits on, or is renewing. */
static void story_closed_while_it_is_renewed(void **state) {
        struct ovl_overlapped disconnecting = { 0 };
        struct story story;
        int fd, status;

        story_start(&story);
        for (unsigned i = 0; i < 100; i++) {
                uint64_t id = client_pair(&story.client, AF_INET, &fd);

                assert_ok(ovl_disconnect(story.client.thread, id, OVL_REUSE | (i % 2 ? OVL_WANT_VERDICT : 0),
                                         &disconnecting, NULL));
                assert_ok(ovl_socket_close(story.client.thread, id));
                status = client_await(&story.client, &disconnecting);
                assert_true(status == 0 || status == -ECANCELED);
                peer_expect_end(fd);
                close(fd);
        }
        story_stop(&story);
}

/* --- Deaths ----------------------------------------------------------------------------------------------------- */

/* A client that has something in each of the states. Tells that it is there, and waits to be killed. */
static void __attribute__((noreturn)) story_die_in_between(const struct story *story, int ready) {
        struct ovl_overlapped operations[8] = { 0 };
        struct ovl_buffer buffer, big;
        struct client client = story->client;
        struct sockaddr_un full;
        struct story mine = { 0 };
        int first, fd;
        socklen_t full_len;
        uint64_t id;

        client.region = NULL;
        client_open(&client, 0);
        mine.client = client;
        mine.listener = client_listen(&mine.client, AF_INET, &mine.address, &mine.len);
        mine.prepared = story_socket(&mine);
        /* Two accepts with their connection, two without. */
        assert_int_equal(story_accept(&mine, client.thread, mine.prepared, 5, &operations[0]), OVL_PENDING);
        assert_int_equal(story_accept(&mine, client.thread, 0, 5, &operations[1]), OVL_PENDING);
        assert_int_equal(story_accept(&mine, client.thread, story_socket(&mine), 5, &operations[2]), OVL_PENDING);
        assert_int_equal(story_accept(&mine, client.thread, 0, 0, &operations[3]), OVL_PENDING);
        for (size_t i = 0; i < 2; i++)
                story_join(&mine);
        story_await_connection(&mine);
        /* A connect that does not connect, and a disconnect behind a send that does not leave. */
        story_full_listener(&full, &full_len, &first);
        assert_ok(ovl_socket_open(client.thread, AF_UNIX, SOCK_STREAM, &id));
        buffer = (struct ovl_buffer){ client.memory, 10 };
        assert_int_equal(ovl_connect_send(client.thread, id, (struct sockaddr *) &full, full_len, &buffer, 1,
                                          OVL_WANT_VERDICT, &operations[4], NULL),
                         OVL_PENDING);
        id = client_pair(&client, AF_INET, &fd);
        big = (struct ovl_buffer){ client.memory, client_big(&client, id, fd, CLIENT_MEMORY) };
        assert_ok(ovl_setsockopt(client.thread, id, SOL_SOCKET, SO_SNDBUF, 16384));
        assert_ok(ovl_send(client.thread, id, &big, 1, 0, &operations[5], NULL));
        assert_ok(ovl_disconnect(client.thread, id, OVL_REUSE, &operations[6], NULL));
        /* And one that is just being renewed, or has been. */
        id = client_pair(&client, AF_INET, &fd);
        assert_ok(ovl_disconnect(client.thread, id, OVL_REUSE, &operations[7], NULL));
        if (write(ready, "!", 1) != 1)
                _exit(1);
        for (;;)
                pause();
}

static void story_a_client_dies_in_between(void **state) {
        struct story story;

        client_start(&story.client);
        for (unsigned i = 0; i < 5; i++) {
                int pipes[2], status;
                char byte;
                pid_t pid;

                assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
                pid = fork();
                assert_true(pid >= 0);
                if (pid == 0)
                        story_die_in_between(&story, pipes[1]);
                close(pipes[1]);
                assert_int_equal(read(pipes[0], &byte, 1), 1);
                close(pipes[0]);
                kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, &status, 0), pid);
        }
        client_stop(&story.client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "fields are checked", story_fields_are_checked },
                { "datagrams connect without data", story_datagrams_connect_without_data },
                { "a reset before the data", story_a_reset_before_the_data },
                { "a cancelled accept", story_a_cancelled_accept },
                { "a cancel races with data", story_cancel_races_with_data },
                { "the thread ends", story_the_thread_ends },
                { "exports", story_exports },
                { "shared sockets", story_shared_sockets },
                { "Unix sockets", story_unix_sockets },
                { "charges are exact", story_charges_are_exact },
                { "a cancelled connect", story_a_cancelled_connect },
                { "a cancel in the middle of the data", story_a_cancel_in_the_middle_of_the_data },
                { "a broken connection", story_a_broken_connection },
                { "a cancelled disconnect", story_a_cancelled_disconnect },
                { "reuse ends what is pending", story_reuse_ends_what_is_pending },
                { "reused many times", story_reused_many_times },
                { "closed while it is renewed", story_closed_while_it_is_renewed },
                { "a client dies in between", story_a_client_dies_in_between },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
