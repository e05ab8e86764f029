/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The policy: tables of questions to rules as they are written in files, the same questions to a model that tries one
 * rule after the other, what is refused when it is read, and bytes of any kind.
 */

#include "daemon/monitor/policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/monitor/policy-load.h"
#include "tests/harness/harness.h"

#define POLICY_FACTS_SIZE 4096
#define POLICY_NOW_S 1000

DEFINE_CLEANUP(struct policy *, policy_free)

/* --- Files ------------------------------------------------------------------------------------------------------- */

static const char *policy_directory(const char *name) {
        static char paths[4][128];
        static unsigned n;
        char *path = paths[n++ % 4];

        snprintf(path, sizeof(paths[0]), "%s/%s", harness_directory(), name);
        mkdir(path, 0755);
        return path;
}

static void policy_write(const char *directory, const char *name, const void *bytes, size_t len, mode_t mode) {
        _cleanup_fd_ int fd = -1;
        char path[256];

        snprintf(path, sizeof(path), "%s/%s", directory, name);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_ok(fd);
        assert_int_equal(write(fd, bytes, len), len);
        assert_int_equal(fchmod(fd, mode), 0);
}

static struct policy *policy_of(const char *text) {
        const char *directory = policy_directory("p");
        _cleanup_free_ char *errors = NULL;
        struct policy *policy = NULL;

        policy_write(directory, "rules.conf", text, strlen(text), 0644);
        if (policy_load((const char *const[]){ directory, NULL }, &policy, &errors) < 0)
                fail_msg("the rules were not taken: %s", errors);
        return policy;
}

/* --- Questions --------------------------------------------------------------------------------------------------- */

static struct ovl_address policy_address(const char *text, uint16_t port) {
        struct ovl_address address = { .port = port };

        if (inet_pton(AF_INET, text, address.host) == 1) {
                address.family = OVL_FAMILY_INET;
        } else if (inet_pton(AF_INET6, text, address.host) == 1) {
                address.family = OVL_FAMILY_INET6;
        } else {
                address.family = OVL_FAMILY_UNIX;
                address.port = 0;
                address.path_len = (uint8_t) strlen(text);
                memcpy(address.host, text, strlen(text));
                if (text[0] == '@')
                        address.host[0] = '\0';
        }
        return address;
}

static void policy_add_found(struct ruling_facts *facts, const char *address, const char *name, uint64_t until_s) {
        struct ruling_found *found = (struct ruling_found *) ((uint8_t *) facts + facts->found.at);
        const struct ovl_address parsed = policy_address(address, 0);

        found[facts->found.n++] =
                (struct ruling_found){ .address = ruling_key(&parsed), .name = ruling_hash(name), .until_s = until_s };
        facts->size = (uint32_t) (facts->found.at + facts->found.n * sizeof(*found));
}

/* The machine is 192.0.2.1 and 2001:db8::1; db.example was found to be 198.51.100.7, and to be the machine, too. */
static struct ruling_facts *policy_facts(void) {
        static _Alignas(8) uint8_t bytes[POLICY_FACTS_SIZE];
        struct ruling_facts *facts = (struct ruling_facts *) bytes;
        struct ruling_own *own = (struct ruling_own *) (facts + 1);
        const struct ovl_address v4 = policy_address("192.0.2.1", 0), v6 = policy_address("2001:db8::1", 0);

        *facts = (struct ruling_facts){ .own = { sizeof(*facts), 2 } };
        own[0] = (struct ruling_own){ ruling_key(&v4), ruling_key(&v4) };
        own[1] = (struct ruling_own){ ruling_key(&v6), ruling_key(&v6) };
        facts->found.at = (uint32_t) (sizeof(*facts) + 2 * sizeof(*own));
        policy_add_found(facts, "127.0.0.1", "db.example", POLICY_NOW_S + 1);
        policy_add_found(facts, "192.0.2.1", "db.example", POLICY_NOW_S + 1);
        policy_add_found(facts, "198.51.100.7", "db.example", POLICY_NOW_S + 1);
        policy_add_found(facts, "198.51.100.8", "db.example", POLICY_NOW_S - 1);
        policy_add_found(facts, "198.51.100.9", "*.sub.example", POLICY_NOW_S);
        assert_true(ruling_facts_are_sound(facts, sizeof(bytes)));
        return facts;
}

struct policy_case {
        const char *act; /* connect, listen, sendto, resolve, export */
        const char *protocol;
        const char *address;
        uint16_t port;
        const char *rule; /* that decides; NULL: none */
        bool is_allowed;
        const char *name; /* of a connect: that was asked for; NULL: none was */
};

static struct ruling_question policy_question(const struct policy_case *test, struct ovl_address *address) {
        struct ruling_question question = { .now_s = POLICY_NOW_S, .name = test->name, .address = address };
        static const char *const acts[] = { "connect", "listen", "sendto", "resolve", "export" };

        for (int i = 0; i < RULING_N_ACTS; i++)
                if (strcmp(test->act, acts[i]) == 0)
                        question.act = (enum ruling_act) i;
        question.protocol = strcmp(test->protocol, "udp") == 0    ? RULING_UDP
                            : strcmp(test->protocol, "unix") == 0 ? RULING_UNIX
                                                                  : RULING_TCP;
        if (question.act == RULING_RESOLVE)
                question.name = test->address;
        if (question.act < RULING_RESOLVE)
                *address = policy_address(test->address, test->port);
        return question;
}

static struct ruling *policy_ruling(const struct policy *policy, const struct policy_subject *subject) {
        struct ruling *ruling;

        assert_int_equal(policy_compile(policy, subject, &ruling), 0);
        assert_true(ruling_is_sound(ruling, ruling->size));
        return ruling;
}

static void policy_expect(const struct policy *policy, const struct policy_subject *subject,
                          const struct policy_case *cases, size_t n) {
        _cleanup_free_ struct ruling *ruling = policy_ruling(policy, subject);
        const struct ruling_facts *facts = policy_facts();

        for (size_t i = 0; i < n; i++) {
                struct ovl_address address;
                const struct ruling_question question = policy_question(&cases[i], &address);
                struct ruling_verdict verdict = ruling_decide(ruling, facts, &question);
                char text[RULING_TEXT_SIZE], wanted[64] = "no rule allows it";

                ruling_text(ruling, &verdict, text);
                if (cases[i].rule)
                        snprintf(wanted, sizeof(wanted), "[%s %s]", cases[i].is_allowed ? "allow" : "deny",
                                 cases[i].rule);
                else if (cases[i].is_allowed)
                        snprintf(wanted, sizeof(wanted), "own user");
                if (verdict.is_allowed != cases[i].is_allowed || !strstr(text, wanted))
                        fail_msg("case %zu: %s %s %s port %u is %s (%s), not %s (%s)", i, cases[i].act,
                                 cases[i].protocol, cases[i].address, cases[i].port,
                                 verdict.is_allowed ? "allowed" : "denied", text,
                                 cases[i].is_allowed ? "allowed" : "denied", wanted);
        }
}

/* --- Tables ------------------------------------------------------------------------------------------------------ */

#define WEB "[deny metadata]\nUser=*\nAction=connect sendto\nTo=203.0.113.0/24 169.254.169.254\n"

static void policy_nothing_is_allowed_by_itself(void **state) {
        static const struct policy_case cases[] = {
                { "connect", "tcp", "198.51.100.1", 80 }, { "connect", "tcp", "127.0.0.1", 80 },
                { "connect", "tcp", "::1", 80 },          { "connect", "tcp", "2001:db8::2", 80 },
                { "connect", "udp", "198.51.100.1", 53 }, { "sendto", "udp", "198.51.100.1", 53 },
                { "listen", "tcp", "0.0.0.0", 80 },       { "listen", "udp", "::", 80 },
                { "connect", "unix", "/run/x", 0 },       { "listen", "unix", "@x", 0 },
                { "resolve", "", "db.example", 0 },       { "export", "", "", 0 },
        };
        _cleanup_(policy_free) struct policy *policy = policy_of("");
        struct policy_subject subject = { .uid = 0 };

        policy_expect(policy, &subject, cases, HARNESS_N(cases));
        policy->is_own = true;
        policy->own_uid = 1;
        policy_expect(policy, &subject, cases, HARNESS_N(cases));
        subject.uid = 1;
        subject.is_elsewhere = true;
        policy_expect(policy, &subject, cases, HARNESS_N(cases));
}

static void policy_own_user_may_what_it_could(void **state) {
        static const struct policy_case cases[] = {
                { "connect", "tcp", "198.51.100.1", 80, NULL, true },
                { "connect", "tcp", "127.0.0.1", 80, NULL, true },
                { "sendto", "udp", "::1", 53, NULL, true },
                { "listen", "tcp", "0.0.0.0", 80, NULL, true },
                { "connect", "unix", "/run/x", 0, NULL, true },
                { "resolve", "", "a", 0, NULL, true },
                { "export", "", "", 0, NULL, true },
                { "connect", "tcp", "203.0.113.9", 80, "metadata" },
        };
        _cleanup_(policy_free) struct policy *policy = policy_of(WEB);
        const struct policy_subject subject = { .uid = 7 };

        policy->is_own = true;
        policy->own_uid = 7;
        policy_expect(policy, &subject, cases, HARNESS_N(cases));
}

static void policy_addresses_and_ports(void **state) {
        static const struct policy_case cases[] = {
                { "connect", "tcp", "10.1.2.3", 5432, "db", true },
                { "connect", "tcp", "10.255.255.255", 5432, "db", true },
                { "connect", "tcp", "10.0.0.0", 5432, "db", true },
                { "connect", "tcp", "11.0.0.0", 5432 },
                { "connect", "tcp", "9.255.255.255", 5432 },
                { "connect", "tcp", "10.1.2.3", 5431 },
                { "connect", "tcp", "10.1.2.3", 5433 },
                { "connect", "tcp", "::ffff:10.1.2.3", 5432, "db", true },
                { "connect", "tcp", "::ffff:11.1.2.3", 5432 },
                { "connect", "tcp", "::10.1.2.3", 5432 },
                { "connect", "udp", "10.1.2.3", 5432 },
                { "sendto", "udp", "10.1.2.3", 5432 },
                { "listen", "tcp", "10.1.2.3", 5432 },
                { "connect", "tcp", "10.9.0.1", 5432, "not-there" },
                { "connect", "tcp", "10.9.255.255", 5432, "not-there" },
                { "connect", "tcp", "10.10.0.0", 5432, "db", true },
                { "connect", "tcp", "10.8.255.255", 5432, "db", true },
                { "connect", "tcp", "10.9.7.7", 5432, "but-there", true },
                { "connect", "tcp", "10.9.7.7", 80, "but-there", true },
                { "connect", "tcp", "10.9.7.8", 80, "not-there" },
                { "connect", "tcp", "10.2.0.1", 8000, "range", true },
                { "connect", "tcp", "10.2.0.1", 8999, "range", true },
                { "connect", "tcp", "10.2.0.1", 7999 },
                { "connect", "tcp", "10.2.0.1", 9000 },
                { "connect", "tcp", "10.2.0.1", 8080, "hole" },
                { "connect", "tcp", "10.2.0.1", 8079, "range", true },
                { "connect", "tcp", "10.2.0.1", 8081, "range", true },
                { "connect", "tcp", "2001:db8:1::5", 443, "six", true },
                { "connect", "tcp", "2001:db8:1:ffff:ffff:ffff:ffff:ffff", 443, "six", true },
                { "connect", "tcp", "2001:db8:2::", 443 },
                { "connect", "tcp", "2001:db8:0:ffff::", 443 },
                { "connect", "tcp", "2001:db8:1:2::5", 443, "not-six" },
                { "connect", "tcp", "2001:db8:1:3::5", 443, "six", true },
                { "connect", "tcp", "2001:db8:1::5", 0 },
                { "connect", "tcp", "2001:db8:1::5", 65535 },
                { "connect", "tcp", "2001:db8:1::5", 444, "six", true },
        };
        _cleanup_(policy_free) struct policy *policy =
                policy_of("[allow but-there]\nUser=*\nAction=connect\nTo=10.9.7.7\n"
                          "[deny not-there]\nUser=*\nAction=connect\nTo=10.9.0.0/16\n"
                          "[deny hole]\nUser=*\nAction=connect\nTo=10.2.0.1\nPort=8080\n"
                          "[allow range]\nUser=*\nAction=connect\nTo=10.2.0.0/16\nPort=8000-8999\n"
                          "[allow db]\nUser=*\nAction=connect\nProtocol=tcp\nTo=10.0.0.0/8\nPort=5432\n"
                          "[deny not-six]\nUser=*\nAction=connect\nTo=2001:db8:1:2::/64\n"
                          "[allow six]\nUser=*\nAction=connect\nTo=2001:db8:1::/48\nPort=443 444\n");
        const struct policy_subject subject = { .uid = 7 };

        policy_expect(policy, &subject, cases, HARNESS_N(cases));
}

static void policy_near_addresses_must_be_named(void **state) {
        static const struct policy_case all[] = {
                { "connect", "tcp", "198.51.100.1", 80, "all", true },
                { "connect", "tcp", "2001:db8::2", 80, "all", true },
                { "connect", "tcp", "8.8.8.8", 53, "all", true },
                { "sendto", "udp", "8.8.8.8", 53, "all", true },
                { "connect", "udp", "8.8.8.8", 53, "all", true },
                { "connect", "tcp", "127.0.0.1", 80 },
                { "connect", "tcp", "127.255.255.254", 80 },
                { "connect", "tcp", "126.255.255.255", 80, "all", true },
                { "connect", "tcp", "128.0.0.0", 80, "all", true },
                { "connect", "tcp", "::1", 80 },
                { "connect", "tcp", "::", 80 },
                { "connect", "tcp", "0.0.0.0", 80 },
                { "connect", "tcp", "0.1.2.3", 80 },
                { "connect", "tcp", "1.0.0.0", 80, "all", true },
                { "connect", "tcp", "::ffff:127.0.0.1", 80 },
                { "connect", "tcp", "::ffff:0.0.0.0", 80 },
                { "connect", "tcp", "::127.0.0.1", 80 },
                { "connect", "tcp", "::ffff:8.8.8.8", 80, "all", true },
                { "connect", "tcp", "169.254.169.254", 80 },
                { "connect", "tcp", "100.100.100.200", 80 },
                { "connect", "tcp", "::ffff:100.100.100.200", 80 },
                { "connect", "tcp", "100.100.100.201", 80, "all", true },
                { "connect", "tcp", "fd00:ec2::254", 80 },
                { "connect", "tcp", "fd00:ec2::253", 80, "all", true },
                { "connect", "tcp", "fd20:ce::254", 80 },
                { "connect", "tcp", "fd00:ce::254", 80, "all", true },
                { "sendto", "udp", "fd00:ec2::254", 53 },
                { "connect", "tcp", "169.253.255.255", 80, "all", true },
                { "connect", "tcp", "169.255.0.0", 80, "all", true },
                { "connect", "tcp", "fe80::1", 80 },
                { "connect", "tcp", "febf::1", 80 },
                { "connect", "tcp", "fec0::1", 80, "all", true },
                { "connect", "tcp", "fe7f::1", 80, "all", true },
                { "connect", "tcp", "192.0.2.1", 80 },
                { "connect", "tcp", "192.0.2.2", 80, "all", true },
                { "connect", "tcp", "192.0.2.0", 80, "all", true },
                { "connect", "tcp", "::ffff:192.0.2.1", 80 },
                { "connect", "tcp", "2001:db8::1", 80 },
                { "connect", "tcp", "2001:db8::", 80, "all", true },
                { "sendto", "udp", "192.0.2.1", 80 },
                { "sendto", "udp", "127.0.0.1", 80 },
                { "sendto", "udp", "224.0.0.251", 5353 },
                { "sendto", "udp", "223.255.255.255", 5353, "all", true },
                { "sendto", "udp", "255.255.255.255", 67 },
                { "sendto", "udp", "240.0.0.1", 67 },
                { "sendto", "udp", "ff02::fb", 5353 },
                { "listen", "tcp", "0.0.0.0", 80, "all", true },
                { "listen", "tcp", "::", 80, "all", true },
                { "listen", "tcp", "127.0.0.1", 80, "all", true },
                { "listen", "udp", "192.0.2.1", 80, "all", true },
        };
        static const struct policy_case some[] = {
                { "connect", "tcp", "127.0.0.1", 80, "near", true },
                { "connect", "tcp", "127.9.9.9", 80, "near", true },
                { "connect", "tcp", "::1", 80, "near", true },
                { "connect", "tcp", "::ffff:127.0.0.1", 80, "near", true },
                { "connect", "tcp", "0.0.0.0", 80 },
                { "connect", "tcp", "::", 80 },
                { "connect", "tcp", "192.0.2.1", 80 },
                { "connect", "tcp", "192.0.2.1", 81, "this", true },
                { "connect", "tcp", "2001:db8::1", 81, "this", true },
                { "connect", "tcp", "2001:db8::2", 81 },
                { "connect", "tcp", "2001:db8::1", 82, "exact", true },
                { "connect", "tcp", "192.0.2.1", 83 },
                { "connect", "tcp", "192.0.2.2", 83, "wide", true },
                { "connect", "tcp", "169.254.1.1", 84, "link", true },
                { "connect", "tcp", "fe80::5", 84, "link", true },
                { "connect", "tcp", "169.254.1.1", 83 },
                { "sendto", "udp", "224.0.0.251", 5353, "multi", true },
                { "sendto", "udp", "ff02::fb", 5353, "multi", true },
                { "sendto", "udp", "255.255.255.255", 5353, "multi", true },
                { "sendto", "udp", "255.255.255.254", 5353 },
                { "connect", "tcp", "169.254.169.254", 84, "link", true },
                { "connect", "tcp", "127.0.0.1", 83 },
                { "connect", "tcp", "0.0.0.0", 85, "zero", true },
                { "connect", "tcp", "fd00:ec2::254", 86, "cloud", true },
                { "connect", "tcp", "fd20:ce::254", 86 },
                { "connect", "tcp", "fd20:ce::255", 86, "cloud", true },
        };
        _cleanup_(policy_free) struct policy *wide =
                policy_of("[allow all]\nUser=*\nAction=connect listen sendto\nTo=0.0.0.0/0 ::/0\n");
        _cleanup_(policy_free) struct policy *named =
                policy_of("[allow near]\nUser=*\nAction=connect\nTo=localhost\nPort=80\n"
                          "[allow this]\nUser=*\nAction=connect\nTo=this-host\nPort=81\n"
                          "[allow exact]\nUser=*\nAction=connect\nTo=2001:db8::1\nPort=82\n"
                          "[allow wide]\nUser=*\nAction=connect\nTo=192.0.0.0/8 169.0.0.0/8 126.0.0.0/7\nPort=83\n"
                          "[allow link]\nUser=*\nAction=connect\nTo=link-local\nPort=84\n"
                          "[allow zero]\nUser=*\nAction=connect\nTo=0.0.0.0\nPort=85\n"
                          "[allow cloud]\nUser=*\nAction=connect\nTo=fd00:ec2::254 fd20::/16\nPort=86\n"
                          "[allow multi]\nUser=*\nAction=sendto\nTo=multicast\n");
        const struct policy_subject subject = { .uid = 7 };
        struct ruling_facts *facts = policy_facts();

        policy_expect(wide, &subject, all, HARNESS_N(all));
        policy_expect(named, &subject, some, HARNESS_N(some));
        facts->is_incomplete = true;
        assert_true(ruling_is_near(&(struct ruling_key){ 1, 1 }, facts));
}

static void policy_ipv6_is_not_ipv4(void **state) {
        static const struct policy_case cases[] = {
                { "connect", "tcp", "2001:db8::2", 80, "six", true },
                { "connect", "tcp", "8.8.8.8", 80 },
                { "connect", "tcp", "::ffff:8.8.8.8", 80 },
                { "connect", "tcp", "::fffe:ffff:ffff", 80, "six", true },
                { "connect", "tcp", "0:0:0:0:1::", 80, "six", true },
                { "connect", "tcp", "8.8.8.8", 81, "four", true },
                { "connect", "tcp", "::ffff:8.8.8.8", 81, "four", true },
                { "connect", "tcp", "2001:db8::2", 81 },
                { "connect", "tcp", "8.8.8.8", 82, "both", true },
                { "connect", "tcp", "2001:db8::2", 82, "both", true },
                { "connect", "tcp", "9.9.9.9", 83, "mapped", true },
        };
        _cleanup_(policy_free) struct policy *policy =
                policy_of("[allow six]\nUser=*\nAction=connect\nTo=::/0\nPort=80\n"
                          "[allow four]\nUser=*\nAction=connect\nTo=0.0.0.0/0\nPort=81\n"
                          "[allow both]\nUser=*\nAction=connect\nTo=any\nPort=82\n"
                          "[allow mapped]\nUser=*\nAction=connect\nTo=::ffff:9.0.0.0/104\nPort=83\n");
        const struct policy_subject subject = { .uid = 7 };

        policy_expect(policy, &subject, cases, HARNESS_N(cases));
}

static void policy_names_cover_what_was_found(void **state) {
        static const struct policy_case cases[] = {
                { "resolve", "", "db.example", 0, "db", true },
                { "resolve", "", "a.sub.example", 0, "sub", true },
                { "resolve", "", "a.b.sub.example", 0, "sub", true },
                { "resolve", "", "sub.example", 0 },
                { "resolve", "", "xdb.example", 0 },
                { "resolve", "", "db.example.org", 0 },
                { "resolve", "", "secret.sub.example", 0, "secret" },
                { "connect", "tcp", "198.51.100.7", 5432, "db", true },
                { "connect", "tcp", "::ffff:198.51.100.7", 5432, "db", true },
                { "connect", "tcp", "198.51.100.7", 5433 },
                { "connect", "tcp", "198.51.100.8", 5432 },
                { "connect", "tcp", "198.51.100.9", 1, "sub", true },
                { "connect", "tcp", "198.51.100.10", 1 },
                { "connect", "tcp", "127.0.0.1", 5432 },
                { "connect", "tcp", "192.0.2.1", 5432 },
                { "sendto", "udp", "198.51.100.9", 1 },
                /* Connects to names, which were found just now, and are in no memory. */
                { "connect", "tcp", "198.51.100.77", 5432, "db", true, "db.example" },
                { "connect", "tcp", "::ffff:198.51.100.77", 5432, "db", true, "db.example" },
                { "connect", "udp", "198.51.100.77", 5432, "db", true, "db.example" },
                { "connect", "tcp", "198.51.100.77", 5433, NULL, false, "db.example" },
                { "connect", "tcp", "198.51.100.77", 5432, NULL, false, "xdb.example" },
                { "connect", "tcp", "198.51.100.77", 5432, NULL, false, "x.db.example" },
                { "connect", "tcp", "198.51.100.77", 5432, NULL, false, "example" },
                { "connect", "tcp", "198.51.100.7", 5432, "db", true, "other.example" }, /* it is db.example's, too */
                { "connect", "tcp", "198.51.100.77", 1, "sub", true, "a.b.sub.example" },
                { "connect", "tcp", "198.51.100.77", 1, NULL, false, "sub.example" },
                { "connect", "udp", "198.51.100.77", 1, NULL, false, "a.sub.example" },
                { "listen", "tcp", "198.51.100.77", 5432, NULL, false, "db.example" },
                { "sendto", "udp", "198.51.100.77", 5432, NULL, false, "db.example" },
                /* What is near is opened by no name. */
                { "connect", "tcp", "127.0.0.1", 5432, NULL, false, "db.example" },
                { "connect", "tcp", "127.9.9.9", 5432, NULL, false, "db.example" },
                { "connect", "tcp", "::1", 5432, NULL, false, "db.example" },
                { "connect", "tcp", "::ffff:127.0.0.1", 5432, NULL, false, "db.example" },
                { "connect", "tcp", "169.254.169.254", 5432, NULL, false, "db.example" },
                { "connect", "tcp", "fe80::1", 5432, NULL, false, "db.example" },
                { "connect", "tcp", "224.0.0.1", 5432, NULL, false, "db.example" },
                { "connect", "tcp", "255.255.255.255", 5432, NULL, false, "db.example" },
                { "connect", "tcp", "0.0.0.0", 5432, NULL, false, "db.example" },
                { "connect", "tcp", "192.0.2.1", 5432, NULL, false, "db.example" },
                { "connect", "tcp", "2001:db8::1", 5432, NULL, false, "db.example" },
        };
        static const struct policy_case denied[] = {
                /* A rule that denies a name denies what it stands for, also what is near. */
                { "connect", "tcp", "198.51.100.77", 80, "bad", false, "bad.example" },
                { "connect", "tcp", "127.0.0.1", 80, "bad", false, "bad.example" },
                { "connect", "tcp", "198.51.100.77", 80, "all", true, "good.example" },
                { "connect", "tcp", "127.0.0.1", 80, "near", true, "good.example" },
                { "connect", "tcp", "198.51.100.77", 80, "all", true },
        };
        /* Both names have the same number: whoever owns one of them has searched for it. */
        static const struct policy_case twins[] = {
                { "connect", "tcp", "198.51.100.77", 5432, "one", true, "r3fldh7ph7rgm.example" },
                { "resolve", "", "sr3a5ynu6p6nm.example", 0, "all", true },
                { "connect", "tcp", "198.51.100.77", 5432, NULL, false, "sr3a5ynu6p6nm.example" },
                { "connect", "tcp", "198.51.100.77", 5433, NULL, false, "sr3a5ynu6p6nm.example" },
        };
        static const struct policy_case pair[] = {
                { "connect", "tcp", "198.51.100.77", 5432, "one", true, "r3fldh7ph7rgm.example" },
                { "connect", "tcp", "198.51.100.77", 5433, NULL, false, "r3fldh7ph7rgm.example" },
                { "connect", "tcp", "198.51.100.77", 5432, NULL, false, "sr3a5ynu6p6nm.example" },
                { "connect", "tcp", "198.51.100.77", 5433, "other", true, "sr3a5ynu6p6nm.example" },
        };
        static const struct policy_case any[] = {
                { "resolve", "", "db.example", 0, "all", true }, { "resolve", "", "x", 0, "all", true },
                { "resolve", "", "bad.example", 0, "bad" },      { "resolve", "", "not.bad.example", 0, "all", true },
                { "connect", "tcp", "198.51.100.7", 1 },
        };
        _cleanup_(policy_free) struct policy *policy =
                policy_of("[deny secret]\nUser=*\nAction=resolve\nTo=Secret.sub.example\n"
                          "[allow db]\nUser=*\nAction=connect\nTo=DB.example.\nPort=5432\n"
                          "[allow sub]\nUser=*\nAction=connect\nProtocol=tcp\nTo=*.sub.example\n");
        _cleanup_(policy_free) struct policy *all = policy_of("[deny bad]\nUser=*\nAction=resolve\nTo=bad.example\n"
                                                              "[allow all]\nUser=*\nAction=resolve\nTo=any\n");
        _cleanup_(policy_free) struct policy *denying = policy_of("[deny bad]\nUser=*\nAction=connect\nTo=bad.example\n"
                                                                  "[allow near]\nUser=*\nAction=connect\nTo=localhost\n"
                                                                  "[allow all]\nUser=*\nAction=connect\nTo=any\n");
        _cleanup_(policy_free) struct policy *twin =
                policy_of("[allow one]\nUser=*\nAction=connect\nTo=r3fldh7ph7rgm.example\nPort=5432\n"
                          "[allow all]\nUser=*\nAction=resolve\nTo=any\n");
        _cleanup_(policy_free) struct policy *both =
                policy_of("[allow one]\nUser=*\nAction=connect\nTo=r3fldh7ph7rgm.example\nPort=5432\n"
                          "[allow other]\nUser=*\nAction=connect\nTo=sr3a5ynu6p6nm.example\nPort=5433\n"
                          "[allow all]\nUser=*\nAction=resolve\nTo=any\n");
        const struct policy_subject subject = { .uid = 7 };
        uint64_t hashes[4];

        assert_true(ruling_hash("r3fldh7ph7rgm.example") == ruling_hash("sr3a5ynu6p6nm.example"));
        policy_expect(twin, &subject, twins, HARNESS_N(twins));
        policy_expect(both, &subject, pair, HARNESS_N(pair));
        policy_expect(policy, &subject, cases, HARNESS_N(cases));
        policy_expect(denying, &subject, denied, HARNESS_N(denied));
        policy_expect(all, &subject, any, HARNESS_N(any));
        assert_int_equal(policy_name_hashes(policy, "db.example", hashes, 4), 1);
        assert_true(hashes[0] == ruling_hash("db.example"));
        assert_int_equal(policy_name_hashes(policy, "secret.sub.example", hashes, 4), 2);
        assert_int_equal(policy_name_hashes(policy, "other.example", hashes, 4), 0);
}

static void policy_paths_and_exports(void **state) {
        static const struct policy_case cases[] = {
                { "connect", "unix", "/run/db/s.5432", 0, "db", true },
                { "sendto", "unix", "/run/db/s.5432", 0, "db", true },
                { "listen", "unix", "/run/db/s.5432", 0 },
                { "connect", "unix", "/run/db/s.543", 0 },
                { "connect", "unix", "/run/db/s.54322", 0 },
                { "connect", "unix", "@abstract", 0, "db", true },
                { "connect", "unix", "abstract", 0 },
                { "listen", "unix", "/run/mine", 0, "mine", true },
                { "connect", "unix", "/run/mine", 0 },
                { "connect", "unix", "/run/secret", 0, "secret" },
                { "listen", "unix", "@mine", 0 },
                { "export", "", "", 0, "out", true },
                { "connect", "tcp", "8.8.8.8", 80 },
        };
        static const struct policy_case none[] = {
                { "connect", "unix", "/run/db/s.5432", 0, "unix" },
                { "listen", "unix", "@x", 0, "unix" },
                { "export", "", "", 0, "out" },
        };
        _cleanup_(policy_free) struct policy *policy =
                policy_of("[deny secret]\nUser=*\nAction=connect\nTo=/run/secret\n"
                          "[allow db]\nUser=*\nAction=connect\nTo=/run/db/s.5432 @abstract /run/secret\n"
                          "[allow mine]\nUser=*\nAction=listen\nProtocol=unix\nAt=/run/mine\n"
                          "[allow out]\nUser=*\nAction=export\n");
        _cleanup_(policy_free) struct policy *denied =
                policy_of("[deny unix]\nUser=*\nAction=connect listen\nProtocol=unix\n"
                          "[allow db]\nUser=*\nAction=connect\nTo=/run/db/s.5432\n"
                          "[deny out]\nUser=*\nAction=export\n[allow also]\nUser=*\nAction=export\n");
        const struct policy_subject subject = { .uid = 7 };

        policy_expect(policy, &subject, cases, HARNESS_N(cases));
        policy_expect(denied, &subject, none, HARNESS_N(none));
}

static void policy_listens_where_it_says(void **state) {
        static const struct policy_case cases[] = {
                { "listen", "tcp", "0.0.0.0", 80, "web", true },
                { "listen", "tcp", "::", 80, "web", true },
                { "listen", "tcp", "127.0.0.1", 80, "web", true },
                { "listen", "tcp", "0.0.0.0", 81 },
                { "listen", "udp", "0.0.0.0", 80 },
                { "connect", "tcp", "8.8.8.8", 80 },
                { "listen", "tcp", "192.0.2.1", 8443, "at", true },
                { "listen", "tcp", "0.0.0.0", 8443 },
                { "listen", "udp", "192.0.2.1", 8443, "at", true },
                { "listen", "tcp", "192.0.2.2", 8443 },
                { "listen", "tcp", "::ffff:192.0.2.1", 8443, "at", true },
                { "listen", "tcp", "127.0.0.1", 9000, "local", true },
                { "listen", "tcp", "0.0.0.0", 9000 },
                { "listen", "tcp", "192.0.2.1", 9001, "this", true },
                { "listen", "tcp", "192.0.2.2", 9001 },
        };
        _cleanup_(policy_free) struct policy *policy =
                policy_of("[allow web]\nUser=*\nAction=listen\nProtocol=tcp\nPort=80\n"
                          "[allow at]\nUser=*\nAction=listen\nAt=192.0.2.1\nPort=8443\n"
                          "[allow local]\nUser=*\nAction=listen\nAt=localhost\nPort=9000\n"
                          "[allow this]\nUser=*\nAction=listen\nAt=this-host\nPort=9001\n");
        const struct policy_subject subject = { .uid = 7 };

        policy_expect(policy, &subject, cases, HARNESS_N(cases));
}

/* --- Whom a rule is about ---------------------------------------------------------------------------------------- */

static void policy_clients_are_told_apart(void **state) {
        static const gid_t groups[] = { 20, 30 };
        static const struct {
                struct policy_subject subject;
                const char *rule; /* NULL: none */
        } tests[] = {
                { { .uid = 100 }, "user" },
                { { .uid = 101, .gid = 101 }, NULL },
                { { .uid = 100, .is_elsewhere = true }, NULL },
                { { .uid = 101, .gid = 20 }, "group" },
                { { .uid = 101, .groups = groups, .n_groups = 2 }, "group" },
                { { .uid = 101, .groups = groups + 1, .n_groups = 1 }, NULL },
                { { .uid = 101, .gid = 20, .is_elsewhere = true }, NULL },
                { { .uid = 101, .unit = "web.service" }, "unit" },
                { { .uid = 101, .unit = "web.service", .is_elsewhere = true }, "unit" },
                { { .uid = 101, .unit = "web@a.service", .is_elsewhere = true }, "unit" },
                { { .uid = 101, .unit = "xweb.service" }, NULL },
                { { .uid = 101, .unit = "web.service.d" }, NULL },
                { { .uid = 101, .cgroup = "/system.slice/box" }, "cgroup" },
                { { .uid = 101, .cgroup = "/system.slice/box/inner", .is_elsewhere = true }, "cgroup" },
                { { .uid = 101, .cgroup = "/system.slice/boxes" }, NULL },
                { { .uid = 101, .cgroup = "/system.slice" }, NULL },
                { { .uid = 200, .unit = "both.service", .is_elsewhere = true }, "both" },
                { { .uid = 201, .unit = "both.service" }, NULL },
                { { .uid = 200 }, NULL },
        };
        static const char text[] = "[allow user]\nUser=100\nAction=connect\n"
                                   "[allow group]\nGroup=20\nAction=connect\n"
                                   "[allow unit]\nUnit=web.service web@*.service\nAction=connect\n"
                                   "[allow cgroup]\nCgroup=/system.slice/box\nAction=connect\n"
                                   "[allow both]\nUser=200\nUnit=both.service\nAction=connect\n";
        _cleanup_(policy_free) struct policy *policy = policy_of(text);

        for (size_t i = 0; i < HARNESS_N(tests); i++) {
                const struct policy_case test = { "connect", "tcp", "8.8.8.8", 80, tests[i].rule, tests[i].rule };

                policy_expect(policy, &tests[i].subject, &test, 1);
        }
}

/* Who is locked up is not allowed more than who is not. */
static void policy_denials_hold_everywhere(void **state) {
        static const struct policy_case cases[] = {
                { "connect", "tcp", "203.0.113.9", 80, "metadata" },
                { "connect", "tcp", "203.0.113.10", 80, "guests" },
                { "connect", "tcp", "203.0.113.11", 80, "unit", true },
        };
        static const gid_t groups[] = { 20 };
        const struct policy_subject subject = {
                .uid = 101, .groups = groups, .n_groups = 1, .unit = "web.service", .is_elsewhere = true
        };
        _cleanup_(policy_free) struct policy *policy =
                policy_of("[deny metadata]\nUser=*\nAction=connect\nTo=203.0.113.9\n"
                          "[deny guests]\nGroup=20\nAction=connect\nTo=203.0.113.10\n"
                          "[allow users]\nUser=*\nAction=connect\n"
                          "[allow unit]\nUnit=web.service\nAction=connect\n");

        policy_expect(policy, &subject, cases, HARNESS_N(cases));
}

/* --- A model ----------------------------------------------------------------------------------------------------- */

static bool model_has_prefix(const struct ruling_key *key, const struct policy_target *target) {
        struct ruling_key a = *key, b = target->first;
        bool is_mapped = a.high == 0 && a.low >> 32 == 0xffff;

        if (is_mapped && target->prefix_len < 96)
                return false;
        for (unsigned bit = 0; bit < target->prefix_len; bit++) {
                uint64_t x = bit < 64 ? a.high >> (63 - bit) : a.low >> (127 - bit);
                uint64_t y = bit < 64 ? b.high >> (63 - bit) : b.low >> (127 - bit);

                if ((x ^ y) & 1)
                        return false;
        }
        return true;
}

static bool model_is_own(const struct ruling_key *key, const struct ruling_facts *facts) {
        const struct ruling_own *own = (const struct ruling_own *) ((const uint8_t *) facts + facts->own.at);

        for (uint32_t i = 0; i < facts->own.n; i++)
                if (ruling_key_compare(&own[i].first, key) <= 0 && ruling_key_compare(key, &own[i].last) <= 0)
                        return true;
        return false;
}

/* asked: the name that a connect asked for; NULL: none. */
static bool model_is_target(const struct policy_target *target, const struct ruling_key *key,
                            const struct ruling_facts *facts, const char *asked) {
        const struct ruling_found *found = (const struct ruling_found *) ((const uint8_t *) facts + facts->found.at);

        if (target->kind == POLICY_OWN)
                return model_is_own(key, facts);
        if (target->kind == POLICY_NETWORK)
                return model_has_prefix(key, target);
        if (asked && fnmatch(target->text, asked, 0) == 0)
                return true;
        for (uint32_t i = 0; i < facts->found.n; i++)
                if (ruling_key_compare(&found[i].address, key) == 0 && found[i].until_s >= POLICY_NOW_S &&
                    found[i].name == ruling_hash(target->text))
                        return true;
        return false;
}

static bool model_speaks_of(const struct policy_rule *rule, const struct ruling_question *question) {
        unsigned acts = 1u << question->act;

        if (question->protocol == RULING_UDP && question->act != RULING_LISTEN)
                acts = 1u << RULING_CONNECT | 1u << RULING_SENDTO;
        return (rule->acts & acts) && (rule->protocols & 1u << question->protocol);
}

static bool model_matches(const struct policy_rule *rule, const struct ruling_facts *facts,
                          const struct ruling_question *question) {
        const struct ruling_key key = ruling_key(question->address);
        bool is_local = question->act == RULING_LISTEN, is_near = !is_local && ruling_is_near(&key, facts);
        const struct policy_target *targets = is_local ? rule->at : rule->to;
        size_t n = is_local ? rule->n_at : rule->n_to;
        bool has_port = rule->n_ports == 0, has_target = n == 0 && !(is_near && rule->is_allowing);

        for (size_t i = 0; i < rule->n_ports; i++)
                has_port |= rule->ports[i].first <= question->address->port &&
                            question->address->port <= rule->ports[i].last;
        for (size_t i = 0; i < n; i++)
                has_target |= model_is_target(&targets[i], &key, facts,
                                              question->act == RULING_CONNECT ? question->name : NULL) &&
                              (!is_near || !rule->is_allowing || targets[i].names_near);
        return model_speaks_of(rule, question) && has_port && has_target;
}

/* The rule that decides, as a number among all; RULING_NONE: none. */
static const struct policy_rule *model_decide(const struct policy *policy, const struct policy_subject *subject,
                                              const struct ruling_facts *facts,
                                              const struct ruling_question *question) {
        for (size_t i = 0; i < policy->n_rules; i++)
                if (policy_rule_covers(&policy->rules[i], subject) && model_matches(&policy->rules[i], facts, question))
                        return &policy->rules[i];
        return NULL;
}

static const char *model_random_address(unsigned *seed) {
        static const char *const some[] = {
                "10.0.0.1",
                "10.0.0.2",
                "10.1.0.0",
                "10.1.2.3",
                "127.0.0.1",
                "192.0.2.1",
                "192.0.2.2",
                "198.51.100.7",
                "198.51.100.9",
                "::ffff:10.0.0.1",
                "::1",
                "2001:db8::1",
                "2001:db8::2",
                "2001:db8:1::1",
                "fe80::1",
                "255.255.255.255",
                "0.0.0.0",
                "11.0.0.0",
                "::",
                "ffff::",
                "8000::",
                "7fff:ffff::ffff",
                "128.0.0.0",
                "ff02::1",
                "::fffe:ffff:ffff",
                "0:0:0:0:0:1::",
                "::ffff:255.255.255.255",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        };

        return some[rand_r(seed) % (int) HARNESS_N(some)];
}

static void model_write_target(FILE *file, unsigned *seed) {
        static const char *const words[] = { "any",
                                             "localhost",
                                             "this-host",
                                             "link-local",
                                             "multicast",
                                             "db.example",
                                             "*.sub.example",
                                             "0.0.0.0/0",
                                             "::/0",
                                             "10.0.0.0/8",
                                             "10.0.0.0/30",
                                             "10.1.0.0/16",
                                             "128.0.0.0/1",
                                             "8000::/1",
                                             "2001:db8::/32",
                                             "2001:db8::/127",
                                             "::/64",
                                             "::/95",
                                             "::ffff:0.0.0.0/97",
                                             "192.0.2.0/24",
                                             "255.255.255.254/31",
                                             "ffff::/16" };

        if (rand_r(seed) % 3 == 0)
                fprintf(file, " %s", model_random_address(seed));
        else
                fprintf(file, " %s", words[rand_r(seed) % (int) HARNESS_N(words)]);
}

static void model_write_rule(FILE *file, unsigned *seed, int number) {
        static const char *const acts[] = { "connect", "listen", "connect listen", "sendto connect" };
        static const char *const protocols[] = { "tcp", "udp", "tcp udp" };
        static const char *const whom[] = { "User=*", "User=7", "User=8", "Unit=a.service", "Unit=b.service" };
        const char *act = acts[rand_r(seed) % 4];
        int protocol = strstr(act, "sendto") ? 1 + rand_r(seed) % 2 : rand_r(seed) % 3;

        fprintf(file, "[%s r%d]\n%s\nAction=%s\nProtocol=%s\n", rand_r(seed) % 2 ? "allow" : "deny", number,
                whom[rand_r(seed) % 5], act, protocols[protocol]);
        if (strstr(act, "connect") && rand_r(seed) % 6) {
                fprintf(file, "To=");
                for (int i = rand_r(seed) % 3; i >= 0; i--)
                        model_write_target(file, seed);
                fputc('\n', file);
        }
        if (rand_r(seed) % 3) {
                int first = rand_r(seed) % 12, last = first + rand_r(seed) % 5;

                fprintf(file, "Port=%d-%d %d\n", first, last, rand_r(seed) % 3 ? rand_r(seed) % 16 : 65535);
        }
}

static void model_compare(const struct policy *policy, const struct policy_subject *subject, unsigned *seed) {
        _cleanup_free_ struct ruling *ruling = policy_ruling(policy, subject);
        static const char *const names[] = { NULL, "db.example", "a.sub.example", "a.b.sub.example", "sub.example" };
        const struct ruling_facts *facts = policy_facts();

        for (int i = 0; i < 200; i++) {
                struct ovl_address address = policy_address(model_random_address(seed),
                                                            rand_r(seed) % 8 ? (uint16_t) (rand_r(seed) % 18) : 65535);
                const struct ruling_question question = {
                        .act = (enum ruling_act)(rand_r(seed) % 2),
                        .protocol = (enum ruling_protocol)(rand_r(seed) % 2),
                        .address = &address,
                        .name = names[rand_r(seed) % 5],
                        .now_s = POLICY_NOW_S,
                };
                const struct policy_rule *expected = model_decide(policy, subject, facts, &question);
                struct ruling_verdict verdict = ruling_decide(ruling, facts, &question);
                char text[RULING_TEXT_SIZE];

                ruling_text(ruling, &verdict, text);
                if (verdict.is_allowed != (expected && expected->is_allowing) ||
                    (expected ? strncmp(text, expected->place, strlen(expected->place)) != 0
                              : verdict.rule != RULING_NONE))
                        fail_msg("act %d protocol %d port %u: \"%s\", not %s", question.act, question.protocol,
                                 address.port, text, expected ? expected->place : "none");
        }
}

static void policy_decides_as_the_model(void **state) {
        unsigned seed = 20261127;

        for (int round = 0; round < 300; round++) {
                _cleanup_(policy_free) struct policy *policy = NULL;
                _cleanup_free_ char *text = NULL;
                size_t len;
                FILE *file = open_memstream(&text, &len);
                const struct policy_subject subjects[] = { { .uid = 7 },
                                                           { .uid = 8, .unit = "a.service" },
                                                           { .uid = 7, .unit = "b.service", .is_elsewhere = true } };
                int n = rand_r(&seed) % 40;

                for (int i = 0; i < n; i++)
                        model_write_rule(file, &seed, i);
                fclose(file);
                policy = policy_of(text);
                for (size_t i = 0; i < HARNESS_N(subjects); i++)
                        model_compare(policy, &subjects[i], &seed);
        }
}

/* --- What is refused --------------------------------------------------------------------------------------------- */

static void policy_refuse(const char *text, const char *expected) {
        const char *directory = policy_directory("p");
        _cleanup_free_ char *errors = NULL;
        struct policy *policy = NULL;

        policy_write(directory, "rules.conf", text, strlen(text), 0644);
        assert_int_equal(policy_load((const char *const[]){ directory, NULL }, &policy, &errors), -EINVAL);
        assert_null(policy);
        if (!errors || !strstr(errors, expected))
                fail_msg("'%s': expected '%s' in '%s'", text, expected, errors);
}

static void policy_names_each_mistake(void **state) {
        static const char *const tests[][2] = {
                { "User=*\n", "rules.conf:1: User=*: begin a rule with [allow NAME] or [deny NAME] first" },
                { "[allow]\nUser=*\n", ":1: section [allow]: must be [allow NAME] or [deny NAME]" },
                { "[permit x]\nUser=*\n", ":1: section [permit x]: must be" },
                { "[allow x y]\nUser=*\n", ":1: section [allow x y]: the name of a rule has 1 to 32 letters" },
                { "[allow abcdefghijklmnopqrstuvwxyz0123456]\nUser=*\n", "the name of a rule has 1 to 32" },
                { "[allow abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnop]\n", "at most 49 are allowed" },
                { "[allow x] User=*\n", ":1: section [allow x]: followed by 'User=*': begin a new line" },
                { "[allow x]\nUser=*\nAction=connect\n[deny x]\nUser=*\nAction=connect\n",
                  ":4: section [deny x]: the name is taken by " },
                { "[allow x]\n", ":1: [allow x]: nobody is named whom it is about: add User=" },
                { "[allow x]\nUser=*\n", ":1: [allow x]: Action= is missing" },
                { "[allow x]\nAction=connect\n", ":1: [allow x]: nobody is named" },
                { "[allow x]\nUsers=*\n", ":2: Users=*: unknown key; known are User=" },
                { "[allow x]\nUser=no-such-user\n", ":2: User=no-such-user: must be a user of this machine" },
                { "[allow x]\nUser=4294967295\n", ":2: User=4294967295: must be a user" },
                { "[allow x]\nGroup=no-such-group\n", ":2: Group=no-such-group: must be a group" },
                { "[allow x]\nUnit=web\n", ":2: Unit=web: must be the name of a service or scope with its ending" },
                { "[allow x]\nCgroup=system.slice\n", ":2: Cgroup=system.slice: must be the path of a control group" },
                { "[allow x]\nCgroup=/a/\n", ":2: Cgroup=/a/: must be" },
                { "[allow x]\nAction=accept\n", ":2: Action=accept: must be some of connect, listen" },
                { "[allow x]\nProtocol=sctp\n", ":2: Protocol=sctp: must be some of tcp, udp, unix" },
                { "[allow x]\nPort=http\n", ":2: Port=http: must be ports and ranges of ports" },
                { "[allow x]\nPort=65536\n", ":2: Port=65536: must be ports" },
                { "[allow x]\nPort=9-8\n", ":2: Port=9-8: must be ports" },
                { "[allow x]\nPort=8-\n", ":2: Port=8-: must be ports" },
                { "[allow x]\nPort=\n", ":2: Port=: the value is missing" },
                { "[allow x]\nTo=10.0.0.0/33\n", ":2: To=10.0.0.0/33: must be an address, or a network" },
                { "[allow x]\nTo=10.0.0.1/8\n", ":2: To=10.0.0.1/8: must be an address, or a network" },
                { "[allow x]\nTo=10.0.0\n", ":2: To=10.0.0: must be an address" },
                { "[allow x]\nTo=300.0.0.1\n", ":2: To=300.0.0.1: must be an address" },
                { "[allow x]\nTo=fd00::1/8\n", ":2: To=fd00::1/8: must be an address" },
                { "[allow x]\nTo=db.example:5432\n", ":2: To=db.example:5432: must be an address" },
                { "[allow x]\nTo=db_example/8\n", ":2: To=db_example/8: must be a name as db.example" },
                { "[allow x]\nTo=a*.example\n", ":2: To=a*.example: must be a name" },
                { "[allow x]\nTo=*.\n", ":2: To=*.: must be a name" },
                { "[allow x]\nTo=/run/../etc/x\n", ":2: To=/run/../etc/x: must be an absolute path without" },
                { "[allow x]\nTo=/run/\n", ":2: To=/run/: must be an absolute path" },
                { "[allow x]\nTo=@\n", ":2: To=@: must be an absolute path" },
                { "[allow x]\nAt=db.example\n", ":2: At=db.example: must be an address or network of this machine" },
                { "[allow x]\nUser=*\nAction=listen\nTo=10.0.0.1\n", ":1: [allow x]: To= goes with Action=connect" },
                { "[allow x]\nUser=*\nAction=connect\nAt=10.0.0.1\n", ":1: [allow x]: At= goes with Action=listen" },
                { "[allow x]\nUser=*\nAction=export\nPort=1\n", ":1: [allow x]: Port= goes with Action=connect" },
                { "[allow x]\nUser=*\nAction=sendto\nProtocol=tcp\n", ":1: [allow x]: Action=sendto goes with" },
                { "[allow x]\nUser=*\nAction=connect\nProtocol=tcp\nTo=/run/x\n", "a path goes with Protocol=unix" },
                { "[allow x]\nUser=*\nAction=connect\nProtocol=unix\nTo=any\n", "Protocol=unix goes with paths" },
                { "[allow x]\nUser=*\nAction=connect\nProtocol=unix\n", "are allowed by their paths only" },
                { "[allow x]\nUser=*\nAction=connect listen\nTo=/run/x\n", "are allowed by their paths only" },
                { "[allow x]\nUser=*\n  Action=connect\n", ":3: this line begins with a blank" },
                { "[allow x]\nnonsense\n", ":2: neither a [Section], a Key=value nor a # comment" },
        };
        char line[400];

        for (size_t i = 0; i < HARNESS_N(tests); i++)
                policy_refuse(tests[i][0], tests[i][1]);
        snprintf(line, sizeof(line), "[allow x]\nUser=*\nAction=connect\nTo=%0*d\n", 300, 0);
        policy_refuse(line, ":4: this line has 304 bytes: at most");
        /* A mistake in a line is not reported again as something that is missing. */
        policy_refuse("[allow x]\nUser=*\nAction=accept\n[allow y]\nUser=*\n",
                      ":3: Action=accept: must be some of connect, listen, sendto, resolve, export\n");
        policy_refuse("[allow x]\nUser=*\nAction=accept\n[allow y]\nUser=*\n", ":4: [allow y]: Action= is missing");
}

/* The rule with which it is too much is named, and not all that follow. */
static void policy_says_once_that_it_is_too_large(void **state) {
        const char *directory = policy_directory("p"), *found;
        _cleanup_free_ char *errors = NULL, *text = NULL;
        struct policy *policy = NULL;
        size_t len;
        FILE *file = open_memstream(&text, &len);

        for (int rule = 0; rule < 300; rule++) {
                fprintf(file, "[allow r%d]\nUser=*\nAction=connect\n", rule);
                for (int port = 1; port <= 200; port++)
                        fprintf(file, "Port=%d\n", port * 2);
        }
        fclose(file);
        policy_write(directory, "rules.conf", text, len, 0644);
        assert_int_equal(policy_load((const char *const[]){ directory, NULL }, &policy, &errors), -EINVAL);
        found = strstr(errors, "[allow r163]: with this rule there are more than 131072 networks times ports");
        assert_non_null(found);
        assert_null(strstr(strchr(found, '\n'), "networks times ports"));
}

static void policy_says_once_that_there_are_too_many(void **state) {
        const char *directory = policy_directory("p"), *found;
        _cleanup_free_ char *errors = NULL, *text = NULL;
        struct policy *policy = NULL;
        size_t len;
        FILE *file = open_memstream(&text, &len);

        for (int rule = 0; rule < 8200; rule++)
                fprintf(file, "[allow r%d]\nUser=*\nAction=export\n", rule);
        fclose(file);
        policy_write(directory, "rules.conf", text, len, 0644);
        assert_int_equal(policy_load((const char *const[]){ directory, NULL }, &policy, &errors), -EINVAL);
        found = strstr(errors, ":24577: section [allow r8192]: there are more than 8192 rules\n");
        assert_non_null(found);
        assert_null(strchr(strchr(found, '\n') + 1, '\n'));
}

static void policy_refuses_files_of_others(void **state) {
        static const char text[] = "[allow x]\nUser=*\nAction=connect\n";
        const char *directory = policy_directory("p");
        const char *const directories[] = { directory, NULL };
        char *errors = NULL;
        struct policy *policy;
        char path[256];

        policy_write(directory, "a.conf", text, strlen(text), 0646);
        assert_int_equal(policy_load(directories, &policy, &errors), -EPERM);
        assert_non_null(strstr(errors, "a.conf: mode 0646 lets everybody write it: run chmod o-w"));
        free(errors);
        snprintf(path, sizeof(path), "%s/a.conf", directory);
        if (chown(path, 65534, 65534) == 0) {
                assert_int_equal(chmod(path, 0644), 0);
                assert_int_equal(policy_load(directories, &policy, &errors), -EPERM);
                assert_non_null(strstr(errors, "a.conf: it belongs to user 65534, who can write it"));
                free(errors);
                assert_int_equal(chown(path, 0, 65534), 0);
                assert_int_equal(chmod(path, 0664), 0);
                assert_int_equal(policy_load(directories, &policy, &errors), -EPERM);
                assert_non_null(strstr(errors, "a.conf: mode 0664 lets group 65534 write it"));
                free(errors);
        }
        assert_int_equal(unlink(path), 0);
        assert_int_equal(chmod(directory, 0757), 0);
        assert_int_equal(policy_load(directories, &policy, &errors), -EPERM);
        assert_non_null(strstr(errors, "/p: mode 0757 lets everybody write it"));
        free(errors);
}

/* --- Order ------------------------------------------------------------------------------------------------------- */

static void policy_order_is_that_of_names(void **state) {
        const char *etc = policy_directory("etc"), *run = policy_directory("run"), *usr = policy_directory("usr");
        const char *const directories[] = { etc, "/no/such/directory", run, usr, NULL };
        _cleanup_(policy_free) struct policy *policy = NULL;
        static const char rule[] = "[allow %s]\nUser=*\nAction=connect\n";
        static const char *const expected[] = { "usr-10", "run-20", "etc-30", "etc-60" };
        const char *const files[][3] = {
                { usr, "10.conf", "usr-10" },     { run, "20.conf", "run-20" }, { usr, "20.conf", "usr-20" },
                { etc, "30.conf", "etc-30" },     { run, "30.conf", "run-30" }, { usr, "40.conf", "usr-40" },
                { usr, "50.conf", "usr-50" },     { etc, "60.conf", "etc-60" }, { etc, "70.config", "not-read" },
                { etc, ".80.conf", "not-read2" },
        };
        char text[128], path[256];
        char *errors;

        for (size_t i = 0; i < HARNESS_N(files); i++) {
                snprintf(text, sizeof(text), rule, files[i][2]);
                policy_write(files[i][0], files[i][1], text, strlen(text), 0644);
        }
        policy_write(etc, "40.conf", "", 0, 0644);
        snprintf(path, sizeof(path), "%s/50.conf", etc);
        assert_int_equal(symlink("/dev/null", path), 0);
        assert_int_equal(policy_load(directories, &policy, &errors), 0);
        assert_int_equal(policy->n_rules, HARNESS_N(expected));
        for (size_t i = 0; i < HARNESS_N(expected); i++)
                assert_string_equal(policy->rules[i].name, expected[i]);
        snprintf(path, sizeof(path), "%s/10.conf:1", usr);
        assert_string_equal(policy->rules[0].place, path);
}

/* --- Bytes of any kind ------------------------------------------------------------------------------------------- */

/* What can be read can be compiled; both end, and the ruling is sound. */
static void policy_survives_any_bytes(void **state) {
        static const char start[] = "[allow db]\nUser=0 root\nUnit=a@*.service\nAction=connect listen\nProtocol=tcp\n"
                                    "To=10.0.0.0/8 fd00::/8 db.example any localhost\nAt=any\nPort=1-9 80\n"
                                    "[deny x]\nGroup=0\nCgroup=/a\nAction=sendto resolve export\nTo=/run/x\n";
        static const char alphabet[] = "[allow deny]\n=UserUnitActionProtocolToAtPort*./:@-0123456789\t\r;#\xff\x01";
        const struct policy_subject subject = { .uid = 0, .unit = "a@b.service", .cgroup = "/a" };
        const char *directory = policy_directory("p");
        unsigned seed = 20261128, n_taken = 0;

        for (int round = 0; round < 4000; round++) {
                _cleanup_(policy_free) struct policy *policy = NULL;
                _cleanup_free_ struct ruling *ruling = NULL;
                _cleanup_free_ char *errors = NULL;
                char bytes[sizeof(start)];
                size_t len = sizeof(start) - 1;

                memcpy(bytes, start, sizeof(start));
                for (int i = rand_r(&seed) % 6; i > 0; i--)
                        bytes[rand_r(&seed) % (int) len] = alphabet[rand_r(&seed) % (int) (sizeof(alphabet) - 1)];
                if (rand_r(&seed) % 4 == 0)
                        len = (size_t) rand_r(&seed) % len;
                policy_write(directory, "rules.conf", bytes, len, 0644);
                if (policy_load((const char *const[]){ directory, NULL }, &policy, &errors) < 0) {
                        assert_non_null(errors);
                        continue;
                }
                n_taken++;
                ruling = policy_ruling(policy, &subject);
        }
        assert_true(n_taken > 100);
}

/* A worker that believed a ruling of another worker's making must not read outside it. */
static void policy_unsound_rulings_are_known(void **state) {
        _cleanup_(policy_free) struct policy *policy = policy_of(WEB "[allow x]\nUser=*\nAction=connect resolve\n"
                                                                     "To=10.0.0.0/8 db.example /run/x\n");
        const struct policy_subject subject = { .uid = 7 };
        _cleanup_free_ struct ruling *ruling = policy_ruling(policy, &subject);
        _cleanup_free_ uint8_t *bytes = malloc(ruling->size);
        const struct ruling_facts *facts = policy_facts();
        unsigned seed = 20261129;

        for (int round = 0; round < 20000; round++) {
                struct ovl_address address = policy_address(model_random_address(&seed), 80);
                struct ruling_question question = { .act = (enum ruling_act)(rand_r(&seed) % RULING_N_ACTS),
                                                    .address = &address,
                                                    .name = "db.example" };
                size_t size = ruling->size;

                memcpy(bytes, ruling, size);
                for (int i = rand_r(&seed) % 3; i >= 0; i--)
                        bytes[rand_r(&seed) % (int) size] = (uint8_t) rand_r(&seed);
                if (!ruling_is_sound((struct ruling *) bytes, size))
                        continue;
                ruling_decide((struct ruling *) bytes, facts, &question);
        }
        assert_false(ruling_is_sound(ruling, ruling->size - 1u));
        assert_false(ruling_is_sound(ruling, 8));
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "without a rule nothing is allowed", policy_nothing_is_allowed_by_itself },
                { "an own instance allows its user what no rule is about", policy_own_user_may_what_it_could },
                { "addresses and ports", policy_addresses_and_ports },
                { "addresses that are near must be named", policy_near_addresses_must_be_named },
                { "what is said of IPv6 is not said of IPv4", policy_ipv6_is_not_ipv4 },
                { "names cover the addresses that were found for them", policy_names_cover_what_was_found },
                { "paths and exports", policy_paths_and_exports },
                { "where one listens", policy_listens_where_it_says },
                { "clients are told apart", policy_clients_are_told_apart },
                { "what is denied is denied in every namespace", policy_denials_hold_everywhere },
                { "it decides as the model does", policy_decides_as_the_model, 120 },
                { "each mistake is named with its line", policy_names_each_mistake },
                { "what is too large is told once", policy_says_once_that_it_is_too_large },
                { "too many rules are told once", policy_says_once_that_there_are_too_many },
                { "files that others can write are refused", policy_refuses_files_of_others },
                { "files are read in the order of their names", policy_order_is_that_of_names },
                { "any bytes are survived", policy_survives_any_bytes, 120 },
                { "a ruling that is not sound is known", policy_unsound_rulings_are_known },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
