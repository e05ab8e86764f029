/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A daemon that lies, and one that is lost. Whatever it sends, the library ends the session, every pending operation
 * ends once with -ECONNABORTED and is indicated once, every call returns, and nothing is touched that should not be.
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "proto/frame.h"
#include "proto/message.h"
#include "tests/client/fake.h"

#define HOSTILE_SOCKET 5u

/* A session with one operation of each kind of indication in flight. */
struct hostile_case {
        struct fake fake;
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        struct ovl_port *port;
        unsigned port_connection;
        struct ovl_overlapped plain;
        struct ovl_overlapped routine;
        struct ovl_overlapped packet;
        unsigned n_ran;
};

static void hostile_ran(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct hostile_case *c = overlapped->user;

        c->n_ran++;
}

static void hostile_start_at(struct hostile_case *c, bool is_inline) {
        struct ovl_buffer buffer;

        memset(c, 0, sizeof(*c));
        c->fake.is_inline = is_inline;
        fake_start(&c->fake);
        fake_open(&c->fake, &c->session, &c->thread, 65536, &c->region);
        assert_ok(ovl_port_open(c->session, 1, &c->port, NULL));
        c->port_connection = c->fake.n_connections - 1;
        assert_ok(ovl_port_associate(c->thread, c->port, HOSTILE_SOCKET, 1));
        buffer = (struct ovl_buffer){ ovl_region_data(c->region), 100 };
        c->routine.user = c;
        assert_int_equal(ovl_recv(c->thread, 1, &buffer, 1, 0, &c->plain, NULL), OVL_PENDING);
        assert_int_equal(ovl_recv(c->thread, 1, &buffer, 1, 0, &c->routine, hostile_ran), OVL_PENDING);
        assert_int_equal(ovl_recv(c->thread, HOSTILE_SOCKET, &buffer, 1, 0, &c->packet, NULL), OVL_PENDING);
        fake_wait_entries(&c->fake, 3);
}

static void hostile_start(struct hostile_case *c) {
        hostile_start_at(c, false);
}

/* Waits for the end, checks that it is complete, and that nothing works any more. */
static void hostile_check_gone(struct hostile_case *c) {
        struct ovl_packet packets[4];
        struct ovl_buffer buffer = { ovl_region_data(c->region), 100 };
        struct ovl_thread *thread;
        struct ovl_port *port;
        uint64_t socket;

        assert_int_equal(ovl_wait(c->thread, &c->plain, OVL_INFINITE, 0), 0);
        assert_int_equal(ovl_result(&c->plain), -ECONNABORTED);
        assert_int_equal(c->plain.reason, OVL_REASON_DAEMON_GONE);
        assert_int_equal(ovl_sleep(c->thread, OVL_INFINITE), OVL_ALERTED);
        assert_int_equal(c->n_ran, 1);
        assert_int_equal(ovl_result(&c->routine), -ECONNABORTED);
        assert_int_equal(ovl_port_wait(c->port, c->thread, packets, 4, OVL_INFINITE), 1);
        assert_ptr_equal(packets[0].overlapped, &c->packet);
        assert_int_equal(packets[0].status, -ECONNABORTED);
        assert_int_equal(ovl_port_wait(c->port, c->thread, packets, 4, OVL_INFINITE), -ECONNABORTED);
        assert_int_equal(ovl_sleep(c->thread, OVL_INFINITE), -ECONNABORTED);
        assert_int_equal(ovl_dispatch(c->thread), -ECONNABORTED);
        assert_int_equal(ovl_recv(c->thread, 1, &buffer, 1, 0, &c->plain, NULL), -ECONNABORTED);
        assert_int_equal(ovl_socket_open(c->thread, AF_INET, SOCK_STREAM, &socket), -ECONNABORTED);
        assert_int_equal(ovl_thread_error(c->thread)->reason, OVL_REASON_DAEMON_GONE);
        assert_int_equal(ovl_thread_open(c->session, &thread, NULL), -ECONNABORTED);
        assert_int_equal(ovl_port_open(c->session, 1, &port, NULL), -ECONNABORTED);
}

static void hostile_stop(struct hostile_case *c) {
        ovl_port_close(c->port);
        ovl_region_close(c->thread, c->region);
        ovl_thread_close(c->thread);
        ovl_session_free(c->session);
        fake_stop(&c->fake);
        unlink(c->fake.path);
}

/* --- Records ---------------------------------------------------------------------------------------------------- */

/* Sends one record that is wrong in one way, and demands the end. */
static void hostile_record(struct hostile_case *c, unsigned connection, struct ovl_record record) {
        fake_send_records(&c->fake, connection, &record, 1);
        hostile_check_gone(c);
        hostile_stop(c);
}

/* An honest record of the plain operation, before it is spoiled. The entry stays open. */
static struct ovl_record hostile_honest(struct hostile_case *c) {
        hostile_start(c);
        return fake_record(&c->fake, 0, 0, 10);
}

static void hostile_records(void **state) {
        struct hostile_case c;
        struct ovl_record record;

#define HOSTILE_SPOIL(change)                                                                                          \
        do {                                                                                                           \
                record = hostile_honest(&c);                                                                           \
                change;                                                                                                \
                hostile_record(&c, 0, record);                                                                         \
        } while (0)
        HOSTILE_SPOIL(record.tag = 0);
        HOSTILE_SPOIL(record.tag = UINT64_MAX);
        HOSTILE_SPOIL(record.tag += 1000);
        HOSTILE_SPOIL(record.tag |= UINT64_C(7) << 32);
        HOSTILE_SPOIL(record.tag += 1); /* another operation's */
        HOSTILE_SPOIL(record.thread++);
        HOSTILE_SPOIL(record.op = OVL_OP_SEND);
        HOSTILE_SPOIL(record.indication = OVL_INDICATE_ROUTINE);
        HOSTILE_SPOIL(record.bytes = 101);
        HOSTILE_SPOIL(record.bytes = UINT64_MAX);
        HOSTILE_SPOIL(record.status = 1);
        HOSTILE_SPOIL(record.status = INT32_MIN);
        HOSTILE_SPOIL(record.status = -EINPROGRESS);
        HOSTILE_SPOIL(record.flags = OVL_RECORD_REFUSED);
        HOSTILE_SPOIL(record.flags = OVL_RECORD_REFUSED; record.status = -EBADF); /* and yet 10 bytes */
        HOSTILE_SPOIL(record.payload_len = 10);
        HOSTILE_SPOIL(record.reserved = 1);
        HOSTILE_SPOIL(record.kind = OVL_RECORD_APC);
        HOSTILE_SPOIL(record.kind = OVL_RECORD_WAITING);
        HOSTILE_SPOIL(record.kind = OVL_RECORD_SETTLED; record.value = 4);
#undef HOSTILE_SPOIL
        /* To a port that it does not go to; through a port's channel without saying so. */
        record = hostile_honest(&c);
        record.flags = OVL_RECORD_PORT;
        record.indication = OVL_INDICATE_QUIET;
        hostile_record(&c, c.port_connection, record);
        record = hostile_honest(&c);
        hostile_record(&c, c.port_connection, record);
}

/* At the level inline bytes come behind the records: none that did not come are copied, also not behind a full frame.
 */
static void hostile_inline(void **state) {
        static const struct ovl_record spoiled[] = {
                { .status = 0, .bytes = 100 },
                { .status = -EBADF, .bytes = 100 },
                { .status = -EBADF, .bytes = 100, .flags = OVL_RECORD_REFUSED },
                { .status = -EMSGSIZE, .bytes = 100, .flags = OVL_RECORD_REFUSED | OVL_RECORD_TRUNCATED },
                { .status = -EBADF, .flags = OVL_RECORD_REFUSED, .payload_len = 64 },
        };
        static struct ovl_record
                records[(OVL_FRAME_RECORDS_MAX - sizeof(struct ovl_records_header)) / sizeof(struct ovl_record)];
        const size_t last = HARNESS_N(records) - 1;
        struct hostile_case c;

        for (size_t i = 0; i < HARNESS_N(spoiled); i++) {
                hostile_start_at(&c, true);
                memset(ovl_region_data(c.region), 'x', 100);
                for (size_t k = 0; k < last; k++)
                        records[k].kind = 77;
                records[last] = fake_record(&c.fake, 0, spoiled[i].status, spoiled[i].bytes);
                records[last].flags = spoiled[i].flags;
                records[last].payload_len = spoiled[i].payload_len;
                fake_send_records(&c.fake, 0, records, HARNESS_N(records));
                hostile_check_gone(&c);
                for (size_t k = 0; k < 100; k++)
                        assert_int_equal(((const char *) ovl_region_data(c.region))[k], 'x');
                hostile_stop(&c);
        }
}

/* A kind of record that a later version adds is no reason to distrust: it is ignored, whatever it says. */
static void hostile_later(void **state) {
        struct hostile_case c;
        struct ovl_record honest = hostile_honest(&c), records[2] = { honest, honest };

        records[0].kind = 77;
        records[0].bytes = UINT64_MAX;
        fake_send_records(&c.fake, 0, records, 2);
        assert_int_equal(ovl_wait(c.thread, &c.plain, OVL_INFINITE, 0), 0);
        assert_int_equal(ovl_result(&c.plain), 0);
        assert_int_equal(c.plain.bytes, 10);
        fake_hang_up(&c.fake, 0);
        assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
        hostile_stop(&c);
}

/* The second of two records for one operation finds nothing, and an old tag stays dead when its place is used again. */
static void hostile_doubled(void **state) {
        struct hostile_case c;
        struct ovl_record records[2];
        struct ovl_buffer buffer;

        hostile_start(&c);
        records[0] = fake_record(&c.fake, 0, 0, 10);
        records[1] = records[0];
        fake_send_records(&c.fake, 0, records, 1);
        assert_int_equal(ovl_wait(c.thread, &c.plain, OVL_INFINITE, 0), 0);
        assert_int_equal(ovl_result(&c.plain), 0);
        buffer = (struct ovl_buffer){ ovl_region_data(c.region), 100 };
        assert_int_equal(ovl_recv(c.thread, 1, &buffer, 1, 0, &c.plain, NULL), OVL_PENDING);
        fake_wait_entries(&c.fake, 4);
        fake_send_records(&c.fake, 0, &records[1], 1);
        hostile_check_gone(&c);
        hostile_stop(&c);
}

static void hostile_settled(void **state) {
        struct hostile_case c;

        /* Backwards. */
        hostile_start(&c);
        fake_settle(&c.fake, 0, 3);
        fake_settle(&c.fake, 0, 2);
        hostile_check_gone(&c);
        hostile_stop(&c);
        /* On a port. */
        hostile_start(&c);
        fake_settle(&c.fake, c.port_connection, 0);
        hostile_check_gone(&c);
        hostile_stop(&c);
}

/* --- Frames ----------------------------------------------------------------------------------------------------- */

static void hostile_bytes(const void *bytes, size_t len, bool hangs_up) {
        struct hostile_case c;

        hostile_start(&c);
        fake_send(&c.fake, 0, bytes, len);
        if (hangs_up)
                fake_hang_up(&c.fake, 0);
        hostile_check_gone(&c);
        hostile_stop(&c);
}

static void hostile_frames(void **state) {
        static const uint8_t frames[][24] = {
                { 0, 0, 0, 0, OVL_FRAME_RECORDS },                        /* no body */
                { 8, 0, 0, 0, OVL_FRAME_RECORDS },                        /* no records */
                { 8, 0, 0, 0, OVL_FRAME_RECORDS, 0, 0, 0, 1 },            /* a record that is not there */
                { 4, 0, 0, 0, OVL_FRAME_RECORDS, 0, 0, 0, 1 },            /* half a header */
                { 8, 0, 0, 0, OVL_FRAME_RECORDS, 0, 1, 0, 1 },            /* reserved bits */
                { 8, 0, 0, 0, OVL_FRAME_POST, 0, 0, 0, 1 },               /* a client's frame */
                { 255, 255, 255, 255, OVL_FRAME_RECORDS },                /* 4 GiB */
                { 1, 0, 2, 0, OVL_FRAME_RECORDS },                        /* a little too long */
                { 1, 0, 0, 0, OVL_FRAME_CONTROL, 1, 0, 0, 0 },            /* a descriptor that is not there */
                { 8, 0, 0, 0, 99, 0, 0, 0, 0 },                           /* an unknown kind */
                { 4, 0, 0, 0, OVL_FRAME_CONTROL, 0, 0, 0, 255, 255 },     /* no protobuf */
                { 4, 0, 0, 0, OVL_FRAME_CONTROL, 0, 0, 0, 10, 2, 8, 99 }, /* the reply to nothing */
        };

        for (size_t i = 0; i < HARNESS_N(frames); i++)
                hostile_bytes(frames[i], sizeof(frames[i]), false);
}

/* Cut by the end of the stream at every place: the operation of a cut record has ended like all others. */
static void hostile_cut(void **state) {
        struct hostile_case c;
        uint8_t frame[sizeof(struct ovl_frame_header) + sizeof(struct ovl_records_header) + sizeof(struct ovl_record)];

        for (size_t len = 0; len < sizeof(frame); len++) {
                struct ovl_records_header header = { .n_records = 1 };
                struct ovl_record record;

                hostile_start(&c);
                record = fake_record(&c.fake, 0, 0, 10);
                frame_pack_header(frame, OVL_FRAME_RECORDS, sizeof(header) + sizeof(record), 0);
                memcpy(frame + sizeof(struct ovl_frame_header), &header, sizeof(header));
                memcpy(frame + sizeof(struct ovl_frame_header) + sizeof(header), &record, sizeof(record));
                fake_send(&c.fake, 0, frame, len);
                fake_hang_up(&c.fake, 0);
                hostile_check_gone(&c);
                hostile_stop(&c);
        }
}

static uint64_t hostile_random(uint64_t *seed) {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        return *seed;
}

/* Honest frames with some bits turned over, and noise; whatever they mean, the library survives and nothing hangs. */
static void hostile_noise(void **state) {
        for (uint64_t round = 1; round <= 150; round++) {
                struct hostile_case c;
                struct ovl_record records[3];
                uint64_t seed = round * UINT64_C(0x9e3779b97f4a7c15);
                uint8_t bytes[512];
                size_t n = 0;

                hostile_start(&c);
                records[0] = fake_record(&c.fake, 0, 0, 10);
                records[1] = fake_record(&c.fake, 1, -ECONNRESET, 0);
                records[2] = (struct ovl_record){ .kind = OVL_RECORD_SETTLED, .value = 3 };
                frame_pack_header(bytes, OVL_FRAME_RECORDS, 8 + sizeof(records), 0);
                memset(bytes + 8, 0, 8);
                bytes[8] = 3;
                memcpy(bytes + 16, records, sizeof(records));
                n = 16 + sizeof(records);
                for (uint64_t flips = hostile_random(&seed) % 8; flips > 0; flips--) {
                        uint64_t bit = hostile_random(&seed) % (n * 8);

                        bytes[bit / 8] ^= (uint8_t) (1u << (bit % 8));
                }
                while (round % 3 == 0 && n < sizeof(bytes))
                        bytes[n++] = (uint8_t) hostile_random(&seed);
                fake_send(&c.fake, round % 2 ? 0 : c.port_connection, bytes, n);
                fake_hang_up(&c.fake, 0);
                assert_int_equal(ovl_wait(c.thread, &c.plain, OVL_INFINITE, 0), 0);
                while (ovl_sleep(c.thread, OVL_INFINITE) == OVL_ALERTED)
                        ;
                assert_int_equal(c.n_ran, 1);
                assert_int_not_equal(ovl_result(&c.packet), -EINPROGRESS);
                hostile_stop(&c);
        }
}

/* --- The loss of the daemon, in every state --------------------------------------------------------------------- */

static void hostile_gone_idle(void **state) {
        struct hostile_case c;

        for (unsigned connection = 0; connection < 2; connection++) {
                hostile_start(&c);
                fake_hang_up(&c.fake, connection);
                /* Found by whichever call looks first; a thread that does not wait for that channel looks at its own.
                 */
                fake_hang_up(&c.fake, 0);
                hostile_check_gone(&c);
                hostile_stop(&c);
        }
}

static void hostile_gone_notice(void **state) {
        Overlapd__FromDaemon from_daemon = OVERLAPD__FROM_DAEMON__INIT;
        Overlapd__Notice notice = OVERLAPD__NOTICE__INIT;
        struct hostile_case c;
        uint8_t body[256];
        size_t len;

        from_daemon.what_case = OVERLAPD__FROM_DAEMON__WHAT_NOTICE;
        from_daemon.notice = &notice;
        notice.closing = true;
        notice.text = (char *) "an administrator ended the session";
        len = overlapd__from_daemon__pack(&from_daemon, body);
        hostile_start(&c);
        fake_send_frame(&c.fake, 0, OVL_FRAME_CONTROL, body, len);
        fake_hang_up(&c.fake, 0);
        hostile_check_gone(&c);
        assert_non_null(strstr(ovl_thread_error(c.thread)->text, "an administrator ended the session"));
        hostile_stop(&c);
}

/* Hangs up once a request has come. */
static void *hostile_hang_up_later(void *argument) {
        struct hostile_case *c = argument;

        fake_wait_requests(&c->fake, OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN, 1);
        fake_hang_up(&c->fake, 0);
        return NULL;
}

static void hostile_gone_request(void **state) {
        struct hostile_case c;
        pthread_t thread;

        hostile_start(&c);
        fake_set(&c.fake, &c.fake.mute, OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN);
        pthread_create(&thread, NULL, hostile_hang_up_later, &c);
        assert_int_equal(ovl_listen(c.thread, 1, 1), -ECONNABORTED);
        pthread_join(thread, NULL);
        hostile_check_gone(&c);
        hostile_stop(&c);

        hostile_start(&c);
        fake_set(&c.fake, &c.fake.misanswer, OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN);
        assert_int_equal(ovl_listen(c.thread, 1, 1), -ECONNABORTED);
        hostile_check_gone(&c);
        hostile_stop(&c);
}

/* Answers a request with a reply in which some bits are turned over, and hangs up. */
struct hostile_reply {
        struct hostile_case *c;
        uint64_t seed;
        pthread_t thread;
};

static void *hostile_answer(void *argument) {
        struct hostile_reply *answer = argument;
        Overlapd__FromDaemon from_daemon = OVERLAPD__FROM_DAEMON__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        Overlapd__SocketNameReply name = OVERLAPD__SOCKET_NAME_REPLY__INIT;
        Overlapd__Address address = OVERLAPD__ADDRESS__INIT;
        uint8_t body[256], host[16] = { 1 };
        size_t len;

        from_daemon.what_case = OVERLAPD__FROM_DAEMON__WHAT_REPLY;
        from_daemon.reply = &reply;
        reply.id = 4; /* after the hello, the region and the association */
        reply.text = (char *) "text";
        reply.what_case = OVERLAPD__REPLY__WHAT_SOCKET_NAME;
        reply.socket_name = &name;
        name.address = &address;
        address.family = OVERLAPD__FAMILY__FAMILY_INET6;
        address.port = 80;
        address.host = (ProtobufCBinaryData){ .len = sizeof(host), .data = host };
        len = overlapd__from_daemon__pack(&from_daemon, body);
        for (uint64_t flips = hostile_random(&answer->seed) % 4; flips > 0; flips--) {
                uint64_t bit = hostile_random(&answer->seed) % (len * 8);

                body[bit / 8] ^= (uint8_t) (1u << (bit % 8));
        }
        fake_wait_requests(&answer->c->fake, OVERLAPD__REQUEST__WHAT_SOCKET_NAME, 1);
        fake_send_frame(&answer->c->fake, 0, OVL_FRAME_CONTROL, body, len);
        fake_hang_up(&answer->c->fake, 0);
        return NULL;
}

static void hostile_replies(void **state) {
        unsigned n_good = 0;

        for (uint64_t round = 1; round <= 150; round++) {
                struct hostile_case c;
                struct hostile_reply answer = { .c = &c, .seed = round * UINT64_C(0x9e3779b97f4a7c15) };
                struct sockaddr_storage name;
                socklen_t len = sizeof(name);
                int r;

                hostile_start(&c);
                fake_set(&c.fake, &c.fake.mute, OVERLAPD__REQUEST__WHAT_SOCKET_NAME);
                pthread_create(&answer.thread, NULL, hostile_answer, &answer);
                r = ovl_getsockname(c.thread, 1, (struct sockaddr *) &name, &len);
                pthread_join(answer.thread, NULL);
                assert_true(r <= 0);
                if (r == 0)
                        n_good++;
                else
                        assert_int_equal(ovl_thread_error(c.thread)->status, r);
                hostile_check_gone(&c);
                hostile_stop(&c);
        }
        /* The generator does what it should: some replies are whole, most are not. */
        assert_in_range(n_good, 10, 140);
}

struct hostile_waiter {
        struct hostile_case *c;
        pthread_t thread;
        enum {
                HOSTILE_SLEEP,
                HOSTILE_WAIT,
                HOSTILE_PORT,
        } how;
        int result;
};

static void *hostile_wait(void *argument) {
        struct hostile_waiter *waiter = argument;
        struct ovl_packet packet;
        struct ovl_thread *thread;
        int r;

        r = ovl_thread_open(waiter->c->session, &thread, NULL);
        if (r < 0) {
                waiter->result = r; /* the loss was faster */
                return NULL;
        }
        if (waiter->how == HOSTILE_SLEEP)
                waiter->result = ovl_sleep(thread, OVL_INFINITE);
        else if (waiter->how == HOSTILE_WAIT)
                waiter->result = ovl_wait(thread, &waiter->c->plain, OVL_INFINITE, 0);
        else
                waiter->result = ovl_port_wait(waiter->c->port, thread, &packet, 1, OVL_INFINITE);
        ovl_thread_close(thread);
        return NULL;
}

/* Several threads in different waits: each returns, and the only packet goes to one of those that wait for it. */
static void hostile_gone_waits(void **state) {
        for (unsigned round = 0; round < 20; round++) {
                struct hostile_waiter waiters[5];
                struct hostile_case c;
                unsigned n_packets = 0;

                hostile_start(&c);
                for (size_t i = 0; i < 5; i++) {
                        waiters[i] = (struct hostile_waiter){ .c = &c, .how = i % 3 };
                        pthread_create(&waiters[i].thread, NULL, hostile_wait, &waiters[i]);
                }
                fake_wait_requests(&c.fake, OVERLAPD__REQUEST__WHAT_ATTACH, round % 6 + 1);
                fake_hang_up(&c.fake, 0);
                assert_int_equal(ovl_wait(c.thread, &c.plain, OVL_INFINITE, 0), 0);
                for (size_t i = 0; i < 5; i++) {
                        pthread_join(waiters[i].thread, NULL);
                        if (waiters[i].result > 0)
                                n_packets++;
                        else if (waiters[i].result != 0 || waiters[i].how != HOSTILE_WAIT)
                                assert_int_equal(waiters[i].result, -ECONNABORTED);
                }
                assert_true(n_packets <= 1);
                assert_int_equal(ovl_sleep(c.thread, OVL_INFINITE), OVL_ALERTED);
                assert_int_equal(c.n_ran, 1);
                assert_int_equal(ovl_result(&c.packet), -ECONNABORTED);
                hostile_stop(&c);
        }
}

/* --- Descriptors ------------------------------------------------------------------------------------------------ */

/* How an export is answered. */
struct hostile_export {
        struct hostile_case *c;
        unsigned n_announced;
        unsigned n_fds; /* that come */
        int status;
};

/* Sends a frame with any number of descriptors, of which nothing is kept here. */
static void hostile_send_fds(struct fake *fake, const void *frame, size_t len, unsigned n_fds) {
        union {
                char bytes[CMSG_SPACE(4 * sizeof(int))];
                struct cmsghdr align;
        } control = { 0 };
        struct iovec part = { (void *) frame, len };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
        int fds[4];

        for (unsigned i = 0; i < n_fds; i++)
                fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (n_fds > 0) {
                message.msg_control = control.bytes;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
                CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
                CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, n_fds * sizeof(int));
        }
        assert_int_equal(sendmsg(fake->connections[0]->fd, &message, MSG_NOSIGNAL), len);
        for (unsigned i = 0; i < n_fds; i++)
                close(fds[i]);
}

static void *hostile_answer_export(void *argument) {
        struct hostile_export *answer = argument;
        Overlapd__FromDaemon from_daemon = OVERLAPD__FROM_DAEMON__INIT;
        Overlapd__Reply reply = OVERLAPD__REPLY__INIT;
        ssize_t len;
        void *frame;

        fake_wait_requests(&answer->c->fake, OVERLAPD__REQUEST__WHAT_SOCKET_EXPORT, 1);
        from_daemon.what_case = OVERLAPD__FROM_DAEMON__WHAT_REPLY;
        from_daemon.reply = &reply;
        reply.id = 4; /* after the hello, the region and the association */
        reply.status = answer->status;
        len = message_pack_frame(&from_daemon.base, answer->n_announced, &frame);
        assert_ok(len);
        hostile_send_fds(&answer->c->fake, frame, (size_t) len, answer->n_fds);
        free(frame);
        return NULL;
}

static int hostile_export(struct hostile_case *c, unsigned n_announced, unsigned n_fds, int status, int *ret_fd) {
        struct hostile_export answer = { c, n_announced, n_fds, status };
        pthread_t thread;
        int r;

        hostile_start(c);
        fake_set(&c->fake, &c->fake.mute, OVERLAPD__REQUEST__WHAT_SOCKET_EXPORT);
        pthread_create(&thread, NULL, hostile_answer_export, &answer);
        r = ovl_socket_export(c->thread, 1, ret_fd);
        pthread_join(thread, NULL);
        return r;
}

/* The harness counts what is left open. */
static void hostile_descriptors(void **state) {
        static const struct { unsigned n_announced, n_fds; } lies[] = { { 0, 1 }, { 1, 0 }, { 1, 2 }, { 0, 2 } };
        uint8_t settled[8 + 8 + 64] = { 72, 0, 0, 0, OVL_FRAME_RECORDS, 0, 0, 0, 1, [8 + 8 + 56] = OVL_RECORD_SETTLED };
        struct hostile_case c;
        struct ovl_status status;
        int fd = -1;

        assert_int_equal(hostile_export(&c, 1, 1, 0, &fd), 0);
        assert_true(fd >= 0);
        close(fd);
        assert_ok(ovl_status(c.thread, &status));
        hostile_send_fds(&c.fake, settled, sizeof(settled), 1);
        hostile_check_gone(&c);
        hostile_stop(&c);
        for (size_t i = 0; i < HARNESS_N(lies); i++) {
                assert_int_equal(hostile_export(&c, lies[i].n_announced, lies[i].n_fds, 0, &fd), -ECONNABORTED);
                hostile_check_gone(&c);
                hostile_stop(&c);
        }
}

static void hostile_no_descriptor(void **state) {
        struct hostile_case c;
        int fd = -1;

        /* A refusal, and an answer without a descriptor, are errors of the call alone. */
        assert_int_equal(hostile_export(&c, 0, 0, 0, &fd), -EPROTO);
        assert_ok(ovl_status(c.thread, &(struct ovl_status){ 0 }));
        fake_hang_up(&c.fake, 0);
        hostile_check_gone(&c);
        hostile_stop(&c);
        assert_int_equal(hostile_export(&c, 1, 1, -EBUSY, &fd), -EBUSY);
        assert_ok(ovl_status(c.thread, &(struct ovl_status){ 0 }));
        fake_hang_up(&c.fake, 0);
        hostile_check_gone(&c);
        hostile_stop(&c);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "records", hostile_records, 0 },
                { "inline", hostile_inline, 0 },
                { "later", hostile_later, 0 },
                { "doubled", hostile_doubled, 0 },
                { "settled", hostile_settled, 0 },
                { "frames", hostile_frames, 0 },
                { "cut", hostile_cut, 60 },
                { "noise", hostile_noise, 60 },
                { "gone-idle", hostile_gone_idle, 0 },
                { "gone-notice", hostile_gone_notice, 0 },
                { "gone-request", hostile_gone_request, 0 },
                { "replies", hostile_replies, 60 },
                { "gone-waits", hostile_gone_waits, 60 },
                { "descriptors", hostile_descriptors, 0 },
                { "no-descriptor", hostile_no_descriptor, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
