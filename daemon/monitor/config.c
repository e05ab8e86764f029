/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The configuration file: what an administrator writes, and therefore where a mistake must be named, not guessed
 * around.
 *
 * Invariant: a file is taken whole or not at all. Every error is reported in one pass, with file, line, key, value and
 * what would be allowed; nothing is cut, ignored or rounded.
 *
 * The file is read into memory first, after its type, mode and size were checked on the open descriptor, so that no
 * later change of the path matters. inih then asks for one line after the other: the reader here counts them and stops
 * the parse at what inih would silently cut (a line longer than its buffer), continue (a line that begins with a blank)
 * or misread (a NUL byte).
 *
 * Rejected: values that are corrected into their range; unknown keys that are skipped for the sake of newer versions (a
 * misspelt key is far more common, and far more dangerous once the policy lives beside it).
 */

#include "daemon/monitor/config.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/cleanup.h"

struct config_parse {
        struct config *config;
        const char *path;
        FILE *errors; /* borrowed */
        const char *rest;
        size_t rest_len;
        unsigned line;
        unsigned n_errors;
        unsigned first_error_line;
        unsigned set_at[CONFIG_N_KEYS]; /* the line that set the key; 0: none */
};

static void config_fclose(FILE *file) {
        if (file)
                fclose(file);
}
DEFINE_CLEANUP(FILE *, config_fclose)

void config_init(struct config *config) {
        *config =
                (struct config){ .socket = CONFIG_SOCKET, .engine = "auto", .n_workers = 1, .poll_us = CONFIG_POLL_US };
        config->log = journal_default_target();
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
        case CONFIG_N_KEYS:
                break;
        }
        if (r < 0)
                return r;
        config->is_set[key] = true;
        return 0;
}

__attribute__((format(printf, 2, 3))) static void config_error(struct config_parse *parse, const char *format, ...) {
        va_list arguments;

        if (parse->n_errors++ == 0)
                parse->first_error_line = parse->line;
        fprintf(parse->errors, "%s:%u: ", parse->path, parse->line);
        va_start(arguments, format);
        vfprintf(parse->errors, format, arguments);
        va_end(arguments);
        fputc('\n', parse->errors);
}

/* The file's next line, as fgets would give it; NULL at the end and where the parse has to stop. */
static char *config_read_line(char *to, int size, void *stream) {
        struct config_parse *parse = stream;
        const char *end;
        size_t len;

        if (parse->rest_len == 0)
                return NULL;
        parse->line++;
        end = memchr(parse->rest, '\n', parse->rest_len);
        len = end ? (size_t) (end - parse->rest) + 1 : parse->rest_len;
        if (len > (size_t) size - 1) {
                config_error(parse, "this line has %zu bytes: at most %d are allowed", len, size - 3);
                return NULL;
        }
        if (memchr(parse->rest, '\0', len)) {
                config_error(parse, "this line contains a NUL byte: write plain text");
                return NULL;
        }
        memcpy(to, parse->rest, len);
        to[len] = '\0';
        parse->rest += len;
        parse->rest_len -= len;
        if ((to[0] == ' ' || to[0] == '\t') && to[strspn(to, " \t\r\n")] != '\0') {
                config_error(parse, "this line begins with a blank: begin settings and sections in the first column");
                strcpy(to, "\n");
        }
        return to;
}

static int config_take(void *data, const char *section, const char *name, const char *value) {
        static const char *const names[CONFIG_N_KEYS] = { "Socket", "Engine", "Workers", "Log", "PollMicroseconds" };
        struct config_parse *parse = data;
        const char *allowed;
        int r;

        if (strcmp(section, "Daemon") != 0) {
                config_error(parse, "section [%s], key %s=: the only section is [Daemon]", section, name);
                return 0;
        }
        for (int key = 0; key < CONFIG_N_KEYS; key++) {
                if (strcmp(name, names[key]) != 0)
                        continue;
                if (parse->set_at[key] > 0) {
                        config_error(parse, "%s=%s: already set in line %u", name, value, parse->set_at[key]);
                        return 0;
                }
                parse->set_at[key] = parse->line;
                r = config_set(parse->config, (enum config_key) key, value, &allowed);
                if (r < 0)
                        config_error(parse, "%s=%s: must be %s", name, value, allowed);
                return r >= 0;
        }
        config_error(parse, "%s=%s: unknown key; known are Socket=, Engine=, Workers=, Log=, PollMicroseconds=", name,
                     value);
        return 0;
}

/* Opens the file and checks what can be checked before a byte is read. */
static int config_open(const char *path, FILE *errors, size_t *ret_size, int *ret_fd) {
        _cleanup_fd_ int fd = -1;
        struct stat status;
        int r;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, &status) < 0) {
                r = -errno;
                fprintf(errors, "%s: %s\n", path, strerror(-r));
                return r;
        }
        if (!S_ISREG(status.st_mode)) {
                fprintf(errors, "%s: not a regular file\n", path);
                return -EINVAL;
        }
        if (status.st_mode & S_IWOTH) {
                fprintf(errors, "%s: mode %04o lets everybody write it: run chmod o-w\n", path,
                        (unsigned) status.st_mode & 07777u);
                return -EPERM;
        }
        if (status.st_size > (off_t) CONFIG_FILE_SIZE_MAX) {
                fprintf(errors, "%s: %lld bytes: at most %u are allowed\n", path, (long long) status.st_size,
                        CONFIG_FILE_SIZE_MAX);
                return -EFBIG;
        }
        *ret_size = (size_t) status.st_size;
        *ret_fd = fd_take(&fd);
        return 0;
}

static int config_read(const char *path, FILE *errors, char **ret_bytes, size_t *ret_len) {
        _cleanup_free_ char *bytes = NULL;
        _cleanup_fd_ int fd = -1;
        size_t size = 0, len = 0;
        int r;

        r = config_open(path, errors, &size, &fd);
        if (r < 0)
                return r;
        bytes = malloc(size + 1);
        if (!bytes)
                return -ENOMEM;
        while (len < size) {
                ssize_t n = read(fd, bytes + len, size - len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        r = -errno;
                        fprintf(errors, "%s: %s\n", path, strerror(-r));
                        return r;
                }
                if (n == 0)
                        break;
                len += (size_t) n;
        }
        *ret_bytes = take_ptr(bytes);
        *ret_len = len;
        return 0;
}

static int config_parse_file(struct config *config, const char *path, FILE *errors) {
        _cleanup_free_ char *bytes = NULL;
        struct config_parse parse = { .config = config, .path = path, .errors = errors };
        int r;

        r = config_read(path, errors, &bytes, &parse.rest_len);
        if (r < 0)
                return r;
        parse.rest = bytes;
        r = ini_parse_stream(config_read_line, &parse, config_take, &parse);
        if (r < 0)
                return -ENOMEM;
        if (r > 0 && (parse.n_errors == 0 || (unsigned) r < parse.first_error_line)) {
                parse.line = (unsigned) r;
                config_error(&parse, "neither a [Section], a Key=value nor a # comment");
        }
        return parse.n_errors > 0 ? -EINVAL : 0;
}

int config_load(struct config *config, const char *path, bool is_required, char **ret_errors) {
        struct config loaded = *config;
        _cleanup_free_ char *text = NULL;
        _cleanup_(config_fclose) FILE *errors = NULL;
        size_t text_len;
        int r;

        *ret_errors = NULL;
        if (!is_required && access(path, F_OK) < 0 && errno == ENOENT)
                return 0;
        errors = open_memstream(&text, &text_len);
        if (!errors)
                return -ENOMEM;
        r = config_parse_file(&loaded, path, errors);
        config_fclose(take_ptr(errors));
        if (r < 0) {
                *ret_errors = take_ptr(text);
                return r;
        }
        *config = loaded;
        return 0;
}
