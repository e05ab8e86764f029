/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Drop-ins: a package brings settings in /usr/lib, what generates them at boot puts them into /run, the administrator's
 * are in /etc, and each can overrule a part of the others' without touching their files.
 *
 * Invariant: the order depends on names alone, never on a directory's. Nothing is read here: whether a file may be
 * trusted is for whoever opens it.
 *
 * Rejected: fewer places than systemd has, which administrators would have to learn.
 */

#include "daemon/monitor/dropin.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "daemon/monitor/ini-file.h"

#define DROPIN_SUFFIX ".conf"

static const char *const dropin_places[] = { "etc", "run", "usr/lib" };

/* A file that was found, and where its name begins. */
struct dropin_found {
        char *path;
        const char *name;
        bool is_hidden; /* a link to /dev/null */
};

struct dropin_list {
        struct dropin_found *files;
        size_t n_files;
};

static void dropin_list_deinit(struct dropin_list *list) {
        for (size_t i = 0; i < list->n_files; i++)
                free(list->files[i].path);
        free(list->files);
        *list = (struct dropin_list){ 0 };
}

static void dropin_closedir(DIR *directory) {
        if (directory)
                closedir(directory);
}
DEFINE_CLEANUP(DIR *, dropin_closedir)

void dropin_files_deinit(struct dropin_files *files) {
        for (size_t i = 0; i < files->n_paths; i++)
                free(files->paths[i]);
        free(files->paths);
        *files = (struct dropin_files){ 0 };
}

static bool dropin_is_hiding(const char *path) {
        struct stat status;

        return stat(path, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

/* take_path: taken on success. A name that is there already hides this one. */
static int dropin_add(struct dropin_list *list, char *take_path, bool *ret_taken) {
        const char *name = strrchr(take_path, '/') + 1;
        struct dropin_found *files;

        *ret_taken = false;
        for (size_t i = 0; i < list->n_files; i++)
                if (strcmp(list->files[i].name, name) == 0)
                        return 0;
        if (list->n_files == DROPIN_FILES_MAX)
                return -E2BIG;
        files = reallocarray(list->files, list->n_files + 1, sizeof(*files));
        if (!files)
                return -ENOMEM;
        list->files = files;
        files[list->n_files++] = (struct dropin_found){ take_path, name, dropin_is_hiding(take_path) };
        *ret_taken = true;
        return 0;
}

static bool dropin_is_one(const char *name) {
        size_t len = strlen(name);

        return name[0] != '.' && len > strlen(DROPIN_SUFFIX) &&
               strcmp(name + len - strlen(DROPIN_SUFFIX), DROPIN_SUFFIX) == 0;
}

static int dropin_look_into(struct dropin_list *list, const char *folder, enum ini_file_trust trust, FILE *errors) {
        _cleanup_(dropin_closedir) DIR *directory = NULL;
        struct dirent *entry;
        struct stat status;
        int fd, r;

        if (stat(folder, &status) < 0 && errno == ENOENT)
                return 0;
        fd = ini_file_open(folder, trust, true, errors);
        if (fd < 0)
                return fd;
        directory = fdopendir(fd);
        if (!directory) {
                fd_close(fd);
                return -ENOMEM;
        }
        while ((errno = 0, entry = readdir(directory))) {
                _cleanup_free_ char *path = NULL;
                bool is_taken;

                if (!dropin_is_one(entry->d_name))
                        continue;
                if (asprintf(&path, "%s/%s", folder, entry->d_name) < 0)
                        return -ENOMEM;
                r = dropin_add(list, path, &is_taken);
                if (r == -E2BIG)
                        fprintf(errors, "%s: more than %u files: put several into one\n", folder, DROPIN_FILES_MAX);
                if (r < 0)
                        return r;
                if (is_taken)
                        take_ptr(path);
        }
        if (errno == 0)
                return 0;
        r = -errno;
        fprintf(errors, "%s: %s\n", folder, strerror(-r));
        return r;
}

static int dropin_compare(const void *a, const void *b) {
        return strcmp(((const struct dropin_found *) a)->name, ((const struct dropin_found *) b)->name);
}

/* Gives those that are to be read, sorted, to the end of the files. */
static int dropin_give(struct dropin_list *list, struct dropin_files *files) {
        char **paths = reallocarray(files->paths, files->n_paths + list->n_files + 1, sizeof(*paths));

        if (!paths)
                return -ENOMEM;
        files->paths = paths;
        if (list->n_files > 1)
                qsort(list->files, list->n_files, sizeof(*list->files), dropin_compare);
        for (size_t i = 0; i < list->n_files; i++)
                if (!list->files[i].is_hidden)
                        paths[files->n_paths++] = take_ptr(list->files[i].path);
        return 0;
}

/* The file itself: the first of the places that has it. */
static int dropin_find_main(const char *root, const char *name, struct dropin_list *list) {
        for (size_t i = 0; i < sizeof(dropin_places) / sizeof(dropin_places[0]) && list->n_files == 0; i++) {
                _cleanup_free_ char *path = NULL;
                struct stat status;
                bool is_taken;
                int r;

                if (asprintf(&path, "%s/%s/%s", root, dropin_places[i], name) < 0)
                        return -ENOMEM;
                if (lstat(path, &status) < 0 && (errno == ENOENT || errno == ENOTDIR))
                        continue;
                r = dropin_add(list, path, &is_taken);
                if (r < 0)
                        return r;
                if (is_taken)
                        take_ptr(path);
        }
        return 0;
}

int dropin_find_in(const char *const *folders, enum ini_file_trust trust, FILE *errors,
                   struct dropin_files *ret_files) {
        cleanup(dropin_files_deinit) struct dropin_files files = { 0 };
        cleanup(dropin_list_deinit) struct dropin_list list = { 0 };
        int r;

        for (; *folders; folders++) {
                r = dropin_look_into(&list, *folders, trust, errors);
                if (r < 0)
                        return r;
        }
        r = dropin_give(&list, &files);
        if (r < 0)
                return r;
        *ret_files = files;
        files = (struct dropin_files){ 0 };
        return 0;
}

int dropin_find(const char *root, const char *name, FILE *errors, struct dropin_files *ret_files) {
        cleanup(dropin_files_deinit) struct dropin_files files = { 0 };
        cleanup(dropin_list_deinit) struct dropin_list main_file = { 0 }, dropins = { 0 };
        int r;

        r = dropin_find_main(root, name, &main_file);
        if (r < 0)
                return r;
        for (size_t i = 0; i < sizeof(dropin_places) / sizeof(dropin_places[0]); i++) {
                _cleanup_free_ char *folder = NULL;

                if (asprintf(&folder, "%s/%s/%s.d", root, dropin_places[i], name) < 0)
                        return -ENOMEM;
                r = dropin_look_into(&dropins, folder, INI_FILE_TRUST_ALL, errors);
                if (r < 0)
                        return r;
        }
        r = dropin_give(&main_file, &files);
        if (r >= 0)
                r = dropin_give(&dropins, &files);
        if (r < 0)
                return r;
        *ret_files = files;
        files = (struct dropin_files){ 0 };
        return 0;
}
