/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CONDUIT_H
#define CLIENT_CONDUIT_H

/* A conduit: one connection to the daemon, which carries the channel of a thread or of a port. */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "proto/overlapd.pb-c.h"

struct lane;
struct ovl_error;
struct ovl_port;
struct ovl_session;
struct ovl_thread;
struct wait;

struct conduit {
        struct ovl_session *session; /* borrowed */
        int fd;

        /* Guarded by the session's lock. */
        struct list link;          /* in session->conduits */
        struct ovl_thread *thread; /* borrowed: whose channel it is; NULL: a port's, or its thread was closed */
        struct ovl_port *port;     /* borrowed: whose channel it is */
        uint64_t number;           /* of the thread or port */
        struct wait *leader;       /* borrowed: the wait that polls the descriptor; NULL: none */
        unsigned n_refs;
        bool is_attached;   /* the daemon accepted it; from then on its loss is the loss of the session */
        bool is_ending;     /* conduit_close() takes in what is left */
        bool is_closed;     /* shut by this side, or lost before it was attached */
        char notice[256];   /* what the daemon said before it hung up */
        int notice_status;  /* and the number beside it: 0, or -errno */
        uint64_t n_posted;  /* entries sent */
        uint64_t n_settled; /* of these, known to be refused, done or pending */
        uint32_t request;   /* id of the latest request */
        bool wants_reply;   /* its reply is outstanding */
        bool wants_fd;      /* and may bring a descriptor */
        bool has_reply;     /* its reply is in `reply` */
        size_t reply_len;
        int reply_fd;       /* that came with it; -1: none. Whoever asked takes it */
        unsigned n_asleep;  /* waits that poll the descriptor and rely on the bell of the lane */
        bool is_foreign;    /* so does a loop of its thread's, at any time; is also loaded without the lock */
        bool is_sending;    /* somebody writes frames: nobody else may */
        bool owes_doorbell; /* whoever that is rings the doorbell afterwards */

        struct lane *lane; /* owned; constant once the conduit is attached; NULL: records come in frames alone */

        /* Guarded by read_lock, which is taken before the session's lock and never held in poll. */
        pthread_mutex_t read_lock;
        size_t in_len;
        int in_fd; /* that came, and whose frame has not been handled; -1: none */
        struct message_arena arena;
        uint8_t in[FRAME_SIZE_MAX];

        /* Written while wants_reply, read once has_reply. */
        uint8_t reply[OVL_FRAME_CONTROL_MAX];
};

/*
 * Connects, presents itself with `request` (a Hello or an Attach) and waits for the answer, all within 10 s.
 *
 * arena: where the answer lives.
 *
 * Returns 0, the conduit with one reference, and the daemon's reply, or -errno and error.
 */
int conduit_open(struct ovl_session *session, Overlapd__Request *request, struct message_arena *arena,
                 struct ovl_error *error, struct conduit **ret_conduit, Overlapd__Reply **ret_reply);

/*
 * Gives a conduit that is not attached yet a lane, at level 2. Where the daemon's quota does not allow one more, the
 * conduit goes on with frames.
 *
 * n_slots: of the submission ring, at least.
 */
int conduit_add_lane(struct conduit *conduit, uint32_t n_slots, struct message_arena *arena, struct ovl_error *error);

/* The conduit becomes one of its session. Under the lock. */
void conduit_attach(struct conduit *conduit);

/* Ends the channel, takes in what the daemon had sent, and leaves the session. The caller's reference is given up. */
void conduit_close(struct conduit *conduit, struct ovl_thread *by);

/* Whether it brings records of operations whose thread or port was closed, whoever has it now. Under the lock. */
bool conduit_brings_strays(const struct conduit *conduit);

/* References keep the memory and the descriptor. Under the lock. */
struct conduit *conduit_ref(struct conduit *conduit);
struct conduit *conduit_unref(struct conduit *conduit);

/*
 * Receives and handles what has arrived, without blocking. Any thread.
 *
 * by: who calls, and need not be woken for what is found; NULL: not known.
 *
 * Returns the number of completions that were taken in.
 */
size_t conduit_take_in(struct conduit *conduit, struct ovl_thread *by);

/*
 * The same without a system call, as far as there is a lane: what the daemon put there is taken, and the connection not
 * looked at.
 */
size_t conduit_look(struct conduit *conduit, struct ovl_thread *by);

/* The same for all channels of a session (or for those of its ports): what the daemon sent before now is then known. */
void conduit_take_in_all(struct ovl_session *session, bool only_ports, struct ovl_thread *by);

/* The connection was lost: the session's end, unless it is being closed. error: -errno; 0: the daemon hung up. */
void conduit_lose(struct conduit *conduit, struct ovl_thread *by, int error);

/* Whether something may still come. Not under the lock. */
bool conduit_is_open(struct conduit *conduit);

/*
 * Takes what is in the lane, and nothing from then on: the daemon sends the rest again through the session's first
 * channel.
 */
void conduit_close_lane(struct conduit *conduit, struct ovl_thread *by);

/* Around the sending of frames: nobody rings the doorbell in between. */
void conduit_begin_sending(struct conduit *conduit);
void conduit_end_sending(struct conduit *conduit, struct ovl_thread *by);

/*
 * Sends what fits. Returns the bytes sent (1 or more), -EAGAIN, what conduit_refuses_fd() knows, or another -errno: the
 * session has then ended.
 */
ssize_t conduit_send(struct conduit *conduit, const void *bytes, size_t len, int with_fd, struct ovl_thread *by);

/* Whether the kernel does not pass the descriptor, and nothing was sent. */
bool conduit_refuses_fd(int with_fd, ssize_t result);

/* Rings the doorbell: the daemon sleeps, and the lane has something for it. Any thread; not under the lock. */
void conduit_ring(struct conduit *conduit, struct ovl_thread *by);

/*
 * Before the descriptor is polled, and after that: has the daemon ring the bell. Returns false when something has come
 * into the lane meanwhile. Under the lock.
 */
bool conduit_fall_asleep(struct conduit *conduit);
void conduit_awaken(struct conduit *conduit);

/* Gives the request the next id and notes that its reply is awaited. Under the lock. */
void conduit_expect(struct conduit *conduit, Overlapd__Request *request);

/* The descriptor that came with the reply, which is the caller's; -1: none did. Under the lock. */
int conduit_take_fd(struct conduit *conduit);

/* Unpacks the reply that has arrived. Returns 0 and the reply, which lives in the arena, or -EPROTO. */
int conduit_reply(struct conduit *conduit, struct message_arena *arena, Overlapd__Reply **ret_reply);

#endif
