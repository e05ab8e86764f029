/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_REAPER_H
#define DAEMON_WORKER_REAPER_H

/*
 * Closes foreign descriptors in a thread of its own: what a client passed may be a lingering socket or a file on a dead
 * server, and its last close may block for as long as the client chose.
 */

struct reaper;

/* Starts the thread. Returns 0 or -errno. */
int reaper_new(struct reaper **ret_reaper);

/* Closes what is queued, ends the thread unless it hangs in a close. Returns NULL. */
struct reaper *reaper_free(struct reaper *reaper);

/* Gives a descriptor away. fd: taken. Never blocks, never fails. */
void reaper_close(struct reaper *reaper, int fd);

#endif
