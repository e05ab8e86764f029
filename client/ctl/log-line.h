/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_LOG_LINE_H
#define CLIENT_CTL_LOG_LINE_H

/* One entry of the journal, as overlapctl log shows it. */

#include <stdbool.h>
#include <systemd/sd-journal.h>

/* The ids of what somebody was refused; NULL behind the last. */
extern const char *const log_line_refusals[];

/*
 * Prints the entry at which the journal stands.
 *
 * is_json: an object on one line.
 *
 * Returns 0, or -errno when the entry cannot be read.
 */
int log_line_print(sd_journal *journal, bool is_json);

#endif
