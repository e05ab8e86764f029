/* SPDX-License-Identifier: Apache-2.0 */

/* A file of settings is taken whole or refused with every mistake named. */

#include "daemon/monitor/config.h"
#include "daemon/monitor/ini-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"

static const char *config_path(void) {
        static char path[128];

        snprintf(path, sizeof(path), "%s/conf", harness_directory());
        return path;
}

static void config_write(const void *bytes, size_t len, mode_t mode) {
        _cleanup_fd_ int fd = open(config_path(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_ok(fd);
        assert_int_equal(write(fd, bytes, len), len);
        assert_int_equal(fchmod(fd, mode), 0);
}

/* Loads a text; expects it to be refused with a line that contains `expected` (NULL: to be taken). */
static struct config config_try(const char *text, const char *expected) {
        _cleanup_free_ char *errors = NULL;
        struct config config, before;
        unsigned n_of_line[16] = { 0 };
        char place[160];
        int r;

        config_write(text, strlen(text), 0644);
        config_init(&config);
        before = config;
        r = config_load(&config, config_path(), true, &errors);
        if (!expected) {
                assert_int_equal(r, 0);
                assert_null(errors);
                return config;
        }
        assert_int_equal(r, -EINVAL);
        snprintf(place, sizeof(place), "%s:%s", config_path(), expected);
        if (!strstr(errors, place))
                fail_msg("expected '%s' in '%s'", place, errors);
        for (const char *line = errors; *line; line = strchr(line, '\n') + 1) {
                snprintf(place, sizeof(place), "%.*s", (int) strcspn(line + strlen(config_path()) + 1, ":"),
                         line + strlen(config_path()) + 1);
                n_of_line[strtoul(place, NULL, 10) % 16]++;
        }
        for (size_t i = 0; i < 16; i++)
                assert_true(n_of_line[i] <= 1); /* a line with a mistake is named once */
        assert_memory_equal(&config, &before, sizeof(config));
        return config;
}

static void config_takes_every_key(void **state) {
        struct config config = config_try("# ours\n[Daemon]\nSocket=/x/y\nEngine = "
                                          "uring\r\nWorkers=3\n\nLog=journal\nPollMicroseconds=0\nPolicy=/p",
                                          NULL);

        assert_string_equal(config.socket, "/x/y");
        assert_string_equal(config.engine, "uring");
        assert_int_equal(config.n_workers, 3);
        assert_int_equal(config.log, JOURNAL_TO_JOURNAL);
        assert_int_equal(config.poll_us, 0);
        for (int key = 0; key < CONFIG_N_KEYS; key++)
                assert_true(config.is_set[key]);
        config = config_try("[Daemon]\nEngine=epoll\n", NULL);
        assert_string_equal(config.engine, "epoll");
        config = config_try("", NULL);
        assert_string_equal(config.socket, CONFIG_SOCKET);
        assert_string_equal(config.engine, "auto");
        assert_false(config.is_set[CONFIG_KEY_SOCKET]);
}

static void config_names_each_mistake(void **state) {
        char path[CONFIG_SOCKET_PATH_MAX + 64];

        config_try("[Daemon]\nWorkers=0\n", "2: Workers=0: must be a number from 1 to 64");
        config_try("[Daemon]\nWorkers=65\n", "2: Workers=65: must be");
        config_try("[Daemon]\nWorkers=1x\n", "2: Workers=1x: must be");
        config_try("[Daemon]\nWorkers=-1\n", "2: Workers=-1: must be");
        config_try("[Daemon]\nWorkers=\n", "2: Workers=: must be");
        config_try("[Daemon]\nPollMicroseconds=1001\n", "2: PollMicroseconds=1001: must be a number from 0");
        config_try("[Daemon]\nEngine=poll\n", "2: Engine=poll: must be auto, uring or epoll");
        config_try("[Daemon]\nLog=syslog\n", "2: Log=syslog: must be journal or stderr");
        config_try("[Daemon]\nSocket=run/x\n", "2: Socket=run/x: must be an absolute path");
        config_try("[Daemon]\nPolicy=none\n", "2: Policy=none: must be system, own, or the absolute path");
        config_try("[Daemon]\nSpeed=9\n", "2: Speed=9: unknown key; known are");
        config_try("[Damon]\nWorkers=1\n", "1: section [Damon]: unknown; known are [Daemon], [Session]");
        config_try("Workers=1\n", "1: section [], key Workers=: it stands before");
        config_try("[Daemon]\nWorkers=1\nEngine=auto\nWorkers=2\n", "4: Workers=2: already set in line 2");
        config_try("[Daemon]\nnonsense\n", "2: neither a [Section], a Key=value nor a # comment");
        config_try("[Daemon\nWorkers=1\n", "1: neither a [Section]");
        config_try("[Daemon]\nEngine=auto\n  Workers=2\n", "3: this line begins with a blank");
        memset(path, 'a', sizeof(path));
        memcpy(path, "[Daemon]\nSocket=/", 17);
        path[sizeof(path) - 1] = '\0';
        config_try(path, "2: Socket=/aaaa");
}

static void config_names_all_mistakes_at_once(void **state) {
        config_try("[Daemon]\nEngine=x\nWorkers=2\nLog=y\n", "2: Engine=x: must be auto, uring or epoll\n");
        config_try("[Daemon]\nnonsense\nWorkers=2\nLog=y\n", "4: Log=y: must be journal or stderr\n");
        config_try("[Daemon]\nnonsense\nWorkers=2\nLog=y\n", "2: neither a [Section]");
}

static void config_never_cuts_a_line(void **state) {
        char text[4096];
        int len = snprintf(text, sizeof(text), "[Daemon]\nWorkers=2\n# ");

        memset(text + len, 'c', 400);
        strcpy(text + len + 400, "\nEngine=uring\n");
        config_try(text, "3: this line has 403 bytes: at most");
        /* What fgets would have cut off is a setting of its own. */
        memset(text + len, ' ', 400);
        strcpy(text + len + 400, "Engine=uring\n");
        config_try(text, "3: this line has");
}

static void config_refuses_nul_bytes(void **state) {
        static const char bytes[] = "[Daemon]\nWorkers=2\0\nEngine=uring\n";
        _cleanup_free_ char *errors = NULL;
        struct config config;

        config_write(bytes, sizeof(bytes) - 1, 0644);
        config_init(&config);
        assert_int_equal(config_load(&config, config_path(), true, &errors), -EINVAL);
        assert_non_null(strstr(errors, ":2: this line contains a NUL byte"));
        assert_int_equal(config.n_workers, 1);
}

static void config_refuse_file(int expected_r, const char *expected) {
        _cleanup_free_ char *errors = NULL;
        struct config config;

        config_init(&config);
        assert_int_equal(config_load(&config, config_path(), true, &errors), expected_r);
        assert_non_null(errors);
        if (!strstr(errors, expected))
                fail_msg("expected '%s' in '%s'", expected, errors);
}

static void config_refuses_what_is_no_safe_file(void **state) {
        _cleanup_free_ char *big = malloc(INI_FILE_SIZE_MAX + 1);

        config_write("[Daemon]\n", 9, 0646);
        config_refuse_file(-EPERM, "mode 0646 lets everybody write it");
        memset(big, '\n', INI_FILE_SIZE_MAX + 1);
        config_write(big, INI_FILE_SIZE_MAX + 1, 0644);
        config_refuse_file(-EFBIG, "1048577 bytes");
        assert_int_equal(unlink(config_path()), 0);
        config_refuse_file(-ENOENT, "No such file");
        assert_int_equal(mkdir(config_path(), 0700), 0);
        config_refuse_file(-EINVAL, "not a regular file");
        assert_int_equal(rmdir(config_path()), 0);
        /* Nobody writes to this pipe: opening it must not wait. */
        assert_int_equal(mkfifo(config_path(), 0600), 0);
        config_refuse_file(-EINVAL, "not a regular file");
}

static void config_may_be_missing(void **state) {
        char *errors = NULL;
        struct config config;

        config_init(&config);
        assert_int_equal(config_load(&config, config_path(), false, &errors), 0);
        assert_null(errors);
}

static void config_put(const char *place, const char *name, const char *text) {
        char path[512];
        FILE *file;

        snprintf(path, sizeof(path), "%s/root/%s/overlapd/%s", harness_directory(), place, name);
        for (char *at = path + 1; (at = strchr(at, '/')); at++) {
                *at = '\0';
                mkdir(path, 0755);
                *at = '/';
        }
        unlink(path);
        if (!text) {
                assert_int_equal(symlink("/dev/null", path), 0);
                return;
        }
        file = fopen(path, "we");
        assert_non_null(file);
        fprintf(file, "[Daemon]\n%s\n", text);
        fclose(file);
}

/* The number of workers tells which file won. NULL: they are taken; else what is wrong. */
static unsigned config_try_places(const char *wrong) {
        _cleanup_free_ char *errors = NULL;
        struct config config;
        char path[256];
        int r;

        snprintf(path, sizeof(path), "%s/root" CONFIG_PATH, harness_directory());
        config_init(&config);
        r = config_load(&config, path, false, &errors);
        if (wrong) {
                assert_true(r < 0);
                if (!strstr(errors, wrong))
                        fail_msg("expected '%s' in '%s'", wrong, errors);
        } else if (r < 0) {
                fail_msg("%s", errors);
        }
        return config.n_workers;
}

static void config_is_overruled_by_place_and_name(void **state) {
        assert_int_equal(config_try_places(NULL), 1);
        config_put("usr/lib", "overlapd.conf", "Workers=2");
        assert_int_equal(config_try_places(NULL), 2);
        config_put("run", "overlapd.conf", "Workers=3");
        assert_int_equal(config_try_places(NULL), 3);
        config_put("etc", "overlapd.conf", NULL);
        assert_int_equal(config_try_places(NULL), 1);
        config_put("etc", "overlapd.conf", "Workers=4");
        assert_int_equal(config_try_places(NULL), 4);
        config_put("usr/lib", "overlapd.conf.d/50-a.conf", "Workers=5");
        assert_int_equal(config_try_places(NULL), 5);
        /* The name decides, then the place. */
        config_put("etc", "overlapd.conf.d/40-b.conf", "Workers=6");
        assert_int_equal(config_try_places(NULL), 5);
        config_put("run", "overlapd.conf.d/50-a.conf", "Workers=7");
        assert_int_equal(config_try_places(NULL), 7);
        config_put("etc", "overlapd.conf.d/50-a.conf", NULL);
        assert_int_equal(config_try_places(NULL), 6);
        config_put("etc", "overlapd.conf.d/60-c.txt", "Workers=8");
        assert_int_equal(config_try_places(NULL), 6);
        /* One that is wrong refuses all, and is named. */
        config_put("usr/lib", "overlapd.conf.d/90-z.conf", "Workers=many");
        config_put("run", "overlapd.conf.d/91-z.conf", "Speed=1");
        assert_int_equal(config_try_places("/usr/lib/overlapd/overlapd.conf.d/90-z.conf:2: Workers=many: must be"), 1);
        assert_int_equal(config_try_places("/run/overlapd/overlapd.conf.d/91-z.conf:2: Speed=1: unknown key"), 1);
}

/* Whatever the bytes are, the parse ends and the settings stay within what is allowed. */
static void config_survives_any_bytes(void **state) {
        static const char alphabet[] = "[Daemon]\n=WorkersEngineSocketLog/0123 \t\r;#:\xff\x01";
        unsigned seed = 20260101;

        for (int round = 0; round < 3000; round++) {
                _cleanup_free_ char *errors = NULL;
                struct config config;
                char bytes[600] = "[Daemon]\n";
                size_t len = 9 + (size_t) (rand_r(&seed) % 590);

                for (size_t i = 9; i < len; i++)
                        bytes[i] = alphabet[rand_r(&seed) % (int) (sizeof(alphabet) - 1)];
                config_write(bytes, len, 0600);
                config_init(&config);
                if (config_load(&config, config_path(), true, &errors) < 0)
                        assert_non_null(errors);
                assert_in_range(config.n_workers, 1, CONFIG_WORKERS_MAX);
                assert_int_equal(config.socket[0], '/');
        }
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "every key is taken", config_takes_every_key },
                { "each mistake is named with its line", config_names_each_mistake },
                { "all mistakes are named at once", config_names_all_mistakes_at_once },
                { "an overlong line is refused, never cut", config_never_cuts_a_line },
                { "a NUL byte is refused", config_refuses_nul_bytes },
                { "a file that is open to others, big, missing or no file is refused",
                  config_refuses_what_is_no_safe_file },
                { "the default file may be missing", config_may_be_missing },
                { "files overrule each other by place and name", config_is_overruled_by_place_and_name },
                { "any bytes are survived", config_survives_any_bytes },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
