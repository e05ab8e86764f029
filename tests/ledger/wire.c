/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A second, plain implementation of a client's side of the wire: blocking, one thing at a time, no checks beyond what
 * keeps it in step. What the library might hide (a record that comes twice, a tag that nobody gave out) arrives here
 * as it was sent.
 *
 * Invariant: the buffer starts at a frame, or within the records of one; bytes are taken once. Of the lane it reads
 * what is there before it looks at the connection, so a record comes before whatever the daemon says after it.
 *
 *   closed --wire_open: hello, memory--> open --the daemon hangs up--> over
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/ledger/wire.h"

#define WIRE_REQUEST_MAX 1024
#define WIRE_SLOTS_MAX 64

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

/* A POST frame. Without slots it is the doorbell of a lane. */
static int wire_send_post(struct wire *wire, const void *slots, uint32_t n_slots, const void *payload,
                          size_t payload_len) {
        struct ovl_post_header post = { .n_slots = n_slots };
        struct ovl_frame_header header = { .kind = OVL_FRAME_POST };
        size_t slots_len = (size_t) n_slots * OVL_SLOT_SIZE;
        _cleanup_free_ uint8_t *bytes = malloc(sizeof(header) + sizeof(post) + slots_len + payload_len);

        if (!bytes)
                return -ENOMEM;
        header.body_len = (uint32_t) (sizeof(post) + slots_len + payload_len);
        memcpy(bytes, &header, sizeof(header));
        memcpy(bytes + sizeof(header), &post, sizeof(post));
        if (slots_len > 0)
                memcpy(bytes + sizeof(header) + sizeof(post), slots, slots_len);
        if (payload_len > 0)
                memcpy(bytes + sizeof(header) + sizeof(post) + slots_len, payload, payload_len);
        return wire_send(wire, bytes, sizeof(header) + header.body_len, -1);
}

/* Level 0: what the entries name in the region is put behind them. */
static int wire_send_inline(struct wire *wire, const void *slots, uint32_t n_slots) {
        uint8_t changed[WIRE_SLOTS_MAX * OVL_SLOT_SIZE];
        _cleanup_free_ uint8_t *payload = malloc(wire->memory_size);
        struct ovl_entry entry = {};
        size_t len = 0;

        if (!payload)
                return -ENOMEM;
        memcpy(changed, slots, (size_t) n_slots * OVL_SLOT_SIZE);
        for (uint32_t at = 0; at < n_slots; at += entry.n_slots) {
                memcpy(&entry, changed + at * OVL_SLOT_SIZE, OVL_SLOT_SIZE);
                if (entry.op == OVL_OP_SEND) {
                        memcpy(payload + len, wire->memory + entry.buffer.offset, entry.buffer.len);
                        len += entry.buffer.len;
                }
                if (entry.op == OVL_OP_SEND || entry.op == OVL_OP_RECV)
                        entry.flags |= OVL_ENTRY_INLINE;
                entry.buffer.offset = 0;
                entry.buffer.region = 0;
                memcpy(changed + at * OVL_SLOT_SIZE, &entry, OVL_SLOT_SIZE);
        }
        return wire_send_post(wire, changed, n_slots, payload, len);
}

/* Level 2. What is in flight is less than the lane has places, so there is always room. */
static int wire_send_lane(struct wire *wire, const void *slots, uint32_t n_slots) {
        uint8_t *places = (uint8_t *) wire->lane + OVL_LANE_DATA;
        uint32_t tail = wire->lane->slots_tail;

        for (uint32_t i = 0; i < n_slots; i++)
                memcpy(places + (tail + i) % WIRE_LANE_SLOTS * OVL_SLOT_SIZE,
                       (const uint8_t *) slots + i * OVL_SLOT_SIZE, OVL_SLOT_SIZE);
        __atomic_store_n(&wire->lane->slots_tail, tail + n_slots, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&wire->daemon_lane->asleep, __ATOMIC_SEQ_CST) == 0)
                return 0;
        return wire_send_post(wire, NULL, 0, NULL, 0);
}

int wire_send_entries(struct wire *wire, const void *slots, uint32_t n_slots) {
        if (n_slots > WIRE_SLOTS_MAX)
                return -EMSGSIZE;
        if (wire->level == 0)
                return wire_send_inline(wire, slots, n_slots);
        if (wire->lane)
                return wire_send_lane(wire, slots, n_slots);
        return wire_send_post(wire, slots, n_slots, NULL, 0);
}

/* Reads what is there, and keeps the descriptor that came along. Returns the number of bytes, or -1 with errno. */
static ssize_t wire_receive(struct wire *wire) {
        union {
                struct cmsghdr header;
                char room[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec part = { .iov_base = wire->buffer + wire->end, .iov_len = sizeof(wire->buffer) - wire->end };
        struct msghdr message = {
                .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        ssize_t n;

        n = recvmsg(wire->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n > 0 && CMSG_FIRSTHDR(&message) && control.header.cmsg_type == SCM_RIGHTS) {
                fd_close(wire->received_fd);
                memcpy(&wire->received_fd, CMSG_DATA(&control.header), sizeof(int));
        }
        return n;
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
                n = wire_receive(wire);
                if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                        return -ECONNABORTED;
                wire->end += n > 0 ? (size_t) n : 0;
        }
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
                if (reply->what_case == OVERLAPD__REPLY__WHAT_HELLO)
                        wire->reply.level = reply->hello->level;
                if (reply->what_case == OVERLAPD__REPLY__WHAT_LANE_ADD)
                        wire->reply.n_records = reply->lane_add->n_records;
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
        if (header.body_len < sizeof(records) + (size_t) records.n_records * sizeof(struct ovl_record) ||
            records.n_records == 0)
                return -EPROTO;
        wire->n_records = records.n_records;
        wire->start += sizeof(header) + sizeof(records);
        wire->payload = wire->start + records.n_records * sizeof(struct ovl_record);
        wire->frame_end = wire->start - sizeof(records) + header.body_len;
        return 0;
}

/* Takes the next record of the frame apart, with its payload; the frame is in the buffer. */
static int wire_take_record(struct wire *wire, struct ovl_record *ret_record, const void **ret_payload) {
        memcpy(ret_record, wire->buffer + wire->start, sizeof(*ret_record));
        wire->start += sizeof(*ret_record);
        wire->n_records--;
        if (ret_record->payload_len > wire->frame_end - wire->payload)
                return -EPROTO;
        *ret_payload = wire->level == 0 ? wire->buffer + wire->payload : NULL;
        wire->payload += ret_record->payload_len;
        if (wire->n_records > 0)
                return WIRE_RECORD;
        wire->start = wire->frame_end;
        return wire->payload == wire->frame_end ? WIRE_RECORD : -EPROTO;
}

/* Returns WIRE_RECORD, 0 when the lane is empty, or -errno. */
static int wire_take_lane(struct wire *wire, struct ovl_record *ret_record) {
        const uint8_t *places = (const uint8_t *) wire->daemon_lane + OVL_LANE_DATA;
        uint32_t head = wire->lane->records_head;
        int r;

        if (__atomic_load_n(&wire->daemon_lane->records_tail, __ATOMIC_SEQ_CST) == head)
                return 0;
        memcpy(ret_record, places + head % wire->n_lane_records * sizeof(*ret_record), sizeof(*ret_record));
        __atomic_store_n(&wire->lane->records_head, head + 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&wire->daemon_lane->asleep, __ATOMIC_SEQ_CST) == 2) {
                r = wire_send_post(wire, NULL, 0, NULL, 0);
                if (r < 0)
                        return r;
        }
        return WIRE_RECORD;
}

int wire_read(struct wire *wire, uint64_t deadline_ns, struct ovl_record *ret_record, const void **ret_payload) {
        int r;

        *ret_payload = NULL;
        while (wire->n_records == 0) {
                r = wire->lane ? wire_take_lane(wire, ret_record) : 0;
                if (r != 0)
                        return r;
                /* Asleep, it looks once more: what comes from here on rings the bell, a record of its own. */
                if (wire->lane)
                        __atomic_store_n(&wire->lane->asleep, 1, __ATOMIC_SEQ_CST);
                r = wire->lane ? wire_take_lane(wire, ret_record) : 0;
                if (r == 0)
                        r = wire_read_frame(wire, deadline_ns);
                if (wire->lane)
                        __atomic_store_n(&wire->lane->asleep, 0, __ATOMIC_SEQ_CST);
                if (r != 0)
                        return r;
        }
        return wire_take_record(wire, ret_record, ret_payload);
}

/* A request before which no record can come. */
static int wire_ask(struct wire *wire, Overlapd__Request *request, int with_fd, uint64_t deadline_ns) {
        struct ovl_record record;
        const void *payload;
        int r;

        r = wire_send_request(wire, request, with_fd);
        if (r < 0)
                return r;
        r = wire_read(wire, deadline_ns, &record, &payload);
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

/* Memory that can be lent. Returns the descriptor, the caller's, or -errno. */
static int wire_make_memory(size_t size, void **ret_map) {
        _cleanup_fd_ int fd = -1;
        void *map;

        fd = memfd_create("storm", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || ftruncate(fd, (off_t) size) < 0 || fallocate(fd, 0, 0, (off_t) size) < 0)
                return -errno;
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return -errno;
        *ret_map = map;
        return fd_take(&fd);
}

/* Level 2: makes the client's half of a lane, and maps the daemon's. */
static int wire_add_lane(struct wire *wire, uint64_t deadline_ns) {
        size_t size = OVL_LANE_DATA + WIRE_LANE_SLOTS * OVL_SLOT_SIZE;
        Overlapd__LaneAdd add = OVERLAPD__LANE_ADD__INIT;
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        struct ovl_lane_client *lane;
        _cleanup_fd_ int fd = -1;
        void *map;
        int r;

        fd = wire_make_memory(size, &map);
        if (fd < 0)
                return fd;
        lane = map;
        lane->magic = OVL_LANE_MAGIC;
        lane->version = 1;
        lane->n_slots = WIRE_LANE_SLOTS;
        add.n_slots = WIRE_LANE_SLOTS;
        request.what_case = OVERLAPD__REQUEST__WHAT_LANE_ADD;
        request.lane_add = &add;
        r = wire_ask(wire, &request, fd, deadline_ns);
        wire->lane = lane;
        wire->lane_size = size;
        if (r < 0)
                return r;
        wire->n_lane_records = wire->reply.n_records;
        wire->daemon_lane_size = OVL_LANE_DATA + wire->n_lane_records * sizeof(struct ovl_record);
        map = mmap(NULL, wire->daemon_lane_size, PROT_READ, MAP_SHARED, wire->received_fd, 0);
        wire->received_fd = fd_close(wire->received_fd);
        if (map == MAP_FAILED)
                return -errno;
        wire->daemon_lane = map;
        return 0;
}

static int wire_lend(struct wire *wire, size_t size, uint64_t deadline_ns) {
        Overlapd__RegionAdd add = OVERLAPD__REGION_ADD__INIT;
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        _cleanup_fd_ int fd = -1;
        void *map;
        int r;

        fd = wire_make_memory(size, &map);
        if (fd < 0)
                return fd;
        wire->memory = map;
        wire->memory_size = size;
        if (wire->level == 0)
                return 0;
        add.size = size;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_ADD;
        request.region_add = &add;
        r = wire_ask(wire, &request, fd, deadline_ns);
        wire->region = wire->reply.region;
        return r;
}

int wire_open(struct wire *wire, const char *path, unsigned level, size_t size, uint64_t deadline_ns) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Hello hello = OVERLAPD__HELLO__INIT;
        int r;

        wire->level = level;
        wire->received_fd = -1;
        r = wire_connect(wire, path);
        if (r < 0)
                return r;
        hello.version_min = OVL_PROTOCOL_MIN;
        hello.version_max = OVL_PROTOCOL_MAX;
        hello.level = level;
        hello.thread = WIRE_THREAD;
        hello.tid = (uint32_t) gettid();
        hello.client = "storm, raw";
        request.what_case = OVERLAPD__REQUEST__WHAT_HELLO;
        request.hello = &hello;
        r = wire_ask(wire, &request, -1, deadline_ns);
        if (r < 0)
                return r;
        if (wire->reply.level != level)
                return -EPROTO;
        r = wire_lend(wire, size, deadline_ns);
        if (r < 0 || level < 2)
                return r;
        return wire_add_lane(wire, deadline_ns);
}

void wire_close(struct wire *wire) {
        wire->fd = fd_close(wire->fd);
        if (wire->memory)
                munmap(wire->memory, wire->memory_size);
        if (wire->lane)
                munmap(wire->lane, wire->lane_size);
        if (wire->daemon_lane)
                munmap((void *) wire->daemon_lane, wire->daemon_lane_size);
        wire->received_fd = fd_close(wire->received_fd);
}
