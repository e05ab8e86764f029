/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How much clients may have: each kind is used up by one too many, with an answer that says whose limit it was and one
 * line in the journal; what waits for room goes on when there is some; and however a user divides himself, and however
 * much another one takes, the sums are right. The client is root, who is exempt unless the settings say otherwise.
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/raw.h"

#define QUOTAS_LOG_MAX (1u << 16)

static const char *quotas_path(void) {
        static char path[128];

        snprintf(path, sizeof(path), "%s/conf", harness_directory());
        return path;
}

static void quotas_write(const char *text) {
        FILE *file = fopen(quotas_path(), "we");

        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(chmod(quotas_path(), 0644), 0);
}

static void quotas_start(struct daemon *daemon, const char *text, const char *n_workers) {
        quotas_write(text);
        daemon_start(daemon, (const char *const[]){ "--config", quotas_path(), "--workers", n_workers, NULL });
}

static void quotas_reload(const struct daemon *daemon, const char *text) {
        static unsigned n;

        assert_int_equal(n++, 0); /* its line is waited for */
        quotas_write(text);
        assert_int_equal(kill(daemon->monitor, SIGHUP), 0);
        daemon_wait_log(daemon, "reloaded: of the settings");
}

/* How often a text is in the daemon's log. */
static unsigned quotas_count_log(const struct daemon *daemon, const char *text) {
        _cleanup_free_ char *log = calloc(1, QUOTAS_LOG_MAX);
        _cleanup_fd_ int fd = open(daemon->log, O_RDONLY | O_CLOEXEC);
        unsigned n = 0;

        assert_true(fd >= 0 && log);
        assert_ok(read(fd, log, QUOTAS_LOG_MAX - 1));
        for (const char *at = log; (at = strstr(at, text)); at++)
                n++;
        return n;
}

/* --- Requests ---------------------------------------------------------------------------------------------------- */

/* Returns the status; the number of the socket is in the reply. */
static int quotas_open(struct raw *raw) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOpen open_it = OVERLAPD__SOCKET_OPEN__INIT;

        open_it.family = OVERLAPD__FAMILY__FAMILY_INET;
        open_it.type = OVERLAPD__TYPE__TYPE_STREAM;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPEN;
        request.socket_open = &open_it;
        return raw_call(raw, &request, -1);
}

static void quotas_bind(struct raw *raw, uint64_t socket) {
        uint8_t loopback[] = { 127, 0, 0, 1 };
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketBind bind_it = OVERLAPD__SOCKET_BIND__INIT;
        Overlapd__Address address = OVERLAPD__ADDRESS__INIT;

        address.family = OVERLAPD__FAMILY__FAMILY_INET;
        address.host = (ProtobufCBinaryData){ .len = sizeof(loopback), .data = loopback };
        bind_it.socket = socket;
        bind_it.address = &address;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_BIND;
        request.socket_bind = &bind_it;
        assert_ok(raw_call(raw, &request, -1));
}

static int quotas_listen(struct raw *raw, uint64_t socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketListen listen_it = OVERLAPD__SOCKET_LISTEN__INIT;

        listen_it.socket = socket;
        listen_it.backlog = 10;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN;
        request.socket_listen = &listen_it;
        return raw_call(raw, &request, -1);
}

static uint16_t quotas_port(struct raw *raw, uint64_t socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketName name_it = OVERLAPD__SOCKET_NAME__INIT;

        name_it.socket = socket;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_NAME;
        request.socket_name = &name_it;
        assert_ok(raw_call(raw, &request, -1));
        return (uint16_t) raw->reply->socket_name->address->port;
}

static int quotas_add_file(struct raw *raw) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__FileAdd add = OVERLAPD__FILE_ADD__INIT;
        _cleanup_fd_ int fd = open(quotas_path(), O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        request.what_case = OVERLAPD__REQUEST__WHAT_FILE_ADD;
        request.file_add = &add;
        return raw_call(raw, &request, fd);
}

static int quotas_remove_file(struct raw *raw, uint32_t file) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__FileRemove remove_it = OVERLAPD__FILE_REMOVE__INIT;

        remove_it.file = file;
        request.what_case = OVERLAPD__REQUEST__WHAT_FILE_REMOVE;
        request.file_remove = &remove_it;
        return raw_call(raw, &request, -1);
}

static int quotas_add_region(struct raw *raw, size_t size) {
        _cleanup_fd_ int fd = raw_memfd(size);

        return raw_region_add(raw, fd, size);
}

static int quotas_hello(struct raw *raw) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Hello hello = OVERLAPD__HELLO__INIT;

        hello.version_min = OVL_PROTOCOL_MIN;
        hello.version_max = OVL_PROTOCOL_MAX;
        hello.level = 1;
        hello.thread = 7;
        request.what_case = OVERLAPD__REQUEST__WHAT_HELLO;
        request.hello = &hello;
        return raw_call(raw, &request, -1);
}

static int quotas_cancel_all(struct raw *raw, uint64_t socket) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;

        cancel.socket = socket;
        cancel.which_case = OVERLAPD__CANCEL__WHICH_ALL;
        cancel.all = true;
        request.what_case = OVERLAPD__REQUEST__WHAT_CANCEL;
        request.cancel = &cancel;
        return raw_call(raw, &request, -1);
}

/* What was asked for last is one too many, and why. */
static void quotas_expect(struct raw *raw, int status, const char *text) {
        assert_int_equal(status, -EDQUOT);
        assert_int_equal(raw->reply->reason, OVL_REASON_QUOTA);
        if (!strstr(raw->reply->text, text))
                fail_msg("expected '%s' in '%s'", text, raw->reply->text);
}

/* --- One too many ------------------------------------------------------------------------------------------------ */

static void quotas_sockets(void **state) {
        struct daemon daemon;
        struct raw *raw;

        quotas_start(&daemon, "[User root]\nUnlimited=no\nSockets=3\n", "1");
        raw = raw_open(&daemon, 0);
        for (int i = 0; i < 3; i++)
                assert_ok(quotas_open(raw));
        for (int i = 0; i < 5; i++)
                quotas_expect(raw, quotas_open(raw),
                              "user 0 has 3 of 3 sockets, with those that accepts will make: close some, or raise "
                              "Sockets= below [User] in overlapd.conf");
        daemon_wait_log(&daemon, "quota reached: user 0 has 3 of 3 sockets");
        quotas_reload(&daemon, "[User root]\nUnlimited=no\nSockets=4\n");
        assert_ok(quotas_open(raw));
        assert_ok(raw_socket_close(raw, raw->reply->socket_open->socket));
        assert_ok(quotas_open(raw));
        quotas_expect(raw, quotas_open(raw), "user 0 has 4 of 4 sockets");
        /* Once a minute, whatever is refused. */
        assert_int_equal(quotas_count_log(&daemon, "quota reached"), 1);
        raw_close(raw);
        daemon_stop(&daemon);
}

static void quotas_regions_and_memory(void **state) {
        struct daemon daemon;
        struct raw *raw;

        quotas_start(&daemon, "[User root]\nUnlimited=no\nRegions=2\nMemory=12K\n[Session]\nMemory=1M\n", "1");
        raw = raw_open(&daemon, 0);
        assert_ok(quotas_add_region(raw, 8192));
        quotas_expect(raw, quotas_add_region(raw, 8192),
                      "there is no room for 8192 bytes: user 0 has 8192 of 12288 bytes of lent memory: remove regions");
        assert_ok(quotas_add_region(raw, 4096));
        quotas_expect(raw, quotas_add_region(raw, 4096), "user 0 has 2 of 2 regions: remove one");
        assert_ok(raw_region_remove(raw, 2));
        assert_ok(quotas_add_region(raw, 4096));
        daemon_wait_log(&daemon, "quota reached: user 0 has 2 of 2 regions");
        daemon_wait_log(&daemon, "quota reached: user 0 has 8192 of 12288 bytes");
        raw_close(raw);
        daemon_stop(&daemon);
}

static void quotas_listeners(void **state) {
        struct daemon daemon;
        struct raw *raw, *other;
        uint64_t first, second;

        quotas_start(&daemon, "[User root]\nUnlimited=no\nListeners=1\n", "1");
        raw = raw_open(&daemon, 0);
        other = raw_open(&daemon, 0);
        first = raw_socket(raw, OVL_FAMILY_INET);
        quotas_bind(raw, first);
        assert_ok(quotas_listen(raw, first));
        assert_ok(quotas_listen(raw, first)); /* it is the same */
        quotas_expect(other, quotas_listen(other, raw_socket(other, OVL_FAMILY_INET)),
                      "user 0 has 1 of 1 listening sockets: close one, or raise Listeners= below [User]");
        daemon_wait_log(&daemon, "quota reached: user 0 has 1 of 1 listening sockets");
        assert_ok(raw_socket_close(raw, first));
        assert_ok(raw_status(raw)); /* in a later turn it is buried */
        second = raw_socket(other, OVL_FAMILY_INET);
        quotas_bind(other, second);
        assert_ok(quotas_listen(other, second));
        raw_close(raw);
        raw_close(other);
        daemon_stop(&daemon);
}

static void quotas_sessions(void **state) {
        struct raw *sessions[2], *third, *further;
        struct daemon daemon;

        quotas_start(&daemon, "[User root]\nUnlimited=no\nSessions=2\n", "1");
        for (size_t i = 0; i < 2; i++)
                sessions[i] = raw_open(&daemon, 0);
        third = raw_connect(&daemon);
        quotas_expect(third, quotas_hello(third), "user 0 has 2 of 2 sessions: end one, or raise Sessions=");
        daemon_wait_log(&daemon, "quota reached: user 0 has 2 of 2 sessions");
        further = raw_attach_thread(&daemon, sessions[0], 4); /* that is none */
        sessions[1] = raw_close(sessions[1]);
        daemon_wait_log(&daemon, "session ended after");
        assert_ok(quotas_hello(third));
        raw_close(further);
        raw_close(third);
        raw_close(sessions[0]);
        daemon_stop(&daemon);
}

static void quotas_files(void **state) {
        struct daemon daemon;
        struct raw *raw;
        uint32_t file;

        quotas_start(&daemon, "[User root]\nUnlimited=no\nFiles=1\n", "1");
        raw = raw_open(&daemon, 0);
        assert_ok(quotas_add_file(raw));
        file = raw->reply->file_add->file;
        quotas_expect(raw, quotas_add_file(raw), "user 0 has 1 of 1 lent files: remove one, or raise Files=");
        assert_ok(quotas_remove_file(raw, file));
        assert_ok(quotas_add_file(raw));
        raw_close(raw);
        daemon_stop(&daemon);
}

/* What a session has too much of itself, also one whose user is exempt. */
static void quotas_of_the_session(void **state) {
        struct daemon daemon;
        struct raw *raw;

        quotas_start(&daemon, "[Session]\nSockets=1\nRegions=1\nMemory=8K\nFiles=1\nOperations=5\n", "1");
        raw = raw_open(&daemon, 0);
        assert_int_equal(raw->credits, 5);
        assert_ok(quotas_open(raw));
        quotas_expect(raw, quotas_open(raw), "the session has 1 of 1 sockets");
        quotas_expect(raw, quotas_add_region(raw, 12288), "the session has 0 of 8192 bytes of lent memory");
        assert_ok(quotas_add_region(raw, 4096));
        quotas_expect(raw, quotas_add_region(raw, 4096), "the session has 1 of 1 regions");
        assert_ok(quotas_add_file(raw));
        quotas_expect(raw, quotas_add_file(raw), "the session has 1 files already");
        raw_close(raw);
        daemon_stop(&daemon);
}

/* --- What waits -------------------------------------------------------------------------------------------------- */

static struct ovl_entry quotas_receive(uint64_t socket, uint64_t tag) {
        return (struct ovl_entry){
                .tag = tag, .socket = socket, .op = OVL_OP_RECV, .n_slots = 1, .buffer = { .region = 1, .len = 16 }
        };
}

/* Whether the worker does nothing by itself: each question costs a turn or two. */
static void quotas_expect_idle(struct raw *raw) {
        uint64_t turns;

        assert_ok(raw_status(raw));
        turns = raw->reply->status_report->turns;
        for (int i = 0; i < 20; i++)
                assert_ok(raw_status(raw));
        assert_true(raw->reply->status_report->turns - turns < 100);
}

static void quotas_operations_wait(void **state) {
        struct raw *hog, *other, *third;
        struct ovl_record record;
        struct ovl_entry entry;
        struct daemon daemon;
        uint64_t sockets[2];
        int fds[2];

        quotas_start(&daemon, "[Daemon]\nPollMicroseconds=0\n[User root]\nUnlimited=no\nOperations=3\n", "1");
        hog = raw_open(&daemon, 0);
        other = raw_open(&daemon, 0);
        third = raw_open(&daemon, 0);
        assert_ok(quotas_add_region(hog, 4096));
        assert_ok(quotas_add_region(other, 4096));
        sockets[0] = raw_pair(hog, &fds[0]);
        sockets[1] = raw_pair(other, &fds[1]);
        for (uint64_t i = 0; i < 3; i++) {
                entry = quotas_receive(sockets[0], 10 + i);
                raw_post(hog, &entry, 1);
        }
        assert_ok(raw_status(hog));
        entry = quotas_receive(sockets[1], 20);
        assert_int_equal(write(fds[1], "data", 4), 4);
        raw_post(other, &entry, 1);
        daemon_wait_log(&daemon, "quota reached: user 0 has 3 of 3 operations in flight: wait for some");
        quotas_expect_idle(third);
        assert_int_equal(third->reply->status_report->ops_in_flight, 3);
        assert_false(raw_has_input(other));
        /* One ends, and the other's goes on. */
        assert_int_equal(write(fds[0], "x", 1), 1);
        record = raw_take(hog);
        assert_int_equal(record.tag, 10);
        record = raw_take(other);
        assert_int_equal(record.tag, 20);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, 4);
        /* Likewise with a limit that is raised. */
        entry = quotas_receive(sockets[0], 30);
        raw_post(hog, &entry, 1);
        assert_ok(raw_status(hog));
        assert_int_equal(write(fds[1], "more", 4), 4);
        entry = quotas_receive(sockets[1], 21);
        raw_post(other, &entry, 1);
        quotas_expect_idle(third);
        assert_false(raw_has_input(other));
        quotas_reload(&daemon, "[User root]\nUnlimited=no\nOperations=4\n");
        record = raw_take(other);
        assert_int_equal(record.tag, 21);
        assert_int_equal(record.status, 0);
        for (size_t i = 0; i < 2; i++)
                close(fds[i]);
        raw_close(hog);
        raw_close(other);
        raw_close(third);
        daemon_stop(&daemon);
}

/* Who has sent all that he will send is served like others, also when it waits. */
static void quotas_who_has_ended_is_served(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Status status = OVERLAPD__STATUS__INIT;
        struct raw *hog, *other, *asker;
        struct ovl_entry entry, entries[2];
        struct ovl_record record;
        struct daemon daemon;
        uint64_t sockets[2];
        int fds[2];

        quotas_start(&daemon,
                     "[Session]\nRequestsPerSecond=20\nRequestsBurst=10\n"
                     "[User root]\nUnlimited=no\nOperations=1\n",
                     "1");
        hog = raw_open(&daemon, 0);
        other = raw_open(&daemon, 0);
        asker = raw_open(&daemon, 0);
        request.what_case = OVERLAPD__REQUEST__WHAT_STATUS;
        request.status = &status;
        for (int i = 0; i < 15; i++) {
                request.id = 0;
                raw_send(asker, &request, -1);
        }
        assert_int_equal(shutdown(asker->fd, SHUT_WR), 0);
        for (int i = 0; i < 15; i++)
                assert_int_equal(raw_next(asker), RAW_REPLY);
        raw_expect_end(asker);
        assert_ok(quotas_add_region(hog, 4096));
        assert_ok(quotas_add_region(other, 4096));
        sockets[0] = raw_pair(hog, &fds[0]);
        sockets[1] = raw_pair(other, &fds[1]);
        entry = quotas_receive(sockets[0], 10);
        raw_post(hog, &entry, 1);
        assert_ok(raw_status(hog));
        assert_int_equal(write(fds[1], "data", 4), 4);
        /* The worker finds both entries and the end at once; of the first there is a record, and then nothing else. */
        entries[0] = (struct ovl_entry){ .tag = 19, .op = 255, .n_slots = 1 };
        entries[1] = quotas_receive(sockets[1], 20);
        assert_int_equal(kill(daemon_worker(&daemon), SIGSTOP), 0);
        raw_post(other, entries, 2);
        assert_int_equal(shutdown(other->fd, SHUT_WR), 0);
        assert_int_equal(kill(daemon_worker(&daemon), SIGCONT), 0);
        daemon_wait_log(&daemon, "quota reached: user 0 has 1 of 1 operations in flight");
        assert_ok(raw_status(hog));
        assert_int_equal(write(fds[0], "x", 1), 1);
        record = raw_take(other);
        assert_int_equal(record.tag, 19);
        record = raw_take(other);
        assert_int_equal(record.tag, 20);
        assert_int_equal(record.status, 0);
        raw_expect_end(other);
        for (size_t i = 0; i < 2; i++)
                close(fds[i]);
        raw_close(hog);
        raw_close(other);
        raw_close(asker);
        daemon_stop(&daemon);
}

static bool quotas_has_no_ops(void *data) {
        struct raw *raw = data;

        assert_ok(raw_status(raw));
        return raw->reply->status_report->ops_in_flight == 0 && raw->reply->status_report->sessions == 1;
}

/* A client that waits for room, and of which nobody hears any more, does not keep what it has. */
static void quotas_held_clients_end(void **state) {
        struct raw *held, *other;
        struct ovl_entry entry;
        struct daemon daemon;
        uint64_t socket;
        int fd;

        quotas_start(&daemon, "[Daemon]\nPollMicroseconds=0\n[User root]\nUnlimited=no\nOperations=3\n", "1");
        other = raw_open(&daemon, 0);
        held = raw_open(&daemon, 0);
        assert_ok(quotas_add_region(held, 4096));
        socket = raw_pair(held, &fd);
        for (uint64_t i = 0; i < 4; i++) {
                entry = quotas_receive(socket, 10 + i);
                raw_post(held, &entry, 1);
        }
        daemon_wait_log(&daemon, "quota reached: user 0 has 3 of 3 operations in flight: wait for some");
        quotas_expect_idle(other);
        raw_close(held);
        assert_true(harness_wait(quotas_has_no_ops, other, harness_deadline(5)));
        close(fd);
        raw_close(other);
        daemon_stop(&daemon);
}

static bool quotas_has_two_sessions(void *data) {
        struct raw *raw = data;

        assert_ok(raw_status(raw));
        return raw->reply->status_report->sessions == 2;
}

/* Of a session that waits, what one thread posted and left behind is done as long as another is there. */
static void quotas_held_threads_end(void **state) {
        struct ovl_entry entry, send = { .tag = 30, .op = OVL_OP_SEND, .n_slots = 1, .buffer = { 0, 4, 1 } };
        struct raw *hog, *first, *thread, *other;
        struct daemon daemon;
        uint64_t socket;
        char bytes[4];
        int fds[2];

        quotas_start(&daemon, "[Daemon]\nPollMicroseconds=0\n[User root]\nUnlimited=no\nOperations=1\n", "1");
        other = raw_open(&daemon, 0);
        hog = raw_open(&daemon, 0);
        first = raw_open(&daemon, 0);
        assert_ok(quotas_add_region(hog, 4096));
        assert_ok(quotas_add_region(first, 4096));
        socket = raw_pair(hog, &fds[0]);
        send.socket = raw_pair(first, &fds[1]);
        for (int i = 0; i < 2; i++) {
                entry = quotas_receive(socket, 10);
                raw_post(hog, &entry, 1);
                assert_ok(raw_status(hog));
                thread = raw_attach_thread(&daemon, first, 100 + (uint64_t) i);
                raw_post(thread, &send, 1);
                quotas_expect_idle(other);
                raw_close(thread);
                quotas_expect_idle(other);
                assert_int_equal(other->reply->status_report->sessions, 3);
                assert_int_equal(recv(fds[1], bytes, sizeof(bytes), MSG_DONTWAIT), -1);
                if (i == 1)
                        break;
                assert_int_equal(write(fds[0], "x", 1), 1);
                assert_int_equal(raw_take(hog).tag, 10);
                assert_int_equal(recv(fds[1], bytes, sizeof(bytes), MSG_WAITALL), sizeof(bytes));
                assert_int_equal(raw_take(first).tag, 30);
        }
        raw_close(first);
        assert_true(harness_wait(quotas_has_two_sessions, other, harness_deadline(5)));
        assert_int_equal(other->reply->status_report->ops_in_flight, 1);
        for (size_t i = 0; i < 2; i++)
                close(fds[i]);
        raw_close(hog);
        raw_close(other);
        daemon_stop(&daemon);
}

static int quotas_connect(uint16_t port) {
        struct sockaddr_in address = { .sin_family = AF_INET,
                                       .sin_port = htons(port),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        return fd;
}

static void quotas_accepts_wait(void **state) {
        struct ovl_entry accepts[2] = { { .tag = 1, .op = OVL_OP_ACCEPT, .n_slots = 1 },
                                        { .tag = 2, .op = OVL_OP_ACCEPT, .n_slots = 1 } };
        uint64_t listener, full[2];
        struct ovl_record record;
        struct daemon daemon;
        struct raw *raw, *other;
        int fds[2];

        quotas_start(&daemon, "[Daemon]\nPollMicroseconds=0\n[User root]\nUnlimited=no\nSockets=3\n", "1");
        raw = raw_open(&daemon, 0);
        other = raw_open(&daemon, 0);
        listener = raw_socket(raw, OVL_FAMILY_INET);
        quotas_bind(raw, listener);
        assert_ok(quotas_listen(raw, listener));
        for (size_t i = 0; i < 2; i++)
                full[i] = raw_socket(other, OVL_FAMILY_INET);
        for (size_t i = 0; i < 2; i++) {
                accepts[i].socket = listener;
                fds[i] = quotas_connect(quotas_port(raw, listener));
        }
        raw_post(raw, accepts, 2);
        daemon_wait_log(&daemon, "quota reached: user 0 has 3 of 3 sockets");
        quotas_expect_idle(other);
        assert_false(raw_has_input(raw));
        /* One that must not wait does not. */
        accepts[0].op_flags = OVL_MESSAGE_DONTWAIT;
        record = raw_one(raw, &accepts[0]);
        assert_int_equal(record.status, -ENOBUFS);
        assert_int_equal(record.reason, OVL_REASON_QUOTA);
        accepts[0].op_flags = 0;
        /* What waits can be cancelled, and then begins anew behind the other. */
        assert_ok(raw_socket_close(other, full[0]));
        record = raw_take(raw);
        assert_int_equal(record.tag, 1);
        assert_int_equal(record.status, 0);
        assert_ok(quotas_cancel_all(raw, listener));
        record = raw_take(raw);
        assert_int_equal(record.tag, 2);
        assert_int_equal(record.status, -ECANCELED);
        raw_post(raw, &accepts[1], 1);
        quotas_expect_idle(other);
        assert_false(raw_has_input(raw));
        assert_ok(raw_socket_close(other, full[1]));
        record = raw_take(raw);
        assert_int_equal(record.tag, 2);
        assert_int_equal(record.status, 0);
        quotas_expect(other, quotas_open(other), "user 0 has 3 of 3 sockets");
        /* One that waits ends with its listener, and with its session. */
        accepts[0].tag = 3;
        raw_post(raw, accepts, 1);
        assert_ok(raw_socket_close(raw, listener));
        record = raw_take(raw);
        assert_int_equal(record.tag, 3);
        assert_int_equal(record.status, -ECANCELED);
        assert_ok(quotas_open(other));
        for (size_t i = 0; i < 2; i++)
                close(fds[i]);
        raw_close(raw);
        raw_close(other);
        daemon_stop(&daemon);
}

/* What the session itself has too many of is refused at once: nobody else could make room. */
static void quotas_accepts_of_a_full_session(void **state) {
        struct ovl_entry accept = { .tag = 1, .op = OVL_OP_ACCEPT, .n_slots = 1 };
        struct ovl_record record;
        struct daemon daemon;
        struct raw *raw;

        quotas_start(&daemon, "[Session]\nSockets=1\n[User root]\nUnlimited=no\n", "1");
        raw = raw_open(&daemon, 0);
        accept.socket = raw_socket(raw, OVL_FAMILY_INET);
        quotas_bind(raw, accept.socket);
        assert_ok(quotas_listen(raw, accept.socket));
        record = raw_one(raw, &accept);
        assert_int_equal(record.status, -ENOBUFS);
        assert_int_equal(record.reason, OVL_REASON_QUOTA);
        assert_true(record.flags & OVL_RECORD_REFUSED);
        raw_close(raw);
        daemon_stop(&daemon);
}

/* --- Several ----------------------------------------------------------------------------------------------------- */

/* A process that opens sockets until it is refused one, says how many, and keeps them until it is told to end. */
struct quotas_child {
        pid_t pid;
        int says_fd, ends_fd;
};

static void quotas_child_run(const struct daemon *daemon, int says_fd, int ends_fd) {
        struct raw *raw = raw_open(daemon, 0);
        unsigned n = 0;
        char byte;

        while (quotas_open(raw) == 0)
                n++;
        assert_int_equal(raw->reply->status, -EDQUOT);
        assert_int_equal(write(says_fd, &n, sizeof(n)), sizeof(n));
        assert_int_equal(read(ends_fd, &byte, 1), 0);
        _exit(0);
}

/* unit: a control group that it enters first; NULL: none. other: it is another user. Returns how many it has. */
static unsigned quotas_child_start(struct quotas_child *child, const struct daemon *daemon, const char *unit,
                                   bool other) {
        int says[2], ends[2];
        unsigned n;

        assert_int_equal(pipe2(says, O_CLOEXEC), 0);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        fflush(NULL);
        child->pid = other ? harness_fork_other_user() : fork();
        assert_true(child->pid >= 0);
        if (child->pid == 0) {
                close(ends[1]);
                if (unit) {
                        FILE *file = fopen(unit, "we");

                        assert_non_null(file);
                        assert_true(fprintf(file, "%d\n", (int) getpid()) > 0);
                        assert_int_equal(fclose(file), 0);
                }
                quotas_child_run(daemon, says[1], ends[0]);
        }
        close(says[1]);
        close(ends[0]);
        child->says_fd = says[0];
        child->ends_fd = ends[1];
        assert_int_equal(read(says[0], &n, sizeof(n)), sizeof(n));
        return n;
}

static void quotas_child_end(struct quotas_child *child) {
        close(child->ends_fd);
        close(child->says_fd);
        harness_expect_child(child->pid);
}

static void quotas_processes_of_a_user(void **state) {
        struct quotas_child children[10];
        struct daemon daemon;
        unsigned n = 0;

        quotas_start(&daemon, "[Session]\nSockets=2\n[User root]\nUnlimited=no\nSockets=11\n", "3");
        for (size_t i = 0; i < HARNESS_N(children); i++)
                n += quotas_child_start(&children[i], &daemon, NULL, false);
        assert_int_equal(n, 11);
        /* Each has the pipes of those before it. */
        for (size_t i = HARNESS_N(children); i > 0; i--)
                quotas_child_end(&children[i - 1]);
        daemon_stop(&daemon);
}

/* Exactly half for the one, and a third of what is left for the other. */
static void quotas_a_hog_and_another(void **state) {
        struct quotas_child hog, other;
        struct daemon daemon;
        unsigned n;

        harness_want_other_user();
        quotas_start(&daemon, "[User]\nSockets=unlimited\n[User root]\nUnlimited=no\n[Worker]\nSockets=1000\n", "1");
        assert_int_equal(chmod(daemon.path, 0666), 0);
        assert_int_equal(quotas_child_start(&hog, &daemon, NULL, false), 500);
        assert_int_equal(quotas_child_start(&other, &daemon, NULL, true), 166);
        daemon_wait_log(&daemon, "user 0 has 500 sockets, with those that accepts will make, and no larger share of "
                                 "the 1000 that a worker has");
        quotas_child_end(&other);
        quotas_child_end(&hog);
        /* What they had is there again. */
        daemon_wait_log(&daemon, "500 sockets, 0 bytes received");
        n = quotas_child_start(&other, &daemon, NULL, true);
        assert_true(n == 500);
        quotas_child_end(&other);
        daemon_stop(&daemon);
}

/* The descriptors of a worker are shared like all else, whatever the settings say. */
static void quotas_of_few_descriptors(void **state) {
        const struct rlimit few = { 1024, 1024 };
        struct quotas_child child;
        struct daemon daemon;
        struct rlimit before;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        if (before.rlim_max < few.rlim_max)
                harness_skip("there are fewer than 1024 descriptors");
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        quotas_start(&daemon, "[User root]\nUnlimited=no\nSockets=unlimited\n", "1");
        assert_int_equal(quotas_child_start(&child, &daemon, NULL, false), 1024 * 3 / 4 / 2);
        quotas_child_end(&child);
        daemon_stop(&daemon);
}

static bool quotas_make_group(const char *path) {
        return mkdir(path, 0755) == 0 || errno == EEXIST;
}

/* Where the service manager's control groups are, if this machine lets the case make one of a unit. */
static const char *quotas_groups(void) {
        static const char *const roots[] = { "/sys/fs/cgroup/unified/system.slice", "/sys/fs/cgroup/system.slice",
                                             "/sys/fs/cgroup/systemd/system.slice" };

        for (size_t i = 0; i < HARNESS_N(roots); i++) {
                char root[64], probe[128];

                snprintf(root, sizeof(root), "%.*s", (int) (strrchr(roots[i], '/') - roots[i]), roots[i]);
                snprintf(probe, sizeof(probe), "%s/cgroup.procs", root);
                if (access(probe, W_OK) == 0 && quotas_make_group(roots[i]))
                        return roots[i];
        }
        harness_skip("no control group of a unit can be made here");
}

static void quotas_units_of_a_user(void **state) {
        const char *groups = quotas_groups();
        char a[128], b[128], a_list[160], b_list[160], text[256];
        struct quotas_child children[3];
        struct daemon daemon;

        snprintf(a, sizeof(a), "%s/ovl-%d-a.service", groups, (int) getpid());
        snprintf(b, sizeof(b), "%s/ovl-%d-b.service", groups, (int) getpid());
        snprintf(a_list, sizeof(a_list), "%s/cgroup.procs", a);
        snprintf(b_list, sizeof(b_list), "%s/cgroup.procs", b);
        if (!quotas_make_group(a) || !quotas_make_group(b))
                harness_skip("no control group of a unit can be made here");
        snprintf(text, sizeof(text), "[Unit ovl-%d-a.service]\nSockets=2\n[User root]\nUnlimited=no\nSockets=5\n",
                 (int) getpid());
        quotas_start(&daemon, text, "2");
        assert_int_equal(quotas_child_start(&children[0], &daemon, a_list, false), 2);
        snprintf(text, sizeof(text), "quota reached: unit ovl-%d-a.service of user 0 has 2 of 2 sockets",
                 (int) getpid());
        daemon_wait_log(&daemon, text);
        assert_int_equal(quotas_child_start(&children[1], &daemon, a_list, false), 0);
        assert_int_equal(quotas_child_start(&children[2], &daemon, b_list, false), 3);
        for (size_t i = HARNESS_N(children); i > 0; i--)
                quotas_child_end(&children[i - 1]);
        daemon_stop(&daemon);
        assert_int_equal(rmdir(a), 0);
        assert_int_equal(rmdir(b), 0);
        rmdir(groups);
}

/* --- Too fast ---------------------------------------------------------------------------------------------------- */

static void quotas_connects(void **state) {
        struct ovl_entry entry = { .op = OVL_OP_CONNECT, .n_slots = 2 };
        struct ovl_record record;
        struct daemon daemon;
        struct raw *raw;
        uint64_t socket;

        quotas_start(&daemon, "[User root]\nUnlimited=no\nConnectsPerSecond=1\nConnectsBurst=3\n", "1");
        raw = raw_open(&daemon, 0);
        socket = raw_socket(raw, OVL_FAMILY_INET);
        quotas_bind(raw, socket);
        assert_ok(quotas_listen(raw, socket));
        entry.address = (struct ovl_address){ .family = OVL_FAMILY_INET, .port = quotas_port(raw, socket) };
        memcpy(entry.address.host, (uint8_t[]){ 127, 0, 0, 1 }, 4);
        for (uint64_t i = 0; i < 3; i++) {
                /* What is refused for something else costs none. */
                entry.socket = socket;
                assert_int_equal(raw_one(raw, &entry).reason, OVL_REASON_LISTENING);
                entry.socket = raw_socket(raw, OVL_FAMILY_INET);
                assert_int_equal(raw_one(raw, &entry).status, 0);
        }
        entry.socket = raw_socket(raw, OVL_FAMILY_INET);
        record = raw_one(raw, &entry);
        assert_int_equal(record.status, -ENOBUFS);
        assert_int_equal(record.reason, OVL_REASON_QUOTA);
        assert_true(record.flags & OVL_RECORD_REFUSED);
        daemon_wait_log(
                &daemon,
                "quota reached: the sessions of user 0 made more than 1 connects and lookups a second, and 3 at "
                "once: wait a moment; ConnectsPerSecond= and ConnectsBurst= below [User]");
        /* A second later there is another one. */
        while (record.status == -ENOBUFS)
                record = raw_one(raw, &entry);
        assert_int_equal(record.status, 0);
        raw_close(raw);
        daemon_stop(&daemon);
}

/* What else the monitor is asked for counts with connects. */
static void quotas_lookups(void **state) {
        const struct ovl_entry lookup = { .op = OVL_OP_RESOLVE,
                                          .n_slots = 1,
                                          .flags = OVL_ENTRY_INLINE,
                                          .other = 80,
                                          .buffer.len = 9,
                                          .aux.len = 2 * sizeof(struct ovl_address) };
        struct ovl_entry look = {
                .op = OVL_OP_IOCTL, .n_slots = 1, .flags = OVL_ENTRY_INLINE, .other = OVL_IOCTL_INTERFACE_LIST
        };
        const char name[9] = { "127.0.0.1" };
        struct ovl_record record;
        struct daemon daemon;
        struct raw *raw;

        quotas_start(&daemon, "[User root]\nUnlimited=no\nConnectsPerSecond=1\nConnectsBurst=4\n", "1");
        raw = raw_open_level(&daemon, 0, 0);
        look.socket = raw_socket(raw, OVL_FAMILY_INET);
        look.aux.len = 64 * sizeof(struct ovl_interface);
        for (int i = 0; i < 2; i++) {
                raw_post_inline(raw, &lookup, 1, name, sizeof(name));
                assert_int_equal(raw_take(raw).status, 0);
                assert_int_equal(raw_one(raw, &look).status, 0);
        }
        record = raw_one(raw, &look);
        assert_int_equal(record.status, -ENOBUFS);
        assert_int_equal(record.reason, OVL_REASON_QUOTA);
        assert_true(record.flags & OVL_RECORD_REFUSED);
        raw_post_inline(raw, &lookup, 1, name, sizeof(name));
        assert_int_equal(raw_take(raw).reason, OVL_REASON_QUOTA);
        /* What the worker knows itself is nobody's affair. */
        look.other = OVL_IOCTL_BYTES_TO_READ;
        look.aux.len = 0;
        look.flags = 0;
        assert_int_not_equal(raw_one(raw, &look).status, -ENOBUFS);
        daemon_wait_log(&daemon,
                        "quota reached: the sessions of user 0 made more than 1 connects and lookups a second");
        raw_close(raw);
        daemon_stop(&daemon);
}

/* Who asks too much is answered more slowly; nobody else is, and the worker sleeps meanwhile. */
static void quotas_requests(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Status status = OVERLAPD__STATUS__INIT;
        struct raw *raw, *other;
        struct daemon daemon;
        uint64_t since, turns;

        quotas_start(&daemon,
                     "[Daemon]\nPollMicroseconds=0\n[Session]\nRequestsPerSecond=40\nRequestsBurst=20\n"
                     "[User root]\nUnlimited=no\n",
                     "1");
        raw = raw_open(&daemon, 0);
        other = raw_open(&daemon, 0);
        assert_ok(raw_status(other));
        turns = other->reply->status_report->turns;
        since = now_ns();
        request.what_case = OVERLAPD__REQUEST__WHAT_STATUS;
        request.status = &status;
        for (int i = 0; i < 60; i++) {
                request.id = 0;
                raw_send(raw, &request, -1);
        }
        daemon_wait_log(&daemon, "quota reached: a session of user 0 made more than 40 requests a second, and 20 at "
                                 "once: nothing is lost");
        for (int i = 0; i < 10; i++)
                assert_ok(raw_status(other));
        for (int i = 0; i < 60; i++)
                assert_int_equal(raw_next(raw), RAW_REPLY);
        assert_true(now_ns() - since >= NS_PER_S * 9 / 10);
        assert_ok(raw_status(other));
        assert_true(other->reply->status_report->turns - turns < 300);
        raw_close(raw);
        raw_close(other);
        daemon_stop(&daemon);
}

/* Opens sessions until one is refused, of which there are at most n_max. Returns how many there were. */
static size_t quotas_storm(const struct daemon *daemon, struct raw **sessions, size_t n_max) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Hello hello = OVERLAPD__HELLO__INIT;
        size_t n = 0;

        hello.version_min = OVL_PROTOCOL_MIN;
        hello.version_max = OVL_PROTOCOL_MAX;
        request.what_case = OVERLAPD__REQUEST__WHAT_HELLO;
        request.hello = &hello;
        for (;;) {
                struct raw *raw = raw_connect(daemon);

                request.id = 0;
                raw_send(raw, &request, -1);
                if (raw_next(raw) == RAW_NOTICE) {
                        assert_int_equal(raw->notice->reason, OVL_REASON_BUSY);
                        assert_non_null(strstr(raw->notice->text, "user 0 opened sessions too often, and can connect"));
                        raw_expect_end(raw);
                        raw_close(raw);
                        return n;
                }
                assert_true(n < n_max);
                sessions[n++] = raw;
        }
}

static void quotas_new_sessions(void **state) {
        struct raw *sessions[40] = { 0 }, *first, *threads[60];
        struct daemon daemon;
        pid_t child;
        size_t n;

        harness_want_other_user();
        quotas_start(&daemon, "[User root]\nUnlimited=no\nSessionsPerSecond=1\nSessionsBurst=40\n", "1");
        assert_int_equal(chmod(daemon.path, 0666), 0);
        first = raw_open(&daemon, 0);
        for (size_t i = 0; i < HARNESS_N(threads); i++)
                threads[i] = raw_attach_thread(&daemon, first, 100 + i);
        n = quotas_storm(&daemon, sessions, HARNESS_N(sessions));
        assert_true(n >= 30); /* those who waited for the start connected, too */
        daemon_wait_log(&daemon,
                        "connection refused: user 0 opened sessions too often, and can connect again in 1.000 s");
        /* Nobody else is kept out. */
        child = harness_fork_other_user();
        if (child == 0) {
                raw_close(raw_open(&daemon, 0));
                _exit(0);
        }
        harness_expect_child(child);
        assert_ok(raw_status(first));
        assert_int_equal(quotas_count_log(&daemon, "connection refused"), 1);
        for (size_t i = 0; i < n; i++)
                raw_close(sessions[i]);
        for (size_t i = 0; i < HARNESS_N(threads); i++)
                raw_close(threads[i]);
        raw_close(first);
        daemon_stop(&daemon);
}

/* The threads of a program that all connect at once are not sessions, however many are under way. */
static void quotas_threads_at_once(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Attach attach = OVERLAPD__ATTACH__INIT;
        struct raw *first, *threads[60];
        struct daemon daemon;

        quotas_start(&daemon, "[User root]\nUnlimited=no\nSessionsPerSecond=1\nSessionsBurst=8\n", "1");
        first = raw_open(&daemon, 0);
        attach.session = first->session;
        attach.secret = (ProtobufCBinaryData){ .len = 16, .data = first->secret };
        attach.what_case = OVERLAPD__ATTACH__WHAT_THREAD;
        request.what_case = OVERLAPD__REQUEST__WHAT_ATTACH;
        request.attach = &attach;
        for (size_t i = 0; i < HARNESS_N(threads); i++)
                threads[i] = raw_connect(&daemon);
        for (size_t i = 0; i < HARNESS_N(threads); i++) {
                attach.thread = 100 + i;
                request.id = 0;
                raw_send(threads[i], &request, -1);
        }
        for (size_t i = 0; i < HARNESS_N(threads); i++) {
                assert_int_equal(raw_next(threads[i]), RAW_REPLY);
                assert_int_equal(threads[i]->reply->status, 0);
        }
        assert_int_equal(quotas_count_log(&daemon, "connection refused"), 0);
        for (size_t i = 0; i < HARNESS_N(threads); i++)
                raw_close(threads[i]);
        raw_close(first);
        daemon_stop(&daemon);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "sockets", quotas_sockets },
                { "regions and memory", quotas_regions_and_memory },
                { "listeners", quotas_listeners },
                { "sessions", quotas_sessions },
                { "files", quotas_files },
                { "what is the session's own", quotas_of_the_session },
                { "operations wait", quotas_operations_wait },
                { "who has ended is served", quotas_who_has_ended_is_served },
                { "held clients end", quotas_held_clients_end },
                { "held threads end", quotas_held_threads_end },
                { "accepts wait", quotas_accepts_wait },
                { "accepts of a session that is full", quotas_accepts_of_a_full_session },
                { "processes of a user", quotas_processes_of_a_user },
                { "a hog and another", quotas_a_hog_and_another },
                { "few descriptors", quotas_of_few_descriptors },
                { "units of a user", quotas_units_of_a_user },
                { "connects", quotas_connects },
                { "lookups", quotas_lookups },
                { "requests", quotas_requests },
                { "new sessions", quotas_new_sessions },
                { "threads at once", quotas_threads_at_once },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
