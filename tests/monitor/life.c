/* SPDX-License-Identifier: Apache-2.0 */

/* The life of the daemon: sockets and who may use them, workers that fail, signals, the service manager. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "proto/overlapd.pb-c.h"
#include "tests/harness/daemon.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"
#include "tests/monitor/client.h"
#include "tests/monitor/run.h"

static const char *life_path(const char *name) {
        static char paths[4][128];
        static unsigned n;
        char *path = paths[n++ % 4];

        snprintf(path, sizeof(paths[0]), "%s/%s", harness_directory(), name);
        return path;
}

static int life_socket(int type, const char *path) {
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

        assert_ok(fd);
        snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
        assert_int_equal(bind(fd, (struct sockaddr *) &name, sizeof(name)), 0);
        return fd;
}

/* --- Connections ------------------------------------------------------------------------------------------------ */

static void life_connections_are_known(void **state) {
        struct daemon daemon;
        unsigned uid, other_uid;
        int pid, worker, other_pid, other_worker, a, b, n_fds;
        unsigned long long shard, other_shard;

        daemon_start(&daemon, RUN("--workers", "3"));
        /* The connections with which the start was awaited are gone once the descriptors stay the same. */
        n_fds = daemon_count_fds(daemon.monitor);
        a = daemon_connect(&daemon);
        b = daemon_connect(&daemon);
        assert_int_equal(sscanf(client_ask(a, "peer"), "%u %d %llu %d", &uid, &pid, &shard, &worker), 4);
        assert_int_equal(
                sscanf(client_ask(b, "peer"), "%u %d %llu %d", &other_uid, &other_pid, &other_shard, &other_worker), 4);
        assert_int_equal(uid, getuid());
        assert_int_equal(pid, getpid());
        assert_int_equal(shard, other_shard);
        assert_int_equal(worker, other_worker);
        assert_int_equal(daemon_count_fds(daemon.monitor), n_fds);
        client_say(a, "end it-misbehaved");
        client_expect_end(a);
        daemon_wait_log(&daemon, "connection ended: it-misbehaved (client pid");
        client_expect(b, "open 5", 0, "");
        close(a);
        close(b);
        daemon_stop(&daemon);
}

/* Reads the frame with which a connection is refused. */
static void life_expect_busy(int fd, const char *text) {
        struct message_arena arena;
        struct ovl_frame_header header;
        const Overlapd__FromDaemon *from;
        ProtobufCMessage *message;
        uint8_t bytes[1024];
        size_t len = 0;
        const char *problem;
        ssize_t n;

        while ((n = recv(fd, bytes + len, sizeof(bytes) - len, 0)) > 0)
                len += (size_t) n;
        assert_int_equal(frame_find(bytes, len, FRAME_FROM_DAEMON, &header, &problem), 1);
        assert_int_equal(len, sizeof(header) + header.body_len);
        message_arena_init(&arena);
        assert_ok(message_unpack(&arena, &overlapd__from_daemon__descriptor, bytes + sizeof(header), header.body_len,
                                 &message, &problem));
        from = (const Overlapd__FromDaemon *) message;
        assert_int_equal(from->what_case, OVERLAPD__FROM_DAEMON__WHAT_NOTICE);
        assert_int_equal(from->notice->status, -EBUSY);
        assert_int_equal(from->notice->reason, OVL_REASON_BUSY);
        assert_true(from->notice->closing);
        assert_non_null(strstr(from->notice->text, text));
}

static void life_unopened_connections_are_limited(void **state) {
        unsigned limit = getuid() == 0 ? 32 : 8;
        struct daemon daemon;
        int fds[32], over;

        daemon_start(&daemon, NULL);
        for (unsigned i = 0; i < limit; i++) {
                fds[i] = daemon_connect(&daemon);
                client_ask(fds[i], "peer");
        }
        over = daemon_connect(&daemon);
        life_expect_busy(over, "have not opened a session yet");
        close(over);
        daemon_wait_log(&daemon, "connection refused:");
        client_expect(fds[0], "open 1", 0, "");
        over = daemon_connect(&daemon);
        client_ask(over, "peer");
        close(over);
        for (unsigned i = 0; i < limit; i++)
                close(fds[i]);
        daemon_stop(&daemon);
}

/* In a child: another user, who must be let in by the mode of the socket first. */
static void life_other_user(const struct daemon *daemon, pid_t own_worker) {
        int fds[9], worker;

        for (int i = 0; i < 8; i++) {
                fds[i] = daemon_connect(daemon);
                assert_int_equal(sscanf(client_ask(fds[i], "peer"), "65534 %*d %*u %d", &worker), 1);
                assert_int_not_equal(worker, own_worker);
        }
        fds[8] = daemon_connect(daemon);
        life_expect_busy(fds[8], "8 connections of this user");
}

/* The threads of a program all connect at once; each opens as soon as it may. */
static void life_crowds_are_served(void **state) {
        struct daemon daemon;
        int fds[60];

        daemon_start(&daemon, NULL);
        for (int i = 0; i < 60; i++) {
                fds[i] = daemon_connect(&daemon);
                client_say(fds[i], "open 1");
        }
        for (int i = 0; i < 60; i++) {
                char reply[CLIENT_REPLY_SIZE];

                assert_int_equal(client_hear(fds[i], reply), 1);
        }
        assert_false(daemon_log_has(&daemon, "refused"));
        for (int i = 0; i < 60; i++)
                close(fds[i]);
        daemon_stop(&daemon);
}

static void life_users_are_apart(void **state) {
        struct daemon daemon;
        pid_t worker, workers[2], child;
        char text[64];
        int fd;

        harness_want_other_user();
        daemon_start(&daemon, RUN("--workers", "2"));
        daemon_workers(&daemon, workers, 2);
        for (int i = 0; i < 2; i++) {
                snprintf(text, sizeof(text), "worker %d is ready", (int) workers[i]);
                daemon_wait_log(&daemon, text);
        }
        fd = daemon_connect(&daemon);
        assert_int_equal(sscanf(client_ask(fd, "peer"), "%*u %*d %*u %d", &worker), 1);
        assert_int_equal(chmod(daemon.path, 0666), 0);
        child = harness_fork_other_user();
        if (child == 0) {
                life_other_user(&daemon, worker);
                _exit(0);
        }
        harness_expect_child(child);
        close(fd);
        daemon_stop(&daemon);
}

/* A worker can speak of its own clients only. */
static void life_quotas_are_told(void **state) {
        struct daemon daemon;
        int fd;

        daemon_start(&daemon, NULL);
        fd = daemon_connect(&daemon);
        client_say(fd, "strange 3");
        client_say(fd, "quota 3");
        daemon_wait_log(&daemon, "quota reached: said with quota; 2 more times of late (uid ");
        assert_false(daemon_log_has(&daemon, "strange"));
        close(fd);
        daemon_stop(&daemon);
}

static bool life_has_fd(pid_t pid, int fd) {
        struct stat status;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int) pid, fd);
        return lstat(path, &status) == 0;
}

static void life_runs_out_of_descriptors(void **state) {
        struct rlimit few, saved;
        struct daemon daemon;
        int n_fds, n_free = 0, fd;

        daemon_start(&daemon, NULL);
        n_fds = daemon_count_fds(daemon.monitor);
        while (life_has_fd(daemon.monitor, n_free))
                n_free++;
        assert_int_equal(prlimit(daemon.monitor, RLIMIT_NOFILE, NULL, &saved), 0);
        few = (struct rlimit){ (rlim_t) n_free, saved.rlim_max };
        assert_int_equal(prlimit(daemon.monitor, RLIMIT_NOFILE, &few, NULL), 0);
        fd = daemon_connect(&daemon);
        client_expect_end(fd);
        close(fd);
        daemon_wait_log(&daemon, "accepting pauses for 100 ms, and again as long as this lasts: Too many open files");
        assert_int_equal(prlimit(daemon.monitor, RLIMIT_NOFILE, &saved, NULL), 0);
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        close(fd);
        daemon_wait_fds(daemon.monitor, n_fds);
        daemon_stop(&daemon);
}

/* --- The socket ------------------------------------------------------------------------------------------------- */

static void life_socket_of_the_living_is_left_alone(void **state) {
        struct daemon daemon;
        int fd;

        daemon_start(&daemon, NULL);
        run_expect(RUN("--socket", daemon.path), 1, "already running: a daemon answers at");
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        close(fd);
        daemon_stop(&daemon);
}

static void life_socket_of_the_dead_is_replaced(void **state) {
        const char *path = life_path("stale");
        struct stat status;
        pid_t pid;

        close(life_socket(SOCK_STREAM, path));
        pid = run_start(RUN("--socket", path));
        run_wait_said("serves at");
        assert_int_equal(lstat(path, &status), 0);
        assert_int_equal(status.st_mode & 0117, 0);
        kill(pid, SIGINT);
        assert_int_equal(run_wait(pid), 0);
        assert_int_equal(lstat(path, &status), -1);
}

static void life_path_of_something_else_is_left_alone(void **state) {
        const char *path = life_path("file");
        struct stat status;

        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        run_expect(RUN("--socket", path), 1, "exists and is no socket");
        assert_int_equal(lstat(path, &status), 0);
        run_expect(RUN("--socket", life_path("none/s")), 1, "its directory must exist");
}

/* Somebody replaced our socket file: it is not ours to remove. */
static void life_file_of_another_is_not_removed(void **state) {
        const char *path = life_path("s");
        struct stat status;
        pid_t pid;

        pid = run_start(RUN("--socket", path));
        run_wait_said("serves at");
        assert_int_equal(rename(path, life_path("moved")), 0);
        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        kill(pid, SIGTERM);
        assert_int_equal(run_wait(pid), 0);
        assert_int_equal(lstat(path, &status), 0);
}

/* --- Workers ---------------------------------------------------------------------------------------------------- */

static void life_worker_that_dies_is_replaced(void **state) {
        struct daemon daemon;
        pid_t before;
        int fd, n_fds;

        daemon_start(&daemon, NULL);
        before = daemon_worker(&daemon);
        n_fds = daemon_count_fds(daemon.monitor);
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        client_say(fd, "signal 10");
        client_expect_end(fd);
        close(fd);
        daemon_wait_log(&daemon, "died: signal 10 (User defined signal 1)");
        fd = daemon_connect(&daemon);
        client_expect(fd, "open 1", 0, "");
        assert_int_not_equal(daemon_worker(&daemon), before);
        close(fd);
        daemon_wait_fds(daemon.monitor, n_fds);
        daemon_stop(&daemon);
}

static int life_connect(const char *path) {
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_ok(fd);
        snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
        assert_int_equal(connect(fd, (struct sockaddr *) &name, sizeof(name)), 0);
        return fd;
}

/* A connection that was given to a worker in the instant of its death ends with it. */
static int life_connect_to_the_living(const char *path) {
        char reply[CLIENT_REPLY_SIZE];

        for (;;) {
                int fd = life_connect(path);

                if (send(fd, "peer\n", 5, MSG_NOSIGNAL) == 5 && client_hear(fd, reply) > 0)
                        return fd;
                close(fd);
        }
}

static void life_ends_when_workers_keep_dying(void **state) {
        const char *path = life_path("s");
        struct stat status;
        pid_t pid = run_start(RUN("--socket", path));

        run_wait_said("serves at");
        for (int i = 0; i < 5; i++) {
                int fd = life_connect_to_the_living(path);

                client_say(fd, "exit 9");
                client_expect_end(fd);
                close(fd);
        }
        assert_int_equal(run_wait(pid), 1);
        run_wait_said("5 workers died within 60 s: overlapd stops");
        assert_int_equal(lstat(path, &status), -1);
}

static void life_ends_when_no_worker_can_start(void **state) {
        setenv("OVL_TEST_DOUBLE", "fail", 1);
        run_expect(RUN("--socket", life_path("s"), "--workers", "2"), 1,
                   "could not start: the engine may not be used here (exit status 1)");
        run_wait_said("overlapd stops: no worker can be kept running");
}

static void life_worker_that_says_nothing_is_given_up(void **state) {
        setenv("OVL_TEST_DOUBLE", "mute", 1);
        run_expect(RUN("--socket", life_path("s")), 1, "was not ready within 10 s");
}

static void life_stops_at_once_at_the_second_signal(void **state) {
        uint64_t before;
        pid_t pid;

        setenv("OVL_TEST_DOUBLE", "stubborn", 1);
        pid = run_start(RUN("--socket", life_path("s")));
        run_wait_said("serves at");
        before = now_ns();
        kill(pid, SIGTERM);
        run_wait_said("overlapd stops: signal TERM");
        kill(pid, SIGTERM);
        assert_int_equal(run_wait(pid), 0);
        assert_true(now_ns() - before < 4 * NS_PER_S);
}

static void life_kills_workers_that_do_not_stop(void **state) {
        pid_t pid;

        setenv("OVL_TEST_DOUBLE", "stubborn", 1);
        pid = run_start(RUN("--socket", life_path("s")));
        run_wait_said("serves at");
        kill(pid, SIGTERM);
        assert_int_equal(run_wait(pid), 0);
        run_wait_said("not everybody ended within 5 s");
}

static void life_workers_die_with_the_monitor(void **state) {
        struct daemon daemon;
        pid_t workers[2];

        setenv("OVL_TEST_DOUBLE", "stubborn", 1);
        daemon_start(&daemon, RUN("--workers", "2"));
        daemon_workers(&daemon, workers, 2);
        daemon_kill(&daemon);
}

static void life_workers_start_clean(void **state) {
        struct daemon daemon;

        daemon_start(&daemon, NULL);
        daemon_wait_fds(daemon_worker(&daemon), 4);
        daemon_stop(&daemon);
}

#ifdef OVL_TEST_HOOKS
static void life_hooks_reach_the_workers(void **state) {
        setenv("OVL_TEST_KILLPOINT", "here:3", 1);
        run_expect(RUN("--private", "--log", "stderr", "--plant", "lost-record", "--", "sh", "-c",
                       "echo command:${OVL_TEST_KILLPOINT-none}"),
                   0, "plant lost-record, kill point here:3");
        run_wait_said("command:none");
        run_expect(RUN("--plant", "flowers"), 2,
                   "must be lost-record, doubled-record, swapped-bytes, swapped-datagram, lost-apc or doubled-apc");
}
#else
static void life_has_no_hooks(void **state) {
        run_expect(RUN("--plant", "lost-record"), 2, "only builds with test hooks have it");
}
#endif

/* --- The service manager ---------------------------------------------------------------------------------------- */

static void life_expect_notice(int fd, const char *text) {
        struct pollfd wait = { .fd = fd, .events = POLLIN };
        char notice[512];
        ssize_t n;

        for (;;) {
                assert_int_equal(poll(&wait, 1, 20000), 1);
                n = recv(fd, notice, sizeof(notice) - 1, 0);
                assert_true(n > 0);
                notice[n] = '\0';
                if (strstr(notice, text))
                        return;
        }
}

/* Reads to the last notice: nobody fed the watchdog in the name of a crew that gets nowhere. */
static void life_expect_end_without_watchdog(int fd) {
        struct pollfd wait = { .fd = fd, .events = POLLIN };
        char notice[512];
        ssize_t n;

        do {
                assert_int_equal(poll(&wait, 1, 20000), 1);
                n = recv(fd, notice, sizeof(notice) - 1, 0);
                assert_true(n > 0);
                notice[n] = '\0';
                assert_null(strstr(notice, "WATCHDOG=1"));
        } while (!strstr(notice, "STOPPING=1"));
}

static void life_tells_the_service_manager(void **state) {
        int notify_fd = life_socket(SOCK_DGRAM, life_path("notify"));
        pid_t pid;

        setenv("NOTIFY_SOCKET", life_path("notify"), 1);
        setenv("WATCHDOG_USEC", "200000", 1);
        pid = run_start(RUN("--socket", life_path("s")));
        life_expect_notice(notify_fd, "READY=1\nSTATUS=Serving at");
        life_expect_notice(notify_fd, "WATCHDOG=1");
        life_expect_notice(notify_fd, "WATCHDOG=1");
        kill(pid, SIGTERM);
        life_expect_notice(notify_fd, "STOPPING=1");
        assert_int_equal(run_wait(pid), 0);
        close(notify_fd);
}

/* Brackets a reload, and the status says what was wrong with it. */
static void life_tells_of_reloads(void **state) {
        int notify_fd = life_socket(SOCK_DGRAM, life_path("notify"));
        const char *path = life_path("conf");
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        pid_t pid;

        assert_ok(fd);
        setenv("NOTIFY_SOCKET", life_path("notify"), 1);
        pid = run_start(RUN("--socket", life_path("s"), "--config", path));
        life_expect_notice(notify_fd, "READY=1\nSTATUS=Serving at");
        kill(pid, SIGHUP);
        life_expect_notice(notify_fd, "RELOADING=1\nMONOTONIC_USEC=");
        life_expect_notice(notify_fd, "READY=1\nSTATUS=Serving at");
        assert_int_equal(write(fd, "Workers=x\n", 10), 10);
        kill(pid, SIGHUP);
        life_expect_notice(notify_fd, "RELOADING=1");
        life_expect_notice(notify_fd, "; the settings could not be reloaded, see the journal");
        assert_int_equal(ftruncate(fd, 0), 0);
        kill(pid, SIGHUP);
        life_expect_notice(notify_fd, "RELOADING=1");
        life_expect_notice(notify_fd, "READY=1\nSTATUS=Serving at");
        close(fd);
        close(notify_fd);
        kill(pid, SIGTERM);
        assert_int_equal(run_wait(pid), 0);
}

/* The process lives and can be written to, but no turn of it ends. */
static void life_worker_that_hangs_is_replaced(void **state) {
        int notify_fd = life_socket(SOCK_DGRAM, life_path("notify"));
        pid_t pid;

        setenv("NOTIFY_SOCKET", life_path("notify"), 1);
        setenv("WATCHDOG_USEC", "500000", 1);
        setenv("OVL_TEST_DOUBLE", "silent", 1);
        pid = run_start(RUN("--socket", life_path("s")));
        run_wait_said("is killed: it finished no turn while it was asked 2 times whether it lives");
        run_wait_said("died: signal 9");
        kill(pid, SIGTERM);
        life_expect_end_without_watchdog(notify_fd);
        run_wait(pid);
        close(notify_fd);
}

/* The first descriptor that a service manager passes is number 3: whatever has that number here moves away first. */
static void life_is_activated(void **state) {
        const char *path = life_path("activated");
        int listener_fd = life_socket(SOCK_STREAM, path), fd, saved_fd;
        struct stat status;
        pid_t pid;

        assert_int_equal(listen(listener_fd, 8), 0);
        saved_fd = fcntl(3, F_DUPFD_CLOEXEC, 10);
        assert_ok(listener_fd == 3 ? 0 : dup2(listener_fd, 3));
        assert_int_equal(fcntl(3, F_SETFD, 0), 0);
        setenv("LISTEN_FDS", "1", 1);
        pid = run_start(RUN("--log", "stderr"));
        unsetenv("LISTEN_FDS");
        run_wait_said(path);
        fd = life_connect(path);
        client_expect(fd, "open 1", 0, "");
        close(fd);
        kill(pid, SIGTERM);
        assert_int_equal(run_wait(pid), 0);
        assert_int_equal(lstat(path, &status), 0);
        if (listener_fd != 3) {
                dup2(saved_fd, 3);
                close(listener_fd);
        } else {
                close(listener_fd);
        }
        fd_close(saved_fd);
}

static void life_ignores_garbage_of_an_activator(void **state) {
        pid_t pid;

        setenv("LISTEN_FDS", "many", 1);
        pid = run_start(RUN("--socket", life_path("s")));
        run_wait_said("LISTEN_FDS is ignored");
        run_wait_said("serves at");
        kill(pid, SIGTERM);
        assert_int_equal(run_wait(pid), 0);
}

static void life_reloads_what_can_change(void **state) {
        const char *path = life_path("conf");
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        pid_t pid;

        assert_ok(fd);
        pid = run_start(RUN("--socket", life_path("s"), "--config", path, "--log", "stderr"));
        run_wait_said("serves at");
        assert_int_equal(write(fd, "[Daemon]\nWorkers=2\n", 19), 19);
        kill(pid, SIGHUP);
        run_wait_said("reloaded: of the settings, quotas and where lines are written can change; the other settings");
        assert_int_equal(write(fd, "Workers=x\n", 10), 10);
        kill(pid, SIGHUP);
        run_wait_said("nothing was reloaded: ");
        close(fd);
        kill(pid, SIGTERM);
        assert_int_equal(run_wait(pid), 0);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "connections are known and served by one worker", life_connections_are_known },
                { "connections that open nothing are limited", life_unopened_connections_are_limited },
                { "crowds are served", life_crowds_are_served },
                { "users are apart", life_users_are_apart },
                { "quotas are told", life_quotas_are_told },
                { "descriptors run out and come back", life_runs_out_of_descriptors },
                { "the socket of the living is left alone", life_socket_of_the_living_is_left_alone },
                { "the socket of the dead is replaced", life_socket_of_the_dead_is_replaced },
                { "what is no socket is left alone", life_path_of_something_else_is_left_alone },
                { "a file that somebody else made is not removed", life_file_of_another_is_not_removed },
                { "a worker that dies is replaced", life_worker_that_dies_is_replaced },
                { "workers that keep dying end the daemon", life_ends_when_workers_keep_dying },
                { "workers that cannot start end the daemon", life_ends_when_no_worker_can_start },
                { "a worker that says nothing is given up", life_worker_that_says_nothing_is_given_up },
                { "the second signal stops at once", life_stops_at_once_at_the_second_signal },
                { "workers that do not stop are killed", life_kills_workers_that_do_not_stop },
                { "workers die with the monitor", life_workers_die_with_the_monitor },
                { "workers start with four descriptors", life_workers_start_clean },
#ifdef OVL_TEST_HOOKS
                { "test hooks reach the workers", life_hooks_reach_the_workers },
#else
                { "a release has no test hooks", life_has_no_hooks },
#endif
                { "the service manager is told", life_tells_the_service_manager },
                { "the service manager is told of reloads", life_tells_of_reloads },
                { "a worker that hangs is replaced, and feeds no watchdog", life_worker_that_hangs_is_replaced },
                { "a socket of the service manager is used", life_is_activated },
                { "garbage of an activator is ignored", life_ignores_garbage_of_an_activator },
                { "a reload changes what can change", life_reloads_what_can_change },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
