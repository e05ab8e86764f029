/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_REQUEST_H
#define CLIENT_REQUEST_H

/* Control requests of a thread: one at a time, answered before the call returns. */

#include "client/c/overlap.h"
#include "proto/overlapd.pb-c.h"

/*
 * Sends a request and waits for its reply; completions that arrive meanwhile are taken in. By the thread's owner.
 *
 * request: its id is chosen here.
 * with_fd: a descriptor that rides along, or -1. Borrowed.
 * answer:  the member that a successful reply must have; OVERLAPD__REPLY__WHAT__NOT_SET: none.
 * call:    the public function that asks, for the error text.
 *
 * Returns 0 and the reply, which lives until the thread's next request, or -errno and the thread's error.
 */
int request_make(struct ovl_thread *thread, Overlapd__Request *request, int with_fd, Overlapd__Reply__WhatCase answer,
                 const char *call, Overlapd__Reply **ret_reply);

/*
 * Asks why the policy refused an operation of the session last. Returns -EACCES with DENIED and its rule in the
 * thread's error, or another -errno.
 */
int request_denied(struct ovl_thread *thread, const char *call);

/* Fills error from a reply that refuses. Returns its status, which is never 0 or positive. */
int request_refused(const Overlapd__Reply *reply, const char *call, struct ovl_error *error);

#endif
