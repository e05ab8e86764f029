/* SPDX-License-Identifier: Apache-2.0 */

/* Whatever a worker sends, each request has exactly one answer, and no descriptor stays. */

#include "daemon/monitor/connector.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/names.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"

#define CONNECTOR_ROUNDS 20000
#define CONNECTOR_KINDS 7

struct connector_fixture {
        sd_event *event;
        struct journal journal;
        struct outbox outbox;
        struct rulings rulings; /* of an instance of our own */
        struct rulings_client *own, *other;
        struct names names; /* whose resolver is never needed: addresses are names, too */
        struct connector connector;
        int ours;
        int theirs;
        unsigned seed;
        uint8_t answers[CONNECTOR_ROUNDS]; /* by ticket */
};

static void connector_set_up_rulings(struct connector_fixture *fixture) {
        static const char *const nowhere[] = { NULL };
        const struct rulings_source source = { .directories = nowhere, .is_own = true };
        struct listener_peer peer = { .fd = -1, .uid = geteuid() };
        char *errors;

        rulings_init(&fixture->rulings, &source, fixture->event, &fixture->journal);
        assert_ok(rulings_load(&fixture->rulings, &errors));
        assert_ok(rulings_ref(&fixture->rulings, &peer, 0, &fixture->own));
        peer.uid++;
        assert_ok(rulings_ref(&fixture->rulings, &peer, 0, &fixture->other));
}

static void connector_set_up(struct connector_fixture *fixture, unsigned n_max) {
        int pair[2];

        *fixture = (struct connector_fixture){ .seed = 20261122 };
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        fixture->ours = pair[0];
        fixture->theirs = pair[1];
        assert_ok(sd_event_new(&fixture->event));
        assert_ok(outbox_init(&fixture->outbox, fixture->event, fixture->ours));
        journal_init(&fixture->journal, JOURNAL_TO_STDERR, LOG_EMERG);
        connector_set_up_rulings(fixture);
        names_init(&fixture->names, fixture->event, &fixture->journal, &fixture->rulings);
        connector_init(&fixture->connector, fixture->event, &fixture->outbox, &fixture->journal, &fixture->rulings,
                       &fixture->names, n_max);
}

static void connector_tear_down(struct connector_fixture *fixture) {
        connector_deinit(&fixture->connector);
        names_deinit(&fixture->names);
        rulings_unref(fixture->own);
        rulings_unref(fixture->other);
        rulings_deinit(&fixture->rulings);
        outbox_deinit(&fixture->outbox);
        close(fixture->ours);
        close(fixture->theirs);
        sd_event_unref(fixture->event);
}

/* Lets the event loop do what is there, and counts the answers. */
static void connector_collect_answers(struct connector_fixture *fixture) {
        struct link_message message;
        int fd;

        while (sd_event_run(fixture->event, 0) > 0)
                ;
        while (link_receive(fixture->theirs, &message, &fd) == 1) {
                fd_close(fd);
                assert_int_equal(message.kind, LINK_ANSWER);
                assert_true(message.ticket < CONNECTOR_ROUNDS);
                assert_true(message.status <= 0);
                assert_true((message.status < 0) == (message.text[0] != '\0'));
                fixture->answers[message.ticket]++;
        }
}

static int connector_make_fd(int kind) {
        switch (kind) {
        case 0:
                return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        case 1:
                return socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        case 2:
                return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        case 3:
                return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        case 4:
                return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        case 5:
                return memfd_create("connector", MFD_CLOEXEC);
        default:
                return open("/", O_PATH | O_CLOEXEC);
        }
}

/* Mostly the loopback, sometimes nonsense; never an address outside this machine. */
static void connector_make_address(struct connector_fixture *fixture, struct ovl_address *ret_address) {
        *ret_address = (struct ovl_address){ .port = (uint16_t) (rand_r(&fixture->seed) % 65536) };
        switch (rand_r(&fixture->seed) % 4) {
        case 0:
                ret_address->family = OVL_FAMILY_INET;
                ret_address->host[0] = 127;
                ret_address->host[3] = 1;
                break;
        case 1:
                ret_address->family = OVL_FAMILY_INET6;
                ret_address->host[15] = 1;
                break;
        case 2:
                ret_address->family = OVL_FAMILY_UNIX;
                ret_address->path_len = (uint8_t) rand_r(&fixture->seed);
                memset(ret_address->host, 'x', sizeof(ret_address->host));
                break;
        default:
                for (size_t i = 0; i < sizeof(*ret_address); i++)
                        ((uint8_t *) ret_address)[i] = (uint8_t) rand_r(&fixture->seed);
                ret_address->family = (uint8_t) (100 + rand_r(&fixture->seed) % 100);
        }
}

/* Names that are addresses, or that are none, with ports, services and times of any kind. */
static void connector_make_name(struct connector_fixture *fixture, struct link_message *message) {
        static const char *const names[] = { "127.0.0.1", "::1",       "127.9.9.9", "::ffff:127.0.0.1",
                                             "",          "two words", "\x01" };
        static const char *const services[] = { "", "", "", "two words", "http" };
        int chance = rand_r(&fixture->seed) % 20;

        message->body.by_name.port = (uint16_t) (1 + rand_r(&fixture->seed) % 65535);
        message->body.by_name.timeout_ms = rand_r(&fixture->seed) % 2 ? (uint32_t) rand_r(&fixture->seed) : 0;
        strcpy(message->text, names[rand_r(&fixture->seed) % 7]);
        strcpy(message->body.by_name.service, services[rand_r(&fixture->seed) % 5]);
        if (chance == 0) {
                memset(message->text, 'a', sizeof(message->text) - 1);
        } else if (chance == 1) {
                message->body.by_name.port = 0;
                memset(message->body.by_name.service, 'a', sizeof(message->body.by_name.service));
        } else if (chance == 2) {
                message->body.by_name.port = 0;
                message->body.by_name.service[0] = '\0';
        }
}

static void connector_make_message(struct connector_fixture *fixture, uint64_t ticket,
                                   struct link_message *ret_message) {
        static const uint32_t kinds[] = { LINK_SOCKET,  LINK_BIND,   LINK_LISTEN,
                                          LINK_CONNECT, LINK_CANCEL, LINK_CONNECT_NAME };

        memset(ret_message, 0, sizeof(*ret_message));
        ret_message->kind = kinds[rand_r(&fixture->seed) % 6];
        ret_message->ticket = ticket;
        if (ret_message->kind == LINK_SOCKET) {
                ret_message->body.socket.family = rand_r(&fixture->seed) % 12;
                ret_message->body.socket.type = rand_r(&fixture->seed) % 3;
        } else if (ret_message->kind == LINK_LISTEN) {
                ret_message->body.listen.backlog = (uint32_t) rand_r(&fixture->seed) * 3;
        } else if (ret_message->kind == LINK_CONNECT_NAME) {
                connector_make_name(fixture, ret_message);
        } else {
                connector_make_address(fixture, &ret_message->body.name.address);
        }
}

static void connector_answers_each_request_once(void **state) {
        static struct connector_fixture fixture;
        struct connector_client client = { 0 };
        const char *problem;

        connector_set_up(&fixture, CONNECTOR_CONNECTS_MAX);
        client.rulings = fixture.own;
        for (uint64_t ticket = 0; ticket < CONNECTOR_ROUNDS; ticket++) {
                struct link_message message;
                _cleanup_fd_ int fd = -1;
                unsigned before, after;
                int r;

                connector_make_message(&fixture, ticket, &message);
                if (rand_r(&fixture.seed) % 8 != 0)
                        fd = connector_make_fd(rand_r(&fixture.seed) % (CONNECTOR_KINDS * 2) % CONNECTOR_KINDS);
                if (fd >= 0 && (message.kind == LINK_SOCKET || message.kind == LINK_CANCEL))
                        fd = rand_r(&fixture.seed) % 4 ? fd_close(fd) : fd;
                r = connector_handle(&fixture.connector, &message, fd, &client, &problem);
                connector_collect_answers(&fixture);
                before = r == 0 && message.kind != LINK_CANCEL;
                after = fixture.answers[ticket];
                assert_true(r == 0 || r == -EBADMSG);
                if ((message.kind == LINK_CONNECT || message.kind == LINK_CONNECT_NAME) && before && after == 0)
                        assert_true(fixture.connector.n_connects > 0);
                else
                        assert_int_equal(after, before);
        }
        assert_int_equal(fixture.connector.n_connects, 0);
        connector_tear_down(&fixture);
}

/* Passes one request on and returns its answer's status. */
static int connector_ask(struct connector_fixture *fixture, const struct connector_client *client, uint32_t kind,
                         int fd, const struct ovl_address *address, struct link_message *ret_answer) {
        struct link_message message = { .kind = kind };
        const char *problem;
        int none;

        message.body.name.address = *address;
        assert_ok(connector_handle(&fixture->connector, &message, fd, client, &problem));
        while (sd_event_run(fixture->event, 0) > 0)
                ;
        assert_int_equal(link_receive(fixture->theirs, ret_answer, &none), 1);
        return ret_answer->status;
}

/* Unix sockets are reached with the daemon's rights: nobody else's client may name one, whatever a worker says. */
static void connector_keeps_unix_sockets_to_its_user(void **state) {
        static struct connector_fixture fixture;
        struct connector_client own = { .is_known = true, .uid = geteuid() };
        struct connector_client other = { .is_known = true, .uid = geteuid() + 1 }, unknown = { .uid = geteuid() };
        struct ovl_address name = { .family = OVL_FAMILY_UNIX, .path_len = 12 }, relative = name, none = name;
        static const int kinds[] = { SOCK_STREAM, SOCK_DGRAM };
        struct link_message answer;

        connector_set_up(&fixture, CONNECTOR_CONNECTS_MAX);
        own.rulings = fixture.own;
        other.rulings = fixture.other;
        snprintf((char *) name.host + 1, 12, "ovl-%07u", (unsigned) getpid() % 10000000);
        memcpy(relative.host, "some/relativ", 12);
        none.path_len = 0;
        for (size_t i = 0; i < 2; i++) {
                _cleanup_fd_ int fd = socket(AF_UNIX, kinds[i] | SOCK_CLOEXEC, 0);
                _cleanup_fd_ int second = socket(AF_UNIX, kinds[i] | SOCK_CLOEXEC, 0);
                _cleanup_fd_ int third = socket(AF_UNIX, kinds[i] | SOCK_CLOEXEC, 0);

                assert_int_equal(connector_ask(&fixture, &other, LINK_BIND, fd, &name, &answer), -EACCES);
                assert_int_equal(answer.reason, OVL_REASON_DENIED);
                assert_non_null(strstr(answer.text, "the policy does not allow this: no rule allows it"));
                assert_int_equal(connector_ask(&fixture, &other, LINK_BIND, fd, &none, &answer), -EACCES);
                assert_int_equal(connector_ask(&fixture, &unknown, LINK_BIND, fd, &name, &answer), -EACCES);
                assert_int_equal(connector_ask(&fixture, &own, LINK_BIND, fd, &relative, &answer), -EINVAL);
                assert_int_equal(answer.reason, OVL_REASON_BAD_ADDRESS);
                assert_non_null(strstr(answer.text, "begin it with /"));
                assert_int_equal(connector_ask(&fixture, &own, LINK_BIND, fd, &name, &answer), 0);
                if (kinds[i] == SOCK_STREAM)
                        assert_int_equal(listen(fd, 1), 0);
                assert_int_equal(connector_ask(&fixture, &other, LINK_CONNECT, second, &name, &answer), -EACCES);
                assert_int_equal(connector_ask(&fixture, &unknown, LINK_CONNECT, second, &name, &answer), -EACCES);
                assert_int_equal(connector_ask(&fixture, &own, LINK_CONNECT, second, &none, &answer), -EINVAL);
                assert_int_equal(connector_ask(&fixture, &own, LINK_CONNECT, second, &name, &answer), 0);
                assert_int_equal(connector_ask(&fixture, &own, LINK_BIND, third, &none, &answer), 0);
        }
        connector_tear_down(&fixture);
}

/* A listener whose queue is full: connects to it stay in progress. */
static int connector_stall(struct sockaddr_in *ret_name, int fillers[3]) {
        socklen_t len = sizeof(*ret_name);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        *ret_name = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        assert_int_equal(bind(fd, (struct sockaddr *) ret_name, len), 0);
        assert_int_equal(listen(fd, 0), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *) ret_name, &len), 0);
        for (int i = 0; i < 3; i++) {
                fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                assert_true(connect(fillers[i], (struct sockaddr *) ret_name, len) == 0 || errno == EINPROGRESS);
        }
        return fd;
}

static void connector_limits_connects(void **state) {
        static struct connector_fixture fixture;
        struct link_message message = { .kind = LINK_CONNECT };
        struct connector_client client = { .is_known = true, .is_exempt = true, .unit = "test.service" };
        struct sockaddr_in name;
        int fillers[3], stalled_fd = connector_stall(&name, fillers), n_fds;
        const char *problem;

        connector_set_up(&fixture, 5);
        client.rulings = fixture.own;
        n_fds = process_count_fds(getpid());
        message.body.name.address = (struct ovl_address){ .family = OVL_FAMILY_INET, .port = ntohs(name.sin_port) };
        memcpy(message.body.name.address.host, &name.sin_addr, 4);
        for (message.ticket = 0; message.ticket < 6; message.ticket++) {
                _cleanup_fd_ int fd = connector_make_fd(0);

                assert_ok(connector_handle(&fixture.connector, &message, fd, &client, &problem));
        }
        assert_int_equal(fixture.connector.n_connects, 5);
        assert_int_equal(process_count_fds(getpid()), n_fds + 5);
        connector_collect_answers(&fixture);
        assert_int_equal(fixture.answers[5], 1);
        message.kind = LINK_CANCEL;
        for (message.ticket = 0; message.ticket < 3; message.ticket++)
                assert_ok(connector_handle(&fixture.connector, &message, -1, &client, &problem));
        connector_collect_answers(&fixture);
        for (int i = 0; i < 6; i++)
                assert_int_equal(fixture.answers[i], i < 3 || i == 5);
        assert_int_equal(fixture.connector.n_connects, 2);
        connector_deinit(&fixture.connector);
        assert_int_equal(process_count_fds(getpid()), n_fds);
        connector_tear_down(&fixture);
        close(stalled_fd);
        for (int i = 0; i < 3; i++)
                close(fillers[i]);
}

/* However many a user wants, there is room for the next one; and none for more than there is room for. */
static void connector_shares_connects(void **state) {
        static struct connector_fixture fixture;
        struct link_message message = { .kind = LINK_CONNECT };
        struct connector_client client = { .is_known = true, .unit = "test.service" };
        unsigned made[3] = { 0 };
        struct sockaddr_in name;
        int fillers[3], stalled_fd = connector_stall(&name, fillers);
        const char *problem;

        connector_set_up(&fixture, 16);
        client.rulings = fixture.own;
        message.body.name.address = (struct ovl_address){ .family = OVL_FAMILY_INET, .port = ntohs(name.sin_port) };
        memcpy(message.body.name.address.host, &name.sin_addr, 4);
        for (client.uid = 0; client.uid < 3; client.uid++)
                for (unsigned i = 0; i < 20; i++) {
                        _cleanup_fd_ int fd = connector_make_fd(0);

                        message.ticket++;
                        assert_ok(connector_handle(&fixture.connector, &message, fd, &client, &problem));
                        connector_collect_answers(&fixture);
                        made[client.uid] += fixture.answers[message.ticket] == 0;
                }
        assert_int_equal(made[0], 8);
        assert_int_equal(made[1], 4);
        assert_int_equal(made[2], 2);
        connector_tear_down(&fixture);
        close(stalled_fd);
        for (int i = 0; i < 3; i++)
                close(fillers[i]);
}

/* A Unix listener that takes nobody costs the monitor less and less, and is reached when it has room. */
static void connector_waits_for_room(void **state) {
        static struct connector_fixture fixture;
        struct link_message message = { .kind = LINK_CONNECT };
        struct connector_client client = { .is_known = true };
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        uint64_t until_ns = now_ns() + NS_PER_S;
        int listener_fd = connector_make_fd(3), filler_fd = connector_make_fd(3), fd = connector_make_fd(3);
        unsigned n_events = 0;
        const char *problem;

        connector_set_up(&fixture, 5);
        client.rulings = fixture.own;
        snprintf(name.sun_path, sizeof(name.sun_path), "%s/full", harness_directory());
        assert_int_equal(bind(listener_fd, (struct sockaddr *) &name, sizeof(name)), 0);
        assert_int_equal(listen(listener_fd, 0), 0);
        assert_int_equal(connect(filler_fd, (struct sockaddr *) &name, sizeof(name)), 0);
        message.ticket = 1;
        message.body.name.address =
                (struct ovl_address){ .family = OVL_FAMILY_UNIX, .path_len = (uint8_t) strlen(name.sun_path) };
        memcpy(message.body.name.address.host, name.sun_path, strlen(name.sun_path));
        assert_ok(connector_handle(&fixture.connector, &message, fd, &client, &problem));
        while (now_ns() < until_ns)
                n_events += sd_event_run(fixture.event, 10000) > 0;
        assert_int_equal(fixture.connector.n_connects, 1);
        assert_in_range(n_events, 1, 8);
        fd_close(accept(listener_fd, NULL, NULL));
        while (fixture.connector.n_connects > 0)
                assert_ok(sd_event_run(fixture.event, UINT64_MAX));
        connector_collect_answers(&fixture);
        assert_int_equal(fixture.answers[1], 1);
        close(fd);
        close(filler_fd);
        close(listener_fd);
        connector_tear_down(&fixture);
}

/* A connection of which nobody takes what was sent, and that lingers for it. */
static int connector_make_lingering(int *ret_listener_fd) {
        struct linger linger = { .l_onoff = 1, .l_linger = 600 };
        struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t len = sizeof(name);
        int listener_fd = connector_make_fd(0), fd = connector_make_fd(0);
        char bytes[65536] = { 0 };

        assert_int_equal(bind(listener_fd, (struct sockaddr *) &name, len), 0);
        assert_int_equal(listen(listener_fd, 1), 0);
        assert_int_equal(getsockname(listener_fd, (struct sockaddr *) &name, &len), 0);
        assert_int_equal(connect(fd, (struct sockaddr *) &name, len), 0);
        while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
                ;
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
        *ret_listener_fd = listener_fd;
        return fd;
}

static void connector_does_not_linger(void **state) {
        int listener_fd, fd = connector_make_lingering(&listener_fd);

        assert_int_equal(link_close(fd), -1);
        close(listener_fd);
}

/* Sends a packet, and leaves its descriptors to whoever receives it. */
static void connector_give(int link_fd, size_t len, const int *take_fds, size_t n_fds) {
        union {
                char bytes[CMSG_SPACE(2 * sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct link_message message = { .kind = LINK_BIND };
        struct iovec part = { &message, len };
        struct msghdr packet = { .msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = CMSG_SPACE(n_fds * sizeof(int)) };

        *CMSG_FIRSTHDR(&packet) = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                                    .cmsg_type = SCM_RIGHTS,
                                                    .cmsg_len = CMSG_LEN(n_fds * sizeof(int)) };
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&packet)), take_fds, n_fds * sizeof(int));
        assert_int_equal(sendmsg(link_fd, &packet, 0), len);
        for (size_t i = 0; i < n_fds; i++)
                close(take_fds[i]);
}

/* What came with a packet that is refused, or behind its first descriptor, is closed where it is received. */
static void connector_link_does_not_linger(void **state) {
        const size_t lens[] = { sizeof(struct link_message), 4, 0 };
        int n_fds = process_count_fds(getpid());

        for (size_t i = 0; i < HARNESS_N(lens); i++) {
                bool is_whole = lens[i] == sizeof(struct link_message);
                int link[2], listener_fd, fd = -1, fds[2];
                struct link_message message;
                size_t n = 0;

                assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link), 0);
                if (is_whole)
                        fds[n++] = connector_make_fd(0);
                fds[n++] = connector_make_lingering(&listener_fd);
                connector_give(link[0], lens[i], fds, n);
                assert_int_equal(link_receive(link[1], &message, &fd) > 0, is_whole);
                link_close(fd);
                close(link[0]);
                close(link[1]);
                close(listener_fd);
                assert_int_equal(process_count_fds(getpid()), n_fds);
        }
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "each request is answered once, whatever it holds", connector_answers_each_request_once, 60 },
                { "Unix sockets are for the daemon's own user", connector_keeps_unix_sockets_to_its_user },
                { "connects are limited, and cancelled one by one", connector_limits_connects },
                { "connects are shared among users", connector_shares_connects },
                { "a full Unix listener is tried less and less often", connector_waits_for_room },
                { "closing does not linger", connector_does_not_linger },
                { "receiving does not linger", connector_link_does_not_linger },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
