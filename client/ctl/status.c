/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlapctl status.
 */

#include <stdio.h>

#include "client/ctl/ctl.h"
#include "client/ctl/output.h"

const char status_help[] = "Usage: overlapctl status [--json]\n"
                           "\n"
                           "Whether the daemon serves, on which engine and why, and how much it does.\n";

int status_main(const struct ctl *ctl, int argc, char *argv[]) {
        int r = ctl_take_nothing(argc, argv);

        if (r != 0)
                return r;
        ctl_complain("%s: nobody answers", ctl->admin_path);
        return CTL_LOST;
}
