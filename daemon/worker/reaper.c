/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The queue is a ring as large as the descriptor table: a descriptor is a number below RLIMIT_NOFILE and is in the
 * queue at most once, so that the ring cannot overflow. It is reserved at once and touched as it is used.
 */

#include "daemon/worker/reaper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define REAPER_PATIENCE_S 1

struct reaper {
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t wake;
        int *queue; /* under the lock, as is all below */
        size_t size;
        size_t first;
        size_t n_queued;
        bool is_running;
        bool is_ending;
};

/*
 * Nobody waits for the bytes that a lingering socket has left: the kernel goes on with them by itself. Only who still
 * has the socket, and changes this back in that instant, can make the thread wait.
 */
static void reaper_stop_lingering(int fd) {
        const struct linger off = { 0 };
        struct linger linger;
        socklen_t len = sizeof(linger);

        if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len) == 0 && linger.l_onoff && linger.l_linger > 0)
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
}

static void *reaper_main(void *argument) {
        struct reaper *reaper = argument;

        pthread_mutex_lock(&reaper->lock);
        reaper->is_running = true;
        pthread_cond_broadcast(&reaper->wake);
        for (;;) {
                int fd;

                while (reaper->n_queued == 0 && !reaper->is_ending)
                        pthread_cond_wait(&reaper->wake, &reaper->lock);
                if (reaper->n_queued == 0)
                        break;
                fd = reaper->queue[reaper->first];
                reaper->first = (reaper->first + 1) % reaper->size;
                reaper->n_queued--;
                pthread_mutex_unlock(&reaper->lock);
                reaper_stop_lingering(fd);
                close(fd);
                pthread_mutex_lock(&reaper->lock);
        }
        pthread_mutex_unlock(&reaper->lock);
        return NULL;
}

/* Waits until the thread runs: how it begins must not be seen by the system-call filter that comes next. */
static int reaper_start(struct reaper *reaper) {
        sigset_t all, before;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = -pthread_create(&reaper->thread, NULL, reaper_main, reaper);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r < 0)
                return r;
        pthread_mutex_lock(&reaper->lock);
        while (!reaper->is_running)
                pthread_cond_wait(&reaper->wake, &reaper->lock);
        pthread_mutex_unlock(&reaper->lock);
        return 0;
}

int reaper_new(struct reaper **ret_reaper) {
        _cleanup_free_ struct reaper *reaper = calloc(1, sizeof(*reaper));
        struct rlimit limit;
        int r;

        if (!reaper)
                return -ENOMEM;
        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return -errno;
        reaper->size = limit.rlim_cur;
        reaper->queue = mmap(NULL, reaper->size * sizeof(int), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (reaper->queue == MAP_FAILED)
                return -ENOMEM;
        pthread_mutex_init(&reaper->lock, NULL);
        pthread_cond_init(&reaper->wake, NULL);
        r = reaper_start(reaper);
        if (r < 0) {
                munmap(reaper->queue, reaper->size * sizeof(int));
                return r;
        }
        *ret_reaper = take_ptr(reaper);
        return 0;
}

struct reaper *reaper_free(struct reaper *reaper) {
        struct timespec deadline;

        if (!reaper)
                return NULL;
        pthread_mutex_lock(&reaper->lock);
        reaper->is_ending = true;
        pthread_cond_signal(&reaper->wake);
        pthread_mutex_unlock(&reaper->lock);
        clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += REAPER_PATIENCE_S;
        /* A thread that hangs in a close keeps its memory: the process is about to end. */
        if (pthread_timedjoin_np(reaper->thread, NULL, &deadline) != 0)
                return NULL;
        munmap(reaper->queue, reaper->size * sizeof(int));
        pthread_cond_destroy(&reaper->wake);
        pthread_mutex_destroy(&reaper->lock);
        free(reaper);
        return NULL;
}

void reaper_close(struct reaper *reaper, int fd) {
        if (fd < 0)
                return;
        pthread_mutex_lock(&reaper->lock);
        reaper->queue[(reaper->first + reaper->n_queued) % reaper->size] = fd;
        reaper->n_queued++;
        pthread_cond_signal(&reaper->wake);
        pthread_mutex_unlock(&reaper->lock);
}
