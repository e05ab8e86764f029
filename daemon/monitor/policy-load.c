/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The files of the policy. ini-file.c reads them; what the sections, keys and values mean is here.
 *
 * Invariant: all files are taken, or none. A mistake anywhere leaves the rules as they were, because what is left of
 * rules of which one is missing allows or denies what nobody meant. Every mistake is reported, with file, line, key,
 * value and what would be allowed.
 *
 * Files are found as those of the settings are (dropin.c).
 *
 *   (none)       -> in a section  by [allow NAME] or [deny NAME]
 *   in a section -> in a section  by the next; the rule before it is complete, and is checked
 *   in a section -> (none)        by the end of the file; likewise
 *
 * Rejected: names of users that are looked up when somebody connects (the answer could be another one then); a rule
 * without anybody whom it is about.
 */

#include "daemon/monitor/policy-load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/monitor/dropin.h"
#include "daemon/monitor/ini-file.h"
#include "daemon/monitor/policy-values.h"

#define LOAD_WORD_SIZE 256 /* no line is longer */
#define LOAD_BLANKS " \t"

const char *const policy_system_directories[] = {
        "/etc/overlapd/policy.d",
        "/run/overlapd/policy.d",
        "/usr/lib/overlapd/policy.d",
        NULL,
};

struct load {
        struct policy *policy;
        FILE *errors; /* borrowed */
        enum ini_file_trust trust;
        size_t weight;           /* of all rules */
        bool is_full;            /* there are too many rules, and that was said */
        bool has_rule;           /* the section that is being read is a rule */
        unsigned section_line;   /* of that */
        unsigned n_errors_there; /* before that */
};

static void load_deinit(struct load *load) {
        policy_free(load->policy);
}

static struct policy_rule *load_rule(const struct load *load) {
        return &load->policy->rules[load->policy->n_rules - 1];
}

/* --- Keys -------------------------------------------------------------------------------------------------------- */

/* Returns whether there is such a key. */
static bool load_take_word(struct ini_file *file, const char *name, const char *word) {
        const char *allowed = "";
        int r = policy_take_word(load_rule(file->data), name, word, &allowed);

        if (r == -ENOENT)
                ini_file_error(file, "%s=%s: unknown key; known are %s", name, word, POLICY_KEYS);
        else if (r == -ENOMEM)
                ini_file_error(file, "%s=%s: no memory", name, word);
        else if (r < 0)
                ini_file_error(file, "%s=%s: must be %s", name, word, allowed);
        return r != -ENOENT;
}

static void load_take(struct ini_file *file, const char *section, const char *name, const char *value) {
        struct load *load = file->data;
        char word[LOAD_WORD_SIZE];
        size_t n = 0;

        if (!load->has_rule) {
                if (load->section_line == 0)
                        ini_file_error(file, "%s=%s: begin a rule with [allow NAME] or [deny NAME] first", name, value);
                return; /* the section was reported */
        }
        for (value += strspn(value, LOAD_BLANKS); *value; value += strspn(value, LOAD_BLANKS)) {
                size_t len = strcspn(value, LOAD_BLANKS);

                snprintf(word, sizeof(word), "%.*s", (int) len, value);
                value += len;
                if (!load_take_word(file, name, word))
                        return;
                n++;
        }
        if (n == 0)
                ini_file_error(file, "%s=: the value is missing: leave the line out, or write what it is about", name);
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
        bool was_full;

        if (!load->has_rule)
                return;
        load->has_rule = false;
        rule = load_rule(load);
        load_choose_protocols(rule);
        problem = load_contradiction(rule);
        was_full = load->weight > POLICY_ATOMS_MAX;
        load->weight += policy_rule_weight(rule);
        file->line = load->section_line;
        /* What is wrong in a line of it is the better news. */
        if (problem && file->n_errors == load->n_errors_there)
                ini_file_error(file, "[%s %s]: %s", rule->is_allowing ? "allow" : "deny", rule->name, problem);
        else if (load->weight > POLICY_ATOMS_MAX && !was_full)
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
        if (r == -E2BIG && !load->is_full)
                ini_file_error(file, "section [%s]: there are more than %u rules", section, POLICY_RULES_MAX);
        else if (r < 0 && r != -E2BIG)
                ini_file_error(file, "section [%s]: %s", section, strerror(-r));
        load->is_full = load->is_full || r == -E2BIG;
}

/* --- Files ------------------------------------------------------------------------------------------------------- */

static int load_read(struct load *load, const char *path) {
        struct ini_file file = {
                .path = path,
                .errors = load->errors,
                .take_section = load_take_section,
                .take = load_take,
                .data = load,
        };
        _cleanup_fd_ int fd = -1;
        int r;

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
        cleanup(dropin_files_deinit) struct dropin_files files = { 0 };
        int r, result;

        result = dropin_find_in(directories, load->trust, load->errors, &files);
        for (size_t i = 0; i < files.n_paths; i++) {
                r = load_read(load, files.paths[i]);
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
