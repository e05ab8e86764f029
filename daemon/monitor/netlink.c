/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The kernel answers while it is asked: when a request was sent, its answer is there, and what is received of it brings
 * the next part about. So nothing here waits, and a conversation has one request at a time.
 *
 * What is not of the latest request, and tells of no change, is left over from one that was given up, and is passed
 * over.
 */

#include "daemon/monitor/netlink.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"

int netlink_open(struct netlink *netlink, uint32_t groups) {
        struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = groups };
        _cleanup_fd_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

        if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
                return -errno;
        netlink->at = netlink->len = 0;
        netlink->has_changes = groups != 0;
        netlink->fd = fd_take(&fd);
        return 0;
}

void netlink_close(struct netlink *netlink) {
        netlink->fd = fd_close(netlink->fd);
}

void netlink_begin(struct netlink_request *ret_request, uint16_t type, uint16_t flags, size_t body_len) {
        *ret_request = (struct netlink_request){
                .header = {
                        .nlmsg_len = (uint32_t) NLMSG_LENGTH(body_len),
                        .nlmsg_type = type,
                        .nlmsg_flags = NLM_F_REQUEST | flags,
                },
        };
}

void netlink_append(struct netlink_request *request, uint16_t type, const void *data, size_t len) {
        size_t at = NLMSG_ALIGN(request->header.nlmsg_len);
        struct rtattr attribute = { .rta_len = (unsigned short) RTA_LENGTH(len), .rta_type = type };

        assert(at + RTA_SPACE(len) <= sizeof(*request));
        memcpy((uint8_t *) request + at, &attribute, sizeof(attribute));
        memcpy((uint8_t *) request + at + RTA_LENGTH(0), data, len);
        request->header.nlmsg_len = (uint32_t) (at + RTA_LENGTH(len));
}

int netlink_ask(struct netlink *netlink, struct netlink_request *request) {
        request->header.nlmsg_seq = ++netlink->sequence;
        netlink->at = netlink->len = 0;
        if (send(netlink->fd, request, request->header.nlmsg_len, 0) < 0)
                return -errno;
        return 0;
}

/* Returns 1, 0 when there is nothing, or -errno. */
static int netlink_fill(struct netlink *netlink) {
        ssize_t n;

        do
                n = recv(netlink->fd, netlink->buffer, sizeof(netlink->buffer), MSG_TRUNC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? 0 : -errno;
        if ((size_t) n > sizeof(netlink->buffer))
                return -ENOBUFS;
        netlink->at = 0;
        netlink->len = (size_t) n;
        return 1;
}

int netlink_next(struct netlink *netlink, const struct nlmsghdr **ret_message) {
        for (;;) {
                const struct nlmsghdr *message = (const struct nlmsghdr *) (netlink->buffer + netlink->at);
                size_t left = netlink->len - netlink->at;
                int r;

                if (left < sizeof(*message) || message->nlmsg_len < sizeof(*message) || message->nlmsg_len > left) {
                        r = netlink_fill(netlink);
                        if (r <= 0)
                                return r;
                        continue;
                }
                netlink->at += NLMSG_ALIGN(message->nlmsg_len) < left ? NLMSG_ALIGN(message->nlmsg_len) : left;
                if (!netlink->has_changes && message->nlmsg_seq != netlink->sequence)
                        continue;
                if (message->nlmsg_type == NLMSG_DONE)
                        return 0;
                if (message->nlmsg_type == NLMSG_ERROR)
                        return message->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr))
                                       ? ((const struct nlmsgerr *) NLMSG_DATA(message))->error
                                       : -EBADMSG;
                *ret_message = message;
                return 1;
        }
}

bool netlink_parse(const struct nlmsghdr *message, size_t body_len, const struct rtattr **ret_attributes,
                   size_t n_max) {
        size_t at = NLMSG_SPACE(body_len), len = message->nlmsg_len;

        memset(ret_attributes, 0, n_max * sizeof(struct rtattr *));
        if (len < NLMSG_LENGTH(body_len))
                return false;
        while (at + sizeof(struct rtattr) <= len) {
                const struct rtattr *attribute = (const struct rtattr *) ((const uint8_t *) message + at);

                if (attribute->rta_len < sizeof(*attribute) || attribute->rta_len > len - at)
                        return false;
                if ((attribute->rta_type & NLA_TYPE_MASK) < n_max)
                        ret_attributes[attribute->rta_type & NLA_TYPE_MASK] = attribute;
                at += RTA_ALIGN(attribute->rta_len);
        }
        return true;
}
