/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_MONITOR_H
#define DAEMON_MONITOR_MONITOR_H

/* The monitor: the process that people start, and the one that asks the kernel for network sockets. */

#include <stdbool.h>

#include "daemon/monitor/config.h"
#include "daemon/monitor/rulings.h"

struct monitor_options {
        struct config config;
        struct rulings_source policy;
        const char *config_path; /* read again on SIGHUP; NULL: none. Borrowed. */
        bool is_config_required;
        bool is_log_given;     /* on the command line: a reload does not change it */
        char *const *command;  /* of a private instance, ends with NULL; NULL: the system instance. Borrowed. */
        const char *plant;     /* test builds: passed on to workers; else NULL. Borrowed. */
        const char *features;  /* likewise */
        const char *killpoint; /* likewise */
};

/*
 * Runs the daemon until it is asked to stop or its command ends.
 *
 * Returns the exit status of the process: 0 after an orderly end, 1 when the daemon could not start or go on; for a
 * private instance that of the command (128 and the signal's number when it was killed, 127 when it was not found, 126
 * when it could not be executed).
 */
int monitor_run(const struct monitor_options *options);

#endif
