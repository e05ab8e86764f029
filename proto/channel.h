/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_CHANNEL_H
#define PROTO_CHANNEL_H

/* Bytes and descriptors over one Unix stream connection. Nothing here blocks, allocates or keeps state. */

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#define CHANNEL_FDS_MAX 4   /* descriptors that one receive may bring; more are closed and reported */
#define CHANNEL_FDS_ALL 253 /* that one receive can bring at most: the kernel lets nobody send more */

/*
 * Receives what is there.
 *
 * fds:   room for CHANNEL_FDS_MAX descriptors; those received are the caller's to close, and are close-on-exec.
 *
 * Returns the bytes received (1 or more), 0 at the end of the stream, -EAGAIN when nothing is there, -EMSGSIZE when
 * descriptors were cut off (too many at once, or this process has no room for them: all that did arrive are closed),
 * or another -errno of recvmsg(2).
 */
ssize_t channel_receive(int fd, void *buffer, size_t size, int fds[CHANNEL_FDS_MAX], size_t *ret_n_fds);

/*
 * The same for who must not close what somebody chose to wait for: all descriptors are the caller's, also with
 * -EMSGSIZE, which says that this process has no room for more.
 */
ssize_t channel_receive_all(int fd, void *buffer, size_t size, int fds[CHANNEL_FDS_ALL], size_t *ret_n_fds);

/*
 * Sends what fits.
 *
 * with_fd: a descriptor that rides with the first byte, or -1. Borrowed.
 *
 * Returns the bytes sent (1 or more; fewer than given is not an error), -EAGAIN when nothing fits, or another -errno of
 * sendmsg(2). Never raises SIGPIPE.
 */
ssize_t channel_send(int fd, const struct iovec *parts, size_t n_parts, int with_fd);

/* Switches the passing of descriptors to `fd` on or off (Linux 6.16; on older kernels -ENOPROTOOPT). */
int channel_allow_fds(int fd, int allow);

#endif
