/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Machines that refuse io_uring, each in its own way: a filter that forbids it or hides it, an operation that is
 * missing, a sysctl. The daemon serves on epoll, and whoever looks at its journal, at the hello or at the status reads
 * why; whoever insisted on io_uring reads it, too, and what would serve.
 *
 * The filter is put on the case, which the daemon then inherits. The sysctl is the machine's and is left alone: test
 * builds can be told to read another file.
 */

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"
#include "tests/system/client.h"
#include "tests/system/raw.h"

#define ENGINES_BYTES 300000u

#define WORDS(...)                                                                                                     \
        (const char *[]) {                                                                                             \
                __VA_ARGS__, NULL                                                                                      \
        }

/* From here on, who asks for a ring in this process or its children gets this error. */
static void engines_refuse(int error) {
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

        assert_non_null(filter);
        assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_ok(seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned) error), SCMP_SYS(io_uring_setup), 0));
        assert_ok(seccomp_load(filter));
        seccomp_release(filter);
}

/* Real bytes, in both directions. */
static void engines_move_data(struct client *client) {
        struct ovl_overlapped sending = { 0 }, receiving = { 0 };
        _cleanup_free_ char *data = malloc(ENGINES_BYTES);
        uint64_t socket;
        int fd;

        socket = client_pair(client, AF_INET, &fd);
        pattern_fill(client->memory, ENGINES_BYTES, 0);
        assert_ok(client_send(client, socket, client->memory, ENGINES_BYTES, 0, &sending));
        peer_read(fd, data, ENGINES_BYTES);
        pattern_check(data, ENGINES_BYTES, 0);
        client_expect(client, &sending, 0, ENGINES_BYTES);
        assert_ok(client_recv(client, socket, client->memory + ENGINES_BYTES, ENGINES_BYTES, OVL_WAITALL, &receiving));
        peer_write(fd, data, ENGINES_BYTES);
        client_expect(client, &receiving, 0, ENGINES_BYTES);
        pattern_check(client->memory + ENGINES_BYTES, ENGINES_BYTES, 0);
        close(fd);
}

static void engines_expect_reason(const char *said_by, const char *reason, const char *const *words) {
        for (; *words; words++)
                if (!strstr(reason, *words))
                        fail_msg("the %s does not say '%s' but: %s", said_by, *words, reason);
}

/* Starts a daemon that may choose; arguments: further ones. */
static void engines_serve_on_epoll(const char *const *arguments, const char *const *words) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Status status = OVERLAPD__STATUS__INIT;
        struct ovl_session_info info;
        struct client client = { 0 };
        char line[512], log[1024];
        struct raw *raw;

        estate_start(&client.estate, arguments);
        client_open(&client, 0);
        engines_move_data(&client);
        ovl_session_info(client.session, &info);
        assert_string_equal(info.engine, "epoll");
        engines_expect_reason("hello", info.engine_reason, words);
        snprintf(line, sizeof(line), "worker %d is ready: engine epoll (%s)", (int) client.estate.worker,
                 info.engine_reason);
        snprintf(log, sizeof(log), "engine epoll (%s), workers: 1", info.engine_reason);
        daemon_wait_log(&client.estate.daemon, line);
        daemon_wait_log(&client.estate.daemon, log);
        raw = raw_open(&client.estate.daemon, 0);
        request.what_case = OVERLAPD__REQUEST__WHAT_STATUS;
        request.status = &status;
        assert_int_equal(raw_call(raw, &request, -1), 0);
        assert_string_equal(raw->reply->status_report->engine, "epoll");
        assert_string_equal(raw->reply->status_report->engine_reason, info.engine_reason);
        raw_close(raw);
        client_stop(&client);
}

/* Runs a daemon until it ends by itself, and looks at its exit status and at what it said. */
static void engines_run(const char *const *arguments, int expected, const char *const *words) {
        const char *line[16] = { getenv("OVL_TEST_OVERLAPD") };
        _cleanup_free_ char *said = calloc(1, 4096);
        char path[128];
        int status, fd;
        pid_t pid;

        snprintf(path, sizeof(path), "%s/said.log", harness_directory());
        for (size_t n = 1; *arguments && n < HARNESS_N(line) - 1; n++)
                line[n] = *arguments++;
        fflush(NULL);
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                dup2(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), STDERR_FILENO);
                execv(line[0], (char **) line);
                _exit(127);
        }
        assert_ok(process_wait_end(pid, harness_deadline(10)));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(read(fd, said, 4095) > 0);
        close(fd);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != expected)
                fail_msg("overlapd ended with wait status 0x%x and said: %s", status, said);
        engines_expect_reason("journal", said, words);
}

/* Who has only itself to talk to, and a threshold above ordinary news, is told of the second choice all the same. */
static void engines_warn_a_private_daemon(const char *const *words) {
        engines_run(WORDS("--private", "--", "true"), 0, words);
        engines_run(WORDS("--private", "--", "true"), 0, WORDS("is ready: engine epoll (io_uring is refused: "));
}

/* Who insists on io_uring is refused, and learns what would serve. features: what is masked; NULL: nothing. */
static void engines_do_not_insist(const char *features, const char *const *words) {
        const char *const plain[] = { "--private", "--engine", "uring", "--", "true", NULL };
        const char *const masked[] = { "--private", "--engine", "uring", "--features", features, "--", "true", NULL };

        engines_run(features ? masked : plain, 1, words);
        engines_run(features ? masked : plain, 1, WORDS("; --engine epoll or auto would serve here"));
}

static void engines_a_filter_forbids(void **state) {
        const char *const *words = WORDS("io_uring is refused: setting up a ring failed with EPERM",
                                         "kernel.io_uring_disabled ", "; a system-call filter is active");

        engines_refuse(EPERM);
        engines_serve_on_epoll(WORDS("--engine", "auto"), words);
        engines_warn_a_private_daemon(words);
        engines_do_not_insist(NULL, words);
}

static void engines_a_filter_hides(void **state) {
        const char *const *words =
                WORDS("setting up a ring failed with ENOSYS", "this kernel has no io_uring, or a filter hides it",
                      "; a system-call filter is active");

        engines_refuse(ENOSYS);
        engines_serve_on_epoll(WORDS("--engine", "auto"), words);
        engines_do_not_insist(NULL, words);
}

static void engines_an_operation_is_missing(void **state) {
#ifdef OVL_TEST_HOOKS
        const char *const *words = WORDS("asking for the operations of the ring failed with EOPNOTSUPP",
                                         "this kernel lacks the operation ACCEPT");

        engines_serve_on_epoll(WORDS("--engine", "auto", "--features", "-accept"), words);
        engines_do_not_insist("6.1,-accept", words);
        engines_serve_on_epoll(WORDS("--engine", "auto", "--features", "-recv,-epoll_pwait2"),
                               WORDS("this kernel lacks the operation RECV"));
#else
        harness_skip("only builds with test hooks can miss an operation");
#endif
}

static void engines_a_sysctl_is_told(void **state) {
#ifdef OVL_TEST_HOOKS
        static const struct {
                const char *value;
                const char *said;
        } values[] = {
                { "0\n", "; kernel.io_uring_disabled is 0 (io_uring is allowed); " },
                { "1\n", "; kernel.io_uring_disabled is 1 (only for root and the group kernel.io_uring_group); " },
                { "2\n", "; kernel.io_uring_disabled is 2 (for nobody); " },
                { "3\n", "; kernel.io_uring_disabled is 3; " },
                { NULL, "; kernel.io_uring_disabled cannot be read (ENOENT); " },
        };
        char path[128];

        snprintf(path, sizeof(path), "%s/io_uring_disabled", harness_directory());
        setenv("OVL_TEST_IO_URING_DISABLED", path, 1);
        engines_refuse(EPERM);
        for (size_t i = 0; i < HARNESS_N(values); i++) {
                _cleanup_fd_ int fd = -1;

                unlink(path);
                if (values[i].value) {
                        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
                        assert_int_equal(write(fd, values[i].value, 2), 2);
                }
                engines_do_not_insist(NULL, WORDS(values[i].said));
        }
        engines_serve_on_epoll(WORDS("--engine", "auto"), WORDS(values[HARNESS_N(values) - 1].said));
#else
        harness_skip("only builds with test hooks can read another sysctl");
#endif
}

/* What was asked for is what there is, and io_uring is the first choice. */
static void engines_are_chosen(void **state) {
        static const char *const choices[][3] = {
                { "uring", "uring", "it was asked for" },
                { "epoll", "epoll", "it was asked for" },
                { "auto", "uring", "io_uring is available" },
        };

        for (size_t i = 0; i < HARNESS_N(choices); i++) {
                struct ovl_session_info info;
                struct client client = { 0 };

                estate_start(&client.estate, WORDS("--engine", choices[i][0]));
                client_open(&client, 0);
                engines_move_data(&client);
                ovl_session_info(client.session, &info);
                assert_string_equal(info.engine, choices[i][1]);
                assert_string_equal(info.engine_reason, choices[i][2]);
                client_stop(&client);
        }
}

/* What an older kernel makes weaker is said. */
static void engines_say_what_is_weaker(void **state) {
#ifdef OVL_TEST_HOOKS
        struct ovl_session_info info;
        struct client client = { 0 };

        estate_start(&client.estate, WORDS("--engine", "auto", "--features", "5.15"));
        client_open(&client, 0);
        engines_move_data(&client);
        ovl_session_info(client.session, &info);
        assert_string_equal(info.engine, "uring");
        engines_expect_reason("hello", info.engine_reason,
                              WORDS("io_uring is available, but weaker: before Linux 5.19 a ring that cancels cannot "
                                    "require registered files"));
        client_stop(&client);
        engines_serve_on_epoll(WORDS("--engine", "epoll", "--features", "5.15"), WORDS("it was asked for"));
#else
        harness_skip("only builds with test hooks can be an older kernel");
#endif
}

static void engines_know_their_features(void **state) {
#ifdef OVL_TEST_HOOKS
        engines_run(WORDS("--private", "--features", "6.1,-warp", "--", "true"), 1,
                    WORDS("--features 6.1,-warp: there is something unknown in it"));
#else
        harness_skip("only builds with test hooks have features to mask");
#endif
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "engines are chosen", engines_are_chosen },
                { "a filter forbids io_uring", engines_a_filter_forbids },
                { "a filter hides io_uring", engines_a_filter_hides },
                { "an operation is missing", engines_an_operation_is_missing },
                { "a sysctl is told with its value", engines_a_sysctl_is_told, 60 },
                { "what is weaker is said", engines_say_what_is_weaker },
                { "unknown features are refused", engines_know_their_features },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
