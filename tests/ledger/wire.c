/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A second, plain implementation of a client's side of the wire: blocking, one thing at a time, no checks beyond what
 * keeps it in step. What the library might hide (a record that comes twice, a tag that nobody gave out) arrives here
 * as it was sent.
 *
 * Invariant: the buffer starts at a frame, or within the records of one; bytes are taken once.
 *
 *   closed --wire_open: hello, memory--> open --the daemon hangs up--> over
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/ledger/wire.h"

#define WIRE_REQUEST_MAX 1024

static int wire_send(struct wire *wire, const void *bytes, size_t len, int with_fd) {
        union {
                struct cmsghdr header;
                char room[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec part = { .iov_base = (void *) bytes, .iov_len = len };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
        ssize_t n;

        if (with_fd >= 0) {
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(&control.header), &with_fd, sizeof(int));
                message.msg_control = &control;
                message.msg_controllen = sizeof(control);
        }
        while (part.iov_len > 0) {
                n = sendmsg(wire->fd, &message, MSG_NOSIGNAL);
                if (n < 0)
                        return errno == EPIPE || errno == ECONNRESET ? -ECONNABORTED : -errno;
                part.iov_base = (uint8_t *) part.iov_base + n;
                part.iov_len -= (size_t) n;
                message.msg_control = NULL;
                message.msg_controllen = 0;
        }
        return 0;
}

int wire_send_request(struct wire *wire, Overlapd__Request *request, int with_fd) {
        uint8_t bytes[sizeof(struct ovl_frame_header) + WIRE_REQUEST_MAX];
        struct ovl_frame_header header = { .kind = OVL_FRAME_CONTROL, .n_fds = with_fd >= 0 };

        request->id = ++wire->request_id;
        header.body_len = (uint32_t) overlapd__request__get_packed_size(request);
        if (header.body_len > WIRE_REQUEST_MAX)
                return -EMSGSIZE;
        memcpy(bytes, &header, sizeof(header));
        overlapd__request__pack(request, bytes + sizeof(header));
        return wire_send(wire, bytes, sizeof(header) + header.body_len, with_fd);
}

int wire_send_entries(struct wire *wire, const void *slots, uint32_t n_slots) {
        uint8_t bytes[sizeof(struct ovl_frame_header) + sizeof(struct ovl_post_header) + 64 * OVL_SLOT_SIZE];
        struct ovl_post_header post = { .n_slots = n_slots };
        struct ovl_frame_header header = { .kind = OVL_FRAME_POST };

        if (n_slots > 64)
                return -EMSGSIZE;
        header.body_len = (uint32_t) sizeof(post) + n_slots * OVL_SLOT_SIZE;
        memcpy(bytes, &header, sizeof(header));
        memcpy(bytes + sizeof(header), &post, sizeof(post));
        memcpy(bytes + sizeof(header) + sizeof(post), slots, (size_t) n_slots * OVL_SLOT_SIZE);
        return wire_send(wire, bytes, sizeof(header) + header.body_len, -1);
}

/* Waits until `len` bytes are in the buffer. */
static int wire_need(struct wire *wire, size_t len, uint64_t deadline_ns) {
        if (wire->start > 0) {
                memmove(wire->buffer, wire->buffer + wire->start, wire->end - wire->start);
                wire->end -= wire->start;
                wire->start = 0;
        }
        while (wire->end < len) {
                struct pollfd ready = { .fd = wire->fd, .events = POLLIN };
                uint64_t now = now_ns();
                ssize_t n;

                if (now >= deadline_ns)
                        return -ETIMEDOUT;
                if (poll(&ready, 1, (int) ((deadline_ns - now) / NS_PER_MS) + 1) <= 0)
                        continue;
                n = recv(wire->fd, wire->buffer + wire->end, sizeof(wire->buffer) - wire->end, MSG_DONTWAIT);
                if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                        return -ECONNABORTED;
                wire->end += n > 0 ? (size_t) n : 0;
        }
        return 0;
}

/* Copies the next bytes out of the buffer. */
static int wire_take(struct wire *wire, void *to, size_t len, uint64_t deadline_ns) {
        int r;

        if (wire->end - wire->start < len) {
                r = wire_need(wire, len, deadline_ns);
                if (r < 0)
                        return r;
        }
        memcpy(to, wire->buffer + wire->start, len);
        wire->start += len;
        return 0;
}

/* Returns WIRE_REPLY, 0 for a notice, or -errno. */
static int wire_read_control(struct wire *wire, const uint8_t *body, uint32_t len) {
        Overlapd__FromDaemon *message;
        const Overlapd__Reply *reply;
        int r = 0;

        message = overlapd__from_daemon__unpack(NULL, len, body);
        if (!message)
                return -EPROTO;
        if (message->what_case == OVERLAPD__FROM_DAEMON__WHAT_REPLY) {
                reply = message->reply;
                wire->reply.id = reply->id;
                wire->reply.status = reply->status;
                snprintf(wire->reply.text, sizeof(wire->reply.text), "%s", reply->text);
                if (reply->what_case == OVERLAPD__REPLY__WHAT_SOCKET_OPEN)
                        wire->reply.socket = reply->socket_open->socket;
                if (reply->what_case == OVERLAPD__REPLY__WHAT_REGION_ADD)
                        wire->reply.region = reply->region_add->region;
                if (reply->what_case == OVERLAPD__REPLY__WHAT_SOCKET_NAME && reply->socket_name->address)
                        wire->reply.port = reply->socket_name->address->port;
                r = WIRE_REPLY;
        } else if (message->what_case == OVERLAPD__FROM_DAEMON__WHAT_NOTICE) {
                fprintf(stderr, "storm: notice to the raw client: %s\n", message->notice->text);
        }
        overlapd__from_daemon__free_unpacked(message, NULL);
        return r;
}

/* Reads one frame: a control message whole, of a RECORDS frame its headers. */
static int wire_read_frame(struct wire *wire, uint64_t deadline_ns) {
        struct ovl_frame_header header;
        struct ovl_records_header records;
        int r;

        r = wire_need(wire, sizeof(header), deadline_ns);
        if (r < 0)
                return r;
        memcpy(&header, wire->buffer, sizeof(header));
        if (header.body_len > OVL_FRAME_RECORDS_MAX)
                return -EPROTO;
        r = wire_need(wire, sizeof(header) + header.body_len, deadline_ns);
        if (r < 0)
                return r;
        if (header.kind == OVL_FRAME_CONTROL) {
                wire->start += sizeof(header) + header.body_len;
                return wire_read_control(wire, wire->buffer + sizeof(header), header.body_len);
        }
        if (header.kind != OVL_FRAME_RECORDS || header.body_len < sizeof(records))
                return -EPROTO;
        memcpy(&records, wire->buffer + sizeof(header), sizeof(records));
        if (header.body_len != sizeof(records) + (size_t) records.n_records * sizeof(struct ovl_record))
                return -EPROTO;
        wire->n_records = records.n_records;
        wire->start += sizeof(header) + sizeof(records);
        return 0;
}

int wire_read(struct wire *wire, uint64_t deadline_ns, struct ovl_record *ret_record) {
        int r;

        while (wire->n_records == 0) {
                r = wire_read_frame(wire, deadline_ns);
                if (r != 0)
                        return r;
        }
        wire->n_records--;
        r = wire_take(wire, ret_record, sizeof(*ret_record), deadline_ns);
        return r < 0 ? r : WIRE_RECORD;
}

/* A request before which no record can come. */
static int wire_ask(struct wire *wire, Overlapd__Request *request, int with_fd, uint64_t deadline_ns) {
        struct ovl_record record;
        int r;

        r = wire_send_request(wire, request, with_fd);
        if (r < 0)
                return r;
        r = wire_read(wire, deadline_ns, &record);
        if (r == WIRE_RECORD)
                return -EPROTO;
        return r < 0 ? r : wire->reply.status;
}

static int wire_connect(struct wire *wire, const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_fd_ int fd = -1;

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        wire->fd = fd_take(&fd);
        return 0;
}

static int wire_lend(struct wire *wire, size_t size, uint64_t deadline_ns) {
        Overlapd__RegionAdd add = OVERLAPD__REGION_ADD__INIT;
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        _cleanup_fd_ int fd = -1;
        void *map;
        int r;

        fd = memfd_create("storm", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || ftruncate(fd, (off_t) size) < 0 || fallocate(fd, 0, 0, (off_t) size) < 0)
                return -errno;
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return -errno;
        wire->memory = map;
        wire->memory_size = size;
        add.size = size;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_ADD;
        request.region_add = &add;
        r = wire_ask(wire, &request, fd, deadline_ns);
        wire->region = wire->reply.region;
        return r;
}

int wire_open(struct wire *wire, const char *path, size_t size, uint64_t deadline_ns) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Hello hello = OVERLAPD__HELLO__INIT;
        int r;

        r = wire_connect(wire, path);
        if (r < 0)
                return r;
        hello.version_min = OVL_PROTOCOL_MIN;
        hello.version_max = OVL_PROTOCOL_MAX;
        hello.level = 1;
        hello.thread = WIRE_THREAD;
        hello.tid = (uint32_t) gettid();
        hello.client = "storm, raw";
        request.what_case = OVERLAPD__REQUEST__WHAT_HELLO;
        request.hello = &hello;
        r = wire_ask(wire, &request, -1, deadline_ns);
        if (r < 0)
                return r;
        return wire_lend(wire, size, deadline_ns);
}

void wire_close(struct wire *wire) {
        wire->fd = fd_close(wire->fd);
        if (wire->memory)
                munmap(wire->memory, wire->memory_size);
        wire->memory = NULL;
}
