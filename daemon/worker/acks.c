/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sockets without a send buffer (SO_SNDBUF is 0): a send ends when the peer's TCP has acknowledged all of its bytes,
 * and not when the kernel has taken them. Further sends leave meanwhile, so that the connection is as fast as with a
 * buffer.
 *
 * The kernel keeps its copy of what is sent in any case, so that the wish changes only the moment of the record; its
 * buffer stays as large as ever, because a small one would hold up the sends that are posted ahead.
 *
 * The moment is found by looking: at once, which is enough where the peer is near, then after a millisecond, and after
 * twice as long each time until something was acknowledged. Nobody else pays for it: a worker without such sends does
 * not wake up.
 *
 * Rejected: time stamps of acknowledgements (SO_TIMESTAMPING), which the kernel gives in the error queue. It counts
 * against the receive buffer, wakes whoever waits for data, and loses stamps where there is no room. Zero-copy sends:
 * their notice comes when the kernel lets go of the memory, which on the loopback is when the peer has read it.
 */

#include "daemon/worker/acks.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "base/time.h"

#define ACKS_PAUSE_MIN NS_PER_MS
#define ACKS_PAUSE_MAX (64 * NS_PER_MS)

void acks_set(struct socket *socket, bool are_awaited) {
        socket->awaits_acks = are_awaited;
}

bool acks_are_awaited(const struct socket *socket, const struct op *op) {
        return (socket->awaits_acks && op->sent_to > 0) || !list_is_empty(&socket->queues[QUEUE_SENT].ops);
}

void acks_expect(struct socket *socket) {
        struct queue *sent = &socket->queues[QUEUE_SENT];

        if (sent->retry_at > 0)
                return;
        socket->acks_pause = socket->acks_pause == 0 ? ACKS_PAUSE_MIN : 2 * socket->acks_pause;
        if (socket->acks_pause > ACKS_PAUSE_MAX)
                socket->acks_pause = ACKS_PAUSE_MAX;
        sent->retry_at = now_ns() + socket->acks_pause;
}

uint64_t acks_count(struct socket *socket) {
        int n = 0;

        socket->engine->stats->system_calls++;
        if (ioctl(socket->file.fd, SIOCOUTQ, &n) < 0)
                return socket->bytes_sent; /* it has no such queue */
        /* The end of the stream counts as a byte there, and so do bytes of a request that is not over. */
        return (uint64_t) n < socket->bytes_sent ? socket->bytes_sent - (uint64_t) n : 0;
}

bool acks_never_come(struct socket *socket) {
        struct tcp_info info = { 0 };
        socklen_t len = sizeof(info);

        socket->engine->stats->system_calls++;
        return getsockopt(socket->file.fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 || info.tcpi_state == TCP_CLOSE;
}
