/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The requests about APCs. What a session may not know it is not told: a handle that it was not given, and one that was
 * never made, are refused with the same words, and so are sessions of others and sessions that do not exist.
 */

#include <errno.h>
#include <string.h>

#include "daemon/worker/apc.h"
#include "daemon/worker/serve.h"

/* The handle that a request presents, or NULL; the client has then been told. */
static struct apc_handle *serve_find_handle(struct serve *serve, const ProtobufCBinaryData *bytes) {
        struct apc_handle *handle =
                apc_find(&serve->control->resources->apcs, &serve->session->apcs, bytes->data, bytes->len);

        if (!handle)
                serve_refuse(serve, -EBADF, OVL_REASON_UNKNOWN_HANDLE,
                             "these %zu bytes are no thread handle that this session may use: it was closed, never "
                             "made, or given to another session",
                             bytes->len);
        return handle;
}

/* The same, for what only the session may do that opened it. */
static struct apc_handle *serve_find_own_handle(struct serve *serve, const ProtobufCBinaryData *bytes) {
        struct apc_handle *handle = serve_find_handle(serve, bytes);

        if (!handle || handle->owner == &serve->session->apcs)
                return handle;
        serve_refuse(
                serve, -EBADF, OVL_REASON_UNKNOWN_HANDLE,
                "the thread handle was given to this session: only the one that opened it can give it or close it");
        return NULL;
}

void serve_thread_handle_open(struct serve *serve) {
        Overlapd__ThreadHandleReply handle_reply = OVERLAPD__THREAD_HANDLE_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        uint64_t number = serve->request->thread_handle_open->thread;
        struct thread *thread = session_find_thread(serve->session, number);
        struct apc_handle *handle;
        int r;

        if (!thread) {
                serve_refuse(serve, -ESRCH, OVL_REASON_UNKNOWN_THREAD,
                             "no thread of this session has the number %llu: attach it first",
                             (unsigned long long) number);
                return;
        }
        r = apc_open(&serve->control->resources->apcs, &serve->session->apcs, thread, &handle);
        if (r == -EDQUOT) {
                serve_refuse(serve, r, OVL_REASON_QUOTA, "the session has %u thread handles already: close one first",
                             APC_HANDLES_MAX);
                return;
        }
        if (r < 0) {
                serve_refuse(serve, r, OVL_REASON_NONE, "overlapd cannot make a thread handle: %s", strerror(-r));
                return;
        }
        handle_reply.handle = (ProtobufCBinaryData){ .len = sizeof(handle->bytes), .data = handle->bytes };
        reply.what_case = OVERLAPD__REPLY__WHAT_THREAD_HANDLE;
        reply.thread_handle = &handle_reply;
        serve_send(serve, &reply);
}

void serve_thread_handle_give(struct serve *serve) {
        const Overlapd__ThreadHandleGive *give = serve->request->thread_handle_give;
        struct apc_handle *handle = serve_find_own_handle(serve, &give->handle);
        struct session *partner;
        int r;

        if (!handle)
                return;
        partner = serve_partner(serve, give->session);
        if (!partner)
                return;
        r = apc_give(handle, &partner->apcs);
        if (r == -EDQUOT)
                serve_refuse(serve, r, OVL_REASON_QUOTA,
                             "the thread handle was given to %u sessions already: open another one", APC_GRANTS_MAX);
        else if (r < 0)
                serve_refuse(serve, r, OVL_REASON_NONE, "overlapd is out of memory: try again later");
        else
                serve_ok(serve);
}

void serve_thread_handle_close(struct serve *serve) {
        struct apc_handle *handle = serve_find_own_handle(serve, &serve->request->thread_handle_close->handle);

        if (!handle)
                return;
        apc_close(handle);
        serve_ok(serve);
}

void serve_function_register(struct serve *serve) {
        const Overlapd__FunctionRegister *function = serve->request->function_register;
        struct apc_party *party = &serve->session->apcs;
        int r;

        if (function->remove)
                r = apc_unregister(party, function->function);
        else
                r = apc_register(party, function->function);
        if (r == -EDQUOT)
                serve_refuse(serve, r, OVL_REASON_QUOTA, "the session has registered %u functions: remove one first",
                             APC_FUNCTIONS_MAX);
        else if (r == -ENOENT)
                serve_refuse(serve, r, OVL_REASON_UNKNOWN_FUNCTION,
                             "the session has registered no function with the number %llu",
                             (unsigned long long) function->function);
        else if (r < 0)
                serve_refuse(serve, r, OVL_REASON_NONE, "overlapd is out of memory: try again later");
        else
                serve_ok(serve);
}

void serve_apc_queue(struct serve *serve) {
        const Overlapd__ApcQueue *queue = serve->request->apc_queue;
        struct apc_handle *handle = serve_find_handle(serve, &queue->handle);
        struct session *session;
        int r;

        if (!handle)
                return;
        if (!handle->thread) {
                serve_refuse(serve, -ESRCH, OVL_REASON_THREAD_ENDED, "the thread of this handle has ended");
                return;
        }
        session = list_entry(handle->owner, struct session, apcs);
        if (!apc_has_function(&session->apcs, queue->function)) {
                serve_refuse(serve, -ENOENT, OVL_REASON_UNKNOWN_FUNCTION,
                             "the session of the thread has registered no function with the number %llu",
                             (unsigned long long) queue->function);
                return;
        }
        r = session_queue_apc(session, handle->thread, queue->function, queue->argument);
        if (r < 0)
                serve_refuse(serve, r, OVL_REASON_QUOTA,
                             "%u APCs wait for the session of this thread, which does not take them: try again later",
                             SESSION_APCS_MAX);
        else
                serve_ok(serve);
}
