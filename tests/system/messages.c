/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whatever a client may write into an entry of a datagram or a poll. What is wrong with it is told by its record, which
 * is flagged REFUSED, and nothing is sent, received or written for it.
 */

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/system/estate.h"
#include "tests/system/raw.h"

#define MESSAGES_SIZE 8192u

struct messages {
        struct estate estate;
        struct raw *raw;
        int memory, fd;
        uint8_t *map;
        uint64_t stream, udp, local; /* sockets: of TCP, bound of UDP, of Unix datagrams */
        struct sockaddr_in address;  /* of the UDP socket */
        struct ovl_address peer;     /* the ordinary end, on the wire */
};

static uint64_t messages_open(struct messages *messages, Overlapd__Family family) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOpen open_it = OVERLAPD__SOCKET_OPEN__INIT;

        open_it.family = family;
        open_it.type = OVERLAPD__TYPE__TYPE_DATAGRAM;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPEN;
        request.socket_open = &open_it;
        assert_ok(raw_call(messages->raw, &request, -1));
        return messages->raw->reply->socket_open->socket;
}

static int messages_bind(struct messages *messages, uint64_t socket, Overlapd__Family family, const void *host,
                         size_t len) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketBind bind_it = OVERLAPD__SOCKET_BIND__INIT;
        Overlapd__Address address = OVERLAPD__ADDRESS__INIT;

        address.family = family;
        address.host = (ProtobufCBinaryData){ .len = len, .data = (uint8_t *) host };
        bind_it.socket = socket;
        bind_it.address = &address;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_BIND;
        request.socket_bind = &bind_it;
        return raw_call(messages->raw, &request, -1);
}

static void messages_name(struct messages *messages) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketName name = OVERLAPD__SOCKET_NAME__INIT;

        name.socket = messages->udp;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_NAME;
        request.socket_name = &name;
        assert_ok(raw_call(messages->raw, &request, -1));
        messages->address = (struct sockaddr_in){
                .sin_family = AF_INET,
                .sin_port = htons((uint16_t) messages->raw->reply->socket_name->address->port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
}

static void messages_start(struct messages *messages) {
        static const uint8_t loopback[4] = { 127, 0, 0, 1 };
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(address);

        estate_start(&messages->estate, NULL);
        messages->raw = raw_open(&messages->estate.daemon, 0);
        messages->memory = raw_memfd(MESSAGES_SIZE);
        messages->map = mmap(NULL, MESSAGES_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, messages->memory, 0);
        assert_true(messages->map != MAP_FAILED);
        assert_int_equal(raw_region_add(messages->raw, messages->memory, MESSAGES_SIZE), 1);
        messages->stream = raw_socket(messages->raw, OVL_FAMILY_INET);
        messages->udp = messages_open(messages, OVERLAPD__FAMILY__FAMILY_INET);
        messages->local = messages_open(messages, OVERLAPD__FAMILY__FAMILY_UNIX);
        assert_int_equal(messages_bind(messages, messages->udp, OVERLAPD__FAMILY__FAMILY_INET, loopback, 4), 0);
        messages_name(messages);
        messages->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(messages->fd, (struct sockaddr *) &address, len), 0);
        assert_int_equal(getsockname(messages->fd, (struct sockaddr *) &address, &len), 0);
        messages->peer = (struct ovl_address){ .family = OVL_FAMILY_INET, .port = ntohs(address.sin_port) };
        memcpy(messages->peer.host, loopback, 4);
}

static void messages_stop(struct messages *messages) {
        assert_int_equal(raw_status(messages->raw), 0);
        raw_close(messages->raw);
        close(messages->fd);
        close(messages->memory);
        munmap(messages->map, MESSAGES_SIZE);
        estate_stop(&messages->estate);
}

static void messages_give(const struct messages *messages, const char *text) {
        assert_int_equal(sendto(messages->fd, text, strlen(text), 0, (const struct sockaddr *) &messages->address,
                                sizeof(messages->address)),
                         strlen(text));
}

static struct ovl_entry messages_recvfrom(const struct messages *messages) {
        return (struct ovl_entry){
                .tag = 77,
                .socket = messages->udp,
                .op = OVL_OP_RECVFROM,
                .n_slots = 1,
                .buffer = { .offset = 1024, .len = 10, .region = 1 },
                .aux = { .offset = 64, .len = sizeof(struct ovl_address), .region = 1 },
        };
}

static struct ovl_entry messages_sendto(const struct messages *messages) {
        return (struct ovl_entry){
                .tag = 78,
                .socket = messages->udp,
                .op = OVL_OP_SENDTO,
                .n_slots = 2,
                .buffer = { .offset = 1024, .len = 5, .region = 1 },
                .address = messages->peer,
        };
}

static void messages_expect_refusal(struct messages *messages, const struct ovl_entry *entry, int status,
                                    unsigned reason) {
        struct ovl_record record = raw_one(messages->raw, entry);

        if (record.status != status || record.reason != reason || !(record.flags & OVL_RECORD_REFUSED))
                fail_msg("op %u was answered with status %d, reason %u, flags %#x, not refused with %d, reason %u",
                         entry->op, record.status, record.reason, record.flags, status, reason);
        assert_true(record.tag == entry->tag);
        assert_int_equal(record.bytes, 0);
        assert_int_equal(record.value, 0);
}

/* --- Fields ----------------------------------------------------------------------------------------------------- */

static void messages_fields_are_checked(void **state) {
        static const struct {
                uint8_t op, n_slots, flags;
                uint32_t op_flags;
                uint64_t other;
                int status;
                unsigned reason;
        } bad[] = {
                { OVL_OP_RECVFROM, 1, OVL_ENTRY_MORE, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECVFROM, 1, 0, OVL_MESSAGE_WAITALL, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_RECVFROM, 1, 0, 0x10, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },   /* MSG_PROXY */
                { OVL_OP_RECVFROM, 1, 0, 0x2000, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS }, /* MSG_ERRQUEUE */
                { OVL_OP_RECVFROM, 1, 0, 0, 1, -EINVAL, OVL_REASON_RESERVED_BITS },
                { OVL_OP_RECVFROM, 2, 0, 0, 0, -EINVAL, OVL_REASON_RESERVED_BITS },
                { OVL_OP_RECVFROM, 3, 0, 0, 0, -EINVAL, OVL_REASON_RESERVED_BITS },
                { OVL_OP_SENDTO, 2, OVL_ENTRY_MORE, 0, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_SENDTO, 2, 0, OVL_MESSAGE_PEEK, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_SENDTO, 2, 0, OVL_MESSAGE_OOB, 0, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_SENDTO, 2, 0, 0, 1, -EINVAL, OVL_REASON_RESERVED_BITS },
                { OVL_OP_SENDTO, 1, 0, 0, 0, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS },
                { OVL_OP_SENDTO, 3, 0, 0, 0, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS },
                { OVL_OP_POLL, 2, 0, 0, OVL_POLL_IN, -EINVAL, OVL_REASON_RESERVED_BITS },
                { OVL_OP_POLL, 1, OVL_ENTRY_VECTOR, 0, OVL_POLL_IN, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_POLL, 1, 0, OVL_MESSAGE_PEEK, OVL_POLL_IN, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_POLL, 1, 0, 0, 0x20, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { OVL_OP_POLL, 1, 0, 0, UINT64_C(1) << 32, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
        };
        struct messages messages;

        messages_start(&messages);
        for (size_t i = 0; i < HARNESS_N(bad); i++) {
                struct ovl_entry entry = { .socket = messages.udp };

                if (bad[i].op == OVL_OP_RECVFROM)
                        entry = messages_recvfrom(&messages);
                else if (bad[i].op == OVL_OP_SENDTO)
                        entry = messages_sendto(&messages);
                entry.op = bad[i].op;
                entry.n_slots = bad[i].n_slots;
                entry.flags = bad[i].flags;
                entry.op_flags = bad[i].op_flags;
                entry.other = bad[i].other;
                messages_expect_refusal(&messages, &entry, bad[i].status, bad[i].reason);
        }
        messages_stop(&messages);
}

/* A poll has neither buffer nor aux, a send no aux; the words behind an address are zero. */
static void messages_unused_fields_are_zero(void **state) {
        struct messages messages;
        struct ovl_entry entry;

        messages_start(&messages);
        entry = messages_recvfrom(&messages);
        entry.op = OVL_OP_POLL;
        entry.aux = (struct ovl_slice){ 0 };
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_RESERVED_BITS);
        entry = messages_recvfrom(&messages);
        entry.op = OVL_OP_POLL;
        entry.buffer = (struct ovl_slice){ 0 };
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_RESERVED_BITS);
        entry = messages_sendto(&messages);
        entry.aux = (struct ovl_slice){ .offset = 64, .len = sizeof(struct ovl_address), .region = 1 };
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_RESERVED_BITS);
        entry = messages_sendto(&messages);
        entry.socket = messages.local;
        entry.n_slots = 3;
        entry.address = (struct ovl_address){ .family = OVL_FAMILY_UNIX, .path_len = 2, .host = "/x" };
        entry.reserved[11] = 1;
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_RESERVED_BITS);
        messages_stop(&messages);
}

static void messages_need_the_right_socket(void **state) {
        struct messages messages;
        struct ovl_entry entry;

        messages_start(&messages);
        entry = messages_recvfrom(&messages);
        entry.socket = messages.stream;
        messages_expect_refusal(&messages, &entry, -EOPNOTSUPP, OVL_REASON_OP_NOT_FOR_SOCKET);
        entry = messages_sendto(&messages);
        entry.socket = messages.stream;
        messages_expect_refusal(&messages, &entry, -EOPNOTSUPP, OVL_REASON_OP_NOT_FOR_SOCKET);
        entry = (struct ovl_entry){ .op = OVL_OP_ACCEPT, .n_slots = 1, .socket = messages.udp };
        messages_expect_refusal(&messages, &entry, -EOPNOTSUPP, OVL_REASON_OP_NOT_FOR_SOCKET);
        entry = messages_recvfrom(&messages);
        entry.op = OVL_OP_RECV;
        entry.aux = (struct ovl_slice){ 0 };
        entry.op_flags = OVL_MESSAGE_WAITALL;
        messages_expect_refusal(&messages, &entry, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS);
        entry = messages_recvfrom(&messages);
        entry.socket = messages.local; /* has no name */
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_NOT_CONNECTED);
        entry.socket ^= 1u << 31;
        messages_expect_refusal(&messages, &entry, -EBADF, OVL_REASON_UNKNOWN_SOCKET);
        messages_stop(&messages);
}

/* --- Addresses -------------------------------------------------------------------------------------------------- */

static void messages_aux_is_checked(void **state) {
        static const struct {
                uint64_t offset;
                uint32_t len, region;
                int status;
                unsigned reason;
        } slices[] = {
                { 0, 115, 1, -EINVAL, OVL_REASON_BAD_ADDRESS },
                { 0, 117, 1, -EINVAL, OVL_REASON_BAD_ADDRESS },
                { 0, 232, 1, -EINVAL, OVL_REASON_BAD_ADDRESS },
                { 0, 0, 1, -EINVAL, OVL_REASON_BAD_ADDRESS },
                { 1, 0, 0, -EINVAL, OVL_REASON_BAD_ADDRESS },
                { 0, UINT32_MAX, 1, -EINVAL, OVL_REASON_BAD_ADDRESS },
                { 0, 116, 0, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { 0, 116, 2, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { 0, 116, UINT32_MAX, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { MESSAGES_SIZE - 115, 116, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { MESSAGES_SIZE, 116, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { UINT64_MAX, 116, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { UINT64_MAX - 115, 116, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
        };
        struct ovl_address sender;
        struct messages messages;
        struct ovl_record record;
        struct ovl_entry entry;

        messages_start(&messages);
        for (size_t i = 0; i < HARNESS_N(slices); i++) {
                entry = messages_recvfrom(&messages);
                entry.aux = (struct ovl_slice){ slices[i].offset, slices[i].len, slices[i].region };
                messages_expect_refusal(&messages, &entry, slices[i].status, slices[i].reason);
        }
        /* The last bytes are fine, at any offset; without aux nobody is told. */
        messages_give(&messages, "a");
        entry = messages_recvfrom(&messages);
        entry.aux.offset = MESSAGES_SIZE - sizeof(struct ovl_address) - 1;
        messages.map[MESSAGES_SIZE - 1] = 0x55;
        record = raw_one(messages.raw, &entry);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, 1);
        memcpy(&sender, messages.map + entry.aux.offset, sizeof(sender));
        assert_memory_equal(&sender, &messages.peer, sizeof(sender));
        assert_int_equal(messages.map[MESSAGES_SIZE - 1], 0x55);
        messages_give(&messages, "b");
        entry.aux = (struct ovl_slice){ 0 };
        memset(messages.map, 0xaa, 256);
        record = raw_one(messages.raw, &entry);
        assert_int_equal(record.status, 0);
        for (size_t i = 0; i < 256; i++)
                assert_int_equal(messages.map[i], 0xaa);
        messages_stop(&messages);
}

/* A header and items: their place is checked, and what is sent is copied once, then checked. */
static void messages_places_are_checked(void **state) {
        static const struct {
                uint64_t offset;
                uint32_t len, region;
                int status;
                unsigned reason;
        } slices[] = {
                { 0, 0, 0, -EFAULT, OVL_REASON_BAD_MESSAGE },
                { 0, 0, 1, -EFAULT, OVL_REASON_BAD_MESSAGE },
                { 0, 127, 1, -EINVAL, OVL_REASON_BAD_MESSAGE },
                { 0, 385, 1, -EINVAL, OVL_REASON_BAD_MESSAGE },
                { 0, UINT32_MAX, 1, -EINVAL, OVL_REASON_BAD_MESSAGE },
                { 4, 128, 1, -EINVAL, OVL_REASON_BAD_MESSAGE },
                { 0, 128, 0, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { 0, 128, 2, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { MESSAGES_SIZE - 120, 128, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { UINT64_MAX - 127, 128, 1, -EFAULT, OVL_REASON_OUTSIDE_REGION },
        };
        struct messages messages;
        struct ovl_record record;
        struct ovl_entry entry;

        messages_start(&messages);
        for (size_t i = 0; i < HARNESS_N(slices); i++) {
                entry = messages_recvfrom(&messages);
                entry.op = OVL_OP_RECVMSG;
                entry.aux = (struct ovl_slice){ slices[i].offset, slices[i].len, slices[i].region };
                messages_expect_refusal(&messages, &entry, slices[i].status, slices[i].reason);
        }
        entry.aux = (struct ovl_slice){ .len = sizeof(struct ovl_message), .region = 1 };
        entry.op_flags = OVL_MESSAGE_DONTWAIT;
        messages_expect_refusal(&messages, &entry, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS);
        entry.op_flags = 0;
        entry.n_slots = 2;
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_RESERVED_BITS);
        entry.n_slots = 1;
        entry.socket = messages.stream;
        messages_expect_refusal(&messages, &entry, -EOPNOTSUPP, OVL_REASON_OP_NOT_FOR_SOCKET);
        /* The last bytes are fine, and nothing behind the header is touched. */
        entry.socket = messages.udp;
        entry.aux.offset = MESSAGES_SIZE - sizeof(struct ovl_message) - 8;
        memset(messages.map + MESSAGES_SIZE - 8, 0x55, 8);
        messages_give(&messages, "a");
        record = raw_one(messages.raw, &entry);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, 1);
        assert_memory_equal(messages.map + entry.aux.offset, &messages.peer, sizeof(messages.peer));
        for (size_t i = 0; i < 8; i++)
                assert_int_equal(messages.map[MESSAGES_SIZE - 8 + i], 0x55);
        messages_stop(&messages);
}

/* What is no item, or none for this socket, is refused, and nothing is sent. */
static void messages_items_are_checked(void **state) {
        static const struct {
                uint32_t len, item_len;
                uint16_t type, reserved;
                uint32_t value[8];
        } items[] = {
                { 8, 16, 2, 0, { 1 } }, /* longer than all */
                { 16, 7, 2, 0, { 1 } }, /* shorter than its header */
                { 16, 0, 2, 0, { 1 } }, /* none */
                { 16, UINT32_MAX, 2, 0, { 1 } },
                { 16, 12, 0, 0, { 1 } }, /* no type */
                { 16, 12, 4, 0, { 1 } }, /* another one */
                { 16, 12, UINT16_MAX, 0, { 1 } },
                { 16, 12, 2, 1, { 1 } }, /* reserved */
                { 16, 12, 2, 0, { 0 } }, /* no hop */
                { 16, 12, 2, 0, { 256 } },
                { 16, 12, 3, 0, { 256 } },
                { 16, 16, 2, 0, { 1 } },                           /* another length */
                { 32, 12, 2, 0, { 1, 0, 12, 2, 1 } },              /* twice */
                { 16, 12, 1, 0, { OVL_FAMILY_INET } },             /* too short for it */
                { 32, 32, 1, 0, { OVL_FAMILY_INET6 } },            /* of another family */
                { 32, 32, 1, 0, { OVL_FAMILY_INET | 0x100 } },     /* reserved */
                { 32, 32, 1, 0, { OVL_FAMILY_INET, UINT32_MAX } }, /* no interface */
                { 12, 12, 2, 0, { 1 } },                           /* not a multiple of 8 */
                { 264, 12, 2, 0, { 1 } },                          /* too many */
        };
        struct messages messages;
        struct ovl_record record;
        struct ovl_entry entry;
        char bytes[8];

        messages_start(&messages);
        for (size_t i = 0; i < HARNESS_N(items); i++) {
                struct ovl_control item = { items[i].item_len, items[i].type, items[i].reserved };

                memcpy(messages.map, &item, sizeof(item));
                memcpy(messages.map + sizeof(item), items[i].value, sizeof(items[i].value));
                entry = messages_sendto(&messages);
                entry.op = OVL_OP_SENDMSG;
                entry.aux = (struct ovl_slice){ .len = items[i].len, .region = 1 };
                messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_BAD_CONTROL);
        }
        entry.aux = (struct ovl_slice){ .offset = MESSAGES_SIZE, .len = 16, .region = 1 };
        messages_expect_refusal(&messages, &entry, -EFAULT, OVL_REASON_OUTSIDE_REGION);
        entry.aux = (struct ovl_slice){ .offset = 4, .len = 16, .region = 1 };
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_BAD_CONTROL);
        /* A Unix socket has none. */
        memcpy(messages.map, &(struct ovl_control){ 12, 2, 0 }, 8);
        memcpy(messages.map + 8, &(uint32_t){ 1 }, 4);
        entry.aux = (struct ovl_slice){ .len = 16, .region = 1 };
        entry.socket = messages.local;
        entry.n_slots = 3;
        entry.address = (struct ovl_address){ .family = OVL_FAMILY_UNIX, .path_len = 2, .host = "/x" };
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_BAD_CONTROL);
        /* And what is right is sent: nothing else was. */
        entry = messages_sendto(&messages);
        entry.op = OVL_OP_SENDMSG;
        entry.aux = (struct ovl_slice){ .len = 16, .region = 1 };
        memcpy(messages.map + 1024, "right", 5);
        record = raw_one(messages.raw, &entry);
        assert_int_equal(record.status, 0);
        assert_int_equal(recv(messages.fd, bytes, sizeof(bytes), 0), 5);
        assert_memory_equal(bytes, "right", 5);
        messages_stop(&messages);
}

/* The record of a datagram that was cut: where it came from is told, and the rest is not there. */
static void messages_that_are_cut_say_so(void **state) {
        struct messages messages;
        struct ovl_record record;
        struct ovl_entry entry;

        messages_start(&messages);
        entry = messages_recvfrom(&messages);
        entry.flags = OVL_ENTRY_VECTOR;
        entry.buffer = (struct ovl_slice){ .offset = 512, .len = 32, .region = 1 };
        memcpy(messages.map + 512,
               (struct ovl_slice[]){ { .offset = 2048, .len = 3, .region = 1 },
                                     { .offset = 3000, .len = 1, .region = 1 } },
               32);
        messages_give(&messages, "too long");
        record = raw_one(messages.raw, &entry);
        assert_int_equal(record.status, -EMSGSIZE);
        assert_int_equal(record.reason, OVL_REASON_NONE);
        assert_int_equal(record.flags & ~OVL_RECORD_IMMEDIATE, OVL_RECORD_TRUNCATED);
        assert_int_equal(record.bytes, 4);
        assert_memory_equal(messages.map + 2048, "too\0", 4);
        assert_memory_equal(messages.map + 3000, " \0", 2);
        assert_memory_equal(messages.map + 64, &messages.peer, sizeof(messages.peer));
        messages_stop(&messages);
}

static void messages_destinations_are_checked(void **state) {
        struct messages messages;
        struct ovl_entry entry;

        messages_start(&messages);
        entry = messages_sendto(&messages);
        entry.address.family = OVL_FAMILY_INET6;
        messages_expect_refusal(&messages, &entry, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS);
        entry.address.family = OVL_FAMILY_NONE;
        messages_expect_refusal(&messages, &entry, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS);
        entry.address.family = 255;
        messages_expect_refusal(&messages, &entry, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS);
        entry = messages_sendto(&messages);
        entry.address.scope_id = 1;
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_BAD_ADDRESS);
        entry = messages_sendto(&messages);
        entry.address.path_len = 1;
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_BAD_ADDRESS);
        entry = messages_sendto(&messages);
        entry.address.host[4] = 1;
        messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_BAD_ADDRESS);
        /* Nothing has left. */
        assert_int_equal(recv(messages.fd, messages.map, 1, MSG_DONTWAIT), -1);
        messages_stop(&messages);
}

static void messages_paths_are_checked(void **state) {
        static const struct {
                char host[12];
                uint8_t path_len;
                uint16_t port;
        } bad[] = {
                { "relative", 8, 0 }, { "./relative", 10, 0 }, { "/long", 109, 0 }, { "/long", 255, 0 },
                { "", 0, 0 },         { "/a\0b", 4, 0 },       { "/a", 1, 0 },      { "/a", 2, 80 },
        };
        struct messages messages;
        struct ovl_entry entry;

        messages_start(&messages);
        for (size_t i = 0; i < HARNESS_N(bad); i++) {
                entry = messages_sendto(&messages);
                entry.socket = messages.local;
                entry.n_slots = 3;
                entry.address = (struct ovl_address){ .family = OVL_FAMILY_UNIX,
                                                      .path_len = bad[i].path_len,
                                                      .port = bad[i].port };
                memcpy(entry.address.host, bad[i].host, sizeof(bad[i].host));
                messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_BAD_ADDRESS);
                entry.op = OVL_OP_CONNECT;
                entry.buffer = (struct ovl_slice){ 0 };
                messages_expect_refusal(&messages, &entry, -EINVAL, OVL_REASON_BAD_ADDRESS);
        }
        entry.n_slots = 2;
        messages_expect_refusal(&messages, &entry, -EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS);
        /* To bind is a request: it is answered in words. */
        assert_int_equal(messages_bind(&messages, messages.local, OVERLAPD__FAMILY__FAMILY_UNIX, "relative", 8),
                         -EINVAL);
        assert_int_equal(messages.raw->reply->reason, OVL_REASON_BAD_ADDRESS);
        assert_non_null(strstr(messages.raw->reply->text, "begin it with /"));
        assert_int_equal(messages_bind(&messages, messages.local, OVERLAPD__FAMILY__FAMILY_UNIX, "/a\0b", 4), -EINVAL);
        assert_int_equal(messages_bind(&messages, messages.local, OVERLAPD__FAMILY__FAMILY_UNIX, messages.map, 109),
                         -EINVAL);
        assert_int_equal(messages_bind(&messages, messages.local, OVERLAPD__FAMILY__FAMILY_INET, "abcd", 4), -EINVAL);
        messages_stop(&messages);
}

/* --- Memory ----------------------------------------------------------------------------------------------------- */

/* A region whose only use is for a sender's address stays until the receive has ended. */
static void messages_pin_the_place_of_the_sender(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionRemove remove_it = OVERLAPD__REGION_REMOVE__INIT;
        _cleanup_fd_ int memory = raw_memfd(4096);
        struct messages messages;
        struct ovl_record record;
        struct ovl_entry entry;
        uint8_t *map;
        uint32_t id;

        map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
        assert_true(map != MAP_FAILED);
        messages_start(&messages);
        assert_int_equal(raw_region_add(messages.raw, memory, 4096), 2);
        entry = messages_recvfrom(&messages);
        entry.aux = (struct ovl_slice){ .len = sizeof(struct ovl_address), .region = 2 };
        raw_post(messages.raw, &entry, 1);
        remove_it.region = 2;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_REMOVE;
        request.region_remove = &remove_it;
        id = raw_send(messages.raw, &request, -1);
        /* The request is taken: the region takes nothing new, and the receive goes on. */
        entry.tag++;
        messages_expect_refusal(&messages, &entry, -EFAULT, OVL_REASON_UNKNOWN_REGION);
        messages_give(&messages, "late");
        record = raw_take(messages.raw);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, 4);
        assert_memory_equal(map, &messages.peer, sizeof(messages.peer));
        assert_int_equal(raw_await(messages.raw, id)->status, 0);
        munmap(map, 4096);
        messages_stop(&messages);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "each field of a message is checked", messages_fields_are_checked },
                { "fields that are not used are zero", messages_unused_fields_are_zero },
                { "messages need the right socket", messages_need_the_right_socket },
                { "the place of the sender is checked", messages_aux_is_checked },
                { "places of messages are checked", messages_places_are_checked },
                { "items of messages are checked", messages_items_are_checked },
                { "messages that are cut say so", messages_that_are_cut_say_so },
                { "destinations are checked", messages_destinations_are_checked },
                { "paths are checked", messages_paths_are_checked },
                { "messages pin the place of the sender", messages_pin_the_place_of_the_sender },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
