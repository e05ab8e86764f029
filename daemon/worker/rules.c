/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Datagrams leave without a question to the monitor, so the worker has what the policy says of each client: memory that
 * the monitor wrote and sealed, mapped for reading. A reload of the policy replaces it between two turns.
 *
 *   (none) -> there   LINK_RULING, before the first connection that it is about
 *   there  -> there   LINK_RULING after a reload
 *   there  -> (none)  the last connection and the last session are gone
 *
 * What is missing, or is not sound, allows nothing. The monitor hears of refusals, for its journal, but not of each: a
 * client could otherwise fill the link by sending what it may not.
 */

#include "daemon/worker/rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/worker/ask.h"

#define RULES_TELL_NS (NS_PER_S / 2)

void rules_init(struct rules *rules) {
        *rules = (struct rules){ 0 };
        list_init(&rules->all);
}

static void rules_unmap(const void *mapping, size_t len) {
        if (mapping)
                munmap((void *) mapping, len);
}

static struct rules_entry *rules_free(struct rules_entry *entry) {
        rules_unmap(entry->ruling, entry->ruling_len);
        list_unlink(&entry->link);
        free(entry);
        return NULL;
}

void rules_deinit(struct rules *rules) {
        if (!rules->all.next)
                return;
        while (!list_is_empty(&rules->all))
                rules_free(list_entry(rules->all.next, struct rules_entry, link));
        rules_unmap(rules->facts, rules->facts_len);
        rules->facts = NULL;
}

static const void *rules_map(int fd, size_t *ret_len) {
        struct stat status;
        void *mapping;

        if (fd < 0 || fstat(fd, &status) < 0 || status.st_size <= 0)
                return NULL;
        mapping = mmap(NULL, (size_t) status.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (mapping == MAP_FAILED)
                return NULL;
        *ret_len = (size_t) status.st_size;
        return mapping;
}

static struct rules_entry *rules_find(const struct rules *rules, uint64_t number) {
        list_for_each(link, &rules->all) {
                struct rules_entry *entry = list_entry(link, struct rules_entry, link);

                if (entry->number == number)
                        return entry;
        }
        return NULL;
}

/* Those whose connection was announced and never came: the next announcement shows it. */
static void rules_drop_unused(struct rules *rules) {
        list_for_each_safe(link, &rules->all) {
                struct rules_entry *entry = list_entry(link, struct rules_entry, link);

                if (entry->n_refs == 0)
                        rules_free(entry);
        }
}

void rules_take(struct rules *rules, const struct link_message *message, int take_fd) {
        struct rules_entry *entry = rules_find(rules, message->body.ruling.number);
        _cleanup_fd_ int fd = take_fd;
        size_t len = 0;

        if (!entry && message->body.ruling.is_new) {
                rules_drop_unused(rules);
                entry = calloc(1, sizeof(*entry));
                if (!entry)
                        return;
                entry->rules = rules;
                entry->number = message->body.ruling.number;
                list_init(&entry->link);
                list_push_back(&rules->all, &entry->link);
        }
        if (entry && message->body.ruling.is_new)
                entry->is_announced = true;
        /* One that is gone here is soon gone there. One that is there already came with an earlier connection. */
        if (!entry || (message->body.ruling.is_new && (entry->ruling || entry->is_open)))
                return;
        rules_unmap(entry->ruling, entry->ruling_len);
        entry->ruling = rules_map(fd, &len);
        entry->ruling_len = len;
        entry->is_open = message->body.ruling.is_open;
        if (entry->ruling && !ruling_is_sound(entry->ruling, len)) {
                rules_unmap(entry->ruling, len);
                entry->ruling = NULL;
        }
}

void rules_take_facts(struct rules *rules, int take_fd) {
        _cleanup_fd_ int fd = take_fd;
        const struct ruling_facts *facts;
        size_t len = 0;

        facts = rules_map(fd, &len);
        if (facts && !ruling_facts_are_sound(facts, len)) {
                rules_unmap(facts, len);
                facts = NULL;
        }
        rules_unmap(rules->facts, rules->facts_len);
        rules->facts = facts;
        rules->facts_len = len;
}

struct rules_entry *rules_ref_again(struct rules_entry *entry) {
        if (entry)
                entry->n_refs++;
        return entry;
}

struct rules_entry *rules_ref(struct rules *rules, uint64_t number) {
        return rules_ref_again(rules_find(rules, number));
}

struct rules_entry *rules_claim(struct rules *rules, uint64_t number) {
        struct rules_entry *entry = rules_ref(rules, number);

        if (entry)
                entry->is_announced = false;
        return entry;
}

struct rules_entry *rules_unref(struct rules_entry *entry) {
        return entry && --entry->n_refs == 0 && !entry->is_announced ? rules_free(entry) : NULL;
}

/* --- Questions --------------------------------------------------------------------------------------------------- */

static struct ruling_verdict rules_decide(const struct rules_entry *entry, const struct ruling_question *question) {
        static const struct ruling_facts nothing_known = { .size = sizeof(nothing_known), .is_incomplete = true };
        const struct ruling_facts *facts;

        if (!entry || !entry->ruling)
                return (struct ruling_verdict){ entry && entry->is_open, RULING_NONE };
        facts = entry->rules->facts ? entry->rules->facts : &nothing_known;
        return ruling_decide(entry->ruling, facts, question);
}

static void rules_describe(const struct rules_entry *entry, const struct ruling_verdict *verdict,
                           char text[RULING_TEXT_SIZE]) {
        if (entry && entry->ruling)
                ruling_text(entry->ruling, verdict, text);
        else
                snprintf(text, RULING_TEXT_SIZE, "no rule allows it");
}

static void rules_tell(struct rules_entry *entry, struct ask *ask, uint64_t session, const struct link_asker *asker,
                       const struct ovl_address *address, const struct ruling_verdict *verdict) {
        struct link_message report = { .kind = LINK_DENIED, .asker = *asker };
        uint64_t now = now_ns();

        if (!entry || (entry->told_ns > 0 && now - entry->told_ns < RULES_TELL_NS)) {
                if (entry)
                        entry->n_untold++;
                return;
        }
        report.body.denied.session = session;
        report.body.denied.n_more = entry->n_untold;
        report.body.denied.address = *address;
        rules_describe(entry, verdict, report.text);
        entry->told_ns = now;
        entry->n_untold = 0;
        ask_report(ask, &report);
}

bool rules_allow_send(struct rules_entry *entry, struct ask *ask, uint64_t session, const struct link_asker *asker,
                      const struct ovl_address *address, char why[LINK_TEXT_SIZE]) {
        char text[RULING_TEXT_SIZE];
        struct ruling_question question = { .act = RULING_SENDTO, .protocol = RULING_UDP, .address = address };
        struct ruling_verdict verdict;

        if (entry && entry->is_open)
                return true;
        if (address->family == OVL_FAMILY_UNIX)
                question.protocol = RULING_UNIX;
        question.now_s = now_ns() / NS_PER_S;
        verdict = rules_decide(entry, &question);
        if (verdict.is_allowed)
                return true;
        rules_describe(entry, &verdict, text);
        snprintf(why, LINK_TEXT_SIZE, "the policy does not allow this: %s", text);
        rules_tell(entry, ask, session, asker, address, &verdict);
        return false;
}

bool rules_allow_export(const struct rules_entry *entry, char why[RULING_TEXT_SIZE]) {
        const struct ruling_question question = { .act = RULING_EXPORT };
        struct ruling_verdict verdict = rules_decide(entry, &question);

        if (!verdict.is_allowed)
                rules_describe(entry, &verdict, why);
        return verdict.is_allowed;
}
