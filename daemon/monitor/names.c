/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Names are resolved by a process that may hang or die; the monitor does neither. It keeps the queries, gives the
 * resolver no more than it has threads for, and no user more than half of these, nor of the queries that are kept: who
 * asks for names whose servers do not answer holds up itself.
 *
 * Invariant: each request is answered exactly once, unless its worker is gone; a query that the resolver has stays
 * until the resolver is done with it, also when nobody waits for it any more.
 *
 *   waiting -> running   the resolver has a thread for it
 *   waiting -> (gone)    cancelled, its worker died, or it is late
 *   running -> (gone)    the resolver answered, or died
 *
 * The resolver is started by the first query and after its death by the next one. What it had then is answered with
 * NAME_TRY_AGAIN, and is not asked again: it may be what killed it. An address as one writes it is read here, without
 * it.
 */

#include "daemon/monitor/names.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/events.h"
#include "daemon/monitor/spawn.h"
#include "daemon/resolver/query.h"
#include "proto/address.h"
#include "proto/text.h"

#define NAMES_OF_USER_MAX (RESOLVER_THREADS / 2) /* that run at once */
#define NAMES_TICK_US UINT64_C(1000000)

struct names_query {
        struct list link;
        struct outbox *outbox; /* borrowed: of the worker that waits for the answer; NULL: none does */
        uint64_t ticket;
        void (*found)(void *data, const struct resolver_answer *answer); /* NULL: the monitor itself does not wait */
        void *data;
        uid_t uid;
        uint64_t since_ns;
        struct resolver_query query;
};

static void names_dispatch(struct names *names);

void names_init(struct names *names, sd_event *event, struct journal *journal, struct rulings *rulings) {
        *names = (struct names){ .event = event, .journal = journal, .rulings = rulings, .fd = -1 };
        list_init(&names->waiting);
        list_init(&names->running);
}

/* --- Answers ---------------------------------------------------------------------------------------------------- */

static int names_refuse(struct outbox *outbox, uint64_t ticket, int status, uint32_t reason) {
        return outbox ? outbox_refuse(outbox, ticket, status, reason) : 0;
}

static int names_deny(struct outbox *outbox, uint64_t ticket, const char *why) {
        struct link_message answer = {
                .kind = LINK_ANSWER, .ticket = ticket, .status = -EACCES, .reason = OVL_REASON_DENIED
        };

        snprintf(answer.text, sizeof(answer.text), "%s", why);
        return outbox_answer(outbox, &answer, -1);
}

static int names_give(struct outbox *outbox, uint64_t ticket, const struct ovl_address *addresses, uint32_t n) {
        struct link_message answer = { .kind = LINK_ANSWER, .ticket = ticket, .body.found.n_addresses = n };
        int r;

        if (!outbox)
                return 0;
        r = outbox_answer_with(outbox, &answer, addresses, n * sizeof(*addresses));
        if (r < 0 && !outbox->is_broken)
                return names_refuse(outbox, ticket, -EAGAIN, OVL_REASON_NAME_TRY_AGAIN);
        return r;
}

/* Answers whoever waits, if anybody does, for the last time. */
static void names_end(struct names_query *query, const struct resolver_answer *answer) {
        struct outbox *outbox = take_ptr(query->outbox);
        void (*found)(void *data, const struct resolver_answer *answer) = take_ptr(query->found);

        if (found)
                found(query->data, answer);
        else if (answer->status == 0)
                names_give(outbox, query->ticket, answer->addresses, answer->n_addresses);
        else
                names_refuse(outbox, query->ticket, answer->status, answer->reason);
}

static void names_fail(struct names_query *query, int status, uint32_t reason) {
        const struct resolver_answer answer = { .status = status, .reason = reason };

        names_end(query, &answer);
}

static void names_query_free(struct names *names, struct names_query *query) {
        list_unlink(&query->link);
        names->n_pending--;
        free(query);
}

/* --- The resolver ----------------------------------------------------------------------------------------------- */

static struct names_query *names_find_running(struct names *names, uint64_t number) {
        list_for_each(link, &names->running) {
                struct names_query *query = list_entry(link, struct names_query, link);

                if (query->query.number == number)
                        return query;
        }
        return NULL;
}

/* Whether the addresses are some, and of the kind that was asked for. */
static bool names_check_answer(const struct resolver_answer *answer, const struct resolver_query *query) {
        if (answer->status > 0 || answer->n_addresses > OVL_RESOLVE_ADDRESSES_MAX ||
            (answer->status == 0) != (answer->n_addresses > 0))
                return false;
        for (uint32_t i = 0; i < answer->n_addresses; i++) {
                const struct ovl_address *address = &answer->addresses[i];
                struct sockaddr_storage kernel;
                socklen_t len;

                if (address_to_kernel(address, &kernel, &len) < 0 || address->family == OVL_FAMILY_UNIX ||
                    (query->family != 0 && address->family != query->family))
                        return false;
                if (query->service[0] == '\0' ? address->port != query->port : address->port == 0)
                        return false;
        }
        return true;
}

static void names_kill(struct names *names, const char *why) {
        journal_write(names->journal, LOG_WARNING, &(struct journal_fields){ .message_id = EVENT_RESOLVER_FAILED },
                      "the resolver is killed: %s", why);
        names->answer_source = sd_event_source_disable_unref(names->answer_source);
        kill(names->pid, SIGKILL);
}

static int names_on_answer(sd_event_source *source, int fd, uint32_t events, void *data) {
        struct names *names = data;
        struct resolver_answer answer;
        struct names_query *query;
        ssize_t n;

        n = recv(fd, &answer, sizeof(answer), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0) {
                /* It has ended: its exit says the rest. */
                names->answer_source = sd_event_source_disable_unref(names->answer_source);
                return 0;
        }
        query = n == sizeof(answer) ? names_find_running(names, answer.number) : NULL;
        if (!query || !names_check_answer(&answer, &query->query)) {
                names_kill(names, "it answered what nobody asked");
                return 0;
        }
        /* The worker knows what the name stands for before its client can use it. */
        if (answer.status == 0 &&
            rulings_learn(names->rulings, query->query.name, answer.addresses, answer.n_addresses) && query->outbox)
                rulings_tell_facts(names->rulings, query->outbox);
        names_end(query, &answer);
        names->n_running--;
        names_query_free(names, query);
        names_dispatch(names);
        return 0;
}

/* Everything of the process but the process. */
static void names_clear(struct names *names) {
        names->answer_source = sd_event_source_disable_unref(names->answer_source);
        names->child_source = sd_event_source_disable_unref(names->child_source);
        names->fd = fd_close(names->fd);
        names->pid = 0;
}

static void names_fail_running(struct names *names) {
        while (!list_is_empty(&names->running)) {
                struct names_query *query = list_entry(names->running.next, struct names_query, link);

                names_fail(query, -EAGAIN, OVL_REASON_NAME_TRY_AGAIN);
                names->n_running--;
                names_query_free(names, query);
        }
}

static int names_on_child(sd_event_source *source, const siginfo_t *info, void *data) {
        struct names *names = data;

        journal_write(names->journal, LOG_WARNING, &(struct journal_fields){ .message_id = EVENT_RESOLVER_FAILED },
                      "the resolver ended (%s %d) with %u names that it had: they are to be asked for again",
                      info->si_code == CLD_EXITED ? "status" : "signal", info->si_status, names->n_running);
        names_clear(names);
        names_fail_running(names);
        names_dispatch(names);
        return 0;
}

static int names_start(struct names *names) {
        int r;

        r = spawn_resolver(&names->pid, &names->fd);
        if (r < 0)
                return r;
        r = sd_event_add_io(names->event, &names->answer_source, names->fd, EPOLLIN, names_on_answer, names);
        if (r >= 0)
                r = sd_event_add_child(names->event, &names->child_source, names->pid, WEXITED, names_on_child, names);
        if (r < 0) {
                kill(names->pid, SIGKILL);
                waitpid(names->pid, NULL, 0);
                names_clear(names);
        }
        return r < 0 ? r : 0;
}

/* --- Dispatch --------------------------------------------------------------------------------------------------- */

static unsigned names_count(const struct list *queries, uid_t uid) {
        unsigned n = 0;

        list_for_each(link, queries)
                n += list_entry(link, struct names_query, link)->uid == uid;
        return n;
}

/* The first query whose user may have one more running. */
static struct names_query *names_choose(struct names *names) {
        list_for_each(link, &names->waiting) {
                struct names_query *query = list_entry(link, struct names_query, link);

                if (names_count(&names->running, query->uid) < NAMES_OF_USER_MAX)
                        return query;
        }
        return NULL;
}

static void names_dispatch(struct names *names) {
        struct names_query *query;
        int r;

        while (names->n_running < RESOLVER_THREADS && (query = names_choose(names))) {
                r = names->pid == 0 ? names_start(names) : 0;
                if (r < 0) {
                        journal_write(names->journal, LOG_ERR,
                                      &(struct journal_fields){ .message_id = EVENT_RESOLVER_FAILED },
                                      "the resolver cannot be started: %s", strerror(-r));
                        names_fail(query, -EIO, OVL_REASON_NAME_FAILED);
                        names_query_free(names, query);
                        continue;
                }
                /* A resolver that has ended, or is about to, is not asked: its successor is. */
                if (send(names->fd, &query->query, sizeof(query->query), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                        return;
                list_unlink(&query->link);
                list_push_back(&names->running, &query->link);
                names->n_running++;
        }
}

/* Tells those that have waited too long, and ends a resolver that is stuck. */
static int names_on_tick(sd_event_source *source, uint64_t now, void *data) {
        struct names *names = data;
        uint64_t now_is_ns = now_ns();

        list_for_each_safe(link, &names->waiting) {
                struct names_query *query = list_entry(link, struct names_query, link);

                if (now_is_ns - query->since_ns < NAMES_LATE_S * NS_PER_S)
                        continue;
                names_fail(query, -EAGAIN, OVL_REASON_NAME_TRY_AGAIN);
                names_query_free(names, query);
        }
        list_for_each(link, &names->running) {
                struct names_query *query = list_entry(link, struct names_query, link);

                if (now_is_ns - query->since_ns >= NAMES_LATE_S * NS_PER_S)
                        names_fail(query, -EAGAIN, OVL_REASON_NAME_TRY_AGAIN);
                if (names->answer_source && now_is_ns - query->since_ns >= NAMES_STUCK_S * NS_PER_S)
                        names_kill(names, "it did not answer for two minutes");
        }
        names->tick = sd_event_source_disable_unref(names->tick);
        if (names->n_pending > 0)
                sd_event_add_time_relative(names->event, &names->tick, CLOCK_MONOTONIC, NAMES_TICK_US, 0, names_on_tick,
                                           names);
        return 0;
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

/* Reads an address as one writes it. Returns whether it is one, and how many addresses it gives: 0 of another family.
 */
static bool names_read_address(const struct resolver_query *query, struct ovl_address *ret_address, uint32_t *ret_n) {
        struct ovl_address address = { .port = query->port };

        if (inet_pton(AF_INET, query->name, address.host) == 1)
                address.family = OVL_FAMILY_INET;
        else if (inet_pton(AF_INET6, query->name, address.host) == 1)
                address.family = OVL_FAMILY_INET6;
        else
                return false;
        *ret_n = query->family == 0 || query->family == address.family ? 1 : 0;
        *ret_address = address;
        return true;
}

static int names_check(const struct link_message *message, struct resolver_query *ret_query, const char **ret_problem) {
        uint8_t family = message->body.resolve.family, type = message->body.resolve.type;
        size_t len = strnlen(message->text, sizeof(message->text));

        if (!text_is_host_name(message->text, len) ||
            (family != 0 && family != OVL_FAMILY_INET && family != OVL_FAMILY_INET6) ||
            (type != 0 && type != SOCK_STREAM && type != SOCK_DGRAM)) {
                *ret_problem = "a name that is none";
                return -EBADMSG;
        }
        *ret_query = (struct resolver_query){ .port = message->body.resolve.port, .family = family, .type = type };
        memcpy(ret_query->name, message->text, len);
        return 0;
}

/* Returns 0 and the query, or -ENOBUFS, -ENOMEM. The caller says who waits, and has it dispatched. */
static int names_enqueue(struct names *names, uid_t uid, const struct resolver_query *asked,
                         struct names_query **ret_query) {
        struct names_query *query;

        if (names->n_pending >= NAMES_PENDING_MAX ||
            names_count(&names->waiting, uid) + names_count(&names->running, uid) >= NAMES_PENDING_OF_USER_MAX)
                return -ENOBUFS;
        query = calloc(1, sizeof(*query));
        if (!query)
                return -ENOMEM;
        query->uid = uid;
        query->since_ns = now_ns();
        query->query = *asked;
        query->query.number = ++names->n_queries;
        list_init(&query->link);
        list_push_back(&names->waiting, &query->link);
        names->n_pending++;
        if (!names->tick)
                sd_event_add_time_relative(names->event, &names->tick, CLOCK_MONOTONIC, NAMES_TICK_US, 0, names_on_tick,
                                           names);
        *ret_query = query;
        return 0;
}

const char *names_normalize(const char *name, char normal[OVL_RESOLVE_NAME_MAX + 1]) {
        size_t len = strnlen(name, OVL_RESOLVE_NAME_MAX);

        for (size_t i = 0; i < len; i++)
                normal[i] = (char) tolower((unsigned char) name[i]);
        normal[len > 0 && name[len - 1] == '.' ? len - 1 : len] = '\0';
        return normal;
}

/* Asks the policy, and tells the journal of a refusal. purpose: what it is asked for, as the line says it. */
static bool names_may_ask(struct names *names, const struct resolver_query *query, const char *purpose,
                          const struct connector_client *client, char why[RULINGS_WHY_SIZE]) {
        char name[OVL_RESOLVE_NAME_MAX + 1];
        struct ruling_question question = { .act = RULING_RESOLVE, .name = names_normalize(query->name, name) };
        struct journal_fields fields = connector_describe(client, -EACCES);

        if (rulings_allow(names->rulings, client->rulings, &question, why))
                return true;
        fields.remote = name;
        fields.rule = strchr(why, ':') + 2;
        journal_write(names->journal, LOG_NOTICE, &fields, "%s %s: %s", purpose, name, why);
        return false;
}

int names_ask(struct names *names, struct outbox *outbox, const struct link_message *message,
              const struct connector_client *client, const char **ret_problem) {
        struct names_query *enqueued;
        struct resolver_query query;
        struct ovl_address address;
        char why[RULINGS_WHY_SIZE];
        uint32_t n;
        int r;

        r = names_check(message, &query, ret_problem);
        if (r < 0)
                return r;
        if (names_read_address(&query, &address, &n))
                return n > 0 ? names_give(outbox, message->ticket, &address, n)
                             : names_refuse(outbox, message->ticket, -ENOENT, OVL_REASON_NAME_NOT_FOUND);
        if (!names_may_ask(names, &query, "resolve", client, why))
                return names_deny(outbox, message->ticket, why);
        r = names_enqueue(names, client->uid, &query, &enqueued);
        if (r < 0)
                return names_refuse(outbox, message->ticket, r, r == -ENOBUFS ? OVL_REASON_QUOTA : OVL_REASON_NONE);
        enqueued->outbox = outbox;
        enqueued->ticket = message->ticket;
        names_dispatch(names);
        return 0;
}

int names_look_up(struct names *names, const struct resolver_query *asked, const struct connector_client *client,
                  struct ovl_address *ret_address, char why[RULINGS_WHY_SIZE],
                  void (*found)(void *data, const struct resolver_answer *answer), void *data) {
        struct names_query *enqueued;
        struct ovl_address address;
        bool is_address;
        uint32_t n = 0;
        int r;

        is_address = names_read_address(asked, &address, &n);
        if (is_address && asked->service[0] == '\0') {
                *ret_address = address;
                return n > 0 ? 1 : -ENOENT;
        }
        if (!is_address && !names_may_ask(names, asked, "connect to", client, why))
                return -EACCES;
        r = names_enqueue(names, client->uid, asked, &enqueued);
        if (r < 0)
                return r;
        enqueued->found = found;
        enqueued->data = data;
        names_dispatch(names);
        return 0;
}

void names_give_up(struct names *names, const void *data) {
        list_for_each(link, &names->running) {
                struct names_query *query = list_entry(link, struct names_query, link);

                if (query->found && query->data == data)
                        query->found = NULL;
        }
        list_for_each_safe(link, &names->waiting) {
                struct names_query *query = list_entry(link, struct names_query, link);

                if (query->found && query->data == data)
                        names_query_free(names, query);
        }
}

/* Takes back those of an outbox: one ticket, or all. answer: whether they are answered. */
static void names_take_back(struct names *names, const struct outbox *outbox, const uint64_t *ticket, bool answer) {
        list_for_each(link, &names->running) {
                struct names_query *query = list_entry(link, struct names_query, link);

                if (query->outbox != outbox || (ticket && query->ticket != *ticket))
                        continue;
                if (answer)
                        names_refuse(query->outbox, query->ticket, -ECANCELED, OVL_REASON_CANCELLED);
                query->outbox = NULL;
        }
        list_for_each_safe(link, &names->waiting) {
                struct names_query *query = list_entry(link, struct names_query, link);

                if (query->outbox != outbox || (ticket && query->ticket != *ticket))
                        continue;
                if (answer)
                        names_refuse(query->outbox, query->ticket, -ECANCELED, OVL_REASON_CANCELLED);
                names_query_free(names, query);
        }
}

void names_cancel(struct names *names, struct outbox *outbox, uint64_t ticket) {
        names_take_back(names, outbox, &ticket, true);
}

void names_forget(struct names *names, const struct outbox *outbox) {
        names_take_back(names, outbox, NULL, false);
}

void names_deinit(struct names *names) {
        if (!names->event)
                return;
        if (names->pid > 0) {
                kill(names->pid, SIGKILL);
                waitpid(names->pid, NULL, 0);
        }
        names_clear(names);
        names->tick = sd_event_source_disable_unref(names->tick);
        while (!list_is_empty(&names->waiting))
                names_query_free(names, list_entry(names->waiting.next, struct names_query, link));
        while (!list_is_empty(&names->running))
                names_query_free(names, list_entry(names->running.next, struct names_query, link));
}
