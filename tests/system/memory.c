/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a client may offer as memory, and how it may change its mind. Nothing but a memfd that is whole and can be
 * sealed is mapped; whatever else comes is closed where nobody waits for it.
 *
 * The numbers in comments are cases of the catalogue of hostile input.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"
#include "proto/channel.h"
#include "tests/harness/harness.h"
#include "tests/system/estate.h"
#include "tests/system/raw.h"

#define MEMORY_SIZE 8192u

struct memory {
        struct estate estate;
        struct raw *raw;
};

static void memory_start(struct memory *memory) {
        estate_start(&memory->estate, NULL);
        memory->raw = raw_open(&memory->estate.daemon, 0);
}

static void memory_stop(struct memory *memory) {
        assert_int_equal(raw_status(memory->raw), 0);
        raw_close(memory->raw);
        estate_stop(&memory->estate);
}

/* --- Kinds of descriptors --------------------------------------------------------------------------------------- */

static int memory_file(int flags) {
        char path[128];
        int fd;

        snprintf(path, sizeof(path), "%s/file", harness_directory());
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(ftruncate(fd, MEMORY_SIZE), 0);
        close(fd);
        return open(path, flags | O_CLOEXEC);
}

static int memory_disk_file(void) {
        return memory_file(O_RDWR);
}

static int memory_path_only(void) {
        return memory_file(O_PATH);
}

static int memory_shm_file(void) {
        char path[64];
        int fd;

        snprintf(path, sizeof(path), "/dev/shm/ovl-%d", getpid());
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        unlink(path);
        if (fd >= 0)
                assert_int_equal(posix_fallocate(fd, 0, MEMORY_SIZE), 0);
        return fd;
}

static int memory_zero_device(void) {
        return open("/dev/zero", O_RDWR | O_CLOEXEC);
}

static int memory_directory(void) {
        return open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int memory_proc_mem(void) {
        return open("/proc/self/mem", O_RDWR | O_CLOEXEC);
}

static int memory_pipe(void) {
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        close(fds[0]);
        return fds[1];
}

static int memory_socket(void) {
        return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int memory_unix_socket(void) {
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        close(fds[0]);
        return fds[1];
}

static int memory_epoll(void) {
        return epoll_create1(EPOLL_CLOEXEC);
}

static int memory_eventfd(void) {
        return eventfd(0, EFD_CLOEXEC);
}

static int memory_timerfd(void) {
        return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
}

static int memory_pidfd(void) {
        return (int) syscall(SYS_pidfd_open, getpid(), 0);
}

static int memory_inotify(void) {
        return inotify_init1(IN_CLOEXEC);
}

static int memory_ring(void) {
        struct io_uring_params params = { 0 };

        return (int) syscall(SYS_io_uring_setup, 4, &params);
}

static int memory_userfaultfd(void) {
        return (int) syscall(SYS_userfaultfd, O_CLOEXEC);
}

static int memory_secret(void) {
        int fd = (int) syscall(447 /* memfd_secret */, O_CLOEXEC);

        if (fd >= 0 && ftruncate(fd, MEMORY_SIZE) < 0)
                fd = fd_close(fd);
        return fd;
}

static int memory_made(unsigned flags, int seals, off_t size, bool is_whole) {
        int fd = memfd_create("region", MFD_CLOEXEC | flags);

        if (fd < 0)
                return fd;
        assert_int_equal(ftruncate(fd, size), 0);
        if (is_whole)
                assert_int_equal(fallocate(fd, 0, 0, size), 0);
        if (seals)
                assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
        return fd;
}

static int memory_unsealable(void) {
        return memory_made(0, 0, MEMORY_SIZE, true);
}

static int memory_sealed_write(void) {
        return memory_made(MFD_ALLOW_SEALING, F_SEAL_WRITE, MEMORY_SIZE, true);
}

static int memory_sealed_future_write(void) {
        return memory_made(MFD_ALLOW_SEALING, F_SEAL_FUTURE_WRITE, MEMORY_SIZE, true);
}

static int memory_sealed_seal(void) {
        return memory_made(MFD_ALLOW_SEALING, F_SEAL_SEAL, MEMORY_SIZE, true);
}

static int memory_huge(void) {
        int fd = memfd_create("region", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

        if (fd >= 0 && ftruncate(fd, 2 << 20) < 0)
                fd = fd_close(fd);
        return fd;
}

static int memory_read_only(void) {
        _cleanup_fd_ int fd = raw_memfd(MEMORY_SIZE);
        char path[64];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return open(path, O_RDONLY | O_CLOEXEC);
}

static int memory_appending(void) {
        _cleanup_fd_ int fd = raw_memfd(MEMORY_SIZE);
        char path[64];

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return open(path, O_RDWR | O_APPEND | O_CLOEXEC);
}

static int memory_sparse(void) {
        return memory_made(MFD_ALLOW_SEALING, 0, MEMORY_SIZE, false);
}

static int memory_too_small(void) {
        return raw_memfd(MEMORY_SIZE / 2);
}

static int memory_too_large(void) {
        return raw_memfd(MEMORY_SIZE * 2);
}

static int memory_lingering(void) {
        struct linger linger = { 1, 1 << 20 };
        int fd = memory_socket();

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        return fd;
}

/* Newer kernels do not let everything pass. */
static bool memory_can_be_sent(int fd) {
        struct iovec part = { (void *) "x", 1 };
        int fds[2];
        ssize_t n;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        n = channel_send(fds[0], &part, 1, fd);
        close(fds[0]);
        close(fds[1]);
        return n == 1;
}

/* 64, 65, 47 */
static void memory_of_other_kinds_is_refused(void **state) {
        static const struct {
                const char *name;
                int (*make)(void);
        } kinds[] = {
                { "a file", memory_disk_file },
                { "a path", memory_path_only },
                { "a file of /dev/shm", memory_shm_file },
                { "/dev/zero", memory_zero_device },
                { "a directory", memory_directory },
                { "/proc/self/mem", memory_proc_mem },
                { "a pipe", memory_pipe },
                { "a socket", memory_socket },
                { "a Unix socket", memory_unix_socket },
                { "a lingering socket", memory_lingering },
                { "an epoll set", memory_epoll },
                { "an eventfd", memory_eventfd },
                { "a timer", memory_timerfd },
                { "a pidfd", memory_pidfd },
                { "an inotify", memory_inotify },
                { "a ring", memory_ring },
                { "a userfaultfd", memory_userfaultfd },
                { "secret memory", memory_secret },
                { "a memfd that cannot be sealed", memory_unsealable },
                { "a memfd sealed against writing", memory_sealed_write },
                { "a memfd sealed against future writing", memory_sealed_future_write },
                { "a memfd sealed against sealing", memory_sealed_seal },
                { "huge pages", memory_huge },
                { "a memfd for reading", memory_read_only },
                { "a memfd for appending", memory_appending },
                { "a memfd without pages", memory_sparse },
                { "a memfd that is too small", memory_too_small },
                { "a memfd that is too large", memory_too_large },
        };
        struct memory memory;

        memory_start(&memory);
        for (size_t i = 0; i < HARNESS_N(kinds); i++) {
                _cleanup_fd_ int fd = kinds[i].make();
                int r;

                if (fd < 0 || !memory_can_be_sent(fd)) {
                        printf("this system has no %s that can be sent\n", kinds[i].name);
                        continue;
                }
                r = raw_region_add(memory.raw, fd, MEMORY_SIZE);
                if (r != -EBADFD)
                        fail_msg("%s was answered with %d", kinds[i].name, r);
                assert_int_equal(memory.raw->reply->reason, OVL_REASON_BAD_MEMORY);
                assert_true(strlen(memory.raw->reply->text) > 0);
        }
        memory_stop(&memory);
}

/* 66: the connection itself, into itself. */
static void memory_is_not_the_connection(void **state) {
        struct memory memory;

        memory_start(&memory);
        assert_int_equal(raw_region_add(memory.raw, memory.raw->fd, MEMORY_SIZE), -EBADFD);
        memory_stop(&memory);
}

/* 69 */
static void memory_sizes_are_checked(void **state) {
        static const uint64_t sizes[] = {
                0, 1, 4095, 4097, UINT64_MAX, UINT64_MAX - 4095, (UINT64_C(1) << 30) + 4096, UINT64_C(1) << 62, 4096,
        };
        _cleanup_fd_ int fd = raw_memfd(MEMORY_SIZE), sparse = -1;
        struct memory memory;

        memory_start(&memory);
        for (size_t i = 0; i < HARNESS_N(sizes); i++)
                assert_int_equal(raw_region_add(memory.raw, fd, sizes[i]), -EBADFD);
        sparse = memory_made(MFD_ALLOW_SEALING, 0, (off_t) 1 << 40, false);
        assert_int_equal(raw_region_add(memory.raw, sparse, UINT64_C(1) << 40), -EBADFD);
        assert_int_equal(raw_region_add(memory.raw, fd, MEMORY_SIZE), 1);
        memory_stop(&memory);
}

/* --- After it was accepted -------------------------------------------------------------------------------------- */

/* 48, 49, 60, 70 */
static void memory_cannot_be_changed_any_more(void **state) {
        struct ovl_entry entry = { .op = OVL_OP_RECV, .n_slots = 1, .buffer = { 0, 10, 1 } };
        _cleanup_fd_ int peer = -1;
        struct ovl_record record;
        struct memory memory;
        int fd = raw_memfd(MEMORY_SIZE);
        uint8_t *map = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        memory_start(&memory);
        assert_int_equal(raw_region_add(memory.raw, fd, MEMORY_SIZE), 1);
        assert_true(ftruncate(fd, 0) < 0 && errno == EPERM);
        assert_true(ftruncate(fd, MEMORY_SIZE * 2) < 0 && errno == EPERM);
        assert_true(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0 && errno == EPERM);
        assert_true(madvise(map, 4096, MADV_REMOVE) < 0);
        close(fd);
        munmap(map, MEMORY_SIZE);
        entry.socket = raw_pair(memory.raw, &peer);
        assert_int_equal(write(peer, "still here", 10), 10);
        record = raw_one(memory.raw, &entry);
        assert_int_equal(record.status, 0);
        assert_int_equal(record.bytes, 10);
        memory_stop(&memory);
}

struct memory_race {
        atomic_int fd;
        atomic_bool is_over;
        atomic_size_t n_changed;
        bool punches;
};

static void *memory_change(void *data) {
        struct memory_race *race = data;

        while (!atomic_load(&race->is_over)) {
                int fd = atomic_load(&race->fd);

                if (race->punches)
                        atomic_fetch_add(&race->n_changed,
                                         fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096) == 0);
                else
                        atomic_fetch_add(&race->n_changed, ftruncate(fd, MEMORY_SIZE / 2) == 0);
        }
        return NULL;
}

/* 47 and 49 as races: what was accepted is whole, whenever the change came. */
static void memory_race(bool punches) {
        struct memory_race race = { .punches = punches };
        size_t n_accepted = 0;
        struct memory memory;
        pthread_t thread;

        memory_start(&memory);
        atomic_store(&race.fd, -1);
        assert_int_equal(pthread_create(&thread, NULL, memory_change, &race), 0);
        for (size_t i = 0; i < 500; i++) {
                _cleanup_fd_ int fd = raw_memfd(MEMORY_SIZE);
                struct stat status;
                int r;

                atomic_store(&race.fd, fd);
                r = raw_region_add(memory.raw, fd, MEMORY_SIZE);
                assert_true(r > 0 || r == -EBADFD);
                if (r < 0)
                        continue;
                n_accepted++;
                assert_int_equal(fstat(fd, &status), 0);
                assert_int_equal(status.st_size, MEMORY_SIZE);
                assert_true(status.st_blocks * 512 >= MEMORY_SIZE);
                assert_int_equal(raw_region_remove(memory.raw, (uint32_t) r), 0);
        }
        atomic_store(&race.is_over, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        printf("%zu of 500 were accepted, %zu changes\n", n_accepted, (size_t) race.n_changed);
        memory_stop(&memory);
}

static void memory_truncate_race(void **state) {
        memory_race(false);
}

static void memory_punch_race(void **state) {
        memory_race(true);
}

/* --- Numbers ---------------------------------------------------------------------------------------------------- */

/* 68 and 99: a region counts fully each time; one more than allowed is refused, and the number is free again. */
static void memory_regions_are_limited(void **state) {
        struct memory memory;

        memory_start(&memory);
        for (int i = 1; i <= 64; i++) {
                _cleanup_fd_ int fd = raw_memfd(4096);

                assert_int_equal(raw_region_add(memory.raw, fd, 4096), i);
        }
        for (int i = 0; i < 2; i++) {
                _cleanup_fd_ int fd = raw_memfd(4096);

                assert_int_equal(raw_region_add(memory.raw, fd, 4096), -EDQUOT);
                assert_int_equal(memory.raw->reply->reason, OVL_REASON_QUOTA);
        }
        assert_int_equal(raw_region_remove(memory.raw, 65), -ENOENT);
        assert_int_equal(raw_region_remove(memory.raw, 0), -ENOENT);
        assert_int_equal(raw_region_remove(memory.raw, UINT32_MAX), -ENOENT);
        assert_int_equal(raw_region_remove(memory.raw, 17), 0);
        assert_int_equal(raw_region_remove(memory.raw, 17), -ENOENT);
        for (int i = 0; i < 1; i++) {
                _cleanup_fd_ int fd = raw_memfd(4096);

                assert_int_equal(raw_region_add(memory.raw, fd, 4096), 17);
        }
        memory_stop(&memory);
}

/* 99, 100: the bytes of all regions together, by exactly one page. */
static void memory_bytes_are_limited(void **state) {
        const uint64_t limit = UINT64_C(256) << 20;
        _cleanup_fd_ int most = raw_memfd(limit - 4096), page = raw_memfd(4096), extra = raw_memfd(4096);
        struct memory memory;

        memory_start(&memory);
        assert_int_equal(raw_region_add(memory.raw, most, limit - 4096), 1);
        assert_int_equal(raw_region_add(memory.raw, page, 4096), 2);
        assert_int_equal(raw_region_add(memory.raw, extra, 4096), -EDQUOT);
        assert_int_equal(raw_region_remove(memory.raw, 2), 0);
        assert_int_equal(raw_region_add(memory.raw, extra, 4096), 2);
        memory_stop(&memory);
}

/* A region that is leaving takes no new operations, and leaves when the last one has ended. */
static void memory_leaves_after_its_operations(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionRemove remove_it = OVERLAPD__REGION_REMOVE__INIT;
        struct ovl_entry entry = { .tag = 1, .op = OVL_OP_RECV, .n_slots = 1, .buffer = { 0, 10, 1 } };
        _cleanup_fd_ int fd = raw_memfd(MEMORY_SIZE), peer = -1;
        struct ovl_record record;
        struct memory memory;
        int n_maps;
        uint32_t id;

        memory_start(&memory);
        assert_int_equal(raw_region_add(memory.raw, fd, MEMORY_SIZE), 1);
        entry.socket = raw_pair(memory.raw, &peer);
        raw_post(memory.raw, &entry, 1);
        remove_it.region = 1;
        request.what_case = OVERLAPD__REQUEST__WHAT_REGION_REMOVE;
        request.region_remove = &remove_it;
        id = raw_send(memory.raw, &request, -1);
        entry.tag = 2;
        record = raw_one(memory.raw, &entry);
        assert_int_equal(record.tag, 2);
        assert_int_equal(record.reason, OVL_REASON_UNKNOWN_REGION);
        n_maps = estate_count_maps(memory.estate.worker);
        assert_true(n_maps == memory.estate.n_worker_maps + 1 || n_maps == -1);
        assert_int_equal(write(peer, "last", 4), 4);
        record = raw_take(memory.raw);
        assert_int_equal(record.tag, 1);
        assert_int_equal(record.bytes, 4);
        assert_int_equal(raw_await(memory.raw, id)->status, 0);
        assert_int_equal(estate_count_maps(memory.estate.worker), memory.estate.n_worker_maps);
        memory_stop(&memory);
}

/* 34: a region belongs to one session. */
static void memory_of_others_is_unknown(void **state) {
        struct ovl_entry entry = { .op = OVL_OP_SEND, .n_slots = 1, .buffer = { 0, 10, 1 } };
        _cleanup_fd_ int fd = raw_memfd(MEMORY_SIZE), peer = -1;
        struct ovl_record record;
        struct memory memory;
        struct raw *other;

        memory_start(&memory);
        assert_int_equal(raw_region_add(memory.raw, fd, MEMORY_SIZE), 1);
        other = raw_open(&memory.estate.daemon, 0);
        entry.socket = raw_pair(other, &peer);
        record = raw_one(other, &entry);
        assert_int_equal(record.status, -EFAULT);
        assert_int_equal(record.reason, OVL_REASON_UNKNOWN_REGION);
        assert_int_equal(raw_region_remove(other, 1), -ENOENT);
        raw_close(other);
        memory_stop(&memory);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "descriptors of other kinds are refused", memory_of_other_kinds_is_refused },
                { "the connection itself is refused", memory_is_not_the_connection },
                { "declared sizes are checked", memory_sizes_are_checked },
                { "accepted memory cannot be changed any more", memory_cannot_be_changed_any_more },
                { "memory is truncated while it is accepted", memory_truncate_race, 60 },
                { "memory is punched while it is accepted", memory_punch_race, 60 },
                { "regions are limited in number", memory_regions_are_limited },
                { "regions are limited in bytes", memory_bytes_are_limited },
                { "a region leaves after its operations", memory_leaves_after_its_operations },
                { "regions of another session are unknown", memory_of_others_is_unknown },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
