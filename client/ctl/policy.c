/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl policy test: what the policy in force says of somebody who need not be there.
 *
 * Names of users, groups and hosts are looked up here, so that the daemon has to wait for nobody; it is asked about
 * numbers and addresses. A host that is given by its name is allowed as the daemon allows a connect to a name: it may
 * be resolved, and one of its addresses is allowed, for what is refused is not tried.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "client/ctl/ctl.h"
#include "client/ctl/output.h"
#include "client/ctl/question.h"
#include "client/ctl/whom.h"
#include "proto/address.h"

#define POLICY_ADDRESSES_MAX 64u
#define POLICY_GROUPS_MAX 1024

const char policy_help[] =
        "Usage: overlapctl policy test WHO connect|listen tcp|udp HOST:PORT\n"
        "       overlapctl policy test WHO sendto udp HOST:PORT\n"
        "       overlapctl policy test WHO connect|listen|sendto unix PATH\n"
        "       overlapctl policy test WHO resolve NAME\n"
        "       overlapctl policy test WHO export\n"
        "\n"
        "What the policy in force would say, and which rule decides. A host that is given by its "
        "name is allowed when\n"
        "the name may be resolved and one of its addresses is allowed. To listen, HOST may be *, which "
        "is every\n"
        "address of the machine.\n"
        "\n"
        "WHO is one or more of these, and not the last one alone:\n"
        "  --unit UNIT         a program of this unit\n"
        "  --user USER         ... of this user, and of its groups: a name, or a number\n"
        "  --group GROUP       ... of this group\n"
        "  --cgroup PATH       ... in this control group\n"
        "  --private-network   ... in another network namespace than overlapd (PrivateNetwork=yes)\n"
        "\n"
        "Exit status: 0 allowed, 1 denied.\n";

struct policy {
        const struct ctl *ctl;
        Overlapd__AdminPolicyTest question;
        struct ovl_address addresses[POLICY_ADDRESSES_MAX];
        ProtobufCBinaryData address_bytes[POLICY_ADDRESSES_MAX];
        char unit[WHOM_UNIT_SIZE];
        gid_t groups[POLICY_GROUPS_MAX];
        int n_groups;
        bool has_who;
        struct json_object *decisions; /* NULL: for a person */
        bool may_resolve;              /* or it was not asked */
        unsigned n_denied;
        unsigned n_allowed;
};

/* A whole number up to `max`, and nothing else. */
static bool policy_take_number(const char *value, unsigned long max, uint32_t *ret_number) {
        unsigned long number;
        char *end;

        errno = 0;
        number = strtoul(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end || errno || number > max)
                return false;
        *ret_number = (uint32_t) number;
        return true;
}

/* --- Who -----------------------------------------------------------------------------------------------------------
 */

static int policy_take_user(struct policy *policy, const char *value) {
        const struct passwd *user;
        int r;

        r = whom_take_user("policy", value, &policy->question.uid);
        if (r != 0)
                return r;
        policy->question.has_uid = true;
        user = getpwuid(policy->question.uid);
        if (!user)
                return 0; /* a number without a name has no groups */
        if (!policy->question.has_gid) {
                policy->question.has_gid = true;
                policy->question.gid = user->pw_gid;
        }
        policy->n_groups = POLICY_GROUPS_MAX;
        if (getgrouplist(user->pw_name, user->pw_gid, policy->groups, &policy->n_groups) < 0) {
                ctl_complain("--user %s: has more than %d groups", value, POLICY_GROUPS_MAX);
                return CTL_FAILED;
        }
        return 0;
}

static int policy_take_group(struct policy *policy, const char *value) {
        const struct group *group = getgrnam(value);
        uint32_t gid;

        if (group)
                gid = group->gr_gid;
        else if (!policy_take_number(value, UINT32_MAX - 1, &gid))
                return ctl_complain_usage("policy", "--group '%s': there is no such group: name one, or a number",
                                          value);
        policy->question.has_gid = true;
        policy->question.gid = gid;
        return 0;
}

static int policy_take_option(struct policy *policy, int option) {
        policy->has_who = policy->has_who || option != 'e';
        switch (option) {
        case 'U':
                policy->question.unit = policy->unit;
                return whom_take_unit("policy", optarg, policy->unit);
        case 'u':
                return policy_take_user(policy, optarg);
        case 'g':
                return policy_take_group(policy, optarg);
        case 'c':
                policy->question.cgroup = optarg;
                return 0;
        default:
                policy->question.is_elsewhere = true;
                return 0;
        }
}

static int policy_parse_options(struct policy *policy, int argc, char *argv[]) {
        static const struct option options[] = {
                { "unit", required_argument, NULL, 'U' },      { "user", required_argument, NULL, 'u' },
                { "group", required_argument, NULL, 'g' },     { "cgroup", required_argument, NULL, 'c' },
                { "private-network", no_argument, NULL, 'e' }, { 0 }
        };
        int option, r;

        opterr = 0;
        while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
                if (option == ':' || option == '?')
                        return ctl_complain_option("policy", option, argv);
                r = policy_take_option(policy, option);
                if (r != 0)
                        return r;
        }
        if (!policy->has_who)
                return ctl_complain_usage("policy", "policy test: of whom? Say --unit, --user, --group or --cgroup");
        return 0;
}

/* --- Where ---------------------------------------------------------------------------------------------------------
 */

static int policy_add_address(struct policy *policy, const struct sockaddr *name, socklen_t len) {
        size_t n = policy->question.n_addresses;

        if (n == POLICY_ADDRESSES_MAX || address_from_kernel(name, len, &policy->addresses[n]) < 0)
                return 0;
        policy->address_bytes[n] =
                (ProtobufCBinaryData){ .len = sizeof(policy->addresses[n]), .data = (uint8_t *) &policy->addresses[n] };
        policy->question.n_addresses = n + 1;
        return 0;
}

static int policy_take_path(struct policy *policy, const char *path) {
        struct ovl_address *address = &policy->addresses[0];
        size_t len = strlen(path);

        if (len == 0 || len > sizeof(address->host) || (path[0] != '/' && path[0] != '@'))
                return ctl_complain_usage("policy", "%s: must be an absolute path, or @NAME, of at most %zu bytes",
                                          path, sizeof(address->host));
        *address = (struct ovl_address){ .family = OVL_FAMILY_UNIX, .path_len = (uint8_t) len };
        memcpy(address->host, path, len);
        if (path[0] == '@')
                address->host[0] = '\0';
        policy->address_bytes[0] = (ProtobufCBinaryData){ .len = sizeof(*address), .data = (uint8_t *) address };
        policy->question.n_addresses = 1;
        return 0;
}

/* Cuts HOST:PORT, [HOST]:PORT. Returns false when it is neither. */
static bool policy_cut(char *where, char **ret_host, char **ret_port) {
        char *colon = strrchr(where, ':'), *bracket = strrchr(where, ']');

        if (!colon || colon == where || colon[1] == '\0')
                return false;
        if (where[0] == '[') {
                if (bracket != colon - 1)
                        return false;
                *bracket = '\0';
                where++;
        } else if (memchr(where, ':', (size_t) (colon - where))) {
                return false;
        }
        *colon = '\0';
        *ret_host = where;
        *ret_port = colon + 1;
        return true;
}

/* getaddrinfo(3) takes numbers with signs and blanks, and those that are too great for others. */
static bool policy_is_port(const char *port) {
        uint32_t number;

        return port[strspn(port, "0123456789+- \t")] != '\0' || policy_take_number(port, UINT16_MAX, &number);
}

static int policy_look_up(struct policy *policy, const char *host, const char *port, int type) {
        struct addrinfo hints = { .ai_socktype = type, .ai_flags = AI_NUMERICHOST }, *found;
        bool is_any = strcmp(host, "*") == 0;
        int r;

        if (is_any)
                hints.ai_flags = AI_PASSIVE;
        r = policy_is_port(port) ? getaddrinfo(is_any ? NULL : host, port, &hints, &found) : EAI_SERVICE;
        if (r == EAI_NONAME && !is_any) {
                hints.ai_flags = 0;
                policy->question.name = (char *) host;
                r = getaddrinfo(host, port, &hints, &found);
        }
        if (r == EAI_SERVICE)
                return ctl_complain_usage("policy",
                                          "port %s: must be a number from 0 to 65535, or the name of a service", port);
        if (r != 0) {
                ctl_complain("%s: %s here: give an address, or ask about resolve", host,
                             r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
                return CTL_LOST;
        }
        for (const struct addrinfo *one = found; one; one = one->ai_next)
                policy_add_address(policy, one->ai_addr, one->ai_addrlen);
        freeaddrinfo(found);
        return 0;
}

/* where: is cut, and has to stay. */
static int policy_take_where(struct policy *policy, char *where) {
        const char *protocol = policy->question.protocol;
        char *host, *port;

        policy->question.addresses = policy->address_bytes;
        if (strcmp(protocol, "unix") == 0)
                return policy_take_path(policy, where);
        if (strcmp(protocol, "tcp") != 0 && strcmp(protocol, "udp") != 0)
                return ctl_complain_usage("policy", "protocol '%s': must be tcp, udp or unix", protocol);
        if (!policy_cut(where, &host, &port))
                return ctl_complain_usage("policy", "%s: must be HOST:PORT, an IPv6 address in brackets", where);
        if (strcmp(host, "*") == 0 && strcmp(policy->question.action, "listen") != 0)
                return ctl_complain_usage("policy", "*:%s: goes with listen; name the host, or an address of it", port);
        return policy_look_up(policy, host, port, strcmp(protocol, "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM);
}

static int policy_parse_what(struct policy *policy, int argc, char *argv[]) {
        bool is_resolve, is_export;

        if (argc == 0)
                return ctl_complain_usage("policy", "policy test: what? connect, listen, sendto, resolve or export");
        policy->question.action = argv[0];
        is_resolve = strcmp(argv[0], "resolve") == 0;
        is_export = strcmp(argv[0], "export") == 0;
        if (!is_resolve && !is_export && strcmp(argv[0], "connect") != 0 && strcmp(argv[0], "listen") != 0 &&
            strcmp(argv[0], "sendto") != 0)
                return ctl_complain_usage("policy", "action '%s': must be connect, listen, sendto, resolve or export",
                                          argv[0]);
        if (argc != (is_export ? 1 : is_resolve ? 2 : 3))
                return ctl_complain_usage("policy", "%s goes with %s", argv[0],
                                          is_export    ? "nothing else"
                                          : is_resolve ? "one NAME"
                                                       : "a protocol and one HOST:PORT or PATH");
        if (is_export)
                return 0;
        if (is_resolve) {
                policy->question.name = argv[1];
                return 0;
        }
        policy->question.protocol = argv[1];
        return policy_take_where(policy, argv[2]);
}

/* --- The answer -----------------------------------------------------------------------------------------------------
 */

static void policy_take(const Overlapd__AdminReply *reply, void *data) {
        const Overlapd__AdminDecision *decision = reply->decision;
        struct policy *policy = data;
        struct json_object *object;
        char action[16], remote[256], why[512];

        if (reply->what_case != OVERLAPD__ADMIN_REPLY__WHAT_DECISION)
                return;
        if (strcmp(decision->action, policy->question.action) != 0)
                policy->may_resolve = decision->is_allowed;
        else if (decision->is_allowed)
                policy->n_allowed++;
        else
                policy->n_denied++;
        if (policy->decisions) {
                object = output_json_object();
                output_json_bool(object, "allowed", decision->is_allowed);
                output_json_string(object, "action", decision->action);
                output_json_string(object, "to", decision->remote);
                output_json_string(object, "why", decision->why);
                output_json_append(policy->decisions, object);
        } else if (!policy->ctl->is_quiet) {
                output_clean(decision->remote, remote, sizeof(remote));
                printf("%s %s%s%s: %s\n", decision->is_allowed ? "allowed" : "denied",
                       output_clean(decision->action, action, sizeof(action)), remote[0] ? " " : "", remote,
                       output_clean(decision->why, why, sizeof(why)));
        }
}

/* All of several addresses that were not chosen by a name: to listen on *. */
static bool policy_is_allowed(const struct policy *policy) {
        bool is_by_name = policy->question.name[0] != '\0' && policy->question.n_addresses > 0;

        return policy->may_resolve && policy->n_allowed > 0 && (is_by_name || policy->n_denied == 0);
}

static int policy_ask(struct policy *policy) {
        Overlapd__AdminRequest request = OVERLAPD__ADMIN_REQUEST__INIT;
        struct json_object *document;
        int status;

        policy->question.groups.data = (uint8_t *) policy->groups;
        policy->question.groups.len = (size_t) policy->n_groups * sizeof(policy->groups[0]);
        request.what_case = OVERLAPD__ADMIN_REQUEST__WHAT_POLICY_TEST;
        request.policy_test = &policy->question;
        if (policy->ctl->is_json && !policy->ctl->is_quiet)
                policy->decisions = output_json_array();
        status = question_ask_once(policy->ctl, &request, policy_take, policy);
        if (status == CTL_DONE && !policy_is_allowed(policy))
                status = CTL_FAILED;
        if (!policy->decisions)
                return status;
        document = output_json_object();
        /* Where the daemon did not decide nobody reads that it did. */
        if (status == CTL_DONE || status == CTL_FAILED)
                output_json_bool(document, "allowed", status == CTL_DONE);
        else
                output_json_add(document, "allowed", NULL);
        output_json_add(document, "decisions", policy->decisions);
        output_json_print(document);
        return status;
}

int policy_main(const struct ctl *ctl, int argc, char *argv[]) {
        _cleanup_free_ struct policy *policy = calloc(1, sizeof(*policy));
        int status;

        if (argc < 2 || strcmp(argv[1], "test") != 0)
                return ctl_complain_usage("policy", argc < 2 ? "policy: what? There is: test"
                                                             : "policy: the only thing to do is: test");
        if (!policy) {
                ctl_complain("no memory");
                return CTL_LOST;
        }
        policy->ctl = ctl;
        policy->may_resolve = true;
        policy->question = (Overlapd__AdminPolicyTest) OVERLAPD__ADMIN_POLICY_TEST__INIT;
        status = policy_parse_options(policy, argc - 1, argv + 1);
        if (status == CTL_DONE)
                status = policy_parse_what(policy, argc - 1 - optind, argv + 1 + optind);
        return status == CTL_DONE ? policy_ask(policy) : status;
}
