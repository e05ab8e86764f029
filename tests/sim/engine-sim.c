/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The third engine. A request is a note that something is to be copied; in wait() the notes are gone through and some
 * of them are carried out, wholly or in part, or fail. What has ended is shuffled, so that no order between sockets can
 * be relied on, and handed out by reap().
 *
 *   started -> ended      the simulated kernel carried it out, or made it fail
 *   started -> cancelled  a cancel was asked for and the kernel was in time; else it ends as if none had been
 *   ended, cancelled -> handed out by reap(): only then is the file's direction free again
 *
 * Polls have no direction: there may be any number of a file, in a list of their own.
 *
 * Lent memory. While a request is in flight its buffers are poisoned for the address sanitizer: the daemon has lent
 * them to the kernel and must not look at them. The copy itself lifts the poison for as long as it takes.
 *
 * What the engine requires of its caller (one request a file and direction, none on a file that is not attached, no
 * detaching of a file with something in flight) is checked at each call: a breach ends the run.
 *
 * Real descriptors (channels, the link) are looked at with poll(2) that does not wait. A wait that may sleep carries
 * out everything that can be, and if that is nothing, moves the clock to its deadline.
 */

#include "tests/sim/engine-sim.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "tests/sim/check.h"

#if defined(__SANITIZE_ADDRESS__)
#define SIM_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_POISONS 1
#endif
#endif

#ifdef SIM_POISONS
#include <sanitizer/asan_interface.h>
#else
#define __asan_address_is_poisoned(place) ((void) (place), 1)
#define ASAN_POISON_MEMORY_REGION(place, len) ((void) (place), (void) (len))
#define ASAN_UNPOISON_MEMORY_REGION(place, len) ((void) (place), (void) (len))
#endif

#define SIM_FILES_MAX 1024
#define SIM_POISON_UNIT 16u  /* shorter pieces may share their unit with memory that is not lent */
#define SIM_PAUSED INT32_MIN /* the result of a request that cannot end yet */

struct sim_file {
        struct engine_file *file; /* borrowed; NULL: the place is free */
        struct net_end *end;      /* borrowed; NULL: a real descriptor */
        struct op *ops[2];        /* borrowed: in flight, by direction */
        bool has_ended[2];        /* its event waits to be reaped */
        bool is_cancelled[2];
        size_t progress[2]; /* bytes of the request that were transferred */
        bool arm_has_fired[2];
        bool arm_is_cancelled[2];
        struct list polls; /* that have not ended */
};

struct engine_sim {
        struct engine engine;
        struct net *net;           /* borrowed */
        struct random *random;     /* borrowed */
        struct sim_counts *counts; /* borrowed */
        struct sim_temper temper;
        struct sim_file files[SIM_FILES_MAX];
        int n_files_high;
        struct engine_event events[16 * SIM_FILES_MAX]; /* from n_reaped to n_events */
        size_t n_events;
        size_t n_reaped;
        bool is_asleep;
};

static struct engine_sim *sim_of(const struct engine *engine) {
        return list_entry(engine, struct engine_sim, engine);
}

static struct sim_file *sim_file_of(struct engine_sim *sim, const struct engine_file *file) {
        check(file->index >= 0 && file->index < SIM_FILES_MAX && sim->files[file->index].file == file,
              "the engine was asked about a file that is not attached");
        return &sim->files[file->index];
}

static enum direction request_direction(const struct request *request) {
        return request->kind == REQUEST_SEND ? DIRECTION_OUT : DIRECTION_IN;
}

/* --- Memory ----------------------------------------------------------------------------------------------------- */

static void sim_lend(const struct request *request) {
        for (uint32_t i = 0; i < request->n_parts; i++) {
                const struct iovec *part = &request->parts[i];

                ASAN_POISON_MEMORY_REGION(part->iov_base, part->iov_len);
                check(part->iov_len < SIM_POISON_UNIT || __asan_address_is_poisoned(part->iov_base),
                      "lent memory is not guarded");
        }
}

static void sim_give_back(const struct request *request) {
        for (uint32_t i = 0; i < request->n_parts; i++)
                ASAN_UNPOISON_MEMORY_REGION(request->parts[i].iov_base, request->parts[i].iov_len);
}

static size_t request_len(const struct request *request) {
        size_t len = 0;

        for (uint32_t i = 0; i < request->n_parts; i++)
                len += request->parts[i].iov_len;
        return len;
}

/* Copies between a pipe's log and the buffers of a request, from a place within the request on. */
static void request_copy(const struct request *request, size_t skip, const uint8_t *from, struct net_pipe *to,
                         size_t len) {
        sim_give_back(request);
        for (uint32_t i = 0; i < request->n_parts && len > 0; i++) {
                const struct iovec *part = &request->parts[i];
                size_t n;

                if (skip >= part->iov_len) {
                        skip -= part->iov_len;
                        continue;
                }
                n = part->iov_len - skip < len ? part->iov_len - skip : len;
                if (to) {
                        net_pipe_write(to, (uint8_t *) part->iov_base + skip, n);
                } else {
                        memcpy((uint8_t *) part->iov_base + skip, from, n);
                        from += n;
                }
                len -= n;
                skip = 0;
        }
        sim_lend(request);
}

/* --- What the kernel does --------------------------------------------------------------------------------------- */

static size_t sim_shorten(struct engine_sim *sim, size_t n) {
        if (n < 2 || !random_chance(sim->random, sim->temper.brief))
                return n;
        sim->counts->n_short++;
        return 1 + random_below(sim->random, n - 1);
}

/* The error of a connection is reported once. */
static int32_t end_take_error(struct net_end *end) {
        int error = end->error;

        end->error = 0;
        return -error;
}

static int32_t sim_receive(struct engine_sim *sim, struct sim_file *file, const struct request *request) {
        struct net_pipe *pipe = net_in(file->end);
        size_t *progress = &file->progress[DIRECTION_IN];
        size_t left = request_len(request) - *progress;
        size_t n;

        if (!pipe)
                return -ENOTCONN;
        n = net_pipe_unread(pipe) < left ? net_pipe_unread(pipe) : left;
        if (n > 0) {
                n = sim_shorten(sim, n);
                request_copy(request, *progress, pipe->log + pipe->n_taken, NULL, n);
                *progress += n;
                if (!(request->flags & MSG_PEEK))
                        pipe->n_taken += n;
                return (request->flags & MSG_WAITALL) && n < left ? SIM_PAUSED : (int32_t) *progress;
        }
        if (*progress > 0 && (pipe->has_ended || file->end->error))
                return (int32_t) *progress;
        if (file->end->error)
                return end_take_error(file->end);
        return pipe->has_ended ? 0 : SIM_PAUSED;
}

static int32_t sim_send(struct engine_sim *sim, struct sim_file *file, const struct request *request) {
        struct net_pipe *pipe = net_out(file->end);
        size_t *progress = &file->progress[DIRECTION_OUT];
        size_t left = request_len(request) - *progress;
        size_t n;

        if (!pipe)
                return -EPIPE;
        check(request->flags & MSG_NOSIGNAL, "a send may raise a signal");
        if (file->end->error || pipe->is_broken || pipe->has_ended) {
                if (*progress > 0)
                        return (int32_t) *progress;
                return file->end->error ? end_take_error(file->end) : -EPIPE;
        }
        n = net_pipe_room(pipe) < left ? net_pipe_room(pipe) : left;
        if (n == 0)
                return request->flags & MSG_DONTWAIT ? -EAGAIN : SIM_PAUSED;
        n = sim_shorten(sim, n);
        request_copy(request, *progress, NULL, pipe, n);
        *progress += n;
        return (request->flags & MSG_WAITALL) && n < left ? SIM_PAUSED : (int32_t) *progress;
}

static int32_t sim_fault(struct engine_sim *sim, struct sim_file *file, const struct op *op) {
        static const int transfers[] = { EINTR, EAGAIN, ENOBUFS, ENOMEM, ECONNRESET };
        static const int accepts[] = { EINTR, EAGAIN, ECONNABORTED, EMFILE, ENFILE };
        size_t which = random_below(sim->random, 5);

        sim->counts->n_faults++;
        if (op->request.kind == REQUEST_ACCEPT)
                return -accepts[which];
        if (transfers[which] != ECONNRESET || random_chance(sim->random, 70))
                return -transfers[which % 4];
        sim->counts->n_resets++;
        net_reset(file->end->connection);
        return SIM_PAUSED;
}

/* What a poll finds: only what was asked for, and what always is. */
static int32_t sim_look(const struct net_end *end, uint32_t events) {
        const struct net_pipe *in = net_in(end), *out = net_out(end);
        uint32_t found = 0;

        if (end->is_listening) {
                found = end->n_backlog > 0 ? POLLIN : 0;
        } else if (!in) {
                found = POLLOUT | POLLHUP;
        } else {
                if (net_pipe_unread(in) > 0 || in->has_ended || end->error)
                        found |= POLLIN;
                if (net_pipe_room(out) > 0 || out->is_broken)
                        found |= POLLOUT;
                found |= (in->has_ended ? POLLRDHUP : 0u) | (end->error ? POLLERR : 0u);
        }
        found &= events | POLLERR | POLLHUP | POLLRDHUP;
        return found ? (int32_t) found : SIM_PAUSED;
}

static int32_t sim_perform(struct engine_sim *sim, struct sim_file *file, struct op *op) {
        struct request *request = &op->request;
        struct net_end *end = file->end;

        if (file->progress[request_direction(request)] == 0 && end->connection != NULL &&
            random_chance(sim->random, sim->temper.faulty))
                return sim_fault(sim, file, op);
        switch (request->kind) {
        case REQUEST_RECV:
                return sim_receive(sim, file, request);
        case REQUEST_SEND:
                return sim_send(sim, file, request);
        case REQUEST_ACCEPT:
                if (!end->is_listening)
                        return -EINVAL;
                if (end->n_backlog == 0)
                        return SIM_PAUSED;
                if (random_chance(sim->random, sim->temper.faulty))
                        return sim_fault(sim, file, op);
                return net_accept(sim->net, end, op->tag);
        case REQUEST_POLL:
                return sim_look(end, request->events);
        }
        abort();
}

/* A cancel is late in one case of three, and in vain in some of these. What was transferred is never taken back. */
static int32_t sim_cancelled(struct engine_sim *sim, struct sim_file *file, struct op *op) {
        size_t progress = file->progress[request_direction(&op->request)];

        if (progress == 0 && random_chance(sim->random, 33)) {
                int32_t result = sim_perform(sim, file, op);

                if (result != SIM_PAUSED) {
                        sim->counts->n_late_cancels++;
                        return result;
                }
                progress = file->progress[request_direction(&op->request)];
        }
        sim->counts->n_cancels++;
        return progress > 0 ? (int32_t) progress : -ECANCELED;
}

/* --- Going through the notes ------------------------------------------------------------------------------------ */

static void sim_push(struct engine_sim *sim, struct engine_event event) {
        check(sim->n_events < sizeof(sim->events) / sizeof(sim->events[0]), "more events than files can have");
        sim->events[sim->n_events++] = event;
}

static void sim_visit_op(struct engine_sim *sim, struct sim_file *file, enum direction direction, bool is_forced) {
        struct op *op = file->ops[direction];
        int32_t result;

        if (!op || file->has_ended[direction])
                return;
        if (!is_forced && random_chance(sim->random, sim->temper.lazy))
                return;
        result = file->is_cancelled[direction] ? sim_cancelled(sim, file, op) : sim_perform(sim, file, op);
        if (result == SIM_PAUSED)
                return;
        file->has_ended[direction] = true;
        sim_push(sim, (struct engine_event){ .op = op, .file = file->file, .result = result });
}

static void sim_visit_polls(struct engine_sim *sim, struct sim_file *file, bool is_forced) {
        list_for_each_safe(link, &file->polls) {
                struct op *op = list_entry(link, struct op, request.link);
                int32_t result;

                if (!is_forced && random_chance(sim->random, sim->temper.lazy))
                        continue;
                if (op->request.is_cancelling && random_chance(sim->random, 67))
                        result = -ECANCELED;
                else
                        result = sim_perform(sim, file, op);
                if (result == SIM_PAUSED && op->request.is_cancelling)
                        result = -ECANCELED;
                if (result == SIM_PAUSED)
                        continue;
                list_unlink(&op->request.link);
                sim_push(sim, (struct engine_event){ .op = op, .file = file->file, .result = result });
        }
}

static bool sim_is_ready(const struct engine_file *file, enum direction direction) {
        struct pollfd fd = { .fd = file->fd, .events = POLLOUT };

        if (direction == DIRECTION_IN)
                fd.events = file->only_hang_up ? 0 : POLLIN | POLLRDHUP;
        return poll(&fd, 1, 0) > 0;
}

static void sim_visit_arm(struct engine_sim *sim, struct sim_file *file, enum direction direction, bool is_forced) {
        struct engine_event event = { .file = file->file, .direction = direction };

        if (!file->file->armed[direction] || file->arm_has_fired[direction])
                return;
        if (!is_forced && random_chance(sim->random, sim->temper.lazy))
                return;
        if (!sim_is_ready(file->file, direction)) {
                if (!file->arm_is_cancelled[direction])
                        return;
                event.result = -ECANCELED;
        }
        file->arm_has_fired[direction] = true;
        sim_push(sim, event);
}

static void sim_pass(struct engine_sim *sim, bool is_forced) {
        size_t first = sim->n_events;

        for (int i = 0; i < sim->n_files_high; i++) {
                struct sim_file *file = &sim->files[i];

                if (!file->file)
                        continue;
                for (int direction = DIRECTION_IN; direction <= DIRECTION_OUT; direction++) {
                        sim_visit_op(sim, file, direction, is_forced);
                        sim_visit_arm(sim, file, direction, is_forced);
                }
                sim_visit_polls(sim, file, is_forced);
        }
        for (size_t n = sim->n_events - first; n > 1; n--) {
                size_t other = first + random_below(sim->random, n);
                struct engine_event swapped = sim->events[other];

                sim->events[other] = sim->events[first + n - 1];
                sim->events[first + n - 1] = swapped;
        }
}

/* Something may be on its way although no event came of it: a transfer that waits for all its bytes. */
static uint64_t sim_progress(const struct engine_sim *sim) {
        uint64_t progress = 0;

        for (int i = 0; i < sim->n_files_high; i++)
                progress += sim->files[i].progress[0] + sim->files[i].progress[1];
        return progress;
}

static int sim_wait(struct engine *engine, uint64_t timeout_ns) {
        struct engine_sim *sim = sim_of(engine);
        uint64_t before;

        check(sim->n_reaped == sim->n_events, "the engine waits while events have not been reaped");
        sim->n_reaped = sim->n_events = 0;
        sim->is_asleep = false;
        sim_pass(sim, false);
        if (timeout_ns == 0)
                return 0;
        do {
                before = sim_progress(sim);
                if (sim->n_events == 0)
                        sim_pass(sim, true);
        } while (sim->n_events == 0 && sim_progress(sim) != before);
        if (sim->n_events > 0)
                return 0;
        if (timeout_ns == ENGINE_FOREVER)
                sim->is_asleep = true;
        else
                check_advance_clock(timeout_ns);
        return 0;
}

static int sim_reap(struct engine *engine, struct engine_event *ret_event) {
        struct engine_sim *sim = sim_of(engine);
        struct engine_event event;
        struct sim_file *file;

        if (sim->n_reaped == sim->n_events)
                return 0;
        event = sim->events[sim->n_reaped++];
        file = sim_file_of(sim, event.file);
        if (event.op && event.op->request.kind == REQUEST_POLL) {
                check(!list_is_linked(&event.op->request.link), "a poll is handed out that has not ended");
                event.op->request.is_cancelling = false;
        } else if (event.op) {
                enum direction direction = request_direction(&event.op->request);

                check(file->ops[direction] == event.op, "a request is not what it was when it was started");
                sim_give_back(&event.op->request);
                file->ops[direction] = NULL;
                file->progress[direction] = 0;
        } else {
                event.file->armed[event.direction] = false;
        }
        event.file->n_in_flight--;
        *ret_event = event;
        return 1;
}

/* --- Calls that go down ----------------------------------------------------------------------------------------- */

static struct engine *sim_free(struct engine *engine) {
        struct engine_sim *sim = sim_of(engine);

        for (int i = 0; i < sim->n_files_high; i++) {
                for (int direction = DIRECTION_IN; direction <= DIRECTION_OUT; direction++) {
                        if (sim->files[i].ops[direction])
                                sim_give_back(&sim->files[i].ops[direction]->request);
                }
        }
        /* Descriptors of accepted connections that nobody was told of are nobody else's to close. */
        for (size_t i = sim->n_reaped; i < sim->n_events; i++) {
                if (sim->events[i].op && sim->events[i].op->request.kind == REQUEST_ACCEPT)
                        fd_close(sim->events[i].result);
        }
        free(sim);
        return NULL;
}

static int sim_attach(struct engine *engine, struct engine_file *file) {
        struct engine_sim *sim = sim_of(engine);
        int index = 0;

        check(file->index < 0, "a file is attached a second time");
        while (index < SIM_FILES_MAX && sim->files[index].file)
                index++;
        if (index == SIM_FILES_MAX)
                return -ENFILE;
        if (index >= sim->n_files_high)
                sim->n_files_high = index + 1;
        sim->files[index] = (struct sim_file){ .file = file, .end = net_find(sim->net, file->fd) };
        list_init(&sim->files[index].polls);
        file->index = index;
        return 0;
}

static void sim_detach(struct engine *engine, struct engine_file *file) {
        struct engine_sim *sim = sim_of(engine);
        struct sim_file *place;

        if (file->index < 0)
                return;
        place = sim_file_of(sim, file);
        check(!place->ops[0] && !place->ops[1] && list_is_empty(&place->polls),
              "a file with a request in flight is detached");
        if (place->end)
                net_close(place->end);
        *place = (struct sim_file){ 0 };
        file->index = -1;
}

static void sim_arm(struct engine *engine, struct engine_file *file, enum direction direction) {
        struct sim_file *place = sim_file_of(sim_of(engine), file);

        check(!place->end, "readiness of a simulated socket is asked for");
        check(!file->armed[direction] || file->only_hang_up, "readiness is asked for twice");
        if (file->armed[direction]) {
                file->only_hang_up = false;
                return;
        }
        file->armed[direction] = true;
        place->arm_has_fired[direction] = false;
        place->arm_is_cancelled[direction] = false;
        file->n_in_flight++;
}

static void sim_disarm(struct engine *engine, struct engine_file *file, enum direction direction) {
        if (file->armed[direction])
                sim_file_of(sim_of(engine), file)->arm_is_cancelled[direction] = true;
}

static void sim_start(struct engine *engine, struct op *op) {
        struct engine_sim *sim = sim_of(engine);
        struct sim_file *place = sim_file_of(sim, op->request.file);
        enum direction direction = request_direction(&op->request);

        check(place->end, "a transfer is started on something that is no socket");
        op->request.file->n_in_flight++;
        sim->counts->n_requests++;
        if (op->request.kind == REQUEST_POLL) {
                op->request.is_cancelling = false;
                list_init(&op->request.link);
                list_push_back(&place->polls, &op->request.link);
                return;
        }
        check(!place->ops[direction], "a second request is started in the same direction of a socket");
        check(op->request.n_parts <= OVL_SLICES_MAX, "a request has more parts than an op may have");
        list_init(&op->request.link);
        place->ops[direction] = op;
        place->has_ended[direction] = false;
        place->is_cancelled[direction] = false;
        place->progress[direction] = 0;
        if (op->request.kind == REQUEST_RECV || op->request.kind == REQUEST_SEND)
                sim_lend(&op->request);
        else
                op->request.n_parts = 0;
}

static void sim_cancel(struct engine *engine, struct op *op) {
        struct sim_file *place = sim_file_of(sim_of(engine), op->request.file);
        enum direction direction = request_direction(&op->request);

        if (op->request.kind == REQUEST_POLL) {
                op->request.is_cancelling = true;
                return;
        }
        check(place->ops[direction] == op, "a request that is not in flight is cancelled");
        place->is_cancelled[direction] = true;
}

static int sim_shutdown(struct engine *engine, struct engine_file *file, int how) {
        struct sim_file *place = sim_file_of(sim_of(engine), file);

        if (!place->end)
                return shutdown(file->fd, how) < 0 ? -errno : 0;
        if (!place->end->connection)
                return -ENOTCONN;
        check(how == SHUT_WR, "the receiving side of a socket is shut down in the kernel");
        net_out(place->end)->has_ended = true;
        return 0;
}

static const struct engine_ops sim_ops = {
        .name = "sim",
        .free = sim_free,
        .attach = sim_attach,
        .detach = sim_detach,
        .arm = sim_arm,
        .disarm = sim_disarm,
        .start = sim_start,
        .cancel = sim_cancel,
        .shutdown = sim_shutdown,
        .wait = sim_wait,
        .reap = sim_reap,
};

struct engine *engine_sim_new(struct net *net, struct random *random, struct sim_temper temper,
                              struct sim_counts *counts) {
        struct engine_sim *sim = calloc(1, sizeof(*sim));

        if (!sim)
                abort();
        sim->engine.ops = &sim_ops;
        sim->net = net;
        sim->random = random;
        sim->temper = temper;
        sim->counts = counts;
        return &sim->engine;
}

bool engine_sim_is_asleep(const struct engine *engine) {
        return sim_of(engine)->is_asleep;
}

void engine_sim_calm_down(struct engine *engine) {
        sim_of(engine)->temper = (struct sim_temper){ 0 };
}
