/* SPDX-License-Identifier: Apache-2.0 */

/* Files that targets read as the daemon does: by their paths. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/fuzz/fuzz.h"

const char *fuzz_directory(void) {
        static char path[256];
        const char *parent = getenv("TMPDIR");

        if (path[0] == '\0') {
                snprintf(path, sizeof(path), "%.200s/overlapd-fuzz-XXXXXX", parent ? parent : "/tmp");
                fuzz_check(mkdtemp(path), "%s: %s", path, strerror(errno));
        }
        return path;
}

const char *fuzz_write(const char *name, const void *bytes, size_t len) {
        static char path[512];
        _cleanup_fd_ int fd = -1;

        snprintf(path, sizeof(path), "%s/%s", fuzz_directory(), name);
        if (!bytes) {
                unlink(path);
                return path;
        }
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        fuzz_check(fd >= 0 && write(fd, bytes, len) == (ssize_t) len, "%s: %s", path, strerror(errno));
        return path;
}
