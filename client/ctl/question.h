/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_QUESTION_H
#define CLIENT_CTL_QUESTION_H

/* Questions to the daemon, on the administrators' socket. */

#include "client/ctl/ctl.h"
#include "proto/admin.pb-c.h"

/* Takes one reply of an answer, which is gone when this returns. */
typedef void question_take(const Overlapd__AdminReply *reply, void *data);

/* Connects. Returns the descriptor, the caller's; or -errno after the complaint. */
int question_connect(const struct ctl *ctl);

/*
 * Asks, and waits for the whole answer.
 *
 * fd:   of question_connect(). Borrowed.
 * take: called for each reply that says something.
 *
 * Returns CTL_DONE; or, after the complaint, CTL_USAGE when the daemon says that the question is wrong, CTL_LOST when
 * there was no answer or a part of it is missing (what came was taken).
 */
int question_ask(const struct ctl *ctl, int fd, const Overlapd__AdminRequest *request, question_take *take, void *data);

/* Both, for who asks once. */
int question_ask_once(const struct ctl *ctl, const Overlapd__AdminRequest *request, question_take *take, void *data);

#endif
