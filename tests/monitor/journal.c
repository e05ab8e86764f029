/* SPDX-License-Identifier: Apache-2.0 */

/* Lines are one line each, clean, and not more than anybody can read. */

#include "daemon/monitor/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/events.h"
#include "tests/harness/harness.h"

#define SAID_SIZE 262144

struct journal_capture {
        char *said;
        int saved_fd;
        int file_fd;
};

static void journal_capture_start(struct journal_capture *capture) {
        char path[128];

        snprintf(path, sizeof(path), "%s/lines", harness_directory());
        fflush(stderr);
        capture->file_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        capture->saved_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        assert_ok(capture->file_fd);
        dup2(capture->file_fd, STDERR_FILENO);
}

static void journal_capture_stop(struct journal_capture *capture) {
        ssize_t n;

        fflush(stderr);
        dup2(capture->saved_fd, STDERR_FILENO);
        close(capture->saved_fd);
        capture->said = calloc(1, SAID_SIZE);
        n = pread(capture->file_fd, capture->said, SAID_SIZE - 1, 0);
        assert_true(n >= 0);
        close(capture->file_fd);
}

static void journal_lines_are_clean(void **state) {
        struct journal_fields fields = {
                .message_id = EVENT_CHANNEL_KICKED,
                .has_client = true,
                .client_pid = 42,
                .client_uid = 1000,
                .client_unit = "a\n.service",
        };
        struct journal_capture capture;
        struct journal journal;
        char big[3000];

        memset(big, 'x', sizeof(big) - 1);
        big[sizeof(big) - 1] = '\0';
        journal_capture_start(&capture);
        journal_init(&journal, JOURNAL_TO_STDERR, LOG_INFO);
        errno = 77;
        journal_write(&journal, LOG_INFO, &fields, "it said: %s", "hello\nforged line \x1b[2J");
        assert_int_equal(errno, 77);
        journal_write(&journal, LOG_DEBUG, NULL, "not urgent enough");
        journal_write(&journal, LOG_ERR, NULL, "%s", big);
        journal_capture_stop(&capture);
        assert_non_null(strstr(capture.said,
                               "overlapd: it said: hello?forged line ?[2J (client pid 42, uid 1000, a?.service)\n"));
        assert_null(strstr(capture.said, "not urgent"));
        assert_true(strlen(capture.said) < 1400);
        free(capture.said);
}

static void journal_floods_are_counted(void **state) {
        struct journal_capture capture;
        struct journal journal;
        unsigned n_lines = 0;

        journal_capture_start(&capture);
        journal_init(&journal, JOURNAL_TO_STDERR, LOG_INFO);
        for (int i = 0; i < 1000; i++)
                journal_write(&journal, LOG_INFO, NULL, "line %d", i);
        assert_int_equal(journal.n_suppressed, 1000 - JOURNAL_WINDOW_LINES);
        journal.window_start_ns -= JOURNAL_WINDOW_S * NS_PER_S;
        journal_write(&journal, LOG_INFO, NULL, "the next window");
        journal_capture_stop(&capture);
        for (const char *at = capture.said; (at = strchr(at, '\n')); at++)
                n_lines++;
        assert_int_equal(n_lines, JOURNAL_WINDOW_LINES + 2);
        assert_non_null(strstr(
                capture.said, "overlapd: 800 lines were suppressed: more than 200, or 20 about one user, or 5 of these "
                              "for one rule, in 10 s\n"));
        assert_non_null(strstr(capture.said, "the next window"));
        free(capture.said);
}

static void journal_users_are_apart(void **state) {
        struct journal_fields fields = { .has_client = true };
        struct journal_capture capture;
        struct journal journal;

        journal_capture_start(&capture);
        journal_init(&journal, JOURNAL_TO_STDERR, LOG_INFO);
        for (int i = 0; i < 100; i++) {
                fields.client_uid = 1000;
                journal_write(&journal, LOG_INFO, &fields, "line");
                fields.client_uid = i < 5 ? 1001 : 1000;
                journal_write(&journal, LOG_INFO, &fields, "line");
        }
        assert_int_equal(journal.n_in_window, JOURNAL_CLIENT_LINES + 5);
        /* Many users share the last place, and even they leave room for what is nobody's fault. */
        for (uid_t uid = 2000; uid < 3000; uid++) {
                fields.client_uid = uid;
                journal_write(&journal, LOG_INFO, &fields, "line");
        }
        assert_true(journal.n_in_window < 100);
        journal_capture_stop(&capture);
        free(capture.said);
}

/* What one rule refuses does not hide what another one does, nor is it hidden for another user. */
static void journal_causes_are_apart(void **state) {
        struct journal_fields fields = { .has_client = true, .client_uid = 1000 };
        struct journal_capture capture;
        struct journal journal;

        journal_capture_start(&capture);
        journal_init(&journal, JOURNAL_TO_STDERR, LOG_INFO);
        for (int i = 0; i < 50; i++) {
                fields.rule = "a.conf:1: [deny a]";
                journal_write(&journal, LOG_NOTICE, &fields, "line");
        }
        assert_int_equal(journal.n_in_window, JOURNAL_CAUSE_LINES);
        fields.rule = "a.conf:5: [deny b]";
        journal_write(&journal, LOG_NOTICE, &fields, "line");
        fields.rule = NULL;
        journal_write(&journal, LOG_NOTICE, &fields, "line");
        fields.rule = "a.conf:1: [deny a]";
        fields.client_uid = 1001;
        journal_write(&journal, LOG_NOTICE, &fields, "line");
        assert_int_equal(journal.n_in_window, JOURNAL_CAUSE_LINES + 3);
        assert_int_equal(journal.n_suppressed, 50 - JOURNAL_CAUSE_LINES);
        journal_capture_stop(&capture);
        free(capture.said);
}

/* Where there is no journal to write to, nothing is lost: the line goes to stderr. */
static void journal_finds_its_target(void **state) {
        struct stat status;
        char value[64];

        unsetenv("JOURNAL_STREAM");
        assert_int_equal(journal_default_target(), JOURNAL_TO_STDERR);
        setenv("JOURNAL_STREAM", "nonsense", 1);
        assert_int_equal(journal_default_target(), JOURNAL_TO_STDERR);
        setenv("JOURNAL_STREAM", "1:1", 1);
        assert_int_equal(journal_default_target(), JOURNAL_TO_STDERR);
        assert_int_equal(fstat(STDERR_FILENO, &status), 0);
        snprintf(value, sizeof(value), "%llu:%llu", (unsigned long long) status.st_dev,
                 (unsigned long long) status.st_ino);
        setenv("JOURNAL_STREAM", value, 1);
        assert_int_equal(journal_default_target(), JOURNAL_TO_JOURNAL);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "a line stays one line, whatever it quotes", journal_lines_are_clean },
                { "a flood is suppressed and counted", journal_floods_are_counted },
                { "one user's lines leave room for others", journal_users_are_apart },
                { "what one rule refuses is told a few times", journal_causes_are_apart },
                { "the target follows stderr", journal_finds_its_target },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
