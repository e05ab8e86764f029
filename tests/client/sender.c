/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who sent a datagram: where the library lets the daemon write that, what it makes of it, and that whatever a daemon
 * writes there is either an address or the end of the session. Also the entries of sends to an address, and of polls.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/client/fake.h"

#define SENDER_SOCKET 5u

struct sender_case {
        struct fake fake;
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        uint8_t *data;
        struct sockaddr_storage from;
        socklen_t from_len;
        struct ovl_overlapped overlapped;
};

static void sender_start(struct sender_case *c) {
        memset(c, 0, sizeof(*c));
        fake_start(&c->fake);
        fake_open(&c->fake, &c->session, &c->thread, 65536, &c->region);
        c->data = ovl_region_data(c->region);
}

static void sender_stop(struct sender_case *c) {
        ovl_region_close(c->thread, c->region);
        ovl_thread_close(c->thread);
        ovl_session_free(c->session);
        fake_stop(&c->fake);
        unlink(c->fake.path);
}

/* Posts a receive with n buffers. Returns its entry, the n-th of all. */
static struct ovl_entry sender_receive(struct sender_case *c, size_t n_buffers, size_t n_entries) {
        struct ovl_buffer buffers[64];

        for (size_t i = 0; i < n_buffers; i++)
                buffers[i] = (struct ovl_buffer){ c->data + 100 * i, 10 };
        c->from_len = 77;
        assert_int_equal(ovl_recvfrom(c->thread, SENDER_SOCKET, buffers, n_buffers, 0, &c->from, &c->from_len,
                                      &c->overlapped, NULL),
                         OVL_PENDING);
        return fake_wait_entries(&c->fake, n_entries)->entry;
}

static void sender_end(struct sender_case *c, size_t n_entries, int status, unsigned flags, int result) {
        struct ovl_record record = fake_record(&c->fake, n_entries - 1, status, flags & OVL_RECORD_REFUSED ? 0 : 10);

        record.flags |= (uint16_t) flags;
        fake_send_records(&c->fake, 0, &record, 1);
        assert_int_equal(ovl_wait(c->thread, &c->overlapped, OVL_INFINITE, 0), 0);
        assert_int_equal(ovl_result(&c->overlapped), result);
}

static void sender_is_told(void **state) {
        static const struct ovl_address inet = { .family = OVL_FAMILY_INET, .port = 53, .host = { 192, 0, 2, 1 } };
        static const struct ovl_address path = { .family = OVL_FAMILY_UNIX, .path_len = 8, .host = "relative" };
        struct sockaddr_in *in;
        struct sockaddr_un *un;
        struct ovl_entry entry;
        struct sender_case c;

        sender_start(&c);
        in = (struct sockaddr_in *) &c.from;
        un = (struct sockaddr_un *) &c.from;
        entry = sender_receive(&c, 1, 1);
        assert_int_equal(entry.op, OVL_OP_RECVFROM);
        assert_int_equal(entry.n_slots, 1);
        assert_int_equal(entry.flags, 0);
        assert_int_equal(entry.aux.len, sizeof(struct ovl_address));
        /* Nobody's buffers lie there. */
        assert_true(entry.aux.region != entry.buffer.region && entry.aux.region != 0);
        fake_write_region(&c.fake, &entry.aux, &inet);
        sender_end(&c, 1, 0, 0, 0);
        assert_int_equal(c.from_len, sizeof(*in));
        assert_int_equal(in->sin_family, AF_INET);
        assert_int_equal(in->sin_port, htons(53));
        assert_int_equal(in->sin_addr.s_addr, inet_addr("192.0.2.1"));
        assert_int_equal(c.overlapped.flags & OVL_TRUNCATED, 0);

        /* With 64 buffers, and a datagram that was cut. Others bind to relative paths: that is told as it is. */
        entry = sender_receive(&c, 64, 2);
        assert_int_equal(entry.flags, OVL_ENTRY_VECTOR);
        assert_int_equal(entry.buffer.len, 64 * sizeof(struct ovl_slice));
        assert_true(entry.aux.region != entry.buffer.region || entry.aux.offset >= entry.buffer.offset + 1024);
        fake_write_region(&c.fake, &entry.aux, &path);
        sender_end(&c, 2, -EMSGSIZE, OVL_RECORD_TRUNCATED, -EMSGSIZE);
        assert_int_equal(c.overlapped.bytes, 10);
        assert_int_equal(c.overlapped.flags & OVL_TRUNCATED, OVL_TRUNCATED);
        assert_int_equal(un->sun_family, AF_UNIX);
        assert_int_equal(c.from_len, offsetof(struct sockaddr_un, sun_path) + 9);
        assert_string_equal(un->sun_path, "relative");
        sender_stop(&c);
}

/* Nobody is told: the sender has no address, no datagram came, or it was refused. What is in memory then is not read.
 */
static void sender_may_be_nobody(void **state) {
        struct ovl_address nobody = { 0 }, nonsense;
        struct ovl_entry entry;
        struct sender_case c;

        memset(&nonsense, 0xff, sizeof(nonsense));
        sender_start(&c);
        entry = sender_receive(&c, 1, 1);
        fake_write_region(&c.fake, &entry.aux, &nobody);
        sender_end(&c, 1, 0, 0, 0);
        assert_int_equal(c.from_len, 0);
        entry = sender_receive(&c, 1, 2);
        fake_write_region(&c.fake, &entry.aux, &nonsense);
        sender_end(&c, 2, -ECONNREFUSED, 0, -ECONNREFUSED);
        assert_int_equal(c.from_len, 0);
        entry = sender_receive(&c, 1, 3);
        fake_write_region(&c.fake, &entry.aux, &nonsense);
        sender_end(&c, 3, -EINVAL, OVL_RECORD_REFUSED, -EINVAL);
        assert_int_equal(c.from_len, 0);
        sender_stop(&c);
}

static void sender_must_be_an_address(void **state) {
        static const struct ovl_address malformed[] = {
                { .family = 3 },
                { .family = 255 },
                { .family = OVL_FAMILY_INET, .scope_id = 1 },
                { .family = OVL_FAMILY_INET, .path_len = 4 },
                { .family = OVL_FAMILY_INET, .host = { [4] = 1 } },
                { .family = OVL_FAMILY_INET6, .host = { [107] = 1 } },
                { .family = OVL_FAMILY_UNIX, .path_len = 0 },
                { .family = OVL_FAMILY_UNIX, .path_len = 109, .host = "/" },
                { .family = OVL_FAMILY_UNIX, .path_len = 255, .host = "/" },
                { .family = OVL_FAMILY_UNIX, .path_len = 4, .host = "/a\0b" },
        };

        for (size_t i = 0; i < HARNESS_N(malformed); i++) {
                struct ovl_entry entry;
                struct sender_case c;

                sender_start(&c);
                entry = sender_receive(&c, 1, 1);
                fake_write_region(&c.fake, &entry.aux, &malformed[i]);
                sender_end(&c, 1, i % 2 ? -EMSGSIZE : 0, i % 2 ? OVL_RECORD_TRUNCATED : 0, -ECONNABORTED);
                assert_int_equal(c.from_len, 0);
                assert_int_equal(ovl_dispatch(c.thread), -ECONNABORTED);
                assert_non_null(strstr(ovl_thread_error(c.thread)->text, "malformed address"));
                sender_stop(&c);
        }
}

/* Each receive in flight has a place of its own, and gives it back. */
static void sender_places_are_not_shared(void **state) {
        struct ovl_overlapped overlapped[200] = { 0 };
        struct sockaddr_storage from[200];
        socklen_t from_len[200];
        struct sender_case c;

        sender_start(&c);
        for (unsigned round = 0; round < 3; round++) {
                for (size_t i = 0; i < 200; i++)
                        assert_int_equal(ovl_recvfrom(c.thread, SENDER_SOCKET, &(struct ovl_buffer){ c.data + i, 1 }, 1,
                                                      0, &from[i], &from_len[i], &overlapped[i], NULL),
                                         OVL_PENDING);
                fake_wait_entries(&c.fake, 200 * (round + 1));
                for (size_t i = 0; i < 200; i++) {
                        struct ovl_address address = { .family = OVL_FAMILY_INET, .port = (uint16_t) (i + 1) };

                        fake_write_region(&c.fake, &c.fake.entries[200 * round + i].entry.aux, &address);
                }
                for (size_t i = 0; i < 200; i++) {
                        fake_complete(&c.fake, 200 * round + i, 0, 1);
                        assert_int_equal(ovl_wait(c.thread, &overlapped[i], OVL_INFINITE, 0), 0);
                        assert_int_equal(ovl_result(&overlapped[i]), 0);
                        assert_int_equal(((struct sockaddr_in *) &from[i])->sin_port, htons((uint16_t) (i + 1)));
                }
        }
        /* The caller's region, and places: for 64 and for 256 operations. */
        assert_int_equal(c.fake.n_regions, 3);
        sender_stop(&c);
}

static void sender_entries_of_others(void **state) {
        struct sockaddr_un name = { .sun_family = AF_UNIX, .sun_path = "\0log" };
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(53) };
        struct ovl_overlapped polling = { 0 };
        struct ovl_entry entry;
        struct sender_case c;
        int r;

        sender_start(&c);
        r = ovl_sendto(c.thread, SENDER_SOCKET, NULL, 0, 0, (struct sockaddr *) &name,
                       offsetof(struct sockaddr_un, sun_path) + 4, &c.overlapped, NULL);
        assert_int_equal(r, OVL_PENDING);
        entry = fake_wait_entries(&c.fake, 1)->entry;
        assert_int_equal(entry.op, OVL_OP_SENDTO);
        assert_int_equal(entry.n_slots, 3);
        assert_int_equal(entry.address.family, OVL_FAMILY_UNIX);
        assert_int_equal(entry.address.path_len, 4);
        assert_memory_equal(entry.address.host, "\0log\0", 5);
        assert_int_equal(entry.buffer.region, 0);
        fake_complete(&c.fake, 0, 0, 0);
        assert_int_equal(ovl_wait(c.thread, &c.overlapped, OVL_INFINITE, 0), 0);
        r = ovl_sendto(c.thread, SENDER_SOCKET, &(struct ovl_buffer){ c.data, 5 }, 1, 0, (struct sockaddr *) &address,
                       sizeof(address), &c.overlapped, NULL);
        assert_int_equal(r, OVL_PENDING);
        entry = fake_wait_entries(&c.fake, 2)->entry;
        assert_int_equal(entry.n_slots, 2);
        assert_int_equal(entry.address.port, 53);
        assert_int_equal(entry.buffer.len, 5);
        assert_int_equal(ovl_poll(c.thread, SENDER_SOCKET, POLLIN | POLLOUT, 0, &polling, NULL), OVL_PENDING);
        entry = fake_wait_entries(&c.fake, 3)->entry;
        assert_int_equal(entry.op, OVL_OP_POLL);
        assert_int_equal(entry.other, OVL_POLL_IN | OVL_POLL_OUT);
        assert_int_equal(entry.n_slots, 1);
        fake_complete(&c.fake, 1, 0, 5);
        fake_complete(&c.fake, 2, 0, 0);
        assert_int_equal(ovl_wait(c.thread, &polling, OVL_INFINITE, 0), 0);
        sender_stop(&c);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "told", sender_is_told, 0 },
                { "nobody", sender_may_be_nobody, 0 },
                { "malformed", sender_must_be_an_address, 0 },
                { "places", sender_places_are_not_shared, 0 },
                { "others", sender_entries_of_others, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
