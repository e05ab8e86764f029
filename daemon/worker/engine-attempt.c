/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A request tried with ordinary system calls, which never block.
 *
 * Descriptors may be shared with processes that change their flags, so transfers say MSG_DONTWAIT. Accepts have no such
 * flag. A listener is made non-blocking before each of them, since whoever shares it may have changed its mind. Who
 * does that between the two calls, and takes the connection away, too, would make the worker wait: on a shared listener
 * a timer runs meanwhile, whose signal does nothing but interrupt the accept.
 *
 * Rejected: a thread for accepts, which would have to hand connections on, and be locked down as well; poll(2) before
 * each accept, which changes nothing about the connection that is taken away.
 */

#include "daemon/worker/engine-attempt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ATTEMPT_GUARD_NS 1000000

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLPRI == POLLPRI && EPOLLERR == POLLERR &&
                       EPOLLHUP == POLLHUP && EPOLLRDHUP == POLLRDHUP,
               "poll and epoll name events alike");

static void attempt_on_guard(int number) {
}

int attempt_init(struct attempt *attempt, const struct engine *engine) {
        struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };
        const struct sigaction action = { .sa_handler = attempt_on_guard }; /* without SA_RESTART */

        *attempt = (struct attempt){ .engine = engine };
        event._sigev_un._tid = gettid(); /* other threads have nothing to be interrupted in */
        if (sigaction(SIGALRM, &action, NULL) < 0 || timer_create(CLOCK_MONOTONIC, &event, &attempt->guard) < 0)
                return -errno;
        attempt->has_guard = true;
        return 0;
}

void attempt_deinit(struct attempt *attempt) {
        if (attempt->has_guard)
                timer_delete(attempt->guard);
        attempt->has_guard = false;
}

static int32_t attempt_receive(struct engine_file *file, struct request *request) {
        if (request->n_parts == 1 && !request->is_message)
                return (int32_t) recv(file->fd, request->parts->iov_base, request->parts->iov_len,
                                      request->flags | MSG_DONTWAIT);
        return (int32_t) recvmsg(file->fd, &request->message, request->flags | MSG_DONTWAIT);
}

static int32_t attempt_send(struct engine_file *file, struct request *request) {
        int flags = request->flags | MSG_DONTWAIT | MSG_NOSIGNAL;

        if (request->n_parts == 1 && !request->is_message)
                return (int32_t) send(file->fd, request->parts->iov_base, request->parts->iov_len, flags);
        return (int32_t) sendmsg(file->fd, &request->message, flags);
}

static void attempt_set_guard(struct attempt *attempt, long ns) {
        /* Again and again: the first signal may come before the accept has begun. */
        const struct itimerspec times = { .it_interval.tv_nsec = ns, .it_value.tv_nsec = ns };

        attempt->engine->stats->system_calls++;
        timer_settime(attempt->guard, 0, &times, NULL);
}

/* The name of the other side is told where there is room for it. */
static int32_t attempt_accept_now(struct engine_file *file, struct request *request) {
        struct msghdr *message = &request->message;

        return accept4(file->fd, message->msg_name, message->msg_name ? &message->msg_namelen : NULL, SOCK_CLOEXEC);
}

static int32_t attempt_accept_guarded(struct attempt *attempt, struct engine_file *file, struct request *request) {
        int32_t r;

        attempt_set_guard(attempt, ATTEMPT_GUARD_NS);
        r = attempt_accept_now(file, request);
        if (r < 0 && errno == EINTR)
                errno = EAGAIN;
        attempt_set_guard(attempt, 0);
        return r;
}

static int32_t attempt_accept(struct attempt *attempt, struct engine_file *file, struct request *request) {
        int flags = fcntl(file->fd, F_GETFL);

        attempt->engine->stats->system_calls++;
        if (flags < 0 || (!(flags & O_NONBLOCK) && fcntl(file->fd, F_SETFL, flags | O_NONBLOCK) < 0))
                return -1;
        return file->is_shared ? attempt_accept_guarded(attempt, file, request) : attempt_accept_now(file, request);
}

/* Returns the events that are there, or -1 when there are none. */
static int32_t attempt_poll(struct engine_file *file, const struct request *request) {
        struct pollfd look = { .fd = file->fd, .events = (short) (request->events & ATTEMPT_POLL_MASK) };
        int n = poll(&look, 1, 0);

        if (n == 0)
                errno = EAGAIN;
        return n > 0 ? look.revents : -1;
}

int32_t attempt_perform(struct attempt *attempt, struct request *request) {
        int32_t r = -1;

        do {
                attempt->engine->stats->system_calls++;
                switch (request->kind) {
                case REQUEST_RECV:
                        r = attempt_receive(request->file, request);
                        break;
                case REQUEST_SEND:
                        r = attempt_send(request->file, request);
                        break;
                case REQUEST_ACCEPT:
                        r = attempt_accept(attempt, request->file, request);
                        break;
                case REQUEST_POLL:
                        r = attempt_poll(request->file, request);
                        break;
                }
        } while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : r;
}
