/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The vectors of control messages. Each is built here a second time, field by field, and must give the same bytes; and
 * the bytes of each, unpacked and packed again, must stay what they are.
 */

#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/message.h"
#include "proto/overlapd.pb-c.h"
#include "tests/harness/harness.h"
#include "tests/wire/vector.h"

#define SESSION 0x1122334455667788
#define SOCKET 0x100000001

static uint8_t secret[16] = { 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
                              0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf };
static uint8_t handle_bytes[16] = { 0xb0, 0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7,
                                    0xb8, 0xb9, 0xba, 0xbb, 0xbc, 0xbd, 0xbe, 0xbf };
static uint8_t loopback[4] = { 127, 0, 0, 1 };
static uint8_t link_local[16] = { 0xfe, 0x80, [15] = 1 };

/* --- Building --------------------------------------------------------------------------------------------------- */

static void control_compare(const char *name, const ProtobufCMessage *message, unsigned n_fds) {
        ssize_t size;
        void *frame;

        size = message_pack_frame(message, n_fds, &frame);
        assert_ok(size);
        vector_compare(name, frame, (size_t) size);
        free(frame);
}

static void control_compare_reply(const char *name, Overlapd__Reply *reply, unsigned n_fds) {
        Overlapd__FromDaemon from_daemon = OVERLAPD__FROM_DAEMON__INIT;

        from_daemon.what_case = OVERLAPD__FROM_DAEMON__WHAT_REPLY;
        from_daemon.reply = reply;
        control_compare(name, &from_daemon.base, n_fds);
}

/* Builds a Request around one member of its oneof; the rest are assignments to `it`. */
#define COMPARE_REQUEST(name, request_id, member, MEMBER, TYPE_INIT, type, n_fds, ...)                                 \
        do {                                                                                                           \
                Overlapd__Request request = OVERLAPD__REQUEST__INIT;                                                   \
                type it = TYPE_INIT;                                                                                   \
                __VA_ARGS__;                                                                                           \
                request.id = request_id;                                                                               \
                request.what_case = OVERLAPD__REQUEST__WHAT_##MEMBER;                                                  \
                request.member = &it;                                                                                  \
                control_compare(name, &request.base, n_fds);                                                           \
        } while (0)

/* The same for a Reply. */
#define COMPARE_REPLY(name, request_id, member, MEMBER, TYPE_INIT, type, ...)                                          \
        do {                                                                                                           \
                Overlapd__Reply reply = OVERLAPD__REPLY__INIT;                                                         \
                type it = TYPE_INIT;                                                                                   \
                unsigned n_fds = 0;                                                                                    \
                __VA_ARGS__;                                                                                           \
                reply.id = request_id;                                                                                 \
                reply.what_case = OVERLAPD__REPLY__WHAT_##MEMBER;                                                      \
                reply.member = &it;                                                                                    \
                control_compare_reply(name, &reply, n_fds);                                                            \
        } while (0)

static void control_sessions(void **state) {
        COMPARE_REQUEST("hello", 1, hello, HELLO, OVERLAPD__HELLO__INIT, Overlapd__Hello, 0, it.version_min = 1,
                        it.version_max = 1, it.level = 1, it.thread = 7, it.tid = 4711, it.credits = 256,
                        it.client = (char *) "liboverlap 0.1.0");
        COMPARE_REPLY("hello-reply", 1, hello, HELLO, OVERLAPD__HELLO_REPLY__INIT, Overlapd__HelloReply, it.version = 1,
                      it.level = 1, it.session = SESSION, it.secret.data = secret, it.secret.len = sizeof(secret),
                      it.credits = 256, it.regions = 64, it.region_bytes = 256 << 20, it.sockets = 4096,
                      it.engine = (char *) "uring",
                      it.engine_reason = (char *) "all operations that are needed are there");
        COMPARE_REQUEST("attach-thread", 1, attach, ATTACH, OVERLAPD__ATTACH__INIT, Overlapd__Attach, 0,
                        it.session = SESSION, it.secret.data = secret, it.secret.len = sizeof(secret),
                        it.what_case = OVERLAPD__ATTACH__WHAT_THREAD, it.thread = 8, it.tid = 4712);
        COMPARE_REQUEST("attach-port", 1, attach, ATTACH, OVERLAPD__ATTACH__INIT, Overlapd__Attach, 0,
                        it.session = SESSION, it.secret.data = secret, it.secret.len = sizeof(secret),
                        it.what_case = OVERLAPD__ATTACH__WHAT_PORT, it.port = 1);
}

static void control_memory(void **state) {
        COMPARE_REQUEST("region-add", 2, region_add, REGION_ADD, OVERLAPD__REGION_ADD__INIT, Overlapd__RegionAdd, 1,
                        it.size = 1 << 20);
        COMPARE_REPLY("region-add-reply", 2, region_add, REGION_ADD, OVERLAPD__REGION_ADD_REPLY__INIT,
                      Overlapd__RegionAddReply, it.region = 1);
        COMPARE_REQUEST("lane-add", 2, lane_add, LANE_ADD, OVERLAPD__LANE_ADD__INIT, Overlapd__LaneAdd, 1,
                        it.n_slots = 1024);
        COMPARE_REPLY("lane-add-reply", 2, lane_add, LANE_ADD, OVERLAPD__LANE_ADD_REPLY__INIT, Overlapd__LaneAddReply,
                      n_fds = 1, it.n_records = 8192);
        COMPARE_REQUEST("region-remove", 3, region_remove, REGION_REMOVE, OVERLAPD__REGION_REMOVE__INIT,
                        Overlapd__RegionRemove, 0, it.region = 1);
        COMPARE_REQUEST("file-add", 23, file_add, FILE_ADD, OVERLAPD__FILE_ADD__INIT, Overlapd__FileAdd, 1, (void) it);
        COMPARE_REPLY("file-add-reply", 23, file_add, FILE_ADD, OVERLAPD__FILE_ADD_REPLY__INIT, Overlapd__FileAddReply,
                      it.file = 1);
        COMPARE_REQUEST("file-remove", 24, file_remove, FILE_REMOVE, OVERLAPD__FILE_REMOVE__INIT, Overlapd__FileRemove,
                        0, it.file = 1);
}

static void control_sockets(void **state) {
        Overlapd__Address local = OVERLAPD__ADDRESS__INIT, peer = OVERLAPD__ADDRESS__INIT,
                          path = OVERLAPD__ADDRESS__INIT;

        local.family = OVERLAPD__FAMILY__FAMILY_INET;
        path.family = OVERLAPD__FAMILY__FAMILY_UNIX;
        path.host.data = (uint8_t *) "/run/app/s";
        path.host.len = 10;
        local.port = 8080;
        local.host.data = loopback;
        local.host.len = sizeof(loopback);
        peer.family = OVERLAPD__FAMILY__FAMILY_INET6;
        peer.port = 443;
        peer.scope_id = 2;
        peer.host.data = link_local;
        peer.host.len = sizeof(link_local);
        COMPARE_REQUEST("socket-open", 4, socket_open, SOCKET_OPEN, OVERLAPD__SOCKET_OPEN__INIT, Overlapd__SocketOpen,
                        0, it.family = OVERLAPD__FAMILY__FAMILY_INET, it.type = OVERLAPD__TYPE__TYPE_STREAM);
        COMPARE_REQUEST("socket-open-non-overlapped", 4, socket_open, SOCKET_OPEN, OVERLAPD__SOCKET_OPEN__INIT,
                        Overlapd__SocketOpen, 0, it.family = OVERLAPD__FAMILY__FAMILY_INET,
                        it.type = OVERLAPD__TYPE__TYPE_STREAM, it.non_overlapped = 1);
        COMPARE_REPLY("socket-open-reply", 4, socket_open, SOCKET_OPEN, OVERLAPD__SOCKET_OPEN_REPLY__INIT,
                      Overlapd__SocketOpenReply, it.socket = SOCKET);
        COMPARE_REQUEST("socket-bind", 5, socket_bind, SOCKET_BIND, OVERLAPD__SOCKET_BIND__INIT, Overlapd__SocketBind,
                        0, it.socket = SOCKET, it.address = &local);
        COMPARE_REQUEST("socket-bind-unix", 13, socket_bind, SOCKET_BIND, OVERLAPD__SOCKET_BIND__INIT,
                        Overlapd__SocketBind, 0, it.socket = SOCKET + 1, it.address = &path);
        COMPARE_REQUEST("socket-listen", 6, socket_listen, SOCKET_LISTEN, OVERLAPD__SOCKET_LISTEN__INIT,
                        Overlapd__SocketListen, 0, it.socket = SOCKET, it.backlog = 128);
        COMPARE_REQUEST("socket-name", 7, socket_name, SOCKET_NAME, OVERLAPD__SOCKET_NAME__INIT, Overlapd__SocketName,
                        0, it.socket = SOCKET, it.peer = 1);
        COMPARE_REPLY("socket-name-reply", 7, socket_name, SOCKET_NAME, OVERLAPD__SOCKET_NAME_REPLY__INIT,
                      Overlapd__SocketNameReply, it.address = &peer);
        COMPARE_REQUEST("socket-shutdown", 10, socket_shutdown, SOCKET_SHUTDOWN, OVERLAPD__SOCKET_SHUTDOWN__INIT,
                        Overlapd__SocketShutdown, 0, it.socket = SOCKET,
                        it.direction = OVERLAPD__DIRECTION__DIRECTION_SEND);
        COMPARE_REQUEST("socket-close", 11, socket_close, SOCKET_CLOSE, OVERLAPD__SOCKET_CLOSE__INIT,
                        Overlapd__SocketClose, 0, it.socket = SOCKET);
        COMPARE_REQUEST("port-associate", 12, port_associate, PORT_ASSOCIATE, OVERLAPD__PORT_ASSOCIATE__INIT,
                        Overlapd__PortAssociate, 0, it.socket = SOCKET, it.port = 1, it.key = 0xbeef);
}

static void control_moves(void **state) {
        Overlapd__Reply exported = OVERLAPD__REPLY__INIT;

        COMPARE_REQUEST("socket-share", 18, socket_share, SOCKET_SHARE, OVERLAPD__SOCKET_SHARE__INIT,
                        Overlapd__SocketShare, 0, it.socket = SOCKET, it.session = SESSION + 1);
        COMPARE_REPLY("socket-share-reply", 18, socket_share, SOCKET_SHARE, OVERLAPD__SOCKET_SHARE_REPLY__INIT,
                      Overlapd__SocketShareReply, it.ticket.data = secret, it.ticket.len = sizeof(secret));
        COMPARE_REQUEST("socket-join", 19, socket_join, SOCKET_JOIN, OVERLAPD__SOCKET_JOIN__INIT, Overlapd__SocketJoin,
                        0, it.ticket.data = secret, it.ticket.len = sizeof(secret));
        COMPARE_REQUEST("socket-adopt", 20, socket_adopt, SOCKET_ADOPT, OVERLAPD__SOCKET_ADOPT__INIT,
                        Overlapd__SocketAdopt, 1, (void) it);
        COMPARE_REPLY("socket-taken", 20, socket_taken, SOCKET_TAKEN, OVERLAPD__SOCKET_TAKEN_REPLY__INIT,
                      Overlapd__SocketTakenReply, it.socket = SOCKET, it.family = OVERLAPD__FAMILY__FAMILY_INET,
                      it.type = OVERLAPD__TYPE__TYPE_STREAM, it.listens = 1);
        COMPARE_REPLY("socket-taken-non-overlapped", 19, socket_taken, SOCKET_TAKEN, OVERLAPD__SOCKET_TAKEN_REPLY__INIT,
                      Overlapd__SocketTakenReply, it.socket = SOCKET, it.family = OVERLAPD__FAMILY__FAMILY_INET,
                      it.type = OVERLAPD__TYPE__TYPE_DATAGRAM, it.non_overlapped = 1);
        COMPARE_REQUEST("socket-export", 21, socket_export, SOCKET_EXPORT, OVERLAPD__SOCKET_EXPORT__INIT,
                        Overlapd__SocketExport, 0, it.socket = SOCKET);
        exported.id = 21;
        control_compare_reply("socket-exported", &exported, 1);
}

static void control_options(void **state) {
        COMPARE_REQUEST("socket-option-set", 8, socket_option_set, SOCKET_OPTION_SET, OVERLAPD__SOCKET_OPTION_SET__INIT,
                        Overlapd__SocketOptionSet, 0, it.socket = SOCKET, it.option = OVERLAPD__OPTION__OPTION_NO_DELAY,
                        it.value = 1);
        COMPARE_REQUEST("socket-option-get", 9, socket_option_get, SOCKET_OPTION_GET, OVERLAPD__SOCKET_OPTION_GET__INIT,
                        Overlapd__SocketOptionGet, 0, it.socket = SOCKET, it.option = OVERLAPD__OPTION__OPTION_ERROR);
        COMPARE_REPLY("socket-option-reply", 9, socket_option, SOCKET_OPTION, OVERLAPD__SOCKET_OPTION_REPLY__INIT,
                      Overlapd__SocketOptionReply, it.value = 104);
}

static void control_operations(void **state) {
        COMPARE_REQUEST("cancel-tag", 13, cancel, CANCEL, OVERLAPD__CANCEL__INIT, Overlapd__Cancel, 0,
                        it.socket = SOCKET, it.which_case = OVERLAPD__CANCEL__WHICH_TAG, it.tag = 0x1000);
        COMPARE_REQUEST("cancel-thread", 14, cancel, CANCEL, OVERLAPD__CANCEL__INIT, Overlapd__Cancel, 0,
                        it.socket = SOCKET, it.which_case = OVERLAPD__CANCEL__WHICH_THREAD, it.thread = 7);
        COMPARE_REQUEST("cancel-all", 15, cancel, CANCEL, OVERLAPD__CANCEL__INIT, Overlapd__Cancel, 0,
                        it.socket = SOCKET, it.which_case = OVERLAPD__CANCEL__WHICH_ALL, it.all = 1);
        COMPARE_REQUEST("cancel-everything", 22, cancel, CANCEL, OVERLAPD__CANCEL__INIT, Overlapd__Cancel, 0,
                        it.which_case = OVERLAPD__CANCEL__WHICH_ALL, it.all = 1);
        COMPARE_REPLY("cancel-reply", 15, cancel, CANCEL, OVERLAPD__CANCEL_REPLY__INIT, Overlapd__CancelReply,
                      it.cancelled = 3);
}

static void control_apcs(void **state) {
        ProtobufCBinaryData handle = { .len = sizeof(handle_bytes), .data = handle_bytes };

        COMPARE_REQUEST("thread-handle-open", 18, thread_handle_open, THREAD_HANDLE_OPEN,
                        OVERLAPD__THREAD_HANDLE_OPEN__INIT, Overlapd__ThreadHandleOpen, 0, it.thread = 7);
        COMPARE_REPLY("thread-handle-reply", 18, thread_handle, THREAD_HANDLE, OVERLAPD__THREAD_HANDLE_REPLY__INIT,
                      Overlapd__ThreadHandleReply, it.handle = handle);
        COMPARE_REQUEST("thread-handle-give", 19, thread_handle_give, THREAD_HANDLE_GIVE,
                        OVERLAPD__THREAD_HANDLE_GIVE__INIT, Overlapd__ThreadHandleGive, 0, it.handle = handle,
                        it.session = 0x99aabbccddeeff00);
        COMPARE_REQUEST("thread-handle-close", 20, thread_handle_close, THREAD_HANDLE_CLOSE,
                        OVERLAPD__THREAD_HANDLE_CLOSE__INIT, Overlapd__ThreadHandleClose, 0, it.handle = handle);
        COMPARE_REQUEST("function-register", 21, function_register, FUNCTION_REGISTER,
                        OVERLAPD__FUNCTION_REGISTER__INIT, Overlapd__FunctionRegister, 0, it.function = 300);
        COMPARE_REQUEST("function-remove", 22, function_register, FUNCTION_REGISTER, OVERLAPD__FUNCTION_REGISTER__INIT,
                        Overlapd__FunctionRegister, 0, it.function = 300, it.remove = 1);
        COMPARE_REQUEST("apc-queue", 23, apc_queue, APC_QUEUE, OVERLAPD__APC_QUEUE__INIT, Overlapd__ApcQueue, 0,
                        it.handle = handle, it.function = 300, it.argument = 0xfeedface12345678);
}

static void control_status(void **state) {
        COMPARE_REQUEST("status", 16, status, STATUS, OVERLAPD__STATUS__INIT, Overlapd__Status, 0, (void) it);
        COMPARE_REPLY("status-reply", 16, status_report, STATUS_REPORT, OVERLAPD__STATUS_REPLY__INIT,
                      Overlapd__StatusReply, it.engine = (char *) "uring",
                      it.engine_reason = (char *) "all operations that are needed are there", it.worker_pid = 1234,
                      it.turns = 1000, it.wakeups = 300, it.system_calls = 2500, it.entries = 5000, it.records = 4990,
                      it.bytes_received = 1ull << 33, it.bytes_sent = 1ull << 34, it.sessions = 2, it.sockets = 65,
                      it.ops_in_flight = 10, it.merged_ops = 77);
}

static void control_compare_failure(const char *name, uint32_t id, int status, unsigned reason, const char *text) {
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;

        reply.id = id;
        reply.status = status;
        reply.reason = reason;
        reply.text = (char *) text;
        control_compare_reply(name, &reply, 0);
}

static void control_failures(void **state) {
        Overlapd__FromDaemon from_daemon = OVERLAPD__FROM_DAEMON__INIT;
        Overlapd__Notice notice = OVERLAPD__NOTICE__INIT;

        control_compare_failure("done", 11, 0, 0, "");
        control_compare_failure("hello-refused", 1, -93, OVL_REASON_VERSION,
                                "this daemon speaks version 1, the client 2 to 3: upgrade the daemon");
        control_compare_failure(
                "refused", 5, -98, 0,
                "127.0.0.1:8080 is in use by another socket: choose another port, or stop what uses it");
        control_compare_failure("unknown-request", 17, -95, OVL_REASON_UNKNOWN_OP,
                                "this daemon does not know the request: compare the protocol versions");
        notice.status = -71;
        notice.reason = OVL_REASON_BAD_FRAME;
        notice.text = (char *) "a frame of kind POST cannot have 200000 bytes";
        notice.closing = 1;
        from_daemon.what_case = OVERLAPD__FROM_DAEMON__WHAT_NOTICE;
        from_daemon.notice = &notice;
        control_compare("notice-closing", &from_daemon.base, 0);
}

/* --- Unpacking and packing again -------------------------------------------------------------------------------- */

struct control_count {
        struct message_arena *arena;
        size_t n;
};

static void control_repack(const char *name, void *data) {
        struct control_count *count = data;
        struct ovl_frame_header header;
        enum frame_sender sender;
        ProtobufCMessage *message;
        struct vector vector;
        const char *problem;

        vector_read(name, &vector);
        if (vector.bytes[offsetof(struct ovl_frame_header, kind)] != OVL_FRAME_CONTROL)
                return;
        /* The first field of a Request is its id, a number; that of a FromDaemon a message. */
        sender = vector.bytes[sizeof(header)] == 0x08 ? FRAME_FROM_CLIENT : FRAME_FROM_DAEMON;
        assert_int_equal(frame_find(vector.bytes, vector.len, sender, &header, &problem), 1);
        assert_int_equal(header.body_len, vector.len - sizeof(header));
        assert_ok(message_unpack(count->arena,
                                 sender == FRAME_FROM_CLIENT ? &overlapd__request__descriptor
                                                             : &overlapd__from_daemon__descriptor,
                                 vector.bytes + sizeof(header), header.body_len, &message, &problem));
        assert_int_equal(message->n_unknown_fields, 0);
        control_compare(name, message, header.n_fds);
        count->n++;
}

static void control_every_vector_repacks(void **state) {
        struct control_count count = { .arena = malloc(sizeof(*count.arena)) };

        assert_non_null(count.arena);
        message_arena_init(count.arena);
        vector_for_each(control_repack, &count);
        assert_int_equal(count.n, 53);
        free(count.arena);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "sessions", control_sessions }, { "memory", control_memory },
                { "sockets", control_sockets },   { "moves", control_moves },
                { "options", control_options },   { "operations", control_operations },
                { "status", control_status },     { "apcs", control_apcs },
                { "failures", control_failures }, { "every-vector-repacks", control_every_vector_repacks },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
