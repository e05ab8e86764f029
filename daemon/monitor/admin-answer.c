/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Answers. Most of what is asked for is in the workers, so an answer that is begun goes from one worker to the next,
 * and through the pages of each.
 *
 * Invariant: no more than one page is ever packed before the administrator has taken the one before it, however long
 * the list is and however slowly he reads. The last frame always comes, and says whether something is missing.
 *
 *   (nothing) -> open       a question
 *   open      -> open       a page came, or its worker was given up
 *   open      -> (nothing)  the last frame is packed
 *
 * admin-list.c has the items of lists, admin-policy.c what is asked of the policy.
 */

#include "daemon/monitor/admin-answer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/message.h"
#include "proto/text.h"

#define ADMIN_OUT_SIZE 65536u

void admin_answer_init(struct admin_answer *answer, const struct admin_sources *sources, uint64_t owner) {
        *answer = (struct admin_answer){ .sources = sources, .owner = owner };
}

static void admin_answer_clear(struct admin_answer *answer) {
        for (unsigned i = 0; i < answer->sources->crew->n_members; i++)
                pages_forget(&answer->sources->crew->members[i].pages, answer->owner);
        free(take_ptr(answer->unit));
        answer->is_open = answer->is_asked = false;
}

void admin_answer_deinit(struct admin_answer *answer) {
        admin_answer_clear(answer);
        free(take_ptr(answer->out.bytes));
}

/* --- Frames ------------------------------------------------------------------------------------------------------ */

static int admin_out_append(struct admin_out *out, const void *bytes, size_t len) {
        size_t size = out->size ? out->size : ADMIN_OUT_SIZE;
        uint8_t *longer;

        while (size < out->len + len)
                size *= 2;
        if (size > out->size) {
                longer = realloc(out->bytes, size);
                if (!longer)
                        return -ENOMEM;
                out->bytes = longer;
                out->size = size;
        }
        memcpy(out->bytes + out->len, bytes, len);
        out->len += len;
        return 0;
}

int admin_answer_push(struct admin_answer *answer, Overlapd__AdminReply *reply) {
        _cleanup_free_ void *frame = NULL;
        ssize_t n;

        n = message_pack_frame(&reply->base, 0, &frame);
        return n < 0 ? (int) n : admin_out_append(&answer->out, frame, (size_t) n);
}

static int admin_answer_push_last(struct admin_answer *answer) {
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;

        reply.last = true;
        reply.status = answer->status;
        reply.text = answer->text;
        admin_answer_clear(answer);
        return admin_answer_push(answer, &reply);
}

int admin_answer_refuse(struct admin_answer *answer, int status, const char *text) {
        answer->status = status;
        if (text != answer->text)
                snprintf(answer->text, sizeof(answer->text), "%s", text);
        return admin_answer_push_last(answer);
}

char *admin_clean_in_place(char *text) {
        journal_clean(text);
        return text_make_utf8(text);
}

char *admin_clean(const char *text, char to[ADMIN_NAME_SIZE]) {
        snprintf(to, ADMIN_NAME_SIZE, "%s", text ? text : "");
        return admin_clean_in_place(to);
}

/* --- Status ------------------------------------------------------------------------------------------------------ */

static int admin_show_daemon(struct admin_answer *answer) {
        const struct admin_sources *sources = answer->sources;
        const struct admin_about *about = sources->about;
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        Overlapd__AdminDaemon daemon = OVERLAPD__ADMIN_DAEMON__INIT;
        char policy[RULINGS_WHY_SIZE], path[ADMIN_NAME_SIZE];

        rulings_describe(sources->rulings, policy);
        daemon.version = (char *) OVERLAPD_VERSION;
        daemon.pid = (uint32_t) getpid();
        daemon.uid = geteuid();
        daemon.state = (char *) about->state;
        daemon.socket_path = admin_clean(about->socket_path, path);
        daemon.engine_wanted = (char *) about->config->engine;
        daemon.policy = admin_clean_in_place(policy);
        daemon.uptime_ns = now_ns() - about->started_ns;
        daemon.rules = (uint32_t) sources->rulings->policy->n_rules;
        daemon.workers_wanted = sources->crew->n_members;
        daemon.workers_ready = sources->crew->n_ready;
        daemon.worker_deaths = sources->crew->n_deaths;
        daemon.channels_accepted = about->n_accepted;
        daemon.channels_refused = about->n_refused;
        daemon.channels_open = sources->shards->channels.n_used;
        daemon.policy_allowed = sources->rulings->n_allowed;
        daemon.policy_denied = sources->rulings->n_denied;
        daemon.reloads = about->n_reloads;
        daemon.lines_lost = sources->journal->n_lost_ever;
        reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_DAEMON;
        reply.daemon = &daemon;
        return admin_answer_push(answer, &reply);
}

static void admin_take_counts(Overlapd__AdminWorker *worker, const struct snapshot_counts *counts) {
        worker->is_counted = true;
        worker->sessions = counts->n_sessions;
        worker->sockets = counts->n_sockets;
        worker->ops = counts->n_ops;
        worker->lanes = counts->n_lanes;
        worker->entries = counts->entries;
        worker->records = counts->records;
        worker->bytes_received = counts->bytes_received;
        worker->bytes_sent = counts->bytes_sent;
        worker->turns = counts->turns;
        worker->wakeups = counts->wakeups;
        worker->polls = counts->polls;
        worker->system_calls = counts->system_calls;
        worker->merged_ops = counts->merged_ops;
}

/* counts: NULL: it has not answered. */
static int admin_show_worker(struct admin_answer *answer, const struct snapshot_counts *counts) {
        static const char *const states[] = {
                [CREW_OFF] = "off", [CREW_STARTING] = "starting", [CREW_READY] = "ready"
        };
        const struct crew_member *member = &answer->sources->crew->members[answer->worker];
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        Overlapd__AdminWorker worker = OVERLAPD__ADMIN_WORKER__INIT;
        char engine[ADMIN_NAME_SIZE], reason[ADMIN_NAME_SIZE];

        worker.index = member->index;
        worker.state = (char *) states[member->state];
        worker.pid = (uint32_t) member->pid;
        if (member->state == CREW_READY) {
                worker.engine = admin_clean(member->engine, engine);
                worker.engine_reason = admin_clean(member->engine_reason, reason);
        }
        if (counts)
                admin_take_counts(&worker, counts);
        reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_WORKER;
        reply.worker = &worker;
        return admin_answer_push(answer, &reply);
}

/* --- From worker to worker ---------------------------------------------------------------------------------------- */

static void admin_next_worker(struct admin_answer *answer) {
        answer->worker++;
        answer->is_asked = false;
        answer->query.from = (struct snapshot_place){ 0 };
        answer->query.until = 0;
}

/* Says for the end that what a worker has is missing. */
static int admin_miss(struct admin_answer *answer, int error) {
        const struct crew_member *member = &answer->sources->crew->members[answer->worker];
        int r = answer->is_status ? admin_show_worker(answer, NULL) : 0;

        answer->status = error;
        snprintf(answer->text, sizeof(answer->text), "what worker %u (process %d) has is missing: %s", answer->worker,
                 (int) member->pid,
                 error == -ETIMEDOUT ? "it does not answer: see whether it hangs, and the journal of overlapd"
                 : error == -EPIPE   ? "it ended meanwhile: ask again"
                 : error == -EBADMSG ? "what it says makes no sense"
                                     : strerror(-error));
        admin_next_worker(answer);
        return r;
}

void admin_answer_skip(struct admin_answer *answer) {
        pages_forget(&answer->sources->crew->members[answer->worker].pages, answer->owner);
        admin_miss(answer, -ETIMEDOUT);
}

static int admin_show_page(struct admin_answer *answer, const struct snapshot_page *page) {
        int r = 0;

        if (answer->is_status)
                r = admin_show_worker(answer, page->n_items == 1 ? &page->items[0].of.counts : NULL);
        for (uint32_t i = 0; i < page->n_items && !answer->is_status && r >= 0; i++)
                r = admin_list_show(answer, &page->items[i]);
        if (r == -E2BIG) {
                answer->status = r;
                snprintf(answer->text, sizeof(answer->text), "there are more than the %llu that were asked for",
                         (unsigned long long) answer->limit);
                answer->worker = answer->sources->crew->n_members;
                return 0;
        }
        if (r < 0)
                return r;
        answer->is_asked = false;
        answer->query.from = page->next;
        answer->query.until = page->until;
        if (page->is_last)
                admin_next_worker(answer);
        return 0;
}

/* Goes one step on. Returns 0, -EAGAIN or -ENOMEM. */
static int admin_step(struct admin_answer *answer) {
        struct crew_member *member = &answer->sources->crew->members[answer->worker];
        _cleanup_free_ struct snapshot_page *page = NULL;
        int r;

        if (!answer->is_asked) {
                if (member->state != CREW_READY || member->is_condemned) {
                        r = answer->is_status ? admin_show_worker(answer, NULL) : 0;
                        admin_next_worker(answer);
                        return r;
                }
                r = pages_ask(&member->pages, &member->outbox, answer->owner, &answer->query);
                if (r == -EBUSY)
                        return -EAGAIN;
                if (r < 0)
                        return admin_miss(answer, r);
                answer->is_asked = true;
        }
        r = pages_take(&member->pages, answer->owner, &answer->query, &page);
        if (r == 0)
                return -EAGAIN;
        return r < 0 ? admin_miss(answer, r) : admin_show_page(answer, page);
}

int admin_answer_go_on(struct admin_answer *answer) {
        int r = 0;

        while (answer->is_open && answer->out.len == 0 && r == 0) {
                if (answer->worker >= answer->sources->crew->n_members)
                        r = admin_answer_push_last(answer);
                else
                        r = admin_step(answer);
        }
        return r;
}

/* --- Questions ---------------------------------------------------------------------------------------------------- */

static int admin_begin_list(struct admin_answer *answer, const Overlapd__AdminList *list) {
        static const uint8_t kinds[] = {
                [OVERLAPD__ADMIN_KIND__ADMIN_SESSIONS] = SNAPSHOT_SESSIONS,
                [OVERLAPD__ADMIN_KIND__ADMIN_SOCKETS] = SNAPSHOT_SOCKETS,
                [OVERLAPD__ADMIN_KIND__ADMIN_OPS] = SNAPSHOT_OPS,
                [OVERLAPD__ADMIN_KIND__ADMIN_PORTS] = SNAPSHOT_PORTS,
                [OVERLAPD__ADMIN_KIND__ADMIN_THREADS] = SNAPSHOT_THREADS,
                [OVERLAPD__ADMIN_KIND__ADMIN_QUOTAS] = SNAPSHOT_QUOTAS,
        };

        if ((unsigned) list->kind >= sizeof(kinds) || kinds[list->kind] == 0) {
                snprintf(answer->text, sizeof(answer->text),
                         "kind %d: can be listed are 1 sessions, 2 sockets, 3 ops, 4 ports, 5 threads, 6 quotas",
                         (int) list->kind);
                return admin_answer_refuse(answer, -EINVAL, answer->text);
        }
        if (list->unit[0] != '\0') {
                answer->unit = strdup(list->unit);
                if (!answer->unit)
                        return -ENOMEM;
        }
        answer->query.kind = kinds[list->kind];
        answer->query.session = list->session;
        answer->query.has_uid = list->has_uid;
        answer->query.uid = list->uid;
        answer->limit = list->limit;
        answer->is_open = true;
        return 0;
}

static int admin_show_setting(struct admin_answer *answer, enum config_key key) {
        const struct config *config = answer->sources->about->config;
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        Overlapd__AdminSetting setting = OVERLAPD__ADMIN_SETTING__INIT;
        char number[CONFIG_VALUE_SIZE], value[ADMIN_NAME_SIZE], place[ADMIN_NAME_SIZE];

        setting.section = (char *) CONFIG_SECTION;
        setting.name = (char *) config_key_name(key);
        setting.value = admin_clean(config_format(config, key, number), value);
        setting.place = admin_clean(config->places[key], place);
        reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_SETTING;
        reply.setting = &setting;
        return admin_answer_push(answer, &reply);
}

static int admin_show_allowance(struct admin_answer *answer, const struct allowances_value *value) {
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        Overlapd__AdminSetting setting = OVERLAPD__ADMIN_SETTING__INIT;
        char section[ADMIN_NAME_SIZE], place[ADMIN_NAME_SIZE];

        setting.section = admin_clean(value->section, section);
        setting.name = (char *) value->key;
        setting.value = (char *) value->value;
        setting.place = admin_clean(value->place, place);
        reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_SETTING;
        reply.setting = &setting;
        return admin_answer_push(answer, &reply);
}

static int admin_show_settings(struct admin_answer *answer) {
        struct allowances_value value;
        unsigned index = 0;
        int r = 0;

        for (int key = 0; key < CONFIG_N_KEYS && r >= 0; key++)
                r = admin_show_setting(answer, (enum config_key) key);
        while (r >= 0 && allowances_next(&answer->sources->crew->allowances, &index, &value))
                r = admin_show_allowance(answer, &value);
        return r < 0 ? r : admin_answer_push_last(answer);
}

int admin_answer_begin(struct admin_answer *answer, const Overlapd__AdminRequest *request) {
        int r;

        admin_answer_clear(answer);
        answer->worker = 0;
        answer->query = (struct snapshot_query){ 0 };
        answer->n_given = answer->limit = 0;
        answer->status = 0;
        answer->text[0] = '\0';
        answer->is_status = request->what_case == OVERLAPD__ADMIN_REQUEST__WHAT_STATUS;
        switch (request->what_case) {
        case OVERLAPD__ADMIN_REQUEST__WHAT_STATUS:
                answer->query.kind = SNAPSHOT_COUNTS;
                answer->is_open = true;
                return admin_show_daemon(answer);
        case OVERLAPD__ADMIN_REQUEST__WHAT_LIST:
                return admin_begin_list(answer, request->list);
        case OVERLAPD__ADMIN_REQUEST__WHAT_POLICY_TEST:
                r = admin_policy_test(answer, request->policy_test);
                return r == -EINVAL ? admin_answer_refuse(answer, r, answer->text)
                       : r < 0      ? r
                                    : admin_answer_push_last(answer);
        case OVERLAPD__ADMIN_REQUEST__WHAT_CONFIG:
                return admin_show_settings(answer);
        default:
                return admin_answer_refuse(answer, -EOPNOTSUPP,
                                           "this daemon does not know the question: it may be older than whoever asks");
        }
}
