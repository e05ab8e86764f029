/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SYSTEM_RAW_H
#define TESTS_SYSTEM_RAW_H

/*
 * A connection to a daemon without the library: whatever frames the story wants, also those that no library writes.
 * Shares only the layouts with the daemon. Every wait has a deadline, and asserts.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/frame.h"
#include "proto/message.h"
#include "proto/overlapd.pb-c.h"
#include "tests/harness/daemon.h"

enum raw_kind {
        RAW_END,     /* the daemon closed the connection */
        RAW_RECORDS, /* one or more records joined those that wait */
        RAW_REPLY,
        RAW_NOTICE,
};

struct raw {
        int fd;
        uint32_t id;
        uint64_t session;
        uint8_t secret[16];
        uint32_t credits;
        uint32_t level;
        uint64_t inline_bytes;
        const Overlapd__Reply *reply; /* the latest; in the arena */
        const Overlapd__Notice *notice;
        struct ovl_record *records; /* that wait to be taken */
        size_t n_records, n_records_held;
        uint64_t n_settled; /* of the latest SETTLED record */
        uint8_t *payloads;  /* of the records that wait, one behind the other */
        size_t payloads_len;
        uint8_t *payload; /* of the record that was taken last: its payload_len bytes */
        size_t n_in;
        uint8_t in[FRAME_SIZE_MAX];
        struct message_arena arena;
};

/* Connects, without a hello. The caller frees with raw_close(), which takes NULL. */
struct raw *raw_connect(const struct daemon *daemon);
struct raw *raw_close(struct raw *raw);

/* Connects and opens a session, of level 1 or another. credits: 0: the daemon's default. */
struct raw *raw_open(const struct daemon *daemon, uint32_t credits);
struct raw *raw_open_level(const struct daemon *daemon, uint32_t level, uint32_t credits);

/* A further connection: a thread of the session of `first`, or a port. */
struct raw *raw_attach_thread(const struct daemon *daemon, const struct raw *first, uint64_t number);
struct raw *raw_attach_port(const struct daemon *daemon, const struct raw *first, uint64_t number);

/* Sends bytes as they are; fd rides with the first, or -1. Returns whether the daemon still took them. */
bool raw_write(struct raw *raw, const void *bytes, size_t len, int fd);

/* Sends a frame with any header. */
bool raw_frame(struct raw *raw, unsigned kind, const void *body, size_t len, unsigned n_fds, int fd);

/* Sends a request; fd: -1: none. A request with id 0 gets the next. Returns its id. */
uint32_t raw_send(struct raw *raw, Overlapd__Request *request, int fd);

/* Waits for the next frame. */
enum raw_kind raw_next(struct raw *raw);

/* Waits for the reply with an id, keeping records. */
const Overlapd__Reply *raw_await(struct raw *raw, uint32_t id);

/* Sends a request and waits for its reply. Returns the status of the reply. */
int raw_call(struct raw *raw, Overlapd__Request *request, int fd);

/* A notice that says it is the end, and then the end. reason: 0: any. text: is in the notice; NULL: any. */
void raw_expect_kick(struct raw *raw, unsigned reason, const char *text);

/* The end, whatever comes before it. */
void raw_expect_end(struct raw *raw);

/* Whether the daemon has sent something that was not looked at. */
bool raw_has_input(struct raw *raw);

/* Posts entries in one frame: as many slots each as they say. */
void raw_post(struct raw *raw, const struct ovl_entry *entries, size_t n);

/* The same with bytes of payload behind the slots. */
void raw_post_inline(struct raw *raw, const struct ovl_entry *entries, size_t n, const void *payload, size_t len);

/* Takes the next completion record. */
struct ovl_record raw_take(struct raw *raw);

/* Posts one entry and takes the next record. */
struct ovl_record raw_one(struct raw *raw, const struct ovl_entry *entry);

/* Requests of one line. They return the status of the reply, or what the reply gave. */
int raw_region_add(struct raw *raw, int fd, uint64_t size);
int raw_region_remove(struct raw *raw, uint32_t region);
uint64_t raw_socket(struct raw *raw, unsigned family);
int raw_socket_close(struct raw *raw, uint64_t socket);
int raw_status(struct raw *raw);

/* A memfd as the daemon wants it. The caller's. */
int raw_memfd(size_t size);

/* A connected socket of the session and the ordinary other end, which is the caller's. */
uint64_t raw_pair(struct raw *raw, int *ret_fd);

#endif
