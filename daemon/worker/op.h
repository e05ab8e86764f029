/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_OP_H
#define DAEMON_WORKER_OP_H

/*
 * An op: one overlapped operation from its entry to its record.
 *
 *   FREE -> QUEUED      the session takes the entry, checks it, and gives the op to its socket
 *   FREE -> ENDED       the session refuses the entry: the record says so; or it is an APC
 *   QUEUED -> ACTIVE    the socket starts it (alone, or with others as one request of the engine)
 *   QUEUED -> ENDED     it is cancelled, or the socket fails, before its turn comes
 *   ACTIVE -> QUEUED    its request ended without giving it a result, or with a step done and others to come
 *   ACTIVE -> ENDED     the engine, or the monitor where it was asked, gave the result of the last step
 *   ENDED -> FREE       its record was sent, or nobody is left to read it
 *
 * The op is its own record: everything that the record says is in it from the moment that it has ended, so that a
 * record is reserved as soon as there is an op. While it is not FREE it pins its socket and the regions that its
 * buffers lie in.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/list.h"
#include "daemon/link.h"
#include "daemon/worker/payload.h"
#include "daemon/worker/ticket.h"
#include "daemon/worker/transmit.h"
#include "proto/layout.h"

struct engine_file;
struct handle;
struct peer;
struct session;
struct socket;

enum direction {
        DIRECTION_IN,
        DIRECTION_OUT,
        DIRECTION_NONE, /* of an op that stands in no queue */
};

/* Types of sockets, as bits. */
#define OP_FOR_STREAM 1u
#define OP_FOR_DATAGRAM 2u

/* What an op does, one step after the other, in this order. Most ops have one of them. */
enum op_step {
        STEP_CONNECT = 0x01,  /* the monitor is asked for the connection */
        STEP_ACCEPT = 0x02,   /* a connection is waited for; what follows is done on the socket that it becomes */
        STEP_TRANSFER = 0x04, /* bytes are moved, or waited for */
        STEP_SHUT = 0x08,     /* the end of the stream is sent */
        STEP_RENEW = 0x10,    /* the monitor is asked for a new kernel socket, which takes the place of this one */
};

/* What an operation is: the same for all ops with its code. */
struct op_form {
        bool is_known;            /* there is such an operation */
        enum direction direction; /* the queue that its ops stand in */
        uint8_t steps;            /* enum op_step, as bits: those that all its ops have */
        uint8_t types;            /* OP_FOR_*: the sockets that have it; 0: it is not done on a socket */
        bool sends;               /* moves the bytes of its buffers to the other side */
        bool receives;            /* fills its buffers from there */
        bool may_transfer;        /* does so in a further step, where it has any */
        bool has_payload;         /* inline: bytes come along with its entry, also where it sends none */
        bool has_buffer;          /* the fields of the entry that it reads, below */
        bool has_address;
        bool may_lack_address;    /* likewise: or none */
        bool has_message;         /* in aux: what a datagram has beside its bytes */
        uint8_t n_addresses;      /* in aux: so many, or nothing */
        bool has_events;          /* in `other` */
        bool has_prepared;        /* likewise: a socket, or 0 */
        bool transmits;           /* memory and a file, which it names by `buffer`, `other` and `aux` */
        uint8_t flags;            /* enum ovl_entry_flags, beside OVL_ENTRY_WANT_VERDICT */
        uint32_t messages;        /* enum ovl_message_flags, or of a disconnect enum ovl_transmit_flags */
        uint32_t stream_messages; /* further ones, on a stream */
};

#define OP_FORMS (OVL_OP_CONNECT_NAME + 1)

extern const struct op_form op_forms[OP_FORMS];

/* The form of a code. Never NULL: what is no operation has one that is not known. */
static inline const struct op_form *op_form_of(uint8_t code) {
        return &op_forms[code < OP_FORMS ? code : 0];
}

enum op_state {
        OP_FREE,
        OP_QUEUED,
        OP_ACTIVE,
        OP_ENDED,
};

/* What the engine performs. */
enum request_kind {
        REQUEST_RECV,
        REQUEST_SEND,
        REQUEST_ACCEPT,
        REQUEST_POLL, /* ends when one of the events is there, with those that are; consumes nothing */
};

/* The request that an op makes of the engine, for itself and for those that were merged into it. */
struct request {
        enum request_kind kind;
        int flags;       /* MSG_* */
        uint32_t events; /* of a poll: POLLIN and others */
        struct iovec *parts;
        uint32_t n_parts;
        bool is_message; /* a receive or send of one message: name and control data below count, flags come back */
        struct msghdr message; /* its parts are the engine's to set; it stays as it is while the request is in flight */
        struct engine_file *file; /* borrowed */
        struct list link;         /* in a list of the engine */
        bool is_cancelling;       /* the engine's own: it was asked to end it, and it has not ended */
        bool has_ended;           /* the engine's own: it waits to be reaped */
        int32_t result;           /* the engine's own: what it ended with */
};

struct op {
        struct list link;   /* in its socket's queue, or among the records of its peer */
        struct list stray;  /* among the ops of its handle that stand in the queue of another socket */
        struct list unpaid; /* among those of its user that wait for room for their sockets */
        enum op_state state;
        struct session *session; /* borrowed: the owner */
        struct handle *handle;   /* borrowed, pinned: through which it was posted; NULL once the op has ended */
        struct socket *socket;   /* borrowed, pinned: in whose queue it stands; NULL likewise */
        struct peer *peer;       /* borrowed: where the record goes; NULL: nobody is left to read it */
        uint64_t serial;         /* grows with every op of the worker */
        uint64_t turn;           /* the turn in which its entry was taken */
        uint64_t taken_ns;       /* about when; nothing is decided by it */
        uint64_t regions;        /* bit n: region n + 1 of the session is pinned */
        struct request request;

        /* from the entry */
        uint64_t tag;
        uint64_t thread;
        uint8_t code; /* enum ovl_op */
        uint8_t indication;
        uint8_t steps;            /* enum op_step, as bits: what is left to do; the lowest is the present one */
        bool has_thread;          /* it was posted by a thread, not through a port's connection */
        bool has_credit;          /* counts against the session's credits */
        bool holds_socket_charge; /* an accept: paid for the socket that it will make */
        bool is_unpaid;           /* an accept: not started before there is room for its socket */
        uint32_t message_flags;   /* enum ovl_message_flags or ovl_transmit_flags */
        struct handle *prepared;  /* borrowed, pinned: an accept: that is to have the connection; NULL: a new one */
        struct iovec one;         /* the buffer, when there is just one */
        struct iovec *parts;      /* all buffers: &one, or in the scratch of the op */
        uint32_t n_parts;
        uint64_t len;           /* bytes of all buffers */
        uint64_t done;          /* of these, transferred */
        uint64_t sent_to;       /* a send: where its bytes end in what the socket has sent; 0: it sent none */
        struct payload payload; /* inline: what the buffers are */
        uint32_t events;        /* a poll: OVL_POLL_*, those that it waits for */
        uint8_t ioctl;          /* an ioctl: enum ovl_ioctl */
        uint32_t n_before;      /* ops of its handle that had not ended when it was taken; a FLUSH: that have not yet */
        uint32_t name_len;      /* a send to an address: bytes of it, which is in the scratch */
        uint16_t control_len; /* a message: bytes of the client's place for items, or of the kernel's form of those sent
                               */
        bool wants_sender;    /* addresses go to aux, or behind the payload: of a datagram, or of an accept */
        void *aux;            /* borrowed, pinned: client memory that is only written; NULL: there is none */
        struct transmit transmit;

        /* while it is pending */
        uint32_t n_merged;    /* ops after it in the queue that its request serves, too */
        uint8_t n_retries;    /* after a want of kernel memory */
        bool is_arming;       /* it will wait for a change, and the monitor does not look yet: no verdict before */
        uint64_t n_seen;      /* a poll: the receives of its socket that were posted before its request */
        uint8_t n_repeats;    /* a send: it met what became of earlier datagrams, and was tried once more */
        uint16_t cancel;      /* enum ovl_reason: why it is to end; 0: it is not */
        int fd;               /* that a step brought, and that is to be a socket; -1: none */
        struct handle *into;  /* borrowed, pinned: an accept: has its connection meanwhile, without a number */
        struct ticket ticket; /* a step of the monitor's: what it was asked */
        uint32_t *cancelled;  /* borrowed: counts the ops that one cancel request ended; NULL: none asked */
        void *scratch;        /* OP_SCRATCH_SIZE bytes, the op's own for its whole life */

        /* the record */
        uint64_t key;
        uint64_t sequence;
        uint64_t value;
        uint64_t bytes;
        int32_t status;
        uint8_t kind; /* enum ovl_record_kind: an op that is an APC was never posted, and is born ended */
        uint16_t reason;
        uint16_t record_flags; /* enum ovl_record_flags */
        uint32_t aux_len;      /* bytes behind those that were received, in the payload */
        uint32_t payload_len;  /* of the payload, that goes with the record */
};

/*
 * Each op owns as many bytes of scratch: room for all its buffers and those of ops that are merged into it, and behind
 * them for an address and control data, or for what the monitor is asked.
 */
#define OP_PARTS_SIZE (OVL_SLICES_MAX * sizeof(struct iovec))
#define OP_CONTROL_SIZE 256u
#define OP_SCRATCH_SIZE (OP_PARTS_SIZE + sizeof(struct link_message))

_Static_assert(sizeof(struct link_message) >= sizeof(struct sockaddr_storage) + OP_CONTROL_SIZE,
               "a question takes more than an address with control data");
_Static_assert(OP_CONTROL_SIZE >= OVL_CONTROL_LEN_MAX, "items wait where they become the kernel's");

static inline const struct op_form *op_form(const struct op *op) {
        return op_form_of(op->code);
}

static inline bool op_is_free(const struct op *op) {
        return op->state == OP_FREE;
}

/* The step that it is in, or that comes when its turn does. 0: it has none. */
static inline unsigned op_step(const struct op *op) {
        return op->steps & -(unsigned) op->steps;
}

/* Whether it is at moving bytes to the other side, or from there. */
static inline bool op_sends(const struct op *op) {
        return op_form(op)->sends && op_step(op) == STEP_TRANSFER;
}

static inline bool op_receives(const struct op *op) {
        return op_form(op)->receives && op_step(op) == STEP_TRANSFER;
}

/* Whether it is at sending memory and a file, by many requests. */
static inline bool op_transmits(const struct op *op) {
        return op_form(op)->transmits && op_step(op) == STEP_TRANSFER;
}

/* Whether it is about the urgent byte of a stream, which is received beside the stream. */
static inline bool op_is_urgent(const struct op *op) {
        return op->code == OVL_OP_RECV && (op->message_flags & OVL_MESSAGE_OOB);
}

/* Whether it is to be done now or not at all. A send of which some bytes have left is past that. */
static inline bool op_must_not_wait(const struct op *op) {
        return !op_form(op)->transmits && (op->message_flags & OVL_MESSAGE_DONTWAIT) && op->done == 0;
}

/* What the monitor is asked, in the scratch. */
static inline struct link_message *op_question(const struct op *op) {
        return (struct link_message *) ((uint8_t *) op->scratch + OP_PARTS_SIZE);
}

/* Who asks, where the monitor is asked for the op. */
static inline struct link_asker op_asker(const struct op *op) {
        return (struct link_asker){
                .thread = op->thread,
                .socket = op->key,
                .op = op->tag,
                .has_thread = op->has_thread,
                .has_op = true,
        };
}

static inline void op_end(struct op *op, int status, unsigned reason, uint64_t bytes) {
        op->state = OP_ENDED;
        op->status = status;
        op->reason = (uint16_t) reason;
        op->bytes = bytes;
}

#endif
