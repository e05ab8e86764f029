/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A fault is planted once, into the first receive of some bytes, or the first APC, after a thousand ops: early enough
 * for a short test, and late enough for it to be in full swing.
 */

#include "daemon/worker/plant.h"

#ifdef OVL_TEST_HOOKS

#include "daemon/worker/session.h"

#define PLANT_AFTER 1000u

static bool plant_is_asked(const struct session *session, enum plant plant, uint64_t serial) {
        return session->resources->plant == plant && session->resources->n_planted == 0 && serial >= PLANT_AFTER;
}

/* Receives from streams only: they count what is done, datagrams do not. */
static bool plant_is_due(const struct session *session, const struct op *op, enum plant plant) {
        return plant_is_asked(session, plant, op->serial) && op->code == OVL_OP_RECV && op->status == 0 &&
               op->parts == &op->one && op->done >= 2;
}

/* Not one that was only looked at: that it is another than what is then taken would be a second fault. */
static bool plant_is_due_datagram(const struct session *session, const struct op *op) {
        return plant_is_asked(session, PLANT_SWAPPED_DATAGRAM, op->serial) && op->code == OVL_OP_RECVFROM &&
               op->message_flags == 0 && op->status == 0 && op->parts == &op->one && op->bytes >= 2;
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
        list_init(&twin->stray);
        list_init(&twin->unpaid);
        list_push_back(&op->peer->records, &twin->link);
        session->resources->n_planted++;
}

void plant_swaps(struct session *session, const struct op *op) {
        uint8_t *end, byte;

        /* What was received from a stream ends where the rest of the buffer begins. */
        if (plant_is_due(session, op, PLANT_SWAPPED_BYTES))
                end = op->one.iov_base;
        else if (plant_is_due_datagram(session, op))
                end = (uint8_t *) op->one.iov_base + op->bytes;
        else
                return;
        if (end[-1] == end[-2])
                return;
        byte = end[-1];
        end[-1] = end[-2];
        end[-2] = byte;
        session->resources->n_planted++;
}

static bool plant_takes_apc(struct session *session, enum plant plant) {
        if (!plant_is_asked(session, plant, session->resources->op_serial))
                return false;
        session->resources->n_planted++;
        return true;
}

bool plant_loses_apc(struct session *session) {
        return plant_takes_apc(session, PLANT_LOST_APC);
}

bool plant_doubles_apc(struct session *session) {
        return plant_takes_apc(session, PLANT_DOUBLED_APC);
}

#endif
