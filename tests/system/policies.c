/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The policy at work: what no rule allows does not happen, and is told to the client and to the journal with the rule;
 * a reload holds for what is asked for later; and who is in another network is known by his control group only.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/layout.h"
#include "tests/harness/harness.h"
#include "tests/harness/netns.h"
#include "tests/system/client.h"

static const char *policies_path(const char *name) {
        static char path[128];

        snprintf(path, sizeof(path), "%s/p/%s", harness_directory(), name);
        return path;
}

static void policies_write(const char *text) {
        char path[128];
        FILE *file;

        snprintf(path, sizeof(path), "%s/p", harness_directory());
        mkdir(path, 0755);
        file = fopen(policies_path("rules.conf"), "we");
        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(chmod(policies_path("rules.conf"), 0644), 0);
}

static void policies_start(struct client *client, const char *text) {
        char path[128];

        policies_write(text);
        snprintf(path, sizeof(path), "%s/p", harness_directory());
        *client = (struct client){ 0 };
        estate_start(&client->estate, (const char *const[]){ "--policy", path, NULL });
        client_open(client, 0);
}

static struct sockaddr_in policies_address(const char *text, uint16_t port) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

        assert_int_equal(inet_pton(AF_INET, text, &address.sin_addr), 1);
        return address;
}

/* Returns the status of a connect from a socket of its own. */
static int policies_connect(struct client *client, int type, const char *text, uint16_t port) {
        const struct sockaddr_in address = policies_address(text, port);
        struct ovl_overlapped connecting = { 0 };
        uint64_t socket;
        int status;

        assert_ok(ovl_socket_open(client->thread, AF_INET, type, &socket));
        assert_ok(ovl_connect(client->thread, socket, (const struct sockaddr *) &address, sizeof(address), 0,
                              &connecting, NULL));
        status = client_await(client, &connecting);
        assert_true((status == -EACCES) == (connecting.reason == OVL_REASON_DENIED));
        if (status == -EACCES)
                assert_int_equal(ovl_thread_denied(client->thread), -EACCES);
        assert_ok(ovl_socket_close(client->thread, socket));
        return status;
}

static int policies_send(struct client *client, const char *text, uint16_t port) {
        const struct sockaddr_in address = policies_address(text, port);
        struct ovl_overlapped sending = { 0 };
        uint64_t socket;
        int status;

        assert_ok(ovl_socket_open(client->thread, AF_INET, SOCK_DGRAM, &socket));
        status = ovl_sendto(client->thread, socket, &(struct ovl_buffer){ client->memory, 3 }, 1, OVL_WANT_VERDICT,
                            (const struct sockaddr *) &address, sizeof(address), &sending, NULL);
        if (status >= 0)
                status = client_await(client, &sending);
        else
                assert_int_equal(ovl_thread_error(client->thread)->reason, OVL_REASON_DENIED);
        assert_ok(ovl_socket_close(client->thread, socket));
        return status;
}

static int policies_bind(struct client *client, int type, const char *text, uint16_t port, bool listens) {
        const struct sockaddr_in address = policies_address(text, port);
        uint64_t socket;
        int status;

        assert_ok(ovl_socket_open(client->thread, AF_INET, type, &socket));
        status = ovl_bind(client->thread, socket, (const struct sockaddr *) &address, sizeof(address));
        if (status == 0 && listens)
                status = ovl_listen(client->thread, socket, 1);
        assert_ok(ovl_socket_close(client->thread, socket));
        return status;
}

static void policies_expect_text(struct client *client, const char *text) {
        const char *said = ovl_thread_error(client->thread)->text;

        if (!strstr(said, text))
                fail_msg("expected '%s' in '%s'", text, said);
}

/* A listening socket of the machine, and its port. */
static int policies_listen(int type, uint16_t *ret_port) {
        struct sockaddr_in address = policies_address("127.0.0.1", 0);
        socklen_t len = sizeof(address);
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(fd, (struct sockaddr *) &address, len), 0);
        if (type == SOCK_STREAM)
                assert_int_equal(listen(fd, 16), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) &address, &len), 0);
        *ret_port = ntohs(address.sin_port);
        return fd;
}

/* --- What is refused --------------------------------------------------------------------------------------------- */

static void policies_nothing_without_a_rule(void **state) {
        struct client client;
        uint16_t port;
        int fd = policies_listen(SOCK_STREAM, &port), exported;
        uint64_t socket;

        policies_start(&client, "");
        assert_int_equal(ovl_thread_denied(client.thread), -ENODATA);
        daemon_wait_log(&client.estate.daemon, "so nobody may use the network");
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "127.0.0.1", port), -EACCES);
        assert_int_equal(policies_connect(&client, SOCK_DGRAM, "127.0.0.1", port), -EACCES);
        assert_int_equal(policies_send(&client, "127.0.0.1", port), -EACCES);
        assert_int_equal(policies_bind(&client, SOCK_STREAM, "0.0.0.0", 0, true), -EACCES);
        policies_expect_text(&client, "the policy does not allow this: no rule allows it");
        assert_int_equal(policies_bind(&client, SOCK_DGRAM, "127.0.0.1", 0, false), -EACCES);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &socket));
        assert_int_equal(ovl_socket_export(client.thread, socket, &exported), -EACCES);
        policies_expect_text(&client, "no rule allows it");
        assert_ok(ovl_socket_close(client.thread, socket));
        daemon_wait_log(&client.estate.daemon, "the policy does not allow this: no rule allows it");
        close(fd);
        client_stop(&client);
}

static void policies_rules_decide(void **state) {
        uint16_t open_port, closed_port, datagram_port;
        int fds[3] = { policies_listen(SOCK_STREAM, &open_port), policies_listen(SOCK_STREAM, &closed_port),
                       policies_listen(SOCK_DGRAM, &datagram_port) };
        struct client client;
        char text[1024], bytes[8];

        snprintf(text, sizeof(text),
                 "[deny closed]\nUser=*\nAction=connect\nTo=127.0.0.0/8\nPort=%u\n"
                 "[allow near]\nUser=*\nAction=connect\nTo=localhost\nPort=1-65534\n"
                 "[allow server]\nUser=*\nAction=listen\nAt=127.0.0.1\nPort=1024-65535\n",
                 closed_port);
        policies_start(&client, text);
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "127.0.0.1", open_port), 0);
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "127.0.0.1", closed_port), -EACCES);
        snprintf(text, sizeof(text), "the policy does not allow this: %s:1: [deny closed]",
                 policies_path("rules.conf"));
        policies_expect_text(&client, text);
        snprintf(text, sizeof(text), "127.0.0.1:%u: the policy does not allow this: %s:1: [deny closed]", closed_port,
                 policies_path("rules.conf"));
        daemon_wait_log(&client.estate.daemon, text);
        assert_int_equal(policies_send(&client, "127.0.0.1", datagram_port), 0);
        assert_int_equal(recv(fds[2], bytes, sizeof(bytes), 0), 3);
        assert_int_equal(policies_send(&client, "127.0.0.1", closed_port), -EACCES);
        policies_expect_text(&client, "[deny closed]");
        snprintf(text, sizeof(text), "send to 127.0.0.1:%u: the policy does not allow this: %s:1: [deny closed]",
                 closed_port, policies_path("rules.conf"));
        daemon_wait_log(&client.estate.daemon, text);
        assert_int_equal(policies_connect(&client, SOCK_DGRAM, "127.0.0.1", closed_port), -EACCES);
        assert_int_equal(policies_bind(&client, SOCK_STREAM, "127.0.0.1", 0, true), 0);
        assert_int_equal(policies_bind(&client, SOCK_STREAM, "0.0.0.0", 0, true), -EACCES);
        assert_int_equal(policies_bind(&client, SOCK_STREAM, "127.0.0.1", 80, true), -EACCES);
        policies_expect_text(&client, "the policy does not allow this: no rule allows it");
        for (size_t i = 0; i < HARNESS_N(fds); i++)
                close(fds[i]);
        client_stop(&client);
}

/* --- Reload ------------------------------------------------------------------------------------------------------ */

static void policies_reload(struct client *client, const char *text, const char *said) {
        policies_write(text);
        assert_int_equal(kill(client->estate.daemon.monitor, SIGHUP), 0);
        daemon_wait_log(&client->estate.daemon, said);
}

static void policies_are_read_again(void **state) {
        static const char first[] = "[allow near]\nUser=*\nAction=connect\nTo=localhost\n";
        uint16_t port, datagram_port;
        int fds[2] = { policies_listen(SOCK_STREAM, &port), policies_listen(SOCK_DGRAM, &datagram_port) };
        struct client client;
        char said[256];

        policies_start(&client, first);
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "127.0.0.1", port), 0);
        assert_int_equal(policies_send(&client, "127.0.0.1", datagram_port), 0);
        /* Mistakes leave all as it was, and each has a line. */
        snprintf(said, sizeof(said), "nothing was reloaded, the policy is as before: %s:3: Prt=5: unknown key",
                 policies_path("rules.conf"));
        policies_reload(&client, "[deny all]\nUsr=*\nPrt=5\n", said);
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "127.0.0.1", port), 0);
        assert_int_equal(policies_send(&client, "127.0.0.1", datagram_port), 0);
        policies_reload(&client, "[deny one]\nUser=*\nAction=connect\n[deny two]\nUser=*\nAction=listen\n",
                        "reloaded: policy: 2 rules");
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "127.0.0.1", port), -EACCES);
        assert_int_equal(policies_send(&client, "127.0.0.1", datagram_port), -EACCES);
        policies_reload(&client, first, "reloaded: policy: 1 rules");
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "127.0.0.1", port), 0);
        assert_int_equal(policies_send(&client, "127.0.0.1", datagram_port), 0);
        close(fds[0]);
        close(fds[1]);
        client_stop(&client);
}

/* --- Other networks ---------------------------------------------------------------------------------------------- */

/* What a client in a network of its own gets of the daemon's. */
static void policies_expect_elsewhere(struct client *client, uint16_t port, int status) {
        struct client guest = { .estate = client->estate };
        pid_t pid;

        fflush(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (unshare(CLONE_NEWNET) < 0)
                        _exit(77);
                client_open(&guest, 0);
                assert_int_equal(policies_connect(&guest, SOCK_STREAM, "127.0.0.1", port), status);
                assert_int_equal(policies_send(&guest, "127.0.0.1", port), status);
                client_close(&guest);
                _exit(0);
        }
        harness_expect_child(pid);
}

static void policies_know_other_networks(void **state) {
        _cleanup_free_ char *cgroup = NULL;
        struct client client;
        uint16_t port;
        char text[1024];
        int fd;

        netns_enter();
        if (sd_pid_get_cgroup(0, &cgroup) < 0)
                harness_skip("the control group of a process cannot be told here");
        fd = policies_listen(SOCK_STREAM, &port);
        policies_start(&client, "[allow user]\nUser=*\nAction=connect\nTo=localhost\n");
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "127.0.0.1", port), 0);
        policies_expect_elsewhere(&client, port, -EACCES);
        snprintf(text, sizeof(text), "[allow cgroup]\nCgroup=%s\nAction=connect\nTo=localhost\n",
                 cgroup[0] ? cgroup : "/");
        policies_reload(&client, text, "reloaded: policy: 1 rules");
        policies_expect_elsewhere(&client, port, 0);
        close(fd);
        client_stop(&client);
}

/* --- The journal -------------------------------------------------------------------------------------------------- */

/* Stands in for journald. */
static int policies_journal(void) {
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        assert_ok(fd);
        snprintf(name.sun_path, sizeof(name.sun_path), "%s/journal", harness_directory());
        assert_int_equal(bind(fd, (struct sockaddr *) &name, sizeof(name)), 0);
        assert_int_equal(setenv("OVL_TEST_JOURNAL", name.sun_path, 1), 0);
        return fd;
}

/* Takes lines until one has this in its message, and checks who it says asked. socket: of its client; 0: none. */
static void policies_expect_line(struct client *client, int journal_fd, const char *message, uint64_t socket,
                                 bool is_op) {
        const struct timeval patience = { .tv_sec = 10 };
        _cleanup_free_ char *cgroup = NULL;
        char line[8192], fields[1200];
        ssize_t n;

        assert_int_equal(setsockopt(journal_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
        do {
                n = recv(journal_fd, line, sizeof(line) - 1, 0);
                if (n <= 0)
                        fail_msg("no line says '%s'", message);
                line[n] = '\0';
        } while (!strstr(line, message));
        snprintf(fields, sizeof(fields), "\nSESSION=%016llx\nCLIENT_PID=%d\nCLIENT_UID=%u\n",
                 (unsigned long long) client_number(client), (int) getpid(), (unsigned) getuid());
        if (!strstr(line, fields))
                fail_msg("expected '%s' in: %s", fields, line);
        snprintf(fields, sizeof(fields), "\nCLIENT_CGROUP=%.1000s\n",
                 sd_pid_get_cgroup(0, &cgroup) >= 0 && cgroup[0] ? cgroup : "/");
        if (cgroup && !strstr(line, fields))
                fail_msg("expected '%s' in: %s", fields, line);
        snprintf(fields, sizeof(fields), "\nCLIENT_THREAD=%llu\n",
                 (unsigned long long) ovl_thread_number(client->thread));
        if (!strstr(line, fields))
                fail_msg("expected '%s' in: %s", fields, line);
        snprintf(fields, sizeof(fields), "\nCLIENT_SOCKET=%llu\n", (unsigned long long) socket);
        if ((socket != 0) != (strstr(line, fields) != NULL) || is_op != (strstr(line, "\nCLIENT_OP=") != NULL))
                fail_msg("expected a socket %llu, and that it is an operation: %d, in: %s", (unsigned long long) socket,
                         is_op, line);
}

static void policies_journal_says_who(void **state) {
        static const char rules[] = "[allow near]\nUser=*\nAction=connect listen\nTo=127.0.0.1\nAt=127.0.0.1\n";
        const struct sockaddr_in nowhere = policies_address("127.0.0.2", 9);
        struct ovl_overlapped op = { 0 };
        struct sockaddr_storage found;
        uint64_t listener, stream, datagram;
        struct sockaddr_in near;
        struct client client;
        int journal_fd = policies_journal();
        socklen_t len = sizeof(near);

        policies_start(&client, rules);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &listener));
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &stream));
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &datagram));
        near = policies_address("127.0.0.1", 0);
        assert_ok(ovl_bind(client.thread, listener, (struct sockaddr *) &near, sizeof(near)));
        assert_ok(ovl_listen(client.thread, listener, 1));
        policies_expect_line(&client, journal_fd, "\nMESSAGE=listens at 127.0.0.1:", listener, false);
        assert_ok(ovl_getsockname(client.thread, listener, (struct sockaddr *) &near, &len));
        assert_ok(ovl_connect(client.thread, stream, (struct sockaddr *) &nowhere, sizeof(nowhere), 0, &op, NULL));
        assert_int_equal(client_await(&client, &op), -EACCES);
        policies_expect_line(&client, journal_fd, "\nMESSAGE=127.0.0.2:9: the policy", stream, true);
        assert_ok(ovl_connect(client.thread, stream, (struct sockaddr *) &near, sizeof(near), 0, &op, NULL));
        assert_int_equal(client_await(&client, &op), 0);
        policies_expect_line(&client, journal_fd, "\nMESSAGE=connected to 127.0.0.1:", stream, true);
        assert_int_equal(ovl_sendto(client.thread, datagram, &(struct ovl_buffer){ client.memory, 3 }, 1,
                                    OVL_WANT_VERDICT, (struct sockaddr *) &nowhere, sizeof(nowhere), &op, NULL),
                         -EACCES);
        policies_expect_line(&client, journal_fd, "\nMESSAGE=send to 127.0.0.2:9: the policy", datagram, true);
        assert_ok(ovl_resolve(client.thread, "db.test", AF_INET, SOCK_STREAM, 0, &found, 1, 0, &op, NULL));
        assert_int_equal(client_await(&client, &op), -EACCES);
        policies_expect_line(&client, journal_fd, "\nMESSAGE=resolve db.test: the policy", 0, true);
        client_close(&client);
        daemon_stop(&client.estate.daemon);
        close(journal_fd);
}

/* --- Names ------------------------------------------------------------------------------------------------------- */

static int policies_resolve(struct client *client, const char *name) {
        struct sockaddr_storage addresses[4];
        struct ovl_overlapped looking = { 0 };

        assert_ok(ovl_resolve(client->thread, name, AF_INET, SOCK_STREAM, 0, addresses, HARNESS_N(addresses), 0,
                              &looking, NULL));
        return client_await(client, &looking);
}

/* In a network without routes, what is allowed does not get far. */
static void policies_names_stand_for_what_was_found(void **state) {
        struct client client;
        char path[128];
        FILE *file;

        netns_enter();
        snprintf(path, sizeof(path), "%s/hosts", harness_directory());
        file = fopen(path, "we");
        assert_true(fputs("db.test 192.0.2.4\nother.test 192.0.2.5\nevil.test 127.0.0.1\n", file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(setenv("OVL_TEST_HOSTS", path, 1), 0);
        policies_start(&client, "[allow db]\nUser=*\nAction=connect sendto\nTo=db.test evil.test\nPort=5432\n");
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "192.0.2.4", 5432), -EACCES);
        assert_int_equal(policies_resolve(&client, "db.test"), 0);
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "192.0.2.4", 5432), -ENETUNREACH);
        assert_int_equal(policies_send(&client, "192.0.2.4", 5432), -ENETUNREACH);
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "192.0.2.4", 5433), -EACCES);
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "192.0.2.5", 5432), -EACCES);
        assert_int_equal(policies_resolve(&client, "other.test"), -EACCES);
        assert_int_equal(ovl_thread_denied(client.thread), -EACCES);
        policies_expect_text(&client, "ovl_thread_denied: the policy does not allow this: no rule allows it");
        daemon_wait_log(&client.estate.daemon, "resolve other.test: the policy does not allow this: no rule allows it");
        /* A name that turns out to be this machine opens nothing on it. */
        assert_int_equal(policies_resolve(&client, "evil.test"), 0);
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "127.0.0.1", 5432), -EACCES);
        assert_int_equal(policies_send(&client, "127.0.0.1", 5432), -EACCES);
        client_close(&client);
        daemon_stop(&client.estate.daemon);
}

/* The machine gets an address while the daemon runs: what was allowed as somebody else's is its own now. */
static void policies_know_own_addresses(void **state) {
        struct client client;

        netns_enter();
        policies_start(&client, "[allow all]\nUser=*\nAction=connect\nTo=any\n");
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "192.0.2.9", 9), -ENETUNREACH);
        assert_int_equal(policies_send(&client, "192.0.2.9", 9), -ENETUNREACH);
        netns_add_address("192.0.2.9");
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "192.0.2.9", 9), -EACCES);
        assert_int_equal(policies_send(&client, "192.0.2.9", 9), -EACCES);
        netns_remove_address("192.0.2.9");
        assert_int_equal(policies_connect(&client, SOCK_STREAM, "192.0.2.9", 9), -ENETUNREACH);
        client_close(&client);
        daemon_stop(&client.estate.daemon);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "without a rule nothing happens", policies_nothing_without_a_rule },
                { "rules decide, and are named", policies_rules_decide },
                { "a reload holds, a mistake changes nothing", policies_are_read_again },
                { "who is in another network is covered by its control group only", policies_know_other_networks },
                { "the journal says who asked", policies_journal_says_who },
                { "names stand for what was found", policies_names_stand_for_what_was_found },
                { "the machine's own addresses are known as they come", policies_know_own_addresses },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
