/* SPDX-License-Identifier: Apache-2.0 */

/* What a worker shows is taken only when an honest one could have shown it; what it sends beside that is not kept. */

#include "daemon/monitor/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"
#include "tests/harness/harness.h"

#define OWNER 7u
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

struct fixture {
        sd_event *event;
        struct outbox outbox;
        int ours;
        int theirs;
        struct pages pages;
        struct snapshot_query query;
        struct snapshot_page page; /* that the worker will show */
};

static void fixture_set_up(struct fixture *fixture, uint8_t kind) {
        int pair[2];

        *fixture = (struct fixture){ .pages = { .fd = -1 }, .query = { .kind = kind } };
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        fixture->ours = pair[0];
        fixture->theirs = pair[1];
        assert_ok(sd_event_new(&fixture->event));
        assert_ok(outbox_init(&fixture->outbox, fixture->event, fixture->ours));
        fixture->page = (struct snapshot_page){ .kind = kind, .is_last = true, .n_items = 1, .until = 9 };
}

static void fixture_tear_down(struct fixture *fixture) {
        pages_forget(&fixture->pages, OWNER);
        assert_int_equal(fixture->pages.fd, -1);
        outbox_deinit(&fixture->outbox);
        fd_close(fixture->ours);
        fd_close(fixture->theirs);
        sd_event_unref(fixture->event);
}

/* Asks. Returns the ticket, as the worker got it. */
static uint64_t fixture_ask(struct fixture *fixture) {
        struct link_message message;
        int fd;

        assert_ok(pages_ask(&fixture->pages, &fixture->outbox, OWNER, &fixture->query));
        assert_int_equal(link_receive(fixture->theirs, &message, &fd), 1);
        assert_int_equal(message.kind, LINK_SNAPSHOT);
        assert_int_equal(fd, -1);
        assert_memory_equal(&message.body.snapshot, &fixture->query, sizeof(fixture->query));
        return message.ticket;
}

static int make_memory(const void *bytes, size_t len, int seals) {
        int fd = memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_ok(fd);
        assert_int_equal(write(fd, bytes, len), len);
        assert_ok(fcntl(fd, F_ADD_SEALS, seals));
        return fd;
}

static int answer(struct fixture *fixture, uint64_t ticket, int status, int fd) {
        struct link_message message = { .kind = LINK_SNAPSHOT, .ticket = ticket, .status = status };

        return pages_answer(&fixture->pages, &message, fd);
}

/* Shows what the fixture has. Returns what comes of it; the page, where there is one, must be the same. */
static int show(struct fixture *fixture, size_t len, int seals) {
        _cleanup_free_ struct snapshot_page *taken = NULL;
        uint64_t ticket = fixture_ask(fixture);
        _cleanup_fd_ int fd = make_memory(&fixture->page, len, seals);
        int r;

        r = answer(fixture, ticket, 0, fd);
        if (r < 0) {
                pages_end(&fixture->pages);
                assert_int_equal(pages_take(&fixture->pages, OWNER, &fixture->query, &taken), -EPIPE);
                return r;
        }
        r = pages_take(&fixture->pages, OWNER, &fixture->query, &taken);
        if (r > 0)
                assert_memory_equal(taken, &fixture->page, len);
        return r;
}

static int show_page(struct fixture *fixture) {
        return show(fixture, SNAPSHOT_PAGE_LEN(fixture->page.n_items), SEALS);
}

static void pages_takes_what_is_right(void **state) {
        static struct fixture fixture;

        fixture_set_up(&fixture, SNAPSHOT_OPS);
        assert_int_equal(show_page(&fixture), 1);
        fixture.page.n_items = SNAPSHOT_ITEMS_MAX;
        assert_int_equal(show_page(&fixture), 1);
        fixture.page.n_items = 0;
        assert_int_equal(show_page(&fixture), 1);
        fixture.page.is_last = false;
        fixture.page.next = (struct snapshot_place){ .session = 9, .index = 0 };
        assert_int_equal(show_page(&fixture), 1);
        /* The next page. */
        fixture.query.from = fixture.page.next;
        fixture.query.until = 9;
        fixture.page.next.index = 1;
        assert_int_equal(show_page(&fixture), 1);
        fixture_tear_down(&fixture);
}

static void pages_refuses_memory_that_may_change(void **state) {
        static struct fixture fixture;
        static const int seals[] = { 0, F_SEAL_WRITE, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_WRITE | F_SEAL_GROW,
                                     F_SEAL_WRITE | F_SEAL_SHRINK };

        fixture_set_up(&fixture, SNAPSHOT_OPS);
        for (size_t i = 0; i < HARNESS_N(seals); i++)
                assert_int_equal(show(&fixture, SNAPSHOT_PAGE_LEN(1), seals[i]), -EBADMSG);
        fixture_tear_down(&fixture);
}

/* Neither read nor closed later, for either may wait for somebody. */
static void pages_refuses_what_is_no_memory(void **state) {
        static struct fixture fixture;
        int pipe_fds[2], fds[4];

        fixture_set_up(&fixture, SNAPSHOT_OPS);
        assert_ok(pipe2(pipe_fds, O_CLOEXEC));
        fds[0] = pipe_fds[0];
        fds[1] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        fds[2] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        fds[3] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        for (size_t i = 0; i < HARNESS_N(fds); i++) {
                assert_ok(fds[i]);
                assert_int_equal(answer(&fixture, fixture_ask(&fixture), 0, fds[i]), -EBADMSG);
                assert_int_equal(fixture.pages.fd, -1);
                pages_end(&fixture.pages);
                pages_forget(&fixture.pages, OWNER);
                close(fds[i]);
        }
        close(pipe_fds[1]);
        fixture_tear_down(&fixture);
}

static void pages_refuses_lengths(void **state) {
        static struct fixture fixture;
        static uint8_t longer[sizeof(struct snapshot_page) + 1];
        int fd;

        fixture_set_up(&fixture, SNAPSHOT_OPS);
        assert_int_equal(show(&fixture, SNAPSHOT_PAGE_LEN(0), SEALS), -EBADMSG);
        assert_int_equal(show(&fixture, SNAPSHOT_PAGE_LEN(0) - 1, SEALS), -EBADMSG);
        assert_int_equal(show(&fixture, SNAPSHOT_PAGE_LEN(1) + 1, SEALS), -EBADMSG);
        assert_int_equal(show(&fixture, 0, SEALS), -EBADMSG);
        fixture.page.n_items = SNAPSHOT_ITEMS_MAX + 1;
        assert_int_equal(show(&fixture, sizeof(fixture.page), SEALS), -EBADMSG);
        fixture.page.n_items = UINT32_MAX;
        assert_int_equal(show(&fixture, sizeof(fixture.page), SEALS), -EBADMSG);
        fd = make_memory(longer, sizeof(longer), SEALS);
        assert_int_equal(answer(&fixture, fixture_ask(&fixture), 0, fd), -EBADMSG);
        close(fd);
        pages_end(&fixture.pages);
        fixture_tear_down(&fixture);
}

static void pages_refuses_fields(void **state) {
        static struct fixture fixture;
        struct snapshot_socket *socket = &fixture.page.items[0].of.socket;

        fixture_set_up(&fixture, SNAPSHOT_SOCKETS);
        assert_int_equal(show_page(&fixture), 1);
        socket->state = SNAPSHOT_N_SOCKET_STATES;
        assert_int_equal(show_page(&fixture), -EBADMSG);
        socket->state = 0;
        socket->local.family = 3;
        assert_int_equal(show_page(&fixture), -EBADMSG);
        socket->local.family = OVL_FAMILY_UNIX;
        socket->local.path_len = sizeof(socket->local.host) + 1;
        assert_int_equal(show_page(&fixture), -EBADMSG);
        socket->local.path_len = 0;
        socket->remote.family = 255;
        assert_int_equal(show_page(&fixture), -EBADMSG);
        fixture_tear_down(&fixture);

        fixture_set_up(&fixture, SNAPSHOT_OPS);
        fixture.page.items[0].of.op.state = SNAPSHOT_N_OP_STATES;
        assert_int_equal(show_page(&fixture), -EBADMSG);
        fixture.page.items[0].of.op.state = 0;
        fixture.page.kind = SNAPSHOT_SOCKETS;
        assert_int_equal(show_page(&fixture), -EBADMSG);
        fixture_tear_down(&fixture);

        fixture_set_up(&fixture, SNAPSHOT_QUOTAS);
        fixture.page.items[0].of.quota.level = LIMIT_LEVELS;
        assert_int_equal(show_page(&fixture), -EBADMSG);
        fixture.page.items[0].of.quota.level = LIMIT_WORKER;
        assert_int_equal(show_page(&fixture), 1);
        fixture_tear_down(&fixture);
}

/* A list that does not get on would never end. */
static void pages_refuses_circles(void **state) {
        static struct fixture fixture;

        fixture_set_up(&fixture, SNAPSHOT_OPS);
        fixture.query.from = (struct snapshot_place){ .session = 5, .index = 3 };
        fixture.query.until = 9;
        fixture.page.is_last = false;
        fixture.page.next = fixture.query.from;
        assert_int_equal(show_page(&fixture), -EBADMSG);
        fixture.page.next.index = 2;
        assert_int_equal(show_page(&fixture), -EBADMSG);
        fixture.page.next = (struct snapshot_place){ .session = 4, .index = 9 };
        assert_int_equal(show_page(&fixture), -EBADMSG);
        fixture.page.next = (struct snapshot_place){ .session = 10 };
        assert_int_equal(show_page(&fixture), -EBADMSG);
        fixture.page.until = 10;
        assert_int_equal(show_page(&fixture), -EBADMSG);
        fixture.page.until = 9;
        fixture.page.next = (struct snapshot_place){ .session = 6 };
        assert_int_equal(show_page(&fixture), 1);
        fixture_tear_down(&fixture);
}

static void pages_refuses_answers_that_fit_no_question(void **state) {
        static struct fixture fixture;
        uint64_t ticket;
        int fd;

        fixture_set_up(&fixture, SNAPSHOT_OPS);
        fd = make_memory(&fixture.page, SNAPSHOT_PAGE_LEN(1), SEALS);
        assert_int_equal(answer(&fixture, 0, 0, fd), -EBADMSG);
        ticket = fixture_ask(&fixture);
        assert_int_equal(answer(&fixture, ticket + 1, 0, fd), -EBADMSG);
        assert_int_equal(answer(&fixture, ticket - 1, 0, fd), -EBADMSG);
        assert_int_equal(answer(&fixture, ticket, 0, -1), -EBADMSG);
        assert_int_equal(answer(&fixture, ticket, 1, fd), -EBADMSG);
        assert_int_equal(answer(&fixture, ticket, -ENOMEM, fd), -EBADMSG);
        assert_int_equal(answer(&fixture, ticket, 0, fd), 0);
        assert_int_equal(answer(&fixture, ticket, 0, fd), -EBADMSG);
        close(fd);
        fixture_tear_down(&fixture);
}

static void pages_has_one_question_at_a_time(void **state) {
        static struct fixture fixture;
        struct snapshot_page *page;
        uint64_t ticket;
        int fd;

        fixture_set_up(&fixture, SNAPSHOT_OPS);
        fd = make_memory(&fixture.page, SNAPSHOT_PAGE_LEN(1), SEALS);
        ticket = fixture_ask(&fixture);
        assert_int_equal(pages_ask(&fixture.pages, &fixture.outbox, OWNER + 1, &fixture.query), -EBUSY);
        assert_int_equal(pages_take(&fixture.pages, OWNER, &fixture.query, &page), 0);
        assert_ok(answer(&fixture, ticket, 0, fd));
        assert_int_equal(pages_ask(&fixture.pages, &fixture.outbox, OWNER + 1, &fixture.query), -EBUSY);
        assert_int_equal(pages_take(&fixture.pages, OWNER + 1, &fixture.query, &page), 0);
        assert_int_equal(pages_take(&fixture.pages, OWNER, &fixture.query, &page), 1);
        free(page);
        /* What the worker says that went wrong, and a descriptor for which there was no room here. */
        assert_ok(answer(&fixture, fixture_ask(&fixture), -ENOMEM, -1));
        assert_int_equal(pages_take(&fixture.pages, OWNER, &fixture.query, &page), -ENOMEM);
        assert_ok(answer(&fixture, fixture_ask(&fixture), 0, -EMFILE));
        assert_int_equal(pages_take(&fixture.pages, OWNER, &fixture.query, &page), -EMFILE);
        close(fd);
        fixture_tear_down(&fixture);
}

/* Whoever has gone keeps nobody from asking once the worker has answered. */
static void pages_forgets(void **state) {
        static struct fixture fixture;
        struct snapshot_page *page;
        uint64_t ticket;
        int fd;

        fixture_set_up(&fixture, SNAPSHOT_OPS);
        fd = make_memory(&fixture.page, SNAPSHOT_PAGE_LEN(1), SEALS);
        ticket = fixture_ask(&fixture);
        pages_forget(&fixture.pages, OWNER);
        assert_int_equal(pages_ask(&fixture.pages, &fixture.outbox, OWNER, &fixture.query), -EBUSY);
        assert_ok(answer(&fixture, ticket, 0, fd));
        assert_int_equal(fixture.pages.fd, -1);
        assert_int_equal(pages_take(&fixture.pages, OWNER, &fixture.query, &page), 0);
        assert_ok(answer(&fixture, fixture_ask(&fixture), 0, fd));
        pages_forget(&fixture.pages, OWNER + 1);
        assert_true(fixture.pages.has_come);
        pages_forget(&fixture.pages, OWNER);
        assert_int_equal(fixture.pages.fd, -1);
        fixture_ask(&fixture);
        pages_end(&fixture.pages);
        assert_int_equal(pages_take(&fixture.pages, OWNER, &fixture.query, &page), -EPIPE);
        close(fd);
        fixture_tear_down(&fixture);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "pages that are right are taken", pages_takes_what_is_right },
                { "memory that may change is refused", pages_refuses_memory_that_may_change },
                { "what is no memory is refused at once", pages_refuses_what_is_no_memory },
                { "a length that is not that of the items is refused", pages_refuses_lengths },
                { "fields out of their bounds are refused", pages_refuses_fields },
                { "a list that does not get on is refused", pages_refuses_circles },
                { "answers that fit no question are refused", pages_refuses_answers_that_fit_no_question },
                { "one question at a time", pages_has_one_question_at_a_time },
                { "whoever has gone is forgotten", pages_forgets },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
