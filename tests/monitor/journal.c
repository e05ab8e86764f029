/* SPDX-License-Identifier: Apache-2.0 */

/* Lines are one line each, clean, and not more than anybody can read. */

#include "daemon/monitor/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
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
        for (unsigned i = 0; i < JOURNAL_WINDOW_LINES + 800; i++)
                journal_write(&journal, LOG_INFO, NULL, "line %u", i);
        assert_int_equal(journal.n_suppressed, 800);
        journal.window_start_ns -= JOURNAL_WINDOW_S * NS_PER_S;
        journal_write(&journal, LOG_INFO, NULL, "the next window");
        journal_capture_stop(&capture);
        for (const char *at = capture.said; (at = strchr(at, '\n')); at++)
                n_lines++;
        assert_int_equal(n_lines, JOURNAL_WINDOW_LINES + 2);
        assert_non_null(strstr(capture.said, "overlapd: 800 lines were suppressed: more than 1000, or 100 of one kind "
                                             "about one user, in 10 s\n"));
        assert_non_null(strstr(capture.said, "the next window"));
        free(capture.said);
}

static void journal_causes_are_apart(void **state) {
        struct journal_fields fields = { .has_client = true, .message_id = EVENT_CONNECTED };
        struct journal_capture capture;
        struct journal journal;

        journal_capture_start(&capture);
        journal_init(&journal, JOURNAL_TO_STDERR, LOG_INFO);
        for (int i = 0; i < 300; i++) {
                fields.client_uid = 1000;
                journal_write(&journal, LOG_INFO, &fields, "connected %d", i);
                fields.client_uid = i < 5 ? 1001 : 1000;
                journal_write(&journal, LOG_INFO, &fields, "connected too");
        }
        assert_int_equal(journal.n_in_window, JOURNAL_CAUSE_LINES + 5);
        /* What the same user does rarely is not hidden by what it does often. */
        fields.message_id = EVENT_REQUEST_REFUSED;
        journal_write(&journal, LOG_INFO, &fields, "refused");
        assert_int_equal(journal.n_in_window, JOURNAL_CAUSE_LINES + 6);
        /* Many users share the last place, and even they leave room for what is nobody's fault. */
        for (uid_t uid = 2000; uid < 3000; uid++) {
                fields.client_uid = uid;
                journal_write(&journal, LOG_INFO, &fields, "line");
        }
        assert_true(journal.n_in_window < 300);
        journal.window_start_ns -= JOURNAL_WINDOW_S * NS_PER_S;
        journal_write(&journal, LOG_INFO, NULL, "the next window");
        journal_capture_stop(&capture);
        assert_non_null(strstr(capture.said, "495 lines were suppressed, of which the first was: connected too"));
        free(capture.said);
}

/* Stands in for journald: a socket, and what comes there. */
static int journal_reader(struct journal *journal) {
        static char path[100];
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        assert_ok(fd);
        snprintf(path, sizeof(path), "%s/socket", harness_directory());
        snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
        assert_int_equal(bind(fd, (struct sockaddr *) &name, sizeof(name)), 0);
        journal->socket_path = path;
        return fd;
}

static void journal_expect_packet(int fd, const char *const *fields) {
        char packet[8192];
        ssize_t n = recv(fd, packet, sizeof(packet) - 1, MSG_DONTWAIT);

        assert_true(n > 0);
        packet[n] = '\0';
        for (; *fields; fields++)
                if (!strstr(packet, *fields))
                        fail_msg("expected '%s' in: %s", *fields, packet);
}

static void journal_has_fields(void **state) {
        const struct journal_totals totals = { 1500000, 7, 2, 300, 4000 };
        struct journal_fields fields = {
                .message_id = EVENT_SESSION_ENDED,
                .session = 255,
                .has_client = true,
                .client_pid = 42,
                .client_uid = 1000,
                .client_unit = "a\nPRIORITY=0",
                .client_cgroup = "/system.slice/a.service",
                .has_client_thread = true,
                .client_thread = 0,
                .client_socket = 4294967297,
                .has_client_op = true,
                .client_op = 8,
                .error = -EPERM,
                .protocol = "tcp",
                .rule = "10-a.conf:3",
                .remote = "192.0.2.1:80",
                .local = "192.0.2.2:81",
                .worker_pid = 43,
                .engine = "epoll",
                .totals = &totals,
        };
        struct journal journal;
        int fd;

        journal_init(&journal, JOURNAL_TO_JOURNAL, LOG_INFO);
        fd = journal_reader(&journal);
        journal_write(&journal, LOG_NOTICE, &fields, "a line");
        journal_expect_packet(fd, (const char *[]){ "PRIORITY=5\n",
                                                    "\nSYSLOG_IDENTIFIER=overlapd\n",
                                                    "\nMESSAGE=a line (client pid 42, uid 1000, a?PRIORITY=0)\n",
                                                    "\nMESSAGE_ID=" EVENT_SESSION_ENDED "\n",
                                                    "\nSESSION=00000000000000ff\n",
                                                    "\nCLIENT_PID=42\n",
                                                    "\nCLIENT_UID=1000\n",
                                                    "\nCLIENT_UNIT=a?PRIORITY=0\n",
                                                    "\nCLIENT_CGROUP=/system.slice/a.service\n",
                                                    "\nCLIENT_THREAD=0\n",
                                                    "\nCLIENT_SOCKET=4294967297\n",
                                                    "\nCLIENT_OP=8\n",
                                                    "\nOVERLAPD_ERRNO=1\n",
                                                    "\nPROTOCOL=tcp\n",
                                                    "\nRULE=10-a.conf:3\n",
                                                    "\nREMOTE=192.0.2.1:80\n",
                                                    "\nLOCAL=192.0.2.2:81\n",
                                                    "\nWORKER_PID=43\n",
                                                    "\nENGINE=epoll\n",
                                                    "\nDURATION_USEC=1500\n",
                                                    "\nOPERATIONS=7\n",
                                                    "\nSOCKETS=2\n",
                                                    "\nBYTES_RECEIVED=300\n",
                                                    "\nBYTES_SENT=4000\n",
                                                    NULL });
        journal_deinit(&journal);
        close(fd);
}

/* A journal that hangs costs lines, and no time. */
static void journal_waits_for_nobody(void **state) {
        struct journal journal;
        unsigned n_lost, n_taken = 0;
        char packet[8192];
        int fd;

        journal_init(&journal, JOURNAL_TO_JOURNAL, LOG_INFO);
        fd = journal_reader(&journal);
        for (unsigned i = 0; i < JOURNAL_WINDOW_LINES; i++)
                journal_write(&journal, LOG_INFO, NULL, "line %u", i);
        n_lost = journal.n_lost;
        while (recv(fd, packet, sizeof(packet), MSG_DONTWAIT) > 0)
                n_taken++;
        assert_true(n_lost > 0);
        assert_int_equal(n_lost + n_taken, JOURNAL_WINDOW_LINES);
        journal.window_start_ns -= JOURNAL_WINDOW_S * NS_PER_S;
        journal_write(&journal, LOG_INFO, NULL, "it reads again");
        snprintf(packet, sizeof(packet), "MESSAGE=%u lines were lost: the journal did not take them\n", n_lost);
        journal_expect_packet(fd, (const char *[]){ packet, "MESSAGE_ID=" EVENT_LINES_LOST, NULL });
        journal_expect_packet(fd, (const char *[]){ "MESSAGE=it reads again\n", NULL });
        assert_int_equal(journal.n_lost, 0);
        journal_deinit(&journal);
        close(fd);
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
                { "what one user does often hides nothing else", journal_causes_are_apart },
                { "the journal gets fields", journal_has_fields },
                { "a journal that hangs is not waited for", journal_waits_for_nobody },
                { "the target follows stderr", journal_finds_its_target },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
