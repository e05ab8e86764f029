/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Names. No case asks a name server: addresses as one writes them, "localhost", and names that only the file of
 * OVL_TEST_HOSTS knows, some of which never end.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/layout.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"
#include "tests/system/client.h"
#include "tests/system/raw.h"

#define NAMES_N 4u /* addresses that a lookup has room for */

static const char names_hosts[] = "four.test 192.0.2.4\n"
                                  "six.test 2001:db8::6\n"
                                  "hang.test !hang\n"
                                  "again.test !again\n"
                                  "failed.test !failed\n";

/* One lookup and what it gave. */
struct lookup {
        struct ovl_overlapped overlapped;
        struct sockaddr_storage addresses[NAMES_N];
};

static void names_plant(void) {
        char path[128];
        FILE *file;

        snprintf(path, sizeof(path), "%s/hosts", harness_directory());
        file = fopen(path, "we");
        assert_non_null(file);
        assert_true(fputs(names_hosts, file) >= 0);
        assert_int_equal(fclose(file), 0);
        assert_int_equal(setenv("OVL_TEST_HOSTS", path, 1), 0);
}

static void names_start(struct client *client) {
        names_plant();
        client_start(client);
}

/* --- The resolver's process ------------------------------------------------------------------------------------- */

/* The resolver, or 0 when none runs. */
static pid_t names_resolver(const struct client *client) {
        pid_t pids[4];
        size_t n = process_children(client->estate.daemon.monitor, pids, HARNESS_N(pids));

        for (size_t i = 0; i < n && i < HARNESS_N(pids); i++)
                if (pids[i] != client->estate.worker)
                        return pids[i];
        return 0;
}

static bool names_has_resolver(void *data) {
        return names_resolver(data) != 0;
}

static bool names_has_no_resolver(void *data) {
        return names_resolver(data) == 0;
}

static void names_kill_resolver(struct client *client) {
        pid_t pid = names_resolver(client);

        assert_true(pid > 0);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_true(harness_wait(names_has_no_resolver, client, harness_deadline(10)));
}

/* The daemon is compared with what it held before: that is without a resolver. */
static void names_stop(struct client *client) {
        if (names_resolver(client) != 0)
                names_kill_resolver(client);
        client_stop(client);
}

/* --- Lookups ---------------------------------------------------------------------------------------------------- */

static void names_post(struct client *client, struct lookup *lookup, const char *name, int family) {
        memset(lookup, 0, sizeof(*lookup));
        assert_int_equal(ovl_resolve(client->thread, name, family, SOCK_STREAM, 80, lookup->addresses, NAMES_N, 0,
                                     &lookup->overlapped, NULL),
                         OVL_PENDING);
}

static int names_resolve(struct client *client, struct lookup *lookup, const char *name, int family) {
        names_post(client, lookup, name, family);
        return client_await(client, &lookup->overlapped);
}

static void names_check_address(const struct lookup *lookup, const char *expected) {
        const struct sockaddr_storage *first = &lookup->addresses[0];
        char text[INET6_ADDRSTRLEN];

        assert_true(lookup->overlapped.value >= 1);
        assert_int_equal(lookup->overlapped.bytes,
                         sizeof(*first) * (lookup->overlapped.value < NAMES_N ? lookup->overlapped.value : NAMES_N));
        if (first->ss_family == AF_INET)
                inet_ntop(AF_INET, &((const struct sockaddr_in *) first)->sin_addr, text, sizeof(text));
        else
                inet_ntop(AF_INET6, &((const struct sockaddr_in6 *) first)->sin6_addr, text, sizeof(text));
        assert_string_equal(text, expected);
        assert_int_equal(ntohs(((const struct sockaddr_in *) first)->sin_port), 80);
}

static void names_that_are_addresses(void **state) {
        struct client client;
        struct lookup lookup;

        names_start(&client);
        assert_int_equal(names_resolve(&client, &lookup, "192.0.2.1", AF_UNSPEC), 0);
        names_check_address(&lookup, "192.0.2.1");
        assert_int_equal(names_resolve(&client, &lookup, "2001:db8::1", AF_INET6), 0);
        names_check_address(&lookup, "2001:db8::1");
        assert_int_equal(names_resolve(&client, &lookup, "2001:db8::1", AF_INET), -ENOENT);
        assert_int_equal(lookup.overlapped.reason, OVL_REASON_NAME_NOT_FOUND);
        /* For these nobody had to be asked. */
        assert_int_equal(names_resolver(&client), 0);
        names_stop(&client);
}

static void names_that_are_known(void **state) {
        struct client client;
        struct lookup lookup;

        names_start(&client);
        assert_int_equal(names_resolve(&client, &lookup, "localhost", AF_INET), 0);
        names_check_address(&lookup, "127.0.0.1");
        assert_int_equal(names_resolve(&client, &lookup, "four.test", AF_UNSPEC), 0);
        names_check_address(&lookup, "192.0.2.4");
        assert_int_equal(names_resolve(&client, &lookup, "six.test", AF_INET6), 0);
        names_check_address(&lookup, "2001:db8::6");
        names_stop(&client);
}

static void names_that_fail(void **state) {
        struct client client;
        struct lookup lookup;

        names_start(&client);
        assert_int_equal(names_resolve(&client, &lookup, "six.test", AF_INET), -ENOENT);
        assert_int_equal(lookup.overlapped.reason, OVL_REASON_NAME_NOT_FOUND);
        assert_int_equal(names_resolve(&client, &lookup, "again.test", AF_UNSPEC), -EAGAIN);
        assert_int_equal(lookup.overlapped.reason, OVL_REASON_NAME_TRY_AGAIN);
        assert_int_equal(names_resolve(&client, &lookup, "failed.test", AF_UNSPEC), -EIO);
        assert_int_equal(lookup.overlapped.reason, OVL_REASON_NAME_FAILED);
        assert_int_equal(lookup.overlapped.value, 0);
        assert_int_equal(lookup.overlapped.bytes, 0);
        names_stop(&client);
}

static void names_that_are_none(void **state) {
        static const char *const none[] = { "", "two words", "a/b", "a\nb", "\xff\xfe", "under[score]" };
        char long_name[OVL_RESOLVE_NAME_MAX + 2];
        struct client client;
        struct lookup lookup = { 0 };

        names_start(&client);
        memset(long_name, 'a', sizeof(long_name) - 1);
        long_name[sizeof(long_name) - 1] = '\0';
        for (size_t i = 0; i <= HARNESS_N(none); i++) {
                const char *name = i < HARNESS_N(none) ? none[i] : long_name;

                assert_int_equal(ovl_resolve(client.thread, name, 0, 0, 0, lookup.addresses, NAMES_N, 0,
                                             &lookup.overlapped, NULL),
                                 -EINVAL);
                assert_int_equal(ovl_thread_error(client.thread)->reason, OVL_REASON_BAD_NAME);
        }
        assert_int_equal(
                ovl_resolve(client.thread, "a", AF_UNIX, 0, 0, lookup.addresses, 1, 0, &lookup.overlapped, NULL),
                -EAFNOSUPPORT);
        assert_int_equal(
                ovl_resolve(client.thread, "a", 0, SOCK_RAW, 0, lookup.addresses, 1, 0, &lookup.overlapped, NULL),
                -ESOCKTNOSUPPORT);
        assert_int_equal(ovl_resolve(client.thread, "a", 0, 0, 0, lookup.addresses, 0, 0, &lookup.overlapped, NULL),
                         -EINVAL);
        names_stop(&client);
}

/* What no library posts. */
static void names_in_bad_entries(void **state) {
        static const struct {
                struct ovl_entry entry;
                int status;
                unsigned reason;
        } bad[] = {
                { { .socket = 7, .buffer = { 0, 4, 1 }, .aux = { 512, 116, 1 } }, -EINVAL, OVL_REASON_RESERVED_BITS },
                { { .buffer = { 0, 4, 1 }, .aux = { 512, 116, 1 }, .op_flags = 2 },
                  -EOPNOTSUPP,
                  OVL_REASON_UNKNOWN_FLAGS },
                { { .buffer = { 0, 4, 1 }, .aux = { 512, 116, 1 }, .flags = OVL_ENTRY_VECTOR },
                  -EOPNOTSUPP,
                  OVL_REASON_UNKNOWN_FLAGS },
                { { .buffer = { 0, 0, 1 }, .aux = { 512, 116, 1 } }, -EINVAL, OVL_REASON_BAD_NAME },
                { { .buffer = { 0, 254, 1 }, .aux = { 512, 116, 1 } }, -EINVAL, OVL_REASON_BAD_NAME },
                { { .buffer = { 0, 5, 1 }, .aux = { 512, 116, 1 } }, -EINVAL, OVL_REASON_BAD_NAME }, /* with NUL */
                { { .buffer = { 4093, 4, 1 }, .aux = { 512, 116, 1 } }, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { { .buffer = { 0, 4, 2 }, .aux = { 512, 116, 1 } }, -EFAULT, OVL_REASON_UNKNOWN_REGION },
                { { .buffer = { 0, 4, 1 }, .aux = { 512, 0, 1 } }, -EINVAL, OVL_REASON_BAD_ADDRESS },
                { { .buffer = { 0, 4, 1 }, .aux = { 512, 115, 1 } }, -EINVAL, OVL_REASON_BAD_ADDRESS },
                { { .buffer = { 0, 4, 1 }, .aux = { 0, 65 * 116, 1 } }, -EINVAL, OVL_REASON_BAD_ADDRESS },
                { { .buffer = { 0, 4, 1 }, .aux = { 4000, 116, 1 } }, -EFAULT, OVL_REASON_OUTSIDE_REGION },
                { { .buffer = { 0, 4, 1 }, .aux = { 512, 116, 1 }, .other = UINT64_C(1) << 32 },
                  -EINVAL,
                  OVL_REASON_RESERVED_BITS },
                { { .buffer = { 0, 4, 1 }, .aux = { 512, 116, 1 }, .other = OVL_RESOLVE(1, 0, 0) },
                  -EAFNOSUPPORT,
                  OVL_REASON_BAD_ADDRESS },
                { { .buffer = { 0, 4, 1 }, .aux = { 512, 116, 1 }, .other = OVL_RESOLVE(0, 3, 0) },
                  -EAFNOSUPPORT,
                  OVL_REASON_BAD_ADDRESS },
        };
        _cleanup_fd_ int memory_fd = raw_memfd(4096);
        struct estate estate;
        struct raw *raw;

        estate_start(&estate, NULL);
        raw = raw_open(&estate.daemon, 0);
        assert_int_equal(pwrite(memory_fd, "a.bc\0", 5, 0), 5);
        assert_int_equal(raw_region_add(raw, memory_fd, 4096), 1);
        for (size_t i = 0; i < HARNESS_N(bad); i++) {
                struct ovl_entry entry = bad[i].entry;
                struct ovl_record record;

                entry.tag = i;
                entry.op = OVL_OP_RESOLVE;
                entry.n_slots = 1;
                record = raw_one(raw, &entry);
                assert_int_equal(record.tag, i);
                if (record.status != bad[i].status || record.reason != bad[i].reason)
                        fail_msg("entry %zu: status %d and reason %u", i, record.status, record.reason);
                assert_true(record.flags & OVL_RECORD_REFUSED);
        }
        raw_close(raw);
        estate_stop(&estate);
}

/* --- Names that hang -------------------------------------------------------------------------------------------- */

/* Whoever does not resolve notices nothing. */
static void names_check_others(struct client *client) {
        struct ovl_overlapped receiving = { 0 };
        _cleanup_fd_ int fd = -1;
        uint64_t socket;

        socket = client_pair(client, AF_INET, &fd);
        assert_int_equal(client_recv(client, socket, client->memory, 4, 0, &receiving), OVL_PENDING);
        peer_write(fd, "work", 4);
        client_expect(client, &receiving, 0, 4);
        assert_ok(ovl_socket_close(client->thread, socket));
}

static void names_are_cancelled(void **state) {
        static struct lookup lookups[20];
        struct client client;

        names_start(&client);
        for (size_t i = 0; i < HARNESS_N(lookups); i++)
                names_post(&client, &lookups[i], "hang.test", AF_UNSPEC);
        names_check_others(&client);
        assert_int_equal(ovl_cancel(client.thread, 0, &lookups[1].overlapped), 1);
        assert_int_equal(ovl_result(&lookups[1].overlapped), -ECANCELED);
        assert_int_equal(lookups[1].overlapped.reason, OVL_REASON_CANCELLED);
        assert_int_equal(ovl_cancel(client.thread, 0, &lookups[1].overlapped), -ENOENT);
        assert_int_equal(ovl_result(&lookups[0].overlapped), -EINPROGRESS);
        assert_int_equal(ovl_cancel(client.thread, 0, NULL), 19);
        for (size_t i = 0; i < HARNESS_N(lookups); i++)
                assert_int_equal(ovl_result(&lookups[i].overlapped), -ECANCELED);
        assert_int_equal(ovl_cancel(client.thread, 0, NULL), -ENOENT);
        names_stop(&client);
}

/* Half of the queries that the daemon keeps are for other users. */
static void names_leave_room_for_others(void **state) {
        enum {
                N = 600,
                KEPT = 512
        };
        struct ovl_entry entry = { .op = OVL_OP_RESOLVE, .n_slots = 1, .buffer = { 0, 9, 1 }, .aux = { 512, 116, 1 } };
        _cleanup_fd_ int memory_fd = raw_memfd(4096);
        struct ovl_record record;
        unsigned n_refused = 0;
        struct client client;
        struct raw *raw;

        names_start(&client);
        raw = raw_open(&client.estate.daemon, 0);
        assert_int_equal(pwrite(memory_fd, "hang.test192.0.2.1", 18, 0), 18);
        assert_int_equal(raw_region_add(raw, memory_fd, 4096), 1);
        for (entry.tag = 0; entry.tag < N; entry.tag++)
                raw_post(raw, &entry, 1);
        /* Questions come in order, and this one needs no place among them. */
        entry.buffer.offset = 9;
        raw_post(raw, &entry, 1);
        for (record = raw_take(raw); record.tag < N; record = raw_take(raw)) {
                assert_int_equal(record.tag, KEPT + n_refused++);
                assert_int_equal(record.status, -ENOBUFS);
                assert_int_equal(record.reason, OVL_REASON_QUOTA);
        }
        assert_int_equal(record.status, 0);
        assert_int_equal(n_refused, N - KEPT);
        raw_close(raw);
        names_check_others(&client);
        names_stop(&client);
}

static void names_end_with_their_thread(void **state) {
        struct ovl_thread *thread;
        struct lookup lookup;
        struct client client;

        names_start(&client);
        assert_ok(ovl_thread_open(client.session, &thread, NULL));
        memset(&lookup, 0, sizeof(lookup));
        assert_int_equal(
                ovl_resolve(thread, "hang.test", 0, 0, 0, lookup.addresses, NAMES_N, 0, &lookup.overlapped, NULL),
                OVL_PENDING);
        ovl_thread_close(thread);
        assert_int_equal(ovl_result(&lookup.overlapped), -ECANCELED);
        names_stop(&client);
}

static void names_end_with_their_session(void **state) {
        struct ovl_entry entry = {
                .op = OVL_OP_RESOLVE,
                .n_slots = 1,
                .buffer = { 1, 9, 1 },
                .aux = { 512, 64 * 48, 1 },
        };
        _cleanup_fd_ int memory_fd = raw_memfd(4096);
        struct client client;
        struct raw *raw;

        names_start(&client);
        raw = raw_open(&client.estate.daemon, 0);
        entry.aux.len = 116 * 2;
        assert_int_equal(pwrite(memory_fd, "hang.test", 9, 1), 9);
        assert_int_equal(raw_region_add(raw, memory_fd, 4096), 1);
        raw_post(raw, &entry, 1);
        raw_post(raw, &entry, 1);
        assert_int_equal(raw_status(raw), 0);
        assert_true(harness_wait(names_has_resolver, &client, harness_deadline(10)));
        raw_close(raw);
        names_check_others(&client);
        names_stop(&client);
}

/* --- A resolver that stops or dies ------------------------------------------------------------------------------ */

static void names_wait_for_a_stopped_resolver(void **state) {
        struct client client;
        struct lookup lookup, other;
        pid_t pid;

        names_start(&client);
        assert_int_equal(names_resolve(&client, &lookup, "four.test", AF_UNSPEC), 0);
        pid = names_resolver(&client);
        assert_ok(process_stop(pid, harness_deadline(10)));
        names_post(&client, &lookup, "four.test", AF_UNSPEC);
        names_post(&client, &other, "six.test", AF_UNSPEC);
        names_check_others(&client);
        assert_int_equal(ovl_cancel(client.thread, 0, &other.overlapped), 1);
        assert_int_equal(ovl_result(&lookup.overlapped), -EINPROGRESS);
        assert_int_equal(kill(pid, SIGCONT), 0);
        assert_int_equal(client_await(&client, &lookup.overlapped), 0);
        names_check_address(&lookup, "192.0.2.4");
        assert_int_equal(names_resolver(&client), pid);
        names_stop(&client);
}

static void names_survive_a_killed_resolver(void **state) {
        static struct lookup hanging[12];
        struct client client;
        struct lookup lookup;
        uint64_t socket;
        pid_t first;

        names_start(&client);
        for (unsigned round = 0; round < 3; round++) {
                for (size_t i = 0; i < HARNESS_N(hanging); i++)
                        names_post(&client, &hanging[i], "hang.test", AF_UNSPEC);
                assert_true(harness_wait(names_has_resolver, &client, harness_deadline(10)));
                /* The monitor answers in order: the resolver has the names by now. */
                assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_STREAM, &socket));
                assert_ok(ovl_socket_close(client.thread, socket));
                first = names_resolver(&client);
                assert_int_equal(kill(first, SIGKILL), 0);
                /* As many as one user may have in it have met their end with it; the others are asked of the next. */
                client_await(&client, &hanging[0].overlapped);
                assert_int_equal(ovl_result(&hanging[0].overlapped), -EAGAIN);
                assert_int_equal(hanging[0].overlapped.reason, OVL_REASON_NAME_TRY_AGAIN);
                assert_int_equal(ovl_result(&hanging[11].overlapped), -EINPROGRESS);
                assert_true(ovl_cancel(client.thread, 0, NULL) > 0);
                /* A lookup that was cancelled goes on in the resolver, and counts, until that is done with it. */
                names_kill_resolver(&client);
        }
        assert_int_equal(names_resolve(&client, &lookup, "four.test", AF_UNSPEC), 0);
        names_check_address(&lookup, "192.0.2.4");
        assert_true(names_resolver(&client) != first);
        names_check_others(&client);
        names_stop(&client);
}

static void names_resolver_ends_with_the_daemon(void **state) {
        struct client client;
        struct lookup lookup, hanging;

        names_start(&client);
        names_post(&client, &hanging, "hang.test", AF_UNSPEC);
        assert_int_equal(names_resolve(&client, &lookup, "four.test", AF_UNSPEC), 0);
        client_close(&client);
        daemon_stop(&client.estate.daemon);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "addresses are read without the resolver", names_that_are_addresses },
                { "names are resolved", names_that_are_known },
                { "names fail with a reason", names_that_fail },
                { "what is no name is refused", names_that_are_none },
                { "malformed entries are refused", names_in_bad_entries },
                { "hanging names are cancelled, and hold up nobody", names_are_cancelled },
                { "hanging names leave room for other users", names_leave_room_for_others },
                { "hanging names end with their thread", names_end_with_their_thread },
                { "hanging names end with their session", names_end_with_their_session },
                { "a resolver that is stopped holds up nobody", names_wait_for_a_stopped_resolver },
                { "a resolver that is killed is started again", names_survive_a_killed_resolver },
                { "the resolver ends with the daemon", names_resolver_ends_with_the_daemon },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
