/* SPDX-License-Identifier: Apache-2.0 */

/* APCs between sessions: who may queue which function to which thread, in which order they come, and who is held up. */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"
#include "tests/system/raw.h"

#define APCS_FUNCTION 7u

struct apcs_handle {
        uint8_t bytes[16];
};

/* --- Requests of one line --------------------------------------------------------------------------------------- */

static int apcs_open(struct raw *raw, uint64_t thread, struct apcs_handle *ret_handle) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__ThreadHandleOpen open_it = OVERLAPD__THREAD_HANDLE_OPEN__INIT;
        int r;

        open_it.thread = thread;
        request.what_case = OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_OPEN;
        request.thread_handle_open = &open_it;
        r = raw_call(raw, &request, -1);
        if (r < 0)
                return r;
        assert_int_equal(raw->reply->thread_handle->handle.len, sizeof(ret_handle->bytes));
        memcpy(ret_handle->bytes, raw->reply->thread_handle->handle.data, sizeof(ret_handle->bytes));
        return 0;
}

static int apcs_give(struct raw *raw, const struct apcs_handle *handle, uint64_t session) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__ThreadHandleGive give = OVERLAPD__THREAD_HANDLE_GIVE__INIT;

        give.handle = (ProtobufCBinaryData){ .len = sizeof(handle->bytes), .data = (uint8_t *) handle->bytes };
        give.session = session;
        request.what_case = OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_GIVE;
        request.thread_handle_give = &give;
        return raw_call(raw, &request, -1);
}

static int apcs_close(struct raw *raw, const struct apcs_handle *handle) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__ThreadHandleClose close_it = OVERLAPD__THREAD_HANDLE_CLOSE__INIT;

        close_it.handle = (ProtobufCBinaryData){ .len = sizeof(handle->bytes), .data = (uint8_t *) handle->bytes };
        request.what_case = OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_CLOSE;
        request.thread_handle_close = &close_it;
        return raw_call(raw, &request, -1);
}

static int apcs_register(struct raw *raw, uint64_t function, bool remove) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__FunctionRegister function_register = OVERLAPD__FUNCTION_REGISTER__INIT;

        function_register.function = function;
        function_register.remove = remove;
        request.what_case = OVERLAPD__REQUEST__WHAT_FUNCTION_REGISTER;
        request.function_register = &function_register;
        return raw_call(raw, &request, -1);
}

static int apcs_queue_bytes(struct raw *raw, const uint8_t *bytes, size_t len, uint64_t function, uint64_t argument) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__ApcQueue queue = OVERLAPD__APC_QUEUE__INIT;

        queue.handle = (ProtobufCBinaryData){ .len = len, .data = (uint8_t *) bytes };
        queue.function = function;
        queue.argument = argument;
        request.what_case = OVERLAPD__REQUEST__WHAT_APC_QUEUE;
        request.apc_queue = &queue;
        return raw_call(raw, &request, -1);
}

static int apcs_queue(struct raw *raw, const struct apcs_handle *handle, uint64_t function, uint64_t argument) {
        return apcs_queue_bytes(raw, handle->bytes, sizeof(handle->bytes), function, argument);
}

static void apcs_expect(struct raw *raw, int r, int status, unsigned reason) {
        if (r != status || raw->reply->reason != reason)
                fail_msg("the daemon answered %d, reason %u (\"%s\"), not %d, reason %u", r, raw->reply->reason,
                         raw->reply->text, status, reason);
        if (status < 0)
                assert_true(strlen(raw->reply->text) > 10);
}

/* Takes an APC, checks all of its record, and returns its sequence. */
static uint64_t apcs_take(struct raw *raw, uint64_t thread, uint64_t function, uint64_t argument) {
        struct ovl_record record = raw_take(raw);
        struct ovl_record expected = {
                .tag = function,
                .thread = thread,
                .sequence = record.sequence,
                .value = argument,
                .kind = OVL_RECORD_APC,
        };

        assert_memory_equal(&record, &expected, sizeof(record));
        return record.sequence;
}

/* Two sessions of one user; the second may queue to the first thread of the first. */
struct apcs {
        struct estate estate;
        struct raw *target;
        struct raw *sender;
        struct apcs_handle handle;
};

static void apcs_start(struct apcs *apcs) {
        estate_start(&apcs->estate, NULL);
        apcs->target = raw_open(&apcs->estate.daemon, 64);
        apcs->sender = raw_open(&apcs->estate.daemon, 64);
        assert_ok(apcs_register(apcs->target, APCS_FUNCTION, false));
        assert_ok(apcs_open(apcs->target, 1, &apcs->handle));
        assert_ok(apcs_give(apcs->target, &apcs->handle, apcs->sender->session));
}

static void apcs_stop(struct apcs *apcs) {
        apcs->target = raw_close(apcs->target);
        apcs->sender = raw_close(apcs->sender);
        estate_stop(&apcs->estate);
}

/* --- Order ------------------------------------------------------------------------------------------------------ */

/* SEMANTICS 4.5: an APC has its place among the completions of its thread, and counts among the session's records. */
static void apcs_come_in_order(void **state) {
        struct apcs apcs = { 0 };
        struct ovl_record record;
        uint64_t socket, sequence;
        int fd, region, memory;

        apcs_start(&apcs);
        memory = raw_memfd(4096);
        region = raw_region_add(apcs.target, memory, 4096);
        assert_true(region > 0);
        close(memory);
        socket = raw_pair(apcs.target, &fd);
        assert_ok(apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, 0));
        sequence = apcs_take(apcs.target, 1, APCS_FUNCTION, 0);
        for (uint64_t i = 1; i <= 10; i++) {
                struct ovl_entry entry = { .tag = i, .socket = socket, .op = OVL_OP_RECV, .n_slots = 1 };

                entry.buffer = (struct ovl_slice){ .len = 10, .region = (uint32_t) region };
                raw_post(apcs.target, &entry, 1);
                /* The reply comes behind whatever the daemon had taken before. */
                assert_ok(raw_status(apcs.target));
                peer_write(fd, "x", 1);
                record = raw_take(apcs.target);
                assert_int_equal(record.kind, OVL_RECORD_COMPLETION);
                assert_int_equal(record.sequence, ++sequence);
                for (uint64_t k = 0; k < 3; k++)
                        assert_ok(apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, i << 60 | k));
                for (uint64_t k = 0; k < 3; k++)
                        assert_int_equal(apcs_take(apcs.target, 1, APCS_FUNCTION, i << 60 | k), ++sequence);
        }
        /* A session may queue to its own threads; the record comes before the reply. */
        assert_ok(apcs_queue(apcs.target, &apcs.handle, APCS_FUNCTION, UINT64_MAX));
        assert_int_equal(apcs.target->n_records, 1);
        assert_int_equal(apcs_take(apcs.target, 1, APCS_FUNCTION, UINT64_MAX), ++sequence);
        close(fd);
        apcs_stop(&apcs);
}

/* Each thread gets its own. */
static void apcs_go_to_their_thread(void **state) {
        struct apcs apcs = { 0 };
        struct apcs_handle second;
        struct raw *thread;

        apcs_start(&apcs);
        thread = raw_attach_thread(&apcs.estate.daemon, apcs.target, 5);
        assert_ok(apcs_open(thread, 5, &second));
        assert_ok(apcs_give(apcs.target, &second, apcs.sender->session));
        assert_ok(apcs_queue(apcs.sender, &second, APCS_FUNCTION, 2));
        assert_ok(apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, 1));
        apcs_take(thread, 5, APCS_FUNCTION, 2);
        apcs_take(apcs.target, 1, APCS_FUNCTION, 1);
        raw_close(thread);
        apcs_stop(&apcs);
}

/* --- Who may ---------------------------------------------------------------------------------------------------- */

/* 18.2: bytes that are no handle, or not this session's, name nothing; nobody learns which of the two it was. */
static void apcs_need_a_handle(void **state) {
        struct apcs apcs = { 0 };
        struct apcs_handle wrong, other;
        uint8_t longer[32] = { 0 };
        struct raw *stranger;

        apcs_start(&apcs);
        for (unsigned bit = 0; bit < 128; bit++) {
                wrong = apcs.handle;
                wrong.bytes[bit / 8] ^= (uint8_t) (1u << bit % 8);
                apcs_expect(apcs.sender, apcs_queue(apcs.sender, &wrong, APCS_FUNCTION, 0), -EBADF,
                            OVL_REASON_UNKNOWN_HANDLE);
        }
        memcpy(longer, apcs.handle.bytes, 16);
        for (size_t len = 0; len <= 32; len++) {
                if (len == 16)
                        continue;
                apcs_expect(apcs.sender, apcs_queue_bytes(apcs.sender, longer, len, APCS_FUNCTION, 0), -EBADF,
                            OVL_REASON_UNKNOWN_HANDLE);
        }
        /* The right bytes in the wrong hands. */
        stranger = raw_open(&apcs.estate.daemon, 4);
        apcs_expect(stranger, apcs_queue(stranger, &apcs.handle, APCS_FUNCTION, 0), -EBADF, OVL_REASON_UNKNOWN_HANDLE);
        /* A holder uses a handle, and can neither hand it on nor close it. */
        apcs_expect(apcs.sender, apcs_give(apcs.sender, &apcs.handle, stranger->session), -EBADF,
                    OVL_REASON_UNKNOWN_HANDLE);
        apcs_expect(apcs.sender, apcs_close(apcs.sender, &apcs.handle), -EBADF, OVL_REASON_UNKNOWN_HANDLE);
        assert_ok(apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, 9));
        apcs_take(apcs.target, 1, APCS_FUNCTION, 9);
        /* Sessions and threads that are none. */
        apcs_expect(apcs.target, apcs_give(apcs.target, &apcs.handle, 0), -ESRCH, OVL_REASON_UNKNOWN_SESSION);
        apcs_expect(apcs.target, apcs_give(apcs.target, &apcs.handle, ~apcs.sender->session), -ESRCH,
                    OVL_REASON_UNKNOWN_SESSION);
        apcs_expect(apcs.target, apcs_open(apcs.target, 2, &other), -ESRCH, OVL_REASON_UNKNOWN_THREAD);
        raw_close(stranger);
        apcs_stop(&apcs);
}

/* 18.4: a closed handle is of no use to anybody; another one of the same thread still is. */
static void apcs_handles_close(void **state) {
        struct apcs apcs = { 0 };
        struct apcs_handle second;

        apcs_start(&apcs);
        assert_ok(apcs_open(apcs.target, 1, &second));
        assert_memory_not_equal(second.bytes, apcs.handle.bytes, 16);
        assert_ok(apcs_give(apcs.target, &second, apcs.sender->session));
        assert_ok(apcs_give(apcs.target, &second, apcs.sender->session));
        assert_ok(apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, 1));
        assert_ok(apcs_close(apcs.target, &apcs.handle));
        apcs_expect(apcs.target, apcs_close(apcs.target, &apcs.handle), -EBADF, OVL_REASON_UNKNOWN_HANDLE);
        apcs_expect(apcs.sender, apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, 2), -EBADF,
                    OVL_REASON_UNKNOWN_HANDLE);
        assert_ok(apcs_queue(apcs.sender, &second, APCS_FUNCTION, 3));
        apcs_take(apcs.target, 1, APCS_FUNCTION, 1);
        apcs_take(apcs.target, 1, APCS_FUNCTION, 3);
        apcs_stop(&apcs);
}

/* 4.13: a thread that has ended, and then a session. */
static void apcs_targets_end(void **state) {
        struct apcs apcs = { 0 };
        struct apcs_handle second;
        struct raw *thread;
        uint64_t deadline = harness_deadline(10);
        int r;

        apcs_start(&apcs);
        thread = raw_attach_thread(&apcs.estate.daemon, apcs.target, 5);
        assert_ok(apcs_open(apcs.target, 5, &second));
        assert_ok(apcs_give(apcs.target, &second, apcs.sender->session));
        assert_ok(apcs_queue(apcs.sender, &second, APCS_FUNCTION, 1));
        raw_close(thread);
        do
                r = apcs_queue(apcs.sender, &second, APCS_FUNCTION, 2);
        while ((r == 0 || r == -ENOBUFS) && now_ns() < deadline);
        apcs_expect(apcs.sender, r, -ESRCH, OVL_REASON_THREAD_ENDED);
        /* What it had not heard of is not given to another thread. */
        assert_ok(raw_status(apcs.target));
        assert_int_equal(apcs.target->n_records, 0);
        /* A thread that takes the number is another thread. */
        thread = raw_attach_thread(&apcs.estate.daemon, apcs.target, 5);
        apcs_expect(apcs.sender, apcs_queue(apcs.sender, &second, APCS_FUNCTION, 2), -ESRCH, OVL_REASON_THREAD_ENDED);
        raw_close(thread);
        apcs.target = raw_close(apcs.target);
        do
                r = apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, 2);
        while (r != -EBADF && now_ns() < deadline);
        apcs_expect(apcs.sender, r, -EBADF, OVL_REASON_UNKNOWN_HANDLE);
        apcs_stop(&apcs);
}

/* Only functions that the target registered, and as long as they are. */
static void apcs_name_registered_functions(void **state) {
        struct apcs apcs = { 0 };

        apcs_start(&apcs);
        apcs_expect(apcs.sender, apcs_queue(apcs.sender, &apcs.handle, 8, 0), -ENOENT, OVL_REASON_UNKNOWN_FUNCTION);
        /* The sender's own functions are not the target's. */
        assert_ok(apcs_register(apcs.sender, 8, false));
        apcs_expect(apcs.sender, apcs_queue(apcs.sender, &apcs.handle, 8, 0), -ENOENT, OVL_REASON_UNKNOWN_FUNCTION);
        assert_ok(apcs_register(apcs.target, APCS_FUNCTION, false));
        assert_ok(apcs_register(apcs.target, APCS_FUNCTION, true));
        apcs_expect(apcs.target, apcs_register(apcs.target, APCS_FUNCTION, true), -ENOENT, OVL_REASON_UNKNOWN_FUNCTION);
        apcs_expect(apcs.sender, apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, 0), -ENOENT,
                    OVL_REASON_UNKNOWN_FUNCTION);
        /* As many as are allowed, in no order. */
        for (uint64_t i = 0; i < 1024; i++)
                assert_ok(apcs_register(apcs.target, i * 601 % 1024 << 50, false));
        apcs_expect(apcs.target, apcs_register(apcs.target, 1, false), -EDQUOT, OVL_REASON_QUOTA);
        assert_ok(apcs_register(apcs.target, UINT64_C(5) << 50, true));
        assert_ok(apcs_register(apcs.target, UINT64_MAX, false));
        assert_ok(apcs_queue(apcs.sender, &apcs.handle, UINT64_MAX, 1));
        assert_ok(apcs_queue(apcs.sender, &apcs.handle, UINT64_C(1023) << 50, 2));
        apcs_take(apcs.target, 1, UINT64_MAX, 1);
        apcs_take(apcs.target, 1, UINT64_C(1023) << 50, 2);
        apcs_expect(apcs.sender, apcs_queue(apcs.sender, &apcs.handle, UINT64_C(5) << 50, 0), -ENOENT,
                    OVL_REASON_UNKNOWN_FUNCTION);
        apcs_stop(&apcs);
}

static void apcs_handles_are_limited(void **state) {
        struct apcs apcs = { 0 };
        struct apcs_handle handle, last;
        struct raw *sessions[64];

        apcs_start(&apcs);
        for (unsigned i = 1; i < 1024; i++)
                assert_ok(apcs_open(apcs.target, 1, &last));
        apcs_expect(apcs.target, apcs_open(apcs.target, 1, &handle), -EDQUOT, OVL_REASON_QUOTA);
        assert_ok(apcs_close(apcs.target, &last));
        assert_ok(apcs_open(apcs.target, 1, &handle));
        if (getuid() == 0) {
                /* 64 sessions may hold a handle; a session that ends gives its place back. */
                for (unsigned i = 0; i < 64; i++) {
                        sessions[i] = raw_open(&apcs.estate.daemon, 1);
                        if (i < 63)
                                assert_ok(apcs_give(apcs.target, &apcs.handle, sessions[i]->session));
                }
                apcs_expect(apcs.target, apcs_give(apcs.target, &apcs.handle, sessions[63]->session), -EDQUOT,
                            OVL_REASON_QUOTA);
                sessions[0] = raw_close(sessions[0]);
                while (apcs_give(apcs.target, &apcs.handle, sessions[63]->session) < 0)
                        apcs_expect(apcs.target, -EDQUOT, -EDQUOT, OVL_REASON_QUOTA);
                for (unsigned i = 1; i < 64; i++)
                        raw_close(sessions[i]);
        }
        apcs_stop(&apcs);
}

/* In a child: another user, who was let in by the mode of the socket. */
static void apcs_other_user(const struct daemon *daemon, int in, int out) {
        struct apcs_handle handle;
        struct raw *raw;

        raw = raw_open(daemon, 4);
        assert_int_equal(write(out, &raw->session, sizeof(raw->session)), sizeof(raw->session));
        assert_int_equal(read(in, &handle, sizeof(handle)), sizeof(handle));
        apcs_expect(raw, apcs_queue(raw, &handle, APCS_FUNCTION, 0), -EBADF, OVL_REASON_UNKNOWN_HANDLE);
        raw_close(raw);
}

/* A handle cannot be given to a session of another user: that there is one is not told. */
static void apcs_users_are_apart(void **state) {
        int to_child[2], to_parent[2];
        struct apcs apcs = { 0 };
        uint64_t session;
        pid_t child;

        harness_want_other_user();
        apcs_start(&apcs);
        assert_int_equal(chmod(apcs.estate.daemon.path, 0666), 0);
        assert_int_equal(pipe(to_child) + pipe(to_parent), 0);
        child = harness_fork_other_user();
        if (child == 0) {
                apcs_other_user(&apcs.estate.daemon, to_child[0], to_parent[1]);
                _exit(0);
        }
        close(to_child[0]);
        close(to_parent[1]);
        assert_int_equal(read(to_parent[0], &session, sizeof(session)), sizeof(session));
        apcs_expect(apcs.target, apcs_give(apcs.target, &apcs.handle, session), -ESRCH, OVL_REASON_UNKNOWN_SESSION);
        assert_int_equal(write(to_child[1], &apcs.handle, sizeof(apcs.handle)), sizeof(apcs.handle));
        harness_expect_child(child);
        close(to_child[1]);
        close(to_parent[0]);
        apcs_stop(&apcs);
}

/* --- Floods ----------------------------------------------------------------------------------------------------- */

/* A thread that never reads: who queues to it is refused in the end, and nobody else is held up. */
static void apcs_floods_are_bounded(void **state) {
        struct ovl_entry entry = { .tag = 3, .op = OVL_OP_SEND, .n_slots = 1 };
        struct apcs apcs = { 0 };
        uint64_t n = 0, sequence = 0;
        struct raw *lazy;
        int fd, r;

        apcs_start(&apcs);
        lazy = raw_attach_thread(&apcs.estate.daemon, apcs.target, 5);
        assert_ok(apcs_open(apcs.target, 5, &apcs.handle));
        assert_ok(apcs_give(apcs.target, &apcs.handle, apcs.sender->session));
        while ((r = apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, n)) == 0)
                assert_true(++n < 100000);
        apcs_expect(apcs.sender, r, -ENOBUFS, OVL_REASON_QUOTA);
        /* The session's other threads post as before, as many at once as it has credits. */
        entry.socket = raw_pair(apcs.target, &fd);
        for (unsigned i = 0; i < 200; i++)
                raw_post(apcs.target, &entry, 1);
        for (unsigned i = 0; i < 200; i++)
                assert_int_equal(raw_take(apcs.target).tag, 3);
        /* The sender, too. */
        close(fd);
        entry.socket = raw_pair(apcs.sender, &fd);
        assert_int_equal(raw_one(apcs.sender, &entry).status, 0);
        /* Once the thread reads, all that was accepted comes, and there is room again. */
        for (uint64_t i = 0; i < n; i++) {
                uint64_t next = apcs_take(lazy, 5, APCS_FUNCTION, i);

                assert_true(next > sequence);
                sequence = next;
        }
        assert_ok(apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, 1));
        apcs_take(lazy, 5, APCS_FUNCTION, 1);
        close(fd);
        raw_close(lazy);
        apcs_stop(&apcs);
}

/* The thread goes while APCs wait for it: they go with it. */
static void apcs_floods_end_with_their_thread(void **state) {
        struct apcs apcs = { 0 };
        struct raw *lazy;
        uint64_t n = 0;

        apcs_start(&apcs);
        lazy = raw_attach_thread(&apcs.estate.daemon, apcs.target, 5);
        assert_ok(apcs_open(apcs.target, 5, &apcs.handle));
        assert_ok(apcs_give(apcs.target, &apcs.handle, apcs.sender->session));
        while (apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, n) == 0)
                assert_true(++n < 100000);
        raw_close(lazy);
        while (apcs_queue(apcs.sender, &apcs.handle, APCS_FUNCTION, n) != -ESRCH)
                assert_int_equal(apcs.sender->reply->reason, OVL_REASON_QUOTA);
        assert_ok(raw_status(apcs.target));
        assert_int_equal(apcs.target->n_records, 0);
        assert_int_equal(apcs.target->reply->status_report->ops_in_flight, 0);
        apcs_stop(&apcs);
}

/* --- Through the library ---------------------------------------------------------------------------------------- */

struct apcs_seen {
        struct ovl_thread *thread;
        pid_t pid;
        uint64_t sum;
        unsigned n;
};

static struct apcs_seen apcs_seen;

static void apcs_see(struct ovl_thread *thread, uint64_t argument) {
        assert_ptr_equal(thread, apcs_seen.thread);
        assert_int_equal(getpid(), apcs_seen.pid);
        apcs_seen.sum += argument;
        apcs_seen.n++;
}

/* In a child: another process, which learns the handle over a pipe. */
static void apcs_other_process(struct client *client, int in, int out) {
        struct ovl_session_info info;
        struct ovl_thread_handle handle;

        client_open(client, 0);
        ovl_session_info(client->session, &info);
        assert_int_equal(write(out, &info.session, sizeof(info.session)), sizeof(info.session));
        assert_int_equal(read(in, &handle, sizeof(handle)), sizeof(handle));
        for (uint64_t i = 1; i <= 100; i++)
                assert_ok(ovl_apc_queue_remote(client->thread, &handle, APCS_FUNCTION, i));
        assert_int_equal(ovl_apc_queue_remote(client->thread, &handle, 1, 0), -ENOENT);
        assert_int_equal(ovl_thread_error(client->thread)->reason, OVL_REASON_UNKNOWN_FUNCTION);
        /* The other side closes the thread, and then the session. */
        assert_int_equal(write(out, "x", 1), 1);
        assert_int_equal(read(in, &handle, 1), 1);
        assert_int_equal(ovl_apc_queue_remote(client->thread, &handle, APCS_FUNCTION, 0), -EBADF);
        client_close(client);
}

/* 4.1, 18.3: queued from any process, run in the very thread, in its process, in its alertable waits. */
static void apcs_come_from_other_processes(void **state) {
        struct client client = { 0 };
        struct ovl_thread_handle handle;
        int to_child[2], to_parent[2], status;
        uint64_t session;
        pid_t child;
        char byte;

        estate_start(&client.estate, NULL);
        assert_int_equal(pipe(to_child) + pipe(to_parent), 0);
        child = fork();
        if (child == 0) {
                apcs_other_process(&client, to_child[0], to_parent[1]);
                _exit(0);
        }
        close(to_child[0]);
        close(to_parent[1]);
        client_open(&client, 0);
        apcs_seen = (struct apcs_seen){ .thread = client.thread, .pid = getpid() };
        assert_ok(ovl_function_register(client.thread, APCS_FUNCTION, apcs_see));
        assert_ok(ovl_thread_handle_open(client.thread, &handle));
        assert_int_equal(read(to_parent[0], &session, sizeof(session)), sizeof(session));
        assert_ok(ovl_thread_handle_give(client.thread, &handle, session));
        assert_int_equal(write(to_child[1], &handle, sizeof(handle)), sizeof(handle));
        while (apcs_seen.n < 100)
                assert_int_equal(ovl_sleep(client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(apcs_seen.sum, 5050);
        assert_int_equal(read(to_parent[0], &byte, 1), 1);
        assert_ok(ovl_region_close(client.thread, client.region));
        client.region = NULL;
        client.thread = ovl_thread_close(client.thread);
        assert_int_equal(write(to_child[1], handle.bytes, 1), 1);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        client.session = ovl_session_free(client.session);
        close(to_child[1]);
        close(to_parent[0]);
        estate_stop(&client.estate);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "come in order", apcs_come_in_order, 0 },
                { "go to their thread", apcs_go_to_their_thread, 0 },
                { "need a handle", apcs_need_a_handle, 0 },
                { "handles close", apcs_handles_close, 0 },
                { "targets end", apcs_targets_end, 0 },
                { "name registered functions", apcs_name_registered_functions, 0 },
                { "handles are limited", apcs_handles_are_limited, 0 },
                { "users are apart", apcs_users_are_apart, 0 },
                { "floods are bounded", apcs_floods_are_bounded, 60 },
                { "floods end with their thread", apcs_floods_end_with_their_thread, 60 },
                { "come from other processes", apcs_come_from_other_processes, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
