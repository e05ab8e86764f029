/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Regions: memory that the program and the daemon share. The library makes it, as a memfd whose blocks are allocated
 * (a hole would be filled while the daemon works on it, and a full file system would then end in a fault), maps it, and
 * shows it to the daemon, which seals it: it can no longer shrink, and no further writable mapping can be made.
 *
 * Invariant: a region is in the session's list from the daemon's answer until it is taken back, and only then buffers
 * are found in it. The descriptor is closed once the daemon has answered: nobody can pass it on later.
 *
 *   made -> lent     the daemon accepted it
 *   lent -> freed    ovl_region_close(), after the daemon and the kernel are done with it
 *
 * At level 0 nothing is shared: a region is ordinary memory, from which payload is copied into frames, and into which
 * it is copied from frames (payload.c). It goes when the last operation that may be written into it has ended.
 *
 * Rejected: registering memory that the program has anyway (it is not a memfd and could be unmapped under the daemon).
 */

#include "client/c/region.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/post-frame.h"
#include "client/c/request.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/wait.h"

#define REGION_UNIT 4096u

struct ovl_region *region_free(struct ovl_region *region) {
        if (!region)
                return NULL;
        if (region->data)
                munmap(region->data, region->size);
        free(region);
        return NULL;
}

int region_make(size_t size, const char *name, int *ret_fd) {
        _cleanup_fd_ int fd = -1;
        int r;

        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
        if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
                fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        r = ftruncate(fd, (off_t) size);
        if (r < 0)
                return -errno;
        do {
                r = fallocate(fd, 0, 0, (off_t) size);
        } while (r < 0 && errno == EINTR);
        if (r < 0)
                return -errno;
        *ret_fd = fd_take(&fd);
        return 0;
}

static int region_map(struct ovl_region *region, int fd) {
        void *data = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        if (data == MAP_FAILED)
                return -errno;
        region->data = data;
        return 0;
}

/* Makes memory, shows it to the daemon, and learns its number. */
static int region_lend(struct ovl_thread *thread, struct ovl_region *region, const char *call) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionAdd region_add = OVERLAPD__REGION_ADD__INIT;
        _cleanup_fd_ int fd = -1;
        Overlapd__Reply *reply;
        int r;

        r = region_make(region->size, "overlap-region", &fd);
        if (r < 0)
                return error_set(&thread->error, r, 0, "%s: cannot make shared memory of %zu bytes: %s", call,
                                 region->size, strerrordesc_np(-r));
        r = region_map(region, fd);
        if (r < 0)
                return error_set(&thread->error, r, 0, "%s: cannot map %zu bytes: %s", call, region->size,
                                 strerrordesc_np(-r));
        region_add.size = region->size;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_ADD;
        request.region_add = &region_add;
        r = request_make(thread, &request, fd, OVERLAPD__REPLY__WHAT_REGION_ADD, call, &reply);
        if (r < 0)
                return r;
        region->number = reply->region_add->region;
        return 0;
}

/* At level 0 the memory is the program's alone, and the number the library's. */
static int region_keep(struct ovl_thread *thread, struct ovl_region *region, const char *call) {
        void *data = mmap(NULL, region->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (data == MAP_FAILED)
                return error_set(&thread->error, -errno, 0, "%s: cannot map %zu bytes: %s", call, region->size,
                                 strerrordesc_np(errno));
        region->data = data;
        session_lock(thread->session);
        region->number = ++thread->session->n_regions;
        session_unlock(thread->session);
        return 0;
}

int region_open(struct ovl_thread *thread, size_t size, const char *call, struct ovl_region **ret_region) {
        _cleanup_(region_free) struct ovl_region *region = NULL;
        int r;

        if (size == 0 || size > INT64_MAX - REGION_UNIT)
                return error_set(&thread->error, -EINVAL, 0, "%s: a region cannot have %zu bytes", call, size);
        region = calloc(1, sizeof(*region));
        if (!region)
                return error_set(&thread->error, -ENOMEM, 0, "%s: no memory", call);
        list_init(&region->link);
        region->session = thread->session;
        region->size = (size + REGION_UNIT - 1) / REGION_UNIT * REGION_UNIT;
        if (thread->session->info.level == 0)
                r = region_keep(thread, region, call);
        else
                r = region_lend(thread, region, call);
        if (r < 0)
                return r;
        *ret_region = take_ptr(region);
        return 0;
}

OVL_API int ovl_region_open(struct ovl_thread *thread, size_t size, struct ovl_region **ret_region) {
        struct ovl_region *region;
        int r;

        r = region_open(thread, size, "ovl_region_open", &region);
        if (r < 0)
                return r;
        session_lock(thread->session);
        list_push_back(&thread->session->regions, &region->link);
        session_unlock(thread->session);
        *ret_region = region;
        return 0;
}

/* At level 0: waits until no operation will write into the region, and takes it out of the list. */
static int region_wait_unlent(struct ovl_thread *thread, struct ovl_region *region) {
        struct ovl_session *session = thread->session;
        struct wait wait = { .thread = thread, .wants_all = true };
        int r = 0;

        post_flush(thread, "ovl_region_close");
        session_lock(session);
        list_unlink(&region->link);
        list_push_back(&session->leaving, &region->link);
        wait_begin(&wait);
        while (region->n_loans > 0 && !session->is_gone)
                wait_round(&wait, OVL_INFINITE);
        wait_end(&wait);
        list_unlink(&region->link);
        if (session->is_gone)
                r = session_gone(session, &thread->error, "ovl_region_close");
        session_unlock(session);
        return r;
}

OVL_API int ovl_region_close(struct ovl_thread *thread, struct ovl_region *region) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionRemove region_remove = OVERLAPD__REGION_REMOVE__INIT;
        _cleanup_(region_free) struct ovl_region *owned = region;
        Overlapd__Reply *reply;

        if (!owned)
                return 0;
        if (thread->session->info.level == 0)
                return region_wait_unlent(thread, owned);
        session_lock(thread->session);
        list_unlink(&owned->link);
        session_unlock(thread->session);
        region_remove.region = owned->number;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_REMOVE;
        request.region_remove = &region_remove;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_region_close", &reply);
}

OVL_API void *ovl_region_data(const struct ovl_region *region) {
        return region->data;
}

OVL_API size_t ovl_region_size(const struct ovl_region *region) {
        return region->size;
}

int region_find_slice(struct ovl_session *session, const struct ovl_buffer *buffer, struct ovl_slice *ret_slice) {
        list_for_each(link, &session->regions) {
                const struct ovl_region *region = list_entry(link, struct ovl_region, link);
                uintptr_t offset = (uintptr_t) buffer->data - (uintptr_t) region->data;

                if (offset >= region->size || buffer->len > region->size - offset)
                        continue;
                *ret_slice = (struct ovl_slice){
                        .offset = offset,
                        .len = (uint32_t) buffer->len,
                        .region = region->number,
                };
                return 0;
        }
        return -EFAULT;
}
