/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_NC_LOCAL_H
#define CLIENT_NC_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum local_kind {
        LOCAL_FILE,    /* is always ready: regular files, devices */
        LOCAL_SOCKET,  /* calls on it take a flag that forbids them to wait */
        LOCAL_OPENED,  /* opened once more, so that its mode is ours alone */
        LOCAL_TRICKLE, /* may block: is used only when it is ready, and little at a time */
};

/* One end of this process, for one direction. */
struct local {
        int fd; /* -1: none, as if it had ended */
        enum local_kind kind;
        bool is_owned;     /* closed with it; otherwise one of the standard descriptors, which stay something */
        bool is_shut_down; /* its end is told by shutdown, for the other direction is the same socket */
        bool is_terminal;
};

/* Standard input and output, or nothing where they were closed before this program began. */
void local_open_input(struct local *ret_local, bool is_closed);
void local_open_output(struct local *ret_local, bool is_closed);

/* A connection: take_fd is the input's, the output only uses it. */
void local_open_connection(struct local *ret_input, struct local *ret_output, int take_fd);

/* Fewer bytes than wanted are no news. Returns how many, 0 at the end, -EAGAIN or -errno. */
ssize_t local_read(struct local *local, void *data, size_t size);
ssize_t local_write(struct local *local, const void *data, size_t len);

/* Whether reading would bring something now: bytes or the end. */
bool local_is_readable(const struct local *local);

/* Lets whoever reads this output see its end. */
void local_end_output(struct local *local);
void local_close(struct local *local);

#endif
