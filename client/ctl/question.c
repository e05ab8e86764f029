/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Questions. What comes back is checked like anything that comes over a socket: it may be another program that listens
 * at the path.
 *
 * Invariant: whoever calls learns of every way in which an answer can be less than whole, and whoever reads the
 * terminal is told what to do.
 */

#include "client/ctl/question.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "proto/frame.h"
#include "proto/message.h"

#define QUESTION_PATIENCE_NS (15 * NS_PER_S) /* until something has to come */
#define QUESTION_INBOX_SIZE (sizeof(struct ovl_frame_header) + OVL_FRAME_CONTROL_MAX)

struct question {
        const struct ctl *ctl;
        int fd;
        question_take *take;
        void *data;
        struct message_arena arena;
        size_t n_filled;
        uint8_t inbox[QUESTION_INBOX_SIZE];
};

static void question_complain_of_connect(const struct ctl *ctl, int error) {
        const char *path = ctl->admin_path;
        struct stat status;

        /* The kernel says so of whatever cannot be connected to. */
        if (error == ECONNREFUSED && stat(path, &status) == 0 && !S_ISSOCK(status.st_mode))
                error = ENOTSOCK;
        switch (error) {
        case ENOENT:
        case ENOTDIR:
                ctl_complain("%s: overlapd is not running, or listens elsewhere: systemctl start overlapd-admin.socket "
                             "overlapd.service, or name the socket by --socket or --admin",
                             path);
                break;
        case ECONNREFUSED:
                ctl_complain("%s: nobody listens there any more, overlapd has ended: systemctl start "
                             "overlapd-admin.socket overlapd.service",
                             path);
                break;
        case ENOTSOCK:
                ctl_complain("%s: is no socket: name that of overlapd by --socket or --admin", path);
                break;
        case EACCES:
        case EPERM:
                ctl_complain("%s: permission denied: ask as root, or become a member of the group overlapd-admin "
                             "(usermod -aG overlapd-admin USER, and log in again)",
                             path);
                break;
        case EAGAIN:
                ctl_complain("%s: overlapd does not take connections, and as many wait as may: see its journal "
                             "(journalctl -u overlapd), and whether its process is stopped",
                             path);
                break;
        default:
                ctl_complain("%s: %s", path, strerror(error));
        }
}

int question_connect(const struct ctl *ctl) {
        struct timeval patience = { .tv_sec = QUESTION_PATIENCE_NS / NS_PER_S };
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_fd_ int fd = -1;

        if (strlen(ctl->admin_path) >= sizeof(address.sun_path)) {
                ctl_complain("--admin %s: the path has %zu bytes, at most %zu are possible", ctl->admin_path,
                             strlen(ctl->admin_path), sizeof(address.sun_path) - 1);
                return -ENAMETOOLONG;
        }
        strcpy(address.sun_path, ctl->admin_path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        /* Where as many wait as may, the kernel lets the next one wait, too: as long as a daemon is stopped. */
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
            connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0) {
                int error = errno;

                question_complain_of_connect(ctl, error);
                return -error;
        }
        return fd_take(&fd);
}

/* --- One answer --------------------------------------------------------------------------------------------------- */

static int question_send(const struct question *question, const Overlapd__AdminRequest *request) {
        _cleanup_free_ uint8_t *frame = NULL;
        ssize_t len, done = 0;

        len = message_pack_frame(&request->base, 0, (void **) &frame);
        while (len > 0 && done < len) {
                ssize_t n = send(question->fd, frame + done, (size_t) (len - done), MSG_NOSIGNAL);

                if (n < 0 && errno != EINTR)
                        return -errno;
                done += n > 0 ? n : 0;
        }
        return len < 0 ? (int) len : 0;
}

static int question_receive(struct question *question) {
        struct pollfd wait = { .fd = question->fd, .events = POLLIN };
        uint64_t deadline = now_ns() + QUESTION_PATIENCE_NS, now;
        ssize_t n;
        int r;

        do {
                now = now_ns();
                r = now < deadline ? poll(&wait, 1, (int) ((deadline - now) / NS_PER_MS) + 1) : 0;
        } while (r < 0 && errno == EINTR);
        if (r <= 0)
                return r < 0 ? -errno : -ETIMEDOUT;
        n = recv(question->fd, question->inbox + question->n_filled, sizeof(question->inbox) - question->n_filled, 0);
        if (n < 0)
                return errno == EINTR ? 0 : -errno;
        if (n == 0)
                return -ECONNRESET;
        question->n_filled += (size_t) n;
        return 0;
}

/* The exit status of the last reply of an answer. */
static int question_end(const Overlapd__AdminReply *reply) {
        if (reply->status == 0)
                return CTL_DONE;
        ctl_complain("%s", reply->text[0] != '\0' ? reply->text : strerror(-reply->status));
        if (reply->status == -E2BIG)
                return CTL_DONE;
        return reply->status == -EINVAL ? CTL_USAGE : CTL_LOST;
}

/* Takes a reply from the inbox. Returns 1 when it was the last; 0; or -errno. */
static int question_take_reply(struct question *question, int *ret_status, const char **ret_problem) {
        const Overlapd__AdminReply *reply;
        struct ovl_frame_header header;
        ProtobufCMessage *message;
        size_t len;
        int r;

        r = frame_find(question->inbox, question->n_filled, FRAME_FROM_DAEMON, &header, ret_problem);
        if (r == 0)
                return -EAGAIN;
        if (r > 0 && header.kind != OVL_FRAME_CONTROL) {
                *ret_problem = "a frame of another kind than CONTROL";
                return -EPROTO;
        }
        if (r > 0)
                r = message_unpack(&question->arena, &overlapd__admin_reply__descriptor,
                                   question->inbox + sizeof(header), header.body_len, &message, ret_problem);
        if (r < 0)
                return r;
        reply = (const Overlapd__AdminReply *) message;
        if (reply->what_case != OVERLAPD__ADMIN_REPLY__WHAT__NOT_SET)
                question->take(reply, question->data);
        if (reply->last)
                *ret_status = question_end(reply);
        len = sizeof(header) + header.body_len;
        r = reply->last;
        memmove(question->inbox, question->inbox + len, question->n_filled - len);
        question->n_filled -= len;
        return r;
}

static int question_run(struct question *question, const Overlapd__AdminRequest *request) {
        const char *problem = NULL;
        int status = CTL_LOST, sent, r;

        /* Who is refused is told so, and what he sends afterwards finds nobody. */
        sent = question_send(question, request);
        if (sent == -EMSGSIZE) {
                ctl_complain("the question is too long: it must fit into %u bytes", OVL_FRAME_CONTROL_MAX);
                return CTL_USAGE;
        }
        do {
                r = question_take_reply(question, &status, &problem);
                if (r == -EAGAIN)
                        r = question_receive(question);
        } while (r == 0);
        if (r > 0)
                return status;
        if (sent < 0)
                r = sent;
        if (problem)
                ctl_complain("%s: who answers there is not overlapd: %s", question->ctl->admin_path, problem);
        else if (r == -ETIMEDOUT || r == -EAGAIN)
                ctl_complain("overlapd does not answer: see its journal (journalctl -u overlapd), and whether its "
                             "process is stopped");
        else if (r == -ECONNRESET || r == -EPIPE)
                ctl_complain("overlapd ended, or gave up waiting for us: ask again");
        else
                ctl_complain("%s: %s", question->ctl->admin_path, strerror(-r));
        return CTL_LOST;
}

int question_ask(const struct ctl *ctl, int fd, const Overlapd__AdminRequest *request, question_take *take,
                 void *data) {
        _cleanup_free_ struct question *question = calloc(1, sizeof(*question));

        if (!question) {
                ctl_complain("no memory");
                return CTL_LOST;
        }
        question->ctl = ctl;
        question->fd = fd;
        question->take = take;
        question->data = data;
        message_arena_init(&question->arena);
        return question_run(question, request);
}

int question_ask_once(const struct ctl *ctl, const Overlapd__AdminRequest *request, question_take *take, void *data) {
        _cleanup_fd_ int fd = question_connect(ctl);

        return fd < 0 ? CTL_LOST : question_ask(ctl, fd, request, take, data);
}
