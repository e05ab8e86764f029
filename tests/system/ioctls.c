/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ioctls, and what may go wrong with them. What they promise is proved rule by rule in tests/rules/section-09.c; here
 * is what else there is: entries that no library writes, ends of all kinds, limits, and a daemon that may not look.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/layout.h"
#include "tests/harness/harness.h"
#include "tests/harness/netns.h"
#include "tests/system/client.h"
#include "tests/system/raw.h"

#define IOCTLS_WATCHES_MAX 512u /* of one user */

static void ioctls_watch(struct client *client, uint64_t socket, struct ovl_overlapped *overlapped) {
        assert_int_equal(ovl_ioctl(client->thread, socket, OVL_ADDRESS_LIST_CHANGE, OVL_WANT_VERDICT, overlapped, NULL),
                         OVL_PENDING);
}

/* --- Entries ---------------------------------------------------------------------------------------------------- */

static void ioctls_fields_are_checked(void **state) {
        static const struct {
                uint64_t code;
                struct ovl_slice buffer, aux;
                uint8_t n_slots, flags, family;
                uint32_t op_flags;
                int status;
                unsigned reason;
        } bad[] = {
                { .code = 0, .n_slots = 1, .status = -EOPNOTSUPP, .reason = OVL_REASON_UNKNOWN_IOCTL },
                { .code = 9, .n_slots = 1, .status = -EOPNOTSUPP, .reason = OVL_REASON_UNKNOWN_IOCTL },
                { .code = 1 | UINT64_C(1) << 32,
                  .n_slots = 1,
                  .status = -EOPNOTSUPP,
                  .reason = OVL_REASON_UNKNOWN_IOCTL },
                { .code = 6,
                  .n_slots = 1,
                  .flags = OVL_ENTRY_VECTOR,
                  .status = -EOPNOTSUPP,
                  .reason = OVL_REASON_UNKNOWN_FLAGS },
                { .code = 6,
                  .n_slots = 1,
                  .flags = OVL_ENTRY_MORE,
                  .status = -EOPNOTSUPP,
                  .reason = OVL_REASON_UNKNOWN_FLAGS },
                { .code = 6, .n_slots = 1, .op_flags = 2, .status = -EOPNOTSUPP, .reason = OVL_REASON_UNKNOWN_FLAGS },
                { .code = 6, .n_slots = 2, .status = -EINVAL, .reason = OVL_REASON_RESERVED_BITS },
                { .code = 6,
                  .n_slots = 1,
                  .buffer = { 0, 8, 1 },
                  .status = -EINVAL,
                  .reason = OVL_REASON_RESERVED_BITS },
                { .code = 6, .n_slots = 1, .aux = { 0, 8, 1 }, .status = -EINVAL, .reason = OVL_REASON_RESERVED_BITS },
                { .code = 4, .n_slots = 1, .status = -EFAULT, .reason = OVL_REASON_OUTPUT_TOO_SMALL },
                { .code = 4,
                  .n_slots = 1,
                  .aux = { 0, 152, 9 },
                  .status = -EFAULT,
                  .reason = OVL_REASON_UNKNOWN_REGION },
                { .code = 4,
                  .n_slots = 1,
                  .aux = { 8100, 152, 1 },
                  .status = -EFAULT,
                  .reason = OVL_REASON_OUTSIDE_REGION },
                { .code = 5, .n_slots = 1, .status = -EINVAL, .reason = OVL_REASON_BAD_INPUT },
                { .code = 5, .n_slots = 1, .buffer = { 0, 15, 1 }, .status = -EINVAL, .reason = OVL_REASON_BAD_INPUT },
                { .code = 5, .n_slots = 1, .buffer = { 4, 16, 1 }, .status = -EINVAL, .reason = OVL_REASON_BAD_INPUT },
                { .code = 5,
                  .n_slots = 1,
                  .buffer = { 8184, 16, 1 },
                  .status = -EFAULT,
                  .reason = OVL_REASON_OUTSIDE_REGION },
                /* On, without times; and neither on nor off. */
                { .code = 5, .n_slots = 1, .buffer = { 64, 16, 1 }, .status = -EINVAL, .reason = OVL_REASON_BAD_INPUT },
                { .code = 5,
                  .n_slots = 1,
                  .buffer = { 128, 16, 1 },
                  .status = -EINVAL,
                  .reason = OVL_REASON_BAD_INPUT },
                { .code = 2, .n_slots = 1, .status = -EAFNOSUPPORT, .reason = OVL_REASON_BAD_ADDRESS },
                { .code = 2,
                  .n_slots = 2,
                  .family = OVL_FAMILY_INET6,
                  .status = -EAFNOSUPPORT,
                  .reason = OVL_REASON_BAD_ADDRESS },
                { .code = 3,
                  .n_slots = 2,
                  .family = OVL_FAMILY_INET,
                  .aux = { 0, 115, 1 },
                  .status = -EINVAL,
                  .reason = OVL_REASON_BAD_ADDRESS },
        };
        struct estate estate;
        uint64_t socket;
        uint32_t *words;
        struct raw *raw;
        int memory, fd;

        estate_start(&estate, NULL);
        raw = raw_open(&estate.daemon, 0);
        memory = raw_memfd(8192);
        words = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
        assert_true(words != MAP_FAILED);
        words[64 / 4] = 1;
        words[128 / 4] = 2;
        assert_int_equal(raw_region_add(raw, memory, 8192), 1);
        socket = raw_pair(raw, &fd);
        for (size_t i = 0; i < HARNESS_N(bad); i++) {
                struct ovl_entry entry = {
                        .tag = i,
                        .socket = socket,
                        .op = OVL_OP_IOCTL,
                        .other = bad[i].code,
                        .n_slots = bad[i].n_slots,
                        .flags = bad[i].flags,
                        .op_flags = bad[i].op_flags,
                        .buffer = bad[i].buffer,
                        .aux = bad[i].aux,
                        .address.family = bad[i].family,
                };
                struct ovl_record record = raw_one(raw, &entry);

                if (record.status != bad[i].status || record.reason != bad[i].reason ||
                    !(record.flags & OVL_RECORD_REFUSED) || record.bytes != 0 || record.value != 0)
                        fail_msg("case %zu: status %d, reason %u, flags %#x", i, record.status, record.reason,
                                 record.flags);
        }
        raw_close(raw);
        close(fd);
        close(memory);
        munmap(words, 8192);
        estate_stop(&estate);
}

static void ioctls_are_for_their_sockets(void **state) {
        static const struct {
                int family, type;
                uint32_t code;
        } bad[] = {
                { AF_UNIX, SOCK_STREAM, OVL_ADDRESS_LIST_CHANGE },
                { AF_UNIX, SOCK_STREAM, OVL_AT_MARK },
                { AF_INET, SOCK_DGRAM, OVL_AT_MARK },
        };
        struct ovl_overlapped asking = { 0 };
        struct client client;
        uint64_t socket;

        client_start(&client);
        for (size_t i = 0; i < HARNESS_N(bad); i++) {
                assert_ok(ovl_socket_open(client.thread, bad[i].family, bad[i].type, &socket));
                assert_int_equal(ovl_ioctl(client.thread, socket, bad[i].code, OVL_WANT_VERDICT, &asking, NULL),
                                 -EOPNOTSUPP);
                assert_int_equal(ovl_thread_error(client.thread)->reason, OVL_REASON_OP_NOT_FOR_SOCKET);
                assert_ok(ovl_socket_close(client.thread, socket));
        }
        client_stop(&client);
}

/* --- What they do ----------------------------------------------------------------------------------------------- */

static void ioctls_set_and_look(void **state) {
        struct ovl_overlapped asking = { 0 };
        struct client client;
        uint64_t socket;
        int fd, value;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_int_equal(ovl_keep_alive(client.thread, socket, 1, 1001, 3000, OVL_WANT_VERDICT, &asking, NULL), 0);
        assert_ok(ovl_getsockopt(client.thread, socket, SOL_SOCKET, SO_KEEPALIVE, &value));
        assert_int_equal(value, 1);
        assert_ok(ovl_getsockopt(client.thread, socket, IPPROTO_TCP, TCP_KEEPIDLE, &value));
        assert_int_equal(value, 2);
        assert_ok(ovl_getsockopt(client.thread, socket, IPPROTO_TCP, TCP_KEEPINTVL, &value));
        assert_int_equal(value, 3);
        assert_int_equal(ovl_keep_alive(client.thread, socket, 0, 0, 0, OVL_WANT_VERDICT, &asking, NULL), 0);
        assert_ok(ovl_getsockopt(client.thread, socket, SOL_SOCKET, SO_KEEPALIVE, &value));
        assert_int_equal(value, 0);
        assert_int_equal(ovl_ioctl(client.thread, socket, OVL_AT_MARK, OVL_WANT_VERDICT, &asking, NULL), 0);
        assert_int_equal(asking.value, 0);
        assert_int_equal(send(fd, "!", 1, MSG_OOB), 1);
        assert_int_equal(ovl_poll(client.thread, socket, POLLPRI, 0, &asking, NULL), OVL_PENDING);
        client_expect(&client, &asking, 0, 0);
        assert_int_equal(ovl_ioctl(client.thread, socket, OVL_AT_MARK, OVL_WANT_VERDICT, &asking, NULL), 0);
        assert_int_equal(asking.value, 1);
        close(fd);
        client_stop(&client);
}

static void ioctls_find_routes(void **state) {
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct ovl_overlapped asking = { 0 };
        struct sockaddr_storage source;
        struct client client;
        uint64_t socket;

        netns_enter();
        client_start(&client);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &socket));
        assert_ok(
                ovl_route_query(client.thread, socket, (struct sockaddr *) &to, sizeof(to), &source, 0, &asking, NULL));
        client_expect(&client, &asking, 0, sizeof(source));
        assert_int_equal(asking.value, 1);
        assert_int_equal(((struct sockaddr_in *) &source)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
        assert_int_equal(inet_pton(AF_INET, "198.51.100.1", &to.sin_addr), 1);
        assert_ok(
                ovl_route_query(client.thread, socket, (struct sockaddr *) &to, sizeof(to), &source, 0, &asking, NULL));
        client_expect(&client, &asking, -ENETUNREACH, 0);
        client_stop(&client);
}

/* More than the usual place for an answer holds. */
static void ioctls_list_many(void **state) {
        struct ovl_interface_info interfaces[64];
        struct ovl_overlapped listing = { 0 };
        struct client client;
        char address[32];
        uint64_t socket;

        netns_enter();
        client_start(&client);
        for (int i = 1; i < 64; i++) {
                snprintf(address, sizeof(address), "192.0.2.%d", i);
                netns_add_address(address);
        }
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &socket));
        assert_ok(ovl_interface_list(client.thread, socket, interfaces, 63, 0, &listing, NULL));
        client_expect(&client, &listing, -ERANGE, 0);
        assert_int_equal(listing.value, 64);
        assert_ok(ovl_interface_list(client.thread, socket, interfaces, 64, 0, &listing, NULL));
        client_expect(&client, &listing, 0, sizeof(interfaces));
        for (int i = 0; i < 64; i++) {
                assert_string_equal(interfaces[i].name, "lo");
                assert_int_equal(interfaces[i].index, 1);
                assert_int_equal(interfaces[i].prefix_len, i == 0 ? 8 : 32);
                assert_int_equal(interfaces[i].address.ss_family, AF_INET);
        }
        client_stop(&client);
}

/* --- Ends ------------------------------------------------------------------------------------------------------- */

/* The daemon is compared with what it held before: what was watched is forgotten in each case. */
static void ioctls_end_with_whoever_posted(void **state) {
        struct ovl_overlapped watching = { 0 }, others = { 0 };
        struct ovl_thread *thread;
        struct client client;
        uint64_t socket;

        client_start(&client);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &socket));
        ioctls_watch(&client, socket, &watching);
        assert_int_equal(ovl_cancel(client.thread, socket, &watching), 1);
        assert_int_equal(ovl_result(&watching), -ECANCELED);
        ioctls_watch(&client, socket, &watching);
        assert_ok(ovl_thread_open(client.session, &thread, NULL));
        assert_int_equal(ovl_ioctl(thread, socket, OVL_ADDRESS_LIST_CHANGE, OVL_WANT_VERDICT, &others, NULL),
                         OVL_PENDING);
        ovl_thread_close(thread);
        assert_int_equal(ovl_result(&others), -ECANCELED);
        assert_int_equal(ovl_result(&watching), -EINPROGRESS);
        /* And the session, with one pending. */
        client_stop(&client);
}

static void ioctls_end_with_their_worker(void **state) {
        struct ovl_overlapped watching = { 0 };
        struct client client;
        uint64_t socket;

        client_start(&client);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &socket));
        ioctls_watch(&client, socket, &watching);
        assert_int_equal(kill(client.estate.worker, SIGKILL), 0);
        client_expect(&client, &watching, -ECONNABORTED, 0);
        ovl_region_close(client.thread, client.region);
        client.region = NULL;
        client_close(&client);
        daemon_wait_log(&client.estate.daemon, "another one is started");
        daemon_wait_fds(client.estate.daemon.monitor, client.estate.n_monitor_fds);
        daemon_stop(&client.estate.daemon);
}

/* --- Limits ----------------------------------------------------------------------------------------------------- */

static void ioctls_that_wait_are_limited(void **state) {
        static struct ovl_overlapped watching[IOCTLS_WATCHES_MAX];
        struct ovl_overlapped late = { 0 };
        struct client client;
        uint64_t socket;

        client_start(&client);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &socket));
        for (unsigned i = 0; i < IOCTLS_WATCHES_MAX; i++)
                assert_int_equal(ovl_ioctl(client.thread, socket, OVL_ADDRESS_LIST_CHANGE, 0, &watching[i], NULL),
                                 OVL_PENDING);
        assert_int_equal(ovl_ioctl(client.thread, socket, OVL_ADDRESS_LIST_CHANGE, OVL_WANT_VERDICT, &late, NULL),
                         -ENOBUFS);
        assert_int_equal(ovl_thread_error(client.thread)->reason, OVL_REASON_QUOTA);
        assert_int_equal(ovl_cancel(client.thread, socket, &watching[0]), 1);
        ioctls_watch(&client, socket, &late);
        assert_int_equal(ovl_cancel(client.thread, socket, NULL), IOCTLS_WATCHES_MAX);
        client_stop(&client);
}

/* As in a service that was given no AF_NETLINK. */
static void ioctls_forbid_netlink(void) {
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 3),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { HARNESS_N(filter), filter };

        assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void ioctls_without_netlink(void **state) {
        struct ovl_overlapped asking = { 0 };
        struct ovl_interface_info interface;
        struct client client;
        uint64_t socket;

        ioctls_forbid_netlink();
        client_start(&client);
        assert_ok(ovl_socket_open(client.thread, AF_INET, SOCK_DGRAM, &socket));
        assert_int_equal(ovl_ioctl(client.thread, socket, OVL_ADDRESS_LIST_CHANGE, OVL_WANT_VERDICT, &asking, NULL),
                         -EAFNOSUPPORT);
        assert_int_equal(ovl_thread_error(client.thread)->reason, OVL_REASON_NOT_WATCHED);
        assert_non_null(strstr(ovl_thread_error(client.thread)->text, "AF_NETLINK"));
        assert_ok(ovl_interface_list(client.thread, socket, &interface, 1, 0, &asking, NULL));
        client_expect(&client, &asking, -EAFNOSUPPORT, 0);
        assert_int_equal(asking.reason, OVL_REASON_NOT_WATCHED);
        daemon_wait_log(&client.estate.daemon, "RestrictAddressFamilies=");
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "each field of an ioctl is checked", ioctls_fields_are_checked },
                { "ioctls are for their sockets", ioctls_are_for_their_sockets },
                { "what a socket knows", ioctls_set_and_look },
                { "routes", ioctls_find_routes },
                { "a long list of interfaces", ioctls_list_many },
                { "watches end with whoever posted them", ioctls_end_with_whoever_posted },
                { "watches end with their worker", ioctls_end_with_their_worker },
                { "watches are limited", ioctls_that_wait_are_limited },
                { "without netlink it is said what to do", ioctls_without_netlink },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
