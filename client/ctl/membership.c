/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A process keeps the groups of its login. Whoever was put into a group since then is told "permission denied" by the
 * kernel and "you are in it" by the database, and finds nothing wrong: so both are asked.
 */

#include "client/ctl/membership.h"

#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

static bool membership_is_in(gid_t group, const gid_t *groups, int n) {
        for (int i = 0; i < n; i++)
                if (groups[i] == group)
                        return true;
        return false;
}

static bool membership_is_now(gid_t group) {
        _cleanup_free_ gid_t *groups = NULL;
        int n = getgroups(0, NULL);

        if (getegid() == group)
                return true;
        groups = calloc(n > 0 ? (size_t) n : 1, sizeof(*groups));
        if (!groups)
                return false;
        n = getgroups(n, groups);
        return membership_is_in(group, groups, n);
}

static bool membership_is_later(gid_t group) {
        const struct passwd *user = getpwuid(getuid());
        _cleanup_free_ gid_t *groups = NULL;
        int n = 0;

        if (!user)
                return false;
        getgrouplist(user->pw_name, user->pw_gid, NULL, &n);
        groups = calloc(n > 0 ? (size_t) n : 1, sizeof(*groups));
        if (!groups || getgrouplist(user->pw_name, user->pw_gid, groups, &n) < 0)
                return false;
        return membership_is_in(group, groups, n);
}

enum membership membership_of(gid_t group) {
        if (membership_is_now(group))
                return MEMBERSHIP_NOW;
        return membership_is_later(group) ? MEMBERSHIP_LATER : MEMBERSHIP_NONE;
}

char *membership_user_name(uid_t user, char to[MEMBERSHIP_NAME_SIZE]) {
        const struct passwd *found = getpwuid(user);

        if (found)
                snprintf(to, MEMBERSHIP_NAME_SIZE, "%s", found->pw_name);
        else
                snprintf(to, MEMBERSHIP_NAME_SIZE, "%u", (unsigned) user);
        return to;
}

char *membership_group_name(gid_t group, char to[MEMBERSHIP_NAME_SIZE]) {
        const struct group *found = getgrgid(group);

        if (found)
                snprintf(to, MEMBERSHIP_NAME_SIZE, "%s", found->gr_name);
        else
                snprintf(to, MEMBERSHIP_NAME_SIZE, "%u", (unsigned) group);
        return to;
}
