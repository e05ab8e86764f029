/* SPDX-License-Identifier: Apache-2.0 */

/*
 * As little of the FUSE protocol as one file needs. The mount is in a namespace of the case's own, so that it goes with
 * the case whatever happens. Pages are not kept: each read of the file is a question to the process here. That is one
 * of its own, because who is killed while his own file system owes him an answer never ends.
 */

#include "tests/system/hanging.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define HANGING_FILE 2u /* its node; 1 is the root */
#define HANGING_PATIENCE_MS 15000

static void hanging_answer(struct hanging *hanging, uint64_t unique, int error, const void *data, size_t len) {
        char bytes[sizeof(struct fuse_out_header) + 131072];
        const struct fuse_out_header header = { .len = (uint32_t) (sizeof(header) + len),
                                                .error = error,
                                                .unique = unique };

        memcpy(bytes, &header, sizeof(header));
        memcpy(bytes + sizeof(header), data, len);
        /* Who asked may have given up. */
        if (write(hanging->fd, bytes, header.len) < 0 && errno != ENOENT)
                _exit(1);
}

static struct fuse_attr hanging_attributes(uint64_t node) {
        return (struct fuse_attr){
                .ino = node,
                .size = node == HANGING_FILE ? HANGING_LEN : 0,
                .mode = node == HANGING_FILE ? S_IFREG | 0444 : S_IFDIR | 0755,
                .nlink = 1,
                .blksize = 4096,
        };
}

static void hanging_read(struct hanging *hanging, uint64_t unique, const struct fuse_read_in *in) {
        static char data[131072];
        size_t len = in->size < sizeof(data) ? in->size : sizeof(data);

        if (in->offset >= HANGING_LEN)
                len = 0;
        else if (len > HANGING_LEN - in->offset)
                len = HANGING_LEN - (size_t) in->offset;
        pattern_fill(data, len, in->offset);
        hanging_answer(hanging, unique, 0, data, len);
}

static void hanging_keep(struct hanging *hanging, uint64_t unique) {
        hanging->shared->waiting[hanging->shared->n_hanging++] = unique;
}

static void hanging_serve(struct hanging *hanging, const struct fuse_in_header *in) {
        const struct fuse_init_out init = {
                .major = FUSE_KERNEL_VERSION,
                .minor = 31,
                .max_readahead = 0,
                .max_write = 65536,
                .max_background = 16,
        };
        const struct fuse_entry_out entry = {
                .nodeid = HANGING_FILE,
                .entry_valid = 3600,
                .attr_valid = 3600,
                .attr = hanging_attributes(HANGING_FILE),
        };
        const struct fuse_attr_out attributes = { .attr_valid = 3600, .attr = hanging_attributes(in->nodeid) };
        const struct fuse_open_out open_out = { .fh = 1, .open_flags = FOPEN_DIRECT_IO };
        const struct fuse_statfs_out statfs_out = { .st = { .bsize = 4096, .namelen = 255 } };

        switch (in->opcode) {
        case FUSE_INIT:
                hanging_answer(hanging, in->unique, 0, &init, sizeof(init));
                break;
        case FUSE_LOOKUP:
                hanging_answer(hanging, in->unique, 0, &entry, sizeof(entry));
                break;
        case FUSE_GETATTR:
                hanging_answer(hanging, in->unique, 0, &attributes, sizeof(attributes));
                break;
        case FUSE_OPEN:
                hanging_answer(hanging, in->unique, 0, &open_out, sizeof(open_out));
                break;
        case FUSE_STATFS:
                if (hanging->shared->hangs)
                        hanging_keep(hanging, in->unique);
                else
                        hanging_answer(hanging, in->unique, 0, &statfs_out, sizeof(statfs_out));
                break;
        case FUSE_READ:
                if (hanging->shared->hangs)
                        hanging_keep(hanging, in->unique);
                else
                        hanging_read(hanging, in->unique, (const struct fuse_read_in *) (in + 1));
                break;
        case FUSE_FLUSH:
                if (hanging->shared->closes_hang)
                        hanging_keep(hanging, in->unique);
                else
                        hanging_answer(hanging, in->unique, 0, "", 0);
                break;
        case FUSE_RELEASE:
                hanging_answer(hanging, in->unique, 0, "", 0);
                break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
                break;
        default:
                hanging_answer(hanging, in->unique, -ENOSYS, "", 0);
                break;
        }
}

static void hanging_answer_all(struct hanging *hanging) {
        while (hanging->shared->n_hanging > 0)
                hanging_answer(hanging, hanging->shared->waiting[--hanging->shared->n_hanging], -EIO, "", 0);
}

static void hanging_main(struct hanging *hanging) {
        _Alignas(8) static char bytes[FUSE_MIN_READ_BUFFER + 65536];
        struct pollfd fds[] = { { .fd = hanging->fd, .events = POLLIN }, { .fd = hanging->wake, .events = POLLIN } };
        uint64_t count;

        while (!hanging->shared->is_stopped) {
                int n = poll(fds, 2, HANGING_PATIENCE_MS);

                if (n < 0)
                        break;
                /* A case that has failed ends only when the closes of its own descriptors are answered. */
                if (n == 0) {
                        hanging->shared->hangs = hanging->shared->closes_hang = false;
                        hanging_answer_all(hanging);
                }
                if ((fds[0].revents & POLLIN) && read(hanging->fd, bytes, sizeof(bytes)) > 0)
                        hanging_serve(hanging, (const struct fuse_in_header *) bytes);
                if (!(fds[1].revents & POLLIN) || read(hanging->wake, &count, sizeof(count)) < 0)
                        continue;
                if (!hanging->shared->hangs && !hanging->shared->closes_hang)
                        hanging_answer_all(hanging);
        }
}

void hanging_start(struct hanging *hanging) {
        char options[64];

        *hanging = (struct hanging){ 0 };
        snprintf(hanging->folder, sizeof(hanging->folder), "%s/fuse", harness_directory());
        snprintf(hanging->path, sizeof(hanging->path), "%s/file", hanging->folder);
        assert_int_equal(mkdir(hanging->folder, 0755), 0);
        hanging->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
        if (hanging->fd < 0)
                harness_skip("/dev/fuse cannot be opened: only root may, on a machine that has it");
        snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", hanging->fd);
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("overlapd-test", hanging->folder, "fuse.overlapd-test", MS_NOSUID | MS_NODEV, options) < 0)
                harness_skip("a file system cannot be mounted here: only root may, outside of most containers");
        hanging->wake = eventfd(0, EFD_CLOEXEC);
        hanging->shared =
                mmap(NULL, sizeof(*hanging->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(hanging->shared, MAP_FAILED);
        hanging->server = fork();
        assert_true(hanging->server >= 0);
        if (hanging->server == 0) {
                hanging_main(hanging);
                _exit(0);
        }
        close(hanging->fd);
}

static void hanging_wake(struct hanging *hanging) {
        const uint64_t one = 1;

        assert_int_equal(write(hanging->wake, &one, sizeof(one)), sizeof(one));
}

void hanging_set(struct hanging *hanging, bool hangs) {
        hanging->shared->hangs = hangs;
        hanging_wake(hanging);
}

void hanging_set_closing(struct hanging *hanging, bool hangs) {
        hanging->shared->closes_hang = hangs;
        hanging_wake(hanging);
}

struct hanging_wish {
        struct hanging *hanging;
        unsigned n;
};

static bool hanging_has(void *data) {
        const struct hanging_wish *wish = data;

        return wish->hanging->shared->n_hanging == wish->n;
}

void hanging_await(struct hanging *hanging, unsigned n) {
        struct hanging_wish wish = { hanging, n };

        if (!harness_wait(hanging_has, &wish, harness_deadline(10)))
                fail_msg("%u reads or closes hang, not %u", hanging->shared->n_hanging, n);
}

void hanging_stop(struct hanging *hanging) {
        assert_int_equal(umount2(hanging->folder, MNT_DETACH), 0);
        hanging->shared->is_stopped = true;
        hanging_wake(hanging);
        assert_int_equal(waitpid(hanging->server, NULL, 0), hanging->server);
        close(hanging->wake);
        munmap(hanging->shared, sizeof(*hanging->shared));
}
