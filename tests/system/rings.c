/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The worker's ring as an attacker would use it. System-call filters do not see what a ring does, so the ring itself
 * must refuse: operations that the daemon does not need, files that are not registered, flags beyond the fixed file.
 *
 * The engine is compiled into this program, so that its very ring can be given submissions that the engine never makes.
 */

#include "daemon/worker/engine-uring.c"

#include <sys/socket.h>

#include "tests/harness/harness.h"

struct rings {
        struct stats stats;
        struct engine *engine;
        struct io_uring *ring;
        struct engine_file file;
        int other;
        bool is_weaker; /* it does not require registered files: a kernel before 5.19, or a mask of its features */
};

static void rings_start(struct rings *rings) {
        char problem[256];
        int fds[2];
        struct features features;
        int r;

        memset(rings, 0, sizeof(*rings));
        assert_ok(features_parse(getenv("OVL_TEST_FEATURES"), &features));
        r = engine_uring_new(&rings->stats, &features, &rings->engine, problem, sizeof(problem));
        if (r < 0)
                fail_msg("no ring: %s", problem);
        rings->ring = &uring_of(rings->engine)->ring.io;
        rings->is_weaker = !uring_of(rings->engine)->ring.requires_files;
        assert_int_equal(rings->is_weaker, problem[0] != '\0');
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        engine_file_init(&rings->file, fds[0], 0);
        rings->other = fds[1];
        assert_ok(rings->engine->ops->attach(rings->engine, &rings->file));
}

static void rings_stop(struct rings *rings) {
        rings->engine->ops->detach(rings->engine, &rings->file);
        fd_close(rings->file.fd);
        fd_close(rings->other);
        engine_free(rings->engine);
}

static struct io_uring_sqe *rings_sqe(struct rings *rings) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(rings->ring);

        if (!sqe)
                abort();
        memset(sqe, 0, sizeof(*sqe));
        return sqe;
}

/* Submits what the caller prepared, and returns its result. */
static int rings_submit(struct rings *rings, struct io_uring_sqe *sqe) {
        struct io_uring_cqe *cqe;
        int result;

        io_uring_sqe_set_data64(sqe, 77);
        assert_int_equal(io_uring_submit_and_wait(rings->ring, 1), 1);
        assert_int_equal(io_uring_wait_cqe(rings->ring, &cqe), 0);
        assert_int_equal(cqe->user_data, 77);
        result = cqe->res;
        io_uring_cqe_seen(rings->ring, cqe);
        return result;
}

static void rings_perform_what_is_listed(void **state) {
        struct rings rings;
        struct io_uring_sqe *sqe;
        char data[4];

        rings_start(&rings);
        assert_int_equal(write(rings.other, "data", 4), 4);
        sqe = rings_sqe(&rings);
        io_uring_prep_recv(sqe, rings.file.index, data, sizeof(data), 0);
        sqe->flags |= IOSQE_FIXED_FILE;
        assert_int_equal(rings_submit(&rings, sqe), 4);
        rings_stop(&rings);
}

static void rings_refuse_other_operations(void **state) {
        static const uint8_t listed[] = {
                IORING_OP_RECV,   IORING_OP_SEND,     IORING_OP_RECVMSG,      IORING_OP_SENDMSG,
                IORING_OP_ACCEPT, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL,
        };
        struct rings rings;

        rings_start(&rings);
        for (unsigned opcode = 0; opcode < 256; opcode++) {
                struct io_uring_sqe *sqe;
                int r;

                if (memchr(listed, (int) opcode, sizeof(listed)))
                        continue;
                sqe = rings_sqe(&rings);
                sqe->opcode = (uint8_t) opcode;
                sqe->fd = rings.file.index;
                sqe->flags = IOSQE_FIXED_FILE;
                r = rings_submit(&rings, sqe);
                /* What the kernel does not know at all it says so of. */
                if (r != -EACCES && !(r == -EINVAL && opcode >= IORING_OP_SEND_ZC))
                        fail_msg("operation %u was answered with %d", opcode, r);
        }
        rings_stop(&rings);
}

static void rings_refuse_files_that_are_not_registered(void **state) {
        struct io_uring_sqe *sqe;
        struct rings rings;
        char data[4];

        rings_start(&rings);
        if (rings.is_weaker) {
                rings_stop(&rings);
                harness_skip("before Linux 5.19 a ring that cancels cannot require registered files");
        }
        assert_int_equal(write(rings.other, "data", 4), 4);
        sqe = rings_sqe(&rings);
        io_uring_prep_recv(sqe, rings.file.fd, data, sizeof(data), 0);
        assert_int_equal(rings_submit(&rings, sqe), -EACCES);
        sqe = rings_sqe(&rings);
        io_uring_prep_accept(sqe, rings.file.fd, NULL, NULL, 0);
        assert_int_equal(rings_submit(&rings, sqe), -EACCES);
        sqe = rings_sqe(&rings);
        io_uring_prep_cancel64(sqe, 1, 0);
        assert_int_equal(rings_submit(&rings, sqe), -EACCES);
        rings_stop(&rings);
}

static void rings_refuse_other_flags(void **state) {
        static const uint8_t flags[] = {
                IOSQE_IO_DRAIN, IOSQE_IO_LINK,       IOSQE_IO_HARDLINK,
                IOSQE_ASYNC,    IOSQE_BUFFER_SELECT, IOSQE_CQE_SKIP_SUCCESS,
        };
        struct rings rings;
        char data[4];

        rings_start(&rings);
        for (size_t i = 0; i < HARNESS_N(flags); i++) {
                struct io_uring_sqe *sqe = rings_sqe(&rings);

                io_uring_prep_recv(sqe, rings.file.index, data, sizeof(data), 0);
                sqe->flags = IOSQE_FIXED_FILE | flags[i];
                assert_int_equal(rings_submit(&rings, sqe), -EACCES);
        }
        rings_stop(&rings);
}

static void rings_refuse_to_be_widened(void **state) {
        struct iovec part = { &part, sizeof(part) };
        struct rings rings;
        int fd = STDERR_FILENO;

        rings_start(&rings);
        assert_int_equal(io_uring_register_buffers(rings.ring, &part, 1), -EACCES);
        assert_int_equal(io_uring_register_files(rings.ring, &fd, 1), -EACCES);
        assert_int_equal(io_uring_register_personality(rings.ring), -EACCES);
        assert_int_equal(io_uring_register_eventfd(rings.ring, fd), -EACCES);
        assert_int_equal(io_uring_unregister_files(rings.ring), -EACCES);
        rings_stop(&rings);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "a ring performs what is listed", rings_perform_what_is_listed },
                { "a ring refuses other operations", rings_refuse_other_operations },
                { "a ring refuses files that are not registered", rings_refuse_files_that_are_not_registered },
                { "a ring refuses other flags", rings_refuse_other_flags },
                { "a ring refuses to be widened", rings_refuse_to_be_widened },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
