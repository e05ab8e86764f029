/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_ENGINE_H
#define DAEMON_WORKER_ENGINE_H

/*
 * The engine performs I/O in the kernel: `uring` or `epoll`, and `sim` in tests. The only vtable of the daemon.
 *
 * Calls go down: attach a file, start a request, ask for readiness. What comes up is pulled: wait, then reap one event
 * after the other. The engine calls nobody back and knows ops only through their requests.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/worker/engine-features.h"
#include "daemon/worker/op.h"
#include "daemon/worker/stats.h"

#define ENGINE_FOREVER UINT64_MAX
#define ENGINE_REASON_SIZE 400

/* A descriptor that the engine works on. Embedded in its owner, who finds itself again through `kind` and list_entry().
 */
struct engine_file {
        int fd;               /* borrowed; -1: none */
        int index;            /* the engine's own; -1: not attached */
        int kind;             /* the owner's own */
        bool is_shared;       /* other processes have it, too, and may change what belongs to its description */
        bool only_hang_up;    /* readable means: the other side is gone altogether */
        bool is_in_set;       /* the engine's own */
        bool armed[2];        /* by direction: readiness was asked for and not reported yet */
        uint32_t n_in_flight; /* requests and arms that the engine has not given back yet */
};

struct engine_event {
        struct op *op;            /* whose request ended; NULL: readiness of a file */
        struct engine_file *file; /* the file of either */
        enum direction direction; /* of the readiness */
        int32_t result; /* of the request: bytes, a descriptor, events, or -errno; of an arm: 0 or -ECANCELED */
};

struct engine {
        const struct engine_ops *ops;
        struct stats *stats; /* borrowed */
};

struct engine_ops {
        const char *name;

        struct engine *(*free)(struct engine *engine);

        /* Makes a file known. Returns 0, or -ENFILE when the engine can take no more. */
        int (*attach)(struct engine *engine, struct engine_file *file);

        /* Forgets a file that has nothing in flight. Does not close it. */
        void (*detach)(struct engine *engine, struct engine_file *file);

        /*
         * Asks to be told once when the file can be read (or has ended), or written. Never twice at a time, but for one
         * that was armed with only_hang_up: from here on it is armed without.
         */
        void (*arm)(struct engine *engine, struct engine_file *file, enum direction direction);

        /* Takes an arm back: its event comes with -ECANCELED, or the readiness was faster. */
        void (*disarm)(struct engine *engine, struct engine_file *file, enum direction direction);

        /*
         * Starts op->request. Ends in exactly one event: with MSG_DONTWAIT among its flags at once, where it would have
         * to wait with -EAGAIN. At most one request a file and direction is in flight, polls not counted: of them there
         * may be any number. A half-close ends every poll on `uring`, with POLLRDHUP alone where nothing else that was
         * asked for is there.
         */
        void (*start)(struct engine *engine, struct op *op);

        /* Asks for the end of a request that was started: its event comes in any case, with -ECANCELED if in time. */
        void (*cancel)(struct engine *engine, struct op *op);

        /* As shutdown(2). */
        int (*shutdown)(struct engine *engine, struct engine_file *file, int how);

        /* Gives the kernel what was started and sleeps until there is an event, at most so long. 0 or -errno. */
        int (*wait)(struct engine *engine, uint64_t timeout_ns);

        /* Returns 1 and the next event, or 0 when there is none. */
        int (*reap)(struct engine *engine, struct engine_event *ret_event);
};

static inline void engine_file_init(struct engine_file *file, int fd, int kind) {
        *file = (struct engine_file){ .fd = fd, .index = -1, .kind = kind };
}

static inline struct engine *engine_free(struct engine *engine) {
        return engine ? engine->ops->free(engine) : NULL;
}

/*
 * Makes the engine that was wished for.
 *
 * wish: "uring", "epoll", or "auto", which is the first of them that can be had.
 *
 * Returns 0, the engine and why it is this one; 1 likewise, when it is not the first; or -errno and why there is none.
 * A reason has at most ENGINE_REASON_SIZE bytes, its NUL included.
 */
int engine_new(const char *wish, struct stats *stats, const struct features *features, struct engine **ret_engine,
               char *ret_reason, size_t reason_size);

/*
 * Makes the engine on io_uring, restricted to the operations that a worker needs.
 *
 * Returns 0, the engine, and what is weaker than it should be, or an empty text; or -errno and a text that says which
 * step the kernel refused, with which error, and what is known of the cause.
 */
int engine_uring_new(struct stats *stats, const struct features *features, struct engine **ret_engine,
                     char *ret_problem, size_t problem_size);

/* Makes the engine on epoll. Returns 0 and the engine, or -errno and a text that says what failed. */
int engine_epoll_new(struct stats *stats, const struct features *features, struct engine **ret_engine,
                     char *ret_problem, size_t problem_size);

#endif
