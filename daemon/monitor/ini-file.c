/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Files of settings and of rules: what an administrator writes, and therefore where a mistake must be named, not
 * guessed around.
 *
 * Invariant: every error is reported in one pass, with file and line; nothing is cut, ignored or rounded.
 *
 * A file is read into memory first, after its type, owner, mode and size were checked on the open descriptor, so that
 * no later change of the path matters. inih then asks for one line after the other: the reader here counts them and
 * stops the parse at what inih would silently cut (a line longer than its buffer), continue (a line that begins with a
 * blank) or misread (a NUL byte). Sections are told of by the reader, too: inih says nothing of one without a key, cuts
 * a long name, and passes over what follows the bracket.
 */

#include "daemon/monitor/ini-file.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define INI_FILE_SECTION_MAX 49u /* what inih takes of a section's name */

void ini_file_error(struct ini_file *file, const char *format, ...) {
        va_list arguments;

        if (file->n_errors++ == 0)
                file->first_error_line = file->line;
        fprintf(file->errors, "%s:%u: ", file->path, file->line);
        va_start(arguments, format);
        vfprintf(file->errors, format, arguments);
        va_end(arguments);
        fputc('\n', file->errors);
}

/* --- Whom to trust ---------------------------------------------------------------------------------------------- */

static int ini_file_trusts(const char *path, const struct stat *status, enum ini_file_trust trust, FILE *errors) {
        unsigned mode = (unsigned) status->st_mode & 07777u;

        if (status->st_mode & S_IWOTH) {
                fprintf(errors, "%s: mode %04o lets everybody write it: run chmod o-w\n", path, mode);
                return -EPERM;
        }
        if (trust == INI_FILE_TRUST_ALL)
                return 0;
        if (status->st_uid != 0 && status->st_uid != geteuid()) {
                fprintf(errors, "%s: it belongs to user %u, who can write it: run chown root\n", path,
                        (unsigned) status->st_uid);
                return -EPERM;
        }
        if ((status->st_mode & S_IWGRP) && status->st_gid != 0) {
                fprintf(errors, "%s: mode %04o lets group %u write it: run chmod g-w\n", path, mode,
                        (unsigned) status->st_gid);
                return -EPERM;
        }
        return 0;
}

int ini_file_open(const char *path, enum ini_file_trust trust, bool is_directory, FILE *errors) {
        _cleanup_fd_ int fd = -1;
        struct stat status;
        int r;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, &status) < 0) {
                r = -errno;
                fprintf(errors, "%s: %s\n", path, strerror(-r));
                return r;
        }
        if (is_directory ? !S_ISDIR(status.st_mode) : !S_ISREG(status.st_mode)) {
                fprintf(errors, "%s: not a %s\n", path, is_directory ? "directory" : "regular file");
                return -EINVAL;
        }
        r = ini_file_trusts(path, &status, trust, errors);
        if (r < 0)
                return r;
        return fd_take(&fd);
}

/* --- Reading ---------------------------------------------------------------------------------------------------- */

/* Tells of a section; what inih would make of the line otherwise does not matter, for it is an error then. */
static void ini_file_section(struct ini_file *file, const char *line) {
        char section[INI_FILE_SECTION_MAX + 1];
        size_t len = strcspn(line + 1, "]");
        const char *behind;

        if (line[1 + len] != ']')
                return; /* inih says that the line is nothing */
        behind = line + 1 + len + 1;
        behind += strspn(behind, " \t\r\n");
        if (len > INI_FILE_SECTION_MAX) {
                ini_file_error(file, "section [%.*s]: its name has %zu bytes: at most %u are allowed", (int) len,
                               line + 1, len, INI_FILE_SECTION_MAX);
        } else if (*behind != '\0' && *behind != ';') {
                ini_file_error(file, "section [%.*s]: followed by '%.*s': begin a new line", (int) len, line + 1,
                               (int) strcspn(behind, "\r\n"), behind);
        } else {
                memcpy(section, line + 1, len);
                section[len] = '\0';
                file->take_section(file, section);
        }
}

/* The file's next line, as fgets would give it; NULL at the end and where the parse has to stop. */
static char *ini_file_line(char *to, int size, void *stream) {
        struct ini_file *file = stream;
        const char *end;
        size_t len;

        if (file->rest_len == 0)
                return NULL;
        file->line++;
        end = memchr(file->rest, '\n', file->rest_len);
        len = end ? (size_t) (end - file->rest) + 1 : file->rest_len;
        if (len > (size_t) size - 1) {
                ini_file_error(file, "this line has %zu bytes: at most %d are allowed", len, size - 3);
                return NULL;
        }
        if (memchr(file->rest, '\0', len)) {
                ini_file_error(file, "this line contains a NUL byte: write plain text");
                return NULL;
        }
        memcpy(to, file->rest, len);
        to[len] = '\0';
        file->rest += len;
        file->rest_len -= len;
        if ((to[0] == ' ' || to[0] == '\t') && to[strspn(to, " \t\r\n")] != '\0') {
                ini_file_error(file, "this line begins with a blank: begin settings and sections in the first column");
                strcpy(to, "\n");
        }
        if (to[0] == '[' && file->take_section)
                ini_file_section(file, to);
        return to;
}

static int ini_file_take(void *data, const char *section, const char *name, const char *value) {
        struct ini_file *file = data;
        unsigned n_errors = file->n_errors;

        file->take(file, section, name, value);
        return file->n_errors == n_errors;
}

static int ini_file_read_bytes(const char *path, int fd, FILE *errors, char **ret_bytes, size_t *ret_len) {
        _cleanup_free_ char *bytes = NULL;
        size_t size, len = 0;
        struct stat status;
        int r;

        if (fstat(fd, &status) < 0)
                return -errno;
        if (status.st_size > (off_t) INI_FILE_SIZE_MAX) {
                fprintf(errors, "%s: %lld bytes: at most %u are allowed\n", path, (long long) status.st_size,
                        INI_FILE_SIZE_MAX);
                return -EFBIG;
        }
        size = (size_t) status.st_size;
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

int ini_file_read(struct ini_file *file, int fd) {
        _cleanup_free_ char *bytes = NULL;
        int r;

        r = ini_file_read_bytes(file->path, fd, file->errors, &bytes, &file->rest_len);
        if (r < 0)
                return r;
        file->rest = bytes;
        r = ini_parse_stream(ini_file_line, file, ini_file_take, file);
        file->rest = NULL;
        if (r < 0)
                return -ENOMEM;
        if (r > 0 && (file->n_errors == 0 || (unsigned) r < file->first_error_line)) {
                file->line = (unsigned) r;
                ini_file_error(file, "neither a [Section], a Key=value nor a # comment");
        }
        return file->n_errors > 0 ? -EINVAL : 0;
}
