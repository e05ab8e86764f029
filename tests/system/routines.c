/* SPDX-License-Identifier: Apache-2.0 */

/* How completions are indicated without a port: routines in the thread that posted, verdicts, polled results. */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/system/client.h"

/* What a routine finds through its overlapped structure. */
struct routines {
        struct client client;
        uint64_t socket;
        int fd;
        pthread_t poster;
        struct ovl_overlapped receiving[16];
        size_t order[64]; /* which of them were indicated, in order */
        size_t n;
        size_t depth;
        struct routines *other; /* a second socket of the same thread */
        struct ovl_overlapped extra;
};

static void routines_note(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct routines *routines = overlapped->user;

        assert_true(pthread_equal(pthread_self(), routines->poster));
        assert_ptr_equal(thread, routines->client.thread);
        assert_int_equal(routines->depth, 0);
        routines->order[routines->n++] = (size_t) (overlapped - routines->receiving);
}

static void routines_start(struct routines *routines) {
        client_start(&routines->client);
        routines->socket = client_pair(&routines->client, AF_INET, &routines->fd);
        routines->poster = pthread_self();
}

static void routines_stop(struct routines *routines) {
        close(routines->fd);
        client_stop(&routines->client);
}

static void routines_receive(struct routines *routines, size_t i, size_t len,
                             void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct ovl_buffer buffer = { routines->client.memory + i * 100, len };

        routines->receiving[i].user = routines;
        assert_int_equal(
                ovl_recv(routines->client.thread, routines->socket, &buffer, 1, 0, &routines->receiving[i], routine),
                OVL_PENDING);
}

/* --- Routines --------------------------------------------------------------------------------------------------- */

static void routines_run_in_order_in_alertable_waits(void **state) {
        struct routines routines = { 0 };

        routines_start(&routines);
        for (size_t i = 0; i < 16; i++)
                routines_receive(&routines, i, 1, routines_note);
        peer_write(routines.fd, "0123456789abcdef", 16);
        /* Neither a dispatch nor a wait that is not alertable runs them. */
        assert_int_equal(client_await(&routines.client, &routines.receiving[15]), 0);
        assert_int_equal(routines.n, 0);
        assert_int_equal(ovl_sleep(routines.client.thread, 0), OVL_ALERTED);
        assert_int_equal(routines.n, 16);
        for (size_t i = 0; i < 16; i++) {
                assert_int_equal(routines.order[i], i);
                assert_int_equal(routines.client.memory[i * 100], "0123456789abcdef"[i]);
        }
        assert_int_equal(ovl_sleep(routines.client.thread, 0), 0);
        assert_int_equal(ovl_sleep(routines.client.thread, NS_PER_MS), 0);
        routines_stop(&routines);
}

static void *routines_dispatch_elsewhere(void *data) {
        struct routines *routines = data;
        struct pollfd look = { .fd = ovl_thread_fd(routines->client.thread), .events = POLLIN };

        while (ovl_result(&routines->receiving[0]) == -EINPROGRESS) {
                poll(&look, 1, 10);
                ovl_dispatch(routines->client.thread);
        }
        return NULL;
}

/* Another thread may take the records in; the routines still run where the operations were posted. */
static void routines_run_in_the_posting_thread(void **state) {
        struct routines routines = { 0 };
        pthread_t other;

        routines_start(&routines);
        routines_receive(&routines, 0, 10, routines_note);
        assert_int_equal(pthread_create(&other, NULL, routines_dispatch_elsewhere, &routines), 0);
        peer_write(routines.fd, "somewhere", 9);
        assert_int_equal(pthread_join(other, NULL), 0);
        assert_int_equal(ovl_result(&routines.receiving[0]), 0);
        assert_int_equal(routines.n, 0);
        assert_int_equal(ovl_sleep(routines.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(routines.n, 1);
        routines_stop(&routines);
}

static void routines_wake_a_sleeper(void **state) {
        struct routines routines = { 0 };
        pthread_t other;

        routines_start(&routines);
        routines_receive(&routines, 0, 10, routines_note);
        assert_int_equal(pthread_create(&other, NULL, routines_dispatch_elsewhere, &routines), 0);
        peer_write(routines.fd, "wake", 4);
        assert_int_equal(ovl_sleep(routines.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(routines.n, 1);
        assert_int_equal(pthread_join(other, NULL), 0);
        routines_stop(&routines);
}

static void routines_repost(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct routines *routines = overlapped->user;
        struct ovl_buffer buffer = { routines->client.memory, 1 };

        if (++routines->n < 500)
                assert_ok(ovl_recv(thread, routines->socket, &buffer, 1, 0, overlapped, routines_repost));
}

static void routines_may_post(void **state) {
        struct routines routines = { 0 };
        char data[500] = { 0 };

        routines_start(&routines);
        routines_receive(&routines, 0, 1, routines_repost);
        peer_write(routines.fd, data, sizeof(data));
        while (routines.n < 500)
                assert_int_equal(ovl_sleep(routines.client.thread, client_patience()), OVL_ALERTED);
        routines_stop(&routines);
}

/* Waits alertably inside of a routine: only routines of the other socket may run there. */
static void routines_nest(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct routines *routines = overlapped->user;

        assert_int_equal(routines->depth, 0);
        routines->depth++;
        routines->order[routines->n++] = (size_t) (overlapped - routines->receiving);
        if (routines->n == 1) {
                peer_write(routines->other->fd, "o", 1);
                while (routines->other->n == 0)
                        assert_int_equal(ovl_sleep(thread, client_patience()), OVL_ALERTED);
                assert_int_equal(routines->n, 1);
        }
        routines->depth--;
}

static void routines_of_one_socket_never_nest(void **state) {
        struct routines routines = { 0 }, other = { 0 };

        routines_start(&routines);
        other.client = routines.client;
        other.poster = routines.poster;
        other.socket = client_pair(&routines.client, AF_INET, &other.fd);
        routines.other = &other;
        routines_receive(&other, 8, 1, routines_note);
        for (size_t i = 0; i < 4; i++)
                routines_receive(&routines, i, 1, routines_nest);
        peer_write(routines.fd, "1234", 4);
        assert_int_equal(client_await(&routines.client, &routines.receiving[3]), 0);
        while (routines.n < 4)
                assert_int_equal(ovl_sleep(routines.client.thread, client_patience()), OVL_ALERTED);
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(routines.order[i], i);
        assert_int_equal(other.n, 1);
        close(other.fd);
        routines_stop(&routines);
}

static void routines_win_over_the_object(void **state) {
        struct routines routines = { 0 };

        routines_start(&routines);
        routines_receive(&routines, 0, 1, routines_note);
        routines_receive(&routines, 1, 1, NULL);
        peer_write(routines.fd, "12", 2);
        assert_int_equal(client_await(&routines.client, &routines.receiving[1]), 0);
        assert_int_equal(ovl_wait(routines.client.thread, &routines.receiving[1], client_patience(), 1), OVL_ALERTED);
        assert_int_equal(routines.n, 1);
        assert_int_equal(ovl_wait(routines.client.thread, &routines.receiving[1], client_patience(), 1), 0);
        routines_stop(&routines);
}

static void routines_are_told_of_cancels_and_closes(void **state) {
        struct routines routines = { 0 };

        routines_start(&routines);
        for (size_t i = 0; i < 3; i++)
                routines_receive(&routines, i, 1, routines_note);
        assert_int_equal(ovl_cancel(routines.client.thread, routines.socket, &routines.receiving[1]), 1);
        assert_ok(ovl_socket_close(routines.client.thread, routines.socket));
        assert_int_equal(routines.n, 0);
        assert_int_equal(ovl_sleep(routines.client.thread, 0), OVL_ALERTED);
        assert_int_equal(routines.n, 3);
        assert_int_equal(routines.order[0], 1);
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(ovl_result(&routines.receiving[i]), -ECANCELED);
        routines_stop(&routines);
}

/* --- Verdicts --------------------------------------------------------------------------------------------------- */

static void routines_verdict_done_is_indicated_already(void **state) {
        struct routines routines = { 0 };
        struct ovl_overlapped sending = { 0 };
        size_t n_done = 0;

        routines_start(&routines);
        for (size_t i = 0; i < 200; i++) {
                int r = client_send(&routines.client, routines.socket, routines.client.memory, 10, OVL_WANT_VERDICT,
                                    &sending);

                assert_true(r == 0 || r == OVL_PENDING);
                if (r == 0)
                        client_expect(&routines.client, &sending, 0, 10);
                n_done += r == 0;
                assert_int_equal(client_await(&routines.client, &sending), 0);
                peer_read(routines.fd, routines.client.memory + 4096, 10);
        }
        /* A send that fits the socket is done before its verdict is given. */
        assert_true(n_done > 0);
        routines_stop(&routines);
}

static void routines_verdict_pending_is_indicated_once(void **state) {
        struct routines routines = { 0 };
        struct ovl_buffer buffer;

        routines_start(&routines);
        buffer = (struct ovl_buffer){ routines.client.memory, 10 };
        routines.receiving[0].user = &routines;
        assert_int_equal(ovl_recv(routines.client.thread, routines.socket, &buffer, 1, OVL_WANT_VERDICT,
                                  &routines.receiving[0], routines_note),
                         OVL_PENDING);
        assert_int_equal(ovl_sleep(routines.client.thread, 0), 0);
        peer_write(routines.fd, "once", 4);
        assert_int_equal(ovl_sleep(routines.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(routines.n, 1);
        assert_int_equal(ovl_sleep(routines.client.thread, 0), 0);
        routines_stop(&routines);
}

static void routines_verdict_refused_is_not_indicated(void **state) {
        struct routines routines = { 0 };
        struct ovl_buffer buffer;

        routines_start(&routines);
        buffer = (struct ovl_buffer){ routines.client.memory, 10 };
        routines.receiving[0].user = &routines;
        assert_int_equal(ovl_recv(routines.client.thread, routines.socket + 1, &buffer, 1, OVL_WANT_VERDICT,
                                  &routines.receiving[0], routines_note),
                         -EBADF);
        assert_int_equal(ovl_sleep(routines.client.thread, 0), 0);
        assert_int_equal(routines.n, 0);
        assert_non_null(strstr(ovl_thread_error(routines.client.thread)->text, "socket"));
        /* The structure is free at once. */
        routines_receive(&routines, 0, 10, routines_note);
        peer_write(routines.fd, "ok", 2);
        assert_int_equal(ovl_sleep(routines.client.thread, client_patience()), OVL_ALERTED);
        routines_stop(&routines);
}

/* --- What the library refuses ----------------------------------------------------------------------------------- */

static void routines_library_refuses(void **state) {
        struct routines routines = { 0 };
        struct ovl_overlapped overlapped = { 0 };
        struct client *client = &routines.client;
        char outside[16];

        routines_start(&routines);
        assert_int_equal(client_recv(client, routines.socket, outside, 16, 0, &overlapped), -EFAULT);
        assert_int_equal(client_recv(client, routines.socket, client->memory + CLIENT_MEMORY - 1, 2, 0, &overlapped),
                         -EFAULT);
        assert_int_equal(client_recv(client, routines.socket, client->memory - 1, 2, 0, &overlapped), -EFAULT);
        assert_int_equal(client_recv(client, routines.socket, client->memory, (1u << 30) + 1, 0, &overlapped),
                         -EMSGSIZE);
        assert_int_equal(client_recv(client, routines.socket, client->memory, SIZE_MAX, 0, &overlapped), -EMSGSIZE);
        assert_int_equal(client_recv(client, routines.socket, client->memory, 1, 1u << 30, &overlapped), -EOPNOTSUPP);
        assert_int_equal(client_send(client, routines.socket, client->memory, 1, OVL_PEEK, &overlapped), -EOPNOTSUPP);
        assert_int_equal(ovl_accept(client->thread, routines.socket, 0, NULL, NULL), -EINVAL);
        assert_ok(client_recv(client, routines.socket, client->memory + CLIENT_MEMORY - 1, 1, 0, &overlapped));
        assert_int_equal(client_recv(client, routines.socket, client->memory, 1, 0, &overlapped), -EBUSY);
        peer_write(routines.fd, "z", 1);
        client_expect(client, &overlapped, 0, 1);
        assert_int_equal(client->memory[CLIENT_MEMORY - 1], 'z');
        routines_stop(&routines);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "routines run in order, and only in alertable waits", routines_run_in_order_in_alertable_waits },
                { "routines run in the thread that posted", routines_run_in_the_posting_thread },
                { "a thread that sleeps is woken for its routines", routines_wake_a_sleeper },
                { "routines may post", routines_may_post },
                { "routines of one socket never nest", routines_of_one_socket_never_nest },
                { "queued routines win over the object waited for", routines_win_over_the_object },
                { "routines are told of cancels and closes", routines_are_told_of_cancels_and_closes },
                { "done means indicated already", routines_verdict_done_is_indicated_already },
                { "pending means indicated once", routines_verdict_pending_is_indicated_once },
                { "refused means not indicated", routines_verdict_refused_is_not_indicated },
                { "what the library can see it refuses itself", routines_library_refuses },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
