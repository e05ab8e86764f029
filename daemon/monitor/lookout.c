/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whoever waits for a change gets the first one after it was told that its wait has begun, and no earlier one: what the
 * kernel has told before is read first, and then the wait begins. A change of the addresses is one that comes or goes,
 * not one whose lifetime is prolonged, and an IPv6 address comes when the kernel has found that nobody else has it. A
 * change of a route is that another interface leads to the destination, or from another of our addresses, or none: what
 * the kernel tells of its tables is only a reason to ask it again.
 *
 *   -> waiting          the kernel is listened to, what leads there now was asked, and the worker knows
 *   waiting -> (gone)   the change came, it was cancelled, or its worker died
 *
 * Invariant: each request is answered exactly once, unless its worker is gone. The kernel is listened to exactly while
 * somebody waits: a machine whose routes change all the time wakes nobody who did not ask.
 *
 * When the kernel has lost messages the addresses are read anew, and compared.
 *
 * Rejected: a subscription of each worker, which would keep lists of those who wait. An operation that waits for a
 * change is then cancelled, closed and forgotten in another way than one that waits for a connection or a name.
 */

#include "daemon/monitor/lookout.h"

#include <errno.h>
#include <linux/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "daemon/monitor/events.h"
#include "proto/address.h"

#define LOOKOUT_GROUPS (RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE)
#define LOOKOUT_MESSAGES_MAX 4096u /* that are read at a time */

/* An address that the machine has. */
struct lookout_address {
        uint32_t index; /* of its interface */
        uint8_t family; /* enum ovl_family */
        uint8_t prefix_len;
        uint8_t host[16];
};

/* What leads to a destination. */
struct lookout_route {
        uint32_t index; /* 0: nothing does */
        uint8_t source[16];
};

struct lookout_watch {
        struct list link;
        struct outbox *outbox; /* borrowed */
        uint64_t ticket;
        uid_t uid;
        uint8_t code;
        uint8_t family;
        struct ovl_address address; /* ROUTING_INTERFACE_CHANGE: the destination, and what leads there */
        struct lookout_route route;
};

void lookout_init(struct lookout *lookout, sd_event *event, struct journal *journal) {
        *lookout = (struct lookout){ .event = event, .journal = journal };
        lookout->questions.fd = lookout->changes.fd = -1;
        list_init(&lookout->watches);
}

/* --- Answers ---------------------------------------------------------------------------------------------------- */

/* While nobody waits, nobody listens. */
static void lookout_rest(struct lookout *lookout) {
        if (lookout->n_watches > 0)
                return;
        lookout->changes_source = sd_event_source_disable_unref(lookout->changes_source);
        netlink_close(&lookout->changes);
        netlink_close(&lookout->questions);
        free(lookout->addresses);
        lookout->addresses = NULL;
        lookout->n_addresses = lookout->n_addresses_held = 0;
}

static void lookout_watch_free(struct lookout *lookout, struct lookout_watch *watch) {
        list_unlink(&watch->link);
        lookout->n_watches--;
        free(watch);
}

static void lookout_end(struct lookout *lookout, struct lookout_watch *watch, int status, uint32_t reason) {
        outbox_refuse(watch->outbox, watch->ticket, status, reason);
        lookout_watch_free(lookout, watch);
}

/* The kernel cannot be asked, and that does not change by itself. */
static int lookout_refuse(struct lookout *lookout, struct outbox *outbox, uint64_t ticket, int status) {
        if (!lookout->has_complained)
                journal_write(lookout->journal, LOG_WARNING,
                              &(struct journal_fields){ .message_id = EVENT_LOOKOUT_BLIND },
                              "addresses and routes cannot be seen: %s: let the service have AF_NETLINK "
                              "(RestrictAddressFamilies=, or the container's filter)",
                              strerror(-status));
        lookout->has_complained = true;
        return outbox_refuse(outbox, ticket, status, OVL_REASON_NOT_WATCHED);
}

/* --- Questions -------------------------------------------------------------------------------------------------- */

static int lookout_question(struct lookout *lookout, struct netlink_request *request) {
        int r;

        r = lookout->questions.fd < 0 ? netlink_open(&lookout->questions, 0) : 0;
        return r < 0 ? r : netlink_ask(&lookout->questions, request);
}

static size_t lookout_host_len(uint8_t family) {
        return family == OVL_FAMILY_INET ? 4 : 16;
}

/* Copies the address that an attribute holds. Returns whether it holds one. */
static bool lookout_read_host(const struct rtattr *attribute, uint8_t family, uint8_t ret_host[16]) {
        size_t len = lookout_host_len(family);

        if (!attribute || RTA_PAYLOAD(attribute) < len)
                return false;
        memset(ret_host, 0, 16);
        memcpy(ret_host, RTA_DATA(attribute), len);
        return true;
}

static uint32_t lookout_read_u32(const struct rtattr *attribute, uint32_t otherwise) {
        uint32_t value = otherwise;

        if (attribute && RTA_PAYLOAD(attribute) >= sizeof(value))
                memcpy(&value, RTA_DATA(attribute), sizeof(value));
        return value;
}

/* Asks what leads to a destination. Returns 0, also when nothing does, or -errno when that cannot be asked. */
static int lookout_find_route(struct lookout *lookout, const struct ovl_address *to, struct lookout_route *ret_route) {
        const struct rtattr *attributes[RTA_PREFSRC + 1];
        struct lookout_route route = { 0 };
        const struct nlmsghdr *message;
        struct netlink_request request;
        int r;

        netlink_begin(&request, RTM_GETROUTE, 0, sizeof(request.route));
        request.route.rtm_family = to->family;
        request.route.rtm_dst_len = (unsigned char) (8 * lookout_host_len(to->family));
        netlink_append(&request, RTA_DST, to->host, lookout_host_len(to->family));
        if (to->scope_id != 0)
                netlink_append(&request, RTA_OIF, &to->scope_id, sizeof(to->scope_id));
        r = lookout_question(lookout, &request);
        if (r < 0)
                return r;
        while ((r = netlink_next(&lookout->questions, &message)) > 0) {
                if (message->nlmsg_type != RTM_NEWROUTE ||
                    !netlink_parse(message, sizeof(struct rtmsg), attributes, RTA_PREFSRC + 1))
                        continue;
                route.index = lookout_read_u32(attributes[RTA_OIF], 0);
                lookout_read_host(attributes[RTA_PREFSRC], to->family, route.source);
        }
        /* The kernel's refusal is its answer: nothing leads there. */
        *ret_route = r < 0 ? (struct lookout_route){ 0 } : route;
        return 0;
}

/* The address that a message tells of. Returns whether it is one that the machine has, or had. */
static bool lookout_read_address(const struct nlmsghdr *message, struct lookout_address *ret_address) {
        const struct ifaddrmsg *body = NLMSG_DATA(message);
        const struct rtattr *attributes[IFA_FLAGS + 1];
        struct lookout_address address = { 0 };
        uint32_t flags;

        if ((message->nlmsg_type != RTM_NEWADDR && message->nlmsg_type != RTM_DELADDR) ||
            !netlink_parse(message, sizeof(*body), attributes, IFA_FLAGS + 1) ||
            (body->ifa_family != OVL_FAMILY_INET && body->ifa_family != OVL_FAMILY_INET6))
                return false;
        address.index = body->ifa_index;
        address.family = body->ifa_family;
        address.prefix_len = body->ifa_prefixlen;
        flags = lookout_read_u32(attributes[IFA_FLAGS], body->ifa_flags);
        /* Whether somebody else has it is not known yet. */
        if (message->nlmsg_type == RTM_NEWADDR && (flags & IFA_F_TENTATIVE) && !(flags & IFA_F_OPTIMISTIC))
                return false;
        if (!lookout_read_host(attributes[IFA_LOCAL], address.family, address.host) &&
            !lookout_read_host(attributes[IFA_ADDRESS], address.family, address.host))
                return false;
        *ret_address = address;
        return true;
}

static int lookout_question_addresses(struct lookout *lookout, uint8_t family) {
        struct netlink_request request;

        netlink_begin(&request, RTM_GETADDR, NLM_F_DUMP, sizeof(request.address));
        request.address.ifa_family = family;
        return lookout_question(lookout, &request);
}

/* --- Addresses -------------------------------------------------------------------------------------------------- */

static bool lookout_is_same(const struct lookout_address *a, const struct lookout_address *b) {
        return a->index == b->index && a->family == b->family && a->prefix_len == b->prefix_len &&
               memcmp(a->host, b->host, sizeof(a->host)) == 0;
}

static struct lookout_address *lookout_find(const struct lookout *lookout, const struct lookout_address *address) {
        for (size_t i = 0; i < lookout->n_addresses; i++)
                if (lookout_is_same(&lookout->addresses[i], address))
                        return &lookout->addresses[i];
        return NULL;
}

/* Returns 1 when it is new, 0, or -ENOMEM. */
static int lookout_add(struct lookout *lookout, const struct lookout_address *address) {
        if (lookout_find(lookout, address))
                return 0;
        if (lookout->n_addresses == lookout->n_addresses_held) {
                size_t n = 2 * lookout->n_addresses_held + 16;
                struct lookout_address *addresses = reallocarray(lookout->addresses, n, sizeof(*addresses));

                if (!addresses)
                        return -ENOMEM;
                lookout->addresses = addresses;
                lookout->n_addresses_held = n;
        }
        lookout->addresses[lookout->n_addresses++] = *address;
        return 1;
}

/* Returns whether there was such an address. */
static bool lookout_remove(struct lookout *lookout, const struct lookout_address *address) {
        struct lookout_address *found = lookout_find(lookout, address);

        if (!found)
                return false;
        *found = lookout->addresses[--lookout->n_addresses];
        return true;
}

static int lookout_load(struct lookout *lookout) {
        struct lookout_address address;
        const struct nlmsghdr *message;
        int r;

        lookout->n_addresses = 0;
        r = lookout_question_addresses(lookout, AF_UNSPEC);
        if (r < 0)
                return r;
        while ((r = netlink_next(&lookout->questions, &message)) > 0)
                if (lookout_read_address(message, &address) && lookout_add(lookout, &address) < 0)
                        return -ENOMEM;
        return r;
}

static unsigned lookout_count(const struct lookout *lookout, uint8_t family) {
        unsigned n = 0;

        for (size_t i = 0; i < lookout->n_addresses; i++)
                n += lookout->addresses[i].family == family;
        return n;
}

/* Some messages were lost: reads the addresses anew. Notes the families whose addresses are others. */
static void lookout_compare(struct lookout *lookout, bool has_changed[OVL_FAMILY_INET6 + 1]) {
        static const uint8_t families[] = { OVL_FAMILY_INET, OVL_FAMILY_INET6 };
        struct lookout before = { .addresses = lookout->addresses, .n_addresses = lookout->n_addresses };
        int r;

        lookout->addresses = NULL;
        lookout->n_addresses_held = 0;
        r = lookout_load(lookout);
        for (size_t i = 0; i < 2; i++)
                if (r < 0 || lookout_count(lookout, families[i]) != lookout_count(&before, families[i]))
                        has_changed[families[i]] = true;
        for (size_t i = 0; i < lookout->n_addresses; i++)
                if (!lookout_find(&before, &lookout->addresses[i]))
                        has_changed[lookout->addresses[i].family] = true;
        free(before.addresses);
}

/* --- Changes ---------------------------------------------------------------------------------------------------- */

/* Ends those that waited for what has changed. */
static void lookout_tell(struct lookout *lookout, const bool has_changed[OVL_FAMILY_INET6 + 1]) {
        list_for_each_safe(link, &lookout->watches) {
                struct lookout_watch *watch = list_entry(link, struct lookout_watch, link);
                struct lookout_route route;

                if (watch->code == OVL_IOCTL_ADDRESS_LIST_CHANGE) {
                        if (has_changed[watch->family])
                                lookout_end(lookout, watch, 0, OVL_REASON_NONE);
                        continue;
                }
                if (lookout_find_route(lookout, &watch->address, &route) == 0 &&
                    memcmp(&route, &watch->route, sizeof(route)) != 0)
                        lookout_end(lookout, watch, 0, OVL_REASON_NONE);
        }
}

/* Takes in what the kernel has told, and ends those that waited for it. */
static void lookout_read(struct lookout *lookout) {
        bool has_changed[OVL_FAMILY_INET6 + 1] = { false };
        struct lookout_address address;
        const struct nlmsghdr *message;
        unsigned n_read = 0;
        int r;

        while (n_read < LOOKOUT_MESSAGES_MAX && (r = netlink_next(&lookout->changes, &message)) != 0) {
                n_read++;
                if (r < 0)
                        lookout_compare(lookout, has_changed);
                if (r < 0 && r != -ENOBUFS)
                        break;
                if (r < 0 || !lookout_read_address(message, &address))
                        continue;
                if (message->nlmsg_type == RTM_DELADDR ? lookout_remove(lookout, &address)
                                                       : lookout_add(lookout, &address) != 0)
                        has_changed[address.family] = true;
        }
        if (n_read > 0)
                lookout_tell(lookout, has_changed);
}

static int lookout_on_change(sd_event_source *source, int fd, uint32_t events, void *data) {
        struct lookout *lookout = data;

        lookout_read(lookout);
        lookout_rest(lookout);
        return 0;
}

/* Begins to listen, if nobody does; and then takes in what is older than whoever is about to wait. */
static int lookout_listen(struct lookout *lookout) {
        int r = 0;

        if (lookout->changes.fd < 0) {
                r = netlink_open(&lookout->changes, LOOKOUT_GROUPS);
                if (r == 0)
                        r = sd_event_add_io(lookout->event, &lookout->changes_source, lookout->changes.fd, EPOLLIN,
                                            lookout_on_change, lookout);
                if (r >= 0)
                        r = lookout_load(lookout);
        }
        if (r >= 0)
                lookout_read(lookout);
        return r;
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

static unsigned lookout_count_of(const struct lookout *lookout, uid_t uid) {
        unsigned n = 0;

        list_for_each(link, &lookout->watches)
                n += list_entry(link, struct lookout_watch, link)->uid == uid;
        return n;
}

static int lookout_start(struct lookout *lookout, struct outbox *outbox, const struct link_message *message,
                         uid_t uid) {
        struct link_message armed = { .kind = LINK_ARMED, .ticket = message->ticket };
        struct lookout_watch *watch = calloc(1, sizeof(*watch));
        int r;

        if (!watch)
                return outbox_refuse(outbox, message->ticket, -ENOMEM, OVL_REASON_NONE);
        watch->outbox = outbox;
        watch->ticket = message->ticket;
        watch->uid = uid;
        watch->code = message->body.look.code;
        watch->family = message->body.look.family;
        watch->address = message->body.look.address;
        list_init(&watch->link);
        list_push_back(&lookout->watches, &watch->link);
        lookout->n_watches++;
        r = watch->code == OVL_IOCTL_ROUTING_INTERFACE_CHANGE
                    ? lookout_find_route(lookout, &watch->address, &watch->route)
                    : 0;
        if (r < 0) {
                lookout_watch_free(lookout, watch);
                return lookout_refuse(lookout, outbox, message->ticket, r);
        }
        return outbox_answer(outbox, &armed, -1);
}

static int lookout_watch(struct lookout *lookout, struct outbox *outbox, const struct link_message *message,
                         uid_t uid) {
        int r;

        if (lookout->n_watches >= LOOKOUT_WATCHES_MAX || lookout_count_of(lookout, uid) >= LOOKOUT_WATCHES_OF_USER_MAX)
                return outbox_refuse(outbox, message->ticket, -ENOBUFS, OVL_REASON_QUOTA);
        r = lookout_listen(lookout);
        return r < 0 ? lookout_refuse(lookout, outbox, message->ticket, r)
                     : lookout_start(lookout, outbox, message, uid);
}

static int lookout_query(struct lookout *lookout, struct outbox *outbox, const struct link_message *message) {
        struct link_message answer = { .kind = LINK_ANSWER, .ticket = message->ticket };
        const struct ovl_address *to = &message->body.look.address;
        struct lookout_route route;
        int r;

        r = lookout_find_route(lookout, to, &route);
        if (r < 0)
                return lookout_refuse(lookout, outbox, message->ticket, r);
        if (route.index == 0)
                return outbox_refuse(outbox, message->ticket, -ENETUNREACH, OVL_REASON_NONE);
        answer.body.seen.index = route.index;
        answer.body.seen.address.family = to->family;
        answer.body.seen.address.scope_id = to->scope_id;
        memcpy(answer.body.seen.address.host, route.source, sizeof(route.source));
        return outbox_answer(outbox, &answer, -1);
}

static void lookout_describe(const struct lookout_address *address, struct ovl_interface *ret_interface) {
        *ret_interface = (struct ovl_interface){
                .index = address->index,
                .prefix_len = address->prefix_len,
                .address = { .family = address->family },
        };
        memcpy(ret_interface->address.host, address->host, sizeof(address->host));
        if (address->family == OVL_FAMILY_INET6 && address->host[0] == 0xfe && (address->host[1] & 0xc0) == 0x80)
                ret_interface->address.scope_id = address->index;
}

/* What a message tells of an interface goes to all of its addresses. */
static void lookout_name(const struct nlmsghdr *message, struct ovl_interface *interfaces, uint32_t n) {
        static const struct {
                uint32_t kernel, wire;
        } flags[] = {
                { IFF_UP, OVL_INTERFACE_UP },
                { IFF_BROADCAST, OVL_INTERFACE_BROADCAST },
                { IFF_LOOPBACK, OVL_INTERFACE_LOOPBACK },
                { IFF_POINTOPOINT, OVL_INTERFACE_POINT_TO_POINT },
                { IFF_MULTICAST, OVL_INTERFACE_MULTICAST },
        };
        const struct ifinfomsg *body = NLMSG_DATA(message);
        const struct rtattr *attributes[IFLA_IFNAME + 1];

        if (message->nlmsg_type != RTM_NEWLINK || !netlink_parse(message, sizeof(*body), attributes, IFLA_IFNAME + 1))
                return;
        for (uint32_t i = 0; i < n; i++) {
                struct ovl_interface *interface = &interfaces[i];

                if (interface->index != (uint32_t) body->ifi_index)
                        continue;
                for (size_t k = 0; k < sizeof(flags) / sizeof(flags[0]); k++)
                        interface->flags |= body->ifi_flags & flags[k].kernel ? flags[k].wire : 0;
                if (attributes[IFLA_IFNAME])
                        strncpy(interface->name, RTA_DATA(attributes[IFLA_IFNAME]), sizeof(interface->name) - 1);
        }
}

/* Returns how many addresses there are, or -errno. */
static int lookout_list_addresses(struct lookout *lookout, uint8_t family, struct ovl_interface *ret_interfaces) {
        struct lookout_address address;
        const struct nlmsghdr *message;
        int n = 0, r;

        r = lookout_question_addresses(lookout, family);
        if (r < 0)
                return r;
        while ((r = netlink_next(&lookout->questions, &message)) > 0)
                if (lookout_read_address(message, &address) && n < (int) OVL_INTERFACES_MAX)
                        lookout_describe(&address, &ret_interfaces[n++]);
        return r < 0 ? r : n;
}

static int lookout_name_all(struct lookout *lookout, struct ovl_interface *interfaces, uint32_t n) {
        const struct nlmsghdr *message;
        struct netlink_request request;
        int r;

        netlink_begin(&request, RTM_GETLINK, NLM_F_DUMP, sizeof(request.link));
        r = lookout_question(lookout, &request);
        if (r < 0)
                return r;
        while ((r = netlink_next(&lookout->questions, &message)) > 0)
                lookout_name(message, interfaces, n);
        return r;
}

static int lookout_list(struct lookout *lookout, struct outbox *outbox, const struct link_message *message) {
        struct link_message answer = { .kind = LINK_ANSWER, .ticket = message->ticket };
        _cleanup_free_ struct ovl_interface *interfaces = calloc(OVL_INTERFACES_MAX, sizeof(*interfaces));
        int n, r;

        if (!interfaces)
                return outbox_refuse(outbox, message->ticket, -ENOMEM, OVL_REASON_NONE);
        n = lookout_list_addresses(lookout, message->body.look.family, interfaces);
        r = n < 0 ? n : lookout_name_all(lookout, interfaces, (uint32_t) n);
        if (r < 0)
                return lookout_refuse(lookout, outbox, message->ticket, r);
        answer.body.seen.n_interfaces = (uint32_t) n;
        r = outbox_answer_with(outbox, &answer, interfaces, (size_t) n * sizeof(*interfaces));
        if (r < 0 && !outbox->is_broken)
                return outbox_refuse(outbox, message->ticket, -ENOMEM, OVL_REASON_NONE);
        return r;
}

/* Whether an honest worker asks this. */
static bool lookout_check(const struct link_message *message) {
        const struct ovl_address *address = &message->body.look.address;
        uint8_t code = message->body.look.code, family = message->body.look.family;
        struct sockaddr_storage kernel;
        socklen_t len;

        if (family != OVL_FAMILY_INET && family != OVL_FAMILY_INET6)
                return false;
        if (code == OVL_IOCTL_ADDRESS_LIST_CHANGE || code == OVL_IOCTL_INTERFACE_LIST)
                return true;
        return (code == OVL_IOCTL_ROUTING_INTERFACE_CHANGE || code == OVL_IOCTL_ROUTING_INTERFACE_QUERY) &&
               address->family == family && address_to_kernel(address, &kernel, &len) == 0;
}

int lookout_ask(struct lookout *lookout, struct outbox *outbox, const struct link_message *message,
                const struct connector_client *client, const char **ret_problem) {
        int r;

        if (!lookout_check(message)) {
                *ret_problem = "a question about addresses or routes that is none";
                return -EBADMSG;
        }
        /* Whoever is in the same network sees the same. */
        if (!client->rulings || (client->rulings->subject.is_elsewhere && !rulings_has_grant(client->rulings)))
                return outbox_refuse(outbox, message->ticket, -EACCES, OVL_REASON_DENIED);
        switch (message->body.look.code) {
        case OVL_IOCTL_INTERFACE_LIST:
                r = lookout_list(lookout, outbox, message);
                break;
        case OVL_IOCTL_ROUTING_INTERFACE_QUERY:
                r = lookout_query(lookout, outbox, message);
                break;
        default:
                r = lookout_watch(lookout, outbox, message, client->uid);
                break;
        }
        lookout_rest(lookout);
        return r;
}

void lookout_cancel(struct lookout *lookout, struct outbox *outbox, uint64_t ticket) {
        list_for_each_safe(link, &lookout->watches) {
                struct lookout_watch *watch = list_entry(link, struct lookout_watch, link);

                if (watch->outbox == outbox && watch->ticket == ticket)
                        lookout_end(lookout, watch, -ECANCELED, OVL_REASON_CANCELLED);
        }
        lookout_rest(lookout);
}

void lookout_forget(struct lookout *lookout, const struct outbox *outbox) {
        list_for_each_safe(link, &lookout->watches) {
                struct lookout_watch *watch = list_entry(link, struct lookout_watch, link);

                if (watch->outbox == outbox)
                        lookout_watch_free(lookout, watch);
        }
        lookout_rest(lookout);
}

void lookout_deinit(struct lookout *lookout) {
        if (!lookout->event)
                return;
        while (!list_is_empty(&lookout->watches))
                lookout_watch_free(lookout, list_entry(lookout->watches.next, struct lookout_watch, link));
        lookout_rest(lookout);
}
