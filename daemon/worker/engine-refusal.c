/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The kernel answers EPERM for a sysctl, for a filter and for a security module alike, and a filter may answer with
 * anything. So what can be seen from here is said next to the error, with its value: which of them it was is often
 * plain then. Nothing is concluded from it, and what cannot be read is said to be so.
 */

#include "daemon/worker/engine-refusal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define REFUSAL_SYSCTL "/proc/sys/kernel/io_uring_disabled" /* Linux 6.6 */
#define REFUSAL_STATUS "/proc/self/status"

/* Test builds may look elsewhere: the sysctl itself is the whole machine's. */
static const char *refusal_sysctl_path(void) {
#ifdef OVL_TEST_HOOKS
        const char *path = getenv("OVL_TEST_IO_URING_DISABLED");

        if (path)
                return path;
#endif
        return REFUSAL_SYSCTL;
}

/* Returns the bytes read, which end with NUL, or -errno. */
static ssize_t refusal_read(const char *path, char *ret_bytes, size_t size) {
        _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = read(fd, ret_bytes, size - 1);
        if (n < 0)
                return -errno;
        ret_bytes[n] = '\0';
        return n;
}

static void refusal_describe_sysctl(char *ret_text, size_t size) {
        char value[16];
        ssize_t n = refusal_read(refusal_sysctl_path(), value, sizeof(value));
        const char *meaning = "";

        if (n < 0) {
                snprintf(ret_text, size, "kernel.io_uring_disabled cannot be read (%s)", strerrorname_np((int) -n));
                return;
        }
        value[strcspn(value, "\n")] = '\0';
        if (strcmp(value, "0") == 0)
                meaning = " (io_uring is allowed)";
        else if (strcmp(value, "1") == 0)
                meaning = " (only for root and the group kernel.io_uring_group)";
        else if (strcmp(value, "2") == 0)
                meaning = " (for nobody)";
        snprintf(ret_text, size, "kernel.io_uring_disabled is %s%s", value, meaning);
}

static const char *refusal_describe_filter(void) {
        char status[4096];
        const char *found = NULL;

        if (refusal_read(REFUSAL_STATUS, status, sizeof(status)) > 0)
                found = strstr(status, "\nSeccomp:");
        if (!found)
                return "whether a system-call filter is active cannot be read";
        found += strlen("\nSeccomp:");
        found += strspn(found, " \t");
        return *found == '0' ? "no system-call filter is active" : "a system-call filter is active";
}

void engine_refusal_describe(const char *step, int error, const char *detail, char *ret_text, size_t text_size) {
        const char *name = strerrorname_np(-error);
        char sysctl[128];

        refusal_describe_sysctl(sysctl, sizeof(sysctl));
        snprintf(ret_text, text_size, "%s failed with %s (%s)%s%s; %s; %s", step, name ? name : "an unknown error",
                 strerror(-error), detail ? ": " : "", detail ? detail : "", sysctl, refusal_describe_filter());
}
