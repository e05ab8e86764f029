/* SPDX-License-Identifier: Apache-2.0 */

/* Opening sessions and threads, and every way in which that can fail; requests and their errors. */

#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/client/fake.h"

/* Opens a session that cannot be opened. */
static struct ovl_error session_fail(const char *path, int status) {
        struct ovl_session_options options = { .path = path };
        struct ovl_session *session = NULL;
        struct ovl_error error = { 0 };

        assert_int_equal(ovl_session_open(&options, &session, &error), status);
        assert_null(session);
        assert_int_equal(error.status, status);
        assert_true(strlen(error.text) > 10);
        assert_int_equal(ovl_session_open(&options, &session, NULL), status);
        return error;
}

static void session_info(void **state) {
        struct fake fake = { .credits = 100 };
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_session_info info;

        fake_start(&fake);
        fake_open(&fake, &session, &thread, 0, NULL);
        ovl_session_info(session, &info);
        assert_int_equal(info.session, 77);
        assert_int_equal(info.credits, 100);
        assert_int_equal(info.level, 1);
        assert_string_equal(info.engine, "fake");
        assert_string_equal(info.engine_reason, "for tests");
        assert_int_equal(ovl_thread_number(thread), 1);
        assert_null(ovl_thread_close(thread));
        assert_null(ovl_session_free(session));
        assert_null(ovl_thread_close(NULL));
        assert_null(ovl_session_free(NULL));
        assert_null(ovl_port_close(NULL));
        fake_stop(&fake);
}

static void session_long_path(void **state) {
        char path[109];
        struct ovl_error error;

        memset(path, 'x', sizeof(path) - 1);
        path[108] = '\0';
        error = session_fail(path, -ENAMETOOLONG);
        assert_non_null(strstr(error.text, "108"));
        assert_non_null(strstr(error.text, "107"));
}

static void session_no_daemon(void **state) {
        char path[108];
        struct ovl_error error;

        snprintf(path, sizeof(path), "%s/nobody", harness_directory());
        error = session_fail(path, -ENOENT);
        assert_non_null(strstr(error.text, path));
        assert_non_null(strstr(error.text, "overlapd --private"));
}

static void session_dead_socket(void **state) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(address.sun_path, sizeof(address.sun_path), "%s/dead", harness_directory());
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        session_fail(address.sun_path, -ECONNREFUSED);
        close(fd);
}

static void session_environment(void **state) {
        struct fake fake = { 0 };
        struct ovl_session *session;

        fake_start(&fake);
        setenv("OVERLAPD_SOCKET", fake.path, 1);
        assert_ok(ovl_session_open(NULL, &session, NULL));
        ovl_session_free(session);
        fake_stop(&fake);
}

static void session_hello_refused(void **state) {
        struct fake fake = {
                .refuse = OVERLAPD__REQUEST__WHAT_HELLO,
                .refuse_status = -EPROTONOSUPPORT,
                .refuse_reason = OVL_REASON_VERSION,
                .refuse_text = "this daemon speaks 2 to 3: upgrade\x1b[31m",
        };
        struct ovl_error error;

        fake_start(&fake);
        error = session_fail(fake.path, -EPROTONOSUPPORT);
        assert_int_equal(error.reason, OVL_REASON_VERSION);
        assert_non_null(strstr(error.text, "this daemon speaks 2 to 3: upgrade?[31m"));
        fake_stop(&fake);
}

static void session_hello_hang_up(void **state) {
        struct fake fake = { .hang_up = OVERLAPD__REQUEST__WHAT_HELLO };
        struct ovl_error error;

        fake_start(&fake);
        session_fail(fake.path, -ECONNABORTED);
        fake_stop(&fake);

        fake = (struct fake){ .hang_up = OVERLAPD__REQUEST__WHAT_HELLO, .notice = "too many connections" };
        unlink(fake.path);
        snprintf(fake.path, sizeof(fake.path), "%s/s", harness_directory());
        unlink(fake.path);
        fake_start(&fake);
        error = session_fail(fake.path, -EBUSY);
        assert_int_equal(error.reason, OVL_REASON_BUSY);
        assert_non_null(strstr(error.text, "too many connections"));
        fake_stop(&fake);
}

static void session_hello_garbage(void **state) {
        struct fake fake = { .misanswer = OVERLAPD__REQUEST__WHAT_HELLO };

        fake_start(&fake);
        session_fail(fake.path, -ECONNABORTED);
        fake_stop(&fake);
}

static void session_threads(void **state) {
        struct fake fake = { 0 };
        struct ovl_session *session;
        struct ovl_thread *first, *second;

        fake_start(&fake);
        fake_open(&fake, &session, &first, 0, NULL);
        assert_ok(ovl_thread_open(session, &second, NULL));
        assert_int_equal(fake.n_connections, 2);
        assert_int_not_equal(ovl_thread_number(first), ovl_thread_number(second));
        /* The first channel is the session's: it outlives its thread, and the next thread gets it. */
        ovl_thread_close(first);
        assert_false(fake_has_ended(&fake, 0));
        assert_ok(ovl_thread_open(session, &first, NULL));
        assert_int_equal(fake.n_connections, 2);
        assert_int_equal(ovl_thread_number(first), 1);
        ovl_thread_close(second);
        ovl_thread_close(first);
        ovl_session_free(session);
        fake_stop(&fake);
}

static void session_attach_refused(void **state) {
        struct fake fake = {
                .refuse = OVERLAPD__REQUEST__WHAT_ATTACH,
                .refuse_status = -EBUSY,
                .refuse_text = "enough threads",
        };
        struct ovl_session *session;
        struct ovl_thread *first, *second = NULL;
        struct ovl_error error;
        uint64_t socket;

        fake_start(&fake);
        fake_open(&fake, &session, &first, 0, NULL);
        assert_int_equal(ovl_thread_open(session, &second, &error), -EBUSY);
        assert_null(second);
        assert_non_null(strstr(error.text, "enough threads"));
        fake_set(&fake, &fake.refuse, OVERLAPD__REQUEST__WHAT__NOT_SET);
        fake_set(&fake, &fake.hang_up, OVERLAPD__REQUEST__WHAT_ATTACH);
        assert_int_equal(ovl_thread_open(session, &second, &error), -ECONNABORTED);
        /* The session itself is well. */
        assert_ok(ovl_socket_open(first, AF_INET, SOCK_STREAM, &socket));
        ovl_thread_close(first);
        ovl_session_free(session);
        fake_stop(&fake);
}

/* A descriptor that the kernel passes to nobody fails the call, and not the session. */
static void session_unpassable(void **state) {
        struct io_uring_params parameters = { 0 };
        struct fake fake = { 0 };
        struct ovl_session *session;
        struct ovl_thread *thread;
        uint64_t socket;
        int ring;

        fake_start(&fake);
        fake_open(&fake, &session, &thread, 0, NULL);
        assert_int_equal(ovl_socket_adopt(thread, -1, &socket), -EBADF);
        assert_int_equal(ovl_socket_adopt(thread, 1 << 20, &socket), -EBADF);
        /* Rings are such; where there are none, nothing is left to be shown. */
        ring = (int) syscall(SYS_io_uring_setup, 4, &parameters);
        if (ring >= 0) {
                assert_int_equal(ovl_socket_adopt(thread, ring, &socket), -EINVAL);
                assert_non_null(strstr(ovl_thread_error(thread)->text, "cannot be passed"));
                close(ring);
        }
        assert_ok(ovl_socket_open(thread, AF_INET, SOCK_STREAM, &socket));
        ovl_thread_close(thread);
        ovl_session_free(session);
        fake_stop(&fake);
}

static void session_requests(void **state) {
        struct fake fake = { 0 };
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct sockaddr_in address = { .sin_family = AF_INET };
        struct sockaddr_in name;
        socklen_t len = sizeof(name);
        struct ovl_status status;
        uint64_t socket;
        int value;

        fake_start(&fake);
        fake_open(&fake, &session, &thread, 0, NULL);
        assert_ok(ovl_socket_open(thread, AF_INET, SOCK_STREAM, &socket));
        assert_int_equal(socket, FAKE_SOCKETS + 1);
        assert_ok(ovl_bind(thread, socket, (struct sockaddr *) &address, sizeof(address)));
        assert_ok(ovl_listen(thread, socket, 5));
        assert_ok(ovl_getsockname(thread, socket, (struct sockaddr *) &name, &len));
        assert_int_equal(len, sizeof(name));
        assert_int_equal(name.sin_port, htons(4711));
        assert_int_equal(name.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
        assert_ok(ovl_setsockopt(thread, socket, SOL_SOCKET, SO_REUSEADDR, 1));
        assert_ok(ovl_getsockopt(thread, socket, SOL_SOCKET, SO_RCVBUF, &value));
        assert_int_equal(value, 42);
        assert_int_equal(ovl_setsockopt(thread, socket, SOL_SOCKET, SO_MARK, 1), -ENOPROTOOPT);
        assert_ok(ovl_shutdown(thread, socket, SHUT_WR));
        assert_int_equal(ovl_shutdown(thread, socket, 17), -EINVAL);
        assert_int_equal(ovl_socket_open(thread, AF_NETLINK, SOCK_STREAM, &socket), -EAFNOSUPPORT);
        assert_int_equal(ovl_bind(thread, socket, (struct sockaddr *) &address, 3), -EINVAL);
        assert_ok(ovl_status(thread, &status));
        assert_ok(ovl_socket_close(thread, socket));
        fake.refuse_status = -EADDRINUSE;
        fake.refuse_text = "127.0.0.1:80 is in use";
        fake_set(&fake, &fake.refuse, OVERLAPD__REQUEST__WHAT_SOCKET_BIND);
        assert_int_equal(ovl_bind(thread, socket, (struct sockaddr *) &address, sizeof(address)), -EADDRINUSE);
        assert_int_equal(ovl_thread_error(thread)->status, -EADDRINUSE);
        assert_non_null(strstr(ovl_thread_error(thread)->text, "ovl_bind: 127.0.0.1:80 is in use"));
        ovl_thread_close(thread);
        ovl_session_free(session);
        fake_stop(&fake);
}

static void session_regions(void **state) {
        struct fake fake = { 0 };
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;

        fake_start(&fake);
        fake_open(&fake, &session, &thread, 5000, &region);
        assert_int_equal(ovl_region_size(region), 8192);
        memset(ovl_region_data(region), 7, 8192);
        assert_ok(ovl_region_close(thread, region));
        assert_int_equal(ovl_region_open(thread, 0, &region), -EINVAL);
        assert_int_equal(ovl_region_open(thread, SIZE_MAX, &region), -EINVAL);
        fake.refuse_status = -EDQUOT;
        fake_set(&fake, &fake.refuse, OVERLAPD__REQUEST__WHAT_REGION_ADD);
        assert_int_equal(ovl_region_open(thread, 4096, &region), -EDQUOT);
        ovl_thread_close(thread);
        ovl_session_free(session);
        fake_stop(&fake);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "info", session_info, 0 },
                { "long-path", session_long_path, 0 },
                { "no-daemon", session_no_daemon, 0 },
                { "dead-socket", session_dead_socket, 0 },
                { "environment", session_environment, 0 },
                { "hello-refused", session_hello_refused, 0 },
                { "hello-hang-up", session_hello_hang_up, 0 },
                { "hello-garbage", session_hello_garbage, 0 },
                { "threads", session_threads, 0 },
                { "attach-refused", session_attach_refused, 0 },
                { "requests", session_requests, 0 },
                { "unpassable", session_unpassable, 0 },
                { "regions", session_regions, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
