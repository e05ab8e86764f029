/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Control requests. Each thread has at most one outstanding, on its own channel, behind whatever it has posted before:
 * so a reply also says that the records which the daemon sent before it on this channel were taken in.
 *
 *   idle -> outstanding   request_make()
 *   outstanding -> idle   the reply, taken in by whichever thread reads the channel, or the loss of the daemon
 *
 * Routines do not run while a request waits: it is not an alertable wait.
 *
 * Rejected: requests of several threads over one channel (a stalled thread would hold up the others).
 */

#include "client/c/request.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/post-frame.h"
#include "client/c/session.h"
#include "client/c/thread.h"
#include "client/c/wait.h"
#include "proto/reason.h"

int request_refused(const Overlapd__Reply *reply, const char *call, struct ovl_error *error) {
        int status = reply->status < 0 && reply->status >= -4095 ? reply->status : -EPROTO;

        if (*reply->text)
                return error_set(error, status, reply->reason, "%s: %s", call, reply->text);
        return error_set(error, status, reply->reason, "%s: %s (%s)", call,
                         strerrordesc_np(-status) ? strerrordesc_np(-status) : "an unknown error",
                         reason_text(reply->reason));
}

/* Waits until the reply is there. Returns 0 or -ECONNABORTED. */
static int request_wait(struct ovl_thread *thread) {
        struct ovl_session *session = thread->session;
        struct wait wait = { .thread = thread };
        int r = 0;

        session_lock(session);
        wait_begin(&wait);
        while (!thread->conduit->has_reply && !session->is_gone)
                wait_round(&wait, OVL_INFINITE);
        if (!thread->conduit->has_reply)
                r = -ECONNABORTED;
        wait_end(&wait);
        session_unlock(session);
        return r;
}

int request_make(struct ovl_thread *thread, Overlapd__Request *request, int with_fd, Overlapd__Reply__WhatCase answer,
                 const char *call, Overlapd__Reply **ret_reply) {
        _cleanup_free_ void *frame = NULL;
        Overlapd__Reply *reply;
        ssize_t len;
        int r;

        r = post_flush(thread, call);
        if (r < 0)
                return r;
        session_lock(thread->session);
        conduit_expect(thread->conduit, request);
        session_unlock(thread->session);
        len = message_pack_frame(&request->base, with_fd >= 0, &frame);
        if (len < 0)
                return error_set(&thread->error, (int) len, 0, "%s: the request cannot be packed: %s", call,
                                 strerrordesc_np((int) -len));
        r = thread_send(thread, frame, (size_t) len, with_fd, call);
        if (r < 0) {
                session_lock(thread->session);
                thread->conduit->wants_reply = false;
                session_unlock(thread->session);
                return r;
        }
        r = request_wait(thread);
        if (r < 0)
                return thread_gone(thread, call);
        r = conduit_reply(thread->conduit, &thread->arena, &reply);
        if (r < 0)
                return error_set(&thread->error, r, OVL_REASON_BAD_FRAME, "%s: the reply is malformed", call);
        if (reply->status != 0)
                return request_refused(reply, call, &thread->error);
        if (reply->what_case != answer)
                return error_set(&thread->error, -EPROTO, OVL_REASON_BAD_FRAME,
                                 "%s: overlapd answered another question", call);
        *ret_reply = reply;
        return 0;
}

int request_denied(struct ovl_thread *thread, const char *call) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Denied denied = OVERLAPD__DENIED__INIT;
        Overlapd__Reply *reply;

        request.what_case = OVERLAPD__REQUEST__WHAT_DENIED;
        request.denied = &denied;
        return request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT__NOT_SET, call, &reply);
}

OVL_API int ovl_thread_denied(struct ovl_thread *thread) {
        return request_denied(thread, "ovl_thread_denied");
}

OVL_API int ovl_status(struct ovl_thread *thread, struct ovl_status *ret_status) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Status status = OVERLAPD__STATUS__INIT;
        const Overlapd__StatusReply *report;
        Overlapd__Reply *reply;
        int r;

        request.what_case = OVERLAPD__REQUEST__WHAT_STATUS;
        request.status = &status;
        r = request_make(thread, &request, -1, OVERLAPD__REPLY__WHAT_STATUS_REPORT, "ovl_status", &reply);
        if (r < 0)
                return r;
        report = reply->status_report;
        *ret_status = (struct ovl_status){
                .worker_pid = report->worker_pid,
                .sessions = report->sessions,
                .sockets = report->sockets,
                .ops_in_flight = report->ops_in_flight,
                .turns = report->turns,
                .wakeups = report->wakeups,
                .system_calls = report->system_calls,
                .entries = report->entries,
                .records = report->records,
                .bytes_received = report->bytes_received,
                .bytes_sent = report->bytes_sent,
                .merged_ops = report->merged_ops,
                .polls = report->polls,
                .lanes = report->lanes,
        };
        return 0;
}
