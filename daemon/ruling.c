/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Deciding by a ruling.
 *
 * The first rule that matches decides, so the answer is the smallest number among the rules that match. Networks are
 * nested: one search finds the smallest network that an address is in, and its parents are all the others. Each network
 * has the ports that rules speak of, cut so that they do not overlap, with the first rule for each. So a decision costs
 * one search among addresses, one among ports for each network around the address, and no more for a thousand rules.
 *
 * Addresses that are trusted for being near have tables of their own, in which those rules are missing that allow
 * without naming the address.
 *
 * Nothing here allocates, waits, or knows the time. Rejected: trying the rules in turn, which takes several
 * microseconds for a thousand; a table for each port.
 */

#include "daemon/ruling.h"

#include <stdio.h>
#include <string.h>

#define RULING_MAPPED UINT64_C(0xffff00000000) /* ::ffff:0.0.0.0, its lower half */

static const void *ruling_at(const void *base, uint32_t at) {
        return (const uint8_t *) base + at;
}

int ruling_key_compare(const struct ruling_key *a, const struct ruling_key *b) {
        if (a->high != b->high)
                return a->high < b->high ? -1 : 1;
        return a->low < b->low ? -1 : a->low > b->low;
}

static uint64_t ruling_read_word(const uint8_t *bytes) {
        uint64_t word = 0;

        for (int i = 0; i < 8; i++)
                word = word << 8 | bytes[i];
        return word;
}

struct ruling_key ruling_key(const struct ovl_address *address) {
        const uint8_t *host = address->host;

        if (address->family == OVL_FAMILY_INET)
                return (struct ruling_key){ 0, RULING_MAPPED | (uint64_t) host[0] << 24 | (uint64_t) host[1] << 16 |
                                                       (uint64_t) host[2] << 8 | host[3] };
        return (struct ruling_key){ ruling_read_word(host), ruling_read_word(host + 8) };
}

uint64_t ruling_hash(const char *name) {
        uint64_t hash = UINT64_C(0xcbf29ce484222325);

        for (; *name; name++)
                hash = (hash ^ (uint8_t) *name) * UINT64_C(0x100000001b3);
        return hash;
}

/* --- Addresses that are trusted ---------------------------------------------------------------------------------- */

static bool ruling_is_own(const struct ruling_key *key, const struct ruling_facts *facts) {
        const struct ruling_own *own = ruling_at(facts, facts->own.at);
        uint32_t from = 0, to = facts->own.n;

        while (from < to) {
                uint32_t middle = from + (to - from) / 2;

                if (ruling_key_compare(&own[middle].first, key) <= 0)
                        from = middle + 1;
                else
                        to = middle;
        }
        return from > 0 && ruling_key_compare(key, &own[from - 1].last) <= 0;
}

static bool ruling_is_near_inet(uint32_t host) {
        return host >> 24 == 0 || host >> 24 == 127 || host >> 16 == 0xa9fe || host >> 28 >= 0xe;
}

/*
 * Where clouds tell a machine its secrets, beside 169.254.169.254: whoever asks from there is trusted. fd00:ec2::254
 * (EC2), fd20:ce::254 (Google), 100.100.100.200 (Alibaba).
 */
static bool ruling_is_metadata(const struct ruling_key *key) {
        if (key->high == 0)
                return key->low == (RULING_MAPPED | UINT64_C(0x646464c8));
        return key->low == 0x254 &&
               (key->high == UINT64_C(0xfd000ec200000000) || key->high == UINT64_C(0xfd2000ce00000000));
}

/* By its form alone. ::/96 has "this host", loopback, and a way to write IPv4 that nobody uses. */
static bool ruling_is_near_form(const struct ruling_key *key) {
        if (ruling_is_metadata(key))
                return true;
        if (key->high == 0 && key->low >> 32 == 0xffff)
                return ruling_is_near_inet((uint32_t) key->low);
        return (key->high == 0 && key->low >> 32 == 0) || key->high >> 54 == 0x3fa || key->high >> 56 == 0xff;
}

bool ruling_is_near(const struct ruling_key *key, const struct ruling_facts *facts) {
        return facts->is_incomplete || ruling_is_near_form(key) || ruling_is_own(key, facts);
}

/* --- Networks and ports ------------------------------------------------------------------------------------------ */

/* The rule of a node for a port. */
static uint32_t ruling_search_port(const struct ruling *ruling, const struct ruling_node *node, uint16_t port) {
        const struct ruling_span *spans = ruling_at(ruling, node->spans.at);
        uint32_t from = 0, to = node->spans.n;

        while (from < to) {
                uint32_t middle = from + (to - from) / 2;

                if (spans[middle].first <= port)
                        from = middle + 1;
                else
                        to = middle;
        }
        return from > 0 && port <= spans[from - 1].last ? spans[from - 1].rule : RULING_NONE;
}

static uint32_t ruling_search_network(const struct ruling *ruling, const struct ruling_table *table,
                                      const struct ruling_key *key) {
        const struct ruling_range *ranges = ruling_at(ruling, table->ranges.at);
        uint32_t from = 0, to = table->ranges.n;

        while (from < to) {
                uint32_t middle = from + (to - from) / 2;

                if (ruling_key_compare(&ranges[middle].first, key) <= 0)
                        from = middle + 1;
                else
                        to = middle;
        }
        return from > 0 ? ranges[from - 1].node : RULING_NONE;
}

static uint32_t ruling_first(uint32_t a, uint32_t b) {
        return a < b ? a : b;
}

static uint32_t ruling_decide_node(const struct ruling *ruling, const struct ruling_table *table, uint32_t number,
                                   uint16_t port) {
        const struct ruling_node *nodes = ruling_at(ruling, table->nodes.at);

        return number < table->nodes.n ? ruling_search_port(ruling, &nodes[number], port) : RULING_NONE;
}

/* What rules say of a name, which they may have as a pattern. text: the name itself; NULL: the number is that of one.
 */
static uint32_t ruling_decide_hash(const struct ruling *ruling, const struct ruling_table *table, uint64_t name,
                                   const char *text, uint16_t port) {
        const struct ruling_found_node *nodes = ruling_at(ruling, table->found.at);
        uint32_t rule = RULING_NONE, from = 0, to = table->found.n;

        while (from < to) {
                uint32_t middle = from + (to - from) / 2;

                if (nodes[middle].name < name)
                        from = middle + 1;
                else
                        to = middle;
        }
        for (; from < table->found.n && nodes[from].name == name; from++)
                if (!text || strcmp(ruling_at(ruling, nodes[from].text_at), text) == 0)
                        rule = ruling_first(rule, ruling_decide_node(ruling, table, nodes[from].node, port));
        return rule;
}

/* What rules say of the names for which the address was found. */
static uint32_t ruling_decide_found(const struct ruling *ruling, const struct ruling_table *table,
                                    const struct ruling_facts *facts, const struct ruling_key *key, uint16_t port,
                                    uint64_t now_s) {
        const struct ruling_found *found = ruling_at(facts, facts->found.at);
        uint32_t rule = RULING_NONE, from = 0, to = facts->found.n;

        if (table->found.n == 0)
                return RULING_NONE;
        while (from < to) {
                uint32_t middle = from + (to - from) / 2;

                if (ruling_key_compare(&found[middle].address, key) < 0)
                        from = middle + 1;
                else
                        to = middle;
        }
        for (; from < facts->found.n && ruling_key_compare(&found[from].address, key) == 0; from++)
                if (found[from].until_s >= now_s)
                        rule = ruling_first(rule, ruling_decide_hash(ruling, table, found[from].name, NULL, port));
        return rule;
}

/* What rules say of the name that was asked for, by itself and by the patterns that it fits. The client chose it. */
static uint32_t ruling_decide_asked(const struct ruling *ruling, const struct ruling_table *table, const char *name,
                                    uint16_t port) {
        char pattern[RULING_NAME_MAX + 2];
        uint32_t rule;

        if (!name || table->found.n == 0 || strlen(name) > RULING_NAME_MAX)
                return RULING_NONE;
        rule = ruling_decide_hash(ruling, table, ruling_hash(name), name, port);
        for (const char *dot = name; (dot = strchr(dot, '.')); dot++) {
                snprintf(pattern, sizeof(pattern), "*%s", dot);
                rule = ruling_first(rule, ruling_decide_hash(ruling, table, ruling_hash(pattern), pattern, port));
        }
        return rule;
}

static uint32_t ruling_decide_address(const struct ruling *ruling, const struct ruling_facts *facts,
                                      const struct ruling_question *question) {
        static const enum ruling_table_kind kinds[2][2] = {
                { RULING_TABLE_CONNECT, RULING_TABLE_SEND },
                { RULING_TABLE_LISTEN, RULING_TABLE_RECEIVE },
        };
        const struct ruling_key key = ruling_key(question->address);
        enum ruling_table_kind kind = kinds[question->act == RULING_LISTEN][question->protocol == RULING_UDP];
        bool is_near = question->act != RULING_LISTEN && ruling_is_near(&key, facts);
        const struct ruling_table *table = &ruling->tables[kind][is_near];
        const struct ruling_node *nodes = ruling_at(ruling, table->nodes.at);
        uint16_t port = question->address->port;
        uint32_t rule, number;

        rule = ruling_decide_found(ruling, table, facts, &key, port, question->now_s);
        if (question->act == RULING_CONNECT)
                rule = ruling_first(rule, ruling_decide_asked(ruling, table, question->name, port));
        number = ruling_search_network(ruling, table, &key);
        while (number < table->nodes.n) {
                rule = ruling_first(rule, ruling_search_port(ruling, &nodes[number], port));
                number = nodes[number].parent;
        }
        if (table->own_node != RULING_NONE && ruling_is_own(&key, facts))
                rule = ruling_first(rule, ruling_decide_node(ruling, table, table->own_node, port));
        return rule;
}

/* --- Paths and names --------------------------------------------------------------------------------------------- */

static int ruling_compare_word(const struct ruling *ruling, const struct ruling_word *word, const void *bytes,
                               size_t len) {
        size_t shorter = word->len < len ? word->len : len;
        int order = memcmp(ruling_at(ruling, word->at), bytes, shorter);

        if (order != 0)
                return order;
        return word->len < len ? -1 : word->len > len;
}

static uint32_t ruling_search_word(const struct ruling *ruling, const struct ruling_list *list, const void *bytes,
                                   size_t len) {
        const struct ruling_word *words = ruling_at(ruling, list->at);
        uint32_t from = 0, to = list->n;

        while (from < to) {
                uint32_t middle = from + (to - from) / 2;
                int order = ruling_compare_word(ruling, &words[middle], bytes, len);

                if (order == 0)
                        return words[middle].rule;
                if (order < 0)
                        from = middle + 1;
                else
                        to = middle;
        }
        return RULING_NONE;
}

static uint32_t ruling_decide_path(const struct ruling *ruling, const struct ruling_question *question) {
        const struct ruling_paths *paths = question->act == RULING_LISTEN ? &ruling->offer : &ruling->reach;

        return ruling_first(paths->any, ruling_search_word(ruling, &paths->words, question->address->host,
                                                           question->address->path_len));
}

/* "a.b.example" is meant by "a.b.example", "*.b.example", "*.example" and "*". */
static uint32_t ruling_decide_name(const struct ruling *ruling, const char *name) {
        char pattern[RULING_NAME_MAX + 2];
        uint32_t rule = ruling_search_word(ruling, &ruling->names, "*", 1);
        const char *dot = name;

        if (strlen(name) > RULING_NAME_MAX)
                return rule;
        rule = ruling_first(rule, ruling_search_word(ruling, &ruling->names, name, strlen(name)));
        while ((dot = strchr(dot, '.'))) {
                size_t len = (size_t) snprintf(pattern, sizeof(pattern), "*%s", dot++);

                rule = ruling_first(rule, ruling_search_word(ruling, &ruling->names, pattern, len));
        }
        return rule;
}

/* --- Verdicts ---------------------------------------------------------------------------------------------------- */

struct ruling_verdict ruling_decide(const struct ruling *ruling, const struct ruling_facts *facts,
                                    const struct ruling_question *question) {
        const struct ruling_rule *rules = ruling_at(ruling, ruling->rules.at);
        uint32_t rule = RULING_NONE;

        if (question->act == RULING_RESOLVE)
                rule = ruling_decide_name(ruling, question->name);
        else if (question->act == RULING_EXPORT)
                rule = ruling->exports;
        else if (question->address->family == OVL_FAMILY_UNIX)
                rule = ruling_decide_path(ruling, question);
        else
                rule = ruling_decide_address(ruling, facts, question);
        if (rule >= ruling->rules.n)
                return (struct ruling_verdict){ ruling->is_open, RULING_NONE };
        return (struct ruling_verdict){ rules[rule].is_allowing, rule };
}

const char *ruling_text(const struct ruling *ruling, const struct ruling_verdict *verdict,
                        char text[RULING_TEXT_SIZE]) {
        const struct ruling_rule *rules = ruling_at(ruling, ruling->rules.at);

        if (verdict->rule >= ruling->rules.n)
                snprintf(text, RULING_TEXT_SIZE, "%s",
                         verdict->is_allowed ? "the daemon's own user may do it" : "no rule allows it");
        else
                snprintf(text, RULING_TEXT_SIZE, "%s", (const char *) ruling_at(ruling, rules[verdict->rule].text_at));
        return text;
}

/* --- Soundness --------------------------------------------------------------------------------------------------- */

static bool ruling_list_is_sound(const struct ruling_list *list, size_t element, size_t align, size_t size) {
        return list->n == 0 || (list->at % align == 0 && list->at <= size && list->n <= (size - list->at) / element);
}

static bool ruling_words_are_sound(const struct ruling *ruling, const struct ruling_list *list) {
        const struct ruling_word *words = ruling_at(ruling, list->at);

        if (!ruling_list_is_sound(list, sizeof(*words), sizeof(uint32_t), ruling->size))
                return false;
        for (uint32_t i = 0; i < list->n; i++)
                if (words[i].at > ruling->size || words[i].len > ruling->size - words[i].at)
                        return false;
        return true;
}

/* A parent stands before its children, so that there is an end to them. */
static bool ruling_nodes_are_sound(const struct ruling *ruling, const struct ruling_list *list) {
        const struct ruling_node *nodes = ruling_at(ruling, list->at);

        if (!ruling_list_is_sound(list, sizeof(*nodes), sizeof(uint32_t), ruling->size))
                return false;
        for (uint32_t i = 0; i < list->n; i++)
                if ((nodes[i].parent != RULING_NONE && nodes[i].parent >= i) ||
                    !ruling_list_is_sound(&nodes[i].spans, sizeof(struct ruling_span), sizeof(uint32_t), ruling->size))
                        return false;
        return true;
}

static bool ruling_text_is_sound(const struct ruling *ruling, uint32_t at) {
        return at < ruling->size && memchr(ruling_at(ruling, at), '\0', ruling->size - at);
}

static bool ruling_found_is_sound(const struct ruling *ruling, const struct ruling_list *list) {
        const struct ruling_found_node *nodes = ruling_at(ruling, list->at);

        if (!ruling_list_is_sound(list, sizeof(*nodes), sizeof(uint64_t), ruling->size))
                return false;
        for (uint32_t i = 0; i < list->n; i++)
                if (!ruling_text_is_sound(ruling, nodes[i].text_at))
                        return false;
        return true;
}

static bool ruling_table_is_sound(const struct ruling *ruling, const struct ruling_table *table) {
        return ruling_list_is_sound(&table->ranges, sizeof(struct ruling_range), sizeof(uint64_t), ruling->size) &&
               ruling_found_is_sound(ruling, &table->found) && ruling_nodes_are_sound(ruling, &table->nodes);
}

static bool ruling_rules_are_sound(const struct ruling *ruling) {
        const struct ruling_rule *rules = ruling_at(ruling, ruling->rules.at);

        if (!ruling_list_is_sound(&ruling->rules, sizeof(*rules), sizeof(uint32_t), ruling->size))
                return false;
        for (uint32_t i = 0; i < ruling->rules.n; i++)
                if (!ruling_text_is_sound(ruling, rules[i].text_at))
                        return false;
        return true;
}

bool ruling_is_sound(const struct ruling *ruling, size_t len) {
        if (len < sizeof(*ruling) || ruling->size < sizeof(*ruling) || ruling->size > len)
                return false;
        for (int kind = 0; kind < RULING_N_TABLES; kind++)
                for (int near = 0; near < 2; near++)
                        if (!ruling_table_is_sound(ruling, &ruling->tables[kind][near]))
                                return false;
        return ruling_rules_are_sound(ruling) && ruling_words_are_sound(ruling, &ruling->reach.words) &&
               ruling_words_are_sound(ruling, &ruling->offer.words) && ruling_words_are_sound(ruling, &ruling->names);
}

bool ruling_facts_are_sound(const struct ruling_facts *facts, size_t len) {
        return len >= sizeof(*facts) && facts->size >= sizeof(*facts) && facts->size <= len &&
               ruling_list_is_sound(&facts->own, sizeof(struct ruling_own), sizeof(uint64_t), facts->size) &&
               ruling_list_is_sound(&facts->found, sizeof(struct ruling_found), sizeof(uint64_t), facts->size);
}
