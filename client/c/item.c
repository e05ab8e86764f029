/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Control items, which a program reads and makes here: so it need not know how they lie in memory. What was received is
 * the program's memory by now, but its bytes are the daemon's: they are checked as they are read.
 */

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "client/c/overlap.h"
#include "proto/address.h"
#include "proto/layout.h"

_Static_assert((int) OVL_PACKET_INFO == OVL_CONTROL_PACKET_INFO && (int) OVL_HOP_LIMIT == OVL_CONTROL_HOP_LIMIT &&
                       (int) OVL_TRAFFIC_CLASS == OVL_CONTROL_TRAFFIC_CLASS,
               "types are the same on the wire");
_Static_assert(OVL_ITEMS_SIZE == 3 * sizeof(struct ovl_control) + sizeof(struct ovl_packet_info) +
                                         2 * OVL_CONTROL_ALIGN(sizeof(uint32_t)),
               "there is room for each");

/* Bytes of the value of a type; 0: there is none. */
static size_t item_value_len(unsigned type) {
        switch (type) {
        case OVL_PACKET_INFO:
                return sizeof(struct ovl_packet_info);
        case OVL_HOP_LIMIT:
        case OVL_TRAFFIC_CLASS:
                return sizeof(uint32_t);
        default:
                return 0;
        }
}

static size_t item_host_len(uint8_t family) {
        return family == OVL_FAMILY_INET ? 4 : family == OVL_FAMILY_INET6 ? 16 : 0;
}

static int item_read_info(const uint8_t *value, struct ovl_item *item) {
        struct ovl_address address = { 0 };
        struct ovl_packet_info info;
        socklen_t len;

        memcpy(&info, value, sizeof(info));
        address.family = info.family;
        if (item_host_len(info.family) == 0)
                return -EINVAL;
        memcpy(address.host, info.host, item_host_len(info.family));
        item->value = info.interface;
        return address_to_kernel(&address, &item->address, &len);
}

OVL_API int ovl_item_next(const void *control, size_t len, size_t *at, struct ovl_item *ret_item) {
        const uint8_t *place = (const uint8_t *) control + *at;
        struct ovl_control header;
        struct ovl_item item = { 0 };
        int r = 0;

        if (*at >= len)
                return 0;
        if (len - *at < sizeof(header))
                return -EINVAL;
        memcpy(&header, place, sizeof(header));
        if (header.len < sizeof(header) || header.len > len - *at ||
            header.len != sizeof(header) + item_value_len(header.type))
                return -EINVAL;
        item.type = header.type;
        if (item.type == OVL_PACKET_INFO)
                r = item_read_info(place + sizeof(header), &item);
        else
                memcpy(&item.value, place + sizeof(header), sizeof(item.value));
        if (r < 0)
                return r;
        *at += OVL_CONTROL_ALIGN(header.len);
        *ret_item = item;
        return 1;
}

static int item_write_info(const struct ovl_item *item, uint8_t *value) {
        struct ovl_packet_info info = { .interface = item->value };
        struct ovl_address address;
        socklen_t len = item->address.ss_family == AF_INET6 ? 28 : 16; /* of sockaddr_in6, of sockaddr_in */

        if (item->address.ss_family != AF_INET && item->address.ss_family != AF_INET6)
                return -EINVAL;
        if (address_from_kernel((const struct sockaddr *) &item->address, len, &address) < 0)
                return -EINVAL;
        info.family = address.family;
        memcpy(info.host, address.host, item_host_len(address.family));
        memcpy(value, &info, sizeof(info));
        return 0;
}

OVL_API int ovl_item_put(void *control, size_t size, size_t *len, const struct ovl_item *item) {
        size_t value_len = item_value_len(item->type);
        struct ovl_control header = { (uint32_t) (sizeof(header) + value_len), (uint16_t) item->type, 0 };
        uint8_t value[OVL_CONTROL_ALIGN(sizeof(struct ovl_packet_info))] = { 0 };
        size_t taken = OVL_CONTROL_ALIGN(header.len);

        if (value_len == 0 || *len > size)
                return -EINVAL;
        if (item->type != OVL_PACKET_INFO)
                memcpy(value, &item->value, sizeof(item->value));
        else if (item_write_info(item, value) < 0)
                return -EINVAL;
        if (taken > size - *len)
                return -EMSGSIZE;
        memcpy((uint8_t *) control + *len, &header, sizeof(header));
        memcpy((uint8_t *) control + *len + sizeof(header), value, taken - sizeof(header));
        *len += taken;
        return 0;
}
