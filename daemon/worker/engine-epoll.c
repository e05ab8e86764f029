/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The engine on epoll, for machines where io_uring is refused.
 *
 *   started -> ended       wait() tries the request before it sleeps, and it succeeds or fails
 *   started -> waiting     ... it would block; or a try is known to be in vain
 *   waiting -> ended       the kernel reports its file as ready, and the next try succeeds or fails
 *   started, waiting -> ended   it is cancelled: nothing is in the kernel that could be late
 *   ended -> handed out by reap()
 *
 * Nothing here blocks but the wait: how requests are tried is in engine-attempt.c.
 *
 * Invariant: where `maybe` lacks a direction, `interest` has it. So either a try is worth its while, or the kernel will
 * report what changes.
 *
 * Interest is told to the kernel when a file is attached and hardly ever again: it grows when a request would block in
 * a direction that is not reported yet, and shrinks to what is wanted when a report served nobody. A file whose owner
 * is idle therefore wakes the worker once, whatever arrives. Reports are edge-triggered for requests: these are tried
 * until they would block, and a condition that no request takes away (an error queue that nobody reads) is reported
 * once instead of for ever. They are level-triggered while readiness is armed: who asked for that reads on his own and
 * need not read everything, and as long as he asks again before the next wait no call is needed.
 *
 * A short receive on TCP says that nothing was left, as long as no end, error or urgent byte was reported: those may be
 * behind the data without an edge of their own, and as long as nobody else had the socket, who may have put a protocol
 * on top. On other sockets it says nothing, a Unix stream stops where descriptors were attached. A short send says that
 * there is no more room.
 *
 * A turn may not last for ever: what is started while results are reaped is tried in the next wait(). When that has
 * results, it does not look for others in the kernel, but never twice in a row: nobody is kept waiting by a connection
 * that is always ready.
 *
 * Rejected: a call of epoll_ctl for each wait (EPOLLONESHOT), which costs as much as the transfer; level-triggered
 * requests, which spin on a hang-up or an error that they do not take away; trying at once in start(), which would let
 * one connection that is always ready keep reap() from ever ending.
 */

#include "daemon/worker/engine.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/worker/engine-attempt.h"

#define EP_FILES 65536u
#define EP_EVENTS 256
#define EP_IN (EPOLLIN | EPOLLRDHUP)
#define EP_ALWAYS (EPOLLHUP | EPOLLERR) /* reported whether or not anybody asks */

/* What the engine knows of a file. */
struct ep_place {
        struct engine_file *file; /* borrowed; NULL: the place is free */
        struct list link;         /* among those whose arms fired, or among the spare ones */
        struct list polls;        /* requests that wait for events */
        struct op *transfers[2];  /* borrowed: started and not ended, by direction; accepts are receives */
        uint32_t interest;        /* what the kernel reports */
        uint32_t maybe;           /* EPOLLIN, EPOLLOUT: a try may succeed */
        bool is_odd;              /* more was reported than data: only -EAGAIN shows that there is none left */
        int8_t is_tcp;            /* -1: nobody asked yet */
        bool has_fired[2];        /* an arm has ended and was not reaped */
        int32_t fired[2];         /* with this result */
};

struct engine_epoll {
        struct engine engine;
        int fd;
        struct attempt attempt;
        bool has_pwait2;     /* the kernel counts timeouts in nanoseconds; else in milliseconds */
        bool has_skipped;    /* the last wait did not look for reports */
        struct list started; /* requests that are to be tried */
        struct list ended;   /* requests that are to be reaped */
        struct list fired;   /* places with arms that are to be reaped */
        struct list spare;
        struct ep_place *places; /* a mapping */
        uint32_t n_places;
        uint32_t n_places_high;
        struct epoll_event events[EP_EVENTS];
};

static struct engine_epoll *ep_of(struct engine *engine) {
        return list_entry(engine, struct engine_epoll, engine);
}

static struct ep_place *ep_place(struct engine_epoll *ep, const struct engine_file *file) {
        assert(file->index >= 0);
        return &ep->places[file->index];
}

static enum direction ep_direction(const struct request *request) {
        return request->kind == REQUEST_SEND ? DIRECTION_OUT : DIRECTION_IN;
}

/* --- Interest --------------------------------------------------------------------------------------------------- */

static uint32_t ep_armed(const struct ep_place *place) {
        uint32_t events = 0;

        if (place->file->armed[DIRECTION_IN] && !place->has_fired[DIRECTION_IN])
                events |= place->file->only_hang_up ? EP_ALWAYS : EP_ALWAYS | EP_IN;
        if (place->file->armed[DIRECTION_OUT] && !place->has_fired[DIRECTION_OUT])
                events |= EP_ALWAYS | EPOLLOUT;
        return events;
}

/* What would serve somebody. */
static uint32_t ep_wanted(const struct ep_place *place) {
        uint32_t events = ep_armed(place);

        if (events == 0)
                events = EPOLLET; /* alone: nothing but hang-ups and errors, and of these only the news */
        if (place->transfers[DIRECTION_IN])
                events |= EP_IN | EPOLLPRI;
        if (place->transfers[DIRECTION_OUT])
                events |= EPOLLOUT;
        list_for_each(link, &place->polls)
                events |= list_entry(link, struct op, request.link)->request.events & ATTEMPT_POLL_MASK;
        return events;
}

/* Changing the interest makes the kernel look: what is there already is reported. */
static void ep_set_interest(struct engine_epoll *ep, struct ep_place *place, uint32_t interest) {
        struct epoll_event event = { .events = interest, .data.ptr = place };
        int r;

        if (place->interest == interest)
                return;
        ep->engine.stats->system_calls++;
        r = epoll_ctl(ep->fd, EPOLL_CTL_MOD, place->file->fd, &event);
        assert(r == 0); /* it needs no memory, and the file is in the set */
        place->maybe |= place->interest & ~interest & (EPOLLIN | EPOLLOUT);
        place->interest = interest;
}

/* What is wanted is reported from here on; what else is reported may go on. */
static void ep_widen_interest(struct engine_epoll *ep, struct ep_place *place) {
        uint32_t wanted = ep_wanted(place);

        ep_set_interest(ep, place, (place->interest | wanted) & ~(wanted & EPOLLET ? 0 : EPOLLET));
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

static bool ep_is_tcp(struct engine_epoll *ep, struct ep_place *place) {
        socklen_t len = sizeof(int);
        int protocol = 0;

        if (place->is_tcp < 0) {
                ep->engine.stats->system_calls++;
                place->is_tcp = getsockopt(place->file->fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
                                protocol == IPPROTO_TCP;
        }
        return place->is_tcp > 0;
}

static size_t ep_len(const struct request *request) {
        size_t len = 0;

        for (uint32_t i = 0; i < request->n_parts; i++)
                len += request->parts[i].iov_len;
        return len;
}

/* A transfer moved some bytes: whether the next one may do so, too. */
static void ep_learn(struct engine_epoll *ep, struct ep_place *place, const struct request *request, int32_t result) {
        uint32_t direction = request->kind == REQUEST_SEND ? EPOLLOUT : EPOLLIN;

        if (request->kind != REQUEST_RECV && request->kind != REQUEST_SEND)
                return;
        if (result <= 0 || request->is_message || (request->flags & MSG_PEEK) || !(place->interest & direction) ||
            request->file->is_shared || (direction == EPOLLIN && place->is_odd))
                return;
        if ((size_t) result < ep_len(request) && ep_is_tcp(ep, place))
                place->maybe &= ~direction;
}

static void ep_end(struct engine_epoll *ep, struct op *op, int32_t result) {
        struct request *request = &op->request;
        struct ep_place *place = ep_place(ep, request->file);

        if (request->kind != REQUEST_POLL)
                place->transfers[ep_direction(request)] = NULL;
        list_unlink(&request->link);
        list_push_back(&ep->ended, &request->link);
        request->has_ended = true;
        request->result = result;
}

/* The kernel is to report when the next try may succeed. */
static void ep_await(struct engine_epoll *ep, struct op *op) {
        struct request *request = &op->request;
        struct ep_place *place = ep_place(ep, request->file);

        if (request->kind == REQUEST_POLL) {
                list_push_back(&place->polls, &request->link);
        } else if (request->kind == REQUEST_SEND) {
                place->maybe &= ~EPOLLOUT;
        } else {
                place->maybe &= ~EPOLLIN;
                place->is_odd = false;
        }
        ep_widen_interest(ep, place);
}

static void ep_try(struct engine_epoll *ep, struct op *op) {
        struct request *request = &op->request;
        int32_t result = attempt_perform(&ep->attempt, request);

        list_unlink(&request->link);
        if (result == -EAGAIN && !(request->flags & MSG_DONTWAIT)) {
                ep_await(ep, op);
                return;
        }
        ep_learn(ep, ep_place(ep, request->file), request, result);
        ep_end(ep, op, result);
}

/*
 * A poll is always tried: an error or a hang-up may have been reported to others before. So is what must not wait: its
 * room is that of another socket, of which nothing is reported here.
 */
static bool ep_may_succeed(const struct ep_place *place, const struct request *request) {
        if (request->kind == REQUEST_POLL || (request->flags & MSG_DONTWAIT))
                return true;
        return place->maybe & (request->kind == REQUEST_SEND ? EPOLLOUT : EPOLLIN);
}

static void ep_start(struct engine *engine, struct op *op) {
        struct engine_epoll *ep = ep_of(engine);
        struct request *request = &op->request;
        struct ep_place *place = ep_place(ep, request->file);

        list_init(&request->link);
        request->message.msg_iov = request->parts;
        request->message.msg_iovlen = request->n_parts;
        request->has_ended = false;
        request->file->n_in_flight++;
        if (request->kind != REQUEST_POLL) {
                assert(!place->transfers[ep_direction(request)]);
                place->transfers[ep_direction(request)] = op;
        }
        if (ep_may_succeed(place, request))
                list_push_back(&ep->started, &request->link);
}

static void ep_cancel(struct engine *engine, struct op *op) {
        if (!op->request.has_ended)
                ep_end(ep_of(engine), op, -ECANCELED);
}

/* --- Readiness -------------------------------------------------------------------------------------------------- */

static void ep_fire(struct engine_epoll *ep, struct ep_place *place, enum direction direction, int32_t result) {
        place->has_fired[direction] = true;
        place->fired[direction] = result;
        if (!list_is_linked(&place->link))
                list_push_back(&ep->fired, &place->link);
}

static void ep_arm(struct engine *engine, struct engine_file *file, enum direction direction) {
        struct engine_epoll *ep = ep_of(engine);

        if (file->armed[direction])
                file->only_hang_up = false;
        else
                file->n_in_flight++;
        file->armed[direction] = true;
        ep_widen_interest(ep, ep_place(ep, file));
}

static void ep_disarm(struct engine *engine, struct engine_file *file, enum direction direction) {
        struct engine_epoll *ep = ep_of(engine);

        if (file->armed[direction] && !ep_place(ep, file)->has_fired[direction])
                ep_fire(ep, ep_place(ep, file), direction, -ECANCELED);
}

/* --- Reports ---------------------------------------------------------------------------------------------------- */

static unsigned ep_serve_polls(struct engine_epoll *ep, struct ep_place *place, uint32_t events) {
        unsigned n_served = 0;

        list_for_each_safe(link, &place->polls) {
                struct op *op = list_entry(link, struct op, request.link);
                uint32_t found = events & ((op->request.events & ATTEMPT_POLL_MASK) | EP_ALWAYS);

                if (found == 0)
                        continue;
                ep_end(ep, op, (int32_t) found);
                n_served++;
        }
        return n_served;
}

static unsigned ep_serve_transfer(struct engine_epoll *ep, struct ep_place *place, enum direction direction) {
        uint32_t bit = direction == DIRECTION_IN ? EPOLLIN : EPOLLOUT;

        if (!place->transfers[direction] || !(place->maybe & bit))
                return 0;
        ep_try(ep, place->transfers[direction]);
        return 1;
}

static unsigned ep_serve_arms(struct engine_epoll *ep, struct ep_place *place, uint32_t events) {
        const struct engine_file *file = place->file;
        uint32_t in = file->only_hang_up ? EP_ALWAYS : EP_ALWAYS | EP_IN;
        unsigned n_served = 0;

        if (file->armed[DIRECTION_IN] && !place->has_fired[DIRECTION_IN] && (events & in)) {
                ep_fire(ep, place, DIRECTION_IN, 0);
                n_served++;
        }
        if (file->armed[DIRECTION_OUT] && !place->has_fired[DIRECTION_OUT] && (events & (EP_ALWAYS | EPOLLOUT))) {
                ep_fire(ep, place, DIRECTION_OUT, 0);
                n_served++;
        }
        return n_served;
}

static void ep_take_report(struct engine_epoll *ep, struct ep_place *place, uint32_t events) {
        unsigned n_served;

        if (events & (EP_IN | EPOLLPRI | EP_ALWAYS))
                place->maybe |= EPOLLIN;
        if (events & (EPOLLOUT | EP_ALWAYS))
                place->maybe |= EPOLLOUT;
        if (events & (EPOLLRDHUP | EPOLLPRI | EP_ALWAYS))
                place->is_odd = true;
        n_served = ep_serve_polls(ep, place, events);
        n_served += ep_serve_transfer(ep, place, DIRECTION_IN);
        n_served += ep_serve_transfer(ep, place, DIRECTION_OUT);
        n_served += ep_serve_arms(ep, place, events);
        if (n_served == 0)
                ep_set_interest(ep, place, ep_wanted(place));
}

/* --- The wait --------------------------------------------------------------------------------------------------- */

static int ep_sleep(struct engine_epoll *ep, uint64_t timeout_ns) {
        struct timespec timeout = { (time_t) (timeout_ns / NS_PER_S), (long) (timeout_ns % NS_PER_S) };
        uint64_t timeout_ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS > 0);

        ep->engine.stats->system_calls++;
        if (ep->has_pwait2)
                return epoll_pwait2(ep->fd, ep->events, EP_EVENTS, timeout_ns == ENGINE_FOREVER ? NULL : &timeout,
                                    NULL);
        if (timeout_ns == ENGINE_FOREVER)
                return epoll_wait(ep->fd, ep->events, EP_EVENTS, -1);
        return epoll_wait(ep->fd, ep->events, EP_EVENTS, timeout_ms < INT_MAX ? (int) timeout_ms : INT_MAX);
}

static int ep_wait(struct engine *engine, uint64_t timeout_ns) {
        struct engine_epoll *ep = ep_of(engine);
        struct list *link;
        bool has_results;
        int n;

        while ((link = list_pop_front(&ep->started)))
                ep_try(ep, list_entry(link, struct op, request.link));
        has_results = !list_is_empty(&ep->ended) || !list_is_empty(&ep->fired);
        ep->has_skipped = has_results && !ep->has_skipped;
        if (ep->has_skipped)
                return 0;
        n = ep_sleep(ep, has_results ? 0 : timeout_ns);
        if (n < 0)
                return errno == EINTR ? 0 : -errno;
        for (int i = 0; i < n; i++)
                ep_take_report(ep, ep->events[i].data.ptr, ep->events[i].events);
        return 0;
}

static void ep_reap_arm(struct ep_place *place, struct engine_event *ret_event) {
        enum direction direction = place->has_fired[DIRECTION_IN] ? DIRECTION_IN : DIRECTION_OUT;

        place->has_fired[direction] = false;
        if (!place->has_fired[DIRECTION_OUT])
                list_unlink(&place->link);
        place->file->armed[direction] = false;
        place->file->n_in_flight--;
        *ret_event = (struct engine_event){
                .file = place->file,
                .direction = direction,
                .result = place->fired[direction],
        };
}

static int ep_reap(struct engine *engine, struct engine_event *ret_event) {
        struct engine_epoll *ep = ep_of(engine);
        struct list *link = list_pop_front(&ep->ended);

        if (link) {
                struct op *op = list_entry(link, struct op, request.link);

                op->request.file->n_in_flight--;
                *ret_event = (struct engine_event){
                        .op = op,
                        .file = op->request.file,
                        .result = op->request.result,
                };
                return 1;
        }
        link = list_first(&ep->fired);
        if (!link)
                return 0;
        ep_reap_arm(list_entry(link, struct ep_place, link), ret_event);
        return 1;
}

/* --- Files ------------------------------------------------------------------------------------------------------ */

static struct ep_place *ep_take_place(struct engine_epoll *ep) {
        struct list *link = list_pop_front(&ep->spare);

        if (link)
                return list_entry(link, struct ep_place, link);
        return ep->n_places_high < ep->n_places ? &ep->places[ep->n_places_high++] : NULL;
}

/* Most files are received from first: that spares them a change of interest. */
static int ep_attach(struct engine *engine, struct engine_file *file) {
        struct engine_epoll *ep = ep_of(engine);
        struct ep_place *place = ep_take_place(ep);
        struct epoll_event event = { .events = EP_IN | EPOLLPRI | EPOLLET, .data.ptr = place };

        if (!place)
                return -ENFILE;
        *place = (struct ep_place){
                .file = file,
                .interest = event.events,
                .maybe = EPOLLIN | EPOLLOUT,
                .is_tcp = -1,
        };
        list_init(&place->link);
        list_init(&place->polls);
        ep->engine.stats->system_calls++;
        if (epoll_ctl(ep->fd, EPOLL_CTL_ADD, file->fd, &event) < 0) {
                int r = errno == ENOSPC ? -ENFILE : -errno; /* the limit is fs.epoll.max_user_watches */

                list_push_front(&ep->spare, &place->link);
                return r;
        }
        file->index = (int) (place - ep->places);
        return 0;
}

/* A descriptor that others share stays in the set when it is closed here. */
static void ep_detach(struct engine *engine, struct engine_file *file) {
        struct engine_epoll *ep = ep_of(engine);
        struct ep_place *place;

        if (file->index < 0)
                return;
        place = ep_place(ep, file);
        assert(!place->transfers[DIRECTION_IN] && !place->transfers[DIRECTION_OUT] && list_is_empty(&place->polls));
        ep->engine.stats->system_calls++;
        epoll_ctl(ep->fd, EPOLL_CTL_DEL, file->fd, NULL);
        list_unlink(&place->link);
        place->file = NULL;
        list_push_front(&ep->spare, &place->link);
        file->index = -1;
}

static int ep_shutdown(struct engine *engine, struct engine_file *file, int how) {
        engine->stats->system_calls++;
        return shutdown(file->fd, how) < 0 ? -errno : 0;
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

static struct engine *ep_free(struct engine *engine) {
        struct engine_epoll *ep = ep_of(engine);

        /* Connections that were accepted and that nobody was told of are nobody else's to close. */
        list_for_each(link, &ep->ended) {
                const struct request *request = &list_entry(link, struct op, request.link)->request;

                if (request->kind == REQUEST_ACCEPT)
                        fd_close(request->result);
        }
        attempt_deinit(&ep->attempt);
        if (ep->places)
                munmap(ep->places, ep->n_places * sizeof(*ep->places));
        fd_close(ep->fd);
        free(ep);
        return NULL;
}

static const struct engine_ops ep_ops = {
        .name = "epoll",
        .free = ep_free,
        .attach = ep_attach,
        .detach = ep_detach,
        .arm = ep_arm,
        .disarm = ep_disarm,
        .start = ep_start,
        .cancel = ep_cancel,
        .shutdown = ep_shutdown,
        .wait = ep_wait,
        .reap = ep_reap,
};

/* Places are made before they are needed; the kernel gives them memory when they are first used. */
static int ep_make_places(struct engine_epoll *ep) {
        struct rlimit limit;
        void *places;

        ep->n_places = EP_FILES;
        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < ep->n_places)
                ep->n_places = (uint32_t) limit.rlim_cur;
        places = mmap(NULL, ep->n_places * sizeof(*ep->places), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (places == MAP_FAILED)
                return -errno;
        ep->places = places;
        return 0;
}

/* Linux 5.11 has it, and a system-call filter around the daemon may be older than that. */
static bool ep_probe_pwait2(struct engine_epoll *ep) {
        const struct timespec none = { 0 };

        return epoll_pwait2(ep->fd, ep->events, EP_EVENTS, &none, NULL) >= 0;
}

int engine_epoll_new(struct stats *stats, const struct features *features, struct engine **ret_engine,
                     char *ret_problem, size_t problem_size) {
        struct engine_epoll *ep = calloc(1, sizeof(*ep));
        int r;

        if (!ep) {
                snprintf(ret_problem, problem_size, "out of memory");
                return -ENOMEM;
        }
        ep->engine = (struct engine){ .ops = &ep_ops, .stats = stats };
        list_init(&ep->started);
        list_init(&ep->ended);
        list_init(&ep->fired);
        list_init(&ep->spare);
        ep->fd = epoll_create1(EPOLL_CLOEXEC);
        r = ep->fd < 0 ? -errno : ep_make_places(ep);
        if (r >= 0)
                r = attempt_init(&ep->attempt, &ep->engine);
        if (r < 0) {
                snprintf(ret_problem, problem_size, "an epoll set, its places or its timer cannot be made: %s",
                         strerror(-r));
                ep_free(&ep->engine);
                return r;
        }
        ep->has_pwait2 = features_has(features, FEATURE_EPOLL_PWAIT2) && ep_probe_pwait2(ep);
        *ret_engine = &ep->engine;
        return 0;
}
