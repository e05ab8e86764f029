/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The model of the policy's decisions. It shares with what it is held against the rules as they were read, whom a rule
 * covers, and which addresses are near; it has none of the tables, trees and searches, and its own opinion of what a
 * rule must name.
 */

#include "tests/fuzz/model.h"

#include <string.h>

static const void *model_at(const struct ruling_facts *facts, uint32_t at) {
        return (const uint8_t *) facts + at;
}

static bool model_bit(const struct ruling_key *key, unsigned bit) {
        return (bit < 64 ? key->high >> (63 - bit) : key->low >> (127 - bit)) & 1;
}

/* What is said of an IPv6 network that is larger than IPv4's place in it is not said of IPv4. */
static bool model_is_within(const struct ruling_key *key, const struct policy_target *target) {
        bool is_inet = key->high == 0 && key->low >> 32 == 0xffff;

        if (is_inet && target->prefix_len < 96)
                return false;
        for (unsigned bit = 0; bit < target->prefix_len; bit++)
                if (model_bit(key, bit) != model_bit(&target->first, bit))
                        return false;
        return true;
}

/* What has to be named, is named by itself, by a part of one of these, or by a word that stands for it. */
static bool model_names_near(const struct policy_target *target) {
        static const struct policy_target near[] = {
                { .first = { 0, UINT64_C(0xffff00000000) }, .prefix_len = 96 + 8 },  /* 0.0.0.0/8 */
                { .first = { 0, UINT64_C(0xffff7f000000) }, .prefix_len = 96 + 8 },  /* 127.0.0.0/8 */
                { .first = { 0, UINT64_C(0xffffa9fe0000) }, .prefix_len = 96 + 16 }, /* 169.254.0.0/16 */
                { .first = { 0, UINT64_C(0xffffe0000000) }, .prefix_len = 96 + 4 },  /* 224.0.0.0/4 */
                { .first = { 0, UINT64_C(0xfffff0000000) }, .prefix_len = 96 + 4 },  /* 240.0.0.0/4 */
                { .first = { 0, 0 }, .prefix_len = 96 },                             /* ::/96 */
                { .first = { UINT64_C(0xfe80000000000000), 0 }, .prefix_len = 10 },
                { .first = { UINT64_C(0xff00000000000000), 0 }, .prefix_len = 8 },
        };
        bool names = target->kind == POLICY_OWN || (target->kind == POLICY_NETWORK && target->prefix_len == 128);

        for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++)
                names |= target->kind == POLICY_NETWORK && target->prefix_len >= near[i].prefix_len &&
                         model_is_within(&target->first, &near[i]);
        return names;
}

static bool model_is_own(const struct ruling_key *key, const struct ruling_facts *facts) {
        const struct ruling_own *own = model_at(facts, facts->own.at);

        for (uint32_t i = 0; i < facts->own.n; i++)
                if (ruling_key_compare(&own[i].first, key) <= 0 && ruling_key_compare(key, &own[i].last) <= 0)
                        return true;
        return false;
}

static bool model_was_found(const char *name, const struct ruling_key *key, const struct ruling_facts *facts,
                            uint64_t now_s) {
        const struct ruling_found *found = model_at(facts, facts->found.at);

        for (uint32_t i = 0; i < facts->found.n; i++)
                if (ruling_key_compare(&found[i].address, key) == 0 && found[i].until_s >= now_s &&
                    found[i].name == ruling_hash(name))
                        return true;
        return false;
}

/* Whether a name is meant by a target: itself, or "*.domain" of which it is below. */
static bool model_means(const struct policy_target *target, const char *name) {
        const char *domain = target->text;
        size_t len = strlen(name), domain_len;

        if (target->kind != POLICY_NAME)
                return false;
        if (strcmp(domain, name) == 0)
                return true;
        if (domain[0] != '*')
                return false;
        domain++; /* with its dot */
        domain_len = strlen(domain);
        return len >= domain_len && strcmp(name + len - domain_len, domain) == 0;
}

/* Who connects to a name is judged by it, too, not only by what was found before. */
static bool model_is_target(const struct policy_target *target, const struct ruling_key *key,
                            const struct ruling_facts *facts, const struct ruling_question *question) {
        switch (target->kind) {
        case POLICY_NETWORK:
                return model_is_within(key, target);
        case POLICY_OWN:
                return model_is_own(key, facts);
        case POLICY_NAME:
                return model_was_found(target->text, key, facts, question->now_s) ||
                       (question->act == RULING_CONNECT && question->name && model_means(target, question->name));
        case POLICY_PATH:
                break;
        }
        return false;
}

static bool model_has(const struct policy_rule *rule, enum ruling_act act) {
        return rule->acts & 1u << act;
}

/* With datagrams, to connect and to send are the same. */
static bool model_has_act(const struct policy_rule *rule, const struct ruling_question *question) {
        if (question->protocol == RULING_TCP || question->act == RULING_LISTEN)
                return model_has(rule, question->act);
        return model_has(rule, RULING_CONNECT) || model_has(rule, RULING_SENDTO);
}

static bool model_has_port(const struct policy_rule *rule, uint16_t port) {
        bool has_port = rule->n_ports == 0;

        for (size_t i = 0; i < rule->n_ports; i++)
                has_port |= rule->ports[i].first <= port && port <= rule->ports[i].last;
        return has_port;
}

static bool model_matches_address(const struct policy_rule *rule, const struct ruling_facts *facts,
                                  const struct ruling_question *question) {
        const struct ruling_key key = ruling_key(question->address);
        bool is_local = question->act == RULING_LISTEN;
        bool must_name = !is_local && rule->is_allowing && ruling_is_near(&key, facts);
        const struct policy_target *targets = is_local ? rule->at : rule->to;
        size_t n = is_local ? rule->n_at : rule->n_to;
        bool is_there = n == 0 && !must_name;

        for (size_t i = 0; i < n; i++)
                is_there |= model_is_target(&targets[i], &key, facts, question) &&
                            (!must_name || model_names_near(&targets[i]));
        return is_there && model_has_port(rule, question->address->port);
}

static bool model_matches_path(const struct policy_rule *rule, const struct ruling_question *question) {
        bool is_offer = question->act == RULING_LISTEN;
        const struct policy_target *targets = is_offer ? rule->at : rule->to;
        size_t n = is_offer ? rule->n_at : rule->n_to;
        bool is_there = n == 0 && !rule->is_allowing;

        for (size_t i = 0; i < n; i++)
                is_there |= targets[i].kind == POLICY_PATH && targets[i].text_len == question->address->path_len &&
                            memcmp(targets[i].text, question->address->host, targets[i].text_len) == 0;
        return is_there;
}

/* Whoever may connect or send to a name may have it resolved; a denial of that says nothing of names. */
static bool model_matches_name(const struct policy_rule *rule, const struct ruling_question *question) {
        bool reaches = model_has(rule, RULING_CONNECT) || model_has(rule, RULING_SENDTO);
        bool resolves = model_has(rule, RULING_RESOLVE), is_there = resolves && rule->n_to == 0;

        if (!resolves && !(rule->is_allowing && reaches))
                return false;
        for (size_t i = 0; i < rule->n_to; i++)
                is_there |= model_means(&rule->to[i], question->name) ||
                            (resolves && rule->to[i].kind == POLICY_NETWORK && rule->to[i].prefix_len == 0);
        return is_there;
}

static bool model_matches(const struct policy_rule *rule, const struct ruling_facts *facts,
                          const struct ruling_question *question) {
        if (question->act == RULING_RESOLVE)
                return model_matches_name(rule, question);
        if (question->act == RULING_EXPORT)
                return model_has(rule, RULING_EXPORT);
        if (!(rule->protocols & 1u << question->protocol))
                return false;
        if (question->protocol == RULING_UNIX)
                return model_has_act(rule, question) && model_matches_path(rule, question);
        return model_has_act(rule, question) && model_matches_address(rule, facts, question);
}

const struct policy_rule *model_decide(const struct policy *policy, const struct policy_subject *subject,
                                       const struct ruling_facts *facts, const struct ruling_question *question) {
        for (size_t i = 0; i < policy->n_rules; i++)
                if (policy_rule_covers(&policy->rules[i], subject) && model_matches(&policy->rules[i], facts, question))
                        return &policy->rules[i];
        return NULL;
}
