/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two sessions on one socket: their operations stand in the same queues and are otherwise their own. The number in a
 * comment is that of the rule of overlapped sockets that a case shows.
 */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/layout.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"
#include "tests/system/raw.h"

#define SHARING_N 20u
#define SHARING_LEN 100u

/* Two sessions with one connected socket, and its ordinary other end. */
struct sharing {
        struct client host;
        struct client guest;
        uint64_t socket; /* of the host */
        uint64_t joined; /* of the guest */
        int fd;
};

static void sharing_open(struct sharing *sharing) {
        client_start(&sharing->host);
        sharing->guest = sharing->host;
        client_open(&sharing->guest, 0);
}

static void sharing_start(struct sharing *sharing) {
        sharing_open(sharing);
        sharing->socket = client_pair(&sharing->host, AF_INET, &sharing->fd);
        sharing->joined = client_join(&sharing->host, sharing->socket, &sharing->guest);
}

static void sharing_stop(struct sharing *sharing) {
        close(sharing->fd);
        client_close(&sharing->guest);
        client_stop(&sharing->host);
}

/* --- Order ------------------------------------------------------------------------------------------------------ */

/* 15.5: the verdicts make an order between the two, and the queue keeps it. */
static void sharing_receives_in_order(void **state) {
        static struct ovl_overlapped receiving[2 * SHARING_N];
        struct sharing sharing;
        char *bytes;

        sharing_start(&sharing);
        for (size_t i = 0; i < 2 * SHARING_N; i++) {
                struct client *who = i % 2 ? &sharing.guest : &sharing.host;

                assert_int_equal(client_recv(who, i % 2 ? sharing.joined : sharing.socket,
                                             who->memory + i * SHARING_LEN, SHARING_LEN, OVL_WANT_VERDICT,
                                             &receiving[i]),
                                 OVL_PENDING);
        }
        bytes = malloc(2 * SHARING_N * SHARING_LEN);
        pattern_fill(bytes, 2 * SHARING_N * SHARING_LEN, 0);
        peer_write(sharing.fd, bytes, 2 * SHARING_N * SHARING_LEN);
        for (size_t i = 0; i < 2 * SHARING_N; i++) {
                struct client *who = i % 2 ? &sharing.guest : &sharing.host;

                client_expect(who, &receiving[i], 0, SHARING_LEN);
                pattern_check(who->memory + i * SHARING_LEN, SHARING_LEN, i * SHARING_LEN);
        }
        free(bytes);
        sharing_stop(&sharing);
}

static void sharing_sends_in_order(void **state) {
        static struct ovl_overlapped sending[2 * SHARING_N];
        struct sharing sharing;
        char *bytes;

        sharing_start(&sharing);
        for (size_t i = 0; i < 2 * SHARING_N; i++) {
                struct client *who = i % 2 ? &sharing.guest : &sharing.host;

                pattern_fill(who->memory + i * SHARING_LEN, SHARING_LEN, i * SHARING_LEN);
                assert_ok(client_send(who, i % 2 ? sharing.joined : sharing.socket, who->memory + i * SHARING_LEN,
                                      SHARING_LEN, OVL_WANT_VERDICT, &sending[i]));
        }
        bytes = malloc(2 * SHARING_N * SHARING_LEN);
        peer_read(sharing.fd, bytes, 2 * SHARING_N * SHARING_LEN);
        pattern_check(bytes, 2 * SHARING_N * SHARING_LEN, 0);
        for (size_t i = 0; i < 2 * SHARING_N; i++)
                client_expect(i % 2 ? &sharing.guest : &sharing.host, &sending[i], 0, SHARING_LEN);
        free(bytes);
        sharing_stop(&sharing);
}

/* --- Ends ------------------------------------------------------------------------------------------------------- */

/* 11.8: a close leaves what was posted to go on, for who posted it, while the other session has the socket. */
static void sharing_close_leaves_operations(void **state) {
        struct ovl_overlapped first = { 0 }, second = { 0 }, third = { 0 }, late = { 0 };
        struct sharing sharing;

        sharing_start(&sharing);
        assert_int_equal(client_recv(&sharing.host, sharing.socket, sharing.host.memory, 5, OVL_WANT_VERDICT, &first),
                         OVL_PENDING);
        assert_int_equal(
                client_recv(&sharing.guest, sharing.joined, sharing.guest.memory, 5, OVL_WANT_VERDICT, &second),
                OVL_PENDING);
        assert_ok(ovl_socket_close(sharing.host.thread, sharing.socket));
        assert_int_equal(ovl_socket_close(sharing.host.thread, sharing.socket), -EBADF);
        assert_int_equal(client_recv(&sharing.host, sharing.socket, sharing.host.memory, 5, OVL_WANT_VERDICT, &late),
                         -EBADF);
        assert_int_equal(ovl_result(&first), -EINPROGRESS);
        peer_write(sharing.fd, "firstother", 10);
        client_expect(&sharing.host, &first, 0, 5);
        assert_memory_equal(sharing.host.memory, "first", 5);
        client_expect(&sharing.guest, &second, 0, 5);
        assert_memory_equal(sharing.guest.memory, "other", 5);
        assert_ok(client_send(&sharing.guest, sharing.joined, sharing.guest.memory, 5, 0, &third));
        client_expect(&sharing.guest, &third, 0, 5);
        peer_read(sharing.fd, sharing.host.memory, 5);
        assert_ok(ovl_socket_close(sharing.guest.thread, sharing.joined));
        peer_expect_end(sharing.fd);
        sharing_stop(&sharing);
}

/* What goes on after a close ends with its thread, and with the wish of its session; and it holds its region. */
static void sharing_closed_operations_can_be_ended(void **state) {
        struct ovl_overlapped mine[2] = { 0 }, its = { 0 }, to_port = { 0 };
        struct ovl_thread *thread;
        struct ovl_region *region;
        struct sharing sharing;
        struct ovl_port *port;
        struct ovl_buffer buffer;

        sharing_start(&sharing);
        assert_ok(ovl_thread_open(sharing.host.session, &thread, NULL));
        assert_ok(ovl_region_open(sharing.host.thread, 4096, &region));
        buffer = (struct ovl_buffer){ ovl_region_data(region), 8 };
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(client_recv(&sharing.host, sharing.socket, buffer.data, 8, OVL_WANT_VERDICT, &mine[i]),
                                 OVL_PENDING);
        assert_int_equal(ovl_recv(thread, sharing.socket, &buffer, 1, OVL_WANT_VERDICT, &its, NULL), OVL_PENDING);
        assert_ok(ovl_socket_close(sharing.host.thread, sharing.socket));
        assert_int_equal(ovl_cancel(sharing.host.thread, sharing.socket, &mine[0]), -EBADF);
        assert_int_equal(ovl_cancel(sharing.host.thread, 0, &mine[0]), 1);
        assert_int_equal(ovl_result(&mine[0]), -ECANCELED);
        assert_int_equal(ovl_result(&mine[1]), -EINPROGRESS);
        ovl_thread_close(thread);
        assert_int_equal(ovl_result(&its), -ECANCELED);
        assert_int_equal(ovl_result(&mine[1]), -EINPROGRESS);
        assert_int_equal(ovl_cancel_thread(sharing.host.thread, 0), 1);
        assert_int_equal(ovl_result(&mine[1]), -ECANCELED);
        assert_ok(ovl_region_close(sharing.host.thread, region));
        /* With a port, the thread may go and the packet still comes. */
        sharing.socket = client_join(&sharing.guest, sharing.joined, &sharing.host);
        assert_ok(ovl_port_open(sharing.host.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(sharing.host.thread, port, sharing.socket, 99));
        assert_ok(ovl_thread_open(sharing.host.session, &thread, NULL));
        buffer.data = sharing.host.memory;
        assert_int_equal(ovl_recv(thread, sharing.socket, &buffer, 1, OVL_WANT_VERDICT, &to_port, NULL), OVL_PENDING);
        assert_ok(ovl_socket_close(sharing.host.thread, sharing.socket));
        ovl_thread_close(thread);
        assert_int_equal(ovl_result(&to_port), -EINPROGRESS);
        /* The port is closed, and the session ends with it pending. */
        ovl_port_close(port);
        sharing_stop(&sharing);
}

/* An export needs the socket alone: also without operations that somebody else has left behind. */
static void sharing_export_waits_for_the_others(void **state) {
        struct ovl_overlapped first = { 0 };
        struct sharing sharing;
        int fd;

        sharing_start(&sharing);
        assert_int_equal(client_recv(&sharing.host, sharing.socket, sharing.host.memory, 5, OVL_WANT_VERDICT, &first),
                         OVL_PENDING);
        assert_int_equal(ovl_socket_export(sharing.guest.thread, sharing.joined, &fd), -EBUSY);
        assert_ok(ovl_socket_close(sharing.host.thread, sharing.socket));
        assert_int_equal(ovl_socket_export(sharing.guest.thread, sharing.joined, &fd), -EBUSY);
        assert_int_equal(ovl_cancel(sharing.host.thread, 0, &first), 1);
        /* The handle goes at the end of the turn. */
        while (ovl_socket_export(sharing.guest.thread, sharing.joined, &fd) == -EBUSY)
                ;
        peer_write(sharing.fd, "five!", 5);
        peer_read(fd, sharing.host.memory, 5);
        close(fd);
        sharing_stop(&sharing);
}

/* A prepared socket that its session closes stays prepared while another holds it. */
static void sharing_prepared_sockets_stay(void **state) {
        struct ovl_overlapped accepting = { 0 }, receiving = { 0 };
        struct sockaddr_storage address;
        uint64_t listener, prepared;
        struct sharing sharing;
        socklen_t len;
        int r;

        sharing_open(&sharing);
        listener = client_listen(&sharing.host, AF_INET, &address, &len);
        assert_ok(ovl_socket_open(sharing.host.thread, AF_INET, SOCK_STREAM, &prepared));
        sharing.joined = client_join(&sharing.host, prepared, &sharing.guest);
        assert_int_equal(ovl_accept_into(sharing.host.thread, listener, prepared, NULL, 0, NULL, OVL_WANT_VERDICT,
                                         &accepting, NULL),
                         OVL_PENDING);
        assert_ok(ovl_socket_close(sharing.host.thread, prepared));
        assert_int_equal(ovl_result(&accepting), -EINPROGRESS);
        sharing.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        r = connect(sharing.fd, (struct sockaddr *) &address, len);
        assert_int_equal(r, 0);
        client_expect(&sharing.host, &accepting, 0, 0);
        assert_int_equal(accepting.value, 0);
        assert_ok(client_recv(&sharing.guest, sharing.joined, sharing.guest.memory, 5, 0, &receiving));
        peer_write(sharing.fd, "guest", 5);
        client_expect(&sharing.guest, &receiving, 0, 5);
        sharing_stop(&sharing);
}

/* Waits until the worker has no other session: its operations have ended then. */
static void sharing_wait_alone(struct client *host) {
        struct ovl_status status;

        do
                assert_ok(ovl_status(host->thread, &status));
        while (status.sessions > 1);
}

static void sharing_cancel_ends_ones_own(void **state) {
        struct ovl_overlapped first = { 0 }, second = { 0 };
        struct sharing sharing;

        sharing_start(&sharing);
        assert_int_equal(client_recv(&sharing.host, sharing.socket, sharing.host.memory, 8, OVL_WANT_VERDICT, &first),
                         OVL_PENDING);
        assert_int_equal(
                client_recv(&sharing.guest, sharing.joined, sharing.guest.memory, 8, OVL_WANT_VERDICT, &second),
                OVL_PENDING);
        assert_int_equal(ovl_cancel(sharing.host.thread, 0, NULL), 1);
        assert_int_equal(ovl_result(&first), -ECANCELED);
        assert_int_equal(ovl_cancel(sharing.host.thread, 0, NULL), -ENOENT);
        assert_int_equal(ovl_cancel_thread(sharing.host.thread, 0), 0);
        assert_int_equal(ovl_result(&second), -EINPROGRESS);
        assert_int_equal(ovl_cancel_thread(sharing.guest.thread, 0), 1);
        assert_int_equal(ovl_result(&second), -ECANCELED);
        sharing_stop(&sharing);
}

/* A guest that goes without a word, its receive between two of the host's. */
static void sharing_session_end_leaves_the_other(void **state) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketJoin join = OVERLAPD__SOCKET_JOIN__INIT;
        struct ovl_overlapped first = { 0 }, third = { 0 };
        struct ovl_entry entry = { .op = OVL_OP_RECV, .n_slots = 1, .buffer = { 0, 4, 1 } };
        _cleanup_fd_ int memory_fd = raw_memfd(4096);
        struct ovl_ticket ticket;
        struct client host;
        struct raw *guest;
        uint64_t socket;
        int fd;

        client_start(&host);
        socket = client_pair(&host, AF_INET, &fd);
        guest = raw_open(&host.estate.daemon, 0);
        assert_int_equal(raw_region_add(guest, memory_fd, 4096), 1);
        assert_ok(ovl_socket_share(host.thread, socket, guest->session, &ticket));
        join.ticket = (ProtobufCBinaryData){ .len = sizeof(ticket.bytes), .data = ticket.bytes };
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_JOIN;
        request.socket_join = &join;
        assert_int_equal(raw_call(guest, &request, -1), 0);
        entry.socket = guest->reply->socket_taken->socket;
        assert_int_equal(guest->reply->socket_taken->family, AF_INET);
        assert_int_equal(guest->reply->socket_taken->type, SOCK_STREAM);
        assert_int_equal(client_recv(&host, socket, host.memory, 4, OVL_WANT_VERDICT, &first), OVL_PENDING);
        raw_post(guest, &entry, 1);
        assert_int_equal(raw_status(guest), 0);
        assert_int_equal(client_recv(&host, socket, host.memory + 4, 4, OVL_WANT_VERDICT, &third), OVL_PENDING);
        raw_close(guest);
        sharing_wait_alone(&host);
        peer_write(fd, "onlymine", 8);
        client_expect(&host, &first, 0, 4);
        client_expect(&host, &third, 0, 4);
        assert_memory_equal(host.memory, "onlymine", 8);
        close(fd);
        client_stop(&host);
}

/*
 * What an accept has replaced is held by its session until all that is pending on it has ended, also another session's.
 * That may be later than the session's own end: the monitor has it.
 */
static void sharing_session_end_waits_for_what_was_replaced(void **state) {
        struct ovl_overlapped accepting = { 0 }, watching = { 0 };
        struct sockaddr_storage address;
        uint64_t listener, prepared;
        struct sharing sharing;
        struct client *guest = &sharing.guest;
        pid_t monitor;
        socklen_t len;
        int r;

        sharing_open(&sharing);
        monitor = sharing.host.estate.daemon.monitor;
        listener = client_listen(&sharing.host, AF_INET, &address, &len);
        assert_ok(ovl_socket_open(sharing.host.thread, AF_INET, SOCK_STREAM, &prepared));
        sharing.joined = client_join(&sharing.host, prepared, guest);
        assert_int_equal(
                ovl_ioctl(guest->thread, sharing.joined, OVL_ADDRESS_LIST_CHANGE, OVL_WANT_VERDICT, &watching, NULL),
                OVL_PENDING);
        assert_int_equal(ovl_accept_into(sharing.host.thread, listener, prepared, NULL, 0, NULL, OVL_WANT_VERDICT,
                                         &accepting, NULL),
                         OVL_PENDING);
        assert_int_equal(kill(monitor, SIGSTOP), 0);
        sharing.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        r = connect(sharing.fd, (struct sockaddr *) &address, len);
        assert_int_equal(r, 0);
        client_expect(&sharing.host, &accepting, 0, 0);
        client_close(&sharing.host);
        assert_int_equal(ovl_result(&watching), -EINPROGRESS);
        assert_int_equal(kill(monitor, SIGCONT), 0);
        client_expect(guest, &watching, -ECANCELED, 0);
        sharing_wait_alone(guest);
        close(sharing.fd);
        client_stop(guest);
}

/* --- A process that is killed ----------------------------------------------------------------------------------- */

/* The guest in a process of its own: joins, posts receives between the host's, and waits to be killed. */
static void sharing_guest_main(struct client *guest, int from_host, int to_host) {
        static struct ovl_overlapped receiving[SHARING_N];
        uint64_t number, socket;
        struct ovl_ticket ticket;
        char go;

        client_open(guest, 0);
        number = client_number(guest);
        assert_int_equal(write(to_host, &number, sizeof(number)), sizeof(number));
        assert_int_equal(read(from_host, &ticket, sizeof(ticket)), sizeof(ticket));
        assert_ok(ovl_socket_join(guest->thread, &ticket, &socket));
        for (size_t i = 0; i < SHARING_N; i++) {
                assert_int_equal(read(from_host, &go, 1), 1);
                assert_int_equal(client_recv(guest, socket, guest->memory + i * SHARING_LEN, SHARING_LEN,
                                             OVL_WANT_VERDICT, &receiving[i]),
                                 OVL_PENDING);
                assert_int_equal(write(to_host, &go, 1), 1);
        }
        pause();
}

static pid_t sharing_fork(const struct client *host, int *ret_to, int *ret_from) {
        int to[2], from[2];
        pid_t pid;

        assert_int_equal(pipe(to), 0);
        assert_int_equal(pipe(from), 0);
        pid = fork();
        if (pid == 0) {
                struct client guest = { .estate = host->estate };

                close(to[1]);
                close(from[0]);
                sharing_guest_main(&guest, to[0], from[1]);
                _exit(1);
        }
        close(to[0]);
        close(from[1]);
        *ret_to = to[1];
        *ret_from = from[0];
        return pid;
}

static void sharing_survives_a_killed_guest(void **state) {
        static struct ovl_overlapped receiving[SHARING_N];
        _cleanup_fd_ int to = -1, from = -1, fd = -1;
        struct ovl_ticket ticket;
        struct client host;
        uint64_t socket, number;
        pid_t pid;

        client_start(&host);
        pid = sharing_fork(&host, &to, &from);
        socket = client_pair(&host, AF_INET, &fd);
        assert_int_equal(read(from, &number, sizeof(number)), sizeof(number));
        assert_ok(ovl_socket_share(host.thread, socket, number, &ticket));
        assert_int_equal(write(to, &ticket, sizeof(ticket)), sizeof(ticket));
        for (size_t i = 0; i < SHARING_N; i++) {
                char go = 'g';

                assert_int_equal(client_recv(&host, socket, host.memory + i * SHARING_LEN, SHARING_LEN,
                                             OVL_WANT_VERDICT, &receiving[i]),
                                 OVL_PENDING);
                assert_int_equal(write(to, &go, 1), 1);
                assert_int_equal(read(from, &go, 1), 1);
        }
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        sharing_wait_alone(&host);
        pattern_fill(host.memory + CLIENT_MEMORY / 2, SHARING_N * SHARING_LEN, 0);
        peer_write(fd, host.memory + CLIENT_MEMORY / 2, SHARING_N * SHARING_LEN);
        for (size_t i = 0; i < SHARING_N; i++)
                client_expect(&host, &receiving[i], 0, SHARING_LEN);
        pattern_check(host.memory, SHARING_N * SHARING_LEN, 0);
        client_stop(&host);
}

/* --- What is each session's own --------------------------------------------------------------------------------- */

static void sharing_ports_are_ones_own(void **state) {
        struct ovl_overlapped first = { 0 }, second = { 0 };
        struct ovl_packet packet;
        struct sharing sharing;
        struct ovl_port *port;

        sharing_start(&sharing);
        assert_ok(ovl_port_open(sharing.guest.session, 0, &port, NULL));
        assert_ok(ovl_port_associate(sharing.guest.thread, port, sharing.joined, 77));
        assert_int_equal(client_recv(&sharing.host, sharing.socket, sharing.host.memory, 1, OVL_WANT_VERDICT, &first),
                         OVL_PENDING);
        assert_int_equal(client_recv(&sharing.guest, sharing.joined, sharing.guest.memory, 1, 0, &second), OVL_PENDING);
        peer_write(sharing.fd, "ab", 2);
        client_expect(&sharing.host, &first, 0, 1);
        assert_int_equal(ovl_port_wait(port, sharing.guest.thread, &packet, 1, client_patience()), 1);
        assert_int_equal(packet.key, 77);
        assert_ptr_equal(packet.overlapped, &second);
        assert_int_equal(sharing.host.memory[0], 'a');
        assert_int_equal(sharing.guest.memory[0], 'b');
        ovl_port_close(port);
        sharing_stop(&sharing);
}

static void sharing_accepts_are_ones_own(void **state) {
        struct ovl_overlapped first = { 0 }, second = { 0 };
        struct sockaddr_storage address;
        struct sharing sharing;
        uint64_t listener;
        socklen_t len;
        int fds[2];

        sharing_open(&sharing);
        listener = client_listen(&sharing.host, AF_INET, &address, &len);
        sharing.joined = client_join(&sharing.host, listener, &sharing.guest);
        assert_int_equal(ovl_accept(sharing.host.thread, listener, OVL_WANT_VERDICT, &first, NULL), OVL_PENDING);
        assert_int_equal(ovl_accept(sharing.guest.thread, sharing.joined, OVL_WANT_VERDICT, &second, NULL),
                         OVL_PENDING);
        for (size_t i = 0; i < 2; i++) {
                fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                assert_int_equal(connect(fds[i], (struct sockaddr *) &address, len), 0);
                client_expect(i ? &sharing.guest : &sharing.host, i ? &second : &first, 0, 0);
        }
        assert_ok(ovl_socket_close(sharing.host.thread, first.value));
        peer_expect_end(fds[0]);
        assert_ok(ovl_socket_close(sharing.guest.thread, second.value));
        peer_expect_end(fds[1]);
        close(fds[1]);
        sharing.fd = fds[0];
        sharing_stop(&sharing);
}

/* --- Tickets ---------------------------------------------------------------------------------------------------- */

static void sharing_tickets_are_used_once(void **state) {
        struct client stranger;
        struct sharing sharing;
        struct ovl_ticket ticket, other;
        uint64_t socket;

        sharing_start(&sharing);
        stranger = sharing.host;
        client_open(&stranger, 0);
        assert_ok(ovl_socket_share(sharing.host.thread, sharing.socket, client_number(&sharing.guest), &ticket));
        assert_int_equal(ovl_socket_join(stranger.thread, &ticket, &socket), -ENOENT);
        assert_int_equal(ovl_socket_join(sharing.host.thread, &ticket, &socket), -ENOENT);
        other = ticket;
        other.bytes[15] ^= 1;
        assert_int_equal(ovl_socket_join(sharing.guest.thread, &other, &socket), -ENOENT);
        assert_int_equal(ovl_thread_error(sharing.guest.thread)->reason, OVL_REASON_UNKNOWN_TICKET);
        assert_ok(ovl_socket_join(sharing.guest.thread, &ticket, &socket));
        assert_int_equal(ovl_socket_join(sharing.guest.thread, &ticket, &socket), -ENOENT);
        client_close(&stranger);
        sharing_stop(&sharing);
}

static void sharing_tickets_end_with_the_socket(void **state) {
        struct sharing sharing;
        struct ovl_ticket ticket;
        uint64_t socket;

        sharing_start(&sharing);
        assert_ok(ovl_socket_share(sharing.host.thread, sharing.socket, client_number(&sharing.guest), &ticket));
        assert_ok(ovl_socket_close(sharing.host.thread, sharing.socket));
        assert_int_equal(ovl_socket_join(sharing.guest.thread, &ticket, &socket), -ENOENT);
        assert_int_equal(ovl_socket_share(sharing.host.thread, sharing.socket, client_number(&sharing.guest), &ticket),
                         -EBADF);
        /* The other session holds the same socket, and can let the first one in again. */
        socket = client_join(&sharing.guest, sharing.joined, &sharing.host);
        assert_ok(ovl_socket_close(sharing.guest.thread, sharing.joined));
        assert_ok(ovl_socket_close(sharing.host.thread, socket));
        peer_expect_end(sharing.fd);
        sharing_stop(&sharing);
}

static void sharing_tickets_are_limited(void **state) {
        struct sharing sharing;
        struct ovl_ticket ticket;
        uint64_t number;
        int r = 0, n = 0;

        sharing_start(&sharing);
        number = client_number(&sharing.guest);
        for (; r == 0 && n < 1000; n++)
                r = ovl_socket_share(sharing.host.thread, sharing.socket, number, &ticket);
        assert_int_equal(r, -EDQUOT);
        assert_int_equal(n, 65);
        /* With the session that was invited go its invitations. */
        client_close(&sharing.guest);
        do
                r = ovl_socket_share(sharing.host.thread, sharing.socket, number, &ticket);
        while (r == -EDQUOT);
        assert_int_equal(r, -ESRCH);
        assert_int_equal(ovl_thread_error(sharing.host.thread)->reason, OVL_REASON_UNKNOWN_SESSION);
        assert_non_null(strstr(ovl_thread_error(sharing.host.thread)->text, "one user and unit"));
        client_open(&sharing.guest, 0);
        client_join(&sharing.host, sharing.socket, &sharing.guest);
        sharing_stop(&sharing);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "receives of two sessions fill in posting order", sharing_receives_in_order },
                { "sends of two sessions leave in posting order", sharing_sends_in_order },
                { "closing leaves operations to go on", sharing_close_leaves_operations },
                { "what goes on after a close can be ended", sharing_closed_operations_can_be_ended },
                { "an export waits for what others left behind", sharing_export_waits_for_the_others },
                { "a prepared socket stays so for who else has it", sharing_prepared_sockets_stay },
                { "cancelling ends one's own operations", sharing_cancel_ends_ones_own },
                { "the end of a session leaves the other's operations", sharing_session_end_leaves_the_other },
                { "a session ends after what it has replaced", sharing_session_end_waits_for_what_was_replaced },
                { "a killed guest leaves the host's operations", sharing_survives_a_killed_guest },
                { "each session has its own port", sharing_ports_are_ones_own },
                { "who accepts gets the socket", sharing_accepts_are_ones_own },
                { "a ticket is good once, and for one session", sharing_tickets_are_used_once },
                { "a ticket ends with the socket", sharing_tickets_end_with_the_socket },
                { "tickets are limited, and end with who is invited", sharing_tickets_are_limited },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
