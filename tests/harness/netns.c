/* SPDX-License-Identifier: Apache-2.0 */

/* What ip(8) does, without it: one request of rtnetlink(7) each, which has been carried out when it is acknowledged. */

#include "tests/harness/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"

#define NETNS_LOOPBACK 1 /* the number of its interface */

struct netns_request {
        struct nlmsghdr header;
        union {
                struct ifinfomsg link;
                struct ifaddrmsg address;
                struct rtmsg route;
        };
        char attributes[64];
};

static struct netns_request netns_begin(uint16_t type, uint16_t flags, size_t body_len) {
        return (struct netns_request){
                .header = {
                        .nlmsg_len = (uint32_t) NLMSG_LENGTH(body_len),
                        .nlmsg_type = type,
                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags,
                        .nlmsg_seq = 1,
                },
        };
}

static void netns_append(struct netns_request *request, uint16_t type, const void *data, size_t len) {
        char *at = (char *) request + NLMSG_ALIGN(request->header.nlmsg_len);
        struct rtattr attribute = { .rta_len = (unsigned short) RTA_LENGTH(len), .rta_type = type };

        memcpy(at, &attribute, sizeof(attribute));
        memcpy(at + RTA_LENGTH(0), data, len);
        request->header.nlmsg_len = (uint32_t) (at + RTA_LENGTH(len) - (char *) request);
}

static void netns_do(const struct netns_request *request) {
        struct {
                struct nlmsghdr header;
                struct nlmsgerr error;
                char rest[512];
        } answer;
        _cleanup_fd_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

        assert_true(fd >= 0);
        assert_true(send(fd, request, request->header.nlmsg_len, 0) > 0);
        assert_true(recv(fd, &answer, sizeof(answer), 0) > 0);
        assert_int_equal(answer.header.nlmsg_type, NLMSG_ERROR);
        assert_int_equal(answer.error.error, 0);
}

bool netns_try_enter(void) {
        struct netns_request request = netns_begin(RTM_NEWLINK, 0, sizeof(request.link));

        if (unshare(CLONE_NEWNET) < 0)
                return false;
        request.link.ifi_index = NETNS_LOOPBACK;
        request.link.ifi_flags = request.link.ifi_change = IFF_UP;
        netns_do(&request);
        return true;
}

void netns_enter(void) {
        if (!netns_try_enter())
                harness_skip("no network of its own can be made here: that takes root");
}

static void netns_address(uint16_t type, uint16_t flags, const char *text) {
        struct netns_request request = netns_begin(type, flags, sizeof(request.address));
        int family = strchr(text, ':') ? AF_INET6 : AF_INET;
        unsigned char host[16];
        size_t len = family == AF_INET ? 4 : 16;

        assert_int_equal(inet_pton(family, text, host), 1);
        request.address.ifa_family = (unsigned char) family;
        request.address.ifa_prefixlen = (unsigned char) (8 * len);
        request.address.ifa_index = NETNS_LOOPBACK;
        netns_append(&request, IFA_LOCAL, host, len);
        netns_append(&request, IFA_ADDRESS, host, len);
        netns_do(&request);
}

void netns_add_address(const char *address) {
        netns_address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, address);
}

void netns_remove_address(const char *address) {
        netns_address(RTM_DELADDR, 0, address);
}

static void netns_route(uint16_t type, uint16_t flags, const char *to) {
        struct netns_request request = netns_begin(type, flags, sizeof(request.route));
        uint32_t interface = NETNS_LOOPBACK;
        struct in_addr host;

        assert_int_equal(inet_pton(AF_INET, to, &host), 1);
        request.route.rtm_family = AF_INET;
        request.route.rtm_dst_len = 32;
        request.route.rtm_table = RT_TABLE_MAIN;
        request.route.rtm_protocol = RTPROT_STATIC;
        request.route.rtm_scope = type == RTM_NEWROUTE ? RT_SCOPE_LINK : RT_SCOPE_NOWHERE;
        request.route.rtm_type = RTN_UNICAST;
        netns_append(&request, RTA_DST, &host, sizeof(host));
        netns_append(&request, RTA_OIF, &interface, sizeof(interface));
        netns_do(&request);
}

void netns_add_route(const char *to) {
        netns_route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, to);
}

void netns_remove_route(const char *to) {
        netns_route(RTM_DELROUTE, 0, to);
}

bool netns_has_ipv6(void) {
        return access("/proc/sys/net/ipv6", F_OK) == 0;
}
