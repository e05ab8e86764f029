/* SPDX-License-Identifier: Apache-2.0 */

/* The requests about files that a client lends to be sent. */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/worker/serve.h"

static uint32_t serve_free_file(const struct session *session) {
        uint32_t index = 0;

        while (index < SESSION_FILES_MAX && session->files[index])
                index++;
        return index;
}

/* A file may outlive its session, so its unit pays; what one session has is what has a number. */
static uint32_t session_files_max(const struct session *session) {
        uint64_t max = session->unit->session_max[LIMIT_FILES];

        return max < SESSION_FILES_MAX ? (uint32_t) max : SESSION_FILES_MAX;
}

/* What it is, is known when a reader has looked at it. */
void serve_file_add(struct serve *serve) {
        struct session *session = serve->session;
        uint32_t index = serve_free_file(session);
        cleanup(charge_release) struct charge charge = { 0 };
        int fd = peer_claim_fd(serve->peer);
        struct quota_refusal refusal;
        const char *problem = NULL;
        struct call *call;
        int r;

        if (session->level < 1) {
                serve_refuse(serve, -EOPNOTSUPP, OVL_REASON_LEVEL,
                             "a session of level 0 lends no files: read it and send what was read, or ask for level 1 "
                             "in the hello");
        } else if (index >= session_files_max(session)) {
                serve_refuse(serve, -EDQUOT, OVL_REASON_QUOTA,
                             "the session has %u files already: remove one first, or raise Files= below [Session] in "
                             "overlapd.conf, to at most %u",
                             index, SESSION_FILES_MAX);
        } else if (charge_take(&charge, &session->unit->quota, LIMIT_FILES, 1, &refusal) < 0) {
                serve_refuse_quota(serve, &refusal);
        } else if ((call = call_new(serve, CALL_FILE_ADD, NULL))) {
                r = file_new(&session->resources->files, &fd, session->number, session->unit, &charge,
                             &session->files[index], &problem);
                if (r < 0) {
                        serve_refuse(serve, r, OVL_REASON_BAD_FILE, "this descriptor is not accepted as a file: %s",
                                     problem ? problem : strerror(-r));
                        call_free(call);
                } else {
                        call->file = index + 1;
                        call_wait(serve, call);
                        transmit_serve(&session->resources->files);
                }
        }
        peer_drop_fd(serve->peer, fd);
}

void serve_file_remove(struct serve *serve) {
        uint32_t number = serve->request->file_remove->file;
        struct file *file = NULL;
        struct call *call;

        if (number >= 1 && number <= SESSION_FILES_MAX)
                file = serve->session->files[number - 1];
        if (!file || file->status != 0 || file->is_leaving) {
                serve_refuse(serve, -ENOENT, OVL_REASON_UNKNOWN_FILE,
                             "no file of this session has the number %u: it was removed, or never added", number);
                return;
        }
        call = call_new(serve, CALL_FILE_REMOVE, NULL);
        if (!call)
                return;
        file->is_leaving = true;
        call->file = number;
        call_wait(serve, call);
}

/* --- Ends of calls ---------------------------------------------------------------------------------------------- */

static void call_forget_file(struct call *call) {
        struct file **file = &call->session->files[call->file - 1];

        *file = file_forget(*file);
}

static void call_reply_file(struct control *control, struct call *call) {
        Overlapd__FileAddReply file_reply = OVERLAPD__FILE_ADD_REPLY__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;

        file_reply.file = call->file;
        reply.id = call->id;
        reply.what_case = OVERLAPD__REPLY__WHAT_FILE_ADD;
        reply.file_add = &file_reply;
        control_send_reply(control, call->peer, &reply);
}

bool call_settle_file_add(struct control *control, struct call *call) {
        const struct file *file = call->session->files[call->file - 1];

        /* Nobody is left to use it, and what is looked at may never be known. */
        if (!call->peer || call->session->is_ending) {
                call_forget_file(call);
                return true;
        }
        if (file->status == -EINPROGRESS)
                return false;
        if (file->status == 0) {
                call_reply_file(control, call);
                return true;
        }
        control_reply(control, call->peer, call->id, file->status, OVL_REASON_BAD_FILE,
                      "this descriptor is not accepted as a file: %s",
                      file->problem ? file->problem : strerror(-file->status));
        call_forget_file(call);
        return true;
}

bool call_settle_file_remove(struct control *control, struct call *call) {
        if (call->session->files[call->file - 1]->n_ops > 0)
                return false;
        call_forget_file(call);
        control_reply(control, call->peer, call->id, 0, 0, "%s", "");
        return true;
}
