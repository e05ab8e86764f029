/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Control items. Clients do not see the kernel's control data: that would be the layout of one kernel, can carry
 * descriptors and identities, and says things about the daemon. They have items of a few types, and each of them is
 * taken apart and put together here: what is not known cannot come through in either direction.
 *
 *   a send      items, copied once -> checked -> the kernel's control data, in the scratch of the op
 *   a receive   the kernel's control data, in the scratch -> items, each whole or not at all -> the client
 *
 * Whom a datagram was sent to is asked of the kernel on every socket that was opened here, because a receive says
 * whether that was one or many, also where its client does not want to know more. The kernel does not tell that
 * otherwise. A socket that was adopted is asked when its client wishes.
 *
 * An IPv6 socket may send and receive IPv4, of which the kernel speaks as such: so it is asked, and told, both ways.
 */

#include "daemon/worker/items.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/worker/datagram.h"
#include "daemon/worker/socket.h"

_Static_assert(CMSG_SPACE(sizeof(struct in6_pktinfo)) + 4 * CMSG_SPACE(sizeof(int)) <= OP_CONTROL_SIZE,
               "the kernel's form of all items has room");

/* The kernel's options; 0: this family needs none. */
static const struct {
        int inet;
        int inet6;
        bool is_mixed; /* an IPv6 socket is told of IPv4 by the option for IPv4 */
} items_options[] = {
        [ITEMS_PACKET_INFO] = { IP_PKTINFO, IPV6_RECVPKTINFO, false },
        [ITEMS_HOP_LIMIT] = { IP_RECVTTL, IPV6_RECVHOPLIMIT, true },
        [ITEMS_TRAFFIC_CLASS] = { IP_RECVTOS, IPV6_RECVTCLASS, true },
};

static int items_ask_kernel(struct socket *socket, enum items_wanted item, int value) {
        bool is_inet6 = socket->family == AF_INET6;
        int fd = socket->file.fd;

        socket->engine->stats->system_calls++;
        if ((!is_inet6 || items_options[item].is_mixed) &&
            setsockopt(fd, IPPROTO_IP, items_options[item].inet, &value, sizeof(value)) < 0)
                return -errno;
        if (is_inet6 && setsockopt(fd, IPPROTO_IPV6, items_options[item].inet6, &value, sizeof(value)) < 0)
                return -errno;
        return 0;
}

void items_start(struct socket *socket) {
        if (socket_is_inet_datagram(socket))
                items_ask_kernel(socket, ITEMS_PACKET_INFO, 1);
}

void items_stop(struct socket *socket) {
        if (socket_is_inet_datagram(socket) && !socket->is_foreign && !(socket->items & ITEMS_PACKET_INFO))
                items_ask_kernel(socket, ITEMS_PACKET_INFO, 0);
}

int items_set(struct socket *socket, enum items_wanted item, bool is_wanted) {
        bool stays = item == ITEMS_PACKET_INFO && !socket->is_foreign;
        int r;

        r = stays ? 0 : items_ask_kernel(socket, item, is_wanted);
        if (r < 0)
                return r;
        socket->items = (uint8_t) (is_wanted ? socket->items | item : socket->items & ~(unsigned) item);
        return 0;
}

/* --- To the kernel ---------------------------------------------------------------------------------------------- */

static void items_append(struct op *op, int level, int type, const void *value, size_t len) {
        struct cmsghdr *data = (struct cmsghdr *) (datagram_control(op) + op->control_len);

        memset(data, 0, CMSG_SPACE(len));
        data->cmsg_len = CMSG_LEN(len);
        data->cmsg_level = level;
        data->cmsg_type = type;
        memcpy(CMSG_DATA(data), value, len);
        op->control_len += (uint16_t) CMSG_SPACE(len);
}

static int items_put_packet_info(struct op *op, const uint8_t *value) {
        struct in6_pktinfo info6 = { 0 };
        struct in_pktinfo info = { 0 };
        struct ovl_packet_info from;

        memcpy(&from, value, sizeof(from));
        if (from.family != op->socket->family || from.reserved[0] != 0 || from.reserved[1] != 0 ||
            from.reserved[2] != 0 || from.interface > INT32_MAX)
                return -EINVAL;
        if (from.family == OVL_FAMILY_INET) {
                info.ipi_ifindex = (int) from.interface;
                memcpy(&info.ipi_spec_dst, from.host, sizeof(info.ipi_spec_dst));
                items_append(op, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
        } else {
                info6.ipi6_ifindex = from.interface;
                memcpy(&info6.ipi6_addr, from.host, sizeof(info6.ipi6_addr));
                items_append(op, IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof(info6));
        }
        return 0;
}

/* A number, which an IPv6 socket needs once for each family that it can send. */
static int items_put_number(struct op *op, const uint8_t *value, uint32_t min, int inet, int inet6) {
        uint32_t number;
        int kernel;

        memcpy(&number, value, sizeof(number));
        if (number < min || number > UINT8_MAX)
                return -EINVAL;
        kernel = (int) number;
        items_append(op, IPPROTO_IP, inet, &kernel, sizeof(kernel));
        if (op->socket->family == AF_INET6)
                items_append(op, IPPROTO_IPV6, inet6, &kernel, sizeof(kernel));
        return 0;
}

static int items_put(struct op *op, const struct ovl_control *item, const uint8_t *value) {
        size_t len = item->len - sizeof(*item);

        switch (item->type) {
        case OVL_CONTROL_PACKET_INFO:
                return len == sizeof(struct ovl_packet_info) ? items_put_packet_info(op, value) : -EINVAL;
        case OVL_CONTROL_HOP_LIMIT:
                return len == sizeof(uint32_t) ? items_put_number(op, value, 1, IP_TTL, IPV6_HOPLIMIT) : -EINVAL;
        case OVL_CONTROL_TRAFFIC_CLASS:
                return len == sizeof(uint32_t) ? items_put_number(op, value, 0, IP_TOS, IPV6_TCLASS) : -EINVAL;
        default:
                return -EINVAL;
        }
}

int items_to_kernel(struct op *op, const uint8_t *items, uint32_t len) {
        struct ovl_control item;
        uint32_t seen = 0;

        op->control_len = 0;
        if (len > 0 && !socket_is_inet_datagram(op->socket))
                return -EINVAL;
        for (uint32_t at = 0; at < len; at += OVL_CONTROL_ALIGN(item.len)) {
                int r;

                if (len - at < sizeof(item))
                        return -EINVAL;
                memcpy(&item, items + at, sizeof(item));
                /* Each of a type once: so all of them have room, and none contradicts another. */
                if (item.reserved != 0 || item.len < sizeof(item) || item.len > len - at || item.type >= 32 ||
                    (seen & (1u << item.type)))
                        return -EINVAL;
                seen |= 1u << item.type;
                r = items_put(op, &item, items + at + sizeof(item));
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- From the kernel -------------------------------------------------------------------------------------------- */

/* What was found of a datagram. */
struct items_found {
        bool has_info;
        bool has_hop_limit;
        bool has_traffic_class;
        struct ovl_packet_info info;
        uint32_t hop_limit;
        uint32_t traffic_class;
        uint32_t flags; /* enum ovl_received_flags */
};

static void items_find_inet_info(struct items_found *found, const struct in_pktinfo *info) {
        found->has_info = true;
        found->info = (struct ovl_packet_info){
                .family = OVL_FAMILY_INET,
                .interface = (uint32_t) info->ipi_ifindex,
        };
        memcpy(found->info.host, &info->ipi_addr, sizeof(info->ipi_addr));
        /* The kernel also names the address that an answer would have: of what was sent to one, that one. */
        if (IN_MULTICAST(ntohl(info->ipi_addr.s_addr)))
                found->flags |= OVL_RECEIVED_MULTICAST;
        else if (info->ipi_addr.s_addr != info->ipi_spec_dst.s_addr)
                found->flags |= OVL_RECEIVED_BROADCAST;
}

static void items_find_inet6_info(struct items_found *found, const struct in6_pktinfo *info) {
        struct in_addr inet;

        found->has_info = true;
        found->info = (struct ovl_packet_info){ .family = OVL_FAMILY_INET6, .interface = info->ipi6_ifindex };
        memcpy(found->info.host, &info->ipi6_addr, sizeof(info->ipi6_addr));
        memcpy(&inet, info->ipi6_addr.s6_addr + 12, sizeof(inet));
        if (IN6_IS_ADDR_MULTICAST(&info->ipi6_addr) ||
            (IN6_IS_ADDR_V4MAPPED(&info->ipi6_addr) && IN_MULTICAST(ntohl(inet.s_addr))))
                found->flags |= OVL_RECEIVED_MULTICAST;
        else if (IN6_IS_ADDR_V4MAPPED(&info->ipi6_addr) && inet.s_addr == htonl(INADDR_BROADCAST))
                found->flags |= OVL_RECEIVED_BROADCAST;
}

/* The kernel has told a number in one byte or in four. */
static uint32_t items_number(const struct cmsghdr *data) {
        int number = 0;

        if (data->cmsg_len >= CMSG_LEN(sizeof(number)))
                memcpy(&number, CMSG_DATA(data), sizeof(number));
        else if (data->cmsg_len >= CMSG_LEN(1))
                number = *CMSG_DATA(data);
        return (uint32_t) number & UINT8_MAX;
}

static bool items_is(const struct cmsghdr *data, int level, int type, size_t len) {
        return data->cmsg_level == level && data->cmsg_type == type && data->cmsg_len >= CMSG_LEN(len);
}

static void items_find(struct items_found *found, const struct cmsghdr *data) {
        struct in6_pktinfo info6;
        struct in_pktinfo info;

        if (items_is(data, IPPROTO_IP, IP_PKTINFO, sizeof(info))) {
                memcpy(&info, CMSG_DATA(data), sizeof(info));
                items_find_inet_info(found, &info);
        } else if (items_is(data, IPPROTO_IPV6, IPV6_PKTINFO, sizeof(info6))) {
                memcpy(&info6, CMSG_DATA(data), sizeof(info6));
                items_find_inet6_info(found, &info6);
        } else if (items_is(data, IPPROTO_IP, IP_TTL, 1) || items_is(data, IPPROTO_IPV6, IPV6_HOPLIMIT, 1)) {
                found->has_hop_limit = true;
                found->hop_limit = items_number(data);
        } else if (items_is(data, IPPROTO_IP, IP_TOS, 1) || items_is(data, IPPROTO_IPV6, IPV6_TCLASS, 1)) {
                found->has_traffic_class = true;
                found->traffic_class = items_number(data);
        }
}

static void items_tell(struct ovl_message *message, uint32_t size, uint16_t type, const void *value, size_t len) {
        struct ovl_control item = { .len = (uint32_t) (sizeof(item) + len), .type = type };
        uint8_t *place = (uint8_t *) (message + 1) + message->control_len;

        /* What comes behind one that was left out is left out, too: what is there is the beginning of all. */
        if ((message->flags & OVL_RECEIVED_CONTROL_TRUNCATED) ||
            OVL_CONTROL_ALIGN(item.len) > size - message->control_len) {
                message->flags |= OVL_RECEIVED_CONTROL_TRUNCATED;
                return;
        }
        memcpy(place, &item, sizeof(item));
        memcpy(place + sizeof(item), value, len);
        message->control_len += OVL_CONTROL_ALIGN(item.len);
}

void items_from_kernel(const struct op *op, struct ovl_message *message, uint32_t size) {
        const struct msghdr *kernel = &op->request.message;
        struct items_found found = { 0 };
        uint8_t wanted = op->socket->items;

        for (struct cmsghdr *data = CMSG_FIRSTHDR(kernel); data; data = CMSG_NXTHDR((struct msghdr *) kernel, data))
                items_find(&found, data);
        message->flags |= found.flags;
        if (found.has_info && (wanted & ITEMS_PACKET_INFO))
                items_tell(message, size, OVL_CONTROL_PACKET_INFO, &found.info, sizeof(found.info));
        if (found.has_hop_limit && (wanted & ITEMS_HOP_LIMIT))
                items_tell(message, size, OVL_CONTROL_HOP_LIMIT, &found.hop_limit, sizeof(found.hop_limit));
        if (found.has_traffic_class && (wanted & ITEMS_TRAFFIC_CLASS))
                items_tell(message, size, OVL_CONTROL_TRAFFIC_CLASS, &found.traffic_class, sizeof(found.traffic_class));
}
