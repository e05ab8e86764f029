/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The false daemon. One thread accepts, reads, answers requests and keeps entries; what the test sends is sent by the
 * test's own thread, under the same lock, so that frames never mix.
 *
 * Invariant: what the library did is only judged through the library's own interface and through what arrived here.
 */

#include "tests/client/fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/channel.h"
#include "proto/frame.h"
#include "proto/message.h"

#define FAKE_LIMIT_S 20

static void fake_lock(struct fake *fake) {
        pthread_mutex_lock(&fake->lock);
}

static void fake_unlock(struct fake *fake) {
        pthread_cond_broadcast(&fake->changed);
        pthread_mutex_unlock(&fake->lock);
}

static void fake_wake(struct fake *fake) {
        uint64_t one = 1;

        assert_int_equal(write(fake->wake_fd, &one, sizeof(one)), sizeof(one));
}

/* --- Sending ---------------------------------------------------------------------------------------------------- */

static void fake_write(struct fake_connection *connection, const void *bytes, size_t len) {
        size_t sent = 0;

        while (sent < len && !connection->has_ended) {
                struct pollfd poll_fd = { .fd = connection->fd, .events = POLLOUT };
                ssize_t n = send(connection->fd, (const uint8_t *) bytes + sent, len - sent, MSG_NOSIGNAL);

                if (n > 0)
                        sent += (size_t) n;
                else if (errno == EAGAIN)
                        poll(&poll_fd, 1, FAKE_LIMIT_S * 1000);
                else
                        return; /* the library has gone: what it did not want to hear is lost */
        }
}

static void fake_write_frame(struct fake_connection *connection, enum ovl_frame_kind kind, const void *body,
                             size_t len) {
        _cleanup_free_ uint8_t *frame = malloc(sizeof(struct ovl_frame_header) + len);

        frame_pack_header(frame, kind, (uint32_t) len, 0);
        memcpy(frame + sizeof(struct ovl_frame_header), body, len);
        fake_write(connection, frame, sizeof(struct ovl_frame_header) + len);
}

static void fake_write_records(struct fake_connection *connection, const struct ovl_record *records, size_t n) {
        _cleanup_free_ uint8_t *body = malloc(sizeof(struct ovl_records_header) + n * sizeof(*records));
        struct ovl_records_header header = { .n_records = (uint32_t) n };

        memcpy(body, &header, sizeof(header));
        memcpy(body + sizeof(header), records, n * sizeof(*records));
        fake_write_frame(connection, OVL_FRAME_RECORDS, body, sizeof(header) + n * sizeof(*records));
}

static void fake_write_message(struct fake_connection *connection, const ProtobufCMessage *message) {
        _cleanup_free_ void *frame = NULL;
        ssize_t len = message_pack_frame(message, 0, &frame);

        assert_ok(len);
        fake_write(connection, frame, (size_t) len);
}

void fake_send(struct fake *fake, unsigned connection, const void *bytes, size_t len) {
        fake_lock(fake);
        fake_write(fake->connections[connection], bytes, len);
        fake_unlock(fake);
}

void fake_send_frame(struct fake *fake, unsigned connection, enum ovl_frame_kind kind, const void *body, size_t len) {
        fake_lock(fake);
        fake_write_frame(fake->connections[connection], kind, body, len);
        fake_unlock(fake);
}

void fake_send_records(struct fake *fake, unsigned connection, const struct ovl_record *records, size_t n) {
        fake_lock(fake);
        fake_write_records(fake->connections[connection], records, n);
        fake_unlock(fake);
}

/* --- Serving ---------------------------------------------------------------------------------------------------- */

static void fake_answer(struct fake *fake, struct fake_connection *connection, const Overlapd__Request *request) {
        Overlapd__FromDaemon from_daemon = OVERLAPD__FROM_DAEMON__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        Overlapd__HelloReply hello = OVERLAPD__HELLO_REPLY__INIT;
        Overlapd__RegionAddReply region = OVERLAPD__REGION_ADD_REPLY__INIT;
        Overlapd__SocketOpenReply opened = OVERLAPD__SOCKET_OPEN_REPLY__INIT;
        Overlapd__SocketNameReply name = OVERLAPD__SOCKET_NAME_REPLY__INIT;
        Overlapd__SocketOptionReply option = OVERLAPD__SOCKET_OPTION_REPLY__INIT;
        Overlapd__CancelReply cancel = OVERLAPD__CANCEL_REPLY__INIT;
        Overlapd__StatusReply status = OVERLAPD__STATUS_REPLY__INIT;
        Overlapd__ThreadHandleReply handle = OVERLAPD__THREAD_HANDLE_REPLY__INIT;
        Overlapd__Address address = OVERLAPD__ADDRESS__INIT;
        static const uint8_t localhost[4] = { 127, 0, 0, 1 };
        static const char secret[] = "0123456789abcdef";

        from_daemon.what_case = OVERLAPD__FROM_DAEMON__WHAT_REPLY;
        from_daemon.reply = &reply;
        reply.id = request->id;
        switch (request->what_case) {
        case OVERLAPD__REQUEST__WHAT_HELLO:
                connection->thread = request->hello->thread;
                hello.version = 1;
                hello.level = fake->is_inline ? 0 : 1;
                hello.session = 77;
                hello.secret = (ProtobufCBinaryData){ .len = 16, .data = (uint8_t *) secret };
                hello.credits = fake->credits ? fake->credits : 256;
                hello.regions = 64;
                hello.sockets = 4096;
                hello.engine = (char *) "fake";
                hello.engine_reason = (char *) "for tests";
                reply.what_case = OVERLAPD__REPLY__WHAT_HELLO;
                reply.hello = &hello;
                break;
        case OVERLAPD__REQUEST__WHAT_ATTACH:
                assert_int_equal(request->attach->session, 77);
                assert_int_equal(request->attach->secret.len, 16);
                assert_memory_equal(request->attach->secret.data, secret, 16);
                if (request->attach->what_case == OVERLAPD__ATTACH__WHAT_THREAD)
                        connection->thread = request->attach->thread;
                else
                        connection->port = request->attach->port;
                break;
        case OVERLAPD__REQUEST__WHAT_REGION_ADD:
                reply.what_case = OVERLAPD__REPLY__WHAT_REGION_ADD;
                reply.region_add = &region;
                region.region = ++fake->n_regions;
                break;
        case OVERLAPD__REQUEST__WHAT_SOCKET_OPEN:
                reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_OPEN;
                reply.socket_open = &opened;
                opened.socket = FAKE_SOCKETS + ++fake->n_sockets;
                break;
        case OVERLAPD__REQUEST__WHAT_SOCKET_NAME:
                reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_NAME;
                reply.socket_name = &name;
                name.address = &address;
                address.family = OVERLAPD__FAMILY__FAMILY_INET;
                address.port = 4711;
                address.host = (ProtobufCBinaryData){ .len = 4, .data = (uint8_t *) localhost };
                break;
        case OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_GET:
                reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_OPTION;
                reply.socket_option = &option;
                option.value = 42;
                break;
        case OVERLAPD__REQUEST__WHAT_CANCEL: {
                /* Ends what is pending, as an honest daemon does before it answers. */
                fake->last_cancel_tag =
                        request->cancel->which_case == OVERLAPD__CANCEL__WHICH_TAG ? request->cancel->tag : 0;
                for (size_t i = 0; i < fake->n_entries; i++) {
                        const struct fake_entry *entry = &fake->entries[i];
                        struct ovl_record record;

                        if (entry->entry.op == 0 || entry->entry.socket != request->cancel->socket)
                                continue;
                        if (fake->last_cancel_tag && entry->entry.tag != fake->last_cancel_tag)
                                continue;
                        if (request->cancel->which_case == OVERLAPD__CANCEL__WHICH_THREAD &&
                            entry->thread != request->cancel->thread)
                                continue;
                        record = fake_record(fake, i, -ECANCELED, 0);
                        record.reason = OVL_REASON_CANCELLED;
                        fake_write_records(fake->connections[entry->connection], &record, 1);
                        cancel.cancelled++;
                }
                reply.what_case = OVERLAPD__REPLY__WHAT_CANCEL;
                reply.cancel = &cancel;
                if (cancel.cancelled == 0)
                        reply.status = -ENOENT;
                break;
        }
        case OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_OPEN:
                reply.what_case = OVERLAPD__REPLY__WHAT_THREAD_HANDLE;
                reply.thread_handle = &handle;
                handle.handle = (ProtobufCBinaryData){ .len = fake->handle_len ? fake->handle_len : 16,
                                                       .data = (uint8_t *) secret };
                break;
        case OVERLAPD__REQUEST__WHAT_STATUS:
                reply.what_case = OVERLAPD__REPLY__WHAT_STATUS_REPORT;
                reply.status_report = &status;
                status.entries = fake->n_entries;
                break;
        default:
                break;
        }
        fake_write_message(connection, &from_daemon.base);
}

static void fake_refuse(const struct fake *fake, struct fake_connection *connection, uint32_t id) {
        Overlapd__FromDaemon from_daemon = OVERLAPD__FROM_DAEMON__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;

        from_daemon.what_case = OVERLAPD__FROM_DAEMON__WHAT_REPLY;
        from_daemon.reply = &reply;
        reply.id = id;
        reply.status = fake->refuse_status;
        reply.reason = fake->refuse_reason;
        if (fake->refuse_text)
                reply.text = (char *) fake->refuse_text;
        fake_write_message(connection, &from_daemon.base);
}

static void fake_end(const struct fake *fake, struct fake_connection *connection) {
        Overlapd__FromDaemon from_daemon = OVERLAPD__FROM_DAEMON__INIT;
        Overlapd__Notice notice = OVERLAPD__NOTICE__INIT;

        if (fake->notice) {
                from_daemon.what_case = OVERLAPD__FROM_DAEMON__WHAT_NOTICE;
                from_daemon.notice = &notice;
                notice.closing = true;
                notice.status = -EBUSY;
                notice.text = (char *) fake->notice;
                fake_write_message(connection, &from_daemon.base);
        }
        shutdown(connection->fd, SHUT_RDWR);
        connection->has_ended = true;
}

static void fake_serve_control(struct fake *fake, struct fake_connection *connection, const uint8_t *body, size_t len) {
        _cleanup_free_ struct message_arena *arena = malloc(sizeof(*arena));
        const Overlapd__Request *request;
        ProtobufCMessage *message;
        const char *problem;

        message_arena_init(arena);
        assert_ok(message_unpack(arena, &overlapd__request__descriptor, body, len, &message, &problem));
        request = (const Overlapd__Request *) message;
        fake->n_requests[request->what_case]++;
        if (request->what_case == fake->mute)
                return;
        if (request->what_case == fake->hang_up)
                fake_end(fake, connection);
        else if (request->what_case == fake->misanswer)
                fake_write_frame(connection, OVL_FRAME_CONTROL, "\xff\xff\xff\xff", 4);
        else if (request->what_case == fake->refuse)
                fake_refuse(fake, connection, request->id);
        else
                fake_answer(fake, connection, request);
}

static void fake_serve_post(struct fake *fake, unsigned index, const uint8_t *body, size_t len) {
        struct fake_connection *connection = fake->connections[index];
        struct ovl_post_header header;
        bool wants_verdict = false;

        memcpy(&header, body, sizeof(header));
        assert_int_equal(len, sizeof(header) + header.n_slots * OVL_SLOT_SIZE);
        connection->n_frames++;
        for (uint32_t slot = 0; slot < header.n_slots;) {
                struct fake_entry *entry = &fake->entries[fake->n_entries];
                const uint8_t *from = body + sizeof(header) + slot * OVL_SLOT_SIZE;

                assert_true(fake->n_entries < FAKE_ENTRIES_MAX);
                memcpy(&entry->entry, from, OVL_SLOT_SIZE);
                assert_in_range(entry->entry.n_slots, 1, header.n_slots - slot);
                memcpy(&entry->entry, from, entry->entry.n_slots * OVL_SLOT_SIZE);
                entry->connection = index;
                entry->thread = connection->thread;
                entry->n_frame = connection->n_frames;
                wants_verdict |= entry->entry.flags & OVL_ENTRY_WANT_VERDICT;
                slot += entry->entry.n_slots;
                fake->n_entries++;
                connection->n_entries++;
        }
        if (wants_verdict && fake->settles) {
                struct ovl_record settled = { .kind = OVL_RECORD_SETTLED, .value = connection->n_entries };

                fake_write_records(connection, &settled, 1);
        }
}

static void fake_read(struct fake *fake, unsigned index) {
        struct fake_connection *connection = fake->connections[index];
        int fds[CHANNEL_FDS_MAX];
        size_t n_fds = 0, at = 0;
        ssize_t n;

        n = channel_receive(connection->fd, connection->in + connection->in_len,
                            sizeof(connection->in) - connection->in_len, fds, &n_fds);
        for (size_t i = 0; n > 0 && i < n_fds; i++) {
                if (fake->n_region_fds < FAKE_REGIONS_MAX)
                        fake->region_fds[fake->n_region_fds++] = fds[i];
                else
                        fd_close(fds[i]);
        }
        if (n == -EAGAIN || n == -EINTR)
                return;
        if (n <= 0) {
                connection->has_ended = true;
                return;
        }
        connection->in_len += (size_t) n;
        for (;;) {
                struct ovl_frame_header header;
                const char *problem;
                int r = frame_find(connection->in + at, connection->in_len - at, FRAME_FROM_CLIENT, &header, &problem);

                assert_ok(r);
                if (r == 0)
                        break;
                at += sizeof(header);
                if (header.kind == OVL_FRAME_CONTROL)
                        fake_serve_control(fake, connection, connection->in + at, header.body_len);
                else
                        fake_serve_post(fake, index, connection->in + at, header.body_len);
                at += header.body_len;
        }
        memmove(connection->in, connection->in + at, connection->in_len - at);
        connection->in_len -= at;
}

static void fake_accept(struct fake *fake) {
        struct fake_connection *connection;
        int fd = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
                return;
        assert_true(fake->n_connections < FAKE_CONNECTIONS_MAX);
        connection = calloc(1, sizeof(*connection));
        connection->fd = fd;
        fake->connections[fake->n_connections++] = connection;
}

static void *fake_run(void *argument) {
        struct fake *fake = argument;

        fake_lock(fake);
        while (!fake->is_stopping) {
                struct pollfd polls[FAKE_CONNECTIONS_MAX + 2];
                unsigned n = fake->n_connections;
                uint64_t value;

                polls[0] = (struct pollfd){ .fd = fake->wake_fd, .events = POLLIN };
                polls[1] = (struct pollfd){ .fd = fake->listener, .events = POLLIN };
                for (unsigned i = 0; i < n; i++) {
                        bool is_deaf = fake->connections[i]->is_held || fake->connections[i]->has_ended;

                        polls[i + 2] =
                                (struct pollfd){ .fd = is_deaf ? -1 : fake->connections[i]->fd, .events = POLLIN };
                }
                fake_unlock(fake);
                poll(polls, n + 2, -1);
                fake_lock(fake);
                if (polls[0].revents)
                        assert_int_equal(read(fake->wake_fd, &value, sizeof(value)), sizeof(value));
                if (polls[1].revents)
                        fake_accept(fake);
                for (unsigned i = 0; i < n; i++)
                        if (polls[i + 2].revents && !fake->connections[i]->is_held)
                                fake_read(fake, i);
        }
        fake_unlock(fake);
        return NULL;
}

/* --- What tests use --------------------------------------------------------------------------------------------- */

void fake_start(struct fake *fake) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        pthread_condattr_t clock;

        snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", harness_directory());
        memcpy(fake->path, address.sun_path, sizeof(fake->path));
        fake->entries = calloc(FAKE_ENTRIES_MAX, sizeof(*fake->entries));
        pthread_mutex_init(&fake->lock, NULL);
        pthread_condattr_init(&clock);
        pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
        pthread_cond_init(&fake->changed, &clock);
        fake->wake_fd = eventfd(0, EFD_CLOEXEC);
        fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(fake->listener >= 0 && fake->wake_fd >= 0);
        assert_int_equal(bind(fake->listener, (struct sockaddr *) &address, sizeof(address)), 0);
        assert_int_equal(listen(fake->listener, 16), 0);
        assert_int_equal(pthread_create(&fake->thread, NULL, fake_run, fake), 0);
}

void fake_stop(struct fake *fake) {
        fake_lock(fake);
        fake->is_stopping = true;
        fake_unlock(fake);
        fake_wake(fake);
        pthread_join(fake->thread, NULL);
        for (unsigned i = 0; i < fake->n_connections; i++) {
                fd_close(fake->connections[i]->fd);
                free(fake->connections[i]);
        }
        for (unsigned i = 0; i < fake->n_region_fds; i++)
                fd_close(fake->region_fds[i]);
        fd_close(fake->listener);
        fd_close(fake->wake_fd);
        free(fake->entries);
}

void fake_open(struct fake *fake, struct ovl_session **ret_session, struct ovl_thread **ret_thread, size_t size,
               struct ovl_region **ret_region) {
        struct ovl_session_options options = { .path = fake->path, .name = "test" };
        struct ovl_error error = { 0 };

        if (ovl_session_open(&options, ret_session, &error) < 0)
                fail_msg("%s", error.text);
        if (ovl_thread_open(*ret_session, ret_thread, &error) < 0)
                fail_msg("%s", error.text);
        if (size > 0)
                assert_ok(ovl_region_open(*ret_thread, size, ret_region));
}

void fake_write_region(struct fake *fake, const struct ovl_slice *slice, const void *bytes) {
        int fd;

        fake_lock(fake);
        assert_true(slice->region >= 1 && slice->region <= fake->n_region_fds);
        fd = fake->region_fds[slice->region - 1];
        fake_unlock(fake);
        assert_int_equal(pwrite(fd, bytes, slice->len, (off_t) slice->offset), slice->len);
}

/* Waits under the lock for a change. */
static void fake_wait(struct fake *fake, uint64_t deadline) {
        struct timespec until = { .tv_sec = (time_t) (deadline / NS_PER_S), .tv_nsec = (long) (deadline % NS_PER_S) };

        assert_int_equal(pthread_cond_timedwait(&fake->changed, &fake->lock, &until), 0);
}

const struct fake_entry *fake_wait_entries(struct fake *fake, size_t n) {
        uint64_t deadline = harness_deadline(FAKE_LIMIT_S);

        fake_lock(fake);
        while (fake->n_entries < n)
                fake_wait(fake, deadline);
        fake_unlock(fake);
        return &fake->entries[n - 1];
}

void fake_wait_requests(struct fake *fake, Overlapd__Request__WhatCase kind, unsigned n) {
        uint64_t deadline = harness_deadline(FAKE_LIMIT_S);

        fake_lock(fake);
        while (fake->n_requests[kind] < n)
                fake_wait(fake, deadline);
        fake_unlock(fake);
}

unsigned fake_port(struct fake *fake, uint64_t number) {
        unsigned found = 0;

        fake_lock(fake);
        for (unsigned i = 1; i < fake->n_connections; i++)
                if (fake->connections[i]->port && fake->connections[i]->port == number)
                        found = i;
        fake_unlock(fake);
        assert_true(found > 0);
        return found;
}

/* Also called under the lock: entries that have come do not change, but for being marked as ended by their record. */
struct ovl_record fake_record(struct fake *fake, size_t n, int status, uint64_t bytes) {
        struct fake_entry *entry = &fake->entries[n];
        struct ovl_record record = {
                .tag = entry->entry.tag,
                .thread = entry->thread,
                .key = entry->entry.socket,
                .sequence = ++fake->n_records,
                .bytes = bytes,
                .status = status,
                .op = entry->entry.op,
                .indication = entry->entry.indication,
        };

        entry->entry.op = 0;
        return record;
}

void fake_complete(struct fake *fake, size_t n, int status, uint64_t bytes) {
        struct ovl_record record;

        fake_lock(fake);
        record = fake_record(fake, n, status, bytes);
        fake_write_records(fake->connections[fake->entries[n].connection], &record, 1);
        fake_unlock(fake);
}

void fake_complete_port(struct fake *fake, size_t n, unsigned connection, uint64_t key, int status, uint64_t bytes) {
        struct ovl_record record;

        fake_lock(fake);
        record = fake_record(fake, n, status, bytes);
        record.flags |= OVL_RECORD_PORT;
        record.key = key;
        fake_write_records(fake->connections[connection], &record, 1);
        fake_unlock(fake);
}

void fake_settle(struct fake *fake, unsigned connection, uint64_t n) {
        struct ovl_record record = { .kind = OVL_RECORD_SETTLED, .value = n };

        fake_send_records(fake, connection, &record, 1);
}

void fake_hold(struct fake *fake, unsigned connection, bool hold) {
        fake_lock(fake);
        fake->connections[connection]->is_held = hold;
        fake_unlock(fake);
        fake_wake(fake);
}

void fake_hang_up(struct fake *fake, unsigned connection) {
        fake_lock(fake);
        shutdown(fake->connections[connection]->fd, SHUT_RDWR);
        fake->connections[connection]->has_ended = true;
        fake_unlock(fake);
}

bool fake_has_ended(struct fake *fake, unsigned connection) {
        bool has_ended;

        fake_lock(fake);
        has_ended = fake->connections[connection]->has_ended;
        fake_unlock(fake);
        return has_ended;
}

void fake_set(struct fake *fake, Overlapd__Request__WhatCase *what, Overlapd__Request__WhatCase kind) {
        fake_lock(fake);
        *what = kind;
        fake_unlock(fake);
}
