/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the policy in force would say: the same rules, compiled and decided in the same way as for a client, for
 * somebody whom the administrator describes. Nothing is resolved here, since that may take long: for a name he brings
 * the addresses that it has for him.
 *
 * Rejected: reading the files again for each question. What they say now may not be what holds.
 */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/monitor/admin-answer.h"
#include "proto/address.h"
#include "proto/text.h"

#define ADMIN_NOBODY ((uid_t) -1)
#define ADMIN_GROUPS_MAX 1024u

static const char *const admin_acts[RULING_N_ACTS] = {
        [RULING_CONNECT] = "connect", [RULING_LISTEN] = "listen", [RULING_SENDTO] = "sendto",
        [RULING_RESOLVE] = "resolve", [RULING_EXPORT] = "export",
};

static const char *const admin_protocols[RULING_N_PROTOCOLS] = {
        [RULING_TCP] = "tcp",
        [RULING_UDP] = "udp",
        [RULING_UNIX] = "unix",
};

__attribute__((format(printf, 2, 3))) static int admin_object(struct admin_answer *answer, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(answer->text, sizeof(answer->text), format, arguments);
        va_end(arguments);
        admin_clean_in_place(answer->text);
        return -EINVAL;
}

static int admin_find_word(const char *word, const char *const *words, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(word, words[i]) == 0)
                        return (int) i;
        return -EINVAL;
}

static bool admin_is_about_addresses(const struct ruling_question *question) {
        return question->act != RULING_RESOLVE && question->act != RULING_EXPORT;
}

/* Reads whether it is a question. */
static int admin_read_question(struct admin_answer *answer, const Overlapd__AdminPolicyTest *test,
                               struct ruling_question *ret_question) {
        int act = admin_find_word(test->action, admin_acts, RULING_N_ACTS);
        int protocol = admin_find_word(test->protocol, admin_protocols, RULING_N_PROTOCOLS);

        if (act < 0)
                return admin_object(answer, "action '%.64s': must be connect, listen, sendto, resolve or export",
                                    test->action);
        *ret_question = (struct ruling_question){ .act = (enum ruling_act) act };
        if (!admin_is_about_addresses(ret_question))
                return 0;
        if (protocol < 0)
                return admin_object(answer, "protocol '%.64s': must be tcp, udp or unix", test->protocol);
        if (act == RULING_SENDTO && protocol == RULING_TCP)
                return admin_object(answer,
                                    "sendto goes with udp or unix: a TCP socket sends where it is connected to");
        if (test->n_addresses == 0)
                return admin_object(answer, "%s needs an address", test->action);
        ret_question->protocol = (enum ruling_protocol) protocol;
        return 0;
}

static int admin_read_subject(struct admin_answer *answer, const Overlapd__AdminPolicyTest *test, gid_t *groups,
                              struct policy_subject *ret_subject) {
        size_t n_groups = test->groups.len / sizeof(uint32_t);

        if (test->groups.len % sizeof(uint32_t) != 0 || n_groups > ADMIN_GROUPS_MAX)
                return admin_object(answer, "groups: %zu bytes: must be at most %u numbers of 4 bytes",
                                    test->groups.len, ADMIN_GROUPS_MAX);
        if (n_groups > 0)
                memcpy(groups, test->groups.data, test->groups.len);
        *ret_subject = (struct policy_subject){
                .uid = test->has_uid ? test->uid : ADMIN_NOBODY,
                .gid = test->has_gid ? test->gid : (gid_t) ADMIN_NOBODY,
                .groups = groups,
                .n_groups = n_groups,
                .unit = test->unit[0] != '\0' ? test->unit : NULL,
                .cgroup = test->cgroup[0] != '\0' ? test->cgroup : NULL,
                .is_elsewhere = test->is_elsewhere,
        };
        return 0;
}

/* As rules have names: lower case, without a dot at the end. */
static int admin_read_name(struct admin_answer *answer, const char *name, char ret_name[RULING_NAME_MAX + 1]) {
        size_t len = strlen(name);

        if (len > 0 && name[len - 1] == '.')
                len--;
        if (len > RULING_NAME_MAX || (len > 0 && !text_is_host_name(name, len)))
                return admin_object(answer, "name '%.64s': must be a host name of at most %u bytes", name,
                                    RULING_NAME_MAX);
        for (size_t i = 0; i < len; i++)
                ret_name[i] = (char) tolower((unsigned char) name[i]);
        ret_name[len] = '\0';
        return 0;
}

static int admin_read_address(struct admin_answer *answer, const ProtobufCBinaryData *bytes,
                              enum ruling_protocol protocol, struct ovl_address *ret_address) {
        struct sockaddr_storage kernel;
        socklen_t len;
        bool is_unix;

        if (bytes->len != sizeof(*ret_address))
                return admin_object(answer, "an address has %zu bytes: must be %zu", bytes->len, sizeof(*ret_address));
        memcpy(ret_address, bytes->data, sizeof(*ret_address));
        if (address_to_kernel(ret_address, &kernel, &len) < 0)
                return admin_object(answer, "an address is none");
        is_unix = ret_address->family == OVL_FAMILY_UNIX;
        if (is_unix != (protocol == RULING_UNIX))
                return admin_object(answer, "%s goes with %s", admin_protocols[protocol],
                                    protocol == RULING_UNIX ? "a path" : "IPv4 and IPv6 addresses");
        return 0;
}

static int admin_show_decision(struct admin_answer *answer, const struct policy_subject *subject,
                               struct ruling_question *question, const char *name) {
        Overlapd__AdminReply reply = OVERLAPD__ADMIN_REPLY__INIT;
        Overlapd__AdminDecision decision = OVERLAPD__ADMIN_DECISION__INIT;
        char why[RULING_TEXT_SIZE], remote[ADDRESS_TEXT_SIZE];
        int r;

        r = rulings_try(answer->sources->rulings, subject, question, name, why);
        if (r < 0)
                return r;
        admin_clean_in_place(why);
        decision.is_allowed = r > 0;
        decision.why = why;
        decision.action = (char *) admin_acts[question->act];
        if (question->address)
                decision.remote = (char *) address_format(question->address, remote);
        else if (question->name)
                decision.remote = (char *) question->name;
        reply.what_case = OVERLAPD__ADMIN_REPLY__WHAT_DECISION;
        reply.decision = &decision;
        return admin_answer_push(answer, &reply);
}

int admin_policy_test(struct admin_answer *answer, const Overlapd__AdminPolicyTest *test) {
        char name[RULING_NAME_MAX + 1];
        gid_t groups[ADMIN_GROUPS_MAX];
        struct policy_subject subject;
        struct ruling_question question;
        struct ovl_address address;
        int r;

        r = admin_read_question(answer, test, &question);
        if (r >= 0)
                r = admin_read_subject(answer, test, groups, &subject);
        if (r >= 0)
                r = admin_read_name(answer, test->name, name);
        if (r < 0)
                return r;
        if (question.act == RULING_RESOLVE && name[0] == '\0')
                return admin_object(answer, "resolve needs a name");
        if (!admin_is_about_addresses(&question)) {
                question.name = question.act == RULING_RESOLVE ? name : NULL;
                return admin_show_decision(answer, &subject, &question, NULL);
        }
        if (name[0] != '\0')
                r = admin_show_decision(answer, &subject,
                                        &(struct ruling_question){ .act = RULING_RESOLVE, .name = name }, NULL);
        for (size_t i = 0; i < test->n_addresses && r >= 0; i++) {
                r = admin_read_address(answer, &test->addresses[i], question.protocol, &address);
                if (r < 0)
                        return r;
                question.address = &address;
                r = admin_show_decision(answer, &subject, &question, name[0] != '\0' ? name : NULL);
        }
        return r;
}
