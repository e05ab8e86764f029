/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sockets without a receive buffer (SO_RCVBUF is 0): nothing is received but by operations that wait for it.
 *
 * A stream keeps what its peer has sent, and the peer stalls: the kernel has its smallest window then, which is not
 * quite none. A datagram is lost, as if nobody were there:
 *
 *   deaf -> listening    the first receive is posted: what is left of the time before is thrown away
 *   listening -> deaf    the last receive has ended: from here on a filter of one instruction drops what comes
 *
 * Datagrams that came between the end of the last receive and the filter are thrown away before the next one starts: so
 * none shows up later that came when nothing was posted.
 *
 * Rejected: a kernel buffer of the smallest size for datagrams, which would not hold one for each of the receives that
 * are posted; and throwing them away as they come, which wakes the worker for each.
 */

#include "daemon/worker/unbuffered.h"

#include <errno.h>
#include <linux/filter.h>
#include <sys/socket.h>

#define UNBUFFERED_DRAIN_MAX 65536u

static int unbuffered_filter(struct socket *socket, bool is_deaf) {
        struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
        const struct sock_fprog program = { .len = 1, .filter = &drop };

        socket->engine->stats->system_calls++;
        if (setsockopt(socket->file.fd, SOL_SOCKET, is_deaf ? SO_ATTACH_FILTER : SO_DETACH_FILTER, &program,
                       sizeof(program)) < 0)
                return -errno;
        socket->is_deaf = is_deaf;
        return 0;
}

int unbuffered_set(struct socket *socket, bool is_unbuffered) {
        int r = 0;

        if (socket_is_datagram(socket) && is_unbuffered && !socket->is_deaf &&
            list_is_empty(&socket->queues[DIRECTION_IN].ops))
                r = unbuffered_filter(socket, true);
        else if (!is_unbuffered && socket->is_deaf)
                r = unbuffered_filter(socket, false);
        if (r < 0)
                return r;
        socket->is_unbuffered = is_unbuffered;
        return 0;
}

/* The refusal of a datagram that was sent is not one that came: it is the receive's. */
static void unbuffered_drain(struct socket *socket) {
        for (unsigned i = 0; i < UNBUFFERED_DRAIN_MAX; i++) {
                struct msghdr nothing = { 0 };

                socket->engine->stats->system_calls++;
                if (recvmsg(socket->file.fd, &nothing, MSG_DONTWAIT | MSG_TRUNC) >= 0 || errno == EINTR)
                        continue;
                if (errno == EAGAIN)
                        return;
                refusals_explain(socket, true, -errno);
        }
}

void unbuffered_listen(struct socket *socket) {
        if (!socket->is_deaf)
                return;
        unbuffered_drain(socket);
        unbuffered_filter(socket, false);
}

void unbuffered_ignore(struct socket *socket) {
        if (socket->is_unbuffered && socket_is_datagram(socket) && !socket->is_deaf)
                unbuffered_filter(socket, true);
}
