/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sessions that do whatever comes to mind: every operation, option and request, on sockets of all kinds, shared or not,
 * with what is right and what is not, while peers send, read, reset and go, files shrink, and sessions die. Nothing is
 * known of what an operation will come to, so little is checked: that each entry ends in exactly one record, that the
 * worker lives, and that in the end it holds what it held before. What it reads and writes beyond its memory is seen
 * where a sanitizer looks.
 *
 * The decisions come from a seed (OVL_TEST_SEED, of the first of OVL_TEST_SEEDS runs), what the kernel does does not.
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/sim/random.h"
#include "tests/system/estate.h"
#include "tests/system/raw.h"

#define HAVOC_SESSIONS 3u
#define HAVOC_SOCKETS 24u
#define HAVOC_PEERS 64u
#define HAVOC_FILES 4u
#define HAVOC_TAGS 4096u
#define HAVOC_REQUESTS 4096u
#define HAVOC_MEMORY (1u << 20)
#define HAVOC_STEPS 3000u
#define HAVOC_CREDITS 256u

struct havoc_session {
        struct raw *raw;
        uint8_t *memory; /* of region 1 */
        uint64_t n_tags;
        uint32_t n_open; /* entries that have no record yet */
        bool is_open[HAVOC_TAGS];
        uint8_t asked[HAVOC_REQUESTS]; /* what a request was, by its id: enum havoc_request */
        uint32_t n_asked;              /* requests that have no reply yet */
        uint64_t sockets[HAVOC_SOCKETS];
        uint32_t files[HAVOC_FILES];
        uint8_t ticket[16]; /* to join, if there is one */
        bool has_ticket;
        bool adds_region; /* there is a second region, or may be one */
};

enum havoc_request {
        HAVOC_NOTHING,
        HAVOC_OTHER,
        HAVOC_OPENS_SOCKET,
        HAVOC_TAKES_SOCKET,
        HAVOC_ADDS_FILE,
        HAVOC_SHARES, /* with the session that the ids above say */
};

struct havoc {
        struct estate estate;
        struct random random;
        uint64_t seed;
        unsigned level;
        struct havoc_session sessions[HAVOC_SESSIONS];
        int peers[HAVOC_PEERS]; /* ordinary ends, -1: none */
        int listeners[2];       /* ordinary ones, to connect to */
        struct sockaddr_in6 listens_at[2];
        int file; /* that shrinks and grows */
        char file_path[96];
        uint32_t shares_with[HAVOC_REQUESTS];
        unsigned n_moved, n_refused, n_posted; /* operations */
};

static size_t below(struct havoc *havoc, size_t n) {
        return random_below(&havoc->random, n);
}

static bool chance(struct havoc *havoc, unsigned percent) {
        return random_chance(&havoc->random, percent);
}

/* --- What comes ------------------------------------------------------------------------------------------------- */

/* Remembers a socket, where there is a free place. */
static void havoc_keep(struct havoc *havoc, struct havoc_session *session, uint64_t socket) {
        for (size_t i = 0; i < HAVOC_SOCKETS; i++)
                if (session->sockets[i] == 0) {
                        session->sockets[i] = socket;
                        return;
                }
        session->sockets[below(havoc, HAVOC_SOCKETS)] = socket;
}

/* Most of the time: who goes on with what is closed is refused. */
static void havoc_forget(struct havoc *havoc, struct havoc_session *session, uint64_t socket) {
        for (size_t i = 0; i < HAVOC_SOCKETS; i++)
                if (session->sockets[i] == socket && chance(havoc, 80))
                        session->sockets[i] = 0;
}

static void havoc_take_reply(struct havoc *havoc, struct havoc_session *session) {
        const Overlapd__Reply *reply = session->raw->reply;
        uint32_t id = reply->id % HAVOC_REQUESTS;

        if (session->asked[id] == HAVOC_NOTHING)
                fail_msg("seed %llu: a second reply to request %u", (unsigned long long) havoc->seed, reply->id);
        if (reply->status == 0 && session->asked[id] == HAVOC_OPENS_SOCKET)
                havoc_keep(havoc, session, reply->socket_open->socket);
        if (reply->status == 0 && session->asked[id] == HAVOC_TAKES_SOCKET)
                havoc_keep(havoc, session, reply->socket_taken->socket);
        if (reply->status == 0 && session->asked[id] == HAVOC_ADDS_FILE)
                session->files[below(havoc, HAVOC_FILES)] = reply->file_add->file;
        if (reply->status == 0 && session->asked[id] == HAVOC_SHARES) {
                struct havoc_session *other = &havoc->sessions[havoc->shares_with[id]];

                memcpy(other->ticket, reply->socket_share->ticket.data, sizeof(other->ticket));
                other->has_ticket = true;
        }
        session->asked[id] = HAVOC_NOTHING;
        session->n_asked--;
}

static void havoc_take_records(struct havoc *havoc, struct havoc_session *session) {
        while (session->raw->n_records > 0) {
                struct ovl_record record = raw_take(session->raw);

                if (record.kind != OVL_RECORD_COMPLETION)
                        continue;
                if (record.tag > session->n_tags || !session->is_open[record.tag % HAVOC_TAGS])
                        fail_msg("seed %llu: a record of %s tag %llu", (unsigned long long) havoc->seed,
                                 record.tag > session->n_tags ? "the unknown" : "the ended",
                                 (unsigned long long) record.tag);
                session->is_open[record.tag % HAVOC_TAGS] = false;
                havoc->n_moved += record.bytes > 0;
                havoc->n_refused += (record.flags & OVL_RECORD_REFUSED) != 0;
                session->n_open--;
                if (record.op == OVL_OP_ACCEPT && record.status == 0 && record.value != 0)
                        havoc_keep(havoc, session, record.value);
        }
}

/* Takes what has come. */
static void havoc_take_in(struct havoc *havoc, struct havoc_session *session) {
        while (raw_has_input(session->raw)) {
                if (session->raw->n_records > 0) {
                        havoc_take_records(havoc, session);
                        continue;
                }
                switch (raw_next(session->raw)) {
                case RAW_REPLY:
                        havoc_take_reply(havoc, session);
                        break;
                case RAW_RECORDS:
                        break;
                case RAW_NOTICE:
                        fail_msg("seed %llu: a notice: %s", (unsigned long long) havoc->seed,
                                 session->raw->notice->text);
                        break;
                case RAW_END:
                        fail_msg("seed %llu: the daemon hung up", (unsigned long long) havoc->seed);
                }
        }
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

static void havoc_ask(struct havoc_session *session, Overlapd__Request *request, enum havoc_request kind, int fd) {
        uint32_t id = raw_send(session->raw, request, fd);

        assert_int_equal(session->asked[id % HAVOC_REQUESTS], HAVOC_NOTHING);
        session->asked[id % HAVOC_REQUESTS] = kind;
        session->n_asked++;
}

/* Mostly one of its own, sometimes one of another session, or none. */
static uint64_t havoc_socket(struct havoc *havoc, struct havoc_session *session) {
        if (chance(havoc, 2))
                session = &havoc->sessions[below(havoc, HAVOC_SESSIONS)];
        if (chance(havoc, 1))
                return random_next(&havoc->random);
        for (size_t i = 0; i < 8; i++) {
                uint64_t socket = session->sockets[below(havoc, HAVOC_SOCKETS)];

                if (socket != 0)
                        return socket;
        }
        return 0;
}

static void havoc_open_socket(struct havoc *havoc, struct havoc_session *session) {
        static const Overlapd__Family families[] = { OVERLAPD__FAMILY__FAMILY_INET, OVERLAPD__FAMILY__FAMILY_INET6,
                                                     OVERLAPD__FAMILY__FAMILY_UNIX };
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOpen open_it = OVERLAPD__SOCKET_OPEN__INIT;

        open_it.family = families[below(havoc, 3)];
        open_it.type = chance(havoc, 70) ? OVERLAPD__TYPE__TYPE_STREAM : OVERLAPD__TYPE__TYPE_DATAGRAM;
        open_it.non_overlapped = chance(havoc, 5);
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPEN;
        request.socket_open = &open_it;
        havoc_ask(session, &request, HAVOC_OPENS_SOCKET, -1);
}

/* A connection with an ordinary end, which takes the place of another. */
static void havoc_adopt(struct havoc *havoc, struct havoc_session *session) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketAdopt adopt = OVERLAPD__SOCKET_ADOPT__INIT;
        _cleanup_fd_ int mine = -1, listener = -1;
        int *peer = &havoc->peers[below(havoc, HAVOC_PEERS)];
        struct sockaddr_in6 address = havoc->listens_at[0];
        socklen_t len = sizeof(address);
        int pair[2];

        fd_close(*peer);
        *peer = -1;
        if (chance(havoc, 40)) {
                assert_int_equal(
                        socketpair(AF_UNIX, (chance(havoc, 50) ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0, pair), 0);
                mine = pair[0];
                *peer = pair[1];
        } else {
                listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
                address.sin6_port = 0;
                assert_int_equal(bind(listener, (struct sockaddr *) &address, len), 0);
                assert_int_equal(listen(listener, 1), 0);
                assert_int_equal(getsockname(listener, (struct sockaddr *) &address, &len), 0);
                mine = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
                assert_int_equal(connect(mine, (struct sockaddr *) &address, len), 0);
                *peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        }
        assert_true(*peer >= 0);
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_ADOPT;
        request.socket_adopt = &adopt;
        havoc_ask(session, &request, HAVOC_TAKES_SOCKET, mine);
}

static void havoc_set_option(struct havoc *havoc, struct havoc_session *session) {
        static const int64_t values[] = {
                0, 0, 1, 1, 2, 1000, 4096, 65536, 1 << 20, INT32_MAX, INT64_MAX, -1, INT64_MIN
        };
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketOptionSet set = OVERLAPD__SOCKET_OPTION_SET__INIT;

        set.socket = havoc_socket(havoc, session);
        /* Buffers of no bytes are what changes most. */
        set.option = (Overlapd__Option) (chance(havoc, 50) ? 9 + below(havoc, 2) : below(havoc, 30));
        set.value = values[below(havoc, chance(havoc, 50) ? 4 : HARNESS_N(values))];
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_SET;
        request.socket_option_set = &set;
        havoc_ask(session, &request, HAVOC_OTHER, -1);
}

static void havoc_cancel(struct havoc *havoc, struct havoc_session *session) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;

        cancel.socket = chance(havoc, 20) ? 0 : havoc_socket(havoc, session);
        if (chance(havoc, 70)) {
                cancel.which_case = OVERLAPD__CANCEL__WHICH_TAG;
                cancel.tag = 1 + below(havoc, session->n_tags + 1);
        } else if (chance(havoc, 50)) {
                cancel.which_case = OVERLAPD__CANCEL__WHICH_THREAD;
                cancel.thread = 1;
        } else {
                cancel.which_case = OVERLAPD__CANCEL__WHICH_ALL;
                cancel.all = true;
        }
        request.what_case = OVERLAPD__REQUEST__WHAT_CANCEL;
        request.cancel = &cancel;
        havoc_ask(session, &request, HAVOC_OTHER, -1);
}

static void havoc_share(struct havoc *havoc, struct havoc_session *session) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketShare share = OVERLAPD__SOCKET_SHARE__INIT;
        uint32_t other = (uint32_t) below(havoc, HAVOC_SESSIONS);

        share.socket = havoc_socket(havoc, session);
        share.session = havoc->sessions[other].raw->session;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_SHARE;
        request.socket_share = &share;
        havoc->shares_with[(session->raw->id + 1) % HAVOC_REQUESTS] = other;
        havoc_ask(session, &request, HAVOC_SHARES, -1);
}

static void havoc_join(struct havoc_session *session) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketJoin join = OVERLAPD__SOCKET_JOIN__INIT;

        if (!session->has_ticket)
                return;
        join.ticket = (ProtobufCBinaryData){ sizeof(session->ticket), session->ticket };
        session->has_ticket = false;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_JOIN;
        request.socket_join = &join;
        havoc_ask(session, &request, HAVOC_TAKES_SOCKET, -1);
}

static void havoc_add_file(struct havoc *havoc, struct havoc_session *session) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__FileAdd add = OVERLAPD__FILE_ADD__INIT;
        _cleanup_fd_ int fd = open(havoc->file_path, O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        request.what_case = OVERLAPD__REQUEST__WHAT_FILE_ADD;
        request.file_add = &add;
        havoc_ask(session, &request, HAVOC_ADDS_FILE, fd);
}

static void havoc_change_region(struct havoc *havoc, struct havoc_session *session) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__RegionAdd add = OVERLAPD__REGION_ADD__INIT;
        Overlapd__RegionRemove remove = OVERLAPD__REGION_REMOVE__INIT;
        _cleanup_fd_ int fd = -1;

        if (!session->adds_region) {
                fd = raw_memfd(65536);
                add.size = 65536;
                request.what_case = OVERLAPD__REQUEST__WHAT_REGION_ADD;
                request.region_add = &add;
        } else {
                remove.region = (uint32_t) (2 + below(havoc, 3));
                request.what_case = OVERLAPD__REQUEST__WHAT_REGION_REMOVE;
                request.region_remove = &remove;
        }
        session->adds_region = !session->adds_region;
        havoc_ask(session, &request, HAVOC_OTHER, fd);
}

static void havoc_of_socket(struct havoc *havoc, struct havoc_session *session) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketClose close_it = OVERLAPD__SOCKET_CLOSE__INIT;
        Overlapd__SocketShutdown shut = OVERLAPD__SOCKET_SHUTDOWN__INIT;
        Overlapd__SocketBind bind_it = OVERLAPD__SOCKET_BIND__INIT;
        Overlapd__SocketListen listen_it = OVERLAPD__SOCKET_LISTEN__INIT;
        Overlapd__SocketName name = OVERLAPD__SOCKET_NAME__INIT;
        Overlapd__FileRemove remove = OVERLAPD__FILE_REMOVE__INIT;
        Overlapd__Address address = OVERLAPD__ADDRESS__INIT;
        uint64_t socket = havoc_socket(havoc, session);

        switch (below(havoc, 8)) {
        case 0:
                close_it.socket = socket;
                havoc_forget(havoc, session, socket);
                request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_CLOSE;
                request.socket_close = &close_it;
                break;
        case 1:
                shut.socket = socket;
                shut.direction = (Overlapd__Direction) below(havoc, 5);
                request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_SHUTDOWN;
                request.socket_shutdown = &shut;
                break;
        case 2:
        case 3:
                address.family = OVERLAPD__FAMILY__FAMILY_INET6;
                address.host = (ProtobufCBinaryData){ 16, (uint8_t *) &in6addr_loopback };
                bind_it.socket = socket;
                bind_it.address = &address;
                request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_BIND;
                request.socket_bind = &bind_it;
                break;
        case 4:
        case 5:
                listen_it.socket = socket;
                listen_it.backlog = 8;
                request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN;
                request.socket_listen = &listen_it;
                break;
        case 6:
                name.socket = socket;
                name.peer = chance(havoc, 50);
                request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_NAME;
                request.socket_name = &name;
                break;
        default:
                remove.file = session->files[below(havoc, HAVOC_FILES)];
                request.what_case = OVERLAPD__REQUEST__WHAT_FILE_REMOVE;
                request.file_remove = &remove;
                break;
        }
        havoc_ask(session, &request, HAVOC_OTHER, -1);
}

static void havoc_request(struct havoc *havoc, struct havoc_session *session) {
        /* Replies that wait for the ends of operations must not meet their ids again. */
        if (session->n_asked > 40)
                return;
        switch (below(havoc, 12)) {
        case 0:
        case 1:
                havoc_open_socket(havoc, session);
                break;
        case 2:
        case 3:
                havoc_adopt(havoc, session);
                break;
        case 4:
                havoc_set_option(havoc, session);
                break;
        case 5:
        case 6:
                havoc_cancel(havoc, session);
                break;
        case 7:
                havoc_share(havoc, session);
                break;
        case 8:
                havoc_join(session);
                break;
        case 9:
                if (havoc->level > 0 && chance(havoc, 50))
                        havoc_add_file(havoc, session);
                else if (havoc->level > 0)
                        havoc_change_region(havoc, session);
                break;
        default:
                havoc_of_socket(havoc, session);
                break;
        }
}

/* --- Entries ---------------------------------------------------------------------------------------------------- */

static uint32_t havoc_len(struct havoc *havoc) {
        static const uint32_t lens[] = { 0, 0, 1, 2, 7, 8, 16, 100, 116, 128, 176, 232, 384, 1000, 4096, 30000, 65535 };

        return lens[below(havoc, HARNESS_N(lens))];
}

static struct ovl_slice havoc_slice(struct havoc *havoc, uint32_t len) {
        struct ovl_slice slice = { .offset = 8 * below(havoc, HAVOC_MEMORY / 8), .len = len, .region = 1 };

        if (slice.offset + len > HAVOC_MEMORY && chance(havoc, 95))
                slice.offset = 0;
        if (chance(havoc, 5))
                slice.region = (uint32_t) below(havoc, 5);
        if (chance(havoc, 1))
                slice.offset = random_next(&havoc->random);
        if (chance(havoc, 1))
                slice.len = (uint32_t) random_next(&havoc->random);
        return slice;
}

/* An array of slices or elements somewhere in region 1, which anybody may change at any time. */
static struct ovl_slice havoc_vector(struct havoc *havoc, struct havoc_session *session) {
        size_t n = 1 + below(havoc, chance(havoc, 90) ? 5 : 70);
        size_t at = 16 * below(havoc, HAVOC_MEMORY / 16 - 80);

        for (size_t i = 0; i < n; i++) {
                struct ovl_slice slice = havoc_slice(havoc, havoc_len(havoc));

                /* As an element: with flags, where a slice has the upper half of its region. */
                if (chance(havoc, 60))
                        slice.region = (uint32_t) ((below(havoc, 4) << 16) | (chance(havoc, 50) ? 1 : 0));
                if (chance(havoc, 50))
                        slice.offset = below(havoc, 100000);
                memcpy(session->memory + at + i * sizeof(slice), &slice, sizeof(slice));
        }
        return (struct ovl_slice){ .offset = at, .len = (uint32_t) (n * sizeof(struct ovl_slice)), .region = 1 };
}

/* Control items, more or less. */
static struct ovl_slice havoc_items(struct havoc *havoc, struct havoc_session *session) {
        size_t at = 8 * below(havoc, HAVOC_MEMORY / 8 - 80);
        size_t len = 8 * below(havoc, 12);

        for (size_t i = 0; i + 16 <= len; i += 16) {
                struct ovl_control item = { .len = (uint32_t) (8 + below(havoc, 30)),
                                            .type = (uint16_t) below(havoc, 5) };
                uint64_t value = below(havoc, 300);

                memcpy(session->memory + at + i, &item, sizeof(item));
                memcpy(session->memory + at + i + sizeof(item), &value, sizeof(value));
        }
        return (struct ovl_slice){ .offset = at, .len = (uint32_t) len, .region = 1 };
}

static void havoc_address(struct havoc *havoc, struct ovl_entry *entry) {
        const struct sockaddr_in6 *listener = &havoc->listens_at[below(havoc, 2)];

        entry->n_slots = chance(havoc, 5) ? 3 : 2;
        entry->address = (struct ovl_address){ .family = OVL_FAMILY_INET6, .port = ntohs(listener->sin6_port) };
        memcpy(entry->address.host, &listener->sin6_addr, 16);
        if (chance(havoc, 20)) {
                entry->address = (struct ovl_address){ .family = OVL_FAMILY_INET, .port = ntohs(listener->sin6_port) };
                memcpy(entry->address.host, "\x7f\0\0\1", 4);
        }
        if (chance(havoc, 5))
                entry->address.family = (uint8_t) below(havoc, 12);
        if (chance(havoc, 3)) {
                entry->n_slots = 3;
                entry->address = (struct ovl_address){ .family = OVL_FAMILY_UNIX, .path_len = 4, .host = "@xyz" };
        }
}

static void havoc_describe(struct havoc *havoc, struct havoc_session *session, struct ovl_entry *entry) {
        static const uint32_t flags[] = { 0x01, 0x02, 0x04, 0x20, 0x40, 0x100, 0x8000, 0x40000 };

        *entry = (struct ovl_entry){
                .socket = havoc_socket(havoc, session),
                .op = (uint8_t) (1 + below(havoc, chance(havoc, 98) ? 13 : 200)),
                .n_slots = 1,
                .indication = (uint8_t) below(havoc, chance(havoc, 98) ? 3 : 5),
                .buffer = havoc_slice(havoc, havoc_len(havoc)),
        };
        /* Receives and sends are most of all. */
        if (chance(havoc, 50))
                entry->op = (uint8_t) (OVL_OP_RECV + below(havoc, 6));
        /* The resolver is a process of its own, and stays: see tests/system/names.c. */
        if (entry->op == OVL_OP_RESOLVE)
                entry->op = OVL_OP_POLL;
        if (chance(havoc, 12))
                entry->op_flags = flags[below(havoc, HARNESS_N(flags))];
        if (chance(havoc, 20))
                entry->flags |= OVL_ENTRY_WANT_VERDICT;
        if (chance(havoc, 15)) {
                entry->flags |= OVL_ENTRY_VECTOR;
                entry->buffer = havoc_vector(havoc, session);
        }
        switch (entry->op) {
        case OVL_OP_CONNECT:
        case OVL_OP_SENDTO:
                havoc_address(havoc, entry);
                break;
        case OVL_OP_SENDMSG:
                if (chance(havoc, 50))
                        havoc_address(havoc, entry);
                entry->aux = havoc_items(havoc, session);
                break;
        case OVL_OP_ACCEPT:
                entry->other = chance(havoc, 50) ? havoc_socket(havoc, session) : 0;
                entry->aux = havoc_slice(havoc, chance(havoc, 40) ? 232 : 0);
                if (chance(havoc, 50))
                        entry->buffer = (struct ovl_slice){ 0 };
                break;
        case OVL_OP_RECVFROM:
                entry->aux = havoc_slice(havoc, chance(havoc, 70) ? 116 : 0);
                break;
        case OVL_OP_RECVMSG:
                entry->aux = havoc_slice(havoc, (uint32_t) (128 + 8 * below(havoc, 33)));
                break;
        case OVL_OP_TRANSMIT_FILE:
        case OVL_OP_TRANSMIT_PACKETS:
                entry->other = chance(havoc, 80) ? session->files[below(havoc, HAVOC_FILES)] : 0;
                entry->aux = (struct ovl_slice){ .offset = below(havoc, 100000), .len = havoc_len(havoc) };
                entry->op_flags = (uint32_t) below(havoc, 4);
                if (chance(havoc, 70)) {
                        entry->flags |= OVL_ENTRY_VECTOR;
                        entry->buffer = havoc_vector(havoc, session);
                }
                break;
        case OVL_OP_IOCTL:
                entry->other = 1 + below(havoc, 9);
                entry->aux = havoc_slice(havoc, havoc_len(havoc));
                entry->buffer = chance(havoc, 50) ? havoc_slice(havoc, 16) : (struct ovl_slice){ 0 };
                if (chance(havoc, 40))
                        havoc_address(havoc, entry);
                break;
        case OVL_OP_POLL:
                entry->other = below(havoc, 64);
                entry->buffer = (struct ovl_slice){ 0 };
                break;
        default:
                break;
        }
}

/* Bytes that follow the entry at level 0. */
static size_t havoc_make_inline(struct ovl_entry *entry) {
        bool sends = entry->op == OVL_OP_SEND || entry->op == OVL_OP_SENDTO || entry->op == OVL_OP_SENDMSG ||
                     entry->op == OVL_OP_CONNECT || entry->op == OVL_OP_IOCTL;
        bool receives = entry->op == OVL_OP_RECV || entry->op == OVL_OP_RECVFROM || entry->op == OVL_OP_RECVMSG ||
                        entry->op == OVL_OP_ACCEPT;
        size_t len = 0;

        entry->flags &= (uint8_t) ~OVL_ENTRY_VECTOR;
        entry->buffer.offset = entry->buffer.region = 0;
        entry->aux.offset = entry->aux.region = 0;
        entry->buffer.len %= 65536;
        entry->aux.len %= 65536;
        if (sends || receives)
                entry->flags |= OVL_ENTRY_INLINE;
        if (sends)
                len += entry->buffer.len;
        if (entry->op == OVL_OP_SENDMSG)
                len += entry->aux.len;
        return len;
}

static void havoc_post(struct havoc *havoc, struct havoc_session *session) {
        struct ovl_entry entry;
        size_t len;

        if (session->n_open >= HAVOC_CREDITS - 1)
                return;
        havoc_describe(havoc, session, &entry);
        /* A tag whose predecessor is still open is left out. */
        do
                entry.tag = ++session->n_tags;
        while (session->is_open[entry.tag % HAVOC_TAGS]);
        session->is_open[entry.tag % HAVOC_TAGS] = true;
        session->n_open++;
        havoc->n_posted++;
        if (havoc->level > 0) {
                raw_post(session->raw, &entry, 1);
                return;
        }
        len = havoc_make_inline(&entry);
        raw_post_inline(session->raw, &entry, 1, session->memory, len);
}

/* --- Peers ------------------------------------------------------------------------------------------------------ */

static void havoc_accept(struct havoc *havoc) {
        int *peer = &havoc->peers[below(havoc, HAVOC_PEERS)];
        int fd = accept4(havoc->listeners[0], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0)
                return;
        fd_close(*peer);
        *peer = fd;
}

static void havoc_peer(struct havoc *havoc) {
        static char bytes[70000];
        int *peer = &havoc->peers[below(havoc, HAVOC_PEERS)];
        size_t len = havoc_len(havoc);

        switch (below(havoc, 24)) {
        case 0:
                setsockopt(*peer, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
                *peer = fd_close(*peer);
                break;
        case 1:
                shutdown(*peer, (int) below(havoc, 3));
                break;
        case 2:
                havoc_accept(havoc);
                break;
        case 3:
                assert_int_equal(ftruncate(havoc->file, (off_t) below(havoc, 300000)), 0);
                break;
        case 4:
                if (send(*peer, bytes, 1, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_OOB) < 0)
                        errno = 0;
                break;
        case 5:
                if (recv(havoc->listeners[1], bytes, sizeof(bytes), MSG_DONTWAIT) < 0)
                        errno = 0;
                break;
        case 6:
        case 7:
        case 8:
        case 9:
        case 10:
        case 11:
        case 12:
        case 13:
        case 14:
                if (send(*peer, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                        errno = 0;
                break;
        default:
                while (recv(*peer, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
                        continue;
                break;
        }
}

/* --- Sessions --------------------------------------------------------------------------------------------------- */

static void havoc_open_session(struct havoc *havoc, struct havoc_session *session) {
        _cleanup_fd_ int fd = -1;

        *session = (struct havoc_session){ 0 };
        session->raw = raw_open_level(&havoc->estate.daemon, havoc->level, HAVOC_CREDITS);
        if (havoc->level == 0) {
                session->memory = calloc(1, HAVOC_MEMORY);
                assert_non_null(session->memory);
                return;
        }
        fd = raw_memfd(HAVOC_MEMORY);
        session->memory = mmap(NULL, HAVOC_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_true(session->memory != MAP_FAILED);
        assert_int_equal(raw_region_add(session->raw, fd, HAVOC_MEMORY), 1);
}

static void havoc_open(struct havoc *havoc, struct havoc_session *session) {
        havoc_open_session(havoc, session);
        for (size_t i = 0; i < HAVOC_SOCKETS / 2; i++)
                havoc_adopt(havoc, session);
}

/* It dies as it is. */
static void havoc_end(struct havoc *havoc, struct havoc_session *session) {
        session->raw = raw_close(session->raw);
        if (havoc->level > 0)
                munmap(session->memory, HAVOC_MEMORY);
        else
                free(session->memory);
}

static bool havoc_is_over(void *data) {
        struct havoc *havoc = data;
        bool is_over = true;

        for (size_t i = 0; i < HAVOC_SESSIONS; i++) {
                havoc_take_in(havoc, &havoc->sessions[i]);
                is_over = is_over && havoc->sessions[i].n_open == 0 && havoc->sessions[i].n_asked == 0;
        }
        return is_over;
}

/* All that is pending is cancelled: every entry has its record, every request its reply. */
static void havoc_finish(struct havoc *havoc) {
        for (size_t i = 0; i < HAVOC_SESSIONS; i++) {
                Overlapd__Request request = OVERLAPD__REQUEST__INIT;
                Overlapd__Cancel cancel = OVERLAPD__CANCEL__INIT;

                request.what_case = OVERLAPD__REQUEST__WHAT_CANCEL;
                request.cancel = &cancel;
                cancel.which_case = OVERLAPD__CANCEL__WHICH_ALL;
                cancel.all = true;
                havoc_take_in(havoc, &havoc->sessions[i]);
                havoc_ask(&havoc->sessions[i], &request, HAVOC_OTHER, -1);
        }
        if (!harness_wait(havoc_is_over, havoc, harness_deadline(30)))
                fail_msg("seed %llu: entries without a record: %u, %u, %u; requests without a reply: %u, %u, %u",
                         (unsigned long long) havoc->seed, havoc->sessions[0].n_open, havoc->sessions[1].n_open,
                         havoc->sessions[2].n_open, havoc->sessions[0].n_asked, havoc->sessions[1].n_asked,
                         havoc->sessions[2].n_asked);
}

static void havoc_listen(struct havoc *havoc) {
        static const int types[] = { SOCK_STREAM, SOCK_DGRAM };

        for (size_t i = 0; i < 2; i++) {
                socklen_t len = sizeof(havoc->listens_at[i]);

                havoc->listens_at[i] = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
                havoc->listeners[i] = socket(AF_INET6, types[i] | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                assert_int_equal(bind(havoc->listeners[i], (struct sockaddr *) &havoc->listens_at[i], len), 0);
                assert_int_equal(getsockname(havoc->listeners[i], (struct sockaddr *) &havoc->listens_at[i], &len), 0);
        }
        assert_int_equal(listen(havoc->listeners[0], 64), 0);
}

static void havoc_start(struct havoc *havoc, unsigned level, uint64_t seed) {
        *havoc = (struct havoc){ .level = level, .seed = seed, .random = { seed } };
        estate_start(&havoc->estate, NULL);
        havoc_listen(havoc);
        snprintf(havoc->file_path, sizeof(havoc->file_path), "%s/havoc", harness_directory());
        havoc->file = open(havoc->file_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(havoc->file >= 0);
        assert_int_equal(ftruncate(havoc->file, 200000), 0);
        for (size_t i = 0; i < HAVOC_PEERS; i++)
                havoc->peers[i] = -1;
        for (size_t i = 0; i < HAVOC_SESSIONS; i++)
                havoc_open(havoc, &havoc->sessions[i]);
}

static void havoc_run(unsigned level, uint64_t seed) {
        static struct havoc run;
        struct havoc *havoc = &run;

        havoc_start(havoc, level, seed);
        for (size_t step = 0; step < HAVOC_STEPS; step++) {
                struct havoc_session *session = &havoc->sessions[below(havoc, HAVOC_SESSIONS)];

                havoc_take_in(havoc, session);
                if (chance(havoc, 55))
                        havoc_post(havoc, session);
                else if (chance(havoc, 55))
                        havoc_request(havoc, session);
                else
                        havoc_peer(havoc);
                if (below(havoc, 600) == 0) {
                        havoc_end(havoc, session);
                        havoc_open(havoc, session);
                }
        }
        havoc_finish(havoc);
        print_message("seed %llu: of %u operations %u were refused, %u moved bytes\n", (unsigned long long) seed,
                      havoc->n_posted, havoc->n_refused, havoc->n_moved);
        assert_true(havoc->n_moved > 20);
        for (size_t i = 0; i < HAVOC_SESSIONS; i++)
                havoc_end(havoc, &havoc->sessions[i]);
        for (size_t i = 0; i < HAVOC_PEERS; i++)
                fd_close(havoc->peers[i]);
        close(havoc->listeners[0]);
        close(havoc->listeners[1]);
        close(havoc->file);
        estate_stop(&havoc->estate);
}

static void havoc_run_all(unsigned level) {
        const char *first = getenv("OVL_TEST_SEED"), *n = getenv("OVL_TEST_SEEDS");
        uint64_t seed = first ? strtoull(first, NULL, 10) : 1;
        uint64_t end = seed + (n ? strtoull(n, NULL, 10) : 3);

        for (; seed < end; seed++)
                havoc_run(level, seed);
}

static void havoc_inline(void **state) {
        havoc_run_all(0);
}

static void havoc_shared(void **state) {
        havoc_run_all(1);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "at the level inline", havoc_inline, 300 },
                { "at the level shared", havoc_shared, 300 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
