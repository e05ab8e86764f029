/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the policy has to know of the machine.
 *
 * The machine's own addresses are those of the kernel's local routing table: what is sent there stays here, whichever
 * interface has the address, or none. The kernel tells of changes, and is asked again before each decision of the
 * monitor; while it cannot be asked, every address counts as the machine's own, and a rule must name it.
 *
 * Addresses of names are those that the resolver gave for a name that some rule speaks of, for an hour. A client cannot
 * say what they are, so a name that it controls opens nothing, and the address that was decided about is the one that
 * is connected to.
 *
 * Rejected: resolving the names of rules once, when they are read: addresses change, and a name service that is slow
 * would hold up the start.
 */

#include "daemon/monitor/facts.h"
#include "daemon/monitor/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"
#include "base/time.h"
#include "daemon/monitor/events.h"

void facts_init(struct facts *facts, sd_event *event, struct journal *journal) {
        *facts = (struct facts){ .event = event, .journal = journal, .fd = -1 };
        facts->changes.fd = -1;
}

void facts_deinit(struct facts *facts) {
        if (!facts->event)
                return;
        facts->source = sd_event_source_disable_unref(facts->source);
        netlink_close(&facts->changes);
        free(take_ptr(facts->own));
        free(take_ptr(facts->found));
        free(take_ptr(facts->known));
        facts->fd = fd_close(facts->fd);
}

int facts_seal(const void *bytes, size_t len, const char *name) {
        _cleanup_fd_ int fd = -1;
        size_t done = 0;

        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        while (done < len) {
                ssize_t n = write(fd, (const uint8_t *) bytes + done, len - done);

                if (n < 0 && errno != EINTR)
                        return -errno;
                done += n > 0 ? (size_t) n : 0;
        }
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                return -errno;
        return fd_take(&fd);
}

/* --- Publishing -------------------------------------------------------------------------------------------------- */

static int facts_compare_found(const void *left, const void *right) {
        const struct ruling_found *a = left, *b = right;

        return ruling_key_compare(&a->address, &b->address);
}

struct ruling_facts *facts_imagine(const struct facts *facts, const uint64_t *names, size_t n_names,
                                   const struct ovl_address *address) {
        size_t own_len = facts->n_own * sizeof(*facts->own), n_found = facts->n_found + n_names;
        size_t len = sizeof(struct ruling_facts) + own_len + n_found * sizeof(*facts->found);
        struct ruling_facts *known = calloc(1, len);
        struct ruling_found *found;

        if (!known)
                return NULL;
        known->size = (uint32_t) len;
        known->is_incomplete = !facts->is_watching;
        known->own = (struct ruling_list){ sizeof(*known), (uint32_t) facts->n_own };
        known->found = (struct ruling_list){ (uint32_t) (sizeof(*known) + own_len), (uint32_t) n_found };
        found = (struct ruling_found *) ((uint8_t *) known + known->found.at);
        if (own_len > 0)
                memcpy(known + 1, facts->own, own_len);
        if (facts->n_found > 0)
                memcpy(found, facts->found, facts->n_found * sizeof(*found));
        for (size_t i = 0; i < n_names; i++)
                found[facts->n_found + i] = (struct ruling_found){ .address = ruling_key(address),
                                                                   .name = names[i],
                                                                   .until_s = UINT64_MAX };
        if (n_found > 0)
                qsort(found, n_found, sizeof(*found), facts_compare_found);
        return known;
}

int facts_publish(struct facts *facts) {
        _cleanup_free_ struct ruling_facts *known = facts_imagine(facts, NULL, 0, NULL);
        int fd;

        if (!known)
                return -ENOMEM;
        fd = facts_seal(known, known->size, "overlapd-facts");
        if (fd < 0)
                return fd;
        fd_close(facts->fd);
        facts->fd = fd;
        free(facts->known);
        facts->known = take_ptr(known);
        facts->has_news = true;
        facts->is_behind = false;
        return 0;
}

void facts_learn(struct facts *facts, uint64_t name, const struct ovl_address *address) {
        const struct ruling_key key = ruling_key(address);
        uint64_t until_s = now_ns() / NS_PER_S + FACTS_FOUND_S;

        if (!facts->found)
                facts->found = calloc(FACTS_FOUND_MAX, sizeof(*facts->found));
        if (!facts->found)
                return;
        for (size_t i = 0; i < facts->n_found; i++)
                if (facts->found[i].name == name && ruling_key_compare(&facts->found[i].address, &key) == 0) {
                        if (until_s - facts->found[i].until_s < FACTS_FRESH_S)
                                return;
                        facts->found[i].until_s = until_s;
                        facts->is_behind = true;
                        return;
                }
        facts->is_behind = true;
        /* The oldest gives way. */
        if (facts->n_found == FACTS_FOUND_MAX)
                memmove(facts->found, facts->found + 1, --facts->n_found * sizeof(*facts->found));
        facts->found[facts->n_found++] = (struct ruling_found){ .address = key, .name = name, .until_s = until_s };
}

/* --- The machine's addresses ------------------------------------------------------------------------------------- */

static struct ruling_key facts_key(int family, const void *host, size_t len) {
        struct ovl_address address = { .family = family == AF_INET ? OVL_FAMILY_INET : OVL_FAMILY_INET6 };

        memcpy(address.host, host, len);
        return ruling_key(&address);
}

static struct ruling_key facts_last(struct ruling_key key, unsigned n_host_bits) {
        key.low |= n_host_bits >= 64 ? UINT64_MAX : n_host_bits > 0 ? UINT64_MAX >> (64 - n_host_bits) : 0;
        key.high |= n_host_bits >= 128 ? UINT64_MAX : n_host_bits > 64 ? UINT64_MAX >> (128 - n_host_bits) : 0;
        return key;
}

/* Takes one route, if what goes that way stays here. Returns 0, -ENOMEM or -ENOSPC. */
static int facts_take_route(struct facts *facts, const struct nlmsghdr *message, size_t *n_held) {
        const struct rtattr *attributes[RTA_TABLE + 1];
        const struct rtmsg *route = NLMSG_DATA(message);
        size_t host_len = route->rtm_family == AF_INET ? 4 : 16;
        uint8_t host[16] = { 0 };
        struct ruling_own *own;

        if (message->nlmsg_type != RTM_NEWROUTE ||
            !netlink_parse(message, sizeof(*route), attributes, sizeof(attributes) / sizeof(attributes[0])) ||
            (route->rtm_family != AF_INET && route->rtm_family != AF_INET6) || route->rtm_dst_len > host_len * 8)
                return 0;
        if (route->rtm_type != RTN_LOCAL && route->rtm_type != RTN_BROADCAST && route->rtm_type != RTN_ANYCAST)
                return 0;
        if (attributes[RTA_DST] && RTA_PAYLOAD(attributes[RTA_DST]) == host_len)
                memcpy(host, RTA_DATA(attributes[RTA_DST]), host_len);
        if (facts->n_own == *n_held) {
                own = reallocarray(facts->own, *n_held * 2 + 16, sizeof(*own));
                if (!own)
                        return -ENOMEM;
                facts->own = own;
                *n_held = *n_held * 2 + 16;
        }
        own = &facts->own[facts->n_own++];
        own->first = facts_key(route->rtm_family, host, host_len);
        own->last = facts_last(own->first, (unsigned) host_len * 8 - route->rtm_dst_len);
        return 0;
}

static int facts_ask(struct facts *facts, struct netlink *netlink, uint8_t family, size_t *n_held) {
        struct netlink_request request;
        const struct nlmsghdr *message;
        int r;

        netlink_begin(&request, RTM_GETROUTE, NLM_F_DUMP, sizeof(request.route));
        request.route.rtm_family = family;
        request.route.rtm_table = RT_TABLE_LOCAL;
        r = netlink_ask(netlink, &request);
        while (r >= 0 && (r = netlink_next(netlink, &message)) > 0)
                r = facts_take_route(facts, message, n_held);
        return r;
}

static int facts_compare_own(const void *left, const void *right) {
        const struct ruling_own *a = left, *b = right;

        return ruling_key_compare(&a->first, &b->first);
}

/* Sorts, and joins what overlaps. */
static void facts_join_own(struct facts *facts) {
        size_t n = 0;

        if (facts->n_own > 0)
                qsort(facts->own, facts->n_own, sizeof(*facts->own), facts_compare_own);
        for (size_t i = 0; i < facts->n_own; i++) {
                struct ruling_own *before = n > 0 ? &facts->own[n - 1] : NULL;

                if (!before || ruling_key_compare(&before->last, &facts->own[i].first) < 0)
                        facts->own[n++] = facts->own[i];
                else if (ruling_key_compare(&before->last, &facts->own[i].last) < 0)
                        before->last = facts->own[i].last;
        }
        facts->n_own = n;
}

static int facts_look(struct facts *facts) {
        _cleanup_free_ struct netlink *netlink = malloc(sizeof(*netlink));
        size_t n_held = 0;
        int on = 1, r;

        if (!netlink)
                return -ENOMEM;
        r = netlink_open(netlink, 0);
        if (r < 0)
                return r;
        /* Without it the kernel tells all routes there are, which may be a million. */
        setsockopt(netlink->fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
        free(take_ptr(facts->own));
        facts->n_own = 0;
        r = facts_ask(facts, netlink, AF_INET, &n_held);
        if (r >= 0)
                r = facts_ask(facts, netlink, AF_INET6, &n_held);
        netlink_close(netlink);
        if (r < 0)
                return r;
        facts_join_own(facts);
        return 0;
}

static void facts_look_again(struct facts *facts) {
        int r = facts_look(facts);

        if (r < 0)
                journal_write(
                        facts->journal, LOG_WARNING, &(struct journal_fields){ .message_id = EVENT_LOOKOUT_BLIND },
                        "the machine's addresses cannot be told (%s): rules must name each address", strerror(-r));
        facts->is_watching = r >= 0;
        r = facts_publish(facts);
        if (r < 0 && facts->known)
                facts->known->is_incomplete = true;
}

static bool facts_is_about_us(const struct nlmsghdr *message) {
        const struct rtmsg *route = NLMSG_DATA(message);

        return message->nlmsg_len >= NLMSG_LENGTH(sizeof(*route)) &&
               (message->nlmsg_type == RTM_NEWROUTE || message->nlmsg_type == RTM_DELROUTE) &&
               (route->rtm_type == RTN_LOCAL || route->rtm_type == RTN_BROADCAST || route->rtm_type == RTN_ANYCAST);
}

void facts_refresh(struct facts *facts) {
        const struct nlmsghdr *message;
        bool has_changed = false;
        int r;

        if (facts->changes.fd < 0)
                return;
        while ((r = netlink_next(&facts->changes, &message)) > 0)
                has_changed = has_changed || facts_is_about_us(message);
        if (has_changed || r < 0)
                facts_look_again(facts);
}

static int facts_on_change(sd_event_source *source, int fd, uint32_t events, void *data) {
        facts_refresh(data);
        return 0;
}

int facts_watch(struct facts *facts) {
        int r;

        if (facts->changes.fd >= 0)
                return 0;
        r = netlink_open(&facts->changes, RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE);
        if (r >= 0)
                r = sd_event_add_io(facts->event, &facts->source, facts->changes.fd, EPOLLIN, facts_on_change, facts);
        if (r < 0) {
                journal_write(facts->journal, LOG_WARNING,
                              &(struct journal_fields){ .message_id = EVENT_LOOKOUT_BLIND },
                              "the kernel does not tell of addresses (%s): rules must name each address", strerror(-r));
                return facts_publish(facts);
        }
        facts_look_again(facts);
        return facts->known ? 0 : -ENOMEM;
}
