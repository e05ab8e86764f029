/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A run must not depend on when it runs, so the daemon's only clock, CLOCK_MONOTONIC, is answered from here. The daemon
 * reads it through the C library; the linker redirects the call (--wrap), so that nothing in the daemon knows of it.
 * Rejected: a clock that is handed through every call of the worker, which would be there for tests alone.
 */

#include "tests/sim/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);

/* The place of the system's clock is the process, so its time is the process's, too. */
static uint64_t check_clock_ns = UINT64_C(1000000000000);

void check_advance_clock(uint64_t ns) {
        check_clock_ns += ns;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now) {
        if (clock != CLOCK_MONOTONIC)
                return (int) syscall(SYS_clock_gettime, clock, ret_now);
        ret_now->tv_sec = (time_t) (check_clock_ns / UINT64_C(1000000000));
        ret_now->tv_nsec = (long) (check_clock_ns % UINT64_C(1000000000));
        return 0;
}

void check_fail(const char *format, ...) {
        va_list arguments;

        fflush(stdout);
        fprintf(stderr, "FAILED: ");
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fprintf(stderr, "\n");
        fflush(stderr);
        _exit(CHECK_FOUND);
}
