/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Connects to names. Each case has a network of its own, in which 127.0.0.0/8 is this machine and nothing else can be
 * reached, and a file of OVL_TEST_HOSTS instead of name servers, which it writes anew where a name is to change.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/layout.h"
#include "tests/harness/harness.h"
#include "tests/harness/netns.h"
#include "tests/harness/process.h"
#include "tests/system/client.h"
#include "tests/system/raw.h"

#define HOSTS_STALLED 3 /* connects that fill the queue of a listener */

/* A listener whose queue is full: nobody answers there. */
struct stalled {
        int fd;
        int fillers[HOSTS_STALLED];
};

static void hosts_write(const char *name, const char *text) {
        char path[128];
        FILE *file;

        snprintf(path, sizeof(path), "%s/%s", harness_directory(), name);
        file = fopen(path, "we");
        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(chmod(path, 0644), 0);
}

/* What names stand for from now on. */
static void hosts_are(const char *text) {
        char path[128];

        hosts_write("hosts", text);
        snprintf(path, sizeof(path), "%s/hosts", harness_directory());
        assert_int_equal(setenv("OVL_TEST_HOSTS", path, 1), 0);
}

static void hosts_start(struct client *client, const char *hosts) {
        netns_enter();
        hosts_are(hosts);
        client_start(client);
}

static void hosts_start_with_policy(struct client *client, const char *hosts, const char *rules) {
        char path[128];

        netns_enter();
        hosts_are(hosts);
        snprintf(path, sizeof(path), "%s/p", harness_directory());
        mkdir(path, 0755);
        hosts_write("p/rules.conf", rules);
        *client = (struct client){ 0 };
        estate_start(&client->estate, (const char *const[]){ "--policy", path, NULL });
        client_open(client, 0);
}

/* The resolver stays, so what the daemon holds is not compared with what it held before. */
static void hosts_stop(struct client *client) {
        client_close(client);
        daemon_stop(&client->estate.daemon);
}

/* A listening socket of the machine. port: 0: any; its port then. */
static int hosts_listen(int type, const char *host, uint16_t *port) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(*port) };
        socklen_t len = sizeof(address);
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1;

        assert_int_equal(inet_pton(AF_INET, host, &address.sin_addr), 1);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
        if (type == SOCK_STREAM)
                assert_int_equal(listen(fd, 16), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &len), 0);
        *port = ntohs(address.sin_port);
        return fd;
}

static void hosts_stall(struct stalled *ret_stalled, const char *host, uint16_t *port) {
        struct sockaddr_in address = { .sin_family = AF_INET };

        ret_stalled->fd = hosts_listen(SOCK_STREAM, host, port);
        assert_int_equal(listen(ret_stalled->fd, 0), 0);
        address.sin_port = htons(*port);
        assert_int_equal(inet_pton(AF_INET, host, &address.sin_addr), 1);
        for (int i = 0; i < HOSTS_STALLED; i++) {
                ret_stalled->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                assert_true(connect(ret_stalled->fillers[i], (struct sockaddr *) &address, sizeof(address)) == 0 ||
                            errno == EINPROGRESS);
        }
}

static void hosts_unstall(struct stalled *stalled) {
        close(stalled->fd);
        for (int i = 0; i < HOSTS_STALLED; i++)
                close(stalled->fillers[i]);
}

static uint64_t hosts_socket(struct client *client, int family) {
        uint64_t socket;

        assert_ok(ovl_socket_open(client->thread, family, SOCK_STREAM, &socket));
        return socket;
}

/* Posts a connect; the monitor has taken it when this returns. */
static void hosts_post(struct client *client, uint64_t socket, const char *name, uint16_t port, uint32_t timeout_ms,
                       struct ovl_overlapped *op) {
        char service[16];

        memset(op, 0, sizeof(*op));
        snprintf(service, sizeof(service), "%u", port);
        assert_int_equal(ovl_connect_name(client->thread, socket, name, service, timeout_ms, 0, op, NULL), OVL_PENDING);
        assert_ok(ovl_socket_close(client->thread, hosts_socket(client, AF_INET)));
}

static int hosts_connect(struct client *client, uint64_t socket, const char *name, uint16_t port, uint32_t timeout_ms,
                         unsigned *ret_reason) {
        struct ovl_overlapped op;
        int status;

        hosts_post(client, socket, name, port, timeout_ms, &op);
        status = client_await(client, &op);
        assert_int_equal(op.bytes, 0);
        if (ret_reason)
                *ret_reason = op.reason;
        return status;
}

/* The same from a socket of its own. */
static int hosts_try(struct client *client, int family, const char *name, uint16_t port, unsigned *ret_reason) {
        uint64_t socket = hosts_socket(client, family);
        int status = hosts_connect(client, socket, name, port, 0, ret_reason);

        assert_ok(ovl_socket_close(client->thread, socket));
        return status;
}

/*
 * The socket is connected to who is accepted here: bytes go both ways. Connects that were cancelled when their peer had
 * them already may stand before it, and are reset.
 */
static void hosts_check_pair(struct client *client, uint64_t socket, int listener_fd) {
        struct ovl_overlapped op = { 0 };
        _cleanup_fd_ int fd = -1;
        char bytes[4];
        ssize_t n;

        memcpy(client->memory, "ping", 4);
        assert_ok(client_send(client, socket, client->memory, 4, 0, &op));
        client_expect(client, &op, 0, 4);
        do {
                fd_close(fd);
                fd = accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC);
                assert_ok(fd);
                n = recv(fd, bytes, sizeof(bytes), MSG_WAITALL);
        } while (n < 0 && errno == ECONNRESET);
        assert_int_equal(n, sizeof(bytes));
        assert_memory_equal(bytes, "ping", 4);
        peer_write(fd, "pong", 4);
        assert_ok(client_recv(client, socket, client->memory, 4, 0, &op));
        client_expect(client, &op, 0, 4);
        assert_memory_equal(client->memory, "pong", 4);
}

/* --- What is reached --------------------------------------------------------------------------------------------- */

static void hosts_are_reached(void **state) {
        struct sockaddr_in peer = { 0 };
        socklen_t len = sizeof(peer);
        struct client client;
        uint16_t port = 0;
        uint64_t socket;
        int fd;

        hosts_start(&client, "db.test 127.0.0.7\n");
        fd = hosts_listen(SOCK_STREAM, "127.0.0.7", &port);
        socket = hosts_socket(&client, AF_INET);
        assert_int_equal(hosts_connect(&client, socket, "db.test", port, 0, NULL), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_getpeername(client.thread, socket, (struct sockaddr *) &peer, &len));
        assert_int_equal(ntohl(peer.sin_addr.s_addr), 0x7f000007);
        assert_int_equal(ntohs(peer.sin_port), port);
        daemon_wait_log(&client.estate.daemon, "(tcp) for db.test");
        /* It is connected, and says so. */
        assert_int_equal(hosts_connect(&client, socket, "db.test", port, 0, NULL), -EISCONN);
        assert_ok(ovl_socket_close(client.thread, socket));
        /* An address is a name, too, and needs no lookup. */
        socket = hosts_socket(&client, AF_INET);
        assert_int_equal(hosts_connect(&client, socket, "127.0.0.7", port, 0, NULL), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        close(fd);
        hosts_stop(&client);
}

static void hosts_have_several_addresses(void **state) {
        struct client client;
        uint16_t port = 0;
        uint64_t socket;
        int fd;

        hosts_start(&client, "many.test 192.0.2.1\nmany.test 127.0.0.2\nmany.test 127.0.0.3\n");
        fd = hosts_listen(SOCK_STREAM, "127.0.0.3", &port);
        /* Unreachable, refused, reached. */
        socket = hosts_socket(&client, AF_INET);
        assert_int_equal(hosts_connect(&client, socket, "many.test", port, 0, NULL), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        /* The last one says how it ended, and the socket is as before. */
        socket = hosts_socket(&client, AF_INET);
        close(fd);
        assert_int_equal(hosts_connect(&client, socket, "many.test", port, 0, NULL), -ECONNREFUSED);
        fd = hosts_listen(SOCK_STREAM, "127.0.0.3", &port);
        assert_int_equal(hosts_connect(&client, socket, "many.test", port, 0, NULL), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        close(fd);
        hosts_stop(&client);
}

static void hosts_keep_the_socket_as_it_is(void **state) {
        struct sockaddr_in local = { .sin_family = AF_INET }, bound = { 0 };
        socklen_t len = sizeof(local);
        struct client client;
        uint16_t port = 0;
        uint64_t socket;
        int fd, value;

        hosts_start(&client, "many.test 127.0.0.2\nmany.test 127.0.0.3\n");
        fd = hosts_listen(SOCK_STREAM, "127.0.0.3", &port);
        socket = hosts_socket(&client, AF_INET);
        assert_ok(ovl_setsockopt(client.thread, socket, SOL_SOCKET, SO_KEEPALIVE, 1));
        assert_int_equal(inet_pton(AF_INET, "127.0.0.9", &local.sin_addr), 1);
        local.sin_port = htons(port);
        assert_ok(ovl_bind(client.thread, socket, (struct sockaddr *) &local, sizeof(local)));
        assert_ok(ovl_getsockname(client.thread, socket, (struct sockaddr *) &bound, &len));
        assert_int_equal(hosts_connect(&client, socket, "many.test", port, 0, NULL), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_getsockname(client.thread, socket, (struct sockaddr *) &local, &len));
        assert_memory_equal(&local, &bound, sizeof(local));
        assert_ok(ovl_getsockopt(client.thread, socket, SOL_SOCKET, SO_KEEPALIVE, &value));
        assert_int_equal(value, 1);
        assert_ok(ovl_socket_close(client.thread, socket));
        close(fd);
        hosts_stop(&client);
}

static void hosts_have_families(void **state) {
        struct sockaddr_in6 peer = { 0 };
        socklen_t len = sizeof(peer);
        struct client client;
        uint16_t port = 0;
        unsigned reason;
        uint64_t socket;
        int fd;

        hosts_start(&client, "four.test 127.0.0.4\nboth.test ::1\nboth.test 127.0.0.4\nsix.test ::1\n");
        if (!netns_has_ipv6())
                harness_skip("this kernel has no IPv6");
        fd = hosts_listen(SOCK_STREAM, "127.0.0.4", &port);
        assert_int_equal(hosts_try(&client, AF_INET, "six.test", port, &reason), -ENOENT);
        assert_int_equal(reason, OVL_REASON_NAME_NOT_FOUND);
        assert_int_equal(hosts_try(&client, AF_INET, "::1", port, &reason), -ENOENT);
        assert_int_equal(reason, OVL_REASON_NAME_NOT_FOUND);
        assert_int_equal(hosts_try(&client, AF_INET6, "six.test", port, NULL), -ECONNREFUSED);
        assert_int_equal(hosts_try(&client, AF_INET, "both.test", port, NULL), 0);
        assert_int_equal(hosts_try(&client, AF_INET6, "127.0.0.4", port, NULL), 0);
        close(accept(fd, NULL, NULL));
        close(accept(fd, NULL, NULL));
        /* Nobody listens at ::1: an IPv6 socket goes on to IPv4, unless it is for IPv6 only. */
        socket = hosts_socket(&client, AF_INET6);
        assert_int_equal(hosts_connect(&client, socket, "both.test", port, 0, NULL), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_getpeername(client.thread, socket, (struct sockaddr *) &peer, &len));
        assert_true(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
        daemon_wait_log(&client.estate.daemon, "connected to 127.0.0.4:");
        assert_ok(ovl_socket_close(client.thread, socket));
        socket = hosts_socket(&client, AF_INET6);
        assert_ok(ovl_setsockopt(client.thread, socket, IPPROTO_IPV6, IPV6_V6ONLY, 1));
        assert_int_equal(hosts_connect(&client, socket, "both.test", port, 0, NULL), -ECONNREFUSED);
        assert_int_equal(hosts_connect(&client, socket, "four.test", port, 0, &reason), -ENOENT);
        assert_ok(ovl_socket_close(client.thread, socket));
        close(fd);
        hosts_stop(&client);
}

static void hosts_have_services(void **state) {
        struct ovl_overlapped op = { 0 };
        struct client client;
        uint16_t port = 80;
        uint64_t socket;
        int fd;

        if (access("/etc/services", R_OK) < 0)
                harness_skip("this machine knows no services");
        hosts_start(&client, "web.test 127.0.0.8\n");
        fd = hosts_listen(SOCK_STREAM, "127.0.0.8", &port);
        socket = hosts_socket(&client, AF_INET);
        assert_ok(ovl_connect_name(client.thread, socket, "web.test", "nothing-like-it", 0, 0, &op, NULL));
        assert_int_equal(client_await(&client, &op), -ENOENT);
        assert_int_equal(op.reason, OVL_REASON_UNKNOWN_SERVICE);
        assert_ok(ovl_connect_name(client.thread, socket, "web.test", "http", 0, 0, &op, NULL));
        assert_int_equal(client_await(&client, &op), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        socket = hosts_socket(&client, AF_INET);
        assert_ok(ovl_connect_name(client.thread, socket, "127.0.0.8", "http", 0, 0, &op, NULL));
        assert_int_equal(client_await(&client, &op), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        close(fd);
        hosts_stop(&client);
}

static void hosts_get_datagrams(void **state) {
        struct ovl_overlapped op = { 0 };
        struct client client;
        uint16_t port = 0;
        uint64_t socket;
        char bytes[8];
        int fd;

        hosts_start(&client, "log.test 192.0.2.1\nlog.test 127.0.0.6\nfar.test 192.0.2.1\n");
        fd = hosts_listen(SOCK_DGRAM, "127.0.0.6", &port);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &socket));
        assert_int_equal(hosts_connect(&client, socket, "log.test", port, 0, NULL), 0);
        /* One that fails leaves the peer as it was. */
        assert_int_equal(hosts_connect(&client, socket, "far.test", port, 0, NULL), -ENETUNREACH);
        memcpy(client.memory, "log", 3);
        assert_ok(client_send(&client, socket, client.memory, 3, 0, &op));
        client_expect(&client, &op, 0, 3);
        assert_int_equal(recv(fd, bytes, sizeof(bytes), 0), 3);
        assert_ok(ovl_socket_close(client.thread, socket));
        close(fd);
        hosts_stop(&client);
}

/* Without a structure the call waits, and returns how it ended. */
static void hosts_are_reached_synchronously(void **state) {
        struct client client;
        uint16_t port = 0;
        char service[16];
        uint64_t socket;
        int fd;

        hosts_start(&client, "db.test 127.0.0.7\nnone.test !failed\n");
        fd = hosts_listen(SOCK_STREAM, "127.0.0.7", &port);
        snprintf(service, sizeof(service), "%u", port);
        socket = hosts_socket(&client, AF_INET);
        assert_int_equal(ovl_connect_name(client.thread, socket, "none.test", service, 0, 0, NULL, NULL), -EIO);
        assert_int_equal(ovl_thread_error(client.thread)->reason, OVL_REASON_NAME_FAILED);
        assert_int_equal(ovl_connect_name(client.thread, socket, "db.test", service, 0, 0, NULL, NULL), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        close(fd);
        hosts_stop(&client);
}

/* --- What is not ------------------------------------------------------------------------------------------------- */

static void hosts_are_not_found(void **state) {
        static const struct {
                const char *name, *service;
        } none[] = { { "", "1" },      { "two words", "1" }, { "a.test", "" }, { "a.test", "0" },
                     { "a", "65536" }, { "a", "two words" }, { "a", "http:" } };
        struct ovl_overlapped op = { 0 };
        struct client client;
        unsigned reason;
        uint64_t socket;

        hosts_start(&client, "again.test !again\nfailed.test !failed\nsix.test ::1\n");
        assert_int_equal(hosts_try(&client, AF_INET, "again.test", 1, &reason), -EAGAIN);
        assert_int_equal(reason, OVL_REASON_NAME_TRY_AGAIN);
        assert_int_equal(hosts_try(&client, AF_INET, "failed.test", 1, &reason), -EIO);
        assert_int_equal(reason, OVL_REASON_NAME_FAILED);
        assert_int_equal(hosts_try(&client, AF_INET, "six.test", 1, &reason), -ENOENT);
        assert_int_equal(reason, OVL_REASON_NAME_NOT_FOUND);
        socket = hosts_socket(&client, AF_INET);
        for (size_t i = 0; i < HARNESS_N(none); i++) {
                assert_int_equal(
                        ovl_connect_name(client.thread, socket, none[i].name, none[i].service, 0, 0, &op, NULL),
                        -EINVAL);
                assert_int_equal(ovl_thread_error(client.thread)->reason, OVL_REASON_BAD_NAME);
        }
        assert_ok(ovl_socket_close(client.thread, socket));
        assert_ok(ovl_socket_open(client.thread, AF_UNIX, SOCK_STREAM, &socket));
        assert_int_equal(hosts_connect(&client, socket, "a.test", 1, 0, &reason), -EOPNOTSUPP);
        assert_int_equal(reason, OVL_REASON_OP_NOT_FOR_SOCKET);
        assert_ok(ovl_socket_close(client.thread, socket));
        hosts_stop(&client);
}

/* What no library posts. */
static void hosts_in_bad_entries(void **state) {
        static const struct {
                struct ovl_entry entry;
                int status;
                unsigned reason;
        } bad[] = {
                { { .buffer = { 0, 4, 1 }, .other = 80, .op_flags = 2 }, -EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS },
                { { .buffer = { 0, 4, 1 }, .other = 80, .flags = OVL_ENTRY_VECTOR },
                  -EOPNOTSUPP,
                  OVL_REASON_UNKNOWN_FLAGS },
                { { .buffer = { 0, 4, 1 }, .other = 80, .indication = 9 }, -EINVAL, OVL_REASON_BAD_INDICATION },
                { { .buffer = { 0, 4, 1 }, .other = 80, .aux = { 512, 116, 1 } }, -EINVAL, OVL_REASON_RESERVED_BITS },
                { { .buffer = { 0, 4, 1 }, .other = 80 | 1 << 16 }, -EINVAL, OVL_REASON_RESERVED_BITS },
                { { .buffer = { 0, 4, 1 } }, -EINVAL, OVL_REASON_BAD_ADDRESS },           /* no port, and no service */
                { { .buffer = { 0, 5, 1 } }, -EINVAL, OVL_REASON_BAD_NAME },              /* an empty service */
                { { .buffer = { 0, 9, 1 }, .other = 80 }, -EINVAL, OVL_REASON_BAD_NAME }, /* a port and a service */
                { { .buffer = { 0, 11, 1 } }, -EINVAL, OVL_REASON_BAD_NAME }, /* a service with a NUL byte */
                { { .buffer = { 4, 5, 1 } }, -EINVAL, OVL_REASON_BAD_NAME },  /* a service without a name */
                { { .buffer = { 1024, 254, 1 }, .other = 80 }, -EINVAL, OVL_REASON_BAD_NAME },
                { { .buffer = { 1024, 318, 1 } }, -EINVAL, OVL_REASON_BAD_NAME },
                { { .buffer = { 1024, 0, 1 }, .other = 80 }, -EINVAL, OVL_REASON_BAD_NAME },
                { { .buffer = { 4093, 4, 1 }, .other = 80 }, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { { .buffer = { 0, 4, 2 }, .other = 80 }, -EFAULT, OVL_REASON_UNKNOWN_REGION },
        };
        _cleanup_fd_ int memory_fd = raw_memfd(4096);
        struct estate estate;
        uint64_t sockets[2];
        struct raw *raw;
        char many[400];

        estate_start(&estate, NULL);
        raw = raw_open(&estate.daemon, 0);
        memset(many, 'a', sizeof(many));
        assert_int_equal(pwrite(memory_fd, "a.bc\0http\0x", 11, 0), 11);
        assert_int_equal(pwrite(memory_fd, many, sizeof(many), 1024), sizeof(many));
        assert_int_equal(raw_region_add(raw, memory_fd, 4096), 1);
        sockets[0] = raw_socket(raw, OVL_FAMILY_INET);
        sockets[1] = raw_socket(raw, OVL_FAMILY_UNIX);
        for (size_t i = 0; i < HARNESS_N(bad); i++) {
                struct ovl_entry entry = bad[i].entry;
                struct ovl_record record;

                entry.tag = i;
                entry.socket = sockets[0];
                entry.op = OVL_OP_CONNECT_NAME;
                entry.n_slots = 1;
                record = raw_one(raw, &entry);
                assert_int_equal(record.tag, i);
                if (record.status != bad[i].status || record.reason != bad[i].reason)
                        fail_msg("entry %zu: status %d and reason %u", i, record.status, record.reason);
                assert_true(record.flags & OVL_RECORD_REFUSED);
                entry.socket = sockets[1];
                record = raw_one(raw, &entry);
                assert_true(record.status < 0 && (record.flags & OVL_RECORD_REFUSED));
        }
        assert_int_equal(raw_socket_close(raw, sockets[0]), 0);
        assert_int_equal(raw_socket_close(raw, sockets[1]), 0);
        raw_close(raw);
        estate_stop(&estate);
}

/* --- Ends -------------------------------------------------------------------------------------------------------- */

/* In each phase: while the name is looked up, at an address, and at one that follows another. */
static void hosts_end_in_each_phase(void **state) {
        static const char *const names[] = { "hang.test", "127.0.0.5", "many.test" };
        struct stalled stalled;
        struct client client;
        uint16_t port = 0;
        char said[64];
        int fd;

        hosts_start(&client, "hang.test !hang\nmany.test 127.0.0.2\nmany.test 127.0.0.5\nmany.test 127.0.0.6\n"
                             "db.test 127.0.0.7\n");
        hosts_stall(&stalled, "127.0.0.5", &port);
        fd = hosts_listen(SOCK_STREAM, "127.0.0.7", &port);
        snprintf(said, sizeof(said), "connect to 127.0.0.2:%u: Connection refused", port);
        for (size_t i = 0; i < HARNESS_N(names); i++) {
                uint64_t cancelled = hosts_socket(&client, AF_INET), closed = hosts_socket(&client, AF_INET);
                struct ovl_overlapped cancelling, closing;

                hosts_post(&client, cancelled, names[i], port, 0, &cancelling);
                hosts_post(&client, closed, names[i], port, 0, &closing);
                if (i == 2)
                        daemon_wait_log(&client.estate.daemon, said);
                assert_int_equal(ovl_result(&cancelling), -EINPROGRESS);
                assert_int_equal(ovl_result(&closing), -EINPROGRESS);
                /* One connect at a time. */
                assert_int_equal(hosts_connect(&client, cancelled, "db.test", port, 0, NULL), -EALREADY);
                assert_int_equal(ovl_cancel(client.thread, cancelled, &cancelling), 1);
                assert_int_equal(ovl_result(&cancelling), -ECANCELED);
                assert_int_equal(cancelling.reason, OVL_REASON_CANCELLED);
                assert_ok(ovl_socket_close(client.thread, closed));
                assert_int_equal(client_await(&client, &closing), -ECANCELED);
                assert_int_equal(closing.reason, OVL_REASON_CLOSED);
                /* It can be connected again. */
                assert_int_equal(hosts_connect(&client, cancelled, "db.test", port, 0, NULL), 0);
                hosts_check_pair(&client, cancelled, fd);
                assert_ok(ovl_socket_close(client.thread, cancelled));
        }
        hosts_unstall(&stalled);
        close(fd);
        hosts_stop(&client);
}

/* The time that the client gave, in each phase; and an address that does not answer leaves time for the next. */
static void hosts_have_a_time(void **state) {
        struct ovl_overlapped op = { 0 };
        uint64_t since_ns, socket;
        struct stalled stalled;
        struct client client;
        uint16_t port = 0;
        int fd;

        hosts_start(&client, "hang.test !hang\nmany.test 127.0.0.5\nmany.test 127.0.0.7\nslow.test 127.0.0.5\n");
        hosts_stall(&stalled, "127.0.0.5", &port);
        fd = hosts_listen(SOCK_STREAM, "127.0.0.7", &port);
        socket = hosts_socket(&client, AF_INET);
        since_ns = now_ns();
        assert_int_equal(hosts_connect(&client, socket, "hang.test", port, 200, NULL), -ETIMEDOUT);
        assert_true(now_ns() - since_ns >= 190 * NS_PER_MS);
        since_ns = now_ns();
        assert_int_equal(hosts_connect(&client, socket, "slow.test", port, 200, NULL), -ETIMEDOUT);
        assert_true(now_ns() - since_ns >= 190 * NS_PER_MS && now_ns() - since_ns < 30 * NS_PER_S);
        /* The socket has nothing to say of that. */
        assert_ok(ovl_poll(client.thread, socket, 0, 0, &op, NULL));
        assert_int_equal(client_await(&client, &op), 0);
        assert_int_equal(op.value & (POLLERR | POLLHUP), POLLHUP);
        since_ns = now_ns();
        assert_int_equal(hosts_connect(&client, socket, "many.test", port, 1000, NULL), 0);
        assert_true(now_ns() - since_ns < 30 * NS_PER_S);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        hosts_unstall(&stalled);
        close(fd);
        hosts_stop(&client);
}

/* Without a time of the client's an address that does not answer is given up, too, unless it is the last. */
static void hosts_that_do_not_answer_are_passed_over(void **state) {
        struct ovl_overlapped op;
        struct stalled stalled;
        struct client client;
        uint16_t port = 0;
        uint64_t socket;
        char said[128];
        int fd;

        assert_int_equal(setenv("OVL_TEST_ATTEMPT_MS", "100", 1), 0);
        hosts_start(&client, "many.test 127.0.0.5\nmany.test 127.0.0.7\nslow.test 127.0.0.5\nslow.test 127.0.0.5\n");
        hosts_stall(&stalled, "127.0.0.5", &port);
        fd = hosts_listen(SOCK_STREAM, "127.0.0.7", &port);
        socket = hosts_socket(&client, AF_INET);
        assert_int_equal(hosts_connect(&client, socket, "many.test", port, 0, NULL), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        socket = hosts_socket(&client, AF_INET);
        hosts_post(&client, socket, "slow.test", port, 0, &op);
        snprintf(said, sizeof(said), "connect to 127.0.0.5:%u: Connection timed out: no answer from there in time",
                 port);
        daemon_wait_log(&client.estate.daemon, said);
        assert_int_equal(ovl_result(&op), -EINPROGRESS);
        assert_ok(ovl_socket_close(client.thread, socket));
        assert_int_equal(client_await(&client, &op), -ECANCELED);
        hosts_unstall(&stalled);
        close(fd);
        hosts_stop(&client);
}

/* The daemon's child that is not its worker. */
static pid_t hosts_resolver(const struct client *client) {
        pid_t pids[4];
        size_t n = process_children(client->estate.daemon.monitor, pids, HARNESS_N(pids));

        assert_int_equal(n, 2);
        return pids[0] == client->estate.worker ? pids[1] : pids[0];
}

static void hosts_kill(pid_t pid) {
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_ok(process_wait_end(pid, harness_deadline(10)));
}

/* Whoever dies: the client, and then nothing of its connects is left; the resolver; or the worker. */
static void hosts_end_with_others(void **state) {
        struct ovl_overlapped ops[4];
        struct stalled stalled;
        struct client client;
        uint16_t port = 0;
        uint64_t socket;
        pid_t resolver;

        hosts_start(&client, "hang.test !hang\nslow.test 127.0.0.5\n");
        hosts_stall(&stalled, "127.0.0.5", &port);
        for (size_t i = 0; i < HARNESS_N(ops); i++)
                hosts_post(&client, hosts_socket(&client, AF_INET), i % 2 ? "hang.test" : "127.0.0.5", port, 0,
                           &ops[i]);
        client_close(&client);
        client_open(&client, 0);
        socket = hosts_socket(&client, AF_INET);
        hosts_post(&client, socket, "hang.test", port, 0, &ops[0]);
        hosts_kill(hosts_resolver(&client));
        assert_int_equal(client_await(&client, &ops[0]), -EAGAIN);
        assert_int_equal(ops[0].reason, OVL_REASON_NAME_TRY_AGAIN);
        assert_ok(ovl_socket_close(client.thread, socket));
        for (size_t i = 0; i < HARNESS_N(ops); i++)
                hosts_post(&client, hosts_socket(&client, AF_INET), i % 2 ? "hang.test" : "127.0.0.5", port, 0,
                           &ops[i]);
        resolver = hosts_resolver(&client);
        hosts_kill(client.estate.worker);
        for (size_t i = 0; i < HARNESS_N(ops); i++)
                assert_int_equal(client_await(&client, &ops[i]), -ECONNABORTED);
        assert_int_equal(ovl_region_close(client.thread, client.region), -ECONNABORTED);
        client.thread = ovl_thread_close(client.thread);
        client.session = ovl_session_free(client.session);
        hosts_kill(resolver);
        client.estate.worker = daemon_worker(&client.estate.daemon);
        client_open(&client, 0);
        hosts_unstall(&stalled);
        assert_int_equal(hosts_try(&client, AF_INET, "127.0.0.5", port, NULL), -ECONNREFUSED);
        daemon_wait_fds(client.estate.daemon.monitor, client.estate.n_monitor_fds);
        hosts_stop(&client);
}

/* Cancels that come at any moment: each connect has one end, and a socket that is not connected can be again. */
static void hosts_end_once(void **state) {
        enum {
                ROUNDS = 300
        };
        unsigned seed = 5, n_ends[2] = { 0 };
        struct client client;
        uint16_t port = 0;
        int fd;

        hosts_start(&client, "many.test 127.0.0.2\nmany.test 192.0.2.1\nmany.test 127.0.0.3\nmany.test 127.0.0.7\n");
        fd = hosts_listen(SOCK_STREAM, "127.0.0.7", &port);
        for (unsigned i = 0; i < ROUNDS; i++) {
                uint64_t socket = hosts_socket(&client, AF_INET);
                struct ovl_overlapped op = { 0 };
                char service[16];
                int r;

                snprintf(service, sizeof(service), "%u", port);
                assert_ok(ovl_connect_name(client.thread, socket, "many.test", service, 0, 0, &op, NULL));
                for (int n = rand_r(&seed) % 3000; n > 0; n--)
                        ovl_result(&op);
                r = ovl_cancel(client.thread, socket, &op);
                assert_true(r == 1 || r == 0 || r == -ENOENT);
                r = client_await(&client, &op);
                assert_true(r == 0 || r == -ECANCELED);
                n_ends[r == 0]++;
                if (r < 0)
                        assert_int_equal(hosts_connect(&client, socket, "127.0.0.7", port, 0, NULL), 0);
                hosts_check_pair(&client, socket, fd);
                assert_ok(ovl_socket_close(client.thread, socket));
        }
        assert_int_equal(n_ends[0] + n_ends[1], ROUNDS);
        assert_true(n_ends[0] > 0);
        close(fd);
        hosts_stop(&client);
}

/* --- The policy -------------------------------------------------------------------------------------------------- */

static void hosts_expect_denied(struct client *client, const char *name, uint16_t port, const char *text) {
        const char *said;
        unsigned reason;

        assert_int_equal(hosts_try(client, AF_INET, name, port, &reason), -EACCES);
        assert_int_equal(reason, OVL_REASON_DENIED);
        assert_int_equal(ovl_thread_denied(client->thread), -EACCES);
        said = ovl_thread_error(client->thread)->text;
        if (!strstr(said, text))
                fail_msg("expected '%s' in '%s'", text, said);
}

static void hosts_need_a_rule(void **state) {
        struct client client;
        uint16_t port = 5432;
        uint64_t socket;
        int fd;

        hosts_start_with_policy(
                &client,
                "db.test 192.0.2.4\nDB.test 192.0.2.4\nother.test 192.0.2.4\nnet.test 127.0.0.3\nbad.test 127.0.0.9\n",
                "[deny bad]\nUser=*\nAction=connect\nTo=127.0.0.9\n"
                "[allow db]\nUser=*\nAction=connect\nTo=db.test *.db.test\nPort=5432\n"
                "[allow ask]\nUser=*\nAction=resolve\nTo=net.test bad.test\n"
                "[allow near]\nUser=*\nAction=connect\nTo=127.0.0.0/8\nPort=5432\n");
        /* What the name stands for is allowed, by name: it only cannot be reached. */
        assert_int_equal(hosts_try(&client, AF_INET, "db.test", 5432, NULL), -ENETUNREACH);
        assert_int_equal(hosts_try(&client, AF_INET, "DB.test", 5432, NULL), -ENETUNREACH);
        hosts_expect_denied(&client, "db.test", 5433,
                            "the policy does not allow this: no rule allows it (db.test is 192.0.2.4:5433)");
        daemon_wait_log(&client.estate.daemon,
                        "192.0.2.4:5433 for db.test: the policy does not allow this: no rule allows it");
        /* A name that it may not have resolved is not resolved. */
        hosts_expect_denied(&client, "other.test", 5432, "the policy does not allow this: no rule allows it");
        daemon_wait_log(&client.estate.daemon, "connect to other.test: the policy does not allow this: no rule");
        /* A rule about the address is as good, and names are decided by the address that they stand for. */
        fd = hosts_listen(SOCK_STREAM, "127.0.0.3", &port);
        socket = hosts_socket(&client, AF_INET);
        assert_int_equal(hosts_connect(&client, socket, "net.test", port, 0, NULL), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        hosts_expect_denied(&client, "bad.test", port, "rules.conf:1: [deny bad] (bad.test is 127.0.0.9:5432)");
        /* An address as one writes it is no name. */
        hosts_expect_denied(&client, "127.0.0.9", port, "rules.conf:1: [deny bad]");
        close(fd);
        hosts_stop(&client);
}

/*
 * What a name server says is no reason to trust: a name that stands for something near now, whatever it stood for a
 * moment before, opens nothing by being a name.
 */
static void hosts_that_change_open_nothing(void **state) {
        static const char *const near[] = { "127.0.0.1", "169.254.169.254", "192.0.2.9",
                                            "0.0.0.0",   "224.0.0.1",       "100.100.100.200" };
        struct client client;
        uint16_t port = 5432;
        char text[256];
        int fd;

        hosts_start_with_policy(&client, "db.test 192.0.2.4\n",
                                "[allow db]\nUser=*\nAction=connect\nTo=db.test\nPort=5432\n"
                                "[allow any]\nUser=*\nAction=connect\nTo=any\nPort=5432\n");
        netns_add_address("192.0.2.9");
        fd = hosts_listen(SOCK_STREAM, "0.0.0.0", &port);
        assert_int_equal(hosts_try(&client, AF_INET, "db.test", port, NULL), -ENETUNREACH);
        for (size_t i = 0; i < HARNESS_N(near); i++) {
                snprintf(text, sizeof(text), "db.test %s\n", near[i]);
                hosts_are(text);
                snprintf(text, sizeof(text), "no rule allows it (db.test is %s:5432)", near[i]);
                hosts_expect_denied(&client, "db.test", port, text);
                /* Nor does it by standing for something harmless, too: that one is tried, and no other. */
                snprintf(text, sizeof(text), "db.test %s\ndb.test 192.0.2.4\n", near[i]);
                hosts_are(text);
                assert_int_equal(hosts_try(&client, AF_INET, "db.test", port, NULL), -ENETUNREACH);
                snprintf(text, sizeof(text), "db.test 192.0.2.4\ndb.test %s\n", near[i]);
                hosts_are(text);
                assert_int_equal(hosts_try(&client, AF_INET, "db.test", port, NULL), -ENETUNREACH);
        }
        hosts_stop(&client);
        /* Nobody came. */
        assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        assert_int_equal(accept(fd, NULL, NULL), -1);
        close(fd);
}

/* Rules that were changed while the name was looked up count as they are when the address is known. */
static void hosts_are_decided_late(void **state) {
        struct ovl_overlapped op;
        struct client client;
        uint16_t port = 5432;
        uint64_t socket;
        pid_t resolver;
        int fd;

        hosts_start_with_policy(&client, "db.test 127.0.0.1\n",
                                "[allow db]\nUser=*\nAction=connect\nTo=localhost db.test\nPort=5432\n");
        fd = hosts_listen(SOCK_STREAM, "127.0.0.1", &port);
        socket = hosts_socket(&client, AF_INET);
        assert_int_equal(hosts_connect(&client, socket, "db.test", port, 0, NULL), 0);
        hosts_check_pair(&client, socket, fd);
        assert_ok(ovl_socket_close(client.thread, socket));
        resolver = hosts_resolver(&client);
        assert_ok(process_stop(resolver, harness_deadline(10)));
        socket = hosts_socket(&client, AF_INET);
        hosts_post(&client, socket, "db.test", port, 0, &op);
        hosts_write("p/rules.conf", "[deny db]\nUser=*\nAction=connect\nTo=localhost\n");
        assert_int_equal(kill(client.estate.daemon.monitor, SIGHUP), 0);
        daemon_wait_log(&client.estate.daemon, "reloaded: policy: 1 rules");
        assert_int_equal(kill(resolver, SIGCONT), 0);
        assert_int_equal(client_await(&client, &op), -EACCES);
        assert_int_equal(ovl_thread_denied(client.thread), -EACCES);
        assert_non_null(strstr(ovl_thread_error(client.thread)->text, "[deny db]"));
        assert_ok(ovl_socket_close(client.thread, socket));
        close(fd);
        hosts_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "a name is reached", hosts_are_reached },
                { "addresses are tried one after the other", hosts_have_several_addresses },
                { "attempts leave the socket as it is", hosts_keep_the_socket_as_it_is },
                { "a socket has the addresses of its family", hosts_have_families },
                { "services have ports", hosts_have_services },
                { "datagrams have a peer by name", hosts_get_datagrams },
                { "a synchronous call reaches a name", hosts_are_reached_synchronously },
                { "what is not found has a reason", hosts_are_not_found },
                { "malformed entries are refused", hosts_in_bad_entries },
                { "connects are cancelled and closed in each phase", hosts_end_in_each_phase },
                { "connects have a time", hosts_have_a_time },
                { "addresses that do not answer are passed over", hosts_that_do_not_answer_are_passed_over },
                { "connects end with their client, the resolver and the worker", hosts_end_with_others },
                { "connects that are cancelled at any moment end once", hosts_end_once, 120 },
                { "names need a rule", hosts_need_a_rule },
                { "names that change open nothing", hosts_that_change_open_nothing },
                { "the rules of the moment decide about an address", hosts_are_decided_late },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
