/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The allocation functions of the C library, defined again in the program: the dynamic linker gives these to every
 * library, too, the C library included. Each counts and passes on.
 */

#include "tests/sim/count.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INTERPOSE __attribute__((visibility("default")))

/* What the C library calls its own functions. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size);
void *calloc(size_t n, size_t size);
void *realloc(void *memory, size_t size);
void *aligned_alloc(size_t alignment, size_t size);
void *memalign(size_t alignment, size_t size);
int posix_memalign(void **ret_memory, size_t alignment, size_t size);

/* They replace functions of the process, so what they count belongs to the process. */
static atomic_bool count_is_on;
static atomic_ullong count_n;

static void count_one(void) {
        if (atomic_load(&count_is_on))
                atomic_fetch_add(&count_n, 1);
}

void count_start(void) {
        atomic_store(&count_n, 0);
        atomic_store(&count_is_on, true);
}

uint64_t count_stop(void) {
        atomic_store(&count_is_on, false);
        return atomic_load(&count_n);
}

INTERPOSE void *malloc(size_t size) {
        count_one();
        return __libc_malloc(size);
}

INTERPOSE void *calloc(size_t n, size_t size) {
        count_one();
        return __libc_calloc(n, size);
}

INTERPOSE void *realloc(void *memory, size_t size) {
        count_one();
        return __libc_realloc(memory, size);
}

INTERPOSE void *aligned_alloc(size_t alignment, size_t size) {
        count_one();
        return __libc_memalign(alignment, size);
}

INTERPOSE void *memalign(size_t alignment, size_t size) {
        count_one();
        return __libc_memalign(alignment, size);
}

INTERPOSE int posix_memalign(void **ret_memory, size_t alignment, size_t size) {
        count_one();
        *ret_memory = __libc_memalign(alignment, size);
        return *ret_memory ? 0 : ENOMEM;
}

INTERPOSE void *mmap(void *place, size_t size, int protection, int flags, int fd, off_t offset) {
        count_one();
        return (void *) syscall(SYS_mmap, place, size, protection, flags, fd, offset);
}
