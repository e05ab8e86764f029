/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_ENGINE_REFUSAL_H
#define DAEMON_WORKER_ENGINE_REFUSAL_H

/* Says why io_uring cannot be used here, for a person who may be able to change that. */

#include <stddef.h>

/*
 * step:   what was being done.
 * error:  the kernel's answer to it, as -errno.
 * detail: what is known of that answer already, or NULL.
 *
 * Returns a text with step, error, detail, the sysctl kernel.io_uring_disabled and whether a system-call filter is
 * active. Reads /proc: to be asked before the worker is locked down.
 */
void engine_refusal_describe(const char *step, int error, const char *detail, char *ret_text, size_t text_size);

#endif
