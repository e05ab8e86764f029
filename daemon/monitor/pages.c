/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pages. A worker that was taken over may show anything: a file that blocks whoever reads it, one that changes while it
 * is read, numbers that lead nowhere.
 *
 * Invariant: only memory that is sealed against every change is read, once, and what is given to the owner is a copy in
 * which every field that chooses something is within its bounds. What the numbers say beyond that is the worker's word.
 *
 *   (nothing) -> asked      by an owner
 *   asked     -> come       the worker answered, or is gone; without an owner: -> (nothing)
 *   come      -> (nothing)  the owner took it, or wants it no longer
 *
 * Rejected: a question for each owner at once: who asks most would decide how much a worker has to do.
 */

#include "daemon/monitor/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"

static void pages_clear(struct pages *pages) {
        pages->fd = fd_close(pages->fd);
        pages->owner = 0;
        pages->is_asked = false;
        pages->has_come = false;
}

void pages_end(struct pages *pages) {
        if (pages->owner == 0 || !pages->is_asked) {
                pages_clear(pages);
                return;
        }
        pages->is_asked = false;
        pages->has_come = true;
        pages->status = -EPIPE;
}

int pages_ask(struct pages *pages, struct outbox *outbox, uint64_t owner, const struct snapshot_query *query) {
        struct link_message message = { .kind = LINK_SNAPSHOT, .ticket = pages->ticket + 1, .body.snapshot = *query };
        int r;

        if (pages->is_asked || pages->has_come)
                return -EBUSY;
        r = outbox_push(outbox, &message, -1, OUTBOX_CHANNELS_MAX);
        if (r < 0)
                return r;
        pages->ticket = message.ticket;
        pages->owner = owner;
        pages->is_asked = true;
        return 0;
}

void pages_forget(struct pages *pages, uint64_t owner) {
        if (pages->owner != owner)
                return;
        pages->owner = 0;
        if (pages->has_come)
                pages_clear(pages);
}

/* Reading and closing these waits for nobody. */
static int pages_measure(int fd, size_t *ret_len) {
        const int needed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
        struct stat status;
        int seals;

        seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0 || (seals & needed) != needed || fstat(fd, &status) < 0)
                return -EBADMSG;
        if (status.st_size < (off_t) SNAPSHOT_PAGE_LEN(0) || status.st_size > (off_t) sizeof(struct snapshot_page))
                return -EBADMSG;
        *ret_len = (size_t) status.st_size;
        return 0;
}

int pages_answer(struct pages *pages, const struct link_message *message, int fd) {
        if (!pages->is_asked || message->ticket != pages->ticket || message->status > 0 ||
            (message->status == 0) != (fd >= 0 || fd == -EMFILE))
                return -EBADMSG;
        if (fd >= 0 && pages_measure(fd, &(size_t){ 0 }) < 0)
                return -EBADMSG;
        if (pages->owner == 0) {
                pages_clear(pages);
                return 0;
        }
        pages->is_asked = false;
        pages->has_come = true;
        pages->status = fd == -EMFILE ? fd : message->status;
        if (fd >= 0) {
                pages->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
                if (pages->fd < 0)
                        pages->status = -errno;
        }
        return 0;
}

/* --- What is in them --------------------------------------------------------------------------------------------- */

static int pages_read(int fd, size_t len, struct snapshot_page *to) {
        size_t done = 0;

        while (done < len) {
                ssize_t n = pread(fd, (uint8_t *) to + done, len - done, (off_t) done);

                if (n == 0 || (n < 0 && errno != EINTR))
                        return -EBADMSG;
                done += n > 0 ? (size_t) n : 0;
        }
        return 0;
}

static bool pages_address_is_sound(const struct ovl_address *address) {
        return (address->family == OVL_FAMILY_NONE || address->family == OVL_FAMILY_UNIX ||
                address->family == OVL_FAMILY_INET || address->family == OVL_FAMILY_INET6) &&
               address->path_len <= sizeof(address->host);
}

static bool pages_item_is_sound(uint8_t kind, const struct snapshot_item *item) {
        switch (kind) {
        case SNAPSHOT_SOCKETS:
                return item->of.socket.state < SNAPSHOT_N_SOCKET_STATES &&
                       pages_address_is_sound(&item->of.socket.local) &&
                       pages_address_is_sound(&item->of.socket.remote);
        case SNAPSHOT_OPS:
                return item->of.op.state < SNAPSHOT_N_OP_STATES;
        case SNAPSHOT_QUOTAS:
                return item->of.quota.level < LIMIT_LEVELS;
        default:
                return true;
        }
}

/* A list must get on, and must end. */
static bool pages_is_sound(const struct snapshot_page *page, size_t len, const struct snapshot_query *query) {
        if (page->n_items > SNAPSHOT_ITEMS_MAX || len != SNAPSHOT_PAGE_LEN(page->n_items) || page->kind != query->kind)
                return false;
        if (query->until != 0 && page->until != query->until)
                return false;
        if (!page->is_last && (page->next.session > page->until || page->next.session < query->from.session ||
                               (page->next.session == query->from.session && page->next.index <= query->from.index)))
                return false;
        for (uint32_t i = 0; i < page->n_items; i++)
                if (!pages_item_is_sound(page->kind, &page->items[i]))
                        return false;
        return true;
}

int pages_take(struct pages *pages, uint64_t owner, const struct snapshot_query *query,
               struct snapshot_page **ret_page) {
        _cleanup_free_ struct snapshot_page *page = NULL;
        _cleanup_fd_ int fd = -1;
        size_t len;
        int r;

        if (!pages->has_come || pages->owner != owner)
                return 0;
        fd = fd_take(&pages->fd);
        r = pages->status;
        pages_clear(pages);
        if (r < 0)
                return r;
        r = pages_measure(fd, &len);
        if (r < 0)
                return r;
        page = calloc(1, sizeof(*page));
        if (!page)
                return -ENOMEM;
        r = pages_read(fd, len, page);
        if (r < 0)
                return r;
        if (!pages_is_sound(page, len, query))
                return -EBADMSG;
        *ret_page = take_ptr(page);
        return 1;
}
