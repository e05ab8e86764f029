/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_COUNT_H
#define SIM_COUNT_H

/* Counts what this process allocates: every way to get memory from the C library or the kernel goes through here. */

#include <stdint.h>

void count_start(void);

/* Returns how often memory was allocated since count_start(). */
uint64_t count_stop(void);

#endif
