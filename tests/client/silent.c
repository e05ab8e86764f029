/* SPDX-License-Identifier: Apache-2.0 */

/* Opening a session ends within its 10 s, whoever is silent at the other end. Slow by its nature. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/time.h"
#include "client/c/overlap.h"
#include "tests/harness/harness.h"

/* Returns a socket that is listened to by nobody, with a queue of one connection. */
static int silent_listen(struct sockaddr_un *address) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        address->sun_family = AF_UNIX;
        snprintf(address->sun_path, sizeof(address->sun_path), "%s/s", harness_directory());
        assert_int_equal(bind(fd, (struct sockaddr *) address, sizeof(*address)), 0);
        assert_int_equal(listen(fd, 0), 0);
        return fd;
}

static void silent_open(const struct sockaddr_un *address) {
        struct ovl_session_options options = { .path = address->sun_path };
        struct ovl_session *session;
        struct ovl_error error;
        uint64_t before = now_ns(), passed;

        assert_int_equal(ovl_session_open(&options, &session, &error), -ETIMEDOUT);
        passed = now_ns() - before;
        assert_true(passed >= 9900 * NS_PER_MS && passed < 15 * NS_PER_S);
        assert_non_null(strstr(error.text, "10 s"));
}

static void silent_answer(void **state) {
        struct sockaddr_un address = { 0 };
        int fd = silent_listen(&address);

        /* The kernel connects; nobody ever answers the hello. */
        silent_open(&address);
        close(fd);
}

static void silent_door(void **state) {
        struct sockaddr_un address = { 0 };
        int fd = silent_listen(&address);
        int others[8];
        size_t n = 0;

        /* The queue is full: not even the connection is made. */
        while (n < 8) {
                others[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                if (connect(others[n++], (struct sockaddr *) &address, sizeof(address)) < 0)
                        break;
        }
        silent_open(&address);
        while (n > 0)
                close(others[--n]);
        close(fd);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "answer", silent_answer, 0 },
                { "door", silent_door, 0 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
