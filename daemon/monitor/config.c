/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The settings: from files, which dropin.c finds and ini-file.c reads, and from the command line.
 *
 * Invariant: all files are taken whole or none is; the later of two wins, within one a key is set once. Every error is
 * reported in one pass, with file, line, key, value and what would be allowed.
 *
 * Rejected: values that are corrected into their range; unknown keys that are skipped for the sake of newer versions (a
 * misspelt key is far more common, and far more dangerous once the policy lives beside it).
 */

#include "daemon/monitor/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/monitor/dropin.h"
#include "daemon/monitor/ini-file.h"

struct config_parse {
        struct config *config;
        unsigned set_at[CONFIG_N_KEYS]; /* the line that set the key; 0: none */
};

static void config_fclose(FILE *file) {
        if (file)
                fclose(file);
}
DEFINE_CLEANUP(FILE *, config_fclose)

void config_init(struct config *config) {
        *config = (struct config){
                .socket = CONFIG_SOCKET, .engine = "auto", .policy = "system", .n_workers = 1, .poll_us = CONFIG_POLL_US
        };
        config->log = journal_default_target();
        allowances_init(&config->allowances);
}

static int config_set_socket(struct config *config, const char *value, const char **ret_allowed) {
        *ret_allowed = "an absolute path of at most 107 bytes";
        if (value[0] != '/' || strlen(value) > CONFIG_SOCKET_PATH_MAX)
                return -EINVAL;
        strcpy(config->socket, value);
        return 0;
}

static int config_set_engine(struct config *config, const char *value, const char **ret_allowed) {
        *ret_allowed = "auto, uring or epoll";
        if (strcmp(value, "auto") != 0 && strcmp(value, "uring") != 0 && strcmp(value, "epoll") != 0)
                return -EINVAL;
        strcpy(config->engine, value);
        return 0;
}

static int config_set_number(const char *value, unsigned min, unsigned max, unsigned *ret_number) {
        size_t n_digits = strspn(value, "0123456789");
        unsigned long n;

        if (n_digits == 0 || n_digits > 4 || value[n_digits] != '\0')
                return -EINVAL;
        n = strtoul(value, NULL, 10);
        if (n < min || n > max)
                return -EINVAL;
        *ret_number = (unsigned) n;
        return 0;
}

static int config_set_workers(struct config *config, const char *value, const char **ret_allowed) {
        *ret_allowed = "a number from 1 to 64";
        return config_set_number(value, 1, CONFIG_WORKERS_MAX, &config->n_workers);
}

static int config_set_poll(struct config *config, const char *value, const char **ret_allowed) {
        *ret_allowed = "a number from 0 (never) to 1000";
        return config_set_number(value, 0, CONFIG_POLL_US_MAX, &config->poll_us);
}

static int config_set_log(struct config *config, const char *value, const char **ret_allowed) {
        *ret_allowed = "journal or stderr";
        if (strcmp(value, "journal") == 0)
                config->log = JOURNAL_TO_JOURNAL;
        else if (strcmp(value, "stderr") == 0)
                config->log = JOURNAL_TO_STDERR;
        else
                return -EINVAL;
        return 0;
}

static int config_set_policy(struct config *config, const char *value, const char **ret_allowed) {
        *ret_allowed = "system, own, or the absolute path of a directory, of at most 255 bytes";
        if ((value[0] != '/' && strcmp(value, "system") != 0 && strcmp(value, "own") != 0) ||
            strlen(value) > CONFIG_POLICY_MAX)
                return -EINVAL;
        strcpy(config->policy, value);
        return 0;
}

int config_set(struct config *config, enum config_key key, const char *value, const char **ret_allowed) {
        int r = -EINVAL;

        switch (key) {
        case CONFIG_KEY_SOCKET:
                r = config_set_socket(config, value, ret_allowed);
                break;
        case CONFIG_KEY_ENGINE:
                r = config_set_engine(config, value, ret_allowed);
                break;
        case CONFIG_KEY_WORKERS:
                r = config_set_workers(config, value, ret_allowed);
                break;
        case CONFIG_KEY_LOG:
                r = config_set_log(config, value, ret_allowed);
                break;
        case CONFIG_KEY_POLL:
                r = config_set_poll(config, value, ret_allowed);
                break;
        case CONFIG_KEY_POLICY:
                r = config_set_policy(config, value, ret_allowed);
                break;
        case CONFIG_N_KEYS:
                break;
        }
        if (r < 0)
                return r;
        config->is_set[key] = true;
        return 0;
}

/* In the order of enum config_key. */
static const char *const config_names[CONFIG_N_KEYS] = { "Socket", "Engine",           "Workers",
                                                         "Log",    "PollMicroseconds", "Policy" };

const char *config_key_name(enum config_key key) {
        return config_names[key];
}

const char *config_format(const struct config *config, enum config_key key, char text[CONFIG_VALUE_SIZE]) {
        switch (key) {
        case CONFIG_KEY_SOCKET:
                return config->socket;
        case CONFIG_KEY_ENGINE:
                return config->engine;
        case CONFIG_KEY_WORKERS:
                snprintf(text, CONFIG_VALUE_SIZE, "%u", config->n_workers);
                return text;
        case CONFIG_KEY_LOG:
                return config->log == JOURNAL_TO_STDERR ? "stderr" : "journal";
        case CONFIG_KEY_POLL:
                snprintf(text, CONFIG_VALUE_SIZE, "%u", config->poll_us);
                return text;
        case CONFIG_KEY_POLICY:
                return config->policy;
        case CONFIG_N_KEYS:
                break;
        }
        return "";
}

void config_place(struct config *config, enum config_key key, const char *format, ...) {
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(config->places[key], CONFIG_PLACE_SIZE, format, arguments);
        va_end(arguments);
}

/* What is wrong with the section itself was said where it began. */
static void config_take_allowance(struct ini_file *file, const char *section, const char *name, const char *value) {
        struct config_parse *parse = file->data;
        struct allowances_section *place;
        char problem[ALLOWANCES_TEXT_SIZE];

        place = allowances_section(&parse->config->allowances, section, problem);
        if (!place && section[0] == '\0')
                ini_file_error(file, "section [], key %s=: it stands before the first section", name);
        else if (place && allowances_set(place, name, value, file->line, problem) < 0)
                ini_file_error(file, "%s", problem);
}

/* A section in which nothing is set is looked at as well. */
static void config_take_section(struct ini_file *file, const char *section) {
        struct config_parse *parse = file->data;
        char problem[ALLOWANCES_TEXT_SIZE];

        if (strcmp(section, CONFIG_SECTION) != 0 && !allowances_section(&parse->config->allowances, section, problem))
                ini_file_error(file, "section [%s]: %s", section, problem);
}

static void config_take(struct ini_file *file, const char *section, const char *name, const char *value) {
        struct config_parse *parse = file->data;
        const char *allowed;

        if (strcmp(section, CONFIG_SECTION) != 0) {
                config_take_allowance(file, section, name, value);
                return;
        }
        for (int key = 0; key < CONFIG_N_KEYS; key++) {
                if (strcmp(name, config_names[key]) != 0)
                        continue;
                if (parse->set_at[key] > 0) {
                        ini_file_error(file, "%s=%s: already set in line %u", name, value, parse->set_at[key]);
                        return;
                }
                parse->set_at[key] = file->line;
                if (config_set(parse->config, (enum config_key) key, value, &allowed) < 0)
                        ini_file_error(file, "%s=%s: must be %s", name, value, allowed);
                config_place(parse->config, (enum config_key) key, "%s:%u", file->path, file->line);
                return;
        }
        ini_file_error(file,
                       "%s=%s: unknown key; known are Socket=, Engine=, Workers=, Log=, PollMicroseconds=, Policy=",
                       name, value);
}

static int config_parse_file(struct config *config, const char *path, FILE *errors) {
        struct config_parse parse = { .config = config };
        struct ini_file file = {
                .path = path,
                .errors = errors,
                .take_section = config_take_section,
                .take = config_take,
                .data = &parse,
        };
        _cleanup_fd_ int fd = -1;

        fd = ini_file_open(path, INI_FILE_TRUST_ALL, false, errors);
        if (fd < 0)
                return fd;
        allowances_begin_file(&config->allowances, path);
        return ini_file_read(&file, fd);
}

/* Where the system's settings are looked for: what stands before CONFIG_PATH. Returns whether it is such a path. */
static bool config_is_system(const char *path, char **ret_root) {
        size_t len = strlen(path), suffix_len = strlen(CONFIG_PATH);

        if (len < suffix_len || strcmp(path + len - suffix_len, CONFIG_PATH) != 0)
                return false;
        *ret_root = strndup(path, len - suffix_len);
        return true;
}

/* Reads all of them even when one is wrong, so that every mistake is named. */
static int config_parse_files(struct config *config, const char *root, FILE *errors) {
        cleanup(dropin_files_deinit) struct dropin_files files = { 0 };
        int result, r;

        result = dropin_find(root, CONFIG_NAME, errors, &files);
        for (size_t i = 0; i < files.n_paths; i++) {
                r = config_parse_file(config, files.paths[i], errors);
                if (r < 0 && result >= 0)
                        result = r;
        }
        return result;
}

int config_load(struct config *config, const char *path, bool is_required, char **ret_errors) {
        struct config loaded = *config;
        _cleanup_free_ char *text = NULL, *root = NULL;
        _cleanup_(config_fclose) FILE *errors = NULL;
        bool is_system = !is_required && config_is_system(path, &root);
        size_t text_len;
        int r;

        *ret_errors = NULL;
        if (is_system && !root)
                return -ENOMEM;
        if (!is_required && !is_system && access(path, F_OK) < 0 && errno == ENOENT)
                return 0;
        errors = open_memstream(&text, &text_len);
        if (!errors)
                return -ENOMEM;
        r = is_system ? config_parse_files(&loaded, root, errors) : config_parse_file(&loaded, path, errors);
        config_fclose(take_ptr(errors));
        if (r < 0) {
                *ret_errors = take_ptr(text);
                return r;
        }
        *config = loaded;
        return 0;
}
