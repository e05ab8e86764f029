/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_POST_H
#define CLIENT_POST_H

/* Posting: from a call to an entry on its way, and back to what the call returns. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "client/c/association.h"
#include "client/c/overlap.h"
#include "proto/layout.h"

struct lookup;
struct transmit;

/* Flags of the calls that receive, and of those that send. */
#define POST_FLAGS_IN (OVL_PEEK | OVL_PUSH_IMMEDIATE | OVL_DONTWAIT | OVL_PARTIAL)
#define POST_FLAGS_OUT (OVL_DONTROUTE | OVL_DONTWAIT)

/* A posting call. */
struct post {
        const char *call;
        const struct ovl_buffer *buffers; /* borrowed */
        size_t n_buffers;
        unsigned flags;
        unsigned flags_known; /* those that go into the entry */
        struct ovl_overlapped *overlapped;
        void (*routine)(struct ovl_thread *thread, struct ovl_overlapped *overlapped);
        struct sockaddr_storage *from;   /* borrowed: of a receive that asks for the sender */
        socklen_t *from_len;             /* borrowed */
        struct ovl_accepted *accepted;   /* borrowed: of an accept that asks for both ends */
        struct ovl_received *received;   /* borrowed: of a receive that asks for all that a datagram has */
        const void *control;             /* borrowed: items that are sent; NULL */
        size_t aux_len;                  /* bytes of these, or that come beside those of the buffers */
        struct lookup *lookup;           /* of a question: taken once the operation is in flight */
        struct ovl_buffer question;      /* level 0: what goes along of it */
        const struct transmit *transmit; /* borrowed: of an operation that sends a file; it has no buffers then */
        bool needs_structure;            /* it is never synchronous for want of one */
        uint64_t *ret_value;             /* borrowed: of a synchronous call that gives one; NULL */
        struct ovl_entry entry;
        bool is_gathered; /* level 0: bytes go along, and the entry is appended with them */
        uint64_t len;     /* bytes of all buffers */
};

/*
 * Puts the address into the entry of an operation that has one.
 *
 * purpose: what it is for, as an error says it: "send to". Static.
 *
 * Returns 0, or -errno and the thread's error.
 */
int post_address(struct ovl_thread *thread, struct post *post, const struct sockaddr *address, socklen_t len,
                 const char *purpose);

/*
 * Posts. Without a structure, and on a socket that is not overlapped, it waits for the end.
 *
 * Returns 0 (done and indicated), OVL_PENDING, what a synchronous call gives, or the refusal and the thread's error.
 */
int post_submit(struct ovl_thread *thread, struct post *post);

/* The same with a lookup, which is given back when the operation did not start. */
int post_submit_lookup(struct ovl_thread *thread, struct post *post);

/* How synchronous calls go on the socket of a post. */
struct manner post_manner(struct ovl_thread *thread, const struct post *post);

/* Without a structure of the caller's the socket's mode and timeouts count, and the result is what the call returns. */
int post_block(struct ovl_thread *thread, struct post *post, const struct manner *manner);

#endif
