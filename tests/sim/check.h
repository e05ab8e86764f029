/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_CHECK_H
#define SIM_CHECK_H

/* How a run says that something is wrong, and what time it is. */

#include <stdint.h>

/* The exit status of a run that found a fault of the daemon. Any other end but 0 is a crash. */
#define CHECK_FOUND 3

/* Prints what is wrong and ends the process with CHECK_FOUND. */
void check_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#define check(condition, ...)                                                                                          \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        check_fail(__VA_ARGS__);                                                                       \
        } while (0)

/* The clock of the run: stands still but for this. The linker puts it in the place of the system's (--wrap). */
void check_advance_clock(uint64_t ns);

#endif
