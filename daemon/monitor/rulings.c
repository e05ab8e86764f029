/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The policy at work.
 *
 * Invariant: each connection and each session has a client here, which is who it is as the kernel told when it
 * connected, and what the policy in force says of him. A worker has the same ruling before it gets the connection, and
 * a new one before anything that was asked for after a reload is answered. Clients that are alike share one; they are
 * on one worker, for they are of one shard.
 *
 *   (none) -> there   the first connection of its kind
 *   there  -> there   a reload: the ruling is another one
 *   there  -> (none)  the last connection and the last session are gone
 *
 * Without rules the user of an instance of his own needs no ruling: it says that everything is allowed, and costs a
 * connection nothing.
 */

#include "daemon/monitor/rulings.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/policy-load.h"

#define RULINGS_HASHES_MAX 64u

void rulings_init(struct rulings *rulings, const struct rulings_source *source, sd_event *event,
                  struct journal *journal) {
        *rulings = (struct rulings){ .source = *source, .journal = journal };
        list_init(&rulings->clients);
        facts_init(&rulings->facts, event, journal);
}

static struct rulings_client *rulings_client_free(struct rulings_client *client) {
        list_unlink(&client->link);
        listener_peer_deinit(&client->peer);
        free(client->ruling);
        fd_close(client->fd);
        free(client);
        return NULL;
}

void rulings_deinit(struct rulings *rulings) {
        if (!rulings->clients.next)
                return;
        while (!list_is_empty(&rulings->clients))
                rulings_client_free(list_entry(rulings->clients.next, struct rulings_client, link));
        rulings->policy = policy_free(rulings->policy);
        facts_deinit(&rulings->facts);
}

/* --- Rulings ----------------------------------------------------------------------------------------------------- */

static bool rulings_is_plain(const struct ruling *ruling) {
        return ruling->is_open && ruling->rules.n == 0;
}

static int rulings_compile(const struct policy *policy, const struct policy_subject *subject,
                           struct ruling **ret_ruling, int *ret_fd) {
        _cleanup_free_ struct ruling *ruling = NULL;
        int fd = -1, r;

        r = policy_compile(policy, subject, &ruling);
        if (r < 0)
                return r;
        if (!rulings_is_plain(ruling)) {
                fd = facts_seal(ruling, ruling->size, "overlapd-ruling");
                if (fd < 0)
                        return fd;
        }
        *ret_ruling = take_ptr(ruling);
        *ret_fd = fd;
        return 0;
}

/* The rulings of all clients by another policy: all of them, or none. */
static int rulings_compile_all(struct rulings *rulings, const struct policy *policy, struct ruling **rulings_of,
                               int *fds) {
        size_t n = 0;
        int r = 0;

        list_for_each(link, &rulings->clients) {
                const struct rulings_client *client = list_entry(link, struct rulings_client, link);

                r = rulings_compile(policy, &client->subject, &rulings_of[n], &fds[n]);
                if (r < 0)
                        break;
                n++;
        }
        for (size_t i = 0; r < 0 && i < n; i++) {
                free(rulings_of[i]);
                fd_close(fds[i]);
        }
        return r;
}

static int rulings_replace(struct rulings *rulings, struct policy *take_policy) {
        _cleanup_free_ struct ruling **compiled = NULL;
        _cleanup_free_ int *fds = NULL;
        size_t n = 0;
        int r;

        list_for_each(link, &rulings->clients)
                n++;
        compiled = calloc(n + 1, sizeof(struct ruling *));
        fds = calloc(n + 1, sizeof(*fds));
        if (!compiled || !fds)
                return -ENOMEM;
        r = rulings_compile_all(rulings, take_policy, compiled, fds);
        if (r < 0)
                return r;
        n = 0;
        list_for_each(link, &rulings->clients) {
                struct rulings_client *client = list_entry(link, struct rulings_client, link);

                free(client->ruling);
                fd_close(client->fd);
                client->ruling = compiled[n];
                client->fd = fds[n++];
        }
        policy_free(rulings->policy);
        rulings->policy = take_policy;
        return 0;
}

int rulings_load(struct rulings *rulings, char **ret_errors) {
        struct policy *policy;
        int r;

        r = policy_load(rulings->source.directories, &policy, ret_errors);
        if (r < 0)
                return r;
        policy->is_own = rulings->source.is_own;
        policy->own_uid = geteuid();
        if (!policy->is_own || policy->n_rules > 0)
                r = facts_watch(&rulings->facts);
        if (r >= 0)
                r = rulings_replace(rulings, policy);
        if (r < 0)
                policy_free(policy);
        return r;
}

const char *rulings_describe(const struct rulings *rulings, char text[RULINGS_WHY_SIZE]) {
        size_t n = rulings->policy->n_rules;

        if (rulings->policy->is_own)
                snprintf(text, RULINGS_WHY_SIZE, "policy: %zu rules; besides, user %u may do what it could do itself",
                         n, (unsigned) rulings->policy->own_uid);
        else if (n == 0)
                snprintf(text, RULINGS_WHY_SIZE,
                         "policy: no rules in %s, so nobody may use the network: see "
                         "overlapd-policy(5)",
                         rulings->source.directories[0]);
        else
                snprintf(text, RULINGS_WHY_SIZE, "policy: %zu rules; what none of them allows is refused", n);
        return text;
}

/* --- Clients ----------------------------------------------------------------------------------------------------- */

static bool rulings_same_text(const char *a, const char *b) {
        return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static bool rulings_is_alike(const struct listener_peer *a, const struct listener_peer *b) {
        return a->uid == b->uid && a->gid == b->gid && a->is_elsewhere == b->is_elsewhere &&
               a->n_groups == b->n_groups &&
               (a->n_groups == 0 || memcmp(a->groups, b->groups, a->n_groups * sizeof(*a->groups)) == 0) &&
               rulings_same_text(a->unit, b->unit) && rulings_same_text(a->cgroup, b->cgroup);
}

static int rulings_copy_peer(const struct listener_peer *peer, struct listener_peer *ret_peer) {
        cleanup(listener_peer_deinit) struct listener_peer copy = { .fd = -1 };

        copy.uid = peer->uid;
        copy.gid = peer->gid;
        copy.is_elsewhere = peer->is_elsewhere;
        if (peer->unit && !(copy.unit = strdup(peer->unit)))
                return -ENOMEM;
        if (peer->cgroup && !(copy.cgroup = strdup(peer->cgroup)))
                return -ENOMEM;
        if (peer->n_groups > 0) {
                copy.groups = calloc(peer->n_groups, sizeof(*copy.groups));
                if (!copy.groups)
                        return -ENOMEM;
                memcpy(copy.groups, peer->groups, peer->n_groups * sizeof(*copy.groups));
                copy.n_groups = peer->n_groups;
        }
        *ret_peer = copy;
        copy = (struct listener_peer){ .fd = -1 };
        return 0;
}

static int rulings_client_new(struct rulings *rulings, const struct listener_peer *peer,
                              struct rulings_client **ret_client) {
        struct rulings_client *client = calloc(1, sizeof(*client));
        int r;

        if (!client)
                return -ENOMEM;
        client->fd = -1;
        client->peer.fd = -1;
        list_init(&client->link);
        r = rulings_copy_peer(peer, &client->peer);
        client->subject = (struct policy_subject){
                .uid = client->peer.uid,
                .gid = client->peer.gid,
                .groups = client->peer.groups,
                .n_groups = client->peer.n_groups,
                .unit = client->peer.unit,
                .cgroup = client->peer.cgroup,
                .is_elsewhere = client->peer.is_elsewhere,
        };
        if (r >= 0)
                r = rulings_compile(rulings->policy, &client->subject, &client->ruling, &client->fd);
        if (r < 0) {
                rulings_client_free(client);
                return r;
        }
        client->number = ++rulings->last_number;
        *ret_client = client;
        return 0;
}

int rulings_ref(struct rulings *rulings, const struct listener_peer *peer, unsigned worker,
                struct rulings_client **ret_client) {
        struct rulings_client *client;
        int r;

        list_for_each(link, &rulings->clients) {
                client = list_entry(link, struct rulings_client, link);
                if (client->worker == worker && rulings_is_alike(&client->peer, peer)) {
                        *ret_client = rulings_ref_again(client);
                        return 0;
                }
        }
        r = rulings_client_new(rulings, peer, &client);
        if (r < 0)
                return r;
        client->worker = worker;
        list_push_back(&rulings->clients, &client->link);
        *ret_client = rulings_ref_again(client);
        return 0;
}

struct rulings_client *rulings_ref_again(struct rulings_client *client) {
        if (client)
                client->n_refs++;
        return client;
}

struct rulings_client *rulings_unref(struct rulings_client *client) {
        return client && --client->n_refs == 0 ? rulings_client_free(client) : NULL;
}

/* --- Workers ----------------------------------------------------------------------------------------------------- */

static int rulings_send(struct outbox *outbox, const struct link_message *message, int fd) {
        _cleanup_fd_ int copy = -1;
        int r;

        if (fd >= 0) {
                copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
                if (copy < 0)
                        return -errno;
        }
        r = outbox_push(outbox, message, copy, OUTBOX_MAX);
        if (r >= 0)
                copy = -1;
        return r;
}

int rulings_tell_client(const struct rulings_client *client, struct outbox *outbox, bool is_new) {
        struct link_message message = { .kind = LINK_RULING };

        message.body.ruling.number = client->number;
        message.body.ruling.is_new = is_new;
        message.body.ruling.is_open = client->fd < 0;
        return rulings_send(outbox, &message, client->fd);
}

int rulings_tell_facts(const struct rulings *rulings, struct outbox *outbox) {
        const struct link_message message = { .kind = LINK_FACTS };

        return rulings->facts.fd < 0 ? 0 : rulings_send(outbox, &message, rulings->facts.fd);
}

/* --- Questions --------------------------------------------------------------------------------------------------- */

bool rulings_allow(struct rulings *rulings, const struct rulings_client *client, struct ruling_question *question,
                   char why[RULINGS_WHY_SIZE]) {
        static const struct ruling_facts nothing_known = { .size = sizeof(nothing_known), .is_incomplete = true };
        struct ruling_verdict verdict;
        char text[RULING_TEXT_SIZE];

        if (!client) {
                rulings->n_denied++;
                snprintf(why, RULINGS_WHY_SIZE, "the policy does not allow this: it is not known who asks");
                return false;
        }
        facts_refresh(&rulings->facts);
        question->now_s = now_ns() / NS_PER_S;
        verdict = ruling_decide(client->ruling, rulings->facts.known ? rulings->facts.known : &nothing_known, question);
        if (verdict.is_allowed) {
                rulings->n_allowed++;
                return true;
        }
        rulings->n_denied++;
        snprintf(why, RULINGS_WHY_SIZE, "the policy does not allow this: %s",
                 ruling_text(client->ruling, &verdict, text));
        return false;
}

/* The same facts, and that a name has this address. */
static struct ruling_facts *rulings_imagine(const struct rulings *rulings, const char *name,
                                            const struct ovl_address *address) {
        uint64_t hashes[RULINGS_HASHES_MAX];
        size_t n = name ? policy_name_hashes(rulings->policy, name, hashes, RULINGS_HASHES_MAX) : 0;

        return facts_imagine(&rulings->facts, hashes, n, address);
}

int rulings_try(struct rulings *rulings, const struct policy_subject *subject, struct ruling_question *question,
                const char *name, char why[RULING_TEXT_SIZE]) {
        _cleanup_free_ struct ruling_facts *facts = NULL;
        _cleanup_free_ struct ruling *ruling = NULL;
        struct ruling_verdict verdict;
        int r;

        r = policy_compile(rulings->policy, subject, &ruling);
        if (r < 0)
                return r;
        facts_refresh(&rulings->facts);
        question->now_s = now_ns() / NS_PER_S;
        facts = rulings_imagine(rulings, question->address ? name : NULL, question->address);
        if (!facts)
                return -ENOMEM;
        verdict = ruling_decide(ruling, facts, question);
        ruling_text(ruling, &verdict, why);
        return verdict.is_allowed;
}

bool rulings_has_grant(const struct rulings_client *client) {
        return client && client->ruling->has_grant;
}

bool rulings_learn(struct rulings *rulings, const char *name, const struct ovl_address *addresses, size_t n) {
        char lower[RULING_NAME_MAX + 1];
        uint64_t hashes[RULINGS_HASHES_MAX];
        size_t len = strlen(name), n_hashes;

        if (len > 0 && name[len - 1] == '.')
                len--;
        if (len == 0 || len > RULING_NAME_MAX)
                return false;
        for (size_t i = 0; i < len; i++)
                lower[i] = (char) tolower((unsigned char) name[i]);
        lower[len] = '\0';
        n_hashes = policy_name_hashes(rulings->policy, lower, hashes, RULINGS_HASHES_MAX);
        for (size_t i = 0; i < n_hashes; i++)
                for (size_t j = 0; j < n; j++)
                        facts_learn(&rulings->facts, hashes[i], &addresses[j]);
        return rulings->facts.is_behind && facts_publish(&rulings->facts) >= 0;
}
