/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Where nobody has the port that a datagram was sent to, the other machine may say so (ICMP, port unreachable). That
 * ends one receive of the socket that sent it: one that is pending, or a later one. Each refusal is told once, none
 * ends a send, and the socket goes on.
 *
 *   the kernel's error queue -> kept    a request failed, and what the queue has is taken out of it
 *   kept -> told                        a receive is pending, or is posted: it ends with -ECONNREFUSED
 *   kept -> forgotten                   the client does not want to be told any more, or there are too many
 *
 * The kernel tells of refusals in two ways. On a socket with a peer it sets an error, which the next system call of any
 * kind returns, and many of which look like one. With IP_RECVERR it does so on sockets without a peer, too, and also
 * puts each refusal into the socket's error queue. The queue is what is believed: it has one element for each, and
 * reading all of it takes the error away. It takes its room from the receive buffer, and as long as it has something
 * the socket is reported as ready; so it is emptied whenever a request has met an error.
 *
 * With the option come other errors, of which Windows tells none on a datagram socket: no route, the end of a time to
 * live, a datagram that is too long for some link. They are taken out and not told: a datagram that is lost on its way
 * is lost in silence. A send finds out by itself what it can know when it leaves.
 *
 * A socket that was adopted is left as it is: its error queue may be its owner's to read. There, only what the kernel
 * tells of a peer is told; whoever sets the option here has decided otherwise.
 *
 * Rejected: counting the errors that calls return (two refusals are one then, and the kernel sets the error after it
 * has filled the queue, so that one could be counted twice); a poll for errors on each socket, which would wake the
 * worker for sockets on which nobody receives.
 */

#include "daemon/worker/refusals.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/errqueue.h> /* needs what is above */

#include "daemon/worker/socket.h"

#define REFUSALS_MAX 64u       /* that are kept for receives */
#define REFUSALS_READ_MAX 1024 /* at a time: more than a receive buffer of the usual size has room for */

/* Each element comes with a copy of what the socket has asked to be told of datagrams that it receives. */
#define REFUSALS_CONTROL_SIZE 512

static int refusals_ask_kernel(struct socket *socket, int value) {
        int r = 0;

        socket->engine->stats->system_calls++;
        if (setsockopt(socket->file.fd, IPPROTO_IP, IP_RECVERR, &value, sizeof(value)) < 0)
                r = -errno;
        if (r == 0 && socket->family == AF_INET6 &&
            setsockopt(socket->file.fd, IPPROTO_IPV6, IPV6_RECVERR, &value, sizeof(value)) < 0)
                r = -errno;
        return r;
}

void refusals_start(struct socket *socket) {
        if (socket_is_inet_datagram(socket))
                refusals_set(socket, true);
}

void refusals_stop(struct socket *socket) {
        if (socket->refusals.has_queue)
                refusals_ask_kernel(socket, 0);
        socket->refusals.has_queue = false;
}

int refusals_set(struct socket *socket, bool is_told) {
        struct refusals *refusals = &socket->refusals;
        int r = 0;

        if (is_told && !refusals->has_queue) {
                r = refusals_ask_kernel(socket, 1);
                refusals->has_queue = r == 0;
        } else if (!is_told) {
                refusals_stop(socket);
                refusals->n = 0;
        }
        if (r == 0)
                refusals->is_told = is_told;
        return r;
}

/* Whether an element is the network's word; what the kernel says of our own datagrams is there, too. */
static bool refusals_is_from_network(struct msghdr *message, int *ret_error) {
        for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item; item = CMSG_NXTHDR(message, item)) {
                bool is_error = (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_RECVERR) ||
                                (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_RECVERR);
                struct sock_extended_err error;

                if (!is_error || item->cmsg_len < CMSG_LEN(sizeof(error)))
                        continue;
                memcpy(&error, CMSG_DATA(item), sizeof(error));
                *ret_error = -(int) error.ee_errno;
                return error.ee_origin == SO_EE_ORIGIN_ICMP || error.ee_origin == SO_EE_ORIGIN_ICMP6;
        }
        return false;
}

static void refusals_keep(struct refusals *refusals) {
        if (refusals->is_told && refusals->n < REFUSALS_MAX)
                refusals->n++;
}

/* Empties the kernel's queue. Returns whether the network had said anything. */
static bool refusals_take(struct socket *socket) {
        bool has_any = false;

        for (int i = 0; socket->refusals.has_queue && i < REFUSALS_READ_MAX; i++) {
                _Alignas(struct cmsghdr) char control[REFUSALS_CONTROL_SIZE];
                struct msghdr message = { .msg_control = control, .msg_controllen = sizeof(control) };
                int error;

                socket->engine->stats->system_calls++;
                if (recvmsg(socket->file.fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
                        break;
                if (!refusals_is_from_network(&message, &error))
                        continue;
                has_any = true;
                if (error == -ECONNREFUSED)
                        refusals_keep(&socket->refusals);
        }
        return has_any;
}

/* What the network's messages become, and no receive fails with by itself. */
static bool refusals_is_answer(int error) {
        switch (-error) {
        case ECONNREFUSED:
        case EHOSTUNREACH:
        case EHOSTDOWN:
        case ENETUNREACH:
        case ENONET:
        case ENOPROTOOPT:
        case EOPNOTSUPP:
        case EPROTO:
        case EACCES:
        case EMSGSIZE:
                return true;
        default:
                return false;
        }
}

bool refusals_explain(struct socket *socket, bool is_receive, int error) {
        bool has_any;

        if (!socket_is_inet_datagram(socket))
                return false;
        has_any = refusals_take(socket);
        if (error == -ECONNREFUSED) {
                if (!socket->refusals.has_queue)
                        refusals_keep(&socket->refusals);
                return true;
        }
        return refusals_is_answer(error) && (has_any || (is_receive && socket->refusals.has_queue));
}

bool refusals_look(struct socket *socket) {
        refusals_take(socket);
        return socket->refusals.n > 0;
}

int refusals_tell(struct socket *socket) {
        socket->refusals.n--;
        return -ECONNREFUSED;
}
