/* SPDX-License-Identifier: Apache-2.0 */

/*
 * POST frames. A frame is checked as a whole before its first entry is taken: where each entry begins, and that the
 * payloads behind the slots are just as long as the entries say. So whoever serves it later, perhaps in parts because
 * the session has no free op, finds every byte where it must be. The frame lies in the inbox, where its client cannot
 * reach it.
 */

#include <errno.h>
#include <string.h>

#include "daemon/worker/post.h"
#include "daemon/worker/session.h"

static int post_refuse(const char *problem, const char **ret_problem) {
        *ret_problem = problem;
        return -EPROTO;
}

/* Copies the slots of the entry that begins at `slots`, once. Returns how many those are, or -EPROTO. */
static int post_copy_entry(const uint8_t *slots, size_t n_left, struct ovl_entry *ret_entry) {
        struct ovl_entry entry = { 0 };

        memcpy(&entry, slots, OVL_SLOT_SIZE);
        if (entry.n_slots == 0 || entry.n_slots > OVL_ENTRY_SLOTS_MAX || entry.n_slots > n_left)
                return -EPROTO;
        memcpy((uint8_t *) &entry + OVL_SLOT_SIZE, slots + OVL_SLOT_SIZE, (entry.n_slots - 1) * OVL_SLOT_SIZE);
        *ret_entry = entry;
        return entry.n_slots;
}

/* Adds up the payloads of all entries. Returns 0, or -EPROTO. */
static int post_measure(const uint8_t *slots, size_t n_slots, uint64_t *ret_payload_len, const char **ret_problem) {
        struct ovl_entry entry;
        uint64_t len = 0;

        for (size_t i = 0; i < n_slots;) {
                int n = post_copy_entry(slots + i * OVL_SLOT_SIZE, n_slots - i, &entry);

                if (n < 0)
                        return post_refuse("an entry has no slots, more than three, or ends beyond its frame",
                                           ret_problem);
                len += post_payload_len(&entry);
                i += (size_t) n;
        }
        *ret_payload_len = len;
        return 0;
}

static int post_check_frame(const uint8_t *body, size_t len, size_t *ret_n_slots, const char **ret_problem) {
        struct ovl_post_header header;
        uint64_t payload_len;
        size_t slots_len;
        int r;

        if (len < sizeof(header))
                return post_refuse("a POST frame is shorter than its header", ret_problem);
        memcpy(&header, body, sizeof(header));
        if (header.reserved != 0 || header.n_slots == 0 || header.n_slots > (len - sizeof(header)) / OVL_SLOT_SIZE)
                return post_refuse("the number of slots of a POST frame does not fit its length", ret_problem);
        slots_len = header.n_slots * OVL_SLOT_SIZE;
        r = post_measure(body + sizeof(header), header.n_slots, &payload_len, ret_problem);
        if (r < 0)
                return r;
        if (payload_len != len - sizeof(header) - slots_len)
                return post_refuse("the length of a POST frame is not that of its slots and payloads", ret_problem);
        *ret_n_slots = header.n_slots;
        return 0;
}

int post_serve_frame(struct session *session, struct peer *peer, const uint8_t *body, size_t len,
                     const char **ret_problem) {
        const uint8_t *slots = body + sizeof(struct ovl_post_header);
        struct ovl_entry entry;
        struct list ended;
        size_t n_slots;
        int r;

        r = post_check_frame(body, len, &n_slots, ret_problem);
        if (r < 0)
                return r;
        list_init(&ended);
        r = 1;
        while (peer->n_slots_done < n_slots) {
                int n = post_copy_entry(slots + peer->n_slots_done * OVL_SLOT_SIZE, n_slots - peer->n_slots_done,
                                        &entry);

                r = post_entry(session, peer, &entry, slots + n_slots * OVL_SLOT_SIZE + peer->n_payload_done, &ended,
                               ret_problem);
                if (r == 0)
                        session->is_held = true;
                if (r <= 0)
                        break;
                peer->n_slots_done += (size_t) n;
                peer->n_payload_done += post_payload_len(&entry);
        }
        session_indicate_all(&ended);
        return r;
}
