/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The two halves of the contract agree: layout.h and overlapd.proto name the same things by the same numbers, and they
 * agree with the kernel where the prose says so. Sizes and offsets are asserted by layout.h itself.
 */

#include "proto/layout.h"

#include <poll.h>
#include <sys/socket.h>

#include "proto/frame.h"
#include "proto/overlapd.pb-c.h"
#include "tests/harness/harness.h"

static void layout_families_agree(void **state) {
        assert_int_equal(OVL_FAMILY_NONE, OVERLAPD__FAMILY__FAMILY_NONE);
        assert_int_equal(OVL_FAMILY_UNIX, OVERLAPD__FAMILY__FAMILY_UNIX);
        assert_int_equal(OVL_FAMILY_INET, OVERLAPD__FAMILY__FAMILY_INET);
        assert_int_equal(OVL_FAMILY_INET6, OVERLAPD__FAMILY__FAMILY_INET6);
        assert_int_equal(OVL_FAMILY_UNIX, AF_UNIX);
        assert_int_equal(OVL_FAMILY_INET, AF_INET);
        assert_int_equal(OVL_FAMILY_INET6, AF_INET6);
}

static void layout_addresses_end_in_their_slot(void **state) {
        size_t host = offsetof(struct ovl_entry, address) + offsetof(struct ovl_address, host);

        assert_true(host + 16 <= 2 * OVL_SLOT_SIZE);
        assert_true(host + 108 <= 3 * OVL_SLOT_SIZE);
        assert_int_equal(sizeof(struct ovl_entry), OVL_ENTRY_SLOTS_MAX * OVL_SLOT_SIZE);
        assert_int_equal(offsetof(struct ovl_entry, address), OVL_SLOT_SIZE);
}

static void layout_frames_hold_whole_things(void **state) {
        size_t slots = (OVL_FRAME_POST_MAX - sizeof(struct ovl_post_header)) / OVL_SLOT_SIZE;
        size_t records = (OVL_FRAME_RECORDS_MAX - sizeof(struct ovl_records_header)) / sizeof(struct ovl_record);

        assert_int_equal(slots, 2047);
        assert_int_equal(records, 2047);
        assert_true(FRAME_SIZE_MAX >= sizeof(struct ovl_frame_header) + OVL_FRAME_RECORDS_MAX);
        assert_true(FRAME_SIZE_MAX >= sizeof(struct ovl_frame_header) + OVL_FRAME_CONTROL_MAX);
}

static void layout_lanes_share_no_cache_line(void **state) {
        assert_true(offsetof(struct ovl_lane_client, records_head) / 64 !=
                    offsetof(struct ovl_lane_client, slots_tail) / 64);
        assert_true(offsetof(struct ovl_lane_daemon, records_tail) / 64 !=
                    offsetof(struct ovl_lane_daemon, slots_head) / 64);
        assert_true(sizeof(struct ovl_lane_client) <= OVL_LANE_DATA);
        assert_true(sizeof(struct ovl_lane_daemon) <= OVL_LANE_DATA);
        assert_memory_equal(&(uint32_t){ OVL_LANE_MAGIC }, "OVLN", 4);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "families-agree", layout_families_agree },
                { "addresses-end-in-their-slot", layout_addresses_end_in_their_slot },
                { "frames-hold-whole-things", layout_frames_hold_whole_things },
                { "lanes-share-no-cache-line", layout_lanes_share_no_cache_line },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
