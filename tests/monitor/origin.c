/* SPDX-License-Identifier: Apache-2.0 */

/* The unit of a client is found by the lists of its control group, and nobody can name one for himself. */

#include "daemon/monitor/origin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"

static void origin_make(const char *root, const char *group, const char *processes) {
        char path[512];
        FILE *file;

        snprintf(path, sizeof(path), "%s%s", root, group);
        for (char *at = path + 1; (at = strchr(at, '/')); at++) {
                *at = '\0';
                mkdir(path, 0700);
                *at = '/';
        }
        mkdir(path, 0700);
        strncat(path, "/cgroup.procs", sizeof(path) - strlen(path) - 1);
        file = fopen(path, "we");
        assert_non_null(file);
        fputs(processes, file);
        fclose(file);
}

static void origin_expect(const char *root, pid_t pid, const char *expected) {
        _cleanup_free_ char *cgroup = NULL;
        int r = origin_find_cgroup(root, pid, &cgroup);

        if (!expected) {
                assert_int_equal(r, -ESRCH);
                return;
        }
        assert_int_equal(r, 0);
        assert_string_equal(cgroup, expected);
}

static void origin_finds_the_group(void **state) {
        char root[128];

        snprintf(root, sizeof(root), "%s/cgroup", harness_directory());
        origin_make(root, "", "1\n");
        origin_make(root, "/system.slice", "");
        origin_make(root, "/system.slice/a.service", "10\n11\n");
        origin_make(root, "/system.slice/a.service/sub", "12\n");
        origin_make(root, "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service", "110\n");
        origin_expect(root, 1, "/");
        origin_expect(root, 11, "/system.slice/a.service");
        origin_expect(root, 12, "/system.slice/a.service/sub");
        origin_expect(root, 110, "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service");
        origin_expect(root, 13, NULL);
}

/* Who makes many groups hides only himself. */
static void origin_is_not_held_up(void **state) {
        _cleanup_free_ char *cgroup = NULL;
        char root[128], group[64];

        snprintf(root, sizeof(root), "%s/cgroup", harness_directory());
        for (int i = 0; i < 600; i++) {
                snprintf(group, sizeof(group), "/system.slice/many.service/%d", i);
                origin_make(root, group, "");
        }
        for (int i = 0; i < 600; i++) {
                snprintf(group, sizeof(group), "/system.slice/many.service/%d", i);
                origin_make(root, group, "20\n");
        }
        origin_make(root, "/system.slice/many.service", "");
        origin_make(root, "/system.slice/other.service", "21\n");
        origin_make(root, "/system.slice", "");
        origin_expect(root, 21, "/system.slice/other.service");
        assert_int_equal(origin_find_cgroup(root, 22, &cgroup), -EXFULL);
}

static void origin_expect_unit(const char *cgroup, const char *expected) {
        _cleanup_free_ char *unit = NULL;
        int r = origin_unit_of(cgroup, &unit);

        assert_int_equal(r, expected ? 0 : -ENXIO);
        if (expected)
                assert_string_equal(unit, expected);
}

static void origin_names_the_outermost_unit(void **state) {
        origin_expect_unit("/system.slice/a.service", "a.service");
        origin_expect_unit("/system.slice/system-a.slice/a@1.service/payload/nginx.service", "a@1.service");
        origin_expect_unit("/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service",
                           "user@1000.service");
        origin_expect_unit("/user.slice/user-1000.slice/session-3.scope", "session-3.scope");
        origin_expect_unit("/system.slice/_cpu.service", "cpu.service");
        origin_expect_unit("/init.scope", "init.scope");
        origin_expect_unit("/a.service", "a.service");
        origin_expect_unit("/", NULL);
        origin_expect_unit("", NULL);
        origin_expect_unit("/system.slice", NULL);
        origin_expect_unit("/lxc/box/system.slice/a.service", NULL);
        origin_expect_unit("/.service", NULL);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "a process is found in the lists of the groups", origin_finds_the_group },
                { "who makes many groups hides only himself", origin_is_not_held_up },
                { "the unit is the outermost one", origin_names_the_outermost_unit },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
