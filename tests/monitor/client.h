/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_MONITOR_CLIENT_H
#define TESTS_MONITOR_CLIENT_H

/* A client of the double (see double.c): a line there, a line back. */

#define CLIENT_REPLY_SIZE 512

/* Sends one line. */
void client_say(int fd, const char *line);

/* Waits for a line. Returns 1, or 0 when the connection ended. */
int client_hear(int fd, char reply[CLIENT_REPLY_SIZE]);

/* Sends one line and returns the reply. Static storage. */
const char *client_ask(int fd, const char *line);

/* Sends one line and checks the status of the reply and that it contains a text. */
void client_expect(int fd, const char *line, int status, const char *text);

/* Waits until the connection ended. */
void client_expect_end(int fd);

#endif
