/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Descriptors that a client passed and whose closes hang (promise 5): of a file system that a client serves himself.
 * Nobody else's descriptors wait for them, and who goes on passing more loses his connection.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"
#include "tests/system/hanging.h"

struct closes {
        struct hanging hanging;
        struct client client;
        int fds[3]; /* of the file: the client's own, whose closes would hang, too */
};

static void closes_start(struct closes *closes) {
        const char *level = getenv("OVERLAPD_LEVEL");

        if (level && strcmp(level, "inline") == 0)
                harness_skip("the level inline lends no files");
        hanging_start(&closes->hanging);
        client_start(&closes->client);
}

/* Lends the file three times and takes it back: the first two closes hang, and the third waits for them. */
static void closes_hang(struct closes *closes) {
        uint64_t files[3];

        for (size_t i = 0; i < HARNESS_N(files); i++) {
                closes->fds[i] = open(closes->hanging.path, O_RDONLY | O_CLOEXEC);
                assert_true(closes->fds[i] >= 0);
                assert_ok(ovl_file_open(closes->client.thread, closes->fds[i], &files[i]));
        }
        hanging_set_closing(&closes->hanging, true);
        for (size_t i = 0; i < HARNESS_N(files); i++)
                assert_ok(ovl_file_close(closes->client.thread, files[i]));
        hanging_await(&closes->hanging, 2);
}

static void closes_stop(struct closes *closes) {
        hanging_set_closing(&closes->hanging, false);
        for (size_t i = 0; i < HARNESS_N(closes->fds); i++)
                close(closes->fds[i]);
        hanging_await(&closes->hanging, 0);
        client_stop(&closes->client);
        hanging_stop(&closes->hanging);
}

/* Passes the end of a pipe, which is refused as a file, and waits until the daemon has closed it. */
static void closes_by_another_user(const char *path) {
        struct ovl_session_options options = { .path = path };
        struct ovl_session *session;
        struct ovl_thread *thread;
        uint64_t file;
        int ends[2];

        assert_ok(ovl_session_open(&options, &session, NULL));
        assert_ok(ovl_thread_open(session, &thread, NULL));
        for (int i = 0; i < 100; i++) {
                assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
                assert_int_equal(ovl_file_open(thread, ends[1], &file), -EBADFD);
                close(ends[1]);
                assert_int_equal(read(ends[0], &file, 1), 0);
                close(ends[0]);
        }
        ovl_thread_close(thread);
        ovl_session_free(session);
}

static void closes_that_hang_stop_nobody_else(void **state) {
        struct closes closes;
        int start[2];
        pid_t pid;

        harness_want_other_user();
        closes_start(&closes);
        assert_int_equal(pipe2(start, O_CLOEXEC), 0);
        assert_int_equal(chmod(closes.client.estate.daemon.path, 0666), 0);
        pid = harness_fork_other_user();
        if (pid == 0) {
                /* Before the file is open here: its end would close it, too. */
                close(start[1]);
                assert_int_equal(read(start[0], &pid, 1), 0);
                closes_by_another_user(closes.client.estate.daemon.path);
                _exit(0);
        }
        closes_hang(&closes);
        close(start[0]);
        close(start[1]);
        harness_expect_child(pid);
        closes_stop(&closes);
}

/* His further descriptors wait, and are refused when they are too many; then all of them are closed. */
static void closes_that_hang_end_who_goes_on(void **state) {
        uint64_t deadline = harness_deadline(20), file;
        struct closes closes;
        int ends[2], r;

        closes_start(&closes);
        closes_hang(&closes);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        do {
                assert_true(now_ns() < deadline);
                r = ovl_file_open(closes.client.thread, ends[1], &file);
        } while (r == -EBADFD);
        assert_int_equal(r, -ECONNABORTED);
        daemon_wait_log(&closes.client.estate.daemon, "while closing those of this user hangs");
        close(ends[1]);
        assert_int_equal(ovl_region_close(closes.client.thread, closes.client.region), -ECONNABORTED);
        closes.client.region = NULL;
        client_close(&closes.client);
        hanging_set_closing(&closes.hanging, false);
        assert_int_equal(read(ends[0], &file, 1), 0);
        close(ends[0]);
        client_open(&closes.client, 0);
        closes_stop(&closes);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "closes that hang stop nobody else", closes_that_hang_stop_nobody_else },
                { "closes that hang end who goes on", closes_that_hang_end_who_goes_on },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
