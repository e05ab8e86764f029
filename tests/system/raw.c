/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The wire as anybody may write it. Frames are read whole; records wait in a queue until the story takes them, so that
 * a reply can be awaited although records come first.
 */

#include "tests/system/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/channel.h"
#include "tests/harness/harness.h"

#define RAW_PATIENCE_S 10
#define RAW_THREAD 1

/* --- Bytes ------------------------------------------------------------------------------------------------------ */

static bool raw_poll(const struct raw *raw, short events) {
        struct pollfd look = { .fd = raw->fd, .events = events };
        uint64_t patience_ns = harness_deadline(RAW_PATIENCE_S) - now_ns();

        return poll(&look, 1, (int) (patience_ns / NS_PER_MS)) == 1;
}

bool raw_has_input(struct raw *raw) {
        struct pollfd look = { .fd = raw->fd, .events = POLLIN };

        return raw->n_in > 0 || raw->n_records > 0 || poll(&look, 1, 0) == 1;
}

bool raw_write(struct raw *raw, const void *bytes, size_t len, int fd) {
        size_t n_sent = 0;

        while (n_sent < len) {
                struct iovec part = { (uint8_t *) bytes + n_sent, len - n_sent };
                ssize_t n;

                n = channel_send(raw->fd, &part, 1, n_sent == 0 ? fd : -1);
                if (n == -EAGAIN) {
                        if (!raw_poll(raw, POLLOUT))
                                fail_msg("the daemon takes no more bytes");
                        continue;
                }
                if (n < 0)
                        return false;
                n_sent += (size_t) n;
        }
        return true;
}

bool raw_frame(struct raw *raw, unsigned kind, const void *body, size_t len, unsigned n_fds, int fd) {
        struct ovl_frame_header header = { (uint32_t) len, (uint8_t) kind, (uint8_t) n_fds, 0 };
        _cleanup_free_ uint8_t *frame = malloc(sizeof(header) + len);

        assert_non_null(frame);
        memcpy(frame, &header, sizeof(header));
        if (len > 0)
                memcpy(frame + sizeof(struct ovl_frame_header), body, len);
        return raw_write(raw, frame, sizeof(struct ovl_frame_header) + len, fd);
}

/* Reads until a whole frame is there. Returns false at the end. */
static bool raw_fill(struct raw *raw, struct ovl_frame_header *ret_header) {
        const char *problem = NULL;
        ssize_t n;
        int r;

        for (;;) {
                r = frame_find(raw->in, raw->n_in, FRAME_FROM_DAEMON, ret_header, &problem);
                if (r < 0)
                        fail_msg("the daemon sent what is no frame: %s", problem);
                if (r > 0)
                        return true;
                if (!raw_poll(raw, POLLIN))
                        fail_msg("the daemon sends nothing");
                n = read(raw->fd, raw->in + raw->n_in, sizeof(raw->in) - raw->n_in);
                if (n < 0 && errno == EAGAIN)
                        continue;
                if (n <= 0)
                        return false;
                raw->n_in += (size_t) n;
        }
}

/* --- Frames ----------------------------------------------------------------------------------------------------- */

static void raw_keep_payloads(struct raw *raw, const uint8_t *payloads, size_t len) {
        if (len == 0)
                return;
        raw->payloads = realloc(raw->payloads, raw->payloads_len + len);
        assert_non_null(raw->payloads);
        memcpy(raw->payloads + raw->payloads_len, payloads, len);
        raw->payloads_len += len;
}

static void raw_keep_records(struct raw *raw, const uint8_t *body, size_t len) {
        struct ovl_records_header header;
        size_t records_len, payloads_len = 0;

        memcpy(&header, body, sizeof(header));
        records_len = sizeof(header) + header.n_records * sizeof(struct ovl_record);
        assert_true(header.n_records > 0 && records_len <= len);
        if (raw->n_records + header.n_records > raw->n_records_held) {
                raw->n_records_held = 2 * (raw->n_records + header.n_records);
                raw->records = realloc(raw->records, raw->n_records_held * sizeof(*raw->records));
                assert_non_null(raw->records);
        }
        for (size_t i = 0; i < header.n_records; i++) {
                struct ovl_record record;

                memcpy(&record, body + sizeof(header) + i * sizeof(record), sizeof(record));
                if (record.kind == OVL_RECORD_SETTLED)
                        raw->n_settled = record.value;
                else
                        raw->records[raw->n_records++] = record;
                payloads_len += record.payload_len;
        }
        assert_int_equal(len, records_len + payloads_len);
        raw_keep_payloads(raw, body + records_len, payloads_len);
}

static enum raw_kind raw_unpack(struct raw *raw, const uint8_t *body, size_t len) {
        const Overlapd__FromDaemon *message;
        ProtobufCMessage *unpacked;
        const char *problem = NULL;

        if (message_unpack(&raw->arena, &overlapd__from_daemon__descriptor, body, len, &unpacked, &problem) < 0)
                fail_msg("the daemon sent a malformed message: %s", problem);
        message = (const Overlapd__FromDaemon *) unpacked;
        raw->reply = message->what_case == OVERLAPD__FROM_DAEMON__WHAT_REPLY ? message->reply : NULL;
        raw->notice = message->what_case == OVERLAPD__FROM_DAEMON__WHAT_NOTICE ? message->notice : NULL;
        assert_true(raw->reply || raw->notice);
        return raw->reply ? RAW_REPLY : RAW_NOTICE;
}

enum raw_kind raw_next(struct raw *raw) {
        struct ovl_frame_header header;
        enum raw_kind kind = RAW_RECORDS;
        size_t len;

        if (!raw_fill(raw, &header))
                return RAW_END;
        len = sizeof(header) + header.body_len;
        if (header.kind == OVL_FRAME_RECORDS)
                raw_keep_records(raw, raw->in + sizeof(header), header.body_len);
        else
                kind = raw_unpack(raw, raw->in + sizeof(header), header.body_len);
        memmove(raw->in, raw->in + len, raw->n_in - len);
        raw->n_in -= len;
        return kind;
}

uint32_t raw_send(struct raw *raw, Overlapd__Request *request, int fd) {
        _cleanup_free_ void *frame = NULL;
        ssize_t len;

        if (request->id == 0)
                request->id = ++raw->id;
        len = message_pack_frame(&request->base, fd >= 0 ? 1 : 0, &frame);
        assert_ok(len);
        raw_write(raw, frame, (size_t) len, fd);
        return request->id;
}

const Overlapd__Reply *raw_await(struct raw *raw, uint32_t id) {
        for (;;) {
                enum raw_kind kind = raw_next(raw);

                if (kind == RAW_END)
                        fail_msg("the daemon hung up instead of replying");
                if (kind == RAW_NOTICE)
                        fail_msg("the daemon sent a notice instead of a reply: %s", raw->notice->text);
                if (kind == RAW_REPLY && raw->reply->id == id)
                        return raw->reply;
        }
}

int raw_call(struct raw *raw, Overlapd__Request *request, int fd) {
        return raw_await(raw, raw_send(raw, request, fd))->status;
}

void raw_expect_end(struct raw *raw) {
        while (raw_next(raw) != RAW_END)
                continue;
}

void raw_expect_kick(struct raw *raw, unsigned reason, const char *text) {
        enum raw_kind kind;

        do
                kind = raw_next(raw);
        while (kind == RAW_RECORDS || kind == RAW_REPLY);
        if (kind == RAW_END)
                fail_msg("the daemon hung up without saying why");
        assert_true(raw->notice->closing);
        if (reason)
                assert_int_equal(raw->notice->reason, reason);
        if (text && !strstr(raw->notice->text, text))
                fail_msg("the notice says \"%s\", not \"%s\"", raw->notice->text, text);
        assert_int_equal(raw_next(raw), RAW_END);
}

/* --- Connections ------------------------------------------------------------------------------------------------ */

struct raw *raw_connect(const struct daemon *daemon) {
        struct raw *raw = calloc(1, sizeof(*raw));

        assert_non_null(raw);
        message_arena_init(&raw->arena);
        raw->fd = daemon_connect(daemon);
        return raw;
}

struct raw *raw_close(struct raw *raw) {
        if (!raw)
                return NULL;
        fd_close(raw->fd);
        free(raw->records);
        free(raw->payloads);
        free(raw->payload);
        free(raw);
        return NULL;
}

struct raw *raw_open(const struct daemon *daemon, uint32_t credits) {
        return raw_open_level(daemon, 1, credits);
}

struct raw *raw_open_level(const struct daemon *daemon, uint32_t level, uint32_t credits) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Hello hello = OVERLAPD__HELLO__INIT;
        struct raw *raw = raw_connect(daemon);

        hello.version_min = OVL_PROTOCOL_MIN;
        hello.version_max = OVL_PROTOCOL_MAX;
        hello.level = level;
        hello.thread = RAW_THREAD;
        hello.credits = credits;
        request.what_case = OVERLAPD__REQUEST__WHAT_HELLO;
        request.hello = &hello;
        assert_ok(raw_call(raw, &request, -1));
        assert_int_equal(raw->reply->hello->secret.len, sizeof(raw->secret));
        raw->session = raw->reply->hello->session;
        raw->credits = raw->reply->hello->credits;
        raw->level = raw->reply->hello->level;
        raw->inline_bytes = raw->reply->hello->inline_bytes;
        memcpy(raw->secret, raw->reply->hello->secret.data, sizeof(raw->secret));
        return raw;
}

static struct raw *raw_attach(const struct daemon *daemon, const struct raw *first, Overlapd__Attach *attach) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        struct raw *raw = raw_connect(daemon);

        attach->session = first->session;
        attach->secret = (ProtobufCBinaryData){ .len = 16, .data = (uint8_t *) first->secret };
        request.what_case = OVERLAPD__REQUEST__WHAT_ATTACH;
        request.attach = attach;
        assert_ok(raw_call(raw, &request, -1));
        return raw;
}

struct raw *raw_attach_thread(const struct daemon *daemon, const struct raw *first, uint64_t number) {
        Overlapd__Attach attach = OVERLAPD__ATTACH__INIT;

        attach.what_case = OVERLAPD__ATTACH__WHAT_THREAD;
        attach.thread = number;
        return raw_attach(daemon, first, &attach);
}

struct raw *raw_attach_port(const struct daemon *daemon, const struct raw *first, uint64_t number) {
        Overlapd__Attach attach = OVERLAPD__ATTACH__INIT;

        attach.what_case = OVERLAPD__ATTACH__WHAT_PORT;
        attach.port = number;
        return raw_attach(daemon, first, &attach);
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

int raw_region_add(struct raw *raw, int fd, uint64_t size) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionAdd add = OVERLAPD__REGION_ADD__INIT;
        int r;

        add.size = size;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_ADD;
        request.region_add = &add;
        r = raw_call(raw, &request, fd);
        return r < 0 ? r : (int) raw->reply->region_add->region;
}

int raw_region_remove(struct raw *raw, uint32_t region) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionRemove remove_it = OVERLAPD__REGION_REMOVE__INIT;

        remove_it.region = region;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_REMOVE;
        request.region_remove = &remove_it;
        return raw_call(raw, &request, -1);
}

uint64_t raw_socket(struct raw *raw, unsigned family) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOpen open_it = OVERLAPD__SOCKET_OPEN__INIT;

        open_it.family = (Overlapd__Family) family;
        open_it.type = OVERLAPD__TYPE__TYPE_STREAM;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPEN;
        request.socket_open = &open_it;
        assert_ok(raw_call(raw, &request, -1));
        return raw->reply->socket_open->socket;
}

int raw_socket_close(struct raw *raw, uint64_t socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketClose close_it = OVERLAPD__SOCKET_CLOSE__INIT;

        close_it.socket = socket;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_CLOSE;
        request.socket_close = &close_it;
        return raw_call(raw, &request, -1);
}

int raw_status(struct raw *raw) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Status status = OVERLAPD__STATUS__INIT;

        request.what_case = OVERLAPD__REQUEST__WHAT_STATUS;
        request.status = &status;
        return raw_call(raw, &request, -1);
}

/* --- Operations ------------------------------------------------------------------------------------------------- */

void raw_post(struct raw *raw, const struct ovl_entry *entries, size_t n) {
        raw_post_inline(raw, entries, n, NULL, 0);
}

void raw_post_inline(struct raw *raw, const struct ovl_entry *entries, size_t n, const void *payload,
                     size_t payload_len) {
        size_t len = sizeof(struct ovl_post_header);
        struct ovl_post_header header = { 0 };
        _cleanup_free_ uint8_t *body = malloc(len + n * sizeof(*entries) + payload_len);

        assert_non_null(body);
        for (size_t i = 0; i < n; i++) {
                unsigned n_slots = entries[i].n_slots ? entries[i].n_slots : 1;

                memcpy(body + len, &entries[i], n_slots * OVL_SLOT_SIZE);
                len += n_slots * OVL_SLOT_SIZE;
                header.n_slots += n_slots;
        }
        memcpy(body, &header, sizeof(header));
        if (payload_len > 0)
                memcpy(body + len, payload, payload_len);
        raw_frame(raw, OVL_FRAME_POST, body, len + payload_len, 0, -1);
}

/* The payload of a record that is taken. */
static void raw_take_payload(struct raw *raw, size_t len) {
        if (len == 0)
                return;
        raw->payload = realloc(raw->payload, len);
        assert_non_null(raw->payload);
        memcpy(raw->payload, raw->payloads, len);
        raw->payloads_len -= len;
        memmove(raw->payloads, raw->payloads + len, raw->payloads_len);
}

struct ovl_record raw_take(struct raw *raw) {
        struct ovl_record record;

        while (raw->n_records == 0) {
                enum raw_kind kind = raw_next(raw);

                if (kind == RAW_END || kind == RAW_NOTICE)
                        fail_msg("the connection ended instead of a record: %s",
                                 kind == RAW_NOTICE ? raw->notice->text : "");
        }
        record = raw->records[0];
        memmove(raw->records, raw->records + 1, --raw->n_records * sizeof(record));
        raw_take_payload(raw, record.payload_len);
        return record;
}

struct ovl_record raw_one(struct raw *raw, const struct ovl_entry *entry) {
        raw_post(raw, entry, 1);
        return raw_take(raw);
}

int raw_memfd(size_t size) {
        int fd = memfd_create("region", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t) size), 0);
        assert_int_equal(fallocate(fd, 0, 0, (off_t) size), 0);
        return fd;
}

uint64_t raw_pair(struct raw *raw, int *ret_fd) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct ovl_entry entry = { .tag = 1, .op = OVL_OP_CONNECT, .n_slots = 2 };
        socklen_t len = sizeof(address);
        _cleanup_fd_ int listener = -1;
        struct ovl_record record;

        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listener, (struct sockaddr *) &address, len), 0);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &len), 0);
        entry.socket = raw_socket(raw, OVL_FAMILY_INET);
        entry.address = (struct ovl_address){ .family = OVL_FAMILY_INET, .port = ntohs(address.sin_port) };
        memcpy(entry.address.host, &address.sin_addr, 4);
        record = raw_one(raw, &entry);
        assert_int_equal(record.status, 0);
        *ret_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(*ret_fd >= 0);
        return entry.socket;
}
