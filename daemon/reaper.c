/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A close that hangs keeps its thread for as long as somebody else likes, so nobody may have so many threads that
 * others have none: a user has two at most, and fewer than are left to others. What he gives away beyond that waits
 * behind his own closes, in their order.
 *
 * Descriptors that wait are a resource of everybody. So who goes on passing descriptors while his closes hang is told
 * by reaper_is_behind(), and loses his connection: he who serves a file system has to answer.
 *
 * A descriptor is a number below RLIMIT_NOFILE and waits at most once, so that places for as many suffice; they are
 * reserved at once and touched as they are used. A user is known here only while something of his waits or is closed.
 */

#include "daemon/reaper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/time.h"

#define REAPER_THREADS 8u
#define REAPER_THREADS_OF_USER_MAX 2u
#define REAPER_PATIENCE_S 1
#define REAPER_BEHIND 64u        /* descriptors of a user that wait, while a close hangs */
#define REAPER_WAITING_MAX 8192u /* ... or while none does */
#define REAPER_USERS_MAX 4096u   /* who comes when there are more is counted with one of them */

struct reaper_user {
        struct list link; /* among those of whom something waits or is closed, or among the spare ones */
        uint32_t uid;
        unsigned n_waiting;
        unsigned n_closing;
        int first; /* -1: none */
        int last;
};

struct reaper_thread {
        struct reaper *reaper;
        pthread_t thread;
        struct reaper_user *user; /* whose descriptor it closes; NULL: it is idle */
        uint64_t since_ns;
};

struct reaper {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        int *next; /* of each descriptor that waits: the one behind it. Under the lock, as is all below */
        struct reaper_user *pool;
        size_t size;
        size_t n_high; /* of the pool: ever used */
        struct list users;
        struct list spare;
        struct reaper_thread threads[REAPER_THREADS];
        unsigned n_running;
        unsigned n_idle;
        bool is_ending;
};

/* --- Users ------------------------------------------------------------------------------------------------------ */

static struct reaper_user *reaper_find(const struct reaper *reaper, uint32_t uid) {
        list_for_each(link, &reaper->users) {
                struct reaper_user *user = list_entry(link, struct reaper_user, link);

                if (user->uid == uid)
                        return user;
        }
        return NULL;
}

static struct reaper_user *reaper_add_user(struct reaper *reaper, uint32_t uid) {
        struct list *link = list_pop_front(&reaper->spare);
        struct reaper_user *user;

        if (!link && reaper->n_high == REAPER_USERS_MAX)
                return list_entry(list_first(&reaper->users), struct reaper_user, link);
        user = link ? list_entry(link, struct reaper_user, link) : &reaper->pool[reaper->n_high++];
        *user = (struct reaper_user){ .uid = uid, .first = -1, .last = -1 };
        list_init(&user->link);
        list_push_back(&reaper->users, &user->link);
        return user;
}

static void reaper_push(struct reaper *reaper, struct reaper_user *user, int fd) {
        reaper->next[fd] = -1;
        if (user->first < 0)
                user->first = fd;
        else
                reaper->next[user->last] = fd;
        user->last = fd;
        user->n_waiting++;
}

static int reaper_pop(const struct reaper *reaper, struct reaper_user *user) {
        int fd = user->first;

        user->first = reaper->next[fd];
        user->n_waiting--;
        return fd;
}

/* Whose turn it is, which is then the last one's; or NULL. */
static struct reaper_user *reaper_next_user(struct reaper *reaper) {
        list_for_each(link, &reaper->users) {
                struct reaper_user *user = list_entry(link, struct reaper_user, link);

                if (user->n_waiting == 0 || user->n_closing >= REAPER_THREADS_OF_USER_MAX ||
                    user->n_closing >= reaper->n_idle)
                        continue;
                list_unlink(link);
                list_push_back(&reaper->users, link);
                return user;
        }
        return NULL;
}

/* --- Threads ---------------------------------------------------------------------------------------------------- */

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

/* Under the lock, which is given back meanwhile. */
static void reaper_serve(struct reaper_thread *thread, struct reaper_user *user) {
        struct reaper *reaper = thread->reaper;
        int fd = reaper_pop(reaper, user);

        thread->user = user;
        thread->since_ns = now_ns();
        user->n_closing++;
        reaper->n_idle--;
        pthread_mutex_unlock(&reaper->lock);
        reaper_stop_lingering(fd);
        close(fd);
        pthread_mutex_lock(&reaper->lock);
        reaper->n_idle++;
        user->n_closing--;
        thread->user = NULL;
        if (user->n_closing == 0 && user->n_waiting == 0) {
                list_unlink(&user->link);
                list_push_back(&reaper->spare, &user->link);
        }
        /* Somebody may be let go on by this, whom those that sleep have passed over. */
        pthread_cond_signal(&reaper->wake);
}

static void *reaper_main(void *argument) {
        struct reaper_thread *thread = argument;
        struct reaper *reaper = thread->reaper;
        struct reaper_user *user;

        pthread_mutex_lock(&reaper->lock);
        reaper->n_running++;
        reaper->n_idle++;
        pthread_cond_broadcast(&reaper->wake);
        for (;;) {
                user = reaper_next_user(reaper);
                if (user)
                        reaper_serve(thread, user);
                else if (reaper->is_ending)
                        break;
                else
                        pthread_cond_wait(&reaper->wake, &reaper->lock);
        }
        pthread_mutex_unlock(&reaper->lock);
        return NULL;
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

/* Returns whether all have ended by then. */
static bool reaper_join(struct reaper *reaper, unsigned n_threads) {
        struct timespec deadline;
        bool have_ended = true;

        pthread_mutex_lock(&reaper->lock);
        reaper->is_ending = true;
        pthread_cond_broadcast(&reaper->wake);
        pthread_mutex_unlock(&reaper->lock);
        clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += REAPER_PATIENCE_S;
        for (unsigned i = 0; i < n_threads; i++)
                if (pthread_timedjoin_np(reaper->threads[i].thread, NULL, &deadline) != 0)
                        have_ended = false;
        return have_ended;
}

/* Waits until the threads run: how they begin must not be seen by the system-call filter that comes next. */
static int reaper_start(struct reaper *reaper) {
        sigset_t all, before;
        unsigned n = 0;
        int r = 0;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        for (; n < REAPER_THREADS && r == 0; n += r == 0) {
                reaper->threads[n].reaper = reaper;
                r = -pthread_create(&reaper->threads[n].thread, NULL, reaper_main, &reaper->threads[n]);
        }
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r < 0) {
                reaper_join(reaper, n);
                return r;
        }
        pthread_mutex_lock(&reaper->lock);
        while (reaper->n_running < REAPER_THREADS)
                pthread_cond_wait(&reaper->wake, &reaper->lock);
        pthread_mutex_unlock(&reaper->lock);
        return 0;
}

static void *reaper_reserve(size_t size) {
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        return memory == MAP_FAILED ? NULL : memory;
}

static struct reaper *reaper_discard(struct reaper *reaper) {
        if (reaper->next)
                munmap(reaper->next, reaper->size * sizeof(*reaper->next));
        if (reaper->pool)
                munmap(reaper->pool, REAPER_USERS_MAX * sizeof(*reaper->pool));
        pthread_cond_destroy(&reaper->wake);
        pthread_mutex_destroy(&reaper->lock);
        free(reaper);
        return NULL;
}

int reaper_new(struct reaper **ret_reaper) {
        struct reaper *reaper;
        struct rlimit limit;
        int r = -ENOMEM;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return -errno;
        reaper = calloc(1, sizeof(*reaper));
        if (!reaper)
                return -ENOMEM;
        list_init(&reaper->users);
        list_init(&reaper->spare);
        pthread_mutex_init(&reaper->lock, NULL);
        pthread_cond_init(&reaper->wake, NULL);
        reaper->size = limit.rlim_cur;
        reaper->next = reaper_reserve(reaper->size * sizeof(*reaper->next));
        reaper->pool = reaper_reserve(REAPER_USERS_MAX * sizeof(*reaper->pool));
        if (reaper->next && reaper->pool)
                r = reaper_start(reaper);
        if (r < 0) {
                reaper_discard(reaper);
                return r;
        }
        *ret_reaper = reaper;
        return 0;
}

struct reaper *reaper_free(struct reaper *reaper) {
        /* Threads that hang in a close keep their memory: the process is about to end. */
        if (!reaper || !reaper_join(reaper, REAPER_THREADS))
                return NULL;
        return reaper_discard(reaper);
}

/* --- What is asked of it ---------------------------------------------------------------------------------------- */

void reaper_close(struct reaper *reaper, int fd, uint32_t uid) {
        struct reaper_user *user;

        if (fd < 0)
                return;
        pthread_mutex_lock(&reaper->lock);
        user = reaper_find(reaper, uid);
        reaper_push(reaper, user ? user : reaper_add_user(reaper, uid), fd);
        pthread_cond_signal(&reaper->wake);
        pthread_mutex_unlock(&reaper->lock);
}

bool reaper_is_behind(struct reaper *reaper, uint32_t uid) {
        const uint64_t now = now_ns();
        const struct reaper_user *user;
        bool hangs = false, is_behind;

        pthread_mutex_lock(&reaper->lock);
        user = reaper_find(reaper, uid);
        for (unsigned i = 0; i < REAPER_THREADS && user; i++)
                if (reaper->threads[i].user == user &&
                    now - reaper->threads[i].since_ns >= REAPER_PATIENCE_S * 1000000000ull)
                        hangs = true;
        is_behind = user && user->n_waiting >= (hangs ? REAPER_BEHIND : REAPER_WAITING_MAX);
        pthread_mutex_unlock(&reaper->lock);
        return is_behind;
}
