/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_TOP_SCREEN_H
#define CLIENT_CTL_TOP_SCREEN_H

/* The live view of overlapctl top, on a terminal. */

#include <stdint.h>

#include "client/ctl/ctl.h"
#include "client/ctl/top-sample.h"

/* Shows it until somebody asks it to end. Returns the exit status; after the complaint where it could not begin. */
int top_screen_run(const struct ctl *ctl, uint64_t interval_ns, enum top_sort sort);

#endif
