/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SYSTEM_CLIENT_H
#define TESTS_SYSTEM_CLIENT_H

/*
 * A client of a running daemon, through liboverlap, and the ordinary peer at the other end of its connections. Calls
 * assert: they return when they have succeeded.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "client/c/overlap.h"
#include "tests/system/estate.h"

#define CLIENT_MEMORY (1u << 20) /* bytes of the region that every client has */

struct client {
        struct estate estate; /* the daemon, and what its processes hold without clients */
        struct ovl_session *session;
        struct ovl_thread *thread;
        struct ovl_region *region;
        char *memory; /* of the region */
};

/* Starts a daemon, and a session with a thread and a region of CLIENT_MEMORY bytes. */
void client_start(struct client *ret_client);

/* Ends the session, checks that the daemon holds nothing more of it, and stops the daemon. */
void client_stop(struct client *client);

/* The two halves: a session with a daemon that runs. path: NULL: of the environment. */
void client_open(struct client *client, uint32_t credits);
void client_close(struct client *client);

/* Waits for an operation of the client to end (not alertably). Returns its status. */
int client_await(struct client *client, struct ovl_overlapped *overlapped);

/* Waits for an operation and asserts how it ended. */
void client_expect(struct client *client, struct ovl_overlapped *overlapped, int status, uint64_t bytes);

/* Posts a receive or a send of one piece of the client's memory, without a routine. */
int client_recv(struct client *client, uint64_t socket, void *data, size_t len, unsigned flags,
                struct ovl_overlapped *overlapped);
int client_send(struct client *client, uint64_t socket, void *data, size_t len, unsigned flags,
                struct ovl_overlapped *overlapped);

/* A loopback address of a family with port 0. Returns its length. */
socklen_t client_loopback(int family, struct sockaddr_storage *ret_address);

/* A listening socket of the session, and its address. */
uint64_t client_listen(struct client *client, int family, struct sockaddr_storage *ret_address, socklen_t *ret_len);

/* The number of the session. */
uint64_t client_number(const struct client *client);

/* Lets another session join a socket. Returns its number there. */
uint64_t client_join(struct client *host, uint64_t socket, struct client *guest);

/* A connected socket of the session, and at the other end an ordinary descriptor, which is the caller's. */
uint64_t client_pair(struct client *client, int family, int *ret_fd);

/*
 * How long a send is that the connection cannot hold: `big` bytes, or, at a level where a send cannot be so long, fewer
 * in a connection that was made narrow for it.
 */
size_t client_big(struct client *client, uint64_t socket, int fd, size_t big);

/* The ordinary end writes or reads all of it, or asserts. */
void peer_write(int fd, const void *data, size_t len);
void peer_read(int fd, void *data, size_t len);

/* The ordinary end sees the end of the stream, and nothing before it. */
void peer_expect_end(int fd);

/* The ordinary end closes with a reset. */
void peer_reset(int fd);

/* Fills with bytes that depend on their place in the stream, and checks them. */
void pattern_fill(void *data, size_t len, uint64_t offset);
void pattern_check(const void *data, size_t len, uint64_t offset);

/* Nanoseconds that a wait for what must happen may take. */
uint64_t client_patience(void);

#endif
