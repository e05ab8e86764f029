/* SPDX-License-Identifier: Apache-2.0 */

/*
 * From rules to a ruling: what the policy says of one client, in the form that ruling.c decides by.
 *
 * Each rule that covers the client becomes atoms: one network, or name, or path, and one span of ports. The atoms of a
 * table are sorted so that a network stands before those within it; equal networks become one node, whose ports are cut
 * where a rule begins or ends, and each piece gets the first rule that has it. Then the addresses are walked through
 * once, with a stack of the networks that are open: where the innermost changes, a range begins.
 *
 * IPv4 is ::ffff:0:0/96, and what is said of a larger IPv6 network is not said of it: that node has no parent.
 *
 * This is done when a client connects, so it must stay cheap for a thousand rules: nothing here is worse than sorting.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/monitor/policy.h"

#define COMPILE_MAPPED_LEN 96
#define COMPILE_SIZE_MAX (UINT32_C(256) << 20)

static const struct ruling_key compile_mapped = { 0, UINT64_C(0xffff00000000) };

struct compile_atom {
        struct ruling_key first;
        uint64_t name;    /* hash; 0: a network */
        const char *text; /* of the name */
        uint32_t rule;
        uint16_t first_port, last_port;
        uint8_t prefix_len;
        bool is_own;
        bool is_empty; /* a network of which nothing is said */
};

struct compile_word {
        const char *bytes;
        size_t len;
        uint32_t rule;
};

struct compile {
        const struct policy *policy;    /* borrowed */
        const struct policy_rule **own; /* the rules about this client, in order */
        size_t n_rules;
        uint8_t *bytes; /* of the ruling */
        size_t len, size;
        struct compile_atom *atoms;
        size_t n_atoms;
        struct compile_word *words;
        size_t n_words;
        uint32_t *scratch;
        size_t scratch_size;
};

static void compile_deinit(struct compile *compile) {
        free(compile->own);
        free(compile->bytes);
        free(compile->atoms);
        free(compile->words);
        free(compile->scratch);
}

/* --- The bytes --------------------------------------------------------------------------------------------------- */

/* Appends zeroes, aligned. Returns where, or 0 when there is no memory: nothing begins at 0 but the header. */
static uint32_t compile_room(struct compile *compile, size_t len) {
        size_t at = (compile->len + 7) / 8 * 8, size = compile->size > 0 ? compile->size : 4096;
        uint8_t *bytes;

        if (len > COMPILE_SIZE_MAX - at)
                return 0;
        while (size < at + len)
                size *= 2;
        if (size != compile->size) {
                bytes = realloc(compile->bytes, size);
                if (!bytes)
                        return 0;
                compile->bytes = bytes;
                compile->size = size;
        }
        memset(compile->bytes + compile->len, 0, at + len - compile->len);
        compile->len = at + len;
        return (uint32_t) at;
}

static uint32_t compile_put(struct compile *compile, const void *bytes, size_t len) {
        uint32_t at = compile_room(compile, len);

        if (at > 0 && len > 0)
                memcpy(compile->bytes + at, bytes, len);
        return at;
}

static struct ruling *compile_header(struct compile *compile) {
        return (struct ruling *) compile->bytes;
}

/* --- Atoms ------------------------------------------------------------------------------------------------------- */

static int compile_add_atom(struct compile *compile, const struct policy_target *target,
                            const struct policy_ports *ports, uint32_t rule) {
        struct compile_atom *atom = policy_append(&compile->atoms, &compile->n_atoms, sizeof(*atom));

        if (!atom)
                return -ENOMEM;
        *atom = (struct compile_atom){
                .first = target->first,
                .name = target->kind == POLICY_NAME ? ruling_hash(target->text) : 0,
                .text = target->kind == POLICY_NAME ? target->text : "",
                .rule = rule,
                .first_port = ports->first,
                .last_port = ports->last,
                .prefix_len = target->prefix_len,
                .is_own = target->kind == POLICY_OWN,
        };
        return 0;
}

static int compile_add_target(struct compile *compile, const struct policy_rule *rule,
                              const struct policy_target *target, uint32_t number) {
        static const struct policy_ports all = { 0, UINT16_MAX };
        int r = 0;

        if (rule->n_ports == 0)
                return compile_add_atom(compile, target, &all, number);
        for (size_t i = 0; i < rule->n_ports && r >= 0; i++)
                r = compile_add_atom(compile, target, &rule->ports[i], number);
        return r;
}

/* Whether the rule speaks of what the table is about. */
static bool compile_belongs(const struct policy_rule *rule, enum ruling_table_kind kind) {
        bool connects = rule->acts & 1u << RULING_CONNECT, sends = rule->acts & 1u << RULING_SENDTO;
        bool listens = rule->acts & 1u << RULING_LISTEN;
        bool tcp = rule->protocols & 1u << RULING_TCP, udp = rule->protocols & 1u << RULING_UDP;

        switch (kind) {
        case RULING_TABLE_CONNECT:
                return connects && tcp;
        case RULING_TABLE_SEND:
                return (connects || sends) && udp;
        case RULING_TABLE_LISTEN:
                return listens && tcp;
        case RULING_TABLE_RECEIVE:
                return listens && udp;
        default:
                return false;
        }
}

static bool compile_is_local(enum ruling_table_kind kind) {
        return kind == RULING_TABLE_LISTEN || kind == RULING_TABLE_RECEIVE;
}

static int compile_collect(struct compile *compile, enum ruling_table_kind kind, bool is_near) {
        static const struct policy_target everywhere[] = {
                { .kind = POLICY_NETWORK },
                { .kind = POLICY_NETWORK, .first = { 0, UINT64_C(0xffff00000000) }, .prefix_len = COMPILE_MAPPED_LEN },
        };
        bool is_local = compile_is_local(kind);

        for (uint32_t i = 0; i < compile->n_rules; i++) {
                const struct policy_rule *rule = compile->own[i];
                const struct policy_target *targets = is_local ? rule->at : rule->to;
                size_t n_targets = is_local ? rule->n_at : rule->n_to;

                if (!compile_belongs(rule, kind))
                        continue;
                if (n_targets == 0) {
                        targets = everywhere;
                        n_targets = 2;
                }
                for (size_t j = 0; j < n_targets; j++) {
                        if (targets[j].kind == POLICY_PATH || (is_near && rule->is_allowing && !targets[j].names_near))
                                continue;
                        if (compile_add_target(compile, rule, &targets[j], i) < 0)
                                return -ENOMEM;
                }
        }
        return 0;
}

/* Networks first, outer ones before inner ones; then names; then the machine's own. */
static int compile_compare_place(const struct compile_atom *a, const struct compile_atom *b) {
        int order;

        if (a->is_own != b->is_own)
                return a->is_own - b->is_own;
        if (a->name != b->name)
                return a->name < b->name ? -1 : 1;
        order = strcmp(a->text, b->text);
        if (order != 0)
                return order;
        order = ruling_key_compare(&a->first, &b->first);
        return order != 0 ? order : a->prefix_len - b->prefix_len;
}

static int compile_compare_atoms(const void *left, const void *right) {
        const struct compile_atom *a = left, *b = right;
        int order = compile_compare_place(a, b);

        if (order != 0)
                return order;
        return a->rule < b->rule ? -1 : a->rule > b->rule;
}

/* --- Ports ------------------------------------------------------------------------------------------------------- */

static int compile_compare_numbers(const void *left, const void *right) {
        uint32_t a = *(const uint32_t *) left, b = *(const uint32_t *) right;

        return a < b ? -1 : a > b;
}

static int compile_reserve(struct compile *compile, size_t n) {
        uint32_t *scratch;

        if (n <= compile->scratch_size)
                return 0;
        scratch = reallocarray(compile->scratch, n, sizeof(*scratch));
        if (!scratch)
                return -ENOMEM;
        compile->scratch = scratch;
        compile->scratch_size = n;
        return 0;
}

/* The place of a bound that is there. */
static size_t compile_find_bound(const uint32_t *bounds, size_t n, uint32_t bound) {
        const uint32_t *found = bsearch(&bound, bounds, n, sizeof(*bounds), compile_compare_numbers);

        return (size_t) (found - bounds);
}

/* The first piece from here on that has no rule; what was passed over is passed over faster the next time. */
static uint32_t compile_next_free(uint32_t *next, uint32_t at) {
        while (next[at] != at) {
                next[at] = next[next[at]];
                at = next[at];
        }
        return at;
}

/* Sorts the bounds, where a span begins or the one behind it. Returns how many are left. */
static size_t compile_bounds(const struct compile_atom *atoms, size_t n, uint32_t *bounds) {
        size_t n_bounds = 0, n_left = 0;

        for (size_t i = 0; i < n; i++) {
                if (atoms[i].is_empty)
                        continue;
                bounds[n_bounds++] = atoms[i].first_port;
                bounds[n_bounds++] = atoms[i].last_port + 1u;
        }
        if (n_bounds > 0)
                qsort(bounds, n_bounds, sizeof(*bounds), compile_compare_numbers);
        for (size_t i = 0; i < n_bounds; i++)
                if (n_left == 0 || bounds[n_left - 1] != bounds[i])
                        bounds[n_left++] = bounds[i];
        return n_left;
}

/* Gives each piece between two bounds the first rule that has it. The atoms are in the order of their rules. */
static void compile_paint(const struct compile_atom *atoms, size_t n, const uint32_t *bounds, size_t n_bounds,
                          uint32_t *next, uint32_t *rules) {
        for (uint32_t i = 0; i <= n_bounds; i++) {
                next[i] = i;
                rules[i] = RULING_NONE;
        }
        for (size_t i = 0; i < n; i++) {
                uint32_t to, at;

                if (atoms[i].is_empty)
                        continue;
                to = (uint32_t) compile_find_bound(bounds, n_bounds, atoms[i].last_port + 1u);
                at = (uint32_t) compile_find_bound(bounds, n_bounds, atoms[i].first_port);
                for (at = compile_next_free(next, at); at < to; at = compile_next_free(next, at)) {
                        rules[at] = atoms[i].rule;
                        next[at] = at + 1;
                }
        }
}

static int compile_spans(struct compile *compile, const struct compile_atom *atoms, size_t n,
                         struct ruling_list *ret_spans) {
        uint32_t *bounds, *next, *rules, at;
        struct ruling_span *spans;
        size_t n_bounds, n_spans = 0;

        *ret_spans = (struct ruling_list){ 0 };
        if (compile_reserve(compile, 6 * n + 3) < 0)
                return -ENOMEM;
        bounds = compile->scratch;
        n_bounds = compile_bounds(atoms, n, bounds);
        if (n_bounds == 0)
                return 0;
        next = bounds + 2 * n;
        rules = next + 2 * n + 1;
        compile_paint(atoms, n, bounds, n_bounds, next, rules);
        at = compile_room(compile, n_bounds * sizeof(*spans));
        if (at == 0)
                return -ENOMEM;
        spans = (struct ruling_span *) (compile->bytes + at);
        for (size_t i = 0; i + 1 < n_bounds; i++) {
                if (rules[i] == RULING_NONE)
                        continue;
                if (n_spans > 0 && spans[n_spans - 1].rule == rules[i] && spans[n_spans - 1].last + 1u == bounds[i])
                        spans[n_spans - 1].last = (uint16_t) (bounds[i + 1] - 1);
                else
                        spans[n_spans++] =
                                (struct ruling_span){ (uint16_t) bounds[i], (uint16_t) (bounds[i + 1] - 1), rules[i] };
        }
        *ret_spans = (struct ruling_list){ at, (uint32_t) n_spans };
        compile->len = at + n_spans * sizeof(*spans);
        return 0;
}

/* --- Networks ---------------------------------------------------------------------------------------------------- */

static struct ruling_key compile_last(const struct compile_atom *network) {
        unsigned n_host = 128u - network->prefix_len;
        struct ruling_key last = network->first;

        last.low |= n_host >= 64 ? UINT64_MAX : n_host > 0 ? UINT64_MAX >> (64 - n_host) : 0;
        last.high |= n_host >= 128 ? UINT64_MAX : n_host > 64 ? UINT64_MAX >> (128 - n_host) : 0;
        return last;
}

/* The address behind it; {0, 0} behind the last of all. */
static struct ruling_key compile_next(struct ruling_key key) {
        return (struct ruling_key){ key.high + (key.low == UINT64_MAX), key.low + 1 };
}

/* What is being made of a table. */
struct compile_walk {
        struct compile_atom networks[130]; /* that are open, outer ones first */
        uint32_t nodes[130];
        size_t depth;
        struct ruling_range *ranges;
        size_t n_ranges;
};

static void compile_begin_range(struct compile_walk *walk, const struct ruling_key *first, uint32_t node) {
        if (walk->n_ranges > 0 && ruling_key_compare(&walk->ranges[walk->n_ranges - 1].first, first) == 0)
                walk->n_ranges--; /* nothing was between */
        walk->ranges[walk->n_ranges++] = (struct ruling_range){ .first = *first, .node = node };
}

/* Closes the networks that end before an address; NULL: all. */
static void compile_close(struct compile_walk *walk, const struct ruling_key *before) {
        while (walk->depth > 0) {
                struct ruling_key last = compile_last(&walk->networks[walk->depth - 1]), next;

                if (before && ruling_key_compare(before, &last) <= 0)
                        return;
                walk->depth--;
                next = compile_next(last);
                if (next.high == 0 && next.low == 0)
                        continue;
                compile_begin_range(walk, &next, walk->depth > 0 ? walk->nodes[walk->depth - 1] : RULING_NONE);
        }
}

static uint32_t compile_open(struct compile_walk *walk, const struct compile_atom *network, uint32_t node) {
        bool is_mapped =
                network->prefix_len == COMPILE_MAPPED_LEN && ruling_key_compare(&network->first, &compile_mapped) == 0;
        uint32_t parent;

        compile_close(walk, &network->first);
        parent = walk->depth > 0 && !is_mapped ? walk->nodes[walk->depth - 1] : RULING_NONE;
        compile_begin_range(walk, &network->first, node);
        walk->networks[walk->depth] = *network;
        walk->nodes[walk->depth++] = node;
        return parent;
}

/* How many atoms from here on are about the same. */
static size_t compile_group(const struct compile *compile, size_t from) {
        size_t n = 1;

        while (from + n < compile->n_atoms &&
               compile_compare_place(&compile->atoms[from], &compile->atoms[from + n]) == 0)
                n++;
        return n;
}

/* Makes the nodes of sorted atoms, with the ranges of their networks in `walk` and the names in `found`. */
static int compile_nodes(struct compile *compile, struct compile_walk *walk, struct ruling_node *nodes,
                         struct ruling_found_node *found, struct ruling_table *table) {
        size_t n;

        for (size_t i = 0; i < compile->n_atoms; i += n) {
                const struct compile_atom *atom = &compile->atoms[i];
                uint32_t number = table->nodes.n++, text_at = 0;

                n = compile_group(compile, i);
                nodes[number].parent = RULING_NONE;
                if (atom->name != 0 && (text_at = compile_put(compile, atom->text, strlen(atom->text) + 1)) == 0)
                        return -ENOMEM;
                if (atom->is_own)
                        table->own_node = number;
                else if (atom->name != 0)
                        found[table->found.n++] =
                                (struct ruling_found_node){ .name = atom->name, .node = number, .text_at = text_at };
                else
                        nodes[number].parent = compile_open(walk, atom, number);
                if (compile_spans(compile, atom, n, &nodes[number].spans) < 0)
                        return -ENOMEM;
        }
        compile_close(walk, NULL);
        return 0;
}

static int compile_table(struct compile *compile, enum ruling_table_kind kind, bool is_near) {
        struct ruling_table table = { .own_node = RULING_NONE };
        _cleanup_free_ struct ruling_found_node *found = NULL;
        _cleanup_free_ struct ruling_range *ranges = NULL;
        _cleanup_free_ struct ruling_node *nodes = NULL;
        struct compile_walk walk = { 0 };
        struct compile_atom *mapped;

        compile->n_atoms = 0;
        /* Where one listens, no address is near: there is one table. */
        if (!(is_near && compile_is_local(kind)) && compile_collect(compile, kind, is_near) < 0)
                return -ENOMEM;
        if (compile->n_atoms > 0) {
                mapped = policy_append(&compile->atoms, &compile->n_atoms, sizeof(*mapped));
                if (!mapped)
                        return -ENOMEM;
                *mapped = (struct compile_atom){
                        .first = compile_mapped, .text = "", .prefix_len = COMPILE_MAPPED_LEN, .is_empty = true
                };
        }
        if (compile->n_atoms > 0)
                qsort(compile->atoms, compile->n_atoms, sizeof(*compile->atoms), compile_compare_atoms);
        nodes = calloc(compile->n_atoms + 1, sizeof(*nodes));
        found = calloc(compile->n_atoms + 1, sizeof(*found));
        ranges = calloc(2 * compile->n_atoms + 1, sizeof(*ranges));
        if (!nodes || !found || !ranges)
                return -ENOMEM;
        walk.ranges = ranges;
        if (compile_nodes(compile, &walk, nodes, found, &table) < 0)
                return -ENOMEM;
        table.ranges.n = (uint32_t) walk.n_ranges;
        table.ranges.at = compile_put(compile, ranges, walk.n_ranges * sizeof(*ranges));
        table.nodes.at = compile_put(compile, nodes, table.nodes.n * sizeof(*nodes));
        table.found.at = compile_put(compile, found, table.found.n * sizeof(*found));
        compile_header(compile)->tables[kind][is_near] = table;
        return table.ranges.at > 0 && table.nodes.at > 0 && table.found.at > 0 ? 0 : -ENOMEM;
}

/* --- Paths and names --------------------------------------------------------------------------------------------- */

static int compile_compare_words(const void *left, const void *right) {
        const struct compile_word *a = left, *b = right;
        int order = memcmp(a->bytes, b->bytes, a->len < b->len ? a->len : b->len);

        if (order != 0)
                return order;
        if (a->len != b->len)
                return a->len < b->len ? -1 : 1;
        return a->rule < b->rule ? -1 : a->rule > b->rule;
}

static int compile_add_word(struct compile *compile, const char *bytes, size_t len, uint32_t rule) {
        struct compile_word *word = policy_append(&compile->words, &compile->n_words, sizeof(*word));

        if (!word)
                return -ENOMEM;
        *word = (struct compile_word){ bytes, len, rule };
        return 0;
}

/* Sorts the words, of which the first of equal ones counts, and puts them behind the ruling. */
static int compile_words(struct compile *compile, struct ruling_list *ret_words) {
        _cleanup_free_ struct ruling_word *words = calloc(compile->n_words + 1, sizeof(*words));
        uint32_t n = 0;

        if (!words)
                return -ENOMEM;
        if (compile->n_words > 0)
                qsort(compile->words, compile->n_words, sizeof(*compile->words), compile_compare_words);
        for (size_t i = 0; i < compile->n_words; i++) {
                const struct compile_word *word = &compile->words[i];

                if (i > 0 && word->len == word[-1].len && memcmp(word->bytes, word[-1].bytes, word->len) == 0)
                        continue;
                words[n] = (struct ruling_word){ compile_put(compile, word->bytes, word->len), (uint32_t) word->len,
                                                 word->rule };
                if (words[n++].at == 0)
                        return -ENOMEM;
        }
        ret_words->n = n;
        ret_words->at = compile_put(compile, words, n * sizeof(*words));
        return ret_words->at > 0 ? 0 : -ENOMEM;
}

/* Paths are named, one by one: only a rule that denies may be about all of them. */
static int compile_paths(struct compile *compile, bool is_offer, struct ruling_paths *ret_paths) {
        unsigned acts = is_offer ? 1u << RULING_LISTEN : 1u << RULING_CONNECT | 1u << RULING_SENDTO;
        struct ruling_paths paths = { .any = RULING_NONE };

        compile->n_words = 0;
        for (uint32_t i = 0; i < compile->n_rules; i++) {
                const struct policy_rule *rule = compile->own[i];
                const struct policy_target *targets = is_offer ? rule->at : rule->to;
                size_t n = is_offer ? rule->n_at : rule->n_to;

                if (!(rule->acts & acts) || !(rule->protocols & 1u << RULING_UNIX))
                        continue;
                if (n == 0 && !rule->is_allowing && paths.any == RULING_NONE)
                        paths.any = i;
                for (size_t j = 0; j < n; j++)
                        if (targets[j].kind == POLICY_PATH &&
                            compile_add_word(compile, targets[j].text, targets[j].text_len, i) < 0)
                                return -ENOMEM;
        }
        if (compile_words(compile, &paths.words) < 0)
                return -ENOMEM;
        *ret_paths = paths;
        return 0;
}

/* Whoever may connect to a name may have it resolved. */
static bool compile_resolves(const struct policy_rule *rule) {
        unsigned reach = 1u << RULING_CONNECT | 1u << RULING_SENDTO;

        return rule->acts & 1u << RULING_RESOLVE || (rule->is_allowing && rule->acts & reach);
}

static bool compile_resolves_all(const struct policy_rule *rule) {
        bool is_all = rule->n_to == 0;

        for (size_t i = 0; i < rule->n_to && !is_all; i++)
                is_all = rule->to[i].kind == POLICY_NETWORK && rule->to[i].prefix_len == 0;
        return is_all && rule->acts & 1u << RULING_RESOLVE;
}

static int compile_names(struct compile *compile, struct ruling_list *ret_names) {
        compile->n_words = 0;
        for (uint32_t i = 0; i < compile->n_rules; i++) {
                const struct policy_rule *rule = compile->own[i];

                if (!compile_resolves(rule))
                        continue;
                if (compile_resolves_all(rule) && compile_add_word(compile, "*", 1, i) < 0)
                        return -ENOMEM;
                for (size_t j = 0; j < rule->n_to; j++)
                        if (rule->to[j].kind == POLICY_NAME &&
                            compile_add_word(compile, rule->to[j].text, rule->to[j].text_len, i) < 0)
                                return -ENOMEM;
        }
        return compile_words(compile, ret_names);
}

/* --- All of it --------------------------------------------------------------------------------------------------- */

static int compile_choose(struct compile *compile, const struct policy_subject *subject) {
        const struct policy *policy = compile->policy;

        compile->own = calloc(policy->n_rules + 1, sizeof(struct policy_rule *));
        if (!compile->own)
                return -ENOMEM;
        for (size_t i = 0; i < policy->n_rules; i++)
                if (policy_rule_covers(&policy->rules[i], subject))
                        compile->own[compile->n_rules++] = &policy->rules[i];
        return 0;
}

static int compile_rules(struct compile *compile) {
        _cleanup_free_ struct ruling_rule *rules = calloc(compile->n_rules + 1, sizeof(*rules));
        struct ruling_list list = { .n = (uint32_t) compile->n_rules };
        bool has_grant = false;

        if (!rules)
                return -ENOMEM;
        for (size_t i = 0; i < compile->n_rules; i++) {
                const struct policy_rule *rule = compile->own[i];
                char text[RULING_TEXT_SIZE];
                int len = snprintf(text, sizeof(text), "%s: [%s %s]", rule->place, rule->is_allowing ? "allow" : "deny",
                                   rule->name);

                len = len < (int) sizeof(text) ? len : (int) sizeof(text) - 1;
                rules[i] = (struct ruling_rule){ compile_put(compile, text, (size_t) len + 1), rule->is_allowing };
                if (rules[i].text_at == 0)
                        return -ENOMEM;
                has_grant = has_grant || rule->is_allowing;
        }
        list.at = compile_put(compile, rules, compile->n_rules * sizeof(*rules));
        compile_header(compile)->rules = list;
        compile_header(compile)->has_grant = has_grant || compile_header(compile)->is_open;
        return list.at > 0 ? 0 : -ENOMEM;
}

static int compile_exports(struct compile *compile) {
        uint32_t exports = RULING_NONE;

        for (uint32_t i = (uint32_t) compile->n_rules; i > 0; i--)
                if (compile->own[i - 1]->acts & 1u << RULING_EXPORT)
                        exports = i - 1;
        compile_header(compile)->exports = exports;
        return 0;
}

static int compile_all(struct compile *compile, const struct policy_subject *subject) {
        const struct policy *policy = compile->policy;
        struct ruling_paths reach, offer;
        struct ruling_list names;
        int r;

        compile_room(compile, sizeof(struct ruling));
        if (!compile->bytes)
                return -ENOMEM;
        compile_header(compile)->is_open = policy->is_own && subject->uid == policy->own_uid && !subject->is_elsewhere;
        r = compile_choose(compile, subject);
        if (r >= 0)
                r = compile_rules(compile);
        for (int kind = 0; kind < RULING_N_TABLES && r >= 0; kind++)
                for (int near = 0; near < 2 && r >= 0; near++)
                        r = compile_table(compile, (enum ruling_table_kind) kind, near);
        if (r >= 0)
                r = compile_paths(compile, false, &reach);
        if (r >= 0)
                r = compile_paths(compile, true, &offer);
        if (r >= 0)
                r = compile_names(compile, &names);
        if (r < 0)
                return r;
        compile_header(compile)->reach = reach;
        compile_header(compile)->offer = offer;
        compile_header(compile)->names = names;
        return compile_exports(compile);
}

int policy_compile(const struct policy *policy, const struct policy_subject *subject, struct ruling **ret_ruling) {
        cleanup(compile_deinit) struct compile compile = { .policy = policy };
        int r;

        r = compile_all(&compile, subject);
        if (r < 0)
                return r;
        compile_header(&compile)->size = (uint32_t) compile.len;
        *ret_ruling = (struct ruling *) take_ptr(compile.bytes);
        return 0;
}

size_t policy_rule_weight(const struct policy_rule *rule) {
        size_t n_ports = rule->n_ports > 0 ? rule->n_ports : 1;

        return ((rule->n_to > 0 ? rule->n_to : 2) + (rule->n_at > 0 ? rule->n_at : 2)) * n_ports;
}
