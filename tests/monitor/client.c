/* SPDX-License-Identifier: Apache-2.0 */

/* See client.h. */

#include "tests/monitor/client.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/harness/harness.h"

#define CLIENT_PATIENCE_MS 20000

void client_say(int fd, const char *line) {
        char text[CLIENT_REPLY_SIZE];
        int len = snprintf(text, sizeof(text), "%s\n", line);

        assert_int_equal(send(fd, text, (size_t) len, MSG_NOSIGNAL), len);
}

int client_hear(int fd, char reply[CLIENT_REPLY_SIZE]) {
        size_t len = 0;

        for (;;) {
                struct pollfd wait = { .fd = fd, .events = POLLIN };

                if (poll(&wait, 1, CLIENT_PATIENCE_MS) != 1)
                        fail_msg("no line came in time");
                assert_true(len < CLIENT_REPLY_SIZE - 1);
                if (recv(fd, reply + len, 1, 0) <= 0)
                        return 0;
                if (reply[len] == '\n') {
                        reply[len] = '\0';
                        return 1;
                }
                len++;
        }
}

const char *client_ask(int fd, const char *line) {
        static char reply[CLIENT_REPLY_SIZE];

        client_say(fd, line);
        if (client_hear(fd, reply) == 0)
                fail_msg("the connection ended instead of an answer to '%s'", line);
        return reply;
}

void client_expect(int fd, const char *line, int status, const char *text) {
        const char *reply = client_ask(fd, line);

        if (atoi(reply) != status || !strstr(reply, text))
                fail_msg("'%s' was answered with '%s', expected %d and '%s'", line, reply, status, text);
}

void client_expect_end(int fd) {
        char reply[CLIENT_REPLY_SIZE];

        while (client_hear(fd, reply) > 0)
                ;
}
