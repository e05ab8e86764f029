/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl list: what is there, and whose it is. Numbers that name something are hexadecimal, as in the journal.
 *
 * One kind is one row of list_kinds: its titles, and how a reply becomes cells or JSON.
 */

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/ctl/ctl.h"
#include "client/ctl/membership.h"
#include "client/ctl/output.h"
#include "client/ctl/question.h"
#include "client/ctl/whom.h"

const char list_help[] = "Usage: overlapctl list sessions|sockets|ops|ports|threads|quotas [OPTIONS]\n"
                         "\n"
                         "What the daemon holds for its clients, and whose it is. A list is no single instant: what "
                         "comes or goes while\n"
                         "it is made may be missing.\n"
                         "\n"
                         "  --session NUMBER   of this session only (hexadecimal, as shown)\n"
                         "  --user USER        of this user's sessions only: a name, or a number\n"
                         "  --unit UNIT        of this unit's sessions only\n"
                         "  --limit N          at most so many\n";

struct list {
        const struct ctl *ctl;
        const struct list_kind *kind;
        struct output_table table;
        struct json_object *array;
};

struct list_kind {
        const char *name;
        Overlapd__AdminKind kind;
        Overlapd__AdminReply__WhatCase what;
        const char *titles[OUTPUT_COLUMNS_MAX + 1];
        void (*add_row)(const Overlapd__AdminReply *reply, struct output_table *table);
        void (*add_json)(const Overlapd__AdminReply *reply, struct json_object *object);
};

/* --- Owners ------------------------------------------------------------------------------------------------------- */

/* A reply that names no owner is about nobody who is known. */
static const Overlapd__AdminOwner *list_owner(const Overlapd__AdminOwner *owner) {
        static const Overlapd__AdminOwner nobody = OVERLAPD__ADMIN_OWNER__INIT;

        return owner ? owner : &nobody;
}

static void list_add_owner(const Overlapd__AdminOwner *said, struct output_table *table) {
        const Overlapd__AdminOwner *owner = list_owner(said);
        char user[MEMBERSHIP_NAME_SIZE];

        output_cell(table, "%llx", (unsigned long long) owner->session);
        if (!owner->is_known) {
                output_cell(table, "%s", "");
                output_cell(table, "%s", "");
                output_cell(table, "%s", "");
                return;
        }
        output_cell(table, "%u", owner->pid);
        output_cell(table, "%s", membership_user_name(owner->uid, user));
        output_cell(table, "%s", owner->unit);
}

static void list_owner_to_json(const Overlapd__AdminOwner *said, struct json_object *object) {
        const Overlapd__AdminOwner *owner = list_owner(said);

        output_json_id(object, "session", owner->session);
        output_json_number(object, "worker", owner->worker);
        if (owner->is_known) {
                output_json_number(object, "pid", owner->pid);
                output_json_number(object, "uid", owner->uid);
        } else {
                output_json_add(object, "pid", NULL);
                output_json_add(object, "uid", NULL);
        }
        output_json_string(object, "unit", owner->unit);
}

static void list_add_bytes(uint64_t n, struct output_table *table) {
        char text[OUTPUT_TEXT_SIZE];

        output_cell(table, "%s", output_bytes(n, text));
}

static void list_add_duration(uint64_t ns, struct output_table *table) {
        char text[OUTPUT_TEXT_SIZE];

        output_cell(table, "%s", ns > 0 ? output_duration(ns, text) : "");
}

/* 0: none. */
static void list_add_id(uint64_t number, struct output_table *table) {
        if (number)
                output_cell(table, "%llx", (unsigned long long) number);
        else
                output_cell(table, "%s", "");
}

/* --- Sessions ----------------------------------------------------------------------------------------------------- */

static const char *list_session_state(const Overlapd__AdminSession *session) {
        return session->is_ending ? "ending" : session->is_held ? "held" : "open";
}

static void list_add_session(const Overlapd__AdminReply *reply, struct output_table *table) {
        const Overlapd__AdminSession *session = reply->session;

        list_add_owner(session->owner, table);
        output_cell(table, "%s", list_session_state(session));
        list_add_duration(session->age_ns, table);
        output_cell(table, "%s", output_level(session->level));
        output_cell(table, "%u", session->threads);
        output_cell(table, "%u", session->ports);
        output_cell(table, "%u", session->sockets);
        output_cell(table, "%u/%u", session->ops, session->credits);
        list_add_bytes(session->region_bytes, table);
        output_cell(table, "%llu", (unsigned long long) session->entries);
        list_add_bytes(session->bytes_received, table);
        list_add_bytes(session->bytes_sent, table);
}

static void list_session_to_json(const Overlapd__AdminReply *reply, struct json_object *object) {
        const Overlapd__AdminSession *session = reply->session;

        list_owner_to_json(session->owner, object);
        output_json_string(object, "state", list_session_state(session));
        output_json_number(object, "age_ns", session->age_ns);
        output_json_string(object, "level", output_level(session->level));
        output_json_number(object, "channels", session->channels);
        output_json_number(object, "threads", session->threads);
        output_json_number(object, "ports", session->ports);
        output_json_number(object, "sockets", session->sockets);
        output_json_number(object, "ops", session->ops);
        output_json_number(object, "credits", session->credits);
        output_json_number(object, "region_bytes", session->region_bytes);
        output_json_number(object, "entries", session->entries);
        output_json_number(object, "bytes_received", session->bytes_received);
        output_json_number(object, "bytes_sent", session->bytes_sent);
}

/* --- Sockets ------------------------------------------------------------------------------------------------------ */

static void list_add_socket(const Overlapd__AdminReply *reply, struct output_table *table) {
        const Overlapd__AdminSocket *socket = reply->socket;

        list_add_id(socket->socket, table);
        list_add_owner(socket->owner, table);
        output_cell(table, "%s", socket->protocol);
        output_cell(table, "%s", socket->error ? strerror(abs(socket->error)) : socket->state);
        output_cell(table, "%s", socket->local);
        output_cell(table, "%s", socket->remote);
        output_cell(table, "%u", socket->receives);
        output_cell(table, "%u", socket->sends);
        output_cell(table, "%llu", (unsigned long long) socket->unread);
        output_cell(table, "%llu", (unsigned long long) socket->unsent);
        list_add_bytes(socket->bytes_received, table);
        list_add_bytes(socket->bytes_sent, table);
        list_add_duration(socket->connected_ns, table);
}

static void list_socket_to_json(const Overlapd__AdminReply *reply, struct json_object *object) {
        const Overlapd__AdminSocket *socket = reply->socket;

        output_json_id(object, "socket", socket->socket);
        list_owner_to_json(socket->owner, object);
        output_json_string(object, "protocol", socket->protocol);
        output_json_string(object, "state", socket->state);
        output_json_string(object, "local", socket->local);
        output_json_string(object, "remote", socket->remote);
        output_json_number(object, "receives", socket->receives);
        output_json_number(object, "sends", socket->sends);
        output_json_number(object, "other_ops", socket->other_ops);
        output_json_number(object, "unread", socket->unread);
        output_json_number(object, "unsent", socket->unsent);
        output_json_number(object, "bytes_received", socket->bytes_received);
        output_json_number(object, "bytes_sent", socket->bytes_sent);
        output_json_number(object, "connected_ns", socket->connected_ns);
        output_json_id(object, "port", socket->port);
        output_json_number(object, "holders", socket->holders);
        output_json_number(object, "errno", (uint64_t) abs(socket->error));
}

/* --- Operations ----------------------------------------------------------------------------------------------------
 */

static void list_add_op(const Overlapd__AdminReply *reply, struct output_table *table) {
        const Overlapd__AdminOp *op = reply->op;

        output_cell(table, "%s", op->code);
        output_cell(table, "%s", op->is_cancelled ? "cancelled" : op->state);
        list_add_owner(op->owner, table);
        list_add_id(op->socket, table);
        list_add_id(op->thread, table);
        output_cell(table, "%llu", (unsigned long long) op->done);
        output_cell(table, "%llu", (unsigned long long) op->len);
        list_add_duration(op->age_ns, table);
}

static void list_op_to_json(const Overlapd__AdminReply *reply, struct json_object *object) {
        const Overlapd__AdminOp *op = reply->op;

        output_json_string(object, "op", op->code);
        output_json_string(object, "state", op->state);
        output_json_bool(object, "cancelled", op->is_cancelled);
        list_owner_to_json(op->owner, object);
        output_json_id(object, "socket", op->socket);
        output_json_id(object, "thread", op->thread);
        output_json_id(object, "tag", op->tag);
        output_json_number(object, "len", op->len);
        output_json_number(object, "done", op->done);
        output_json_number(object, "age_ns", op->age_ns);
}

/* --- Ports and threads ---------------------------------------------------------------------------------------------
 */

static void list_add_port(const Overlapd__AdminReply *reply, struct output_table *table) {
        const Overlapd__AdminPort *port = reply->port;

        output_cell(table, "%llx", (unsigned long long) port->port);
        list_add_owner(port->owner, table);
        output_cell(table, "%u", port->sockets);
        output_cell(table, "%u", port->records);
}

static void list_port_to_json(const Overlapd__AdminReply *reply, struct json_object *object) {
        const Overlapd__AdminPort *port = reply->port;

        output_json_id(object, "port", port->port);
        list_owner_to_json(port->owner, object);
        output_json_number(object, "sockets", port->sockets);
        output_json_number(object, "records", port->records);
}

static void list_add_thread(const Overlapd__AdminReply *reply, struct output_table *table) {
        const Overlapd__AdminThread *thread = reply->thread;

        output_cell(table, "%llx", (unsigned long long) thread->thread);
        list_add_owner(thread->owner, table);
        output_cell(table, "%u", thread->tid);
        output_cell(table, "%s", thread->has_lane ? "lane" : "frames");
        output_cell(table, "%llu", (unsigned long long) thread->entries);
        output_cell(table, "%u", thread->records);
}

static void list_thread_to_json(const Overlapd__AdminReply *reply, struct json_object *object) {
        const Overlapd__AdminThread *thread = reply->thread;

        output_json_id(object, "thread", thread->thread);
        list_owner_to_json(thread->owner, object);
        output_json_number(object, "tid", thread->tid);
        output_json_bool(object, "lane", thread->has_lane);
        output_json_number(object, "entries", thread->entries);
        output_json_number(object, "records", thread->records);
}

/* --- Quotas ---------------------------------------------------------------------------------------------------------
 */

static const char *const list_uses[] = {
        "sessions", "regions", "memory", "sockets", "listeners", "operations", "files"
};

#define LIST_N_USES (sizeof(list_uses) / sizeof(list_uses[0]))

static const Overlapd__AdminUse *list_find_use(const Overlapd__AdminQuota *quota, const char *name) {
        for (size_t i = 0; i < quota->n_uses; i++)
                if (strcmp(quota->uses[i]->name, name) == 0)
                        return quota->uses[i];
        return NULL;
}

static void list_add_use(const Overlapd__AdminUse *use, struct output_table *table) {
        bool is_memory = use && strcmp(use->name, "memory") == 0;
        char used[OUTPUT_TEXT_SIZE], max[OUTPUT_TEXT_SIZE];

        if (!use) {
                output_cell(table, "%s", "");
                return;
        }
        if (is_memory) {
                output_bytes(use->used, used);
                output_bytes(use->max, max);
        } else {
                snprintf(used, sizeof(used), "%llu", (unsigned long long) use->used);
                snprintf(max, sizeof(max), "%llu", (unsigned long long) use->max);
        }
        output_cell(table, "%s%s%s", used, use->max == UINT64_MAX ? "" : "/", use->max == UINT64_MAX ? "" : max);
}

static void list_add_quota(const Overlapd__AdminReply *reply, struct output_table *table) {
        const Overlapd__AdminQuota *quota = reply->quota;
        bool is_worker = strcmp(quota->level, "worker") == 0;
        char user[MEMBERSHIP_NAME_SIZE];

        output_cell(table, "%s%s", quota->level, quota->is_exempt ? " (exempt)" : "");
        output_cell(table, "%u", quota->worker);
        output_cell(table, "%s", is_worker ? "" : membership_user_name(quota->uid, user));
        output_cell(table, "%s", quota->unit);
        for (size_t i = 0; i < LIST_N_USES; i++)
                list_add_use(list_find_use(quota, list_uses[i]), table);
}

/* No limit: null. */
static void list_quota_to_json(const Overlapd__AdminReply *reply, struct json_object *object) {
        const Overlapd__AdminQuota *quota = reply->quota;

        output_json_string(object, "level", quota->level);
        output_json_number(object, "worker", quota->worker);
        if (strcmp(quota->level, "worker") != 0)
                output_json_number(object, "uid", quota->uid);
        else
                output_json_add(object, "uid", NULL);
        output_json_string(object, "unit", quota->unit);
        output_json_bool(object, "exempt", quota->is_exempt);
        for (size_t i = 0; i < quota->n_uses; i++) {
                struct json_object *use = output_json_object();

                output_json_number(use, "used", quota->uses[i]->used);
                if (quota->uses[i]->max == UINT64_MAX)
                        output_json_add(use, "max", NULL);
                else
                        output_json_number(use, "max", quota->uses[i]->max);
                output_json_add(object, quota->uses[i]->name, use);
        }
}

static const struct list_kind list_kinds[] = {
        { "sessions",
          OVERLAPD__ADMIN_KIND__ADMIN_SESSIONS,
          OVERLAPD__ADMIN_REPLY__WHAT_SESSION,
          { "SESSION", ">PID", "USER", "UNIT", "STATE", ">AGE", "LEVEL", ">THREADS", ">PORTS", ">SOCKETS", ">OPS",
            ">LENT", ">ENTRIES", ">RECEIVED", ">SENT" },
          list_add_session,
          list_session_to_json },
        { "sockets",
          OVERLAPD__ADMIN_KIND__ADMIN_SOCKETS,
          OVERLAPD__ADMIN_REPLY__WHAT_SOCKET,
          { "SOCKET", "SESSION", ">PID", "USER", "UNIT", "PROTOCOL", "STATE", "LOCAL", "REMOTE", ">RECVS", ">SENDS",
            ">UNREAD", ">UNSENT", ">RECEIVED", ">SENT", ">CONNECTED" },
          list_add_socket,
          list_socket_to_json },
        { "ops",
          OVERLAPD__ADMIN_KIND__ADMIN_OPS,
          OVERLAPD__ADMIN_REPLY__WHAT_OP,
          { "OP", "STATE", "SESSION", ">PID", "USER", "UNIT", "SOCKET", "THREAD", ">DONE", ">OF", ">AGE" },
          list_add_op,
          list_op_to_json },
        { "ports",
          OVERLAPD__ADMIN_KIND__ADMIN_PORTS,
          OVERLAPD__ADMIN_REPLY__WHAT_PORT,
          { "PORT", "SESSION", ">PID", "USER", "UNIT", ">SOCKETS", ">RECORDS" },
          list_add_port,
          list_port_to_json },
        { "threads",
          OVERLAPD__ADMIN_KIND__ADMIN_THREADS,
          OVERLAPD__ADMIN_REPLY__WHAT_THREAD,
          { "THREAD", "SESSION", ">PID", "USER", "UNIT", ">TID", "BY", ">ENTRIES", ">RECORDS" },
          list_add_thread,
          list_thread_to_json },
        { "quotas",
          OVERLAPD__ADMIN_KIND__ADMIN_QUOTAS,
          OVERLAPD__ADMIN_REPLY__WHAT_QUOTA,
          { "OF", ">WORKER", "USER", "UNIT", ">SESSIONS", ">REGIONS", ">MEMORY", ">SOCKETS", ">LISTENERS",
            ">OPERATIONS", ">FILES" },
          list_add_quota,
          list_quota_to_json },
};

/* --- The verb ------------------------------------------------------------------------------------------------------
 */

static void list_take(const Overlapd__AdminReply *reply, void *data) {
        struct list *list = data;
        struct json_object *object;

        if (reply->what_case != list->kind->what || list->ctl->is_quiet)
                return;
        if (!list->ctl->is_json) {
                list->kind->add_row(reply, &list->table);
                return;
        }
        object = output_json_object();
        list->kind->add_json(reply, object);
        output_json_append(list->array, object);
}

static const struct list_kind *list_find_kind(const char *name) {
        for (size_t i = 0; i < sizeof(list_kinds) / sizeof(list_kinds[0]); i++)
                if (strcmp(list_kinds[i].name, name) == 0)
                        return &list_kinds[i];
        return NULL;
}

/* Reads a whole number. */
static int list_take_number(const char *option, const char *value, int base, uint64_t *ret_number) {
        char *end;

        errno = 0;
        *ret_number = strtoull(value, &end, base);
        if (!isxdigit((unsigned char) value[0]) || *end || errno || *ret_number == 0)
                return ctl_complain_usage("list", "--%s %s: must be a %snumber above 0", option, value,
                                          base == 16 ? "hexadecimal " : "");
        return 0;
}

static int list_parse(int argc, char *argv[], Overlapd__AdminList *list, char unit[WHOM_UNIT_SIZE],
                      const struct list_kind **ret_kind) {
        static const struct option options[] = { { "session", required_argument, NULL, 's' },
                                                 { "user", required_argument, NULL, 'u' },
                                                 { "unit", required_argument, NULL, 'U' },
                                                 { "limit", required_argument, NULL, 'l' },
                                                 { 0 } };
        int option, r = 0;

        opterr = 0;
        while (r == 0 && (option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
                if (option == ':' || option == '?')
                        return ctl_complain_option("list", option, argv);
                if (option == 's')
                        r = list_take_number("session", optarg, 16, &list->session);
                else if (option == 'l')
                        r = list_take_number("limit", optarg, 10, &list->limit);
                else if (option == 'u')
                        r = whom_take_user("list", optarg, &list->uid);
                else
                        r = whom_take_unit("list", optarg, unit);
                if (option == 'u')
                        list->has_uid = true;
                if (option == 'U')
                        list->unit = unit;
        }
        if (r != 0)
                return r;
        if (optind + 1 != argc)
                return ctl_complain_usage(
                        "list", optind == argc ? "list: what? sessions, sockets, ops, ports, threads or quotas"
                                               : "list: one kind at a time");
        *ret_kind = list_find_kind(argv[optind]);
        if (!*ret_kind)
                return ctl_complain_usage("list", "list %s: must be sessions, sockets, ops, ports, threads or quotas",
                                          argv[optind]);
        list->kind = (*ret_kind)->kind;
        if (list->kind == OVERLAPD__ADMIN_KIND__ADMIN_QUOTAS && list->session != 0)
                return ctl_complain_usage("list",
                                          "--session: quotas are of users, units and workers; see list sessions");
        return 0;
}

int list_main(const struct ctl *ctl, int argc, char *argv[]) {
        Overlapd__AdminRequest request = OVERLAPD__ADMIN_REQUEST__INIT;
        Overlapd__AdminList question = OVERLAPD__ADMIN_LIST__INIT;
        struct list list = { .ctl = ctl };
        char unit[WHOM_UNIT_SIZE];
        struct json_object *document;
        int status;

        status = list_parse(argc, argv, &question, unit, &list.kind);
        if (status != CTL_DONE)
                return status;
        request.what_case = OVERLAPD__ADMIN_REQUEST__WHAT_LIST;
        request.list = &question;
        memcpy(list.table.titles, list.kind->titles, sizeof(list.table.titles));
        list.array = output_json_array();
        status = question_ask_once(ctl, &request, list_take, &list);
        if (ctl->is_json && !ctl->is_quiet) {
                document = output_json_object();
                output_json_add(document, list.kind->name, list.array);
                output_json_bool(document, "complete", status == CTL_DONE);
                output_json_print(document);
        } else {
                if (!ctl->is_quiet && (status == CTL_DONE || list.table.n_cells > 0))
                        output_table_print(&list.table);
                json_object_put(list.array);
        }
        output_table_deinit(&list.table);
        return status;
}
