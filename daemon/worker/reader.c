/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each piece has a thread that sleeps until it is given a job:
 *
 *   FREE -> READING   the worker describes the job, and starts it
 *   READING -> READ   the thread has done it, and rings
 *   READ -> FREE      the worker has sent what was read, or has no use for it
 *
 * One writer: the job belongs to the worker while the piece is FREE or READ, and to the thread while it is READING;
 * both are told by the lock. `file`, `op` and whose it is are the worker's alone.
 *
 * A read that never returns (a file system whose server is a program of the client's) costs its piece and nothing else;
 * who may take how many is decided in file.c. Neither can it be interrupted: the kernel lets no thread go that waits
 * for such a server. So a worker that dies meanwhile keeps its descriptors, and its monitor waiting, until the server
 * answers, or ends, which is an answer, too. It is the same with a close that the reaper is in.
 *
 * Rejected: sendfile(2) and splice(2) in the worker (both read the file, and wait for it); IORING_OP_READ and
 * IORING_OP_SPLICE (the ring would have to be allowed to read files, there are none on epoll, and reads that cannot be
 * cancelled would fill the ring's own threads); mapping the file (a fault waits like a read, and a file that shrinks
 * is a SIGBUS); one thread for all (one dead server would stop them); more threads when these hang (the worker is
 * locked down and can start none).
 */

#include "daemon/worker/reader.h"

#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define READER_PATIENCE_S 1
#define READER_STACK_SIZE (256u * 1024u)

/* Of a piece: what belongs to its thread. */
struct reader_place {
        struct piece piece;
        uint8_t *memory; /* borrowed: READER_PIECE_SIZE bytes */
        pthread_t thread;
        pthread_cond_t wake;
        bool has_job;    /* under the lock */
        bool is_running; /* under the lock */
};

struct reader {
        pthread_mutex_t lock;
        pthread_cond_t started;
        struct list read; /* under the lock: pieces that were read and not taken */
        bool is_ending;   /* under the lock */
        int fd;
        uint8_t *memory; /* a mapping of all pieces, touched as they are used */
        uint32_t n_free;
        uint32_t n_threads;
        struct reader_place places[READER_PIECES];
};

/* --- The threads ------------------------------------------------------------------------------------------------ */

/* File systems whose files are made up by the kernel as they are read, some of them as the reader may see them. */
static bool reader_is_made_up(uint64_t type) {
        static const uint32_t types[] = {
                PROC_SUPER_MAGIC,
                SYSFS_MAGIC,
                DEBUGFS_MAGIC,
                TRACEFS_MAGIC,
                SECURITYFS_MAGIC,
                CGROUP_SUPER_MAGIC,
                CGROUP2_SUPER_MAGIC,
                SELINUX_MAGIC,
                SMACK_MAGIC,
                BPF_FS_MAGIC,
                EFIVARFS_MAGIC,
                PSTOREFS_MAGIC,
                NSFS_MAGIC,
                ANON_INODE_FS_MAGIC,
                BINFMTFS_MAGIC,
                0x62656570 /* configfs */,
                0x19800202 /* mqueue */,
        };

        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
                if (type == types[i])
                        return true;
        return false;
}

static int reader_refuse(struct piece *piece, const char *problem) {
        piece->problem = problem;
        return -EBADFD;
}

static int reader_check(struct piece *piece) {
        struct statfs fs;
        struct stat st;

        if (fstat(piece->fd, &st) < 0)
                return reader_refuse(piece, "what it is cannot be told");
        if (S_ISDIR(st.st_mode))
                return reader_refuse(piece, "it is a folder");
        if (!S_ISREG(st.st_mode))
                return reader_refuse(piece, "it is no regular file");
        if (fstatfs(piece->fd, &fs) < 0)
                return reader_refuse(piece, "where it lies cannot be told");
        if (reader_is_made_up((uint32_t) fs.f_type))
                return reader_refuse(piece, "the kernel makes it up as it is read (/proc, /sys): read it yourself");
        return 0;
}

/* Fills a part, as far as the file has bytes for it. */
static int reader_fill(struct piece *piece, struct iovec *part, uint64_t offset) {
        size_t done = 0;

        while (done < part->iov_len) {
                ssize_t n = pread(piece->fd, (uint8_t *) part->iov_base + done, part->iov_len - done,
                                  (off_t) (offset + done));

                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                done += (size_t) n;
        }
        part->iov_len = done;
        return 0;
}

static int reader_measure(struct piece *piece) {
        struct stat st;

        if (fstat(piece->fd, &st) < 0)
                return -errno;
        piece->size = (uint64_t) st.st_size;
        return 0;
}

static int reader_perform(struct piece *piece, uint8_t *memory) {
        int r = 0;

        if (piece->job == PIECE_CHECKS)
                return reader_check(piece);
        if (piece->job == PIECE_MEASURES)
                r = reader_measure(piece);
        for (uint32_t i = 0; i < piece->n_parts && r == 0; i++) {
                if (!(piece->file_parts & UINT64_C(1) << i))
                        continue;
                piece->parts[i].iov_base = memory;
                r = reader_fill(piece, &piece->parts[i], piece->offsets[i]);
                memory += piece->parts[i].iov_len;
        }
        return r;
}

static void *reader_main(void *argument) {
        const uint64_t one = 1;
        struct reader_place *place = argument;
        struct reader *reader = place->piece.reader;

        pthread_mutex_lock(&reader->lock);
        place->is_running = true;
        pthread_cond_signal(&reader->started);
        for (;;) {
                bool rings;
                int r;

                while (!place->has_job && !reader->is_ending)
                        pthread_cond_wait(&place->wake, &reader->lock);
                if (!place->has_job)
                        break;
                place->has_job = false;
                pthread_mutex_unlock(&reader->lock);
                r = reader_perform(&place->piece, place->memory);
                pthread_mutex_lock(&reader->lock);
                place->piece.result = r;
                rings = list_is_empty(&reader->read);
                list_push_back(&reader->read, &place->piece.link);
                /* It cannot be full: it is rung once for all that are read until it is answered. */
                if (rings && write(reader->fd, &one, sizeof(one)) < 0)
                        abort();
        }
        pthread_mutex_unlock(&reader->lock);
        return NULL;
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

static int reader_start_thread(struct reader *reader, struct reader_place *place) {
        pthread_attr_t attributes;
        int r;

        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, READER_STACK_SIZE);
        r = -pthread_create(&place->thread, &attributes, reader_main, place);
        pthread_attr_destroy(&attributes);
        if (r < 0)
                return r;
        reader->n_threads++;
        /* How it begins must not be seen by the system-call filter that comes next. */
        pthread_mutex_lock(&reader->lock);
        while (!place->is_running)
                pthread_cond_wait(&reader->started, &reader->lock);
        pthread_mutex_unlock(&reader->lock);
        return 0;
}

static int reader_start_threads(struct reader *reader) {
        sigset_t all, before;
        int r = 0;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        for (uint32_t i = 0; i < READER_PIECES && r == 0; i++)
                r = reader_start_thread(reader, &reader->places[i]);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return r;
}

static int reader_init(struct reader *reader) {
        reader->fd = eventfd(0, EFD_CLOEXEC);
        if (reader->fd < 0)
                return -errno;
        reader->memory = mmap(NULL, READER_PIECES * READER_PIECE_SIZE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (reader->memory == MAP_FAILED) {
                reader->memory = NULL;
                return -ENOMEM;
        }
        reader->n_free = READER_PIECES;
        for (uint32_t i = 0; i < READER_PIECES; i++) {
                struct reader_place *place = &reader->places[i];

                place->piece.reader = reader;
                list_init(&place->piece.link);
                place->memory = reader->memory + (size_t) i * READER_PIECE_SIZE;
                pthread_cond_init(&place->wake, NULL);
        }
        return reader_start_threads(reader);
}

int reader_new(struct reader **ret_reader) {
        struct reader *reader = calloc(1, sizeof(*reader));
        int r;

        if (!reader)
                return -ENOMEM;
        pthread_mutex_init(&reader->lock, NULL);
        pthread_cond_init(&reader->started, NULL);
        list_init(&reader->read);
        r = reader_init(reader);
        if (r < 0) {
                reader_free(reader);
                return r;
        }
        *ret_reader = reader;
        return 0;
}

/* Returns whether all have ended. */
static bool reader_end_threads(struct reader *reader) {
        struct timespec deadline;
        bool all_ended = true;

        pthread_mutex_lock(&reader->lock);
        reader->is_ending = true;
        for (uint32_t i = 0; i < reader->n_threads; i++)
                pthread_cond_signal(&reader->places[i].wake);
        pthread_mutex_unlock(&reader->lock);
        clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += READER_PATIENCE_S;
        for (uint32_t i = 0; i < reader->n_threads; i++)
                if (pthread_timedjoin_np(reader->places[i].thread, NULL, &deadline) != 0)
                        all_ended = false;
        return all_ended;
}

struct reader *reader_free(struct reader *reader) {
        if (!reader)
                return NULL;
        /* A thread that hangs in a read keeps its memory: the process is about to end. */
        if (!reader_end_threads(reader))
                return NULL;
        if (reader->memory)
                munmap(reader->memory, READER_PIECES * READER_PIECE_SIZE);
        fd_close(reader->fd);
        free(reader);
        return NULL;
}

/* --- Pieces ----------------------------------------------------------------------------------------------------- */

int reader_fd(const struct reader *reader) {
        return reader->fd;
}

struct piece *reader_piece(struct reader *reader, uint32_t index) {
        return &reader->places[index].piece;
}

struct piece *reader_find(struct reader *reader) {
        for (uint32_t i = 0; i < READER_PIECES && reader->n_free > 0; i++)
                if (reader->places[i].piece.state == PIECE_FREE)
                        return &reader->places[i].piece;
        return NULL;
}

uint32_t reader_n_free(const struct reader *reader) {
        return reader->n_free;
}

uint32_t reader_n_of_session(const struct reader *reader, uint64_t session) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < READER_PIECES; i++)
                n += reader->places[i].piece.state != PIECE_FREE && reader->places[i].piece.session == session;
        return n;
}

uint32_t reader_n_of_user(const struct reader *reader, uint32_t uid) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < READER_PIECES; i++)
                n += reader->places[i].piece.state != PIECE_FREE && reader->places[i].piece.uid == uid;
        return n;
}

void reader_start(struct piece *piece) {
        struct reader_place *place = list_entry(piece, struct reader_place, piece);
        struct reader *reader = piece->reader;

        reader->n_free--;
        piece->state = PIECE_READING;
        pthread_mutex_lock(&reader->lock);
        place->has_job = true;
        pthread_cond_signal(&place->wake);
        pthread_mutex_unlock(&reader->lock);
}

void reader_take(struct reader *reader, struct list *read_pieces) {
        uint64_t count;

        pthread_mutex_lock(&reader->lock);
        /* It was rung if there is one, and only then: so this does not wait. */
        if (!list_is_empty(&reader->read) && read(reader->fd, &count, sizeof(count)) < 0)
                abort();
        list_for_each(link, &reader->read)
                list_entry(link, struct piece, link)->state = PIECE_READ;
        list_splice_back(read_pieces, &reader->read);
        pthread_mutex_unlock(&reader->lock);
}

void reader_release(struct piece *piece) {
        list_unlink(&piece->link);
        piece->state = PIECE_FREE;
        piece->op = NULL;
        piece->file = NULL;
        piece->problem = NULL;
        piece->reader->n_free++;
}
