/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Asynchronous procedure calls of a storm. Every worker queues some to the others of its process and, through the
 * daemon, to those of all processes that have given their handles away on the board.
 *
 * Invariant: the argument of a call is its number, and the function writes it down in the file of the thread in which
 * it runs. What was queued before a thread begins to end (EVENT_ENDING) runs before it has ended.
 *
 *   handle: opened, on the board --tend, for each session that has come: given--> usable there
 *           --now and then: EVENT_WITHDRAWN--> closed, and a new one on the board
 *           --EVENT_ENDING--> off the board
 */

#include <errno.h>
#include <string.h>

#include "tests/ledger/storm.h"

#define APC_FUNCTION 1

/* The function gets a number and nothing else, and must know who it is that runs it. */
static _Thread_local struct storm_worker *apc_self;

static void apc_routine(struct ovl_thread *thread, uint64_t argument);

/* --- The board -------------------------------------------------------------------------------------------------- */

static struct storm_handle *apc_board(struct storm_worker *worker) {
        return &worker->client->board->handles[worker->client->slot][worker->index];
}

/* Writes what others may know; is_there: false takes it away. Readers see all of it or nothing. */
static void apc_publish(struct storm_worker *worker, bool is_there) {
        struct storm_handle *board = apc_board(worker);
        uint32_t version = __atomic_load_n(&board->version, __ATOMIC_RELAXED);
        uint64_t words[2];

        memcpy(words, worker->handle.bytes, sizeof(words));
        __atomic_store_n(&board->version, version | 1, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        __atomic_store_n(&board->journal, worker->journal->header->index, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < 2; i++)
                __atomic_store_n(&board->bytes[i], words[i], __ATOMIC_RELAXED);
        for (unsigned i = 0; i < STORM_SLOTS; i++)
                __atomic_store_n(&board->given[i], is_there ? worker->given[i] : 0, __ATOMIC_RELAXED);
        __atomic_store_n(&board->version, (version | 1) + 1, __ATOMIC_RELEASE);
}

/* Copies the handle of a worker of some client, if it is there and given to this one. Returns whether it is. */
static bool apc_read(struct storm_worker *worker, unsigned slot, unsigned index, struct ovl_thread_handle *ret_handle,
                     uint32_t *ret_journal) {
        const struct storm_handle *board = &worker->client->board->handles[slot][index];
        uint64_t own = __atomic_load_n(&worker->client->board->sessions[worker->client->slot], __ATOMIC_RELAXED);
        uint32_t version = __atomic_load_n(&board->version, __ATOMIC_ACQUIRE);
        uint64_t words[2], given;

        *ret_journal = __atomic_load_n(&board->journal, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < 2; i++)
                words[i] = __atomic_load_n(&board->bytes[i], __ATOMIC_RELAXED);
        given = __atomic_load_n(&board->given[worker->client->slot], __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        memcpy(ret_handle->bytes, words, sizeof(words));
        return version != 0 && version % 2 == 0 && given == own &&
               __atomic_load_n(&board->version, __ATOMIC_RELAXED) == version;
}

/* --- Handles ---------------------------------------------------------------------------------------------------- */

static int apc_open_handle(struct storm_worker *worker) {
        unsigned slot = worker->client->slot;
        int r;

        r = ovl_thread_handle_open(worker->thread, &worker->handle);
        if (r < 0)
                return r;
        memset(worker->given, 0, sizeof(worker->given));
        worker->given[slot] = __atomic_load_n(&worker->client->board->sessions[slot], __ATOMIC_RELAXED);
        apc_publish(worker, true);
        return 0;
}

/* Others may be about to use the handle: they are refused. */
static void apc_renew_handle(struct storm_worker *worker) {
        int r;

        storm_mark(worker->journal, EVENT_WITHDRAWN, 0, 0, 0, 0);
        r = ovl_thread_handle_close(worker->thread, &worker->handle);
        if (r == 0)
                r = apc_open_handle(worker);
        if (r < 0)
                storm_worker_failed(worker, "renewing a thread handle", r);
}

static void apc_give(struct storm_worker *worker, unsigned slot) {
        uint64_t session = __atomic_load_n(&worker->client->board->sessions[slot], __ATOMIC_ACQUIRE);
        int r;

        if (session == 0 || worker->given[slot] == session)
                return;
        r = ovl_thread_handle_give(worker->thread, &worker->handle, session);
        if (r == -EDQUOT) {
                apc_renew_handle(worker);
                return;
        }
        if (r < 0 && r != -ESRCH)
                storm_worker_failed(worker, "ovl_thread_handle_give", r);
        if (r < 0)
                return;
        worker->given[slot] = session;
        apc_publish(worker, true);
}

/* --- Queueing --------------------------------------------------------------------------------------------------- */

static void apc_write_queued(struct storm_worker *worker, uint64_t id, int status) {
        journal_add(worker->journal, (struct event){ .kind = EVENT_QUEUED, .id = id, .status = status });
        __atomic_fetch_add(&worker->client->board->steps[worker->client->slot], 1, __ATOMIC_RELAXED);
}

static void apc_queue_local(struct storm_worker *worker) {
        struct storm_worker *target = &worker->client->workers[storm_pick(&worker->random, STORM_WORKERS)];
        uint64_t id;
        int r;

        pthread_mutex_lock(&target->thread_lock);
        if (target->is_open) {
                id = journal_apc(worker->journal, target->journal->header->index, false);
                r = ovl_apc_queue(target->thread, apc_routine, id);
                apc_write_queued(worker, id, r);
        }
        pthread_mutex_unlock(&target->thread_lock);
}

static void apc_queue_remote(struct storm_worker *worker) {
        unsigned slot = storm_pick(&worker->random, STORM_PEER), index = storm_pick(&worker->random, STORM_WORKERS);
        struct ovl_thread_handle handle;
        uint32_t journal;
        uint64_t id;
        int r;

        if (!apc_read(worker, slot, index, &handle, &journal))
                return;
        id = journal_apc(worker->journal, journal, true);
        r = ovl_apc_queue_remote(worker->thread, &handle, APC_FUNCTION, id);
        apc_write_queued(worker, id, r);
        if (r < 0 && r != -EBADF && r != -ESRCH && r != -ENOBUFS)
                storm_worker_failed(worker, "ovl_apc_queue_remote", r);
}

static void apc_routine(struct ovl_thread *thread, uint64_t argument) {
        struct storm_worker *worker = apc_self;

        journal_add(worker->journal, (struct event){ .kind = EVENT_RUN, .id = argument });
        __atomic_fetch_add(&worker->client->board->steps[worker->client->slot], 1, __ATOMIC_RELAXED);
        if (storm_pick(&worker->random, 16) == 0 && !__atomic_load_n(&worker->client->is_leaving, __ATOMIC_RELAXED))
                apc_queue_local(worker);
}

/* --- The worker's part ------------------------------------------------------------------------------------------ */

int storm_apc_open(struct storm_worker *worker) {
        int r;

        apc_self = worker;
        r = ovl_function_register(worker->thread, APC_FUNCTION, apc_routine);
        if (r < 0)
                return r;
        pthread_mutex_lock(&worker->thread_lock);
        worker->is_open = true;
        pthread_mutex_unlock(&worker->thread_lock);
        return apc_open_handle(worker);
}

void storm_apc_tend(struct storm_worker *worker) {
        uint32_t way = storm_pick(&worker->random, 64);
        int r;

        if (storm_worker_is_over(worker))
                return;
        if (way < 16)
                apc_queue_local(worker);
        else if (way < 24)
                apc_queue_remote(worker);
        else if (way < 28)
                apc_give(worker, storm_pick(&worker->random, STORM_PEER));
        else if (way == 28 && storm_pick(&worker->random, 16) == 0)
                apc_renew_handle(worker);
        /* Those that do not wait alertably by themselves. */
        if (way >= 32 && way < 40 && worker->mode != EVENT_MODE_ROUTINE) {
                r = ovl_sleep(worker->thread, 0);
                if (r < 0)
                        storm_worker_failed(worker, "ovl_sleep", r);
        }
}

/* A round trip brings in what was queued before it; what is queued from here on may be lost. */
void storm_apc_close(struct storm_worker *worker) {
        bool is_leaving = __atomic_load_n(&worker->client->is_leaving, __ATOMIC_RELAXED);
        int r = 0;

        storm_mark(worker->journal, EVENT_ENDING, 0, 0, 0, 0);
        apc_publish(worker, false);
        if (!is_leaving)
                r = ovl_thread_handle_close(worker->thread, &worker->handle);
        if (r < 0)
                storm_worker_failed(worker, "ovl_thread_handle_close", r);
        while (!is_leaving && r >= 0) {
                r = ovl_sleep(worker->thread, 0);
                if (r != OVL_ALERTED)
                        break;
        }
        pthread_mutex_lock(&worker->thread_lock);
        worker->is_open = false;
        pthread_mutex_unlock(&worker->thread_lock);
}
