/* SPDX-License-Identifier: Apache-2.0 */

/* Messages to a worker that does not read wait in order, within a bound, and their descriptors are never lost. */

#include "daemon/monitor/outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"

struct outbox_fixture {
        sd_event *event;
        struct outbox outbox;
        int ours;
        int theirs;
};

static void outbox_set_up(struct outbox_fixture *fixture) {
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        fixture->ours = pair[0];
        fixture->theirs = pair[1];
        assert_ok(sd_event_new(&fixture->event));
        assert_ok(outbox_init(&fixture->outbox, fixture->event, fixture->ours));
}

static void outbox_tear_down(struct outbox_fixture *fixture) {
        outbox_deinit(&fixture->outbox);
        fd_close(fixture->ours);
        fd_close(fixture->theirs);
        sd_event_unref(fixture->event);
}

/* Pushes numbered messages, each with a descriptor, until there is no room. Returns how many were taken. */
static uint64_t outbox_fill(struct outbox_fixture *fixture, unsigned n_max) {
        struct link_message message = { .kind = LINK_CHANNEL };

        for (uint64_t n = 0;; n++) {
                int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), r;

                assert_ok(fd);
                message.ticket = n;
                r = outbox_push(&fixture->outbox, &message, fd, n_max);
                if (r == 0)
                        continue;
                assert_int_equal(r, -EAGAIN);
                assert_int_equal(close(fd), 0);
                return n;
        }
}

static void outbox_keeps_order(void **state) {
        struct outbox_fixture fixture;
        struct link_message message;
        uint64_t n_pushed;
        int fd;

        outbox_set_up(&fixture);
        n_pushed = outbox_fill(&fixture, 20);
        assert_int_equal(fixture.outbox.n_queued, 20);
        for (uint64_t n = 0; n < n_pushed; n++) {
                int r = link_receive(fixture.theirs, &message, &fd);

                if (r == -EAGAIN) {
                        assert_ok(sd_event_run(fixture.event, UINT64_MAX));
                        r = link_receive(fixture.theirs, &message, &fd);
                }
                assert_int_equal(r, 1);
                assert_int_equal(message.ticket, n);
                assert_true(fd >= 0);
                close(fd);
        }
        assert_int_equal(fixture.outbox.n_queued, 0);
        assert_int_equal(link_receive(fixture.theirs, &message, &fd), -EAGAIN);
        outbox_tear_down(&fixture);
}

static void outbox_discards_for_the_dead(void **state) {
        struct link_message message = { .kind = LINK_STOP };
        struct outbox_fixture fixture;

        outbox_set_up(&fixture);
        outbox_fill(&fixture, 20);
        fixture.theirs = fd_close(fixture.theirs);
        assert_ok(sd_event_run(fixture.event, UINT64_MAX));
        assert_true(fixture.outbox.is_broken);
        assert_int_equal(fixture.outbox.n_queued, 0);
        assert_int_equal(outbox_push(&fixture.outbox, &message, -1, 20), -EPIPE);
        outbox_tear_down(&fixture);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "order and descriptors are kept", outbox_keeps_order },
                { "what waits for the dead is discarded", outbox_discards_for_the_dead },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
