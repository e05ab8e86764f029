/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The files of the policy. ini-file.c reads them; what the sections, keys and values mean is here.
 *
 * Invariant: all files are taken, or none. A mistake anywhere leaves the rules as they were, because what is left of
 * rules of which one is missing allows or denies what nobody meant. Every mistake is reported, with file, line, key,
 * value and what would be allowed.
 *
 * Files are found as the service manager finds its own: by name, in the order of their names over all directories; one
 * in /etc hides one of the same name in /run or /usr/lib, also when it is empty or a link to /dev/null.
 *
 *   (none)       -> in a section  by [allow NAME] or [deny NAME]
 *   in a section -> in a section  by the next; the rule before it is complete, and is checked
 *   in a section -> (none)        by the end of the file; likewise
 *
 * Rejected: names of users that are looked up when somebody connects (the answer could be another one then); a rule
 * without anybody whom it is about.
 */

#include "daemon/monitor/policy-load.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "daemon/monitor/ini-file.h"
#include "proto/text.h"

#define LOAD_FILES_MAX 1024u
#define LOAD_PATH_SIZE 1024
#define LOAD_BLANKS " \t"

const char *const policy_system_directories[] = {
        "/etc/overlapd/policy.d",
        "/run/overlapd/policy.d",
        "/usr/lib/overlapd/policy.d",
        NULL,
};

struct load_file {
        char *name;
        const char *directory; /* borrowed */
};

struct load {
        struct policy *policy;
        FILE *errors; /* borrowed */
        struct load_file *files;
        size_t n_files;
        enum ini_file_trust trust;
        size_t weight;           /* of all rules */
        bool has_rule;           /* the section that is being read is a rule */
        unsigned section_line;   /* of that */
        unsigned n_errors_there; /* before that */
};

static void load_deinit(struct load *load) {
        policy_free(load->policy);
        for (size_t i = 0; i < load->n_files; i++)
                free(load->files[i].name);
        free(load->files);
}

static struct policy_rule *load_rule(const struct load *load) {
        return &load->policy->rules[load->policy->n_rules - 1];
}

/* --- Values ------------------------------------------------------------------------------------------------------ */

/* Each takes one word of a value. Returns 0; -EINVAL and what is allowed; -ENOMEM. */

static int load_number(const char *word, unsigned long max, unsigned long *ret_number) {
        size_t n_digits = strspn(word, "0123456789");

        if (n_digits == 0 || n_digits > 10 || word[n_digits] != '\0')
                return -EINVAL;
        *ret_number = strtoul(word, NULL, 10);
        return *ret_number <= max ? 0 : -EINVAL;
}

static int load_user(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        unsigned long number;
        struct passwd *user;
        uid_t *place;

        *ret_allowed = "a user of this machine, by name or number, or *";
        if (strcmp(word, "*") == 0) {
                rule->is_for_all_users = true;
                return 0;
        }
        if (load_number(word, UINT32_MAX - 1, &number) < 0) {
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

static int load_group(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        unsigned long number;
        struct group *group;
        gid_t *place;

        *ret_allowed = "a group of this machine, by name or number";
        if (load_number(word, UINT32_MAX - 1, &number) < 0) {
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

static bool load_ends_with(const char *word, const char *end) {
        size_t len = strlen(word), end_len = strlen(end);

        return len >= end_len && strcmp(word + len - end_len, end) == 0;
}

static int load_string(char ***strings, size_t *n, const char *word) {
        char **place = policy_append(strings, n, sizeof(*place));

        if (!place)
                return -ENOMEM;
        *place = strdup(word);
        return *place ? 0 : -ENOMEM;
}

static int load_unit(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        *ret_allowed = "the name of a service or scope with its ending, as web.service or web@*.service";
        if (!load_ends_with(word, ".service") && !load_ends_with(word, ".scope") && !load_ends_with(word, "*"))
                return -EINVAL;
        return load_string(&rule->units, &rule->n_units, word);
}

static int load_cgroup(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        size_t len = strlen(word);

        *ret_allowed = "the path of a control group, as /system.slice/web.service: it covers all that is below it";
        if (word[0] != '/' || (len > 1 && word[len - 1] == '/'))
                return -EINVAL;
        return load_string(&rule->cgroups, &rule->n_cgroups, word);
}

static int load_bit(const char *const *names, size_t n, const char *word, uint8_t *bits) {
        for (size_t i = 0; i < n; i++)
                if (strcmp(word, names[i]) == 0) {
                        *bits |= (uint8_t) (1u << i);
                        return 0;
                }
        return -EINVAL;
}

static int load_action(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        static const char *const names[RULING_N_ACTS] = { "connect", "listen", "sendto", "resolve", "export" };

        *ret_allowed = "some of connect, listen, sendto, resolve, export";
        return load_bit(names, RULING_N_ACTS, word, &rule->acts);
}

static int load_protocol(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        static const char *const names[RULING_N_PROTOCOLS] = { "tcp", "udp", "unix" };

        *ret_allowed = "some of tcp, udp, unix";
        return load_bit(names, RULING_N_PROTOCOLS, word, &rule->protocols);
}

static int load_port(struct policy_rule *rule, const char *word, const char **ret_allowed) {
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
        if (load_number(text, UINT16_MAX, &first) < 0 || load_number(dash ? dash + 1 : text, UINT16_MAX, &last) < 0 ||
            first > last)
                return -EINVAL;
        place = policy_append(&rule->ports, &rule->n_ports, sizeof(*place));
        if (!place)
                return -ENOMEM;
        *place = (struct policy_ports){ (uint16_t) first, (uint16_t) last };
        return 0;
}

/* --- Addresses, names, paths -------------------------------------------------------------------------------------- */

/* What a rule must name: all of a target lies in one of these, or it is one address. */
static const struct load_near {
        const char *word; /* that stands for it; NULL: none */
        const char *network;
        unsigned prefix_len;
} load_near[] = {
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

static int load_key(const char *word, struct ruling_key *ret_key, unsigned *ret_bits) {
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

static struct ruling_key load_mask(struct ruling_key key, unsigned len) {
        key.high &= len >= 64 ? UINT64_MAX : len > 0 ? UINT64_MAX << (64 - len) : 0;
        key.low &= len >= 128 ? UINT64_MAX : len > 64 ? UINT64_MAX << (128 - len) : 0;
        return key;
}

static bool load_names_near(const struct ruling_key *first, unsigned prefix_len) {
        bool names = prefix_len == 128;

        for (size_t i = 0; i < sizeof(load_near) / sizeof(load_near[0]) && !names; i++) {
                struct ruling_key outer, masked;
                unsigned bits = 0, len;

                load_key(load_near[i].network, &outer, &bits);
                len = 128 - bits + load_near[i].prefix_len;
                masked = load_mask(*first, len);
                names = prefix_len >= len && ruling_key_compare(&masked, &outer) == 0;
        }
        return names;
}

static int load_add_network(struct policy_target **targets, size_t *n, const struct ruling_key *first, unsigned len) {
        struct policy_target *place = policy_append(targets, n, sizeof(*place));

        if (!place)
                return -ENOMEM;
        place->kind = POLICY_NETWORK;
        place->first = *first;
        place->prefix_len = (uint8_t) len;
        place->names_near = load_names_near(first, len);
        return 0;
}

static int load_add_text(struct policy_target **targets, size_t *n, enum policy_target_kind kind, const char *bytes,
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

static int load_network(struct policy_target **targets, size_t *n, const char *word, const char **ret_allowed) {
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
        if (load_key(text, &key, &bits) < 0)
                return -EINVAL;
        prefix_len = bits;
        if (slash && load_number(slash + 1, bits, &prefix_len) < 0)
                return -EINVAL;
        masked = load_mask(key, 128 - bits + (unsigned) prefix_len);
        if (ruling_key_compare(&masked, &key) != 0)
                return -EINVAL;
        return load_add_network(targets, n, &key, 128 - bits + (unsigned) prefix_len);
}

static int load_path(struct policy_target **targets, size_t *n, const char *word, const char **ret_allowed) {
        char path[sizeof(((struct sockaddr_un *) NULL)->sun_path) + 1];
        size_t len = strlen(word);

        *ret_allowed = "an absolute path without //, /./ or /../, or @ and an abstract name, of at most 107 bytes";
        if (len < 2 || len > 107 || strstr(word, "//") || strstr(word, "/./") || strstr(word, "/../") ||
            load_ends_with(word, "/") || load_ends_with(word, "/.") || load_ends_with(word, "/.."))
                return -EINVAL;
        strcpy(path, word);
        if (path[0] == '@')
                path[0] = '\0';
        return load_add_text(targets, n, POLICY_PATH, path, len);
}

static int load_name(struct policy_target **targets, size_t *n, const char *word, const char **ret_allowed) {
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
        return load_add_text(targets, n, POLICY_NAME, name, len);
}

/* Words that stand for networks. Returns how many, or -ENOMEM. */
static int load_word(struct policy_target **targets, size_t *n, const char *word) {
        static const struct ruling_key zero, mapped = { 0, UINT64_C(0xffff00000000) };
        struct policy_target *place;
        int n_found = 0;

        if (strcmp(word, "any") == 0 || strcmp(word, "*") == 0) {
                if (load_add_network(targets, n, &zero, 0) < 0 || load_add_network(targets, n, &mapped, 96) < 0)
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
        for (size_t i = 0; i < sizeof(load_near) / sizeof(load_near[0]); i++) {
                struct ruling_key first;
                unsigned bits = 0;

                if (!load_near[i].word || strcmp(word, load_near[i].word) != 0)
                        continue;
                load_key(load_near[i].network, &first, &bits);
                if (load_add_network(targets, n, &first, 128 - bits + load_near[i].prefix_len) < 0)
                        return -ENOMEM;
                n_found++;
        }
        return n_found;
}

static int load_target(struct policy_target **targets, size_t *n, const char *word, const char **ret_allowed) {
        int r;

        r = load_word(targets, n, word);
        if (r != 0)
                return r < 0 ? r : 0;
        if (word[0] == '/' || word[0] == '@')
                return load_path(targets, n, word, ret_allowed);
        if (strchr(word, ':') || word[strspn(word, "0123456789./")] == '\0')
                return load_network(targets, n, word, ret_allowed);
        return load_name(targets, n, word, ret_allowed);
}

static int load_to(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        return load_target(&rule->to, &rule->n_to, word, ret_allowed);
}

static int load_at(struct policy_rule *rule, const char *word, const char **ret_allowed) {
        size_t n = rule->n_at;
        int r;

        r = load_target(&rule->at, &rule->n_at, word, ret_allowed);
        if (r == 0 && rule->at[n].kind == POLICY_NAME) {
                *ret_allowed = "an address or network of this machine, a path, any, localhost or this-host";
                return -EINVAL;
        }
        return r;
}

/* --- Keys -------------------------------------------------------------------------------------------------------- */

static const struct load_key_form {
        const char *name;
        int (*take)(struct policy_rule *rule, const char *word, const char **ret_allowed);
} load_keys[] = {
        { "User", load_user },     { "Group", load_group },   { "Unit", load_unit },
        { "Cgroup", load_cgroup }, { "Action", load_action }, { "Protocol", load_protocol },
        { "To", load_to },         { "At", load_at },         { "Port", load_port },
};

static void load_take_words(struct ini_file *file, const struct load_key_form *key, const char *value) {
        struct policy_rule *rule = load_rule(file->data);
        const char *allowed = "";
        char word[256];
        size_t n = 0;

        for (value += strspn(value, LOAD_BLANKS); *value; value += strspn(value, LOAD_BLANKS)) {
                size_t len = strcspn(value, LOAD_BLANKS);
                int r;

                n++;
                snprintf(word, sizeof(word), "%.*s", (int) len, value);
                value += len;
                r = key->take(rule, word, &allowed);
                if (r == -ENOMEM)
                        ini_file_error(file, "%s=%s: no memory", key->name, word);
                else if (r < 0)
                        ini_file_error(file, "%s=%s: must be %s", key->name, word, allowed);
        }
        if (n == 0)
                ini_file_error(file, "%s=: the value is missing: leave the line out, or write what it is about",
                               key->name);
}

static void load_take(struct ini_file *file, const char *section, const char *name, const char *value) {
        struct load *load = file->data;

        if (!load->has_rule) {
                if (load->section_line == 0)
                        ini_file_error(file, "%s=%s: begin a rule with [allow NAME] or [deny NAME] first", name, value);
                return; /* the section was reported */
        }
        for (size_t i = 0; i < sizeof(load_keys) / sizeof(load_keys[0]); i++)
                if (strcmp(name, load_keys[i].name) == 0) {
                        load_take_words(file, &load_keys[i], value);
                        return;
                }
        ini_file_error(file,
                       "%s=%s: unknown key; known are User=, Group=, Unit=, Cgroup=, Action=, Protocol=, To=, At=, "
                       "Port=",
                       name, value);
}

/* --- Rules that are complete ------------------------------------------------------------------------------------- */

static size_t load_count(const struct policy_target *targets, size_t n, enum policy_target_kind kind) {
        size_t n_found = 0;

        for (size_t i = 0; i < n; i++)
                n_found += targets[i].kind == kind;
        return n_found;
}

static bool load_has_act(const struct policy_rule *rule, enum ruling_act act) {
        return rule->acts & 1u << act;
}

/* Without a protocol: what its targets are. */
static void load_choose_protocols(struct policy_rule *rule) {
        size_t n_targets = rule->n_to + rule->n_at;
        size_t n_paths = load_count(rule->to, rule->n_to, POLICY_PATH) + load_count(rule->at, rule->n_at, POLICY_PATH);

        if (rule->protocols != 0)
                return;
        if (n_paths > 0)
                rule->protocols |= 1u << RULING_UNIX;
        if (n_targets == 0 || n_targets > n_paths)
                rule->protocols |= 1u << RULING_TCP | 1u << RULING_UDP;
}

/* What of a rule contradicts the rest of it; NULL: nothing. */
static const char *load_contradiction(const struct policy_rule *rule) {
        bool reaches = load_has_act(rule, RULING_CONNECT) || load_has_act(rule, RULING_SENDTO);
        bool listens = load_has_act(rule, RULING_LISTEN), is_inet = rule->protocols & ~(1u << RULING_UNIX);
        bool is_unix = rule->protocols & 1u << RULING_UNIX;
        size_t n_to_paths = load_count(rule->to, rule->n_to, POLICY_PATH);
        size_t n_at_paths = load_count(rule->at, rule->n_at, POLICY_PATH);

        if (rule->n_users + rule->n_groups + rule->n_units + rule->n_cgroups == 0 && !rule->is_for_all_users)
                return "nobody is named whom it is about: add User=, Group=, Unit= or Cgroup=";
        if (rule->acts == 0)
                return "Action= is missing: some of connect, listen, sendto, resolve, export";
        if (rule->n_to > 0 && !reaches && !load_has_act(rule, RULING_RESOLVE))
                return "To= goes with Action=connect, sendto or resolve; where one listens is At=";
        if (rule->n_at > 0 && !listens)
                return "At= goes with Action=listen; where one connects to is To=";
        if (rule->n_ports > 0 && (!is_inet || (!reaches && !listens)))
                return "Port= goes with Action=connect, listen or sendto and Protocol=tcp or udp";
        if (load_has_act(rule, RULING_SENDTO) && !(rule->protocols & ~(1u << RULING_TCP)))
                return "Action=sendto goes with Protocol=udp or unix: a TCP socket sends where it is connected to";
        if (n_to_paths + n_at_paths > 0 && !is_unix)
                return "a path goes with Protocol=unix";
        if (is_unix && !is_inet && rule->n_to + rule->n_at > n_to_paths + n_at_paths)
                return "Protocol=unix goes with paths";
        if (is_unix && rule->is_allowing && ((reaches && n_to_paths == 0) || (listens && n_at_paths == 0)))
                return "sockets of Protocol=unix are allowed by their paths only: name them in To=, for listen in At=";
        return NULL;
}

static void load_finish_rule(struct ini_file *file) {
        struct load *load = file->data;
        struct policy_rule *rule;
        const char *problem;
        unsigned line = file->line;

        if (!load->has_rule)
                return;
        load->has_rule = false;
        rule = load_rule(load);
        load_choose_protocols(rule);
        problem = load_contradiction(rule);
        load->weight += policy_rule_weight(rule);
        file->line = load->section_line;
        /* What is wrong in a line of it is the better news. */
        if (problem && file->n_errors == load->n_errors_there)
                ini_file_error(file, "[%s %s]: %s", rule->is_allowing ? "allow" : "deny", rule->name, problem);
        else if (load->weight > POLICY_ATOMS_MAX)
                ini_file_error(file, "[%s %s]: with this rule there are more than %u networks times ports",
                               rule->is_allowing ? "allow" : "deny", rule->name, POLICY_ATOMS_MAX);
        file->line = line;
}

/* --- Sections ---------------------------------------------------------------------------------------------------- */

static bool load_is_rule_name(const char *name) {
        size_t len = strlen(name);

        return len > 0 && len <= POLICY_RULE_NAME_MAX &&
               name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")] == '\0';
}

static int load_begin_rule(struct ini_file *file, bool is_allowing, const char *name) {
        struct load *load = file->data;
        struct policy_rule *rule;
        int r;

        r = policy_add(load->policy, &rule);
        if (r < 0)
                return r;
        rule->is_allowing = is_allowing;
        rule->name = strdup(name);
        if (!rule->name || asprintf(&rule->place, "%s:%u", file->path, file->line) < 0)
                return -ENOMEM;
        load->has_rule = true;
        return 0;
}

static void load_take_section(struct ini_file *file, const char *section) {
        const char *name = strchr(section, ' ');
        bool is_allowing = name && strncmp(section, "allow ", 6) == 0;
        struct load *load = file->data;
        const struct policy_rule *other;
        int r;

        load_finish_rule(file);
        load->section_line = file->line;
        load->n_errors_there = file->n_errors;
        if (!name || (!is_allowing && strncmp(section, "deny ", 5) != 0)) {
                ini_file_error(file, "section [%s]: must be [allow NAME] or [deny NAME]", section);
                return;
        }
        name += strspn(name, " ");
        if (!load_is_rule_name(name)) {
                ini_file_error(file, "section [%s]: the name of a rule has 1 to %u letters, digits, '-', '_', '.'",
                               section, POLICY_RULE_NAME_MAX);
                return;
        }
        other = policy_find(load->policy, name);
        if (other) {
                ini_file_error(file, "section [%s]: the name is taken by %s: choose another", section, other->place);
                return;
        }
        r = load_begin_rule(file, is_allowing, name);
        if (r < 0)
                ini_file_error(file, "section [%s]: %s", section,
                               r == -E2BIG ? "there are too many rules" : strerror(-r));
}

/* --- Files ------------------------------------------------------------------------------------------------------- */

static bool load_knows(const struct load *load, const char *name) {
        for (size_t i = 0; i < load->n_files; i++)
                if (strcmp(load->files[i].name, name) == 0)
                        return true;
        return false;
}

static int load_note(struct load *load, const char *directory, const char *name) {
        struct load_file *file;

        if (name[0] == '.' || !load_ends_with(name, ".conf") || load_knows(load, name))
                return 0;
        if (load->n_files >= LOAD_FILES_MAX) {
                fprintf(load->errors, "%s: more than %u files\n", directory, LOAD_FILES_MAX);
                return -E2BIG;
        }
        file = policy_append(&load->files, &load->n_files, sizeof(*file));
        if (!file)
                return -ENOMEM;
        file->directory = directory;
        file->name = strdup(name);
        return file->name ? 0 : -ENOMEM;
}

static int load_list(struct load *load, const char *directory) {
        _cleanup_fd_ int fd = -1;
        struct dirent *entry;
        DIR *listing;
        int r = 0;

        if (access(directory, F_OK) < 0 && errno == ENOENT)
                return 0;
        fd = ini_file_open(directory, load->trust, true, load->errors);
        if (fd < 0)
                return fd;
        listing = fdopendir(fd);
        if (!listing)
                return -errno;
        fd_take(&fd);
        while (r >= 0 && (errno = 0, entry = readdir(listing)))
                r = load_note(load, directory, entry->d_name);
        if (r >= 0 && errno != 0) {
                r = -errno;
                fprintf(load->errors, "%s: %s\n", directory, strerror(-r));
        }
        closedir(listing);
        return r;
}

static int load_compare_files(const void *left, const void *right) {
        const struct load_file *a = left, *b = right;

        return strcmp(a->name, b->name);
}

/* A link to /dev/null hides the file of that name elsewhere, and says nothing itself. */
static bool load_is_mask(const char *path) {
        struct stat status, null;

        return stat(path, &status) == 0 && S_ISCHR(status.st_mode) && stat("/dev/null", &null) == 0 &&
               status.st_rdev == null.st_rdev;
}

static int load_read(struct load *load, const struct load_file *from) {
        char path[LOAD_PATH_SIZE];
        struct ini_file file = {
                .path = path,
                .errors = load->errors,
                .take_section = load_take_section,
                .take = load_take,
                .data = load,
        };
        _cleanup_fd_ int fd = -1;
        int r;

        if (snprintf(path, sizeof(path), "%s/%s", from->directory, from->name) >= (int) sizeof(path))
                return -ENAMETOOLONG;
        if (load_is_mask(path))
                return 0;
        fd = ini_file_open(path, load->trust, false, load->errors);
        if (fd < 0)
                return fd;
        load->has_rule = false;
        load->section_line = 0;
        r = ini_file_read(&file, fd);
        load_finish_rule(&file);
        return r < 0 ? r : file.n_errors > 0 ? -EINVAL : 0;
}

static int load_all(struct load *load, const char *const *directories) {
        int r, result = 0;

        for (; *directories; directories++) {
                r = load_list(load, *directories);
                if (r < 0)
                        return r;
        }
        qsort(load->files, load->n_files, sizeof(*load->files), load_compare_files);
        for (size_t i = 0; i < load->n_files; i++) {
                r = load_read(load, &load->files[i]);
                if (r < 0)
                        result = r;
        }
        return result;
}

static void load_fclose(FILE *file) {
        if (file)
                fclose(file);
}
DEFINE_CLEANUP(FILE *, load_fclose)

int policy_load(const char *const *directories, struct policy **ret_policy, char **ret_errors) {
        _cleanup_free_ char *text = NULL;
        cleanup(load_deinit) struct load load = { 0 };
        _cleanup_(load_fclose) FILE *errors = NULL;
        size_t text_len;
        int r;

        *ret_errors = NULL;
        errors = open_memstream(&text, &text_len);
        if (!errors)
                return -ENOMEM;
        load.errors = errors;
        load.trust = directories == policy_system_directories ? INI_FILE_TRUST_ROOT : INI_FILE_TRUST_OWNER;
        r = policy_new(&load.policy);
        if (r >= 0)
                r = load_all(&load, directories);
        load_fclose(take_ptr(errors));
        if (r < 0) {
                *ret_errors = take_ptr(text);
                return r;
        }
        *ret_policy = take_ptr(load.policy);
        return 0;
}
