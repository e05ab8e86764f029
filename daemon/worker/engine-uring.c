/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The engine on io_uring.
 *
 * The ring can do no more than what is needed here (engine-ring.c), and the worker's system-call filter forbids others.
 *
 * Invariant: no more requests are in flight than the completion queue holds, so that it cannot overflow. Requests
 * beyond it wait in `deferred`, in order, until others have ended.
 *
 * What the user_data of a completion means: the address of an op (its request ended) or of a file with the low bits
 * FILE_IN or FILE_OUT (an arm fired), or 0 (a cancel was carried out; nobody waits for that).
 *
 * Readiness is asked for once at a time. A multishot poll would save the renewal, but may report more often than
 * anybody asked, and then the completion queue has no bound.
 *
 * Urgent data. A poll of the ring is not woken for POLLPRI (6.18), but for POLLRDBAND, with which the kernel announces
 * it; and it reports what it was woken with, which for a socket names POLLPRI whenever anything came. So whoever asks
 * for POLLPRI asks for both, and what comes back is looked at once more with poll(2).
 *
 * Hang-ups. A poll of the ring always reports a half-closed connection, whether or not anybody asked for that, so it
 * cannot tell when the other half goes. An epoll set can: files that are armed for nothing else are in one, which the
 * ring watches as long as something is in it. Rejected: looking at half-closed connections every now and then.
 */

#include "daemon/worker/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/worker/engine-refusal.h"
#include "daemon/worker/engine-ring.h"

#define URING_RECANCEL_NS (5 * NS_PER_MS)

enum {
        URING_FILE_IN = 1,
        URING_FILE_OUT = 2,
        URING_TAG_MASK = 3,
};

struct engine_uring {
        struct engine engine;
        struct ring ring;
        uint32_t n_in_flight;
        struct list deferred;        /* requests that wait for room */
        struct list cancelled;       /* requests that were cancelled before they started */
        struct list cancelling;      /* requests in the kernel that are to end */
        uint64_t recancel_ns;        /* when those are cancelled again, if there are any */
        struct engine_file hang_ups; /* the epoll set */
        uint32_t n_hang_ups;         /* files in it; then it is armed, or has_hang_ups is set */
        bool has_hang_ups;           /* something was found in it that was not reaped yet */
};

static struct engine_uring *uring_of(struct engine *engine) {
        return list_entry(engine, struct engine_uring, engine);
}

/* Connections that were accepted and that nobody was told of are nobody else's to close. */
static void uring_close_accepted(struct engine_uring *uring) {
        struct io_uring_cqe *cqe;
        unsigned head;

        io_uring_for_each_cqe(&uring->ring.io, head, cqe) {
                const struct op *op = (const struct op *) (uintptr_t) cqe->user_data;

                if (op && !(cqe->user_data & URING_TAG_MASK) && op->request.kind == REQUEST_ACCEPT)
                        fd_close(cqe->res);
        }
}

static struct engine *uring_free(struct engine *engine) {
        struct engine_uring *uring = uring_of(engine);

        if (uring->ring.is_set_up)
                uring_close_accepted(uring);
        ring_close(&uring->ring);
        fd_close(uring->hang_ups.fd);
        free(uring);
        return NULL;
}

static int uring_submit(struct engine_uring *uring) {
        uring->engine.stats->system_calls++;
        return io_uring_submit(&uring->ring.io);
}

/* The submission queue is emptied into the kernel when it is full: no entry is ever dropped. */
static struct io_uring_sqe *uring_sqe(struct engine_uring *uring) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring.io);

        while (!sqe) {
                uring_submit(uring);
                sqe = io_uring_get_sqe(&uring->ring.io);
        }
        return sqe;
}

/* A non-blocking file makes the ring return -EAGAIN instead of waiting. */
static int uring_make_blocking(struct engine_uring *uring, const struct engine_file *file) {
        int flags = fcntl(file->fd, F_GETFL);

        uring->engine.stats->system_calls++;
        if (flags < 0 || ((flags & O_NONBLOCK) && fcntl(file->fd, F_SETFL, flags & ~O_NONBLOCK) < 0))
                return -errno;
        return 0;
}

static int uring_attach(struct engine *engine, struct engine_file *file) {
        struct engine_uring *uring = uring_of(engine);
        int r;

        r = uring_make_blocking(uring, file);
        if (r < 0)
                return r;
        uring->engine.stats->system_calls++;
        r = ring_attach(&uring->ring, file->fd);
        if (r < 0)
                return r;
        file->index = r;
        return 0;
}

static void uring_detach(struct engine *engine, struct engine_file *file) {
        struct engine_uring *uring = uring_of(engine);

        if (file->index < 0)
                return;
        uring->engine.stats->system_calls++;
        ring_detach(&uring->ring, file->index);
        file->index = -1;
}

static void uring_prepare_poll(struct io_uring_sqe *sqe, const struct engine_file *file, uint32_t events) {
        io_uring_prep_poll_add(sqe, file->index, events);
        sqe->flags |= IOSQE_FIXED_FILE;
}

static void uring_arm_poll(struct engine_uring *uring, struct engine_file *file, enum direction direction) {
        struct io_uring_sqe *sqe = uring_sqe(uring);

        uring_prepare_poll(sqe, file, direction == DIRECTION_IN ? POLLIN | POLLRDHUP : POLLOUT);
        io_uring_sqe_set_data64(sqe, (uintptr_t) file | (direction == DIRECTION_IN ? URING_FILE_IN : URING_FILE_OUT));
        file->armed[direction] = true;
        file->n_in_flight++;
        uring->n_in_flight++;
}

/* Returns whether the file is in the epoll set: it is not, where the kernel has no memory for that. */
static bool uring_arm_hang_up(struct engine_uring *uring, struct engine_file *file) {
        struct epoll_event nothing = { .data.ptr = file }; /* a hang-up is always reported */

        uring->engine.stats->system_calls++;
        if (epoll_ctl(uring->hang_ups.fd, EPOLL_CTL_ADD, file->fd, &nothing) < 0)
                return false;
        file->is_in_set = true;
        file->armed[DIRECTION_IN] = true;
        file->n_in_flight++;
        uring->n_hang_ups++;
        if (!uring->hang_ups.armed[DIRECTION_IN] && !uring->has_hang_ups)
                uring_arm_poll(uring, &uring->hang_ups, DIRECTION_IN);
        return true;
}

/* What is in the set is told of there, now also when it can be read. */
static void uring_widen_hang_up(struct engine_uring *uring, struct engine_file *file) {
        struct epoll_event readable = { .events = EPOLLIN | EPOLLRDHUP, .data.ptr = file };

        uring->engine.stats->system_calls++;
        epoll_ctl(uring->hang_ups.fd, EPOLL_CTL_MOD, file->fd, &readable);
}

static void uring_arm(struct engine *engine, struct engine_file *file, enum direction direction) {
        struct engine_uring *uring = uring_of(engine);

        if (file->armed[direction]) {
                file->only_hang_up = false;
                if (file->is_in_set)
                        uring_widen_hang_up(uring, file);
                return;
        }
        if (direction == DIRECTION_IN && file->only_hang_up && uring_arm_hang_up(uring, file))
                return;
        uring_arm_poll(uring, file, direction);
}

static void uring_cancel_data(struct engine_uring *uring, uint64_t data) {
        ring_prepare_cancel(&uring->ring, uring_sqe(uring), data);
}

/* A half-closed connection can always be read, and one that is shut down: it is found at once. */
static void uring_disarm(struct engine *engine, struct engine_file *file, enum direction direction) {
        if (direction == DIRECTION_IN && file->is_in_set)
                uring_widen_hang_up(uring_of(engine), file);
        else if (file->armed[direction])
                uring_cancel_data(uring_of(engine),
                                  (uintptr_t) file | (direction == DIRECTION_IN ? URING_FILE_IN : URING_FILE_OUT));
}

static void uring_prepare(struct io_uring_sqe *sqe, struct request *request) {
        int index = request->file->index;

        switch (request->kind) {
        case REQUEST_RECV:
                if (request->n_parts == 1 && !request->is_message)
                        io_uring_prep_recv(sqe, index, request->parts->iov_base, request->parts->iov_len,
                                           request->flags);
                else
                        io_uring_prep_recvmsg(sqe, index, &request->message, (unsigned) request->flags);
                break;
        case REQUEST_SEND:
                if (request->n_parts == 1 && !request->is_message)
                        io_uring_prep_send(sqe, index, request->parts->iov_base, request->parts->iov_len,
                                           request->flags);
                else
                        io_uring_prep_sendmsg(sqe, index, &request->message, (unsigned) request->flags);
                break;
        case REQUEST_ACCEPT:
                io_uring_prep_accept(sqe, index, request->message.msg_name,
                                     request->message.msg_name ? &request->message.msg_namelen : NULL, SOCK_CLOEXEC);
                break;
        case REQUEST_POLL:
                uring_prepare_poll(sqe, request->file,
                                   request->events & POLLPRI ? request->events | POLLRDBAND : request->events);
                break;
        }
        sqe->flags |= IOSQE_FIXED_FILE;
}

static void uring_call_back(struct engine_uring *uring, struct op *op) {
        if (list_is_empty(&uring->cancelling))
                uring->recancel_ns = now_ns() + URING_RECANCEL_NS;
        op->request.is_cancelling = true;
        list_push_back(&uring->cancelling, &op->request.link);
        uring_cancel_data(uring, (uintptr_t) op);
}

/* The kernel has no flag for an accept or a poll that is not to wait: it is called back right behind its start. */
static bool uring_waits_anyway(const struct request *request) {
        return (request->flags & MSG_DONTWAIT) && (request->kind == REQUEST_ACCEPT || request->kind == REQUEST_POLL);
}

static void uring_put(struct engine_uring *uring, struct op *op) {
        struct io_uring_sqe *sqe = uring_sqe(uring);
        struct request *request = &op->request;

        request->message.msg_iov = request->parts;
        request->message.msg_iovlen = request->n_parts;
        uring_prepare(sqe, request);
        io_uring_sqe_set_data64(sqe, (uintptr_t) op);
        uring->n_in_flight++;
        if (uring_waits_anyway(request))
                uring_call_back(uring, op);
}

static void uring_start(struct engine *engine, struct op *op) {
        struct engine_uring *uring = uring_of(engine);

        list_init(&op->request.link);
        op->request.is_cancelling = false;
        op->request.file->n_in_flight++;
        if (uring->n_in_flight < uring->ring.n_max)
                uring_put(uring, op);
        else
                list_push_back(&uring->deferred, &op->request.link);
}

static void uring_cancel(struct engine *engine, struct op *op) {
        struct engine_uring *uring = uring_of(engine);

        if (op->request.is_cancelling) {
                return;
        } else if (list_is_linked(&op->request.link)) {
                list_unlink(&op->request.link);
                list_push_back(&uring->cancelled, &op->request.link);
        } else {
                uring_call_back(uring, op);
        }
}

/*
 * A cancel can miss a request that the kernel is just handing on to a thread of its own, where a send then waits like
 * any blocking call, perhaps for ever. So it is repeated until the request has ended. Returns when the next is due.
 */
static uint64_t uring_cancel_again(struct engine_uring *uring, uint64_t timeout_ns) {
        uint64_t now;

        if (list_is_empty(&uring->cancelling))
                return timeout_ns;
        now = now_ns();
        if (now >= uring->recancel_ns) {
                uring->recancel_ns = now + URING_RECANCEL_NS;
                list_for_each(link, &uring->cancelling)
                        uring_cancel_data(uring, (uintptr_t) list_entry(link, struct op, request.link));
        }
        return timeout_ns < uring->recancel_ns - now ? timeout_ns : uring->recancel_ns - now;
}

static int uring_shutdown(struct engine *engine, struct engine_file *file, int how) {
        engine->stats->system_calls++;
        return shutdown(file->fd, how) < 0 ? -errno : 0;
}

static int uring_wait(struct engine *engine, uint64_t timeout_ns) {
        struct engine_uring *uring = uring_of(engine);
        struct __kernel_timespec timeout;
        struct io_uring_cqe *cqe;
        int r;

        timeout_ns = uring_cancel_again(uring, timeout_ns);
        timeout.tv_sec = (long long) (timeout_ns / NS_PER_S);
        timeout.tv_nsec = (long long) (timeout_ns % NS_PER_S);
        if (!list_is_empty(&uring->cancelled) || io_uring_cq_ready(&uring->ring.io) > 0)
                timeout.tv_sec = timeout.tv_nsec = 0;
        else if (timeout_ns == ENGINE_FOREVER)
                timeout.tv_sec = INT32_MAX;
        engine->stats->system_calls++;
        r = io_uring_submit_and_wait_timeout(&uring->ring.io, &cqe, 1, &timeout, NULL);
        if (r >= 0 || r == -ETIME || r == -EINTR || r == -EAGAIN || r == -EBUSY)
                return 0;
        return r;
}

/* Room was made: the first request that waits for it is started. */
static void uring_undefer(struct engine_uring *uring) {
        struct list *link;

        if (uring->n_in_flight >= uring->ring.n_max)
                return;
        link = list_pop_front(&uring->deferred);
        if (link)
                uring_put(uring, list_entry(link, struct op, request.link));
}

/* Whether a poll for urgent data ended without cause: then it is started again. Else its result is what is there. */
static bool uring_repeats_poll(struct engine_uring *uring, struct op *op, int32_t *result) {
        struct pollfd look = { .fd = op->request.file->fd, .events = (short) op->request.events };

        if (op->request.kind != REQUEST_POLL || !(op->request.events & POLLPRI) || *result < 0)
                return false;
        uring->engine.stats->system_calls++;
        if (poll(&look, 1, 0) > 0) {
                *result = look.revents;
                return false;
        }
        uring_put(uring, op);
        return true;
}

/*
 * Whoever shares a description can make it non-blocking again, and what was started then is refused instead of waiting.
 * Returns whether the request is in the kernel once more.
 */
static bool uring_goes_on(struct engine_uring *uring, struct op *op, int32_t *result) {
        const struct request *request = &op->request;

        if (request->kind == REQUEST_POLL)
                return uring_repeats_poll(uring, op, result);
        if (*result != -EAGAIN || request->is_cancelling || (request->flags & MSG_DONTWAIT))
                return false;
        if (uring_make_blocking(uring, request->file) < 0)
                return false;
        uring_put(uring, op);
        return true;
}

/* A poll of the ring always reports the half-close; where that was not asked for it is told only for want of others. */
static int32_t uring_events(const struct request *request, int32_t result) {
        int32_t wanted = result & (int32_t) (request->events | POLLERR | POLLHUP);

        return result > 0 && wanted != 0 ? wanted : result;
}

static void uring_event_of_op(struct op *op, int32_t result, struct engine_event *ret_event) {
        if (op->request.is_cancelling) {
                list_unlink(&op->request.link);
                /* what was with a kernel thread is interrupted there */
                if (result == -EINTR || result == -EAGAIN)
                        result = -ECANCELED;
        }
        if (result == -ECANCELED && uring_waits_anyway(&op->request))
                result = -EAGAIN;
        if (op->request.kind == REQUEST_POLL)
                result = uring_events(&op->request, result);
        op->request.is_cancelling = false;
        op->request.file->n_in_flight--;
        *ret_event = (struct engine_event){ .op = op, .file = op->request.file, .result = result };
}

static void uring_event_of_arm(struct engine_file *file, enum direction direction, int32_t result,
                               struct engine_event *ret_event) {
        file->armed[direction] = false;
        file->n_in_flight--;
        *ret_event = (struct engine_event){
                .file = file,
                .direction = direction,
                .result = result < 0 ? result : 0,
        };
}

/* Returns whether there was a hang-up; when there is none left, the ring watches the set again. */
static bool uring_reap_hang_up(struct engine_uring *uring, struct engine_event *ret_event) {
        struct epoll_event found;
        struct engine_file *file;

        if (!uring->has_hang_ups)
                return false;
        uring->engine.stats->system_calls++;
        if (epoll_wait(uring->hang_ups.fd, &found, 1, 0) < 1) {
                uring->has_hang_ups = false;
                if (uring->n_hang_ups > 0)
                        uring_arm_poll(uring, &uring->hang_ups, DIRECTION_IN);
                return false;
        }
        file = found.data.ptr;
        uring->engine.stats->system_calls++;
        epoll_ctl(uring->hang_ups.fd, EPOLL_CTL_DEL, file->fd, NULL);
        uring->n_hang_ups--;
        file->is_in_set = false;
        uring_event_of_arm(file, DIRECTION_IN, 0, ret_event);
        return true;
}

/* An arm fired. Returns whether that concerns the caller: what is in the set does, the set itself does not. */
static bool uring_reap_file(struct engine_uring *uring, uint64_t data, int32_t result, struct engine_event *ret_event) {
        struct engine_file *file = (struct engine_file *) (uintptr_t) (data & ~(uint64_t) URING_TAG_MASK);

        uring_event_of_arm(file, (data & URING_TAG_MASK) == URING_FILE_IN ? DIRECTION_IN : DIRECTION_OUT, result,
                           ret_event);
        if (file != &uring->hang_ups)
                return true;
        uring->has_hang_ups = true;
        return uring_reap_hang_up(uring, ret_event);
}

static int uring_reap(struct engine *engine, struct engine_event *ret_event) {
        struct engine_uring *uring = uring_of(engine);
        struct list *link = list_pop_front(&uring->cancelled);
        struct io_uring_cqe *cqe;

        if (link) {
                uring_event_of_op(list_entry(link, struct op, request.link), -ECANCELED, ret_event);
                return 1;
        }
        if (uring_reap_hang_up(uring, ret_event))
                return 1;
        while (io_uring_cq_ready(&uring->ring.io) > 0 && io_uring_peek_cqe(&uring->ring.io, &cqe) == 0) {
                uint64_t data = cqe->user_data;
                int32_t result = cqe->res;

                io_uring_cqe_seen(&uring->ring.io, cqe);
                if (data == 0)
                        continue;
                uring->n_in_flight--;
                if (!(data & URING_TAG_MASK) && uring_goes_on(uring, (struct op *) (uintptr_t) data, &result))
                        continue;
                uring_undefer(uring);
                if (!(data & URING_TAG_MASK))
                        uring_event_of_op((struct op *) (uintptr_t) data, result, ret_event);
                else if (!uring_reap_file(uring, data, result, ret_event))
                        continue;
                return 1;
        }
        return 0;
}

static const struct engine_ops uring_ops = {
        .name = "uring",
        .free = uring_free,
        .attach = uring_attach,
        .detach = uring_detach,
        .arm = uring_arm,
        .disarm = uring_disarm,
        .start = uring_start,
        .cancel = uring_cancel,
        .shutdown = uring_shutdown,
        .wait = uring_wait,
        .reap = uring_reap,
};

/* --- Set-up ----------------------------------------------------------------------------------------------------- */

static int uring_make_set(struct engine_uring *uring) {
        uring->hang_ups.fd = epoll_create1(EPOLL_CLOEXEC);
        if (uring->hang_ups.fd < 0)
                return -errno;
        return uring_attach(&uring->engine, &uring->hang_ups);
}

static const char *uring_detail(const struct engine_uring *uring, int error, char *buffer, size_t size) {
        switch (-error) {
        case EOPNOTSUPP:
                if (!uring->ring.missing)
                        return NULL;
                snprintf(buffer, size, "this kernel lacks the operation %s", uring->ring.missing);
                return buffer;
        case ENOSYS:
                return "this kernel has no io_uring, or a filter hides it";
        case ENOMEM:
                return "there is too little memory, or RLIMIT_MEMLOCK is too small";
        case EMFILE:
        case ENFILE:
                return "raise RLIMIT_NOFILE";
        case EINVAL:
                return "the kernel is too old: Linux 5.15 or later is needed";
        default:
                return NULL;
        }
}

int engine_uring_new(struct stats *stats, const struct features *features, struct engine **ret_engine,
                     char *ret_problem, size_t problem_size) {
        struct engine_uring *uring = calloc(1, sizeof(*uring));
        const char *step = NULL;
        char detail[64];
        int r;

        if (!uring) {
                snprintf(ret_problem, problem_size, "out of memory");
                return -ENOMEM;
        }
        uring->engine = (struct engine){ .ops = &uring_ops, .stats = stats };
        engine_file_init(&uring->hang_ups, -1, 0);
        list_init(&uring->deferred);
        list_init(&uring->cancelled);
        list_init(&uring->cancelling);
        r = ring_open(&uring->ring, features, &step);
        if (r >= 0) {
                step = "making a set for hang-ups";
                r = uring_make_set(uring);
        }
        if (r < 0) {
                engine_refusal_describe(step, r, uring_detail(uring, r, detail, sizeof(detail)), ret_problem,
                                        problem_size);
                uring_free(&uring->engine);
                return r;
        }
        snprintf(ret_problem, problem_size, "%s",
                 uring->ring.requires_files ? ""
                                            : "before Linux 5.19 a ring that cancels cannot require registered files");
        *ret_engine = &uring->engine;
        return 0;
}
