/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The values of the policy's keys, word by word: whom a rule is about, what, and where.
 *
 * What a name means to the machine is looked up here, once: of users and groups their numbers. Networks become keys, in
 * which IPv4 has its place among IPv6, and are marked where they name addresses that a rule must name.
 *
 * Rejected: rounding a network with bits beyond its prefix (one of the two is a mistake), and services' names for ports
 * (which differ between machines).
 */

#include "daemon/monitor/policy-values.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "proto/text.h"

/* --- Values ------------------------------------------------------------------------------------------------------ */

/* Each takes one word of a value. Returns 0; -EINVAL and what is allowed; -ENOMEM. */

static int values_number(const char *word, unsigned long max, unsigned long *ret_number) {
        size_t n_digits = strspn(word, "0123456789");

        if (n_digits == 0 || n_digits > 10 || word[n_digits] != '\0')
                return -EINVAL;
        *ret_number = strtoul(word, NULL, 10);
        return *ret_number <= max ? 0 : -EINVAL;
}

static int values_user(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        unsigned long number;
        struct passwd *user;
        uid_t *place;

        *ret_allowed = "a user of this machine, by name or number, or *";
        if (strcmp(word, "*") == 0) {
                rule->is_for_all_users = true;
                return 0;
        }
        if (values_number(word, UINT32_MAX - 1, &number) < 0) {
                user = getpwnam(word);
                if (!user)
                        return -EINVAL;
                number = user->pw_uid;
        }
        place = policy_append(&rule->users, &rule->n_users, sizeof(*place));
        if (!place)
                return -ENOMEM;
        *place = (uid_t) number;
        return 0;
}

static int values_group(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        unsigned long number;
        struct group *group;
        gid_t *place;

        *ret_allowed = "a group of this machine, by name or number";
        if (values_number(word, UINT32_MAX - 1, &number) < 0) {
                group = getgrnam(word);
                if (!group)
                        return -EINVAL;
                number = group->gr_gid;
        }
        place = policy_append(&rule->groups, &rule->n_groups, sizeof(*place));
        if (!place)
                return -ENOMEM;
        *place = (gid_t) number;
        return 0;
}

static bool values_ends_with(const char *word, const char *end) {
        size_t len = strlen(word), end_len = strlen(end);

        return len >= end_len && strcmp(word + len - end_len, end) == 0;
}

static int values_string(char ***strings, size_t *n, const char *word) {
        char **place = policy_append(strings, n, sizeof(*place));

        if (!place)
                return -ENOMEM;
        *place = strdup(word);
        return *place ? 0 : -ENOMEM;
}

static int values_unit(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        *ret_allowed = "the name of a service or scope with its ending, as web.service or web@*.service";
        if (!values_ends_with(word, ".service") && !values_ends_with(word, ".scope") && !values_ends_with(word, "*"))
                return -EINVAL;
        return values_string(&rule->units, &rule->n_units, word);
}

static int values_cgroup(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        size_t len = strlen(word);

        *ret_allowed = "the path of a control group, as /system.slice/web.service: it covers all that is below it";
        if (word[0] != '/' || (len > 1 && word[len - 1] == '/'))
                return -EINVAL;
        return values_string(&rule->cgroups, &rule->n_cgroups, word);
}

static int values_bit(const char *const *names, size_t n, const char *word, uint8_t *bits) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(word, names[i]) == 0) {
                        *bits |= (uint8_t) (1u << i);
                        return 0;
                }
        return -EINVAL;
}

static int values_action(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        static const char *const names[RULING_N_ACTS] = { "connect", "listen", "sendto", "resolve", "export" };

        *ret_allowed = "some of connect, listen, sendto, resolve, export";
        return values_bit(names, RULING_N_ACTS, word, &rule->acts);
}

static int values_protocol(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        static const char *const names[RULING_N_PROTOCOLS] = { "tcp", "udp", "unix" };

        *ret_allowed = "some of tcp, udp, unix";
        return values_bit(names, RULING_N_PROTOCOLS, word, &rule->protocols);
}

static int values_port(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        struct policy_ports *place;
        unsigned long first, last;
        char text[16];
        char *dash;

        *ret_allowed = "ports and ranges of ports from 0 to 65535, as 443 or 8000-8999";
        if (strlen(word) >= sizeof(text))
                return -EINVAL;
        strcpy(text, word);
        dash = strchr(text, '-');
        if (dash)
                *dash = '\0';
        if (values_number(text, UINT16_MAX, &first) < 0 ||
            values_number(dash ? dash + 1 : text, UINT16_MAX, &last) < 0 || first > last)
                return -EINVAL;
        place = policy_append(&rule->ports, &rule->n_ports, sizeof(*place));
        if (!place)
                return -ENOMEM;
        *place = (struct policy_ports){ (uint16_t) first, (uint16_t) last };
        return 0;
}

/* --- Addresses, names, paths -------------------------------------------------------------------------------------- */

/* What a rule must name: all of a target lies in one of these, or it is one address. */
static const struct values_near {
        const char *word; /* that stands for it; NULL: none */
        const char *network;
        unsigned prefix_len;
} values_near[] = {
        { "localhost", "127.0.0.0", 8 },
        { "localhost", "::1", 128 },
        { "link-local", "169.254.0.0", 16 },
        { "link-local", "fe80::", 10 },
        { "multicast", "224.0.0.0", 4 },
        { "multicast", "ff00::", 8 },
        { "multicast", "255.255.255.255", 32 },
        { NULL, "0.0.0.0", 8 },
        { NULL, "240.0.0.0", 4 },
        { NULL, "::", 96 },
};

static int values_key(const char *word, struct ruling_key *ret_key, unsigned *ret_bits) {
        struct ovl_address address = { 0 };

        if (inet_pton(AF_INET, word, address.host) == 1)
                address.family = OVL_FAMILY_INET;
        else if (inet_pton(AF_INET6, word, address.host) == 1)
                address.family = OVL_FAMILY_INET6;
        else
                return -EINVAL;
        *ret_key = ruling_key(&address);
        *ret_bits = address.family == OVL_FAMILY_INET ? 32 : 128;
        return 0;
}

static struct ruling_key values_mask(struct ruling_key key, unsigned len) {
        key.high &= len >= 64 ? UINT64_MAX : len > 0 ? UINT64_MAX << (64 - len) : 0;
        key.low &= len >= 128 ? UINT64_MAX : len > 64 ? UINT64_MAX << (128 - len) : 0;
        return key;
}

static bool values_names_near(const struct ruling_key *first, unsigned prefix_len) {
        bool names = prefix_len == 128;

        for (size_t i = 0; i < sizeof(values_near) / sizeof(values_near[0]) && !names; i++) {
                struct ruling_key outer, masked;
                unsigned bits = 0, len;

                values_key(values_near[i].network, &outer, &bits);
                len = 128 - bits + values_near[i].prefix_len;
                masked = values_mask(*first, len);
                names = prefix_len >= len && ruling_key_compare(&masked, &outer) == 0;
        }
        return names;
}

static int values_add_network(struct policy_target **targets, size_t *n, const struct ruling_key *first, unsigned len) {
        struct policy_target *place = policy_append(targets, n, sizeof(*place));

        if (!place)
                return -ENOMEM;
        place->kind = POLICY_NETWORK;
        place->first = *first;
        place->prefix_len = (uint8_t) len;
        place->names_near = values_names_near(first, len);
        return 0;
}

static int values_add_text(struct policy_target **targets, size_t *n, enum policy_target_kind kind, const char *bytes,
                           size_t len) {
        struct policy_target *place = policy_append(targets, n, sizeof(*place));

        if (!place)
                return -ENOMEM;
        place->kind = kind;
        place->names_near = kind != POLICY_NAME;
        place->text = calloc(1, len + 1);
        if (!place->text)
                return -ENOMEM;
        memcpy(place->text, bytes, len);
        place->text_len = len;
        return 0;
}

static int values_network(struct policy_target **targets, size_t *n, const char *word, const char **ret_allowed) {
        struct ruling_key key, masked;
        unsigned long prefix_len;
        unsigned bits;
        char text[64];
        char *slash;

        *ret_allowed = "an address, or a network as 10.0.0.0/8 or fd00::/8 with no bits beyond its prefix";
        if (strlen(word) >= sizeof(text))
                return -EINVAL;
        strcpy(text, word);
        slash = strchr(text, '/');
        if (slash)
                *slash = '\0';
        if (values_key(text, &key, &bits) < 0)
                return -EINVAL;
        prefix_len = bits;
        if (slash && values_number(slash + 1, bits, &prefix_len) < 0)
                return -EINVAL;
        masked = values_mask(key, 128 - bits + (unsigned) prefix_len);
        if (ruling_key_compare(&masked, &key) != 0)
                return -EINVAL;
        return values_add_network(targets, n, &key, 128 - bits + (unsigned) prefix_len);
}

static int values_path(struct policy_target **targets, size_t *n, const char *word, const char **ret_allowed) {
        char path[sizeof(((struct sockaddr_un *) NULL)->sun_path) + 1];
        size_t len = strlen(word);

        *ret_allowed = "an absolute path without //, /./ or /../, or @ and an abstract name, of at most 107 bytes";
        if (len < 2 || len > 107 || strstr(word, "//") || strstr(word, "/./") || strstr(word, "/../") ||
            values_ends_with(word, "/") || values_ends_with(word, "/.") || values_ends_with(word, "/.."))
                return -EINVAL;
        strcpy(path, word);
        if (path[0] == '@')
                path[0] = '\0';
        return values_add_text(targets, n, POLICY_PATH, path, len);
}

static int values_name(struct policy_target **targets, size_t *n, const char *word, const char **ret_allowed) {
        char name[RULING_NAME_MAX + 1];
        size_t len = strlen(word), prefix_len = strncmp(word, "*.", 2) == 0 ? 2 : 0;

        *ret_allowed = "a name as db.example or *.example, an address or network, a path, any, localhost, link-local, "
                       "multicast or this-host";
        if (len > 0 && word[len - 1] == '.')
                len--;
        if (len <= prefix_len || len > RULING_NAME_MAX || !text_is_host_name(word + prefix_len, len - prefix_len) ||
            memchr(word, '%', len) || word[prefix_len] == '.')
                return -EINVAL;
        for (size_t i = 0; i < len; i++)
                name[i] = (char) tolower((unsigned char) word[i]);
        return values_add_text(targets, n, POLICY_NAME, name, len);
}

/* Words that stand for networks. Returns how many, or -ENOMEM. */
static int values_word(struct policy_target **targets, size_t *n, const char *word) {
        static const struct ruling_key zero, mapped = { 0, UINT64_C(0xffff00000000) };
        struct policy_target *place;
        int n_found = 0;

        if (strcmp(word, "any") == 0 || strcmp(word, "*") == 0) {
                if (values_add_network(targets, n, &zero, 0) < 0 || values_add_network(targets, n, &mapped, 96) < 0)
                        return -ENOMEM;
                return 2;
        }
        if (strcmp(word, "this-host") == 0) {
                place = policy_append(targets, n, sizeof(*place));
                if (!place)
                        return -ENOMEM;
                place->kind = POLICY_OWN;
                place->names_near = true;
                return 1;
        }
        for (size_t i = 0; i < sizeof(values_near) / sizeof(values_near[0]); i++) {
                struct ruling_key first;
                unsigned bits = 0;

                if (!values_near[i].word || strcmp(word, values_near[i].word) != 0)
                        continue;
                values_key(values_near[i].network, &first, &bits);
                if (values_add_network(targets, n, &first, 128 - bits + values_near[i].prefix_len) < 0)
                        return -ENOMEM;
                n_found++;
        }
        return n_found;
}

static int values_target(struct policy_target **targets, size_t *n, const char *word, const char **ret_allowed) {
        int r;

        r = values_word(targets, n, word);
        if (r != 0)
                return r < 0 ? r : 0;
        if (word[0] == '/' || word[0] == '@')
                return values_path(targets, n, word, ret_allowed);
        if (strchr(word, ':') || word[strspn(word, "0123456789./")] == '\0')
                return values_network(targets, n, word, ret_allowed);
        return values_name(targets, n, word, ret_allowed);
}

static int values_to(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        return values_target(&rule->to, &rule->n_to, word, ret_allowed);
}

static int values_at(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        size_t n = rule->n_at;
        int r;

        r = values_target(&rule->at, &rule->n_at, word, ret_allowed);
        if (r == 0 && rule->at[n].kind == POLICY_NAME) {
                *ret_allowed = "an address or network of this machine, a path, any, localhost or this-host";
                return -EINVAL;
        }
        return r;
}

/* --- Keys -------------------------------------------------------------------------------------------------------- */

static const struct values_form {
        const char *name;
        int (*take)(struct policy_rule *rule, const char *word, const char **ret_allowed);
} values_forms[] = {
        { "User", values_user },     { "Group", values_group },   { "Unit", values_unit },
        { "Cgroup", values_cgroup }, { "Action", values_action }, { "Protocol", values_protocol },
        { "To", values_to },         { "At", values_at },         { "Port", values_port },
};

int policy_take_word(struct policy_rule *rule, const char *key, const char *word, const char **ret_allowed) {
        for (size_t i = 0; i < sizeof(values_forms) / sizeof(values_forms[0]); i++)
                if (strcmp(key, values_forms[i].name) == 0)
                        return values_forms[i].take(rule, word, ret_allowed);
        return -ENOENT;
}
