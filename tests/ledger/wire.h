/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LEDGER_WIRE_H
#define LEDGER_WIRE_H

/*
 * The protocol as a stranger would speak it: one connection, one thread, one region, with socket code of its own, at
 * any level. It shares the layouts with the daemon and nothing else with anybody.
 */

#include <stddef.h>
#include <stdint.h>

#include "proto/layout.h"
#include "proto/overlapd.pb-c.h"

#define WIRE_BUFFER_SIZE (2 * (OVL_FRAME_RECORDS_MAX + 8))
#define WIRE_LANE_SLOTS 256u
#define WIRE_THREAD 0x7261777468726561ull

enum wire_read {
        WIRE_RECORD = 1,
        WIRE_REPLY = 2,
};

struct wire {
        int fd; /* -1: not open */
        unsigned level;
        uint8_t *memory;
        size_t memory_size;
        uint32_t region;
        struct ovl_lane_client *lane; /* level 2; else NULL */
        size_t lane_size;
        const struct ovl_lane_daemon *daemon_lane;
        size_t daemon_lane_size;
        uint32_t n_lane_records; /* places of the record ring */
        int received_fd;         /* that came with the last frame, or -1 */
        uint32_t request_id;
        uint32_t n_records; /* of the frame that is being taken apart */
        size_t payload;     /* where the payload of its next record begins */
        size_t frame_end;
        size_t start; /* of what is unread in the buffer */
        size_t end;
        struct {
                uint32_t id;
                int32_t status;
                uint64_t socket;
                uint32_t port;
                uint32_t region;
                uint32_t n_records;
                uint32_t level;
                char text[160];
        } reply;
        uint8_t buffer[WIRE_BUFFER_SIZE];
};

/*
 * Connects, says hello and lends `size` bytes of memory; at level 0 nobody else sees that memory, and at level 2 there
 * is a lane. Returns 0 or -errno. Close in either case.
 */
int wire_open(struct wire *wire, const char *path, unsigned level, size_t size, uint64_t deadline_ns);
void wire_close(struct wire *wire);

/* Sends a request; its reply is to be read. with_fd: -1, or a descriptor that rides along; borrowed. */
int wire_send_request(struct wire *wire, Overlapd__Request *request, int with_fd);

/*
 * Sends entries of one slot each, or one of several slots, as one POST frame or through the lane. Their buffers name
 * the region; at level 0 their bytes go along instead.
 */
int wire_send_entries(struct wire *wire, const void *slots, uint32_t n_slots);

/*
 * Reads up to the next record or reply. Returns WIRE_RECORD and the record, and what it received if it came along
 * (until the next call; NULL: it did not); WIRE_REPLY, with the reply in wire->reply; -ETIMEDOUT; -ECONNABORTED when
 * the daemon hung up; -EPROTO for what is no frame of the daemon's.
 */
int wire_read(struct wire *wire, uint64_t deadline_ns, struct ovl_record *ret_record, const void **ret_payload);

#endif
