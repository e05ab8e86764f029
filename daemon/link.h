/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_LINK_H
#define DAEMON_LINK_H

/*
 * The messages between the monitor and a worker: the only place where the two meet. One message is one packet of a
 * SOCK_SEQPACKET pair; at most one descriptor rides with it. Both sides were built together, but the worker may have
 * been taken over: the monitor checks every field.
 */

#include <stdint.h>
#include <sys/types.h>

#include "daemon/limit.h"
#include "daemon/snapshot.h"
#include "proto/layout.h"

#define LINK_TEXT_SIZE 400

enum link_kind {
        /* monitor to worker */
        LINK_CHANNEL = 1, /* fd: an accepted connection; body.peer */
        LINK_ANSWER, /* the end of the request with this ticket: status, reason, text; fd where a socket was opened */
        LINK_STOP,   /* finish: no more work is taken, records are sent, the worker exits */
        LINK_ARMED,  /* the request with this ticket waits for a change from here on */
        LINK_RULING, /* body.ruling; fd: a struct ruling, unless everything is allowed */
        LINK_FACTS,  /* fd: a struct ruling_facts */
        LINK_LIMITS, /* body.limits; text: the unit, or empty. Before the connections that they are about, or anew */
        LINK_PULSE,  /* to be answered with one in the next turn; to the monitor: the answer, body.pulse */

        /* in both directions */
        LINK_SNAPSHOT, /* body.snapshot, a ticket; the answer: that ticket, status; fd: a struct snapshot_page */

        /* worker to monitor */
        LINK_READY,          /* the worker is locked down and serves; text: engine; body.ready */
        LINK_CHANNEL_OPEN,   /* body.channel: the channel's first message was accepted */
        LINK_CHANNEL_CLOSED, /* body.channel; text: why, empty for an orderly end */
        LINK_SOCKET,         /* open a socket: body.socket; answered with the descriptor */
        LINK_BIND,           /* fd; body.name */
        LINK_LISTEN,         /* fd; body.listen */
        LINK_CONNECT,        /* fd; body.name; answered when the connection is made, refused or cancelled */
        LINK_CANCEL, /* ticket of a connect, resolve or look, which itself is answered, -ECANCELED unless it was done */
        LINK_RESOLVE, /* text: the name; body.resolve; answered with body.found, fd: memory that begins with them */
        LINK_DENIED,  /* body.denied; text: the rule. The worker itself has refused to send there */
        LINK_CONNECT_NAME, /* fd; text: a name; body.by_name; answered like LINK_CONNECT, and cancelled like it */
        LINK_LOOK,  /* body.look; answered with body.seen, fd: memory that begins with a list; or after a change */
        LINK_QUOTA, /* body.quota; text: what was refused, and why */
};

struct link_peer {
        uint64_t channel; /* the monitor's number for the connection, used in what the worker reports of it */
        uint64_t shard;   /* connections with the same shard may share a session */
        uint64_t ruling;  /* the number of the ruling about it, which the worker has been sent */
        uint32_t uid;
        uint32_t gid;
        int32_t pid;
        uint8_t may_bring_unix; /* it is of the daemon's own user, and may bring Unix sockets of its own */
};

/* Who asks, by the client's own numbers: for the journal. */
struct link_asker {
        uint64_t thread;
        uint64_t socket; /* 0: it is about none */
        uint64_t op;     /* the tag of its entry */
        uint8_t has_thread;
        uint8_t has_op; /* it is an operation, not a request */
};

/* What a session has come to. */
struct link_totals {
        uint64_t n_entries;
        uint64_t n_sockets; /* that it opened, accepted, adopted or shared */
        uint64_t bytes_received;
        uint64_t bytes_sent;
};

struct link_message {
        uint32_t kind;   /* enum link_kind */
        int32_t status;  /* LINK_ANSWER: 0 or -errno */
        uint32_t reason; /* LINK_ANSWER: enum ovl_reason */
        uint32_t reserved;
        uint64_t ticket; /* the worker's number for the request; returned in the answer */
        struct link_asker asker;
        union {
                struct link_peer peer;
                struct {
                        uint64_t channel;
                        uint64_t session;          /* the session that it belongs to; 0: none */
                        uint8_t is_first;          /* the channel opened the session */
                        struct link_totals totals; /* LINK_CHANNEL_CLOSED: of the session, so far */
                } channel;
                struct {
                        uint64_t session; /* on whose behalf: for the journal */
                        int32_t family;   /* AF_* */
                        int32_t type;     /* SOCK_* */
                } socket;
                struct {
                        uint64_t session;
                        struct ovl_address address;
                } name;
                struct {
                        uint64_t session;
                        uint32_t backlog;
                } listen;
                struct {
                        uint64_t session;
                        uint32_t timeout_ms; /* 0: none */
                        uint16_t port;
                        char service[OVL_SERVICE_NAME_MAX + 1]; /* where the port is 0 */
                } by_name;
                struct {
                        uint64_t session;
                        uint16_t port;  /* that the addresses shall have */
                        uint8_t family; /* enum ovl_family; 0: any */
                        uint8_t type;   /* SOCK_*; 0: any */
                } resolve;
                struct {
                        uint32_t n_addresses; /* struct ovl_address, at most OVL_RESOLVE_ADDRESSES_MAX */
                } found;
                struct {
                        uint64_t session;
                        uint8_t code;               /* enum ovl_ioctl, of those about addresses and routes */
                        uint8_t family;             /* of the socket: OVL_FAMILY_INET or OVL_FAMILY_INET6 */
                        struct ovl_address address; /* the destination, where the code has one */
                } look;
                struct {
                        uint32_t index;             /* ROUTING_INTERFACE_QUERY */
                        struct ovl_address address; /* likewise */
                        uint32_t n_interfaces; /* INTERFACE_LIST: struct ovl_interface, at most OVL_INTERFACES_MAX */
                } seen;
                struct {
                        uint64_t number;
                        uint8_t is_new;  /* a connection that it is about follows; else it takes the place of one */
                        uint8_t is_open; /* everything is allowed */
                } ruling;
                struct {
                        uint64_t shard;
                        uint32_t uid;
                        uint8_t is_new; /* a connection that they are about follows */
                        struct limits limits;
                } limits;
                struct {
                        uint64_t shard;     /* of a client that was refused something */
                        uint64_t n_refused; /* to this user, since the monitor was told last */
                        uint8_t kind;       /* enum limit_slot, or behind them enum limit_rate */
                } quota;
                struct {
                        uint64_t session;
                        uint32_t n_more; /* refusals of the same client that were not told of */
                        struct ovl_address address;
                } denied;
                struct {
                        uint64_t turns;
                        uint32_t n_sessions;
                        uint32_t n_sockets;
                        uint32_t n_ops; /* in flight */
                } pulse;
                struct snapshot_query snapshot;
                struct {
                        char reason[LINK_TEXT_SIZE]; /* why this engine was chosen */
                        uint8_t is_second_choice;    /* the first was refused */
                } ready;
        } body;
        char text[LINK_TEXT_SIZE]; /* for a person; NUL-terminated */
};

/*
 * Sends one message.
 *
 * with_fd: a descriptor that rides along, or -1. Borrowed.
 *
 * Returns 0, -EAGAIN when the other side is behind (the message was not sent), or another -errno.
 */
int link_send(int link_fd, const struct link_message *message, int with_fd);

/*
 * Receives one message.
 *
 * Returns 1 and the message, with *ret_fd a close-on-exec descriptor, -1 when none came, or -EMFILE when the one that
 * came was lost because this process may have no more; 0 when the other side is gone; -EAGAIN when there is none;
 * -EBADMSG for a packet that is no message (its descriptors are closed); or another -errno. Texts are NUL-terminated in
 * every case.
 */
int link_receive(int link_fd, struct link_message *ret_message, int *ret_fd);

/* Closes a descriptor that the other side sent, without lingering. Returns -1. */
int link_close(int fd);

#endif
