/* SPDX-License-Identifier: Apache-2.0 */

/* Owners on the stack release what they own, exactly once, and not what was taken out of them. */

#include "base/cleanup.h"

#include <fcntl.h>
#include <string.h>

#include "base/time.h"
#include "tests/harness/harness.h"

struct thing {
        unsigned *n_freed; /* borrowed */
};

static struct thing *thing_free(struct thing *thing) {
        if (!thing)
                return NULL;
        ++*thing->n_freed;
        free(thing);
        return NULL;
}

DEFINE_CLEANUP(struct thing *, thing_free)

static struct thing *thing_new(unsigned *n_freed) {
        struct thing *thing = malloc(sizeof(*thing));

        assert_non_null(thing);
        thing->n_freed = n_freed;
        return thing;
}

static void cleanup_releases_at_the_end_of_the_scope(void **state) {
        unsigned n_freed = 0;

        {
                _cleanup_(thing_free) struct thing *thing = thing_new(&n_freed);
                _cleanup_(thing_free) struct thing *nothing = NULL;
                _cleanup_free_ char *text = strdup("released");
                _cleanup_fd_ int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
                _cleanup_fd_ int no_fd = -1;

                assert_non_null(thing);
                assert_null(nothing);
                assert_non_null(text);
                assert_true(fd >= 0);
                assert_int_equal(no_fd, -1);
                assert_int_equal(n_freed, 0);
        }
        assert_int_equal(n_freed, 1);
}

static void cleanup_leaves_what_was_taken(void **state) {
        struct thing *kept;
        unsigned n_freed = 0;
        int kept_fd;

        {
                _cleanup_(thing_free) struct thing *thing = thing_new(&n_freed);
                _cleanup_fd_ int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

                kept = take_ptr(thing);
                kept_fd = fd_take(&fd);
                assert_null(thing);
                assert_int_equal(fd, -1);
        }
        assert_int_equal(n_freed, 0);
        assert_true(fcntl(kept_fd, F_GETFD) >= 0);
        thing_free(kept);
        assert_int_equal(fd_close(kept_fd), -1);
        assert_int_equal(n_freed, 1);
}

static void cleanup_keeps_errno(void **state) {
        errno = EXDEV;
        {
                _cleanup_fd_ int bad = 1000000; /* close fails with EBADF */

                assert_true(bad > 0);
        }
        assert_int_equal(errno, EXDEV);
        assert_int_equal(fd_close(-1), -1);
        assert_int_equal(errno, EXDEV);
}

static void cleanup_time_goes_on(void **state) {
        uint64_t before = now_ns(), after = now_ns();

        assert_true(before > 0 && after >= before);
        assert_true(harness_deadline(1) >= before + NS_PER_S);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "releases-at-the-end-of-the-scope", cleanup_releases_at_the_end_of_the_scope },
                { "leaves-what-was-taken", cleanup_leaves_what_was_taken },
                { "keeps-errno", cleanup_keeps_errno },
                { "time-goes-on", cleanup_time_goes_on },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
