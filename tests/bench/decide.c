/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a decision of the policy costs: decide RULES [ROUNDS]. All rules are about the client that asks. One kind of
 * rules has a network and a port each, one nests networks as deep as they go, one has one network and a port each.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/policy.h"

enum decide_kind {
        DECIDE_NETWORKS,
        DECIDE_NESTED,
        DECIDE_PORTS,
        DECIDE_N_KINDS,
};

static void decide_die(const char *what) {
        fprintf(stderr, "decide: %s\n", what);
        exit(1);
}

static void decide_fill(struct policy_rule *rule, enum decide_kind kind, unsigned i) {
        struct policy_target *target = policy_append(&rule->to, &rule->n_to, sizeof(*target));
        struct policy_ports *ports = policy_append(&rule->ports, &rule->n_ports, sizeof(*ports));

        if (!target || !ports || asprintf(&rule->name, "r%u", i) < 0 || asprintf(&rule->place, "bench:%u", i) < 0)
                decide_die("no memory");
        rule->is_allowing = i % 3 != 0;
        rule->is_for_all_users = true;
        rule->acts = 1u << RULING_CONNECT;
        rule->protocols = 1u << RULING_TCP;
        *ports = (struct policy_ports){ (uint16_t) (i % 60000), (uint16_t) (i % 60000 + 100) };
        *target = (struct policy_target){ .kind = POLICY_NETWORK };
        if (kind == DECIDE_NETWORKS) {
                target->first = (struct ruling_key){ 0, UINT64_C(0xffff00000000) | (0x0b000000u + i * 256u) };
                target->prefix_len = 120;
        } else if (kind == DECIDE_NESTED) {
                target->prefix_len = (uint8_t) (i % 129);
                target->first = (struct ruling_key){ UINT64_C(0x20010db812345678), UINT64_C(0x123456789abcdef0) };
                target->first.high &= target->prefix_len >= 64 ? UINT64_MAX
                                      : target->prefix_len > 0 ? UINT64_MAX << (64 - target->prefix_len)
                                                               : 0;
                target->first.low &= target->prefix_len >= 128 ? UINT64_MAX
                                     : target->prefix_len > 64 ? UINT64_MAX << (128 - target->prefix_len)
                                                               : 0;
        }
}

static struct ovl_address decide_address(enum decide_kind kind, unsigned i) {
        static const uint8_t nested[] = { 0x20, 1,    0xd,  0xb8, 0x12, 0x34, 0x56, 0x78,
                                          0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0 };
        struct ovl_address address = { .family = OVL_FAMILY_INET, .port = (uint16_t) (i * 7919u) };

        if (kind == DECIDE_NETWORKS) {
                address.host[0] = 11;
                address.host[1] = (uint8_t) (i % 5);
                address.host[2] = (uint8_t) (i >> 3);
        } else {
                address.family = OVL_FAMILY_INET6;
                memcpy(address.host, nested, sizeof(nested));
        }
        return address;
}

static void decide_run(enum decide_kind kind, unsigned n_rules, unsigned n_rounds) {
        static const char *const names[] = { "networks", "nested", "ports" };
        static const struct ruling_facts facts = { .size = sizeof(facts) };
        const struct policy_subject subject = { .uid = 1 };
        struct ruling *ruling;
        struct policy *policy;
        struct policy_rule *rule;
        uint64_t since, compiled_ns, n_allowed = 0;

        if (policy_new(&policy) < 0)
                decide_die("no memory");
        for (unsigned i = 0; i < n_rules; i++) {
                if (policy_add(policy, &rule) < 0)
                        decide_die("too many rules");
                decide_fill(rule, kind, i);
        }
        since = now_ns();
        if (policy_compile(policy, &subject, &ruling) < 0)
                decide_die("no memory");
        compiled_ns = now_ns() - since;
        since = now_ns();
        for (unsigned i = 0; i < n_rounds; i++) {
                const struct ovl_address address = decide_address(kind, i);
                const struct ruling_question question = { .act = RULING_CONNECT, .address = &address };

                n_allowed += ruling_decide(ruling, &facts, &question).is_allowed;
        }
        printf("%-8s %6u rules: %7.1f ns a decision, compiled in %7.1f us to %7u bytes, %3.0f%% allowed\n", names[kind],
               n_rules, (double) (now_ns() - since) / n_rounds, (double) compiled_ns / 1000, ruling->size,
               100.0 * (double) n_allowed / n_rounds);
        free(ruling);
        policy_free(policy);
}

int main(int argc, char **argv) {
        unsigned n_rules = argc > 1 ? (unsigned) strtoul(argv[1], NULL, 10) : 1000;
        unsigned n_rounds = argc > 2 ? (unsigned) strtoul(argv[2], NULL, 10) : 1000000;

        for (int kind = 0; kind < DECIDE_N_KINDS; kind++)
                decide_run((enum decide_kind) kind, n_rules, n_rounds > 0 ? n_rounds : 1);
        return 0;
}
