/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CONFORMANCE_DRIVER_H
#define TESTS_CONFORMANCE_DRIVER_H

/*
 * What the driver of the C library keeps: the objects that the runner has named, and the line that it is answering.
 * driver.c reads lines and keeps the objects, commands.c and operations.c are what they ask for.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "client/c/overlap.h"

#define DRIVER_NAME_SIZE 32
#define DRIVER_WORDS_MAX 32
#define DRIVER_REGION_SIZE (8u << 20)

/* One line of the runner: a command, the name of what it is about, and options. */
struct line {
        char *words[DRIVER_WORDS_MAX];
        size_t n_words;
};

/* The i-th word, or "". */
const char *line_word(const struct line *line, size_t i);

/* The value of `name=value`, or NULL. */
const char *line_option(const struct line *line, const char *name);
uint64_t line_number(const struct line *line, const char *name);
bool line_has(const struct line *line, const char *flag);

enum object_kind {
        OBJECT_SESSION,
        OBJECT_THREAD,
        OBJECT_PORT,
        OBJECT_SOCKET,
        OBJECT_OP
};

/* Whatever has a name. Lies still until the program ends: the library holds overlapped structures. */
struct object {
        struct object *next;
        enum object_kind kind;
        char name[DRIVER_NAME_SIZE];
        struct object *owner; /* borrowed: the session */
        bool is_closed;
        union {
                struct {
                        struct ovl_session *session;
                        struct ovl_region *region;
                        size_t region_used;
                } session;
                struct ovl_thread *thread;
                struct ovl_port *port;
                uint64_t socket;
                struct {
                        struct ovl_overlapped overlapped;
                        struct driver *driver; /* borrowed */
                        uint8_t *data;
                        size_t len;
                        char into[DRIVER_NAME_SIZE]; /* of an accept: the name of the new socket */
                } op;
        };
};

struct driver {
        struct object *objects;
        char answer[1024]; /* what follows "ok" */
        char error[600];   /* what follows the status behind "error" */
        char ran[512];     /* the routines that ran in this command */
};

/* Adds to the answer. */
void driver_say(struct driver *driver, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Keeps why a call failed. Returns r. */
int driver_fail(struct driver *driver, int r, const struct ovl_error *error);

/* NULL if there is none, or it was closed. */
struct object *driver_find(struct driver *driver, enum object_kind kind, const char *name);
struct object *driver_add(struct driver *driver, enum object_kind kind, const char *name, struct object *owner);

/* The one that an option names, as thread=t. */
struct object *driver_named(struct driver *driver, const struct line *line, enum object_kind kind, const char *option);

/* Commands: 0 and the answer, or -errno. */
typedef int driver_command(struct driver *driver, const struct line *line);

driver_command command_features, command_open, command_thread, command_port, command_socket, command_bind,
        command_listen, command_name, command_option_set, command_option_get, command_associate, command_shutdown,
        command_close_socket, command_close_thread, command_close_port, command_close_session, command_status;
driver_command operation_connect, operation_accept, operation_recv, operation_send, operation_wait, operation_result,
        operation_data, operation_sleep, operation_port_wait, operation_cancel, operation_cork, operation_uncork;

/* Closes what is open, in an order that the library allows. */
void command_close_all(struct driver *driver);

/* Reads host= and port= into an address. Returns 0 or -EINVAL. */
int command_address(const struct line *line, struct sockaddr_storage *ret_address, socklen_t *ret_len);

#endif
