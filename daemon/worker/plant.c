/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A fault is planted once, into the first receive of some bytes after a thousand ops: early enough for a short test,
 * and late enough for it to be in full swing.
 */

#include "daemon/worker/plant.h"

#ifdef OVL_TEST_HOOKS

#include "daemon/worker/session.h"

#define PLANT_AFTER 1000u

static bool plant_is_due(struct session *session, const struct op *op, enum plant plant) {
        struct resources *resources = session->resources;

        if (resources->plant != plant || resources->n_planted > 0 || op->serial < PLANT_AFTER)
                return false;
        return op->code == OVL_OP_RECV && op->status == 0 && op->parts == &op->one && op->done >= 2;
}

bool plant_loses(struct session *session, const struct op *op) {
        if (!plant_is_due(session, op, PLANT_LOST_RECORD))
                return false;
        session->resources->n_planted++;
        return true;
}

void plant_doubles(struct session *session, const struct op *op) {
        struct op *twin = plant_is_due(session, op, PLANT_DOUBLED_RECORD) ? session_take_op(session) : NULL;
        void *scratch;

        if (!twin)
                return;
        scratch = twin->scratch;
        *twin = *op;
        twin->scratch = scratch;
        twin->payload = (struct payload){ 0 };
        twin->payload_len = 0;
        list_init(&twin->link);
        list_push_back(&op->peer->records, &twin->link);
        session->resources->n_planted++;
}

void plant_swaps(struct session *session, const struct op *op) {
        uint8_t *end = op->one.iov_base; /* what was received ends where the rest of the buffer begins */
        uint8_t byte;

        if (!plant_is_due(session, op, PLANT_SWAPPED_BYTES) || end[-1] == end[-2])
                return;
        byte = end[-1];
        end[-1] = end[-2];
        end[-2] = byte;
        session->resources->n_planted++;
}

#endif
