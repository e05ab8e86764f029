/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The vectors of posts and records: built a second time from the structures of layout.h, they must give the same bytes,
 * and the addresses in them must be what the kernel takes.
 */

#include <string.h>

#include "proto/address.h"
#include "proto/frame.h"
#include "tests/harness/harness.h"
#include "tests/wire/vector.h"

#define SOCKET 0x100000001
#define MESSAGE_PLACE 184 /* a header, and 56 bytes for items */
#define SOCKET2 0x100000002
#define LISTENER 0x100000003

/* --- Building --------------------------------------------------------------------------------------------------- */

static void layouts_append(struct vector *vector, const void *bytes, size_t len) {
        assert_true(vector->len + len <= VECTOR_SIZE);
        memcpy(vector->bytes + vector->len, bytes, len);
        vector->len += len;
}

static void layouts_finish(struct vector *vector, enum ovl_frame_kind kind) {
        frame_pack_header(vector->bytes, kind, (uint32_t) (vector->len - sizeof(struct ovl_frame_header)), 0);
}

static void layouts_compare_post(const char *name, const struct ovl_entry *entries, size_t n, const char *payload) {
        struct vector vector = { .len = sizeof(struct ovl_frame_header) };
        struct ovl_post_header header = { 0 };

        for (size_t i = 0; i < n; i++)
                header.n_slots += entries[i].n_slots;
        layouts_append(&vector, &header, sizeof(header));
        for (size_t i = 0; i < n; i++)
                layouts_append(&vector, &entries[i], entries[i].n_slots * OVL_SLOT_SIZE);
        layouts_append(&vector, payload, strlen(payload));
        layouts_finish(&vector, OVL_FRAME_POST);
        vector_compare(name, vector.bytes, vector.len);
}

static void layouts_compare_records_and(const char *name, const struct ovl_record *records, size_t n,
                                        const void *payload, size_t payload_len) {
        struct vector vector = { .len = sizeof(struct ovl_frame_header) };
        struct ovl_records_header header = { .n_records = (uint32_t) n };

        layouts_append(&vector, &header, sizeof(header));
        layouts_append(&vector, records, n * sizeof(*records));
        layouts_append(&vector, payload, payload_len);
        layouts_finish(&vector, OVL_FRAME_RECORDS);
        vector_compare(name, vector.bytes, vector.len);
}

static void layouts_compare_records(const char *name, const struct ovl_record *records, size_t n, const char *payload) {
        layouts_compare_records_and(name, records, n, payload, strlen(payload));
}

static const struct ovl_address inet = { .family = OVL_FAMILY_INET, .port = 80, .host = { 192, 0, 2, 1 } };
static const struct ovl_address inet6 = {
        .family = OVL_FAMILY_INET6,
        .port = 443,
        .scope_id = 2,
        .host = { 0xfe, 0x80, [15] = 1 },
};

/* --- Cases ------------------------------------------------------------------------------------------------------ */

static void layouts_one_slot(void **state) {
        const struct ovl_entry recv = {
                .tag = 0x1000,
                .socket = SOCKET,
                .op = OVL_OP_RECV,
                .n_slots = 1,
                .buffer = { .offset = 65536, .len = 4096, .region = 1 },
        };
        const struct ovl_entry send = {
                .tag = 0x1001,
                .socket = SOCKET,
                .op = OVL_OP_SEND,
                .indication = OVL_INDICATE_ROUTINE,
                .n_slots = 1,
                .flags = OVL_ENTRY_WANT_VERDICT,
                .buffer = { .len = 5, .region = 1 },
        };
        const struct ovl_entry vector = {
                .tag = 0x1005,
                .socket = SOCKET,
                .op = OVL_OP_RECV,
                .n_slots = 1,
                .flags = OVL_ENTRY_VECTOR,
                .op_flags = OVL_MESSAGE_WAITALL,
                .buffer = { .offset = 512, .len = 3 * sizeof(struct ovl_slice), .region = 1 },
        };
        const struct ovl_entry accept = {
                .tag = 0x1006,
                .socket = LISTENER,
                .op = OVL_OP_ACCEPT,
                .n_slots = 1,
                .aux = { .offset = 1024, .len = 2 * sizeof(struct ovl_address), .region = 1 },
        };
        const struct ovl_entry accept_into = {
                .tag = 0x1011,
                .socket = LISTENER,
                .op = OVL_OP_ACCEPT,
                .n_slots = 1,
                .buffer = { .len = 512, .region = 1 },
                .other = SOCKET + 5,
        };
        const struct ovl_entry disconnect = {
                .tag = 0x1012,
                .socket = SOCKET,
                .op = OVL_OP_DISCONNECT,
                .n_slots = 1,
                .op_flags = OVL_TRANSMIT_REUSE,
        };

        const struct ovl_entry recvfrom = {
                .tag = 0x1009,
                .socket = SOCKET,
                .op = OVL_OP_RECVFROM,
                .n_slots = 1,
                .buffer = { .len = 2048, .region = 1 },
                .aux = { .offset = 2048, .len = sizeof(struct ovl_address), .region = 1 },
        };
        const struct ovl_entry poll = {
                .tag = 0x100c,
                .socket = SOCKET,
                .op = OVL_OP_POLL,
                .n_slots = 1,
                .other = OVL_POLL_IN | OVL_POLL_OUT,
        };

        const struct ovl_entry recvmsg = {
                .tag = 0x100f,
                .socket = SOCKET,
                .op = OVL_OP_RECVMSG,
                .n_slots = 1,
                .buffer = { .len = 2048, .region = 1 },
                .aux = { .offset = 2048, .len = sizeof(struct ovl_message) + 64, .region = 1 },
        };
        const struct ovl_entry transmit_file = {
                .tag = 0x100d,
                .socket = SOCKET,
                .op = OVL_OP_TRANSMIT_FILE,
                .n_slots = 1,
                .flags = OVL_ENTRY_VECTOR,
                .buffer = { .offset = 512, .len = 2 * sizeof(struct ovl_slice), .region = 1 },
                .other = 1,
                .aux = { .offset = 4096, .len = 100000 },
        };
        const struct ovl_entry transmit_packets = {
                .tag = 0x100e,
                .socket = SOCKET,
                .op = OVL_OP_TRANSMIT_PACKETS,
                .n_slots = 1,
                .flags = OVL_ENTRY_VECTOR,
                .buffer = { .offset = 512, .len = 3 * sizeof(struct ovl_element), .region = 1 },
                .other = 1,
        };

        layouts_compare_post("post-transmit-file", &transmit_file, 1, "");
        layouts_compare_post("post-transmit-packets", &transmit_packets, 1, "");
        layouts_compare_post("post-recvfrom", &recvfrom, 1, "");
        layouts_compare_post("post-recvmsg", &recvmsg, 1, "");
        layouts_compare_post("post-poll", &poll, 1, "");
        layouts_compare_post("post-recv", &recv, 1, "");
        layouts_compare_post("post-send-verdict", &send, 1, "");
        layouts_compare_post("post-vector", &vector, 1, "");
        layouts_compare_post("post-accept", &accept, 1, "");
        layouts_compare_post("post-accept-into", &accept_into, 1, "");
        layouts_compare_post("post-disconnect", &disconnect, 1, "");
}

static void layouts_two_slots(void **state) {
        const struct ovl_entry connect = {
                .tag = 0x1002,
                .socket = SOCKET,
                .op = OVL_OP_CONNECT,
                .n_slots = 2,
                .address = inet,
        };
        const struct ovl_entry connect6 = {
                .tag = 0x1003,
                .socket = SOCKET2,
                .op = OVL_OP_CONNECT,
                .indication = OVL_INDICATE_QUIET,
                .n_slots = 2,
                .flags = OVL_ENTRY_WANT_VERDICT,
                .address = inet6,
        };

        struct ovl_entry sendto = {
                .tag = 0x100a,
                .socket = SOCKET,
                .op = OVL_OP_SENDTO,
                .n_slots = 2,
                .buffer = { .len = 5, .region = 1 },
                .address = { .family = OVL_FAMILY_INET, .port = 53, .host = { 192, 0, 2, 1 } },
        };

        const struct ovl_entry ioctl = {
                .tag = 0x100d,
                .socket = SOCKET,
                .op = OVL_OP_IOCTL,
                .n_slots = 2,
                .other = OVL_IOCTL_ROUTING_INTERFACE_QUERY,
                .aux = { .offset = 131072, .len = sizeof(struct ovl_address), .region = 1 },
                .address = { .family = OVL_FAMILY_INET, .host = { 192, 0, 2, 1 } },
        };

        layouts_compare_post("post-ioctl", &ioctl, 1, "");
        layouts_compare_post("post-sendto-inet", &sendto, 1, "");
        sendto.tag = 0x1010;
        sendto.op = OVL_OP_SENDMSG;
        sendto.aux = (struct ovl_slice){ .offset = 2048, .len = 16, .region = 1 };
        layouts_compare_post("post-sendmsg", &sendto, 1, "");
        layouts_compare_post("post-connect-inet", &connect, 1, "");
        layouts_compare_post("post-connect-inet6", &connect6, 1, "");
}

static void layouts_three_slots(void **state) {
        struct ovl_entry connect = {
                .tag = 0x1004,
                .socket = SOCKET2,
                .op = OVL_OP_CONNECT,
                .n_slots = 3,
                .address = { .family = OVL_FAMILY_UNIX, .path_len = 100 },
        };
        const struct ovl_entry sendto = {
                .tag = 0x100b,
                .socket = SOCKET2,
                .op = OVL_OP_SENDTO,
                .n_slots = 3,
                .address = { .family = OVL_FAMILY_UNIX, .path_len = 4, .host = "\0log" },
        };

        memset(connect.address.host, 'p', 100);
        memcpy(connect.address.host, "/run/", 5);
        layouts_compare_post("post-connect-unix", &connect, 1, "");
        layouts_compare_post("post-sendto-unix", &sendto, 1, "");
}

static void layouts_names(void **state) {
        const struct ovl_entry resolve = {
                .tag = 0x1005,
                .op = OVL_OP_RESOLVE,
                .n_slots = 1,
                .buffer = { .offset = 131072, .len = 15, .region = 1 },
                .other = OVL_RESOLVE(OVL_FAMILY_NONE, 1, 443),
                .aux = { .offset = 131328, .len = 4 * sizeof(struct ovl_address), .region = 1 },
        };
        const struct ovl_entry connect = {
                .tag = 0x1011,
                .socket = SOCKET,
                .op = OVL_OP_CONNECT_NAME,
                .n_slots = 1,
                .buffer = { .offset = 131072, .len = 11, .region = 1 },
                .other = OVL_NAME(5432, 5000),
        };
        const struct ovl_record found = {
                .tag = 0x1005,
                .thread = 7,
                .sequence = 4,
                .bytes = 2 * sizeof(struct ovl_address),
                .value = 2,
                .op = OVL_OP_RESOLVE,
        };

        layouts_compare_post("post-resolve", &resolve, 1, "");
        layouts_compare_post("post-connect-name", &connect, 1, "");
        layouts_compare_records("record-resolve", &found, 1, "");
}

/* What a datagram brought, as it follows its record at level 0: its bytes, then the whole place that the entry gave. */
static void layouts_message(void **state) {
        const struct ovl_record received = {
                .tag = 0x1010,
                .thread = 7,
                .key = SOCKET,
                .sequence = 13,
                .bytes = 5,
                .flags = OVL_RECORD_CONTROL_TRUNCATED,
                .status = -90,
                .op = OVL_OP_RECVMSG,
                .payload_len = 5 + MESSAGE_PLACE,
        };
        const struct ovl_message message = {
                .address = { .family = OVL_FAMILY_INET, .port = 53, .host = { 192, 0, 2, 1 } },
                .flags = OVL_RECEIVED_CONTROL_TRUNCATED,
                .control_len = 48,
        };
        const struct ovl_packet_info info = {
                .family = OVL_FAMILY_INET,
                .interface = 2,
                .host = { 198, 51, 100, 7 },
        };
        const struct ovl_control items[] = {
                { .len = sizeof(struct ovl_control) + sizeof(info), .type = OVL_CONTROL_PACKET_INFO },
                { .len = sizeof(struct ovl_control) + sizeof(uint32_t), .type = OVL_CONTROL_HOP_LIMIT },
        };
        const uint32_t hop_limit = 64;
        uint8_t payload[5 + MESSAGE_PLACE] = "hello";
        uint8_t *place = payload + 5;

        memcpy(place, &message, sizeof(message));
        place += sizeof(message);
        memcpy(place, &items[0], sizeof(items[0]));
        memcpy(place + sizeof(items[0]), &info, sizeof(info));
        place += OVL_CONTROL_ALIGN(items[0].len);
        memcpy(place, &items[1], sizeof(items[1]));
        memcpy(place + sizeof(items[1]), &hop_limit, sizeof(hop_limit));
        layouts_compare_records_and("record-recvmsg", &received, 1, payload, sizeof(payload));
}

static void layouts_many_entries(void **state) {
        const struct ovl_entry three[] = {
                {
                        .tag = 1,
                        .socket = SOCKET,
                        .op = OVL_OP_RECV,
                        .n_slots = 1,
                        .buffer = { .offset = 4096, .len = 4096, .region = 1 },
                },
                {
                        .tag = 2,
                        .socket = SOCKET2,
                        .op = OVL_OP_CONNECT,
                        .n_slots = 2,
                        .address = { .family = OVL_FAMILY_INET, .port = 8080, .host = { 127, 0, 0, 1 } },
                },
                {
                        .tag = 3,
                        .socket = SOCKET,
                        .op = OVL_OP_RECV,
                        .n_slots = 1,
                        .flags = OVL_ENTRY_WANT_VERDICT,
                        .buffer = { .offset = 8192, .len = 4096, .region = 1 },
                },
        };
        struct ovl_entry inlined[] = {
                { .tag = 5,
                  .socket = SOCKET,
                  .op = OVL_OP_SEND,
                  .n_slots = 1,
                  .flags = OVL_ENTRY_INLINE,
                  .buffer = { .len = 5 } },
                { .tag = 6,
                  .socket = SOCKET,
                  .op = OVL_OP_RECV,
                  .n_slots = 1,
                  .flags = OVL_ENTRY_INLINE,
                  .buffer = { .len = 100 } },
        };

        layouts_compare_post("post-three", three, HARNESS_N(three), "");
        layouts_compare_post("post-inline", inlined, HARNESS_N(inlined), "hello");
        inlined[1] = inlined[0];
        inlined[1].buffer.len = 6;
        inlined[0].flags |= OVL_ENTRY_MORE;
        layouts_compare_post("post-continued", inlined, HARNESS_N(inlined), "hello world");
}

static void layouts_records(void **state) {
        const struct ovl_record bell = { .thread = 7, .value = 3, .kind = OVL_RECORD_WAITING };
        const struct ovl_record recv = {
                .tag = 0x1000,
                .thread = 7,
                .key = SOCKET,
                .sequence = 3,
                .bytes = 1460,
                .op = OVL_OP_RECV,
        };
        const struct ovl_record connect = {
                .tag = 0x1002,
                .thread = 7,
                .key = SOCKET,
                .sequence = 1,
                .op = OVL_OP_CONNECT,
        };
        const struct ovl_record accept = {
                .tag = 0x1006,
                .thread = 7,
                .key = LISTENER,
                .sequence = 3,
                .value = 0x100000004,
                .op = OVL_OP_ACCEPT,
        };
        const struct ovl_record port = {
                .tag = 0x1007,
                .thread = 8,
                .key = 0xbeef,
                .sequence = 4,
                .bytes = 65536,
                .flags = OVL_RECORD_PORT,
                .op = OVL_OP_SEND,
        };
        const struct ovl_record cancelled = {
                .tag = 0x1008,
                .thread = 7,
                .key = SOCKET,
                .sequence = 5,
                .status = -125,
                .reason = OVL_REASON_CANCELLED,
                .op = OVL_OP_RECV,
        };
        const struct ovl_record inlined = {
                .tag = 6,
                .thread = 7,
                .key = SOCKET,
                .sequence = 9,
                .bytes = 5,
                .op = OVL_OP_RECV,
                .payload_len = 5,
        };
        const struct ovl_record apc = {
                .tag = 300,
                .thread = 7,
                .sequence = 10,
                .value = 0xfeedface12345678,
                .kind = OVL_RECORD_APC,
        };

        const struct ovl_record truncated = {
                .tag = 0x1009,
                .thread = 7,
                .key = SOCKET,
                .sequence = 10,
                .bytes = 2048,
                .status = -90,
                .flags = OVL_RECORD_TRUNCATED,
                .op = OVL_OP_RECVFROM,
        };
        const struct ovl_record poll = {
                .tag = 0x100c,
                .thread = 7,
                .key = SOCKET,
                .sequence = 11,
                .value = OVL_POLL_OUT | OVL_POLL_HUP,
                .op = OVL_OP_POLL,
        };

        const struct ovl_record ioctl = {
                .tag = 0x100d,
                .thread = 7,
                .key = SOCKET,
                .sequence = 12,
                .bytes = sizeof(struct ovl_address),
                .value = 2,
                .op = OVL_OP_IOCTL,
        };

        layouts_compare_records("record-ioctl", &ioctl, 1, "");
        layouts_compare_records("record-truncated", &truncated, 1, "");
        layouts_compare_records("record-poll", &poll, 1, "");
        layouts_compare_records("record-recv", &recv, 1, "");
        layouts_compare_records("record-connect", &connect, 1, "");
        layouts_compare_records("record-accept", &accept, 1, "");
        layouts_compare_records("record-port", &port, 1, "");
        layouts_compare_records("record-cancelled", &cancelled, 1, "");
        layouts_compare_records("record-apc", &apc, 1, "");
        layouts_compare_records("record-inline", &inlined, 1, "hello");
        layouts_compare_records("record-bell", &bell, 1, "");
}

static void layouts_many_records(void **state) {
        const struct ovl_record refused[] = {
                {
                        .tag = 0x1001,
                        .thread = 7,
                        .key = SOCKET,
                        .sequence = 2,
                        .status = -107,
                        .flags = OVL_RECORD_REFUSED,
                        .reason = OVL_REASON_NOT_CONNECTED,
                        .op = OVL_OP_SEND,
                        .indication = OVL_INDICATE_ROUTINE,
                },
                { .value = 2, .kind = OVL_RECORD_SETTLED },
        };
        const struct ovl_record sent[] = {
                {
                        .tag = 0x1001,
                        .thread = 7,
                        .key = SOCKET,
                        .sequence = 2,
                        .bytes = 5,
                        .flags = OVL_RECORD_IMMEDIATE,
                        .op = OVL_OP_SEND,
                        .indication = OVL_INDICATE_ROUTINE,
                },
                { .value = 2, .kind = OVL_RECORD_SETTLED },
        };
        const struct ovl_record many[] = {
                { .tag = 1, .thread = 7, .key = SOCKET, .sequence = 6, .bytes = 4096, .op = OVL_OP_RECV },
                { .tag = 2, .thread = 7, .key = SOCKET2, .sequence = 7, .status = -111, .op = OVL_OP_CONNECT },
                {
                        .tag = 3,
                        .thread = 7,
                        .key = SOCKET,
                        .sequence = 8,
                        .status = -104,
                        .flags = OVL_RECORD_IMMEDIATE,
                        .op = OVL_OP_RECV,
                },
        };

        layouts_compare_records("record-refused", refused, HARNESS_N(refused), "");
        layouts_compare_records("record-sent", sent, HARNESS_N(sent), "");
        layouts_compare_records("record-many", many, HARNESS_N(many), "");
}

static void assert_vector_address(const char *name, const char *text) {
        char formatted[ADDRESS_TEXT_SIZE];
        struct sockaddr_storage kernel;
        struct ovl_entry entry = { 0 };
        struct vector vector;
        socklen_t len;

        vector_read(name, &vector);
        memcpy(&entry, vector.bytes + sizeof(struct ovl_frame_header) + sizeof(struct ovl_post_header),
               vector.len - sizeof(struct ovl_frame_header) - sizeof(struct ovl_post_header));
        assert_true(entry.op == OVL_OP_CONNECT || entry.op == OVL_OP_SENDTO);
        assert_ok(address_to_kernel(&entry.address, &kernel, &len));
        assert_int_equal(strncmp(address_format(&entry.address, formatted), text, strlen(text)), 0);
}

static void layouts_addresses(void **state) {
        assert_vector_address("post-connect-inet", "192.0.2.1:80");
        assert_vector_address("post-connect-inet6", "[fe80::1%2]:443");
        assert_vector_address("post-connect-unix", "/run/pppp");
        assert_vector_address("post-sendto-inet", "192.0.2.1:53");
        assert_vector_address("post-sendto-unix", "@log");
}

static void layouts_find_frame(const char *name, void *data) {
        struct ovl_frame_header header;
        const char *problem;
        struct vector vector;
        int r;

        vector_read(name, &vector);
        r = frame_find(vector.bytes, vector.len, FRAME_FROM_CLIENT, &header, &problem);
        if (r < 0)
                r = frame_find(vector.bytes, vector.len, FRAME_FROM_DAEMON, &header, &problem);
        assert_int_equal(r, 1);
        assert_int_equal(header.body_len + sizeof(header), vector.len);
}

static void layouts_every_vector_is_one_frame(void **state) {
        assert_int_equal(vector_for_each(layouts_find_frame, NULL), 92);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "one-slot", layouts_one_slot },
                { "two-slots", layouts_two_slots },
                { "three-slots", layouts_three_slots },
                { "names", layouts_names },
                { "message", layouts_message },
                { "many-entries", layouts_many_entries },
                { "records", layouts_records },
                { "many-records", layouts_many_records },
                { "addresses", layouts_addresses },
                { "every-vector-is-one-frame", layouts_every_vector_is_one_frame },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
