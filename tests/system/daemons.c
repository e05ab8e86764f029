/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon as a process: not there, twice there, asked to stop, killed in parts and at each kill point. Whatever
 * dies, every operation that was pending ends with a status, no call hangs, and what remains serves again.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"
#include "tests/system/client.h"

#define DAEMONS_SESSION "--open-a-session" /* what a private daemon runs: this program */
#define DAEMONS_PENDING 16

/* --- Not there -------------------------------------------------------------------------------------------------- */

static void daemons_expect_no_session(const char *path, int status, const char *text) {
        struct ovl_session_options options = { .path = path };
        struct ovl_session *session = NULL;
        struct ovl_error error = { 0 };
        int r;

        r = ovl_session_open(&options, &session, &error);
        if (r != status || error.status != status)
                fail_msg("opening a session at %s returned %d, not %d: %s", path, r, status, error.text);
        assert_null(session);
        if (!strstr(error.text, text))
                fail_msg("\"%s\" does not say \"%s\"", error.text, text);
}

static void daemons_that_are_not_there(void **state) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char path[300];
        int fd;

        snprintf(path, sizeof(path), "%s/none", harness_directory());
        daemons_expect_no_session(path, -ENOENT, path);
        /* A socket that nobody listens on any more. */
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/stale", harness_directory());
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof(address)), 0);
        close(fd);
        daemons_expect_no_session(address.sun_path, -ECONNREFUSED, address.sun_path);
        memset(path, 'p', sizeof(path));
        path[0] = '/';
        path[108] = '\0';
        daemons_expect_no_session(path, -ENAMETOOLONG, "10");
        /* The environment says where, unless the caller does. */
        snprintf(path, sizeof(path), "%s/elsewhere", harness_directory());
        setenv("OVERLAPD_SOCKET", path, 1);
        daemons_expect_no_session(NULL, -ENOENT, "elsewhere");
}

static void daemons_refuse_other_users(void **state) {
        struct daemon daemon;
        pid_t pid;

        harness_want_other_user();
        daemon_start(&daemon, NULL);
        pid = harness_fork_other_user();
        if (pid == 0) {
                daemons_expect_no_session(daemon.path, -EACCES, daemon.path);
                _exit(0);
        }
        harness_expect_child(pid);
        daemon_stop(&daemon);
}

/* --- Other programs --------------------------------------------------------------------------------------------- */

static pid_t daemons_spawn(const char *const *line) {
        char path[128];
        pid_t pid;
        int fd;

        snprintf(path, sizeof(path), "%s/said.log", harness_directory());
        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid > 0)
                return pid;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execv(line[0], (char **) line);
        _exit(125);
}

static void daemons_expect_said(const char *text) {
        char path[128], said[8192];
        _cleanup_fd_ int fd = -1;
        ssize_t n;

        snprintf(path, sizeof(path), "%s/said.log", harness_directory());
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = read(fd, said, sizeof(said) - 1);
        said[n > 0 ? n : 0] = '\0';
        if (!strstr(said, text))
                fail_msg("it said \"%s\", not \"%s\"", said, text);
}

/* Returns the exit status, or 128 and the signal. */
static int daemons_run(const char *const *line) {
        pid_t pid = daemons_spawn(line);
        int status;

        if (process_wait_end(pid, harness_deadline(20)) < 0)
                fail_msg("%s did not end", line[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define DAEMONS_RUN(...) daemons_run((const char *const[]){ getenv("OVL_TEST_OVERLAPD"), __VA_ARGS__, NULL })

static void daemons_second_one_gives_way(void **state) {
        struct client client;

        client_start(&client);
        assert_int_not_equal(DAEMONS_RUN("--socket", client.estate.daemon.path, "--log", "stderr"), 0);
        daemons_expect_said("already running");
        client_stop(&client);
}

static void daemons_check_their_configuration(void **state) {
        char good[128], bad[128];
        FILE *file;

        snprintf(good, sizeof(good), "%s/good.conf", harness_directory());
        snprintf(bad, sizeof(bad), "%s/bad.conf", harness_directory());
        file = fopen(good, "we");
        fputs("[Daemon]\nWorkers=2\nEngine=uring\n", file);
        fclose(file);
        file = fopen(bad, "we");
        fputs("[Daemon]\nWorkers=2\nEngine=steam\n", file);
        fclose(file);
        assert_int_equal(DAEMONS_RUN("--check-config", "--config", good), 0);
        daemons_expect_said("OK");
        assert_int_equal(DAEMONS_RUN("--check-config", "--config", bad), 1);
        daemons_expect_said("bad.conf:3");
}

/* --- Private ones ----------------------------------------------------------------------------------------------- */

/* The command of a private daemon: a session through what the environment says. */
static int daemons_open_a_session(void) {
        struct ovl_session *session = NULL;
        struct ovl_thread *thread = NULL;
        struct ovl_error error = { 0 };
        uint64_t socket;
        int r;

        r = ovl_session_open(NULL, &session, &error);
        if (r == 0)
                r = ovl_thread_open(session, &thread, &error);
        if (r == 0)
                r = ovl_socket_open(thread, AF_INET, SOCK_STREAM, &socket);
        if (r < 0)
                fprintf(stderr, "no session: %s\n", error.text);
        ovl_thread_close(thread);
        ovl_session_free(session);
        return r < 0 ? 1 : 42;
}

static size_t daemons_count_files(const char *path) {
        DIR *directory = opendir(path);
        size_t n = 0;

        assert_non_null(directory);
        while (readdir(directory))
                n++;
        closedir(directory);
        return n;
}

static void daemons_private_one_serves_its_command(void **state) {
        char self[256], directory[128];
        ssize_t n;

        n = readlink("/proc/self/exe", self, sizeof(self) - 1);
        assert_true(n > 0);
        self[n] = '\0';
        snprintf(directory, sizeof(directory), "%s/run", harness_directory());
        assert_int_equal(mkdir(directory, 0700), 0);
        setenv("XDG_RUNTIME_DIR", directory, 1);
        assert_int_equal(DAEMONS_RUN("--private", "--", self, DAEMONS_SESSION), 42);
        assert_int_equal(DAEMONS_RUN("--private", "--workers", "3", "--", self, DAEMONS_SESSION), 42);
        assert_int_equal(DAEMONS_RUN("--private", "--", "/bin/sh", "-c", "exit 7"), 7);
        assert_int_equal(DAEMONS_RUN("--private", "--", "/bin/sh", "-c", "kill -TERM $$"), 128 + SIGTERM);
        assert_int_equal(DAEMONS_RUN("--private", "--", "/no/such/command"), 127);
        assert_int_equal(daemons_count_files(directory), 2);
}

/* --- Stopped and killed with operations pending ----------------------------------------------------------------- */

/* A client that waits for everything that one can wait for. */
struct daemons_waiting {
        struct client client;
        struct ovl_overlapped receiving[DAEMONS_PENDING], sending, accepting;
        struct ovl_region *region;
        uint64_t socket, listener;
        int fd;
};

static void daemons_wait_for_all(struct daemons_waiting *waiting) {
        struct sockaddr_storage address;
        socklen_t len;
        size_t big;

        client_start(&waiting->client);
        waiting->socket = client_pair(&waiting->client, AF_INET, &waiting->fd);
        big = client_big(&waiting->client, waiting->socket, waiting->fd, 32u << 20);
        waiting->listener = client_listen(&waiting->client, AF_INET, &address, &len);
        assert_ok(ovl_region_open(waiting->client.thread, big, &waiting->region));
        for (size_t i = 0; i < DAEMONS_PENDING; i++)
                assert_ok(client_recv(&waiting->client, waiting->socket, waiting->client.memory, 10, 0,
                                      &waiting->receiving[i]));
        assert_ok(client_send(&waiting->client, waiting->socket, ovl_region_data(waiting->region), big, 0,
                              &waiting->sending));
        assert_ok(ovl_accept(waiting->client.thread, waiting->listener, 0, &waiting->accepting, NULL));
}

/* Everything ended, at once, with what says that the daemon is gone; nothing hangs afterwards. */
static void daemons_expect_ended(struct daemons_waiting *waiting) {
        struct ovl_overlapped later = { 0 };
        struct client *client = &waiting->client;
        uint64_t socket;

        for (size_t i = 0; i < DAEMONS_PENDING; i++)
                client_expect(client, &waiting->receiving[i], -ECONNABORTED, 0);
        assert_int_equal(client_await(client, &waiting->sending), -ECONNABORTED);
        assert_int_equal(client_await(client, &waiting->accepting), -ECONNABORTED);
        assert_int_equal(ovl_dispatch(client->thread), -ECONNABORTED);
        assert_int_equal(ovl_sleep(client->thread, client_patience()), -ECONNABORTED);
        assert_int_equal(client_recv(client, waiting->socket, client->memory, 1, OVL_WANT_VERDICT, &later),
                         -ECONNABORTED);
        assert_int_equal(ovl_socket_open(client->thread, AF_INET, SOCK_STREAM, &socket), -ECONNABORTED);
        assert_int_equal(ovl_socket_close(client->thread, waiting->socket), -ECONNABORTED);
        assert_true(ovl_region_close(client->thread, waiting->region) < 0);
        assert_true(ovl_region_close(client->thread, client->region) < 0);
        client->thread = ovl_thread_close(client->thread);
        client->session = ovl_session_free(client->session);
        client->region = NULL;
        close(waiting->fd);
}

static void daemons_stop_with_operations_pending(void **state) {
        struct daemons_waiting waiting = { 0 };

        daemons_wait_for_all(&waiting);
        daemon_stop(&waiting.client.estate.daemon);
        daemons_expect_ended(&waiting);
}

static void daemons_are_killed_with_operations_pending(void **state) {
        struct daemons_waiting waiting = { 0 };

        daemons_wait_for_all(&waiting);
        daemon_kill(&waiting.client.estate.daemon);
        daemons_expect_ended(&waiting);
}

/* Whether the worker is another than it was. */
static bool daemons_has_successor(void *data) {
        const struct estate *estate = data;
        pid_t pids[4];

        return process_children(estate->daemon.monitor, pids, 4) == 1 && pids[0] != estate->worker &&
               process_count_fds(pids[0]) != 0;
}

static void daemons_expect_successor(struct estate *estate) {
        struct client again = { .estate.daemon = estate->daemon };
        struct ovl_overlapped receiving = { 0 };
        uint64_t socket;
        int fd;

        if (!harness_wait(daemons_has_successor, estate, harness_deadline(10)))
                fail_msg("no successor of the worker came");
        client_open(&again, 0);
        socket = client_pair(&again, AF_INET, &fd);
        assert_ok(client_recv(&again, socket, again.memory, 10, 0, &receiving));
        peer_write(fd, "again", 5);
        client_expect(&again, &receiving, 0, 5);
        close(fd);
        client_close(&again);
        daemon_wait_fds(estate->daemon.monitor, estate->n_monitor_fds);
}

static void daemons_worker_is_killed(void **state) {
        struct daemons_waiting waiting = { 0 };
        struct estate *estate = &waiting.client.estate;

        daemons_wait_for_all(&waiting);
        kill(estate->worker, SIGKILL);
        daemons_expect_ended(&waiting);
        daemons_expect_successor(estate);
        daemon_wait_fds(daemon_worker(&estate->daemon), estate->n_worker_fds);
        daemon_stop(&estate->daemon);
}

struct daemons_crew {
        struct daemon daemon;
        pid_t killed, pids[3];
};

static bool daemons_crew_is_whole(void *data) {
        struct daemons_crew *crew = data;

        if (process_children(crew->daemon.monitor, crew->pids, 3) != 3)
                return false;
        for (size_t i = 0; i < 3; i++) {
                char ready[64];

                snprintf(ready, sizeof(ready), "worker %d is ready", (int) crew->pids[i]);
                if (crew->pids[i] == crew->killed || !daemon_log_has(&crew->daemon, ready))
                        return false;
        }
        return true;
}

/* A worker takes none of the others with it. */
static void daemons_one_of_many_workers_is_killed(void **state) {
        static const char *const arguments[] = { "--workers", "3", NULL };
        struct daemons_crew crew = { 0 };
        pid_t before[3];
        size_t n_same = 0;

        daemon_start(&crew.daemon, arguments);
        assert_true(harness_wait(daemons_crew_is_whole, &crew, harness_deadline(10)));
        memcpy(before, crew.pids, sizeof(before));
        crew.killed = before[1];
        kill(crew.killed, SIGKILL);
        assert_true(harness_wait(daemons_crew_is_whole, &crew, harness_deadline(10)));
        for (size_t i = 0; i < 3; i++)
                for (size_t k = 0; k < 3; k++)
                        n_same += before[i] == crew.pids[k];
        assert_int_equal(n_same, 2);
        daemon_stop(&crew.daemon);
}

/* --- Kill points ------------------------------------------------------------------------------------------------ */

#ifdef OVL_TEST_HOOKS
/* Moves bytes until the daemon is gone, and sees each operation end. */
static void daemons_use_until_death(struct client *client) {
        struct ovl_overlapped receiving[4] = { 0 }, sending[4] = { 0 };
        struct ovl_overlapped connecting = { 0 }, accepting = { 0 };
        struct sockaddr_storage address;
        uint64_t listener, socket;
        socklen_t len = client_loopback(AF_INET, &address);
        bool is_dead = false;

        if (ovl_socket_open(client->thread, AF_INET, SOCK_STREAM, &listener) < 0 ||
            ovl_bind(client->thread, listener, (struct sockaddr *) &address, len) < 0 ||
            ovl_listen(client->thread, listener, 5) < 0 ||
            ovl_getsockname(client->thread, listener, (struct sockaddr *) &address, &len) < 0 ||
            ovl_socket_open(client->thread, AF_INET, SOCK_STREAM, &socket) < 0)
                return;
        ovl_accept(client->thread, listener, 0, &accepting, NULL);
        ovl_connect(client->thread, socket, (struct sockaddr *) &address, len, 0, &connecting, NULL);
        if (client_await(client, &connecting) < 0 || client_await(client, &accepting) < 0)
                return;
        for (size_t round = 0; !is_dead; round++) {
                assert_true(round < 1000);
                /* It may die between two rounds: then nothing starts any more. */
                for (size_t i = 0; i < 4; i++) {
                        int r = client_recv(client, accepting.value, client->memory + i * 100, 100, OVL_WAITALL,
                                            &receiving[i]);
                        int q = client_send(client, socket, client->memory + 1000, 100, 0, &sending[i]);

                        is_dead = is_dead || r == -ECONNABORTED || q == -ECONNABORTED;
                }
                for (size_t i = 0; i < 4; i++) {
                        int r = client_await(client, &receiving[i]), q = client_await(client, &sending[i]);

                        assert_true(r == 0 || r == -ECONNABORTED);
                        assert_true(q == 0 || q == -ECONNABORTED);
                        is_dead = is_dead || r < 0 || q < 0;
                }
        }
        assert_int_equal(ovl_dispatch(client->thread), -ECONNABORTED);
}

static void daemons_die_at(const char *label, unsigned passage) {
        struct client client = { 0 };
        char value[64];

        snprintf(value, sizeof(value), "%s:%u", label, passage);
        setenv("OVL_TEST_KILLPOINT", value, 1);
        daemon_start(&client.estate.daemon, NULL);
        client.estate.worker = daemon_worker(&client.estate.daemon);
        client_open(&client, 0);
        daemons_use_until_death(&client);
        ovl_region_close(client.thread, client.region);
        client.region = NULL;
        client.thread = ovl_thread_close(client.thread);
        client.session = ovl_session_free(client.session);
        if (!harness_wait(daemons_has_successor, &client.estate, harness_deadline(10)))
                fail_msg("no successor of the worker that died at %s came", value);
        client_open(&client, 0);
        client_close(&client);
        daemon_stop(&client.estate.daemon);
        unsetenv("OVL_TEST_KILLPOINT");
}

#endif

static void daemons_die_at_each_kill_point(void **state) {
#ifdef OVL_TEST_HOOKS
        static const char *const labels[] = {
                "session-post", "session-indicate", "socket-start", "socket-finish", "peer-publish",
        };
        static const unsigned passages[] = { 1, 2, 7, 30 };
        char log[64];

        for (size_t i = 0; i < HARNESS_N(labels); i++) {
                for (size_t k = 0; k < HARNESS_N(passages); k++) {
                        daemons_die_at(labels[i], passages[k]);
                        /* A case has room for a few daemons: the log is given up with the daemon. */
                        snprintf(log, sizeof(log), "%s/overlapd-s.log", harness_directory());
                        unlink(log);
                }
        }
#else
        harness_skip("this build has no kill points: -Dtest_hooks=true");
#endif
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "a daemon that is not there", daemons_that_are_not_there },
                { "a daemon refuses other users", daemons_refuse_other_users },
                { "a second daemon gives way", daemons_second_one_gives_way },
                { "settings are checked", daemons_check_their_configuration },
                { "a private daemon serves its command and goes", daemons_private_one_serves_its_command },
                { "a daemon stops with operations pending", daemons_stop_with_operations_pending },
                { "a daemon is killed with operations pending", daemons_are_killed_with_operations_pending },
                { "a worker is killed with operations pending", daemons_worker_is_killed },
                { "one of many workers is killed", daemons_one_of_many_workers_is_killed },
                { "a worker dies at each kill point", daemons_die_at_each_kill_point, 120 },
        };

        if (argc == 2 && strcmp(argv[1], DAEMONS_SESSION) == 0)
                return daemons_open_a_session();
        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
