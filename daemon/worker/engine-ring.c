/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Address-family limits and system-call filters do not see what a ring does, so the ring itself is narrow: it starts
 * disabled, is restricted to the few operations below and to registered files, and is enabled for good.
 *
 * What a kernel lacks is found by trying, from the best to the least; test builds skip what an older one would not
 * have. A ring is either all that is needed, or the step that failed is said.
 */

#include "daemon/worker/engine-ring.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/cleanup.h"

#define RING_SUBMISSIONS 256u
#define RING_COMPLETIONS 32768u
#define RING_COMPLETIONS_MIN 256u
#define RING_FILES 65536u

void ring_prepare_cancel(const struct ring *ring, struct io_uring_sqe *sqe, uint64_t data) {
        io_uring_prep_cancel64(sqe, data, 0);
        if (ring->requires_files)
                sqe->flags |= IOSQE_FIXED_FILE; /* a cancel has no file */
        io_uring_sqe_set_data64(sqe, 0);
}

int ring_attach(struct ring *ring, int fd) {
        int index, r;

        if (ring->n_free_files == 0)
                return -ENFILE;
        index = ring->free_files[ring->n_free_files - 1];
        r = io_uring_register_files_update(&ring->io, (unsigned) index, &fd, 1);
        if (r < 0)
                return r;
        ring->n_free_files--;
        return index;
}

void ring_detach(struct ring *ring, int index) {
        int none = -1;

        io_uring_register_files_update(&ring->io, (unsigned) index, &none, 1);
        ring->free_files[ring->n_free_files++] = index;
}

void ring_close(struct ring *ring) {
        if (ring->is_set_up)
                io_uring_queue_exit(&ring->io);
        ring->is_set_up = false;
        free(ring->free_files);
        ring->free_files = NULL;
}

/* --- Opening ---------------------------------------------------------------------------------------------------- */

/* The flags are tried from the best to what every supported kernel (5.15) has; a queue that is too large is halved. */
static int ring_set_up(struct ring *ring) {
        static const unsigned flags[] = {
                IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, /* 6.1 */
                IORING_SETUP_COOP_TASKRUN,                               /* 5.19 */
                0,
        };
        uint32_t n_completions = RING_COMPLETIONS;
        size_t i = 0;
        int r = -EINVAL;

        if (!features_has(&ring->features, FEATURE_DEFER_TASKRUN))
                i = features_has(&ring->features, FEATURE_COOP_TASKRUN) ? 1 : 2;
        while (i < sizeof(flags) / sizeof(flags[0])) {
                struct io_uring_params params = {
                        .flags = flags[i] | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
                        .cq_entries = n_completions,
                };

                r = io_uring_queue_init_params(RING_SUBMISSIONS, &ring->io, &params);
                if (r == 0) {
                        ring->is_set_up = true;
                        /* Cancels complete, too, and have some room of their own; what overflows is kept by the kernel.
                         */
                        ring->n_max = params.cq_entries - RING_SUBMISSIONS / 2;
                        return 0;
                }
                if (r == -ENOMEM && n_completions > RING_COMPLETIONS_MIN)
                        n_completions /= 2;
                else if (r == -EINVAL)
                        i++;
                else
                        break;
        }
        return r;
}

static int ring_register_files(struct ring *ring) {
        struct rlimit limit;
        _cleanup_free_ int *none = NULL;
        uint32_t n = RING_FILES;
        int r;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < n)
                n = (uint32_t) limit.rlim_cur;
        none = malloc(n * sizeof(*none));
        ring->free_files = malloc(n * sizeof(*ring->free_files));
        if (!none || !ring->free_files)
                return -ENOMEM;
        for (uint32_t i = 0; i < n; i++) {
                none[i] = -1;
                ring->free_files[i] = (int) (n - 1 - i);
        }
        ring->n_free_files = n;
        r = io_uring_register_files(&ring->io, none, n);
        return r < 0 ? r : 0;
}

/* liburing 2.3 declares calls for these two and does not export them. */
static int ring_register(struct ring *ring, unsigned opcode, void *argument, unsigned n) {
        return io_uring_register((unsigned) ring->io.ring_fd, opcode, argument, n);
}

static const struct {
        uint8_t opcode;
        const char *name;
} ring_operations[] = {
        { IORING_OP_RECV, "RECV" },
        { IORING_OP_SEND, "SEND" },
        { IORING_OP_RECVMSG, "RECVMSG" },
        { IORING_OP_SENDMSG, "SENDMSG" },
        { IORING_OP_ACCEPT, "ACCEPT" },
        { IORING_OP_POLL_ADD, "POLL_ADD" },
        { IORING_OP_ASYNC_CANCEL, "ASYNC_CANCEL" },
};

#define RING_N_OPERATIONS (sizeof(ring_operations) / sizeof(ring_operations[0]))

static int ring_probe_operations(struct ring *ring) {
        struct io_uring_probe *probe = io_uring_get_probe_ring(&ring->io);

        if (!probe)
                return -ENOMEM;
        for (size_t i = 0; i < RING_N_OPERATIONS && !ring->missing; i++) {
                uint8_t opcode = ring_operations[i].opcode;

                if (!io_uring_opcode_supported(probe, opcode) ||
                    (ring->features.masked_operations & (UINT64_C(1) << opcode)))
                        ring->missing = ring_operations[i].name;
        }
        io_uring_free_probe(probe);
        return ring->missing ? -EOPNOTSUPP : 0;
}

static int ring_restrict(struct ring *ring) {
        struct io_uring_restriction restrictions[RING_N_OPERATIONS + 3] = { 0 };
        unsigned n = 0;

        for (size_t i = 0; i < RING_N_OPERATIONS; i++) {
                restrictions[n].opcode = IORING_RESTRICTION_SQE_OP;
                restrictions[n++].sqe_op = ring_operations[i].opcode;
        }
        restrictions[n].opcode = IORING_RESTRICTION_REGISTER_OP;
        restrictions[n++].register_op = IORING_REGISTER_FILES_UPDATE;
        restrictions[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
        restrictions[n++].sqe_flags = IOSQE_FIXED_FILE;
        if (ring->requires_files) {
                restrictions[n].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
                restrictions[n++].sqe_flags = IOSQE_FIXED_FILE;
        }
        return ring_register(ring, IORING_REGISTER_RESTRICTIONS, restrictions, n);
}

/* Kernels before 5.19 refuse the required flag on a cancel, which has no file. A cancel of nothing shows it. */
static int ring_probe_cancel(struct ring *ring) {
        struct io_uring_cqe *cqe;
        int r;

        if (ring->requires_files && !features_has(&ring->features, FEATURE_FIXED_CANCEL))
                return -EINVAL;
        ring_prepare_cancel(ring, io_uring_get_sqe(&ring->io), UINT64_MAX);
        r = io_uring_submit_and_wait(&ring->io, 1);
        if (r < 0)
                return r;
        r = io_uring_peek_cqe(&ring->io, &cqe);
        if (r < 0)
                return r;
        r = cqe->res == -ENOENT ? 0 : cqe->res;
        io_uring_cqe_seen(&ring->io, cqe);
        return r;
}

static const char ring_cancelling[] = "cancelling on the restricted ring";

static int ring_make(struct ring *ring, const char **ret_step) {
        int r;

        *ret_step = "setting up a ring";
        r = ring_set_up(ring);
        if (r < 0)
                return r;
        *ret_step = "asking for the operations of the ring";
        r = ring_probe_operations(ring);
        if (r < 0)
                return r;
        *ret_step = "registering the file table";
        r = ring_register_files(ring);
        if (r < 0)
                return r;
        *ret_step = "restricting the ring";
        r = ring_restrict(ring);
        if (r < 0)
                return r;
        *ret_step = "enabling the ring";
        r = ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
        if (r < 0)
                return r;
        *ret_step = ring_cancelling;
        return ring_probe_cancel(ring);
}

/*
 * A ring that requires registered files is tried first. Where that makes cancels impossible the requirement is dropped,
 * for there is no way to live without cancels: what an attacker gains are the few operations on descriptors that are
 * not registered, which the worker's system calls can read and write as well.
 */
int ring_open(struct ring *ring, const struct features *features, const char **ret_step) {
        int r;

        *ring = (struct ring){ .features = *features, .requires_files = true };
        r = ring_make(ring, ret_step);
        if (r == -EINVAL && *ret_step == ring_cancelling) {
                ring_close(ring);
                ring->requires_files = false;
                r = ring_make(ring, ret_step);
        }
        if (r < 0)
                ring_close(ring);
        return r;
}
