/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rules of any kind: the input is the text of policy files, divided by form feeds.
 *
 * What is refused is refused with a line that names a file. What is taken is compiled for clients of several kinds;
 * each ruling is sound, and answers questions about all that the rules themselves name, and their neighbours, as the
 * model does.
 */

#include <string.h>

#include "base/cleanup.h"
#include "daemon/monitor/policy-load.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model.h"

#define FUZZ_FILES_MAX 4
#define FUZZ_NOW_S 1000
#define FUZZ_POINTS_MAX 24 /* addresses, ports, names, paths: of each so many are asked about */
#define FUZZ_FACTS_SIZE 4096
#define FUZZ_N(array) (sizeof(array) / sizeof((array)[0]))

DEFINE_CLEANUP(struct policy *, policy_free)

/* What is asked about. */
struct fuzz_points {
        struct ovl_address addresses[FUZZ_POINTS_MAX];
        uint16_t ports[FUZZ_POINTS_MAX];
        const char *names[FUZZ_POINTS_MAX];
        const struct policy_target *paths[FUZZ_POINTS_MAX];
        size_t n_addresses, n_ports, n_names, n_paths;
};

/* --- Files ------------------------------------------------------------------------------------------------------- */

static void fuzz_write_files(const uint8_t *bytes, size_t len) {
        static const char *const names[FUZZ_FILES_MAX] = { "00.conf", "10.conf", "20.conf", "30.conf" };

        for (size_t i = 0; i < FUZZ_FILES_MAX; i++) {
                const uint8_t *end = i + 1 < FUZZ_FILES_MAX && bytes ? memchr(bytes, '\f', len) : NULL;
                size_t part_len = end ? (size_t) (end - bytes) : len;

                fuzz_write(names[i], bytes, part_len);
                bytes = end ? end + 1 : NULL;
                len = end ? len - part_len - 1 : 0;
        }
}

/* --- Questions --------------------------------------------------------------------------------------------------- */

static struct ovl_address fuzz_address(struct ruling_key key) {
        struct ovl_address address = { .family = OVL_FAMILY_INET6 };

        if (key.high == 0 && key.low >> 32 == 0xffff) {
                address.family = OVL_FAMILY_INET;
                for (unsigned i = 0; i < 4; i++)
                        address.host[i] = (uint8_t) (key.low >> (24 - 8 * i));
                return address;
        }
        for (unsigned i = 0; i < 8; i++) {
                address.host[i] = (uint8_t) (key.high >> (56 - 8 * i));
                address.host[8 + i] = (uint8_t) (key.low >> (56 - 8 * i));
        }
        return address;
}

static struct ruling_key fuzz_step(struct ruling_key key, int step) {
        if (step > 0 && ++key.low == 0)
                key.high++;
        if (step < 0 && key.low-- == 0)
                key.high--;
        return key;
}

static struct ruling_key fuzz_last(const struct policy_target *target) {
        struct ruling_key key = target->first;
        unsigned len = target->prefix_len;

        key.high |= len >= 64 ? 0 : len > 0 ? UINT64_MAX >> len : UINT64_MAX;
        key.low |= len >= 128 ? 0 : len > 64 ? UINT64_MAX >> (len - 64) : UINT64_MAX;
        return key;
}

static void fuzz_add_address(struct fuzz_points *points, struct ruling_key key) {
        if (points->n_addresses < FUZZ_POINTS_MAX)
                points->addresses[points->n_addresses++] = fuzz_address(key);
}

static void fuzz_add_port(struct fuzz_points *points, int port) {
        if (port >= 0 && port <= UINT16_MAX && points->n_ports < FUZZ_POINTS_MAX)
                points->ports[points->n_ports++] = (uint16_t) port;
}

static void fuzz_add_targets(struct fuzz_points *points, const struct policy_target *targets, size_t n) {
        for (size_t i = 0; i < n; i++) {
                if (targets[i].kind == POLICY_NAME && points->n_names < FUZZ_POINTS_MAX)
                        points->names[points->n_names++] = targets[i].text;
                if (targets[i].kind == POLICY_PATH && points->n_paths < FUZZ_POINTS_MAX)
                        points->paths[points->n_paths++] = &targets[i];
                if (targets[i].kind != POLICY_NETWORK)
                        continue;
                fuzz_add_address(points, targets[i].first);
                fuzz_add_address(points, fuzz_step(targets[i].first, -1));
                fuzz_add_address(points, fuzz_last(&targets[i]));
                fuzz_add_address(points, fuzz_step(fuzz_last(&targets[i]), 1));
        }
}

/* First what is always of interest; then what the rules name, as far as there is room. */
static void fuzz_collect(const struct policy *policy, struct fuzz_points *points) {
        static const struct ruling_key always[] = {
                { 0, UINT64_C(0xffffc0000201) },     /* the machine's: 192.0.2.1 */
                { 0, UINT64_C(0xffffc6336407) },     /* found: 198.51.100.7 */
                { 0, UINT64_C(0xffff7f000001) },     /* 127.0.0.1 */
                { 0, 1 },                            /* ::1 */
                { UINT64_C(0x20010db800000000), 1 }, /* the machine's: 2001:db8::1 */
                { UINT64_C(0xfe80000000000000), 5 }, /* fe80::5 */
                { 0, UINT64_C(0xffff08080808) },     /* 8.8.8.8 */
        };

        for (size_t i = 0; i < FUZZ_N(always); i++)
                fuzz_add_address(points, always[i]);
        fuzz_add_port(points, 0);
        fuzz_add_port(points, 80);
        fuzz_add_port(points, UINT16_MAX);
        points->names[points->n_names++] = "a.b.example";
        for (size_t i = 0; i < policy->n_rules; i++) {
                const struct policy_rule *rule = &policy->rules[i];

                fuzz_add_targets(points, rule->to, rule->n_to);
                fuzz_add_targets(points, rule->at, rule->n_at);
                for (size_t j = 0; j < rule->n_ports; j++) {
                        fuzz_add_port(points, rule->ports[j].first - 1);
                        fuzz_add_port(points, rule->ports[j].first);
                        fuzz_add_port(points, rule->ports[j].last);
                        fuzz_add_port(points, rule->ports[j].last + 1);
                }
        }
}

/* The machine is 192.0.2.1 and 2001:db8::1. Names in rules were found to be 127.0.0.1 and 198.51.100.7. */
static const struct ruling_facts *fuzz_facts(const struct fuzz_points *points) {
        static const struct ruling_key own_keys[] = { { 0, UINT64_C(0xffffc0000201) },
                                                      { UINT64_C(0x20010db800000000), 1 } };
        static const struct ruling_key found_keys[] = { { 0, UINT64_C(0xffff7f000001) },
                                                        { 0, UINT64_C(0xffffc6336407) } };
        static _Alignas(8) uint8_t bytes[FUZZ_FACTS_SIZE];
        struct ruling_facts *facts = (struct ruling_facts *) bytes;
        struct ruling_own *own = (struct ruling_own *) (facts + 1);
        struct ruling_found *found = (struct ruling_found *) (own + FUZZ_N(own_keys));

        *facts = (struct ruling_facts){ .own = { sizeof(*facts), FUZZ_N(own_keys) },
                                        .found = { sizeof(*facts) + sizeof(*own) * FUZZ_N(own_keys), 0 } };
        for (size_t i = 0; i < FUZZ_N(own_keys); i++)
                own[i] = (struct ruling_own){ own_keys[i], own_keys[i] };
        for (size_t i = 0; i < FUZZ_N(found_keys); i++)
                for (size_t j = 1; j < points->n_names; j++)
                        found[facts->found.n++] = (struct ruling_found){
                                .address = found_keys[i],
                                .name = ruling_hash(points->names[j]),
                                .until_s = FUZZ_NOW_S - j % 2,
                        };
        facts->size = (uint32_t) ((uint8_t *) (found + facts->found.n) - bytes);
        fuzz_check(ruling_facts_are_sound(facts, sizeof(bytes)), "%u names", facts->found.n);
        return facts;
}

/* --- Answers ----------------------------------------------------------------------------------------------------- */

struct fuzz_case {
        const struct policy *policy;
        const struct policy_subject *subject;
        const struct ruling_facts *facts;
        const struct ruling *ruling;
};

static void fuzz_ask(const struct fuzz_case *on, struct ruling_question *question) {
        const struct policy_rule *expected;
        struct ruling_verdict verdict;
        char text[RULING_TEXT_SIZE];

        question->now_s = FUZZ_NOW_S;
        expected = model_decide(on->policy, on->subject, on->facts, question);
        verdict = ruling_decide(on->ruling, on->facts, question);
        ruling_text(on->ruling, &verdict, text);
        fuzz_check(verdict.is_allowed == (expected ? expected->is_allowing : on->ruling->is_open != 0),
                   "act %d protocol %d: %s, but the model says %s", question->act, question->protocol, text,
                   expected ? expected->place : "none");
        fuzz_check(expected ? strncmp(text, expected->place, strlen(expected->place)) == 0
                            : verdict.rule == RULING_NONE,
                   "act %d protocol %d: %s, but the model says %s", question->act, question->protocol, text,
                   expected ? expected->place : "none");
}

/* A name that the one in a rule means: itself, or one below it. Returns NULL where that would be too long. */
static const char *fuzz_concrete(const char *name, char to[RULING_NAME_MAX + 8]) {
        if (strlen(name) + 4 > RULING_NAME_MAX)
                return NULL;
        sprintf(to, "%s%s", name[0] == '*' ? "x.y" : "", name + (name[0] == '*'));
        return to;
}

static void fuzz_ask_addresses(const struct fuzz_case *on, struct fuzz_points *points) {
        static const struct {
                enum ruling_act act;
                enum ruling_protocol protocol;
        } kinds[] = { { RULING_CONNECT, RULING_TCP },
                      { RULING_SENDTO, RULING_UDP },
                      { RULING_LISTEN, RULING_TCP },
                      { RULING_LISTEN, RULING_UDP } };

        for (size_t i = 0; i < points->n_addresses * points->n_ports * FUZZ_N(kinds); i++) {
                struct ovl_address *address = &points->addresses[i / FUZZ_N(kinds) / points->n_ports];
                struct ruling_question question = {
                        .act = kinds[i % FUZZ_N(kinds)].act,
                        .protocol = kinds[i % FUZZ_N(kinds)].protocol,
                        .address = address,
                };
                char name[RULING_NAME_MAX + 8];

                address->port = points->ports[i / FUZZ_N(kinds) % points->n_ports];
                fuzz_ask(on, &question);
                if (question.act != RULING_CONNECT)
                        continue;
                question.name = fuzz_concrete(points->names[i / FUZZ_N(kinds) % points->n_names], name);
                fuzz_ask(on, &question);
        }
}

/* Each path, and what is one byte shorter. */
static void fuzz_ask_paths(const struct fuzz_case *on, const struct fuzz_points *points) {
        for (size_t i = 0; i < points->n_paths * 4; i++) {
                const struct policy_target *path = points->paths[i / 4];
                struct ovl_address address = { .family = OVL_FAMILY_UNIX,
                                               .path_len = (uint8_t) (path->text_len - i / 2 % 2) };
                struct ruling_question question = { .act = i % 2 ? RULING_LISTEN : RULING_CONNECT,
                                                    .protocol = RULING_UNIX,
                                                    .address = &address };

                memcpy(address.host, path->text, address.path_len);
                fuzz_ask(on, &question);
        }
}

static void fuzz_ask_names(const struct fuzz_case *on, const struct fuzz_points *points) {
        struct ruling_question export = { .act = RULING_EXPORT };

        for (size_t i = 0; i < points->n_names; i++) {
                char name[RULING_NAME_MAX + 8], below[RULING_NAME_MAX + 16];
                struct ruling_question question = { .act = RULING_RESOLVE };

                question.name = fuzz_concrete(points->names[i], name);
                if (!question.name)
                        continue;
                fuzz_ask(on, &question);
                sprintf(below, "z.%s", name);
                question.name = below;
                fuzz_ask(on, &question);
        }
        fuzz_ask(on, &export);
}

static void fuzz_decide(struct policy *policy) {
        static const gid_t groups[] = { 0, 100 };
        static const struct policy_subject subjects[] = {
                { .uid = 0, .gid = 0 },
                { .uid = 7, .gid = 7, .groups = groups, .n_groups = FUZZ_N(groups), .cgroup = "/user.slice/a" },
                { .uid = 7, .unit = "a@b.service", .cgroup = "/system.slice/a@b.service", .is_elsewhere = true },
        };
        struct fuzz_points points = { 0 };
        const struct ruling_facts *facts;

        fuzz_collect(policy, &points);
        facts = fuzz_facts(&points);
        for (size_t i = 0; i < FUZZ_N(subjects); i++) {
                _cleanup_free_ struct ruling *ruling = NULL;
                struct fuzz_case on = { .policy = policy, .subject = &subjects[i], .facts = facts };

                policy->is_own = i == 1;
                policy->own_uid = 7;
                fuzz_check(policy_compile(policy, &subjects[i], &ruling) == 0, "%zu rules", policy->n_rules);
                fuzz_check(ruling_is_sound(ruling, ruling->size), "%u bytes", ruling->size);
                on.ruling = ruling;
                fuzz_ask_addresses(&on, &points);
                fuzz_ask_paths(&on, &points);
                fuzz_ask_names(&on, &points);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
        const char *const directories[] = { fuzz_directory(), NULL };
        _cleanup_(policy_free) struct policy *policy = NULL;
        _cleanup_free_ char *errors = NULL;
        int r;

        fuzz_write_files(bytes, len);
        r = policy_load(directories, &policy, &errors);
        if (r < 0) {
                fuzz_check(!policy && errors && strstr(errors, ".conf:"), "%d: %s", r, errors ? errors : "(no text)");
                return 0;
        }
        fuzz_check(!errors || errors[0] == '\0', "taken, but: %s", errors);
        fuzz_decide(policy);
        return 0;
}
