/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Event files. A file is sparse, mapped and shared, and an event is there as soon as `tail` counts it: so whatever a
 * client wrote before it was killed, at any instruction, is in the file, and nothing else is.
 *
 * Invariant: one thread writes a file, only at its end; what was written is never changed.
 *
 *   created --driver--> taken by a thread (journal_start) --thread--> grows --ledger--> read
 *
 * Rejected: write(2) for each event (a system call between every two steps of the storm would hide the races that it
 * looks for), and one file for all (its lock would order what must stay unordered).
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/ledger/journal.h"

#define JOURNAL_DATA 4096 /* bytes before the first event */
#define JOURNAL_PATH_SIZE 512

static int journal_path(char path[JOURNAL_PATH_SIZE], const char *directory, uint32_t index) {
        int len;

        len = snprintf(path, JOURNAL_PATH_SIZE, "%s/%06u.journal", directory, index);
        if (len < 0 || len >= JOURNAL_PATH_SIZE)
                return -ENAMETOOLONG;
        return 0;
}

static int journal_map(struct journal *journal, int fd, size_t size, int protection) {
        uint8_t *map;

        map = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return -errno;
        *journal = (struct journal){
                .header = (struct journal_header *) map,
                .events = (struct event *) (map + JOURNAL_DATA),
                .size = size,
                .n_max = (size - JOURNAL_DATA) / sizeof(struct event),
        };
        return 0;
}

int journal_create(struct journal *journal, const char *directory, uint32_t index, uint32_t client, uint64_t n_max) {
        _cleanup_fd_ int fd = -1;
        char path[JOURNAL_PATH_SIZE];
        size_t size = JOURNAL_DATA + n_max * sizeof(struct event);
        int r;

        r = journal_path(path, directory, index);
        if (r < 0)
                return r;
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        if (ftruncate(fd, (off_t) size) < 0)
                return -errno;
        r = journal_map(journal, fd, size, PROT_READ | PROT_WRITE);
        if (r < 0)
                return r;
        journal->header->index = index;
        journal->header->client = client;
        journal->header->magic = JOURNAL_MAGIC;
        return 0;
}

int journal_open(struct journal *journal, const char *directory, uint32_t index) {
        _cleanup_fd_ int fd = -1;
        char path[JOURNAL_PATH_SIZE];
        struct journal opened;
        struct stat status;
        int r;

        r = journal_path(path, directory, index);
        if (r < 0)
                return r;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &status) < 0)
                return -errno;
        if (status.st_size < JOURNAL_DATA)
                return -EBADMSG;
        r = journal_map(&opened, fd, (size_t) status.st_size, PROT_READ);
        if (r < 0)
                return r;
        if (opened.header->magic != JOURNAL_MAGIC || opened.header->index != index ||
            journal_n_events(&opened) > opened.n_max) {
                journal_close(&opened);
                return -EBADMSG;
        }
        *journal = opened;
        return 0;
}

void journal_close(struct journal *journal) {
        if (journal->header)
                munmap(journal->header, journal->size);
        *journal = (struct journal){};
}

void journal_start(struct journal *journal) {
        __atomic_store_n(&journal->header->tid, (uint32_t) gettid(), __ATOMIC_RELAXED);
}

void journal_add(struct journal *journal, struct event event) {
        uint64_t tail = journal->header->tail;

        if (tail == journal->n_max) {
                fprintf(stderr, "storm: the event file %u is full\n", journal->header->index);
                abort();
        }
        event.time_ns = now_ns();
        journal->events[tail] = event;
        __atomic_store_n(&journal->header->tail, tail + 1, __ATOMIC_RELEASE);
}

uint64_t journal_post(struct journal *journal, struct event event) {
        event.kind = EVENT_POST;
        event.id = event_id(journal->header->index, journal->n_posts++);
        journal_add(journal, event);
        return event.id;
}

uint64_t journal_apc(struct journal *journal, uint32_t target, bool is_remote) {
        uint64_t id = event_id(journal->header->index, journal->n_apcs++);

        journal_add(journal, (struct event){ .kind = EVENT_APC,
                                             .id = id,
                                             .body.apc = { .target = target, .is_remote = is_remote } });
        return id;
}

uint64_t journal_n_events(const struct journal *journal) {
        return __atomic_load_n(&journal->header->tail, __ATOMIC_ACQUIRE);
}
