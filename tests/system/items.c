/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What datagrams have beside their bytes: whom they were sent to, how far they may go, and how they are to be treated.
 * The other end is an ordinary socket, which speaks the kernel's control data.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

static const int families[] = { AF_INET, AF_INET6 };

/* The option of each item, by family. */
static const struct {
        int level, name[3], kernel[3];
} options[] = {
        { IPPROTO_IP, { IP_PKTINFO, IP_RECVTTL, IP_RECVTOS }, { IP_PKTINFO, IP_TTL, IP_TOS } },
        { IPPROTO_IPV6,
          { IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS },
          { IPV6_PKTINFO, IPV6_HOPLIMIT, IPV6_TCLASS } },
};

struct items {
        struct client client;
        uint64_t socket;
        int fd;
        struct sockaddr_storage address, peer;
        socklen_t len;
        struct ovl_received received;
        _Alignas(8) uint8_t control[128];
        struct ovl_overlapped overlapped;
};

static void items_start(struct items *items, int family) {
        *items = (struct items){ 0 };
        client_start(&items->client);
        items->len = client_loopback(family, &items->peer);
        items->fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(items->fd, (struct sockaddr *) &items->peer, items->len), 0);
        assert_int_equal(getsockname(items->fd, (struct sockaddr *) &items->peer, &items->len), 0);
        assert_ok(ovl_socket_open(items->client.thread, family, SOCK_DGRAM, &items->socket));
        client_loopback(family, &items->address);
        assert_ok(ovl_bind(items->client.thread, items->socket, (struct sockaddr *) &items->address, items->len));
        assert_ok(
                ovl_getsockname(items->client.thread, items->socket, (struct sockaddr *) &items->address, &items->len));
}

static void items_stop(struct items *items) {
        close(items->fd);
        client_stop(&items->client);
}

static void items_want(struct items *items, size_t f, int value) {
        for (size_t i = 0; i < 3; i++)
                assert_ok(ovl_setsockopt(items->client.thread, items->socket, options[f].level, options[f].name[i],
                                         value));
}

static int items_recv(struct items *items, size_t len, size_t control_len, unsigned flags) {
        struct ovl_buffer buffer = { items->client.memory, len };

        memset(items->control, 0xee, sizeof(items->control));
        items->received = (struct ovl_received){ .control = items->control, .control_len = control_len };
        items->overlapped = (struct ovl_overlapped){ 0 };
        return ovl_recvmsg(items->client.thread, items->socket, &buffer, 1, &items->received, flags, &items->overlapped,
                           NULL);
}

static void items_give(struct items *items, const char *text) {
        assert_int_equal(sendto(items->fd, text, strlen(text), 0, (struct sockaddr *) &items->address, items->len),
                         strlen(text));
}

static void items_expect(struct items *items, int status, uint64_t bytes, size_t control_len, unsigned flags) {
        client_expect(&items->client, &items->overlapped, status, bytes);
        assert_int_equal(items->received.bytes, bytes);
        assert_int_equal(items->received.address_len, items->len);
        assert_memory_equal(&items->received.address, &items->peer, items->len);
        assert_int_equal(items->received.control_len, control_len);
        assert_int_equal(items->received.flags, flags);
        for (size_t i = control_len; i < sizeof(items->control); i++)
                assert_int_equal(items->control[i], 0xee);
}

static void items_are_received(void **state) {
        struct sockaddr_storage whom;
        struct ovl_item item;
        struct items items;
        size_t at;
        int value;

        for (size_t f = 0; f < 2; f++) {
                items_start(&items, families[f]);
                assert_ok(items_recv(&items, 10, sizeof(items.control), OVL_WANT_VERDICT));
                items_give(&items, "none");
                items_expect(&items, 0, 4, 0, 0);
                items_want(&items, f, 1);
                value = 7;
                assert_int_equal(setsockopt(items.fd, options[f].level, f ? IPV6_UNICAST_HOPS : IP_TTL, &value, 4), 0);
                value = 0x20;
                assert_int_equal(setsockopt(items.fd, options[f].level, f ? IPV6_TCLASS : IP_TOS, &value, 4), 0);
                for (unsigned i = 0; i < 3; i++) {
                        /* Pending, done at once, and looked at: the same. */
                        if (i > 0)
                                items_give(&items, "hello");
                        assert_ok(items_recv(&items, 10, OVL_ITEMS_SIZE, OVL_WANT_VERDICT | (i == 1 ? OVL_PEEK : 0)));
                        if (i == 0)
                                items_give(&items, "hello");
                        items_expect(&items, 0, 5, OVL_ITEMS_SIZE, 0);
                        assert_memory_equal(items.client.memory, "hello", 5);
                        at = 0;
                        assert_int_equal(ovl_item_next(items.control, items.received.control_len, &at, &item), 1);
                        assert_int_equal(item.type, OVL_PACKET_INFO);
                        assert_int_equal(item.value, if_nametoindex("lo"));
                        client_loopback(families[f], &whom);
                        assert_memory_equal(&item.address, &whom, items.len);
                        assert_int_equal(ovl_item_next(items.control, items.received.control_len, &at, &item), 1);
                        assert_int_equal(item.type, OVL_HOP_LIMIT);
                        assert_int_equal(item.value, 7);
                        assert_int_equal(ovl_item_next(items.control, items.received.control_len, &at, &item), 1);
                        assert_int_equal(item.type, OVL_TRAFFIC_CLASS);
                        assert_int_equal(item.value, 0x20);
                        assert_int_equal(ovl_item_next(items.control, items.received.control_len, &at, &item), 0);
                }
                assert_ok(ovl_getsockopt(items.client.thread, items.socket, options[f].level, options[f].name[0],
                                         &value));
                assert_int_equal(value, 1);
                items_want(&items, f, 0);
                assert_ok(items_recv(&items, 10, sizeof(items.control), 0));
                items_expect(&items, 0, 5, 0, 0);
                items_stop(&items);
        }
}

/* Too little room: the first ones are there, whole, the datagram is complete, and the status says so. */
static void items_without_room_are_left_out(void **state) {
        static const struct {
                size_t room, there;
        } cases[] = { { 0, 0 }, { 31, 0 }, { 32, 32 }, { 47, 32 }, { 48, 48 }, { 63, 48 } };
        struct ovl_buffer buffer;
        struct items items;

        for (size_t f = 0; f < 2; f++) {
                items_start(&items, families[f]);
                items_want(&items, f, 1);
                for (size_t i = 0; i < HARNESS_N(cases); i++) {
                        items_give(&items, "complete");
                        assert_ok(items_recv(&items, 10, cases[i].room, 0));
                        items_expect(&items, -EMSGSIZE, 8, cases[i].there, OVL_CONTROL_TRUNCATED);
                        assert_int_equal(items.overlapped.flags, OVL_CONTROL_TRUNCATED);
                        assert_memory_equal(items.client.memory, "complete", 8);
                }
                /* Both are too long; and what is cut alone has its items. */
                items_give(&items, "too long");
                assert_ok(items_recv(&items, 3, 0, 0));
                items_expect(&items, -EMSGSIZE, 3, 0, OVL_CONTROL_TRUNCATED | OVL_TRUNCATED);
                items_give(&items, "too long");
                assert_ok(items_recv(&items, 3, 64, 0));
                items_expect(&items, -EMSGSIZE, 3, 64, OVL_TRUNCATED);
                /* A synchronous call says how much there is, too. */
                items_give(&items, "complete");
                buffer = (struct ovl_buffer){ items.client.memory, 10 };
                items.received = (struct ovl_received){ .control = items.control, .control_len = 8 };
                assert_int_equal(
                        ovl_recvmsg(items.client.thread, items.socket, &buffer, 1, &items.received, 0, NULL, NULL),
                        -EMSGSIZE);
                assert_int_equal(items.received.bytes, 8);
                assert_int_equal(items.received.control_len, 0);
                assert_int_equal(items.received.flags, OVL_CONTROL_TRUNCATED);
                items_give(&items, "next");
                items.received = (struct ovl_received){ .control = items.control, .control_len = 64 };
                assert_int_equal(
                        ovl_recvmsg(items.client.thread, items.socket, &buffer, 1, &items.received, 0, NULL, NULL), 4);
                assert_int_equal(items.received.control_len, 64);
                items_stop(&items);
        }
}

/* The next datagram of the ordinary end, and what the kernel says of it. */
static void items_expect_kernel(struct items *items, size_t f, const char *text, int hops, int traffic_class) {
        _Alignas(8) char control[256];
        char bytes[64];
        struct iovec part = { bytes, sizeof(bytes) };
        struct msghdr message = {
                .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        unsigned seen = 0;

        assert_int_equal(recvmsg(items->fd, &message, 0), strlen(text));
        assert_memory_equal(bytes, text, strlen(text));
        for (struct cmsghdr *data = CMSG_FIRSTHDR(&message); data; data = CMSG_NXTHDR(&message, data)) {
                if (data->cmsg_type == options[f].kernel[1])
                        assert_int_equal(*(int *) CMSG_DATA(data), hops);
                else if (data->cmsg_type == options[f].kernel[2])
                        assert_int_equal(*CMSG_DATA(data), traffic_class);
                else
                        continue;
                seen++;
        }
        assert_int_equal(seen, 2);
}

static int items_send(struct items *items, const char *text, bool to_peer, size_t control_len) {
        struct ovl_buffer buffer = { items->client.memory, strlen(text) };

        memcpy(items->client.memory, text, strlen(text));
        items->overlapped = (struct ovl_overlapped){ 0 };
        return ovl_sendmsg(items->client.thread, items->socket, &buffer, 1, 0,
                           to_peer ? NULL : (struct sockaddr *) &items->peer, items->len, items->control, control_len,
                           &items->overlapped, NULL);
}

static void items_are_sent(void **state) {
        struct ovl_item place = { .type = OVL_PACKET_INFO }, hops = { .type = OVL_HOP_LIMIT, .value = 9 },
                        kind = { .type = OVL_TRAFFIC_CLASS, .value = 0x28 };
        struct ovl_overlapped connecting = { 0 };
        struct items items;
        size_t len;
        int on = 1;

        for (size_t f = 0; f < 2; f++) {
                items_start(&items, families[f]);
                for (size_t i = 1; i < 3; i++)
                        assert_int_equal(setsockopt(items.fd, options[f].level, options[f].name[i], &on, sizeof(on)),
                                         0);
                assert_ok(items_send(&items, "plain", false, 0));
                client_expect(&items.client, &items.overlapped, 0, 5);
                items_expect_kernel(&items, f, "plain", 64, 0);
                client_loopback(families[f], &place.address);
                place.value = if_nametoindex("lo");
                len = 0;
                assert_ok(ovl_item_put(items.control, sizeof(items.control), &len, &place));
                assert_ok(ovl_item_put(items.control, sizeof(items.control), &len, &hops));
                assert_ok(ovl_item_put(items.control, sizeof(items.control), &len, &kind));
                assert_int_equal(len, OVL_ITEMS_SIZE);
                assert_ok(items_send(&items, "with items", false, len));
                client_expect(&items.client, &items.overlapped, 0, 10);
                items_expect_kernel(&items, f, "with items", 9, 0x28);
                /* Without an address it goes to the peer, where there is one; the items count for one datagram. */
                assert_ok(items_send(&items, "lost", true, len));
                client_expect(&items.client, &items.overlapped, -EDESTADDRREQ, 0);
                assert_ok(ovl_connect(items.client.thread, items.socket, (struct sockaddr *) &items.peer, items.len, 0,
                                      &connecting, NULL));
                client_expect(&items.client, &connecting, 0, 0);
                assert_ok(items_send(&items, "to the peer", true, len));
                client_expect(&items.client, &items.overlapped, 0, 11);
                items_expect_kernel(&items, f, "to the peer", 9, 0x28);
                assert_ok(items_send(&items, "plain", true, 0));
                client_expect(&items.client, &items.overlapped, 0, 5);
                items_expect_kernel(&items, f, "plain", 64, 0);
                items_stop(&items);
        }
}

/* A source that is not ours is nobody's: nothing is sent. */
static void items_name_no_foreign_source(void **state) {
        struct ovl_item place = { .type = OVL_PACKET_INFO };
        struct sockaddr_in *address = (struct sockaddr_in *) &place.address;
        char byte;
        struct items items;
        size_t len = 0;

        items_start(&items, AF_INET);
        address->sin_family = AF_INET;
        address->sin_addr.s_addr = inet_addr("192.0.2.7");
        assert_ok(ovl_item_put(items.control, sizeof(items.control), &len, &place));
        assert_ok(items_send(&items, "lost", false, len));
        assert_true(client_await(&items.client, &items.overlapped) < 0);
        assert_int_equal(items.overlapped.bytes, 0);
        assert_int_equal(recv(items.fd, &byte, 1, MSG_DONTWAIT), -1);
        items_stop(&items);
}

/* Sent to many: the receive says so, whether or not anybody asked for items. */
static void items_tell_of_many(void **state) {
        struct sockaddr_in group = { .sin_family = AF_INET, .sin_addr.s_addr = inet_addr("239.255.1.2") };
        struct sockaddr_in all = { .sin_family = AF_INET, .sin_addr.s_addr = inet_addr("127.255.255.255") };
        struct ip_mreqn membership = { .imr_multiaddr = group.sin_addr, .imr_ifindex = (int) if_nametoindex("lo") };
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
        struct sockaddr_in any = { .sin_family = AF_INET };
        struct items items;
        ssize_t n;

        items_start(&items, AF_INET);
        /* A program joins a group and gives its socket to the daemon; it may ask for more there. */
        assert_int_equal(bind(fd, (struct sockaddr *) &any, sizeof(any)), 0);
        if (setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof(membership)) < 0)
                harness_skip("there is no multicast on the loopback interface");
        assert_ok(ovl_socket_adopt(items.client.thread, fd, &items.socket));
        close(fd);
        assert_ok(ovl_setsockopt(items.client.thread, items.socket, IPPROTO_IP, IP_PKTINFO, 1));
        items.len = sizeof(any);
        assert_ok(ovl_getsockname(items.client.thread, items.socket, (struct sockaddr *) &any, &items.len));
        group.sin_port = all.sin_port = any.sin_port;
        setsockopt(items.fd, IPPROTO_IP, IP_MULTICAST_IF, &membership, sizeof(membership));
        n = sendto(items.fd, "group", 5, 0, (struct sockaddr *) &group, sizeof(group));
        if (n == 5) {
                assert_ok(items_recv(&items, 10, 64, 0));
                items_expect(&items, 0, 5, 32, OVL_MULTICAST);
        }
        assert_int_equal(setsockopt(items.fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)), 0);
        if (sendto(items.fd, "all", 3, 0, (struct sockaddr *) &all, sizeof(all)) == 3) {
                assert_ok(items_recv(&items, 10, 64, 0));
                items_expect(&items, 0, 3, 32, OVL_BROADCAST);
        }
        items_stop(&items);
}

/* What ends without a datagram has written nothing. */
static void items_are_untouched_without_a_datagram(void **state) {
        struct ovl_received before;
        struct items items;

        items_start(&items, AF_INET);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(items_recv(&items, 10, 64, OVL_WANT_VERDICT), OVL_PENDING);
                before = items.received;
                if (i == 0)
                        assert_int_equal(ovl_cancel(items.client.thread, items.socket, &items.overlapped), 1);
                else
                        assert_ok(ovl_socket_close(items.client.thread, items.socket));
                client_expect(&items.client, &items.overlapped, -ECANCELED, 0);
                assert_memory_equal(&items.received, &before, sizeof(before));
                for (size_t j = 0; j < sizeof(items.control); j++)
                        assert_int_equal(items.control[j], 0xee);
        }
        items_stop(&items);
}

/* Descriptors that come along with a Unix datagram are nobody's, and are no items. */
static void items_are_no_descriptors(void **state) {
        _Alignas(8) char control[CMSG_SPACE(sizeof(int))] = { 0 };
        struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "" };
        struct iovec part = { "hello", 5 };
        struct msghdr message = { .msg_name = &address,
                                  .msg_iov = &part,
                                  .msg_iovlen = 1,
                                  .msg_control = control,
                                  .msg_controllen = sizeof(control) };
        struct cmsghdr *data = CMSG_FIRSTHDR(&message);
        _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct items items;

        items_start(&items, AF_INET);
        assert_ok(ovl_socket_open(items.client.thread, AF_UNIX, SOCK_DGRAM, &items.socket));
        assert_ok(ovl_bind(items.client.thread, items.socket, (struct sockaddr *) &address, sizeof(sa_family_t)));
        items.len = sizeof(items.address);
        assert_ok(ovl_getsockname(items.client.thread, items.socket, (struct sockaddr *) &items.address, &items.len));
        message.msg_name = &items.address;
        message.msg_namelen = items.len;
        data->cmsg_level = SOL_SOCKET;
        data->cmsg_type = SCM_RIGHTS;
        data->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(data), &fd, sizeof(fd));
        /* A kernel that can be told so does not even let them leave. */
        if (sendmsg(fd, &message, 0) < 0) {
                assert_int_equal(errno, EPERM);
                message.msg_controllen = 0;
                assert_int_equal(sendmsg(fd, &message, 0), 5);
        }
        assert_ok(items_recv(&items, 10, 64, 0));
        client_expect(&items.client, &items.overlapped, 0, 5);
        assert_int_equal(items.received.control_len, 0);
        assert_int_equal(items.received.flags, 0);
        items_stop(&items);
}

static void items_calls_are_checked(void **state) {
        struct ovl_item item = { .type = OVL_HOP_LIMIT, .value = 1 };
        struct ovl_buffer buffer;
        struct items items;
        size_t len = 0, at = 0;

        items_start(&items, AF_INET);
        buffer = (struct ovl_buffer){ items.client.memory, 10 };
        assert_int_equal(ovl_recvmsg(items.client.thread, items.socket, &buffer, 1, NULL, 0, &items.overlapped, NULL),
                         -EFAULT);
        items.received = (struct ovl_received){ .control_len = 1 };
        assert_int_equal(
                ovl_recvmsg(items.client.thread, items.socket, &buffer, 1, &items.received, 0, &items.overlapped, NULL),
                -EFAULT);
        items.received.control_len = 0;
        assert_int_equal(
                ovl_recvmsg(items.client.thread, items.socket, &buffer, 0, &items.received, 0, &items.overlapped, NULL),
                -EINVAL);
        assert_int_equal(ovl_recvmsg(items.client.thread, items.socket, &buffer, 1, &items.received, OVL_DONTWAIT,
                                     &items.overlapped, NULL),
                         -EOPNOTSUPP);
        assert_int_equal(items_send(&items, "x", false, 257), -EINVAL);
        memset(items.control, 0, sizeof(items.control));
        assert_ok(items_send(&items, "x", false, 8));
        client_expect(&items.client, &items.overlapped, -EINVAL, 0);
        assert_int_equal(ovl_item_next(items.control, 8, &at, &item), -EINVAL);
        item = (struct ovl_item){ .type = 4 };
        assert_int_equal(ovl_item_put(items.control, 64, &len, &item), -EINVAL);
        item = (struct ovl_item){ .type = OVL_PACKET_INFO, .address.ss_family = AF_UNIX };
        assert_int_equal(ovl_item_put(items.control, 64, &len, &item), -EINVAL);
        item = (struct ovl_item){ .type = OVL_HOP_LIMIT, .value = 1 };
        assert_int_equal(ovl_item_put(items.control, 15, &len, &item), -EMSGSIZE);
        assert_int_equal(len, 0);
        assert_ok(ovl_item_put(items.control, 16, &len, &item));
        /* A stream has no messages. */
        assert_ok(ovl_socket_open(items.client.thread, AF_INET, SOCK_STREAM, &items.socket));
        assert_int_equal(items_recv(&items, 10, 64, OVL_WANT_VERDICT), -EOPNOTSUPP);
        items_stop(&items);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "items are received", items_are_received },
                { "items without room are left out", items_without_room_are_left_out },
                { "items are sent", items_are_sent },
                { "items name no foreign source", items_name_no_foreign_source },
                { "items tell of many", items_tell_of_many },
                { "items are untouched without a datagram", items_are_untouched_without_a_datagram },
                { "items are no descriptors", items_are_no_descriptors },
                { "calls are checked", items_calls_are_checked },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
