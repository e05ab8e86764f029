/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

/* Owners on the stack: a variable marked with one of these is released when it leaves its scope. */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define cleanup(function) __attribute__((cleanup(function)))

/* Moves a value out of its owner, which is left empty. */
#define take_ptr(pointer)                                                                                              \
        ({                                                                                                             \
                __typeof__(pointer) *take_from_ = &(pointer);                                                          \
                __typeof__(pointer) taken_ = *take_from_;                                                              \
                *take_from_ = NULL;                                                                                    \
                taken_;                                                                                                \
        })

/* Moves a descriptor out of its owner, which is left with -1. */
static inline int fd_take(int *fd) {
        int taken = *fd;

        *fd = -1;
        return taken;
}

/* Closes a descriptor, keeps errno, returns -1 so that `fd = fd_close(fd)` leaves no stale number behind. */
static inline int fd_close(int fd) {
        if (fd >= 0) {
                int saved = errno;

                close(fd);
                errno = saved;
        }
        return -1;
}

static inline void cleanup_fd_close(int *fd) {
        fd_close(*fd);
}

static inline void cleanup_free(void *pointer) {
        free(*(void **) pointer);
}

#define _cleanup_fd_ cleanup(cleanup_fd_close)
#define _cleanup_free_ cleanup(cleanup_free)

/* Defines the cleanup function of a type whose destructor takes NULL: `_cleanup_(session_free)`. */
#define DEFINE_CLEANUP(type, destructor)                                                                               \
        static inline void cleanup_##destructor(type *object) {                                                        \
                destructor(*object);                                                                                   \
        }
#define _cleanup_(destructor) cleanup(cleanup_##destructor)

#endif
