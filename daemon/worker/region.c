/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What can go wrong with foreign memory, and which step of region_init() answers it:
 *
 *   the descriptor is a pipe, a device, a file on a hung disk      flags and seals are asked first: neither ever blocks
 *   the file shrinks under an armed receive                        sealed against shrinking before it is measured
 *   pages are missing, so that touching them is charged to us      the allocated blocks are compared with the size
 *   holes are punched between that check and the last seal         the blocks are compared again after it
 *   the mapping is next to something of ours                       it lies between two inaccessible pages
 *
 * Sealing against future writes, after our own writable mapping was made, also forbids punching holes; the client keeps
 * the mapping that it has. Huge pages are refused: they fault with SIGBUS even when they are sealed.
 */

#include "daemon/worker/region.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/kernel-compat.h"

#define REGION_PAGE 4096u
#define REGION_SIZE_MAX (UINT64_C(1) << 30)
#define REGION_GUARD 65536u
#define REGION_LARGEFILE 0100000 /* what the kernel reports for every file; the C library defines it as 0 */

static int region_refuse(const char *problem, const char **ret_problem) {
        *ret_problem = problem;
        return -EBADFD;
}

/* Steps that learn what the descriptor is, and never block. */
static int region_check_kind(int fd, const char **ret_problem) {
        struct statfs fs;
        int flags, seals;

        flags = fcntl(fd, F_GETFL);
        if (flags < 0 || (flags & (O_ACCMODE | O_PATH)) != O_RDWR)
                return region_refuse("it is not open for reading and writing", ret_problem);
        if (flags & ~(O_RDWR | REGION_LARGEFILE))
                return region_refuse("it has open flags that a memfd does not have", ret_problem);
        seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0)
                return region_refuse("it is not a memfd", ret_problem);
        if (seals & (F_SEAL_SEAL | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
                return region_refuse("it is sealed against writing or further seals: create it with MFD_ALLOW_SEALING "
                                     "and add no seal",
                                     ret_problem);
        if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
                return region_refuse("it is not ordinary shared memory (huge pages are not accepted)", ret_problem);
        return 0;
}

static int region_check_size(int fd, uint64_t size, const char **ret_problem) {
        struct stat st;

        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return region_refuse("it is not a memfd", ret_problem);
        if ((uint64_t) st.st_size != size)
                return region_refuse("its size is not the size that was declared", ret_problem);
        if ((uint64_t) st.st_blocks * 512 < size)
                return region_refuse("not all of its pages are allocated: call fallocate() first, and punch no holes",
                                     ret_problem);
        return 0;
}

/* Maps between two guards, so that no neighbour is ever reached by a wrong address. */
static uint8_t *region_map(int fd, size_t size) {
        uint8_t *reserved =
                mmap(NULL, size + 2 * REGION_GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (reserved == MAP_FAILED)
                return NULL;
        if (mmap(reserved + REGION_GUARD, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
                munmap(reserved, size + 2 * REGION_GUARD);
                return NULL;
        }
        return reserved + REGION_GUARD;
}

static void region_unmap(struct region *region) {
        if (region->data)
                munmap(region->data - REGION_GUARD, region->size + 2 * REGION_GUARD);
        region->data = NULL;
}

static int region_map_sealed(struct region *region, int fd, uint64_t size, const char **ret_problem) {
        int r;

        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
                return region_refuse("it cannot be sealed against a change of its size", ret_problem);
        r = region_check_size(fd, size, ret_problem);
        if (r < 0)
                return r;
        region->size = (size_t) size;
        region->data = region_map(fd, region->size);
        if (!region->data)
                return -ENOMEM;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0)
                return region_refuse("it cannot be sealed against future writes", ret_problem);
        return region_check_size(fd, size, ret_problem);
}

int region_init(struct region *region, int fd, uint64_t size, struct quota *quota, struct quota_refusal *ret_refusal,
                const char **ret_problem) {
        struct charge charge;
        int r;

        r = region_check_kind(fd, ret_problem);
        if (r < 0)
                return r;
        if (size == 0 || size % REGION_PAGE != 0 || size > REGION_SIZE_MAX)
                return region_refuse("the declared size is not a multiple of 4096 between 4096 and 1 GiB", ret_problem);
        r = charge_take(&charge, quota, LIMIT_MEMORY, size, ret_refusal);
        if (r < 0)
                return r;
        *region = (struct region){ .charge = charge };
        r = region_map_sealed(region, fd, size, ret_problem);
        if (r < 0)
                region_deinit(region);
        return r;
}

void region_deinit(struct region *region) {
        if (region->n_loans > 0) {
#ifdef OVL_TEST_HOOKS
                abort();
#else
                region->data = NULL;
#endif
        }
        region_unmap(region);
        charge_release(&region->charge);
        charge_release(&region->place);
        *region = (struct region){ 0 };
}

bool region_resolve(const struct region *region, uint64_t offset, uint64_t len, struct iovec *ret_part) {
        if (!region->data || region->is_leaving || len > region->size || offset > region->size - len)
                return false;
        *ret_part = (struct iovec){ .iov_base = region->data + offset, .iov_len = (size_t) len };
        return true;
}
