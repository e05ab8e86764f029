/* SPDX-License-Identifier: Apache-2.0 */

/* What a person types: the command line, its mistakes, and the private instance. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"
#include "tests/monitor/run.h"

static const char *command_file(const char *name, const char *text) {
        static char path[128];
        _cleanup_fd_ int fd = -1;

        snprintf(path, sizeof(path), "%s/%s", harness_directory(), name);
        if (text) {
                fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
                assert_ok(fd);
                assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        }
        return path;
}

static void command_mistakes_are_named(void **state) {
        char path[128] = "/";

        run_expect(RUN("--frobnicate"), 2, "unknown option '--frobnicate'; allowed are --socket");
        run_expect(RUN("-x"), 2, "unknown option '-x'");
        run_expect(RUN("--socket"), 2, "--socket needs a value");
        run_expect(RUN("--engine", "warp"), 2, "--engine warp: must be auto, uring or epoll");
        run_expect(RUN("--workers", "0"), 2, "--workers 0: must be a number from 1 to 64");
        run_expect(RUN("--log", "paper"), 2, "--log paper: must be journal or stderr");
        run_expect(RUN("--socket", "here"), 2, "--socket here: must be an absolute path");
        memset(path + 1, 'p', 107);
        run_expect(RUN("--socket", path), 2, "the path has 108 bytes, at most 107 are possible");
        run_expect(RUN("--private"), 2, "--private needs a command");
        run_expect(RUN("--private", "--"), 2, "--private needs a command");
        run_expect(RUN("sleep"), 2, "unexpected argument 'sleep'");
        run_expect(RUN("--private", "--socket", "/x", "--", "true"), 2, "--socket and --private contradict");
        run_expect(RUN("--private", "--check-config", "--", "true"), 2, "--check-config and --private contradict");
        run_expect(RUN("--worker"), 2, "--worker is internal");
}

static void command_without_a_name_is_refused(void **state) {
        char *const none[] = { NULL };
        const char *program = getenv("OVL_TEST_OVERLAPD");
        int status;
        pid_t pid;

        fflush(NULL);
        pid = fork();
        if (pid == 0) {
                execv(program, none);
                _exit(125);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        /* Linux 5.18 and later puts an empty name there, with which the daemon would start: it must not stay. */
        if (WIFEXITED(status))
                assert_true(WEXITSTATUS(status) == 1 || WEXITSTATUS(status) == 2);
}

static void command_help_and_version(void **state) {
        run_expect(RUN("--help"), 0, "overlapd --private [OPTIONS] -- COMMAND");
        assert_null(strstr(run_said(), "--worker "));
        run_expect(RUN("--version"), 0, "overlapd " OVERLAPD_VERSION);
}

static void command_checks_configuration(void **state) {
        run_expect(RUN("--check-config", "--config", command_file("good", "[Daemon]\nWorkers=2\n")), 0, "OK\n");
        run_expect(RUN("--check-config", "--config", command_file("bad", "[Daemon]\nWorkers=none\n")), 1,
                   "bad:2: Workers=none: must be a number from 1 to 64");
        run_expect(RUN("--check-config", "--config", command_file("absent", NULL)), 1, "absent: No such file");
}

static void command_checks_the_policy(void **state) {
        char directory[128];

        snprintf(directory, sizeof(directory), "%s/policy.d", harness_directory());
        assert_int_equal(mkdir(directory, 0755), 0);
        command_file("policy.d/10-good.conf", "[allow a]\nUser=*\nAction=connect\n");
        run_expect(RUN("--check-config", "--policy", directory), 0, "OK\n");
        command_file("policy.d/20-bad.conf", "[allow b]\nUser=*\nAction=conect\n");
        run_expect(RUN("--check-config", "--policy", directory), 1,
                   "policy.d/20-bad.conf:3: Action=conect: must be some of connect, listen, sendto, resolve, export");
        run_expect(RUN("--policy", directory, "--private", "--", "echo", "ran"), 1, "the policy cannot be used: ");
        assert_null(strstr(run_said(), "ran\n"));
        run_expect(RUN("--policy", "mine"), 2, "--policy mine: must be system, own, or the absolute path");
}

static void private_exits_like_its_command(void **state) {
        run_expect(RUN("--private", "--", "sh", "-c", "exit 7"), 7, NULL);
        assert_string_equal(run_said(), "");
        run_expect(RUN("--private", "--", "true"), 0, NULL);
        run_expect(RUN("--private", "--", "sh", "-c", "kill -9 $$"), 128 + SIGKILL, NULL);
        setenv("PATH", "/usr/bin:/bin", 1);
        run_expect(RUN("--private", "--", "no-such-command-here"), 127,
                   "cannot execute no-such-command-here: No such file");
        run_expect(RUN("--private", "--", "/etc/passwd"), 126, "cannot execute /etc/passwd: Permission denied");
}

static void private_tells_where_and_cleans_up(void **state) {
        char path[128];
        struct stat status;

        run_expect(
                RUN("--private", "--log", "stderr", "--", "sh", "-c",
                    "test -S \"$OVERLAPD_SOCKET\" && stat -c %a:%a \"${OVERLAPD_SOCKET%/*}\" && echo $OVERLAPD_SOCKET"),
                0, "700:700\n/");
        assert_int_equal(sscanf(strstr(run_said(), "700:700\n") + 8, "%100s", path), 1);
        assert_int_equal(lstat(path, &status), -1);
        *strrchr(path, '/') = '\0';
        assert_int_equal(lstat(path, &status), -1);
        assert_non_null(strstr(run_said(), "serves at"));
        setenv("XDG_RUNTIME_DIR", harness_directory(), 1);
        run_expect(RUN("--private", "--", "sh", "-c", "echo $OVERLAPD_SOCKET"), 0, harness_directory());
}

static void private_passes_signals_on(void **state) {
        pid_t pid = run_start(
                RUN("--private", "--", "sh", "-c",
                    "trap 'echo got it; exit 9' TERM; echo waits; while :; do read x <&0 || sleep 0.01; done"));

        run_wait_said("waits");
        kill(pid, SIGTERM);
        assert_int_equal(run_wait(pid), 9);
        assert_non_null(strstr(run_said(), "got it"));
}

static void private_command_has_its_signals_and_limits(void **state) {
        run_expect(RUN("--private", "--", "grep", "-E", "^Sig(Blk|Ign):.*0{16}$", "/proc/self/status"), 0, "SigBlk");
        assert_non_null(strstr(run_said(), "SigIgn"));
        run_expect(RUN("--private", "--", "sh", "-c", "ls /proc/self/fd | wc -l"), 0, "4\n");
}

static void private_fails_without_a_worker(void **state) {
        setenv("OVL_TEST_DOUBLE", "fail", 1);
        run_expect(RUN("--private", "--", "echo", "ran"), 1, "could not start: the engine may not be used here");
        assert_null(strstr(run_said(), "ran"));
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "mistakes are named, with what is allowed", command_mistakes_are_named },
                { "a program without a name ends", command_without_a_name_is_refused },
                { "help and version", command_help_and_version },
                { "--check-config says OK or what is wrong", command_checks_configuration },
                { "--check-config says what is wrong with the policy", command_checks_the_policy },
                { "a private instance exits like its command", private_exits_like_its_command },
                { "a private instance tells its path and leaves nothing", private_tells_where_and_cleans_up },
                { "a private instance passes signals on", private_passes_signals_on },
                { "a private command finds signals and descriptors as usual",
                  private_command_has_its_signals_and_limits },
                { "a private instance without a worker runs nothing", private_fails_without_a_worker },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
