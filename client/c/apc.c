/* SPDX-License-Identifier: Apache-2.0 */

/*
 * APCs. One that a thread of the program queues is appended to the target's queue at once, without the daemon: the
 * target's channel is read before, so that what ended earlier stands in front. One that another process queues comes as
 * a record, in its place among the completions, and names a function by a number that this process registered.
 *
 *   none -> queued      ovl_apc_queue(), or a record
 *   queued -> running   an alertable wait of the target (routine.c)
 *   queued -> dropped   the thread is closed, or the function's number is taken back
 *
 * Invariants: nothing that comes from outside chooses an address; a number that is not registered does nothing (the
 * record may have been under way when it was taken back). What other processes queue and nobody runs has a bound; what
 * comes beyond it, or finds no memory, is dropped: the sender was answered long ago, and the records behind it must not
 * wait for a thread that does not.
 *
 * The number of a session's first thread, and its channel, are given to the next thread when it is closed. Handles to
 * it are therefore closed with it; those of other threads are useless by themselves.
 *
 * Rejected: sending local APCs through the daemon (a round trip for what a lock can do).
 */

#include "client/c/apc.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/overlap.h"
#include "client/c/request.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/wait.h"
#include "proto/layout.h"

#define APC_REMOTE_MAX 16384u /* of other processes, that wait in a session */

void apc_table_deinit(struct apc_table *table) {
        free(table->functions);
        *table = (struct apc_table){ 0 };
}

/* --- Queueing --------------------------------------------------------------------------------------------------- */

struct apc *apc_free(struct ovl_session *session, struct apc *apc) {
        if (apc->is_remote)
                session->apcs.n_remote--;
        free(apc);
        return NULL;
}

static struct apc *apc_new(void (*function)(struct ovl_thread *, uint64_t), uint64_t argument) {
        struct apc *apc = calloc(1, sizeof(*apc));

        if (!apc)
                return NULL;
        apc->item.is_apc = true;
        apc->function = function;
        apc->argument = argument;
        return apc;
}

/* Reads what the daemon has sent to the thread. Returns 0, or -ESRCH when it is being closed. */
static int apc_look(struct ovl_thread *thread, struct ovl_thread *by) {
        struct ovl_session *session = thread->session;
        struct conduit *conduit = NULL;

        session_lock(session);
        if (!thread->is_closing)
                conduit = conduit_ref(thread->conduit);
        session_unlock(session);
        if (!conduit)
                return -ESRCH;
        conduit_take_in(conduit, by);
        session_lock(session);
        conduit_unref(conduit);
        session_unlock(session);
        return 0;
}

OVL_API int ovl_apc_queue(struct ovl_thread *thread, void (*function)(struct ovl_thread *, uint64_t),
                          uint64_t argument) {
        struct ovl_thread *by = pthread_equal(pthread_self(), thread->owner) ? thread : NULL;
        _cleanup_free_ struct apc *apc = NULL;
        int r;

        r = apc_look(thread, by);
        if (r < 0 || !function)
                return r;
        apc = apc_new(function, argument);
        if (!apc)
                return -ENOMEM;
        session_lock(thread->session);
        if (thread->is_closing)
                r = -ESRCH;
        else
                routine_push(thread, &take_ptr(apc)->item, by);
        if (by)
                wait_tell(by);
        session_unlock(thread->session);
        return r;
}

/* --- Functions -------------------------------------------------------------------------------------------------- */

/* The place of a number: where it is, or where it would stand. */
static size_t apc_find_place(const struct apc_table *table, uint64_t number) {
        size_t low = 0, high = table->n_functions;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (table->functions[middle].number < number)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static struct apc_function *apc_find_function(const struct apc_table *table, uint64_t number) {
        size_t place = apc_find_place(table, number);

        return place < table->n_functions && table->functions[place].number == number ? &table->functions[place] : NULL;
}

static int apc_add_function(struct apc_table *table, uint64_t number, void (*function)(struct ovl_thread *, uint64_t)) {
        size_t place = apc_find_place(table, number), n = table->n_functions_held;
        struct apc_function *functions;

        if (table->n_functions == n) {
                n = n ? 2 * n : 16;
                functions = reallocarray(table->functions, n, sizeof(*functions));
                if (!functions)
                        return -ENOMEM;
                table->functions = functions;
                table->n_functions_held = n;
        }
        memmove(&table->functions[place + 1], &table->functions[place],
                (table->n_functions - place) * sizeof(*table->functions));
        table->functions[place] = (struct apc_function){ number, function };
        table->n_functions++;
        return 0;
}

/* Nothing that is queued and names the function will run. */
static void apc_remove_function(struct ovl_session *session, uint64_t number) {
        struct apc_table *table = &session->apcs;
        struct apc_function *found = apc_find_function(table, number);

        if (!found)
                return;
        table->n_functions--;
        memmove(found, found + 1, (size_t) (&table->functions[table->n_functions] - found) * sizeof(*found));
        list_for_each(link, &session->threads)
                routine_drop_function(list_entry(link, struct ovl_thread, link), number);
}

static int apc_ask_register(struct ovl_thread *thread, uint64_t number, bool remove) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__FunctionRegister function_register = OVERLAPD__FUNCTION_REGISTER__INIT;
        Overlapd__Reply *reply;

        function_register.function = number;
        function_register.remove = remove;
        request.what_case = OVERLAPD__REQUEST__WHAT_FUNCTION_REGISTER;
        request.function_register = &function_register;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_function_register", &reply);
}

OVL_API int ovl_function_register(struct ovl_thread *thread, uint64_t number,
                                  void (*function)(struct ovl_thread *, uint64_t)) {
        struct ovl_session *session = thread->session;
        struct apc_function *known;
        int r = 0;

        if (!function)
                r = apc_ask_register(thread, number, true);
        if (r < 0)
                return r;
        session_lock(session);
        known = apc_find_function(&session->apcs, number);
        if (!function)
                apc_remove_function(session, number);
        else if (known)
                known->function = function;
        else
                r = apc_add_function(&session->apcs, number, function);
        session_unlock(session);
        if (r < 0)
                return error_set(&thread->error, r, 0, "ovl_function_register: no memory");
        if (!function || known)
                return 0;
        /* From here on an APC is understood; the daemon may let them come. */
        r = apc_ask_register(thread, number, false);
        if (r < 0) {
                session_lock(session);
                apc_remove_function(session, number);
                session_unlock(session);
        }
        return r;
}

/* --- Handles ---------------------------------------------------------------------------------------------------- */

OVL_API int ovl_thread_handle_open(struct ovl_thread *thread, struct ovl_thread_handle *ret_handle) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__ThreadHandleOpen open = OVERLAPD__THREAD_HANDLE_OPEN__INIT;
        struct apc_handle *handle;
        Overlapd__Reply *reply;
        int r;

        handle = calloc(1, sizeof(*handle));
        if (!handle)
                return error_set(&thread->error, -ENOMEM, 0, "ovl_thread_handle_open: no memory");
        open.thread = thread->number;
        request.what_case = OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_OPEN;
        request.thread_handle_open = &open;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT_THREAD_HANDLE, "ovl_thread_handle_open", &reply);
        if (r == 0 && reply->thread_handle->handle.len != sizeof(handle->bytes))
                r = error_set(&thread->error, -EPROTO, OVL_REASON_BAD_FRAME,
                              "ovl_thread_handle_open: overlapd gave a handle of %zu bytes, not of %zu",
                              reply->thread_handle->handle.len, sizeof(handle->bytes));
        if (r < 0) {
                free(handle);
                return r;
        }
        memcpy(handle->bytes, reply->thread_handle->handle.data, sizeof(handle->bytes));
        memcpy(ret_handle->bytes, handle->bytes, sizeof(handle->bytes));
        session_lock(thread->session);
        list_push_back(&thread->handles, &handle->link);
        session_unlock(thread->session);
        return 0;
}

OVL_API int ovl_thread_handle_give(struct ovl_thread *thread, const struct ovl_thread_handle *handle,
                                   uint64_t session) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__ThreadHandleGive give = OVERLAPD__THREAD_HANDLE_GIVE__INIT;
        Overlapd__Reply *reply;

        give.handle = (ProtobufCBinaryData){ .len = sizeof(handle->bytes), .data = (uint8_t *) handle->bytes };
        give.session = session;
        request.what_case = OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_GIVE;
        request.thread_handle_give = &give;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_thread_handle_give", &reply);
}

static int apc_ask_close(struct ovl_thread *thread, const uint8_t *bytes, const char *call) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__ThreadHandleClose close = OVERLAPD__THREAD_HANDLE_CLOSE__INIT;
        Overlapd__Reply *reply;

        close.handle = (ProtobufCBinaryData){ .len = APC_HANDLE_SIZE, .data = (uint8_t *) bytes };
        request.what_case = OVERLAPD__REQUEST__WHAT_THREAD_HANDLE_CLOSE;
        request.thread_handle_close = &close;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, call, &reply);
}

/* Forgets a handle, whichever thread it was opened for. Under the lock. */
static void apc_forget_handle(struct ovl_session *session, const struct ovl_thread_handle *handle) {
        list_for_each(thread_link, &session->threads) {
                struct ovl_thread *thread = list_entry(thread_link, struct ovl_thread, link);

                list_for_each(link, &thread->handles) {
                        struct apc_handle *known = list_entry(link, struct apc_handle, link);

                        if (memcmp(known->bytes, handle->bytes, sizeof(known->bytes)) != 0)
                                continue;
                        list_unlink(&known->link);
                        free(known);
                        return;
                }
        }
}

OVL_API int ovl_thread_handle_close(struct ovl_thread *thread, const struct ovl_thread_handle *handle) {
        int r;

        r = apc_ask_close(thread, handle->bytes, "ovl_thread_handle_close");
        if (r < 0)
                return r;
        session_lock(thread->session);
        apc_forget_handle(thread->session, handle);
        session_unlock(thread->session);
        return 0;
}

void apc_close_handles(struct ovl_thread *thread) {
        struct ovl_session *session = thread->session;
        bool is_first = thread->conduit == session->first;
        struct list *link;

        for (;;) {
                session_lock(session);
                link = list_pop_front(&thread->handles);
                session_unlock(session);
                if (!link)
                        return;
                if (is_first)
                        apc_ask_close(thread, list_entry(link, struct apc_handle, link)->bytes, "ovl_thread_close");
                free(list_entry(link, struct apc_handle, link));
        }
}

OVL_API int ovl_apc_queue_remote(struct ovl_thread *thread, const struct ovl_thread_handle *handle, uint64_t number,
                                 uint64_t argument) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__ApcQueue queue = OVERLAPD__APC_QUEUE__INIT;
        Overlapd__Reply *reply;

        queue.handle = (ProtobufCBinaryData){ .len = sizeof(handle->bytes), .data = (uint8_t *) handle->bytes };
        queue.function = number;
        queue.argument = argument;
        request.what_case = OVERLAPD__REQUEST__WHAT_APC_QUEUE;
        request.apc_queue = &queue;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, "ovl_apc_queue_remote", &reply);
}

/* --- Records ---------------------------------------------------------------------------------------------------- */

static const char *apc_check(const struct conduit *conduit, const struct ovl_record *record) {
        if (conduit->port || record->thread != conduit->number)
                return "an APC in the channel of another thread";
        if (record->key || record->bytes || record->status || record->flags || record->reason || record->op ||
            record->indication || record->reserved || record->payload_len)
                return "an APC with a field that APCs do not have";
        return NULL;
}

const char *apc_take(struct conduit *conduit, const struct ovl_record *record, struct ovl_thread *by) {
        struct ovl_session *session = conduit->session;
        struct ovl_thread *thread = conduit->thread;
        const struct apc_function *known;
        const char *problem;
        struct apc *apc;

        problem = apc_check(conduit, record);
        if (problem)
                return problem;
        known = apc_find_function(&session->apcs, record->tag);
        if (!known || !thread || thread->is_closing || session->apcs.n_remote >= APC_REMOTE_MAX)
                return NULL;
        apc = apc_new(known->function, record->value);
        if (!apc)
                return NULL;
        apc->number = record->tag;
        apc->is_remote = true;
        session->apcs.n_remote++;
        routine_push(thread, &apc->item, by);
        return NULL;
}
