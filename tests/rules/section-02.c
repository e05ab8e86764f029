/* SPDX-License-Identifier: Apache-2.0 */

/* Section 2 of docs/SEMANTICS.md: the life of an overlapped structure. */

#include <stdlib.h>

#include "tests/rules/section.h"

static void section_02_what_is_the_programs_stays(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct ovl_event *event;
        struct section section;

        assert_int_equal(offsetof(struct ovl_overlapped, user), 0);
        assert_int_equal(offsetof(struct ovl_overlapped, event), 8);
        assert_int_equal(offsetof(struct ovl_overlapped, bytes), 16);
        assert_int_equal(offsetof(struct ovl_overlapped, value), 24);
        assert_int_equal(offsetof(struct ovl_overlapped, status), 32);
        assert_int_equal(offsetof(struct ovl_overlapped, flags), 36);
        assert_int_equal(offsetof(struct ovl_overlapped, reason), 38);
        assert_int_equal(sizeof(struct ovl_overlapped), 104);
        section_start(&section);
        assert_ok(ovl_event_open(section.client.session, 0, &event));
        receiving.event = event;
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &receiving, 0, 5);
        assert_ptr_equal(receiving.user, &section);
        assert_ptr_equal(receiving.event, event);
        ovl_event_close(event);
        section_stop(&section);
}

/* Under a cork nothing has left: the daemon cannot have written it. */
static void section_02_is_pending_before_it_leaves(void **state) {
        struct ovl_overlapped receiving = { .bytes = 0xdead };
        struct section section;

        section_start(&section);
        ovl_cork(section.client.thread);
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        assert_int_equal(ovl_result(&receiving), -EINPROGRESS);
        assert_int_equal(receiving.bytes, 0xdead);
        assert_ok(ovl_uncork(section.client.thread));
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &receiving, 0, 5);
        section_stop(&section);
}

/* --- Who sees the status sees all of it ------------------------------------------------------------------------- */

#define SECTION_02_BATCH 32u
#define SECTION_02_LEN 10u

/* The thread of the case posts and takes in; another one looks at nothing but the status, until it has changed. */
struct section_02 {
        struct section section;
        struct ovl_overlapped receiving[SECTION_02_BATCH];
        uint64_t n_posted; /* by the case: what was posted */
        uint64_t n_seen;   /* by the reader: what it has looked at */
        uint64_t n_wrong;  /* by the reader: of these, what was not all there */
        uint64_t n_all;
};

static char section_02_byte(uint64_t ordinal, unsigned place) {
        return (char) (ordinal * 7 + place);
}

/* Rounds: some in the suite, and as many as the environment says. */
static uint64_t section_02_rounds(void) {
        const char *text = getenv("OVL_TEST_ROUNDS");

        return text ? strtoull(text, NULL, 10) : 64 * SECTION_02_BATCH;
}

static bool section_02_is_whole(const struct section_02 *test, uint64_t ordinal) {
        const struct ovl_overlapped *receiving = &test->receiving[ordinal % SECTION_02_BATCH];
        const char *data = test->section.client.memory + ordinal % SECTION_02_BATCH * SECTION_02_LEN;

        if (receiving->bytes != SECTION_02_LEN || receiving->flags != 0 || receiving->reason != 0)
                return false;
        for (unsigned i = 0; i < SECTION_02_LEN; i++)
                if (data[i] != section_02_byte(ordinal, i))
                        return false;
        return true;
}

static void *section_02_read(void *data) {
        struct section_02 *test = data;

        for (uint64_t ordinal = 0; ordinal < test->n_all; ordinal++) {
                while (__atomic_load_n(&test->n_posted, __ATOMIC_ACQUIRE) <= ordinal)
                        ;
                while (ovl_result(&test->receiving[ordinal % SECTION_02_BATCH]) == -EINPROGRESS)
                        ;
                test->n_wrong += !section_02_is_whole(test, ordinal);
                __atomic_store_n(&test->n_seen, ordinal + 1, __ATOMIC_RELEASE);
        }
        return NULL;
}

/* One batch: the last of it sets an event, and that is after its status. */
static void section_02_receive(struct section_02 *test, uint64_t first, struct ovl_event *event) {
        struct section *section = &test->section;
        char sent[SECTION_02_BATCH * SECTION_02_LEN];

        memset(section->client.memory, 0x5a, sizeof(sent));
        ovl_cork(section->client.thread);
        for (unsigned i = 0; i < SECTION_02_BATCH; i++) {
                test->receiving[i].bytes = 0xdead;
                test->receiving[i].event = i + 1 == SECTION_02_BATCH ? event : NULL;
                assert_int_equal(section_recv(section, i, OVL_WAITALL, &test->receiving[i], NULL), OVL_PENDING);
                for (unsigned k = 0; k < SECTION_02_LEN; k++)
                        sent[i * SECTION_02_LEN + k] = section_02_byte(first + i, k);
        }
        assert_ok(ovl_uncork(section->client.thread));
        __atomic_store_n(&test->n_posted, first + SECTION_02_BATCH, __ATOMIC_RELEASE);
        peer_write(section->fd, sent, sizeof(sent));
        assert_int_equal(ovl_wait_events(section->client.thread, &event, 1, 0, client_patience(), 0, NULL), 0);
        assert_int_equal(ovl_result(&test->receiving[SECTION_02_BATCH - 1]), 0);
        while (__atomic_load_n(&test->n_seen, __ATOMIC_ACQUIRE) < first + SECTION_02_BATCH)
                ;
}

static void section_02_the_status_comes_last(void **state) {
        struct section_02 test = { .n_all = section_02_rounds() };
        struct ovl_event *event;
        pthread_t reader;

        section_start(&test.section);
        assert_ok(ovl_event_open(test.section.client.session, 0, &event));
        assert_int_equal(pthread_create(&reader, NULL, section_02_read, &test), 0);
        for (uint64_t first = 0; first < test.n_all; first += SECTION_02_BATCH)
                section_02_receive(&test, first, event);
        pthread_join(reader, NULL);
        assert_int_equal(test.n_wrong, 0);
        ovl_event_close(event);
        section_stop(&test.section);
}

/* ---------------------------------------------------------------------------------------------------------------- */

static void section_02_expect_poison(const struct section *section, size_t place) {
        for (size_t i = 0; i < 10; i++)
                assert_int_equal(section->client.memory[place * 10 + i], 0x5a);
}

/* While another takes what comes, and when it ends by a cancel. */
static void section_02_buffers_wait(void **state) {
        struct ovl_overlapped receiving[2] = { 0 };
        struct section section;

        section_start(&section);
        memset(section.client.memory, 0x5a, 20);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(section_recv(&section, i, OVL_WANT_VERDICT, &receiving[i], NULL), OVL_PENDING);
        section_02_expect_poison(&section, 0);
        peer_write(section.fd, "0123456789", 10);
        client_expect(&section.client, &receiving[0], 0, 10);
        assert_int_equal(ovl_wait(section.client.thread, &receiving[1], SECTION_NOTHING, 0), -ETIMEDOUT);
        section_02_expect_poison(&section, 1);
        assert_int_equal(ovl_cancel(section.client.thread, section.socket, &receiving[1]), 1);
        section_02_expect_poison(&section, 1);
        section_stop(&section);
}

/* The first goes on as if nothing had happened, and the structure is free afterwards. */
static void section_02_a_structure_is_used_once(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct section section;

        section_start(&section);
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, section_count), OVL_PENDING);
        assert_int_equal(section_recv(&section, 1, OVL_WANT_VERDICT, &receiving, section_count), -EBUSY);
        assert_int_equal(ovl_result(&receiving), -EINPROGRESS);
        peer_write(section.fd, "five!", 5);
        client_expect(&section.client, &receiving, 0, 5);
        /* Ended, and not indicated yet. */
        assert_int_equal(section_recv(&section, 1, OVL_WANT_VERDICT, &receiving, NULL), -EBUSY);
        assert_int_equal(ovl_sleep(section.client.thread, 0), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        assert_int_equal(section_recv(&section, 1, OVL_WANT_VERDICT, &receiving, NULL), OVL_PENDING);
        section_stop(&section);
}

/* What is lent is given back by the indication, and not by a close or a cancel that returns. */
static void section_02_a_close_gives_nothing_back(void **state) {
        struct ovl_overlapped *routine = calloc(1, sizeof(*routine)), *packet_of = calloc(1, sizeof(*packet_of));
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;
        uint64_t other;
        int fd;

        section_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        other = client_pair(&section.client, AF_INET, &fd);
        assert_ok(ovl_port_associate(section.client.thread, port, other, 3));
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, routine, section_count), OVL_PENDING);
        assert_int_equal(
                client_recv(&section.client, other, section.client.memory + 10, 10, OVL_WANT_VERDICT, packet_of),
                OVL_PENDING);
        assert_ok(ovl_socket_close(section.client.thread, section.socket));
        assert_ok(ovl_socket_close(section.client.thread, other));
        assert_int_equal(section.n_ran, 0);
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section.n_ran, 1);
        assert_int_equal(routine->status, -ECANCELED);
        free(routine);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, packet_of);
        assert_int_equal(packet_of->status, -ECANCELED);
        assert_int_equal(packet.key, 3);
        free(packet_of);
        /* Nothing comes after that. */
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, 0), -ETIMEDOUT);
        ovl_port_close(port);
        close(fd);
        section_stop(&section);
}

static void section_02_a_packet_finds_the_result(void **state) {
        struct ovl_overlapped receiving = { .bytes = 0xdead };
        struct ovl_packet packet;
        struct section section;
        struct ovl_port *port;

        section_start(&section);
        assert_ok(ovl_port_open(section.client.session, 1, &port, NULL));
        assert_ok(ovl_port_associate(section.client.thread, port, section.socket, 1));
        assert_int_equal(section_recv(&section, 0, 0, &receiving, NULL), OVL_PENDING);
        peer_write(section.fd, "five!", 5);
        assert_int_equal(ovl_port_wait(port, section.client.thread, &packet, 1, client_patience()), 1);
        assert_ptr_equal(packet.overlapped, &receiving);
        assert_int_equal(ovl_result(&receiving), 0);
        assert_int_equal(receiving.bytes, 5);
        ovl_port_close(port);
        section_stop(&section);
}

/* A bound datagram socket of the session, and an ordinary one that sends to it. */
static uint64_t section_02_datagrams(struct section *section, int *ret_fd) {
        struct sockaddr_storage ours;
        uint64_t socket_id;
        socklen_t len;

        assert_ok(ovl_socket_open(section->client.thread, AF_INET, SOCK_DGRAM, &socket_id));
        len = client_loopback(AF_INET, &ours);
        assert_ok(ovl_bind(section->client.thread, socket_id, (struct sockaddr *) &ours, len));
        len = sizeof(ours);
        assert_ok(ovl_getsockname(section->client.thread, socket_id, (struct sockaddr *) &ours, &len));
        *ret_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(*ret_fd, (struct sockaddr *) &ours, len), 0);
        return socket_id;
}

/* A datagram that was cut is an end, with its bytes; an error at the start is none. Both are known at once. */
static void section_02_a_warning_is_an_end(void **state) {
        struct ovl_overlapped polling = { 0 }, receiving = { 0 };
        struct ovl_event *event;
        struct section section;
        uint64_t socket_id;
        int fd;

        section_start(&section);
        socket_id = section_02_datagrams(&section, &fd);
        assert_ok(ovl_event_open(section.client.session, OVL_EVENT_MANUAL, &event));
        peer_write(fd, "0123456789", 10);
        assert_ok(ovl_poll(section.client.thread, socket_id, POLLIN, 0, &polling, NULL));
        assert_int_equal(client_await(&section.client, &polling), 0);
        receiving.event = event;
        assert_int_equal(
                client_recv(&section.client, socket_id, section.client.memory, 5, OVL_WANT_VERDICT, &receiving), 0);
        assert_int_equal(receiving.status, -EMSGSIZE);
        assert_int_equal(receiving.bytes, 5);
        assert_int_equal(receiving.flags, OVL_TRUNCATED);
        assert_int_equal(ovl_event_poll(event, NULL), 1);
        assert_ok(ovl_shutdown(section.client.thread, section.socket, SHUT_RD));
        assert_int_equal(section_recv(&section, 0, OVL_WANT_VERDICT, &receiving, NULL), -ESHUTDOWN);
        assert_int_equal(receiving.bytes, 5);
        assert_int_equal(ovl_event_poll(event, NULL), 0);
        close(fd);
        ovl_event_close(event);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "2.1 what the program wrote stays", section_02_what_is_the_programs_stays },
                { "2.2 the status says pending before the operation leaves", section_02_is_pending_before_it_leaves },
                { "2.4 who sees the status sees all of the result", section_02_the_status_comes_last, 1200 },
                { "2.5 while it is pending no buffer changes", section_02_buffers_wait },
                { "2.6 a structure in flight is refused", section_02_a_structure_is_used_once },
                { "2.7 what is lent comes back with the indication", section_02_a_close_gives_nothing_back },
                { "2.8 who takes the packet finds the result", section_02_a_packet_finds_the_result },
                { "2.9 a datagram that was cut is an end like others", section_02_a_warning_is_an_end },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
