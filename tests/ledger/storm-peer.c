/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The ordinary end of a storm: a process with plain kernel sockets, which knows nothing of the daemon. Half of what can
 * go wrong between two sockets of one daemon goes wrong twice and cancels out; against an ordinary socket it shows.
 *
 * Invariant: a transfer is written down right after the system call that made it; this process is never killed.
 *
 *   listening, and connecting to whoever listens --> open: sends and receives what fits
 *   open --budget used up--> closed, or half closed and read to the end
 *   open --end or error of the other--> closed
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/ledger/pattern.h"
#include "tests/ledger/storm.h"

#define PEER_CONNS 24
#define PEER_OUTGOING 8 /* connections below which a new one is made */
#define PEER_WAIT_MS 2
#define PEER_DATAGRAMS 2 /* that a socket sends in one turn, at most */
#define PEER_SILENCE_NS (2000 * NS_PER_MS)

struct peer_conn {
        int fd; /* -1: free */
        uint64_t number;
        uint64_t offset;
        uint64_t moved_ns;
        uint32_t order[EVENT_OPS];
        uint32_t budget;
        bool has_sent_end;
};

struct peer {
        struct storm_board *board; /* borrowed, as is the next */
        struct journal *journal;
        struct storm_random random;
        uint32_t n_conns;
        int listeners[2];
        uint32_t places[2]; /* where they listen */
        struct peer_conn conns[PEER_CONNS];
        struct peer_conn datagrams[2];
        struct pollfd ready[PEER_CONNS + 4];
        uint8_t bytes[STORM_OP_SIZE];
};

/* Writes down what has happened. to: of a datagram that was sent. record: what is known besides the bytes. */
static void peer_write(struct peer *peer, struct peer_conn *conn, enum event_op op, uint32_t len, uint32_t to,
                       struct event record) {
        struct event post = {
                .op = op,
                .mode = EVENT_MODE_KERNEL,
                .body.post = { .conn = conn->number,
                               .offset = conn->offset,
                               .order = conn->order[op]++,
                               .len = len,
                               .to = to },
        };
        uint64_t bytes = record.body.record.bytes;

        record.kind = EVENT_RECORD;
        record.op = op;
        record.mode = EVENT_MODE_KERNEL;
        record.id = journal_post(peer->journal, post);
        if (op == EVENT_OP_RECV || op == EVENT_OP_RECVFROM) {
                memcpy(&record.body.record.head, peer->bytes, bytes < 8 ? bytes : 8);
                record.body.record.hash = pattern_hash(PATTERN_HASH_START, peer->bytes, bytes);
        }
        journal_add(peer->journal, record);
        conn->moved_ns = now_ns();
        conn->budget -= conn->budget > 0;
        __atomic_fetch_add(&peer->board->steps[STORM_PEER], 1, __ATOMIC_RELAXED);
}

static void peer_close(struct peer *peer, struct peer_conn *conn) {
        storm_mark(peer->journal, EVENT_CLOSE, 0, conn->number, 0, 0);
        conn->fd = fd_close(conn->fd);
}

static void peer_receive(struct peer *peer, struct peer_conn *conn) {
        uint32_t len = 1 + storm_pick(&peer->random, sizeof(peer->bytes));
        ssize_t n;

        n = recv(conn->fd, peer->bytes, len, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
                return;
        if (n >= 0)
                peer_write(peer, conn, EVENT_OP_RECV, len, 0, (struct event){ .body.record.bytes = (uint64_t) n });
        if (n <= 0)
                peer_close(peer, conn);
}

static void peer_send(struct peer *peer, struct peer_conn *conn) {
        uint32_t len = 1 + storm_size(&peer->random) % sizeof(peer->bytes);
        ssize_t n;

        pattern_fill(conn->number, conn->offset, peer->bytes, len);
        n = send(conn->fd, peer->bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN)
                return;
        if (n < 0) {
                peer_close(peer, conn);
                return;
        }
        peer_write(peer, conn, EVENT_OP_SEND, (uint32_t) n, 0, (struct event){ .body.record.bytes = (uint64_t) n });
        conn->offset += (uint64_t) n;
}

static void peer_end(struct peer *peer, struct peer_conn *conn) {
        if (conn->has_sent_end)
                return;
        if (storm_pick(&peer->random, 3) == 0) {
                peer_close(peer, conn);
                return;
        }
        storm_mark(peer->journal, EVENT_SHUTDOWN, 0, conn->number, 1, 0);
        shutdown(conn->fd, SHUT_WR);
        conn->has_sent_end = true;
}

static void peer_adopt(struct peer *peer, int take_fd) {
        for (unsigned i = 0; i < PEER_CONNS; i++) {
                struct peer_conn *conn = &peer->conns[i];

                if (conn->fd >= 0)
                        continue;
                *conn = (struct peer_conn){ .fd = take_fd,
                                            .number = ++peer->n_conns,
                                            .moved_ns = now_ns(),
                                            .budget = 10 + storm_pick(&peer->random, 60) };
                return;
        }
        fd_close(take_fd);
}

static void peer_accept(struct peer *peer, int listener) {
        int fd;

        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
                peer_adopt(peer, fd);
}

static void peer_connect(struct peer *peer) {
        struct sockaddr_storage address;
        uint32_t place = storm_board_pick(peer->board->places, 0, &peer->random);
        _cleanup_fd_ int fd = -1;
        socklen_t len;

        if (place == 0 || place == peer->places[0] || place == peer->places[1])
                return;
        len = storm_place_address(place, &address);
        fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *) &address, len) < 0)
                return;
        peer_adopt(peer, fd_take(&fd));
}

static int peer_listen(struct peer *peer, unsigned is_v6) {
        struct sockaddr_storage address;
        _cleanup_fd_ int fd = -1;
        socklen_t len;

        len = storm_place_address(is_v6 ? EVENT_PLACE_V6 : 0, &address);
        fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *) &address, len) < 0 || listen(fd, 64) < 0)
                return -errno;
        len = sizeof(address);
        if (getsockname(fd, (struct sockaddr *) &address, &len) < 0)
                return -errno;
        peer->listeners[is_v6] = fd_take(&fd);
        /* Two places for each family: ordinary sockets are to be met as often as others. */
        peer->places[is_v6] = ntohs(((struct sockaddr_in *) &address)->sin_port) | (is_v6 ? EVENT_PLACE_V6 : 0);
        for (unsigned i = 0; i < 2; i++)
                __atomic_store_n(&peer->board->places[STORM_PEER * STORM_WORKERS * 2 + 2 * i + is_v6],
                                 peer->places[is_v6], __ATOMIC_RELEASE);
        return 0;
}

/* --- Datagrams -------------------------------------------------------------------------------------------------- */

/* Returns whether there was one. */
static bool peer_receive_datagram(struct peer *peer, struct peer_conn *conn) {
        uint32_t len = storm_datagram_room(&peer->random);
        struct sockaddr_storage from;
        struct iovec part = { .iov_base = peer->bytes, .iov_len = len };
        struct msghdr message = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &part, .msg_iovlen = 1 };
        struct event record = {};
        ssize_t n;

        n = recvmsg(conn->fd, &message, MSG_DONTWAIT);
        if (n < 0)
                return false;
        record.body.record.bytes = (uint64_t) n;
        record.body.record.from = storm_address_place(&from);
        record.status = message.msg_flags & MSG_TRUNC ? -EMSGSIZE : 0;
        record.flags = message.msg_flags & MSG_TRUNC ? EVENT_FLAG_TRUNCATED : 0;
        peer_write(peer, conn, EVENT_OP_RECVFROM, len, 0, record);
        return true;
}

static void peer_send_datagram(struct peer *peer, struct peer_conn *conn, int family) {
        uint32_t place = storm_board_pick(peer->board->datagrams, family, &peer->random);
        uint32_t len = storm_datagram_size(&peer->random);
        struct sockaddr_storage address;
        socklen_t address_len = storm_place_address(place, &address);
        ssize_t n;

        if (place == 0)
                return;
        pattern_fill(pattern_datagram(conn->number, conn->order[EVENT_OP_SENDTO]), 0, peer->bytes, len);
        n = sendto(conn->fd, peer->bytes, len, MSG_DONTWAIT, (struct sockaddr *) &address, address_len);
        if (n >= 0)
                peer_write(peer, conn, EVENT_OP_SENDTO, len, place,
                           (struct event){ .body.record.bytes = (uint64_t) n });
}

static int peer_open_datagrams(struct peer *peer, unsigned is_v6) {
        struct peer_conn *conn = &peer->datagrams[is_v6];
        struct sockaddr_storage address;
        _cleanup_fd_ int fd = -1;
        int room = STORM_DATAGRAM_ROOM;
        uint32_t place;
        socklen_t len;

        len = storm_place_address(is_v6 ? EVENT_PLACE_V6 : 0, &address);
        fd = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) < 0 ||
            bind(fd, (struct sockaddr *) &address, len) < 0)
                return -errno;
        len = sizeof(address);
        if (getsockname(fd, (struct sockaddr *) &address, &len) < 0)
                return -errno;
        place = storm_address_place(&address);
        *conn = (struct peer_conn){ .fd = fd_take(&fd), .number = ++peer->n_conns };
        storm_mark(peer->journal, EVENT_NAME, 0, conn->number, place, 0);
        for (unsigned i = 0; i < 2; i++)
                __atomic_store_n(&peer->board->datagrams[STORM_PEER * STORM_WORKERS * 2 + 2 * i + is_v6], place,
                                 __ATOMIC_RELEASE);
        return 0;
}

/* --- Turns ------------------------------------------------------------------------------------------------------ */

static void peer_turn(struct peer *peer) {
        unsigned n_open = 0;

        for (unsigned i = 0; i < PEER_CONNS; i++) {
                const struct peer_conn *conn = &peer->conns[i];
                short events = conn->has_sent_end ? POLLIN : POLLIN | POLLOUT;

                peer->ready[i] = (struct pollfd){ .fd = conn->fd, .events = events };
                n_open += conn->fd >= 0;
        }
        for (unsigned i = 0; i < 2; i++)
                peer->ready[PEER_CONNS + i] = (struct pollfd){ .fd = peer->listeners[i], .events = POLLIN };
        for (unsigned i = 0; i < 2; i++)
                peer->ready[PEER_CONNS + 2 + i] = (struct pollfd){ .fd = peer->datagrams[i].fd, .events = POLLIN };
        poll(peer->ready, PEER_CONNS + 4, PEER_WAIT_MS);
        for (unsigned i = 0; i < PEER_CONNS; i++) {
                struct peer_conn *conn = &peer->conns[i];

                if (conn->fd >= 0 && (peer->ready[i].revents & (POLLIN | POLLHUP | POLLERR)))
                        peer_receive(peer, conn);
                if (conn->fd >= 0 && !conn->has_sent_end && (peer->ready[i].revents & POLLOUT))
                        peer_send(peer, conn);
                if (conn->fd >= 0 && conn->budget == 0)
                        peer_end(peer, conn);
                if (conn->fd >= 0 && now_ns() > conn->moved_ns + PEER_SILENCE_NS)
                        peer_close(peer, conn);
        }
        for (unsigned i = 0; i < 2; i++)
                if (peer->ready[PEER_CONNS + i].revents & POLLIN)
                        peer_accept(peer, peer->listeners[i]);
        for (unsigned i = 0; i < 2; i++) {
                unsigned n_sends = storm_pick(&peer->random, PEER_DATAGRAMS);

                for (unsigned j = 0; j < 4 * PEER_DATAGRAMS; j++)
                        if (!peer_receive_datagram(peer, &peer->datagrams[i]))
                                break;
                for (unsigned j = 0; j < n_sends; j++)
                        peer_send_datagram(peer, &peer->datagrams[i], i ? AF_INET6 : AF_INET);
        }
        if (n_open < PEER_OUTGOING)
                peer_connect(peer);
}

int storm_peer_run(struct storm_board *board, struct journal *journal, uint64_t seed) {
        struct peer peer = { .board = board, .journal = journal, .random.state = seed, .listeners = { -1, -1 } };

        journal_start(journal);
        /* Client 0's numbers: no other client begins at 0. */
        for (unsigned i = 0; i < PEER_CONNS; i++)
                peer.conns[i].fd = -1;
        for (unsigned is_v6 = 0; is_v6 < 2; is_v6++) {
                int r;

                r = peer_listen(&peer, is_v6);
                if (r == 0)
                        r = peer_open_datagrams(&peer, is_v6);
                if (r < 0) {
                        fprintf(stderr, "storm: an ordinary socket: %s\n", strerror(-r));
                        return STORM_EXIT_FAILED;
                }
        }
        while (!__atomic_load_n(&board->is_over, __ATOMIC_RELAXED))
                peer_turn(&peer);
        for (unsigned i = 0; i < PEER_CONNS; i++)
                if (peer.conns[i].fd >= 0)
                        peer_close(&peer, &peer.conns[i]);
        for (unsigned i = 0; i < 2; i++) {
                peer.listeners[i] = fd_close(peer.listeners[i]);
                peer.datagrams[i].fd = fd_close(peer.datagrams[i].fd);
        }
        storm_mark(journal, EVENT_END, 0, 0, 0, 0);
        return 0;
}
