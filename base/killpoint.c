/* SPDX-License-Identifier: Apache-2.0 */

#include "base/killpoint.h"

#ifdef OVL_TEST_HOOKS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void killpoint_pass(const char *label) {
        static atomic_long n_passed; /* test builds only: the one piece of process-wide state */
        const char *wanted = getenv("OVL_TEST_KILLPOINT");
        size_t len;

        if (!wanted)
                return;
        len = strcspn(wanted, ":");
        if (strlen(label) != len || strncmp(label, wanted, len) != 0)
                return;
        if (atomic_fetch_add(&n_passed, 1) + 1 == (wanted[len] ? atol(wanted + len + 1) : 1))
                kill(getpid(), SIGKILL);
}

#endif
