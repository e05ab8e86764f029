/* SPDX-License-Identifier: Apache-2.0 */

/* Section 6 of docs/SEMANTICS.md: results are read through the overlapped structure. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/harness/harness.h"
#include "tests/system/client.h"

static void section_06_asks_again(void **state) {
        struct ovl_overlapped receiving = { 0 };
        struct client client;
        uint64_t socket;
        int fd;

        client_start(&client);
        socket = client_pair(&client, AF_INET, &fd);
        assert_int_equal(client_recv(&client, socket, client.memory, 8, 0, &receiving), OVL_PENDING);
        peer_write(fd, "four", 4);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(ovl_wait(client.thread, &receiving, OVL_INFINITE, 0), 0);
                assert_int_equal(receiving.status, 0);
                assert_int_equal(receiving.bytes, 4);
        }
        close(fd);
        client_stop(&client);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "6.8 a result can be asked for again and again", section_06_asks_again },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
