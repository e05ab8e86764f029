/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Users and units of the command line.
 *
 * An empty name is refused wherever one is asked for: it is a variable that a script forgot to set, and to the daemon
 * it would mean everybody.
 */

#include "client/ctl/whom.h"

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"

int whom_take_user(const char *verb, const char *value, uid_t *ret_uid) {
        const struct passwd *user = getpwnam(value);
        unsigned long number;
        char *end;

        if (user) {
                *ret_uid = user->pw_uid;
                return 0;
        }
        errno = 0;
        number = strtoul(value, &end, 10);
        if (value[0] < '0' || value[0] > '9' || *end || errno || number >= UINT32_MAX)
                return ctl_complain_usage(verb, "--user '%s': there is no such user: name one, or a number", value);
        *ret_uid = (uid_t) number;
        return 0;
}

static bool whom_has_ending(const char *value) {
        static const char *const endings[] = { ".service", ".socket", ".device", ".mount", ".automount", ".swap",
                                               ".target",  ".path",   ".timer",  ".slice", ".scope" };
        const char *dot = strrchr(value, '.');

        for (size_t i = 0; dot && i < sizeof(endings) / sizeof(endings[0]); i++)
                if (strcmp(dot, endings[i]) == 0)
                        return true;
        return false;
}

int whom_take_unit(const char *verb, const char *value, char ret_unit[WHOM_UNIT_SIZE]) {
        const char *ending = whom_has_ending(value) ? "" : ".service";
        size_t len = strlen(value) + strlen(ending);

        if (value[0] == '\0' || strchr(value, '/'))
                return ctl_complain_usage(verb, "--unit '%s': must be the name of a unit, such as web.service", value);
        if (len >= WHOM_UNIT_SIZE)
                return ctl_complain_usage(verb, "--unit '%.32s...': has %zu bytes, and no unit has more than %u", value,
                                          len, WHOM_UNIT_SIZE - 1);
        stpcpy(stpcpy(ret_unit, value), ending);
        return 0;
}
