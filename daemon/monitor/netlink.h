/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_NETLINK_H
#define DAEMON_MONITOR_NETLINK_H

/* A conversation with the kernel about interfaces, addresses and routes: rtnetlink(7). */

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETLINK_BUFFER_SIZE 32768u /* what the kernel puts into one packet at most */

struct netlink {
        int fd;            /* -1: closed */
        bool has_changes;  /* it tells of changes, whoever's requests made them */
        uint32_t sequence; /* of the latest request */
        size_t at, len;    /* of what was received: what was looked at, and all */
        _Alignas(NLMSG_ALIGNTO) uint8_t buffer[NETLINK_BUFFER_SIZE];
};

/* One request: a header, and what belongs to it. */
struct netlink_request {
        struct nlmsghdr header;
        union {
                struct rtmsg route;
                struct ifaddrmsg address;
                struct ifinfomsg link;
        };
        uint8_t attributes[64];
};

/* Opens it. groups: RTMGRP_* whose changes are told; 0: none. Returns 0 or -errno. */
int netlink_open(struct netlink *netlink, uint32_t groups);
void netlink_close(struct netlink *netlink);

/* Begins a request of a type, with a body of so many bytes behind the header. flags: NLM_F_*. */
void netlink_begin(struct netlink_request *ret_request, uint16_t type, uint16_t flags, size_t body_len);

/* Appends an attribute: a few words at most. */
void netlink_append(struct netlink_request *request, uint16_t type, const void *data, size_t len);

/* Sends a request; the kernel has answered, or begun to, when this returns. Returns 0 or -errno. */
int netlink_ask(struct netlink *netlink, struct netlink_request *request);

/*
 * Takes the next message: of the answer to the latest request, or that tells of a change.
 *
 * Returns 1 and the message, borrowed until the next call; 0 when there is none, also at the end of an answer; -ENOBUFS
 * when some were lost; or another -errno, also that with which the kernel refused the request.
 */
int netlink_next(struct netlink *netlink, const struct nlmsghdr **ret_message);

/* Finds attributes behind the body of a message: n_max of them by type. Returns whether the message is whole. */
bool netlink_parse(const struct nlmsghdr *message, size_t body_len, const struct rtattr **ret_attributes, size_t n_max);

#endif
