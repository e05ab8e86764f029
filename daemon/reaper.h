/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_REAPER_H
#define DAEMON_REAPER_H

/*
 * Closes foreign descriptors in threads of its own: what a client passed may be a lingering socket or a file on a dead
 * server, and its last close may block for as long as the client chose.
 */

#include <stdbool.h>
#include <stdint.h>

struct reaper;

/* Starts the threads. Returns 0 or -errno. */
int reaper_new(struct reaper **ret_reaper);

/* Closes what is queued, ends the threads unless one hangs in a close. Returns NULL. */
struct reaper *reaper_free(struct reaper *reaper);

/*
 * Gives a descriptor away. fd: taken; -1 is fine. uid: of the user who passed it, or for whom it was made: his closes
 * wait for each other, and nobody else's for them. Never blocks, never fails.
 */
void reaper_close(struct reaper *reaper, int fd, uint32_t uid);

/* Whether the closes of this user hang, and so many wait behind them that no more descriptors of his may be taken. */
bool reaper_is_behind(struct reaper *reaper, uint32_t uid);

#endif
