/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Rulings and facts of anybody's making: a good one, of which the input replaces words and cuts the end. One that is
 * found sound is decided by; it is read nowhere but within itself, which lies in memory of just that size.
 *
 * Input: words of 4 bytes, place and value by turns. Of the place the lowest bit says whether it is one of the facts,
 * and the next whether the value counts from the end, where what is just outside is near. What is over is cut off.
 */

#include <string.h>

#include "base/cleanup.h"
#include "daemon/monitor/policy-load.h"
#include "tests/fuzz/fuzz.h"

static const char fuzz_rules[] = "[deny x]\nUser=*\nAction=connect sendto\nTo=203.0.113.0/24 169.254.169.254\n"
                                 "[allow y]\nUser=*\nAction=connect listen resolve\nPort=80 443 8000-8999\n"
                                 "To=10.0.0.0/8 10.1.0.0/16 fd00::/8 db.example *.sub.example this-host any\n"
                                 "[allow z]\nUser=*\nAction=connect listen\nTo=/run/x @y\nAt=/run/z\n";

struct fuzz_found {
        struct ruling_facts facts;
        struct ruling_own own[2];
        struct ruling_found found[2];
};

static struct ruling *fuzz_make(void) {
        const char *const directories[] = { fuzz_directory(), NULL };
        const struct policy_subject subject = { .uid = 7 };
        _cleanup_free_ char *errors = NULL;
        struct policy *policy = NULL;
        struct ruling *ruling = NULL;

        fuzz_write("rules.conf", fuzz_rules, sizeof(fuzz_rules) - 1);
        fuzz_check(policy_load(directories, &policy, &errors) == 0, "%s", errors);
        fuzz_check(policy_compile(policy, &subject, &ruling) == 0, "no memory");
        policy_free(policy);
        return ruling;
}

static const struct fuzz_found fuzz_facts = {
        .facts = { .size = sizeof(struct fuzz_found),
                   .own = { offsetof(struct fuzz_found, own), 2 },
                   .found = { offsetof(struct fuzz_found, found), 2 } },
        .own = { { { 0, UINT64_C(0xffffc0000201) }, { 0, UINT64_C(0xffffc0000201) } },
                 { { UINT64_C(0x20010db800000000), 1 }, { UINT64_C(0x20010db800000000), 1 } } },
        .found = { { .address = { 0, UINT64_C(0xffffc6336407) }, .until_s = UINT64_MAX } },
};

static void fuzz_patch(uint8_t *bytes, size_t size, const uint8_t *patch) {
        uint32_t place, value;

        memcpy(&place, patch, sizeof(place));
        memcpy(&value, patch + sizeof(place), sizeof(value));
        if (place & 2)
                value = (uint32_t) size + 32 - value % 64;
        memcpy(bytes + place / 4 % (size / 4) * 4, &value, sizeof(value));
}

static void fuzz_decide(const struct ruling *ruling, const struct ruling_facts *facts) {
        static const struct ovl_address addresses[] = {
                { .family = OVL_FAMILY_INET, .port = 80, .host = { 10, 1, 2, 3 } },
                { .family = OVL_FAMILY_INET, .port = 8500, .host = { 198, 51, 100, 7 } },
                { .family = OVL_FAMILY_INET, .port = 443, .host = { 192, 0, 2, 1 } },
                { .family = OVL_FAMILY_INET6, .port = 443, .host = { 0xfd, 1 } },
                { .family = OVL_FAMILY_UNIX, .path_len = 6, .host = "/run/x" },
        };
        char text[RULING_TEXT_SIZE];

        for (unsigned i = 0; i < sizeof(addresses) / sizeof(addresses[0]) * RULING_N_ACTS * 2; i++) {
                const struct ruling_question question = {
                        .act = (enum ruling_act)(i % RULING_N_ACTS),
                        .protocol = (enum ruling_protocol)(i / RULING_N_ACTS % 2),
                        .address = &addresses[i / RULING_N_ACTS / 2],
                        .name = i % 2 ? "db.example" : "a.sub.example",
                };
                struct ruling_verdict verdict = ruling_decide(ruling, facts, &question);

                ruling_text(ruling, &verdict, text);
                fuzz_check(strlen(text) < sizeof(text), "act %u", i);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
        static struct ruling *good;
        _cleanup_free_ struct fuzz_found *facts = malloc(sizeof(*facts));
        _cleanup_free_ uint8_t *ruling = NULL;
        size_t size;

        if (!good)
                good = fuzz_make();
        size = good->size - (len % 8 == 0 ? 0 : bytes[len - 1]);
        ruling = malloc(good->size);
        fuzz_check(ruling && facts, "no memory");
        memcpy(ruling, good, good->size);
        *facts = fuzz_facts;
        for (; len >= 8; bytes += 8, len -= 8)
                if (bytes[0] & 1)
                        fuzz_patch((uint8_t *) facts, sizeof(*facts), bytes);
                else
                        fuzz_patch(ruling, good->size, bytes);
        ruling = realloc(ruling, size);
        fuzz_check(ruling, "no memory");
        if (ruling_is_sound((struct ruling *) ruling, size) && ruling_facts_are_sound(&facts->facts, sizeof(*facts)))
                fuzz_decide((struct ruling *) ruling, &facts->facts);
        return 0;
}
