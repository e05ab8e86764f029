/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The client of a storm that does without the library: it reads records from the wire and writes each down, whether it
 * expected it or not. A library that is careful ends its session at the first record that it did not ask for; only
 * here is that record itself seen. It opens one session after the other, each at another level.
 *
 * Invariant: the tag of an entry is the number of the operation, so that the ledger itself matches records with posts.
 *
 *   round: accept and connect --two records--> batches: receives on one end, sends on the other --all records-->
 *          receives that nothing will fill --the other end is closed, or their own--> all records --> next round
 */

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "tests/ledger/pattern.h"
#include "tests/ledger/storm.h"
#include "tests/ledger/wire.h"

#define RAW_OPS 64 /* that can be in flight */
#define RAW_OP_SIZE 4096u
#define RAW_BATCH 6
#define RAW_BATCHES 8
#define RAW_SLOTS (3 * RAW_BATCH)
#define RAW_ROUNDS 20 /* of one session */

struct raw_conn {
        uint64_t socket;
        uint64_t number;
        uint64_t offset;
        uint32_t order[5];
};

struct raw {
        struct storm_board *board; /* borrowed, as is the next */
        struct journal *journal;
        struct storm_random random;
        struct wire *wire;
        uint32_t client;
        uint32_t n_conns;
        unsigned patience_s;
        struct raw_conn listener;
        struct raw_conn ends[2];
        uint32_t port;
        uint64_t value; /* of the last accept */
        uint32_t n_out;
        struct {
                uint64_t id; /* 0: not in flight */
                uint8_t op;
                uint32_t len;
                struct raw_conn *conn;
        } ops[RAW_OPS];
};

static void raw_conn_init(struct raw *raw, struct raw_conn *conn, uint64_t socket) {
        *conn = (struct raw_conn){ .socket = socket, .number = ((uint64_t) raw->client << 24) + ++raw->n_conns };
}

/* --- Records ---------------------------------------------------------------------------------------------------- */

/* Writes a record down as it came; what it names need not exist. payload: what it brought along, or NULL. */
static void raw_enter(struct raw *raw, const struct ovl_record *record, const void *payload) {
        unsigned place = (unsigned) (event_id_place(record->tag) % RAW_OPS);
        bool is_known = raw->ops[place].id == record->tag;
        struct event event = {
                .kind = EVENT_RECORD,
                .op = record->op,
                .mode = record->thread == WIRE_THREAD ? EVENT_MODE_RAW : 0,
                .id = record->tag,
                .status = record->status,
                .body.record = { .bytes = record->bytes, .key = record->key },
        };
        uint64_t n = record->bytes < RAW_OP_SIZE ? record->bytes : RAW_OP_SIZE;

        if (is_known && payload)
                memcpy(raw->wire->memory + place * RAW_OP_SIZE, payload,
                       record->payload_len < RAW_OP_SIZE ? record->payload_len : RAW_OP_SIZE);
        if (is_known && record->key == raw->ops[place].conn->socket)
                event.body.record.key = raw->ops[place].conn->number;
        if (is_known && raw->ops[place].op == EVENT_OP_RECV) {
                event.body.record.hash = pattern_hash(PATTERN_HASH_START, raw->wire->memory + place * RAW_OP_SIZE, n);
                memcpy(&event.body.record.head, raw->wire->memory + place * RAW_OP_SIZE, n < 8 ? n : 8);
        }
        journal_add(raw->journal, event);
        __atomic_fetch_add(&raw->board->steps[STORM_RAW], 1, __ATOMIC_RELAXED);
        if (!is_known)
                return;
        if (raw->ops[place].op == EVENT_OP_ACCEPT)
                raw->value = record->value;
        raw->ops[place].id = 0;
        raw->n_out--;
}

/* Reads until nothing is in flight any more. */
static int raw_settle(struct raw *raw) {
        uint64_t deadline_ns = now_ns() + raw->patience_s * NS_PER_S;
        struct ovl_record record;
        const void *payload;
        int r;

        while (raw->n_out > 0) {
                r = wire_read(raw->wire, deadline_ns, &record, &payload);
                if (r < 0)
                        return r;
                if (r == WIRE_RECORD && record.kind == OVL_RECORD_COMPLETION)
                        raw_enter(raw, &record, payload);
        }
        return 0;
}

/* Sends a request and takes in what comes before its reply. */
static int raw_ask(struct raw *raw, Overlapd__Request *request) {
        uint64_t deadline_ns = now_ns() + raw->patience_s * NS_PER_S;
        struct ovl_record record;
        const void *payload;
        int r;

        r = wire_send_request(raw->wire, request, -1);
        if (r < 0)
                return r;
        for (;;) {
                r = wire_read(raw->wire, deadline_ns, &record, &payload);
                if (r < 0)
                        return r;
                if (r == WIRE_REPLY && raw->wire->reply.id == request->id)
                        break;
                if (r == WIRE_RECORD && record.kind == OVL_RECORD_COMPLETION)
                        raw_enter(raw, &record, payload);
        }
        if (raw->wire->reply.status < 0)
                fprintf(stderr, "storm: raw request %d: %s\n", (int) request->what_case, raw->wire->reply.text);
        return raw->wire->reply.status;
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

static int raw_open_socket(struct raw *raw, uint64_t *ret_socket) {
        Overlapd__SocketOpen open = OVERLAPD__SOCKET_OPEN__INIT;
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        int r;

        open.family = OVERLAPD__FAMILY__FAMILY_INET;
        open.type = OVERLAPD__TYPE__TYPE_STREAM;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPEN;
        request.socket_open = &open;
        r = raw_ask(raw, &request);
        if (r < 0)
                return r;
        *ret_socket = raw->wire->reply.socket;
        return 0;
}

static int raw_close_socket(struct raw *raw, struct raw_conn *conn) {
        Overlapd__SocketClose close = OVERLAPD__SOCKET_CLOSE__INIT;
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;

        storm_mark(raw->journal, EVENT_CLOSE, 0, conn->number, 0, 0);
        close.socket = conn->socket;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_CLOSE;
        request.socket_close = &close;
        return raw_ask(raw, &request);
}

/* Small sends are not to wait for each other's acknowledgements. */
static int raw_set_no_delay(struct raw *raw, const struct raw_conn *conn) {
        Overlapd__SocketOptionSet set = OVERLAPD__SOCKET_OPTION_SET__INIT;
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;

        set.socket = conn->socket;
        set.option = OVERLAPD__OPTION__OPTION_NO_DELAY;
        set.value = 1;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_OPTION_SET;
        request.socket_option_set = &set;
        return raw_ask(raw, &request);
}

static int raw_listen(struct raw *raw) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__SocketListen listen = OVERLAPD__SOCKET_LISTEN__INIT;
        Overlapd__SocketBind bind = OVERLAPD__SOCKET_BIND__INIT;
        Overlapd__SocketName name = OVERLAPD__SOCKET_NAME__INIT;
        Overlapd__Address address = OVERLAPD__ADDRESS__INIT;
        uint8_t host[4] = { 127, 0, 0, 1 };
        uint64_t socket;
        int r;

        r = raw_open_socket(raw, &socket);
        if (r < 0)
                return r;
        raw_conn_init(raw, &raw->listener, socket);
        address.family = OVERLAPD__FAMILY__FAMILY_INET;
        address.host = (ProtobufCBinaryData){ .len = sizeof(host), .data = host };
        bind.socket = listen.socket = name.socket = socket;
        bind.address = &address;
        listen.backlog = 8;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_BIND;
        request.socket_bind = &bind;
        r = raw_ask(raw, &request);
        if (r < 0)
                return r;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_LISTEN;
        request.socket_listen = &listen;
        r = raw_ask(raw, &request);
        if (r < 0)
                return r;
        request.what_case = OVERLAPD__REQUEST__WHAT_SOCKET_NAME;
        request.socket_name = &name;
        r = raw_ask(raw, &request);
        if (r < 0)
                return r;
        raw->port = raw->wire->reply.port;
        return 0;
}

/* --- Posts ------------------------------------------------------------------------------------------------------ */

/* Writes a post down and fills its entry. */
static void raw_post(struct raw *raw, struct raw_conn *conn, enum event_op op, uint32_t len, unsigned flags,
                     struct ovl_entry *ret_entry) {
        static const uint8_t ops[5] = { 0, OVL_OP_RECV, OVL_OP_SEND, OVL_OP_ACCEPT, OVL_OP_CONNECT };
        struct event event = {
                .op = op,
                .mode = EVENT_MODE_RAW,
                .flags = (uint8_t) flags,
                .body.post = { .conn = conn->number, .offset = conn->offset, .order = conn->order[op]++, .len = len },
        };
        uint64_t id = journal_post(raw->journal, event);
        unsigned place = (unsigned) (event_id_place(id) % RAW_OPS);
        uint8_t *memory = raw->wire->memory + place * RAW_OP_SIZE;

        if (op == EVENT_OP_SEND) {
                pattern_fill(conn->number, conn->offset, memory, len);
                conn->offset += len;
        }
        raw->ops[place].id = id;
        raw->ops[place].op = op;
        raw->ops[place].len = len;
        raw->ops[place].conn = conn;
        raw->n_out++;
        memset(ret_entry, 0, sizeof(*ret_entry));
        ret_entry->tag = id;
        ret_entry->socket = conn->socket;
        ret_entry->op = ops[op];
        ret_entry->indication = OVL_INDICATE_ROUTINE;
        ret_entry->n_slots = 1;
        ret_entry->op_flags = flags & EVENT_FLAG_WAITALL ? OVL_MESSAGE_WAITALL : 0;
        if (op == EVENT_OP_RECV || op == EVENT_OP_SEND)
                ret_entry->buffer =
                        (struct ovl_slice){ .offset = place * RAW_OP_SIZE, .len = len, .region = raw->wire->region };
        __atomic_fetch_add(&raw->board->n_posts, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&raw->board->steps[STORM_RAW], 1, __ATOMIC_RELAXED);
}

static int raw_join(struct raw *raw) {
        const uint8_t host[4] = { 127, 0, 0, 1 };
        struct ovl_entry entry;
        uint64_t socket;
        int r;

        r = raw_open_socket(raw, &socket);
        if (r < 0)
                return r;
        raw_conn_init(raw, &raw->ends[0], socket);
        raw_post(raw, &raw->listener, EVENT_OP_ACCEPT, 0, 0, &entry);
        r = wire_send_entries(raw->wire, &entry, 1);
        if (r < 0)
                return r;
        raw_post(raw, &raw->ends[0], EVENT_OP_CONNECT, 0, 0, &entry);
        entry.n_slots = 2;
        entry.address.family = OVL_FAMILY_INET;
        entry.address.port = (uint16_t) raw->port;
        memcpy(entry.address.host, host, sizeof(host));
        r = wire_send_entries(raw->wire, &entry, 2);
        if (r < 0)
                return r;
        r = raw_settle(raw);
        if (r < 0)
                return r;
        raw_conn_init(raw, &raw->ends[1], raw->value);
        r = raw_set_no_delay(raw, &raw->ends[0]);
        return r < 0 ? r : raw_set_no_delay(raw, &raw->ends[1]);
}

/* Sends, and receives of the same sum cut in different places; what is left over is received with the next batch. */
static int raw_batch(struct raw *raw) {
        unsigned from = storm_pick(&raw->random, 2), n = 1 + storm_pick(&raw->random, RAW_BATCH), n_slots = 0;
        uint8_t slots[RAW_SLOTS * OVL_SLOT_SIZE];
        struct ovl_entry entry;
        uint32_t rest = 0, len;

        for (; n_slots < n; n_slots++) {
                len = 1 + storm_pick(&raw->random, 2000);
                raw_post(raw, &raw->ends[from], EVENT_OP_SEND, len, 0, &entry);
                memcpy(slots + n_slots * OVL_SLOT_SIZE, &entry, OVL_SLOT_SIZE);
                rest += len;
        }
        for (; rest > 0 && n_slots < RAW_SLOTS; n_slots++) {
                len = 1 + storm_pick(&raw->random, rest < RAW_OP_SIZE ? rest : RAW_OP_SIZE);
                raw_post(raw, &raw->ends[!from], EVENT_OP_RECV, len, EVENT_FLAG_WAITALL, &entry);
                memcpy(slots + n_slots * OVL_SLOT_SIZE, &entry, OVL_SLOT_SIZE);
                rest -= len;
        }
        return wire_send_entries(raw->wire, slots, n_slots);
}

/* Receives that are pending when their socket, or the other end, is closed. */
static int raw_part(struct raw *raw) {
        unsigned first = storm_pick(&raw->random, 2), n = 1 + storm_pick(&raw->random, RAW_BATCH);
        struct ovl_entry entry;
        int r;

        for (unsigned i = 0; i < n; i++) {
                raw_post(raw, &raw->ends[0], EVENT_OP_RECV, RAW_OP_SIZE, 0, &entry);
                r = wire_send_entries(raw->wire, &entry, 1);
                if (r < 0)
                        return r;
        }
        r = raw_close_socket(raw, &raw->ends[first]);
        if (r < 0)
                return r;
        r = raw_settle(raw);
        if (r < 0)
                return r;
        return raw_close_socket(raw, &raw->ends[!first]);
}

static int raw_round(struct raw *raw) {
        int r;

        r = raw_join(raw);
        for (unsigned i = 0; i < RAW_BATCHES && r >= 0; i++) {
                r = raw_batch(raw);
                if (r >= 0)
                        r = raw_settle(raw);
        }
        return r < 0 ? r : raw_part(raw);
}

/* A record that comes twice may come right behind the last reply: a last request brings it in. */
static int raw_storm(struct raw *raw, unsigned n_rounds) {
        int r;

        r = raw_listen(raw);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < n_rounds && !__atomic_load_n(&raw->board->is_over, __ATOMIC_RELAXED); i++) {
                r = raw_round(raw);
                if (r < 0)
                        return r;
        }
        r = raw_close_socket(raw, &raw->listener);
        if (r < 0)
                return r;
        return raw_listen(raw);
}

static int raw_session(struct raw *raw, const char *path, unsigned level) {
        int r;

        *raw->wire = (struct wire){ .fd = -1 };
        r = wire_open(raw->wire, path, level, RAW_OPS * RAW_OP_SIZE, now_ns() + raw->patience_s * NS_PER_S);
        if (r == 0)
                r = raw_storm(raw, RAW_ROUNDS);
        wire_close(raw->wire);
        return r;
}

int storm_raw_run(struct storm_board *board, struct journal *journal, const char *path, uint32_t client, uint64_t seed,
                  int level, unsigned patience_s) {
        struct raw raw = {
                .board = board, .journal = journal, .random.state = seed, .client = client, .patience_s = patience_s
        };
        _cleanup_free_ struct wire *wire = calloc(1, sizeof(*wire));
        int r = 0;

        if (!wire)
                return STORM_EXIT_FAILED;
        raw.wire = wire;
        journal_start(journal);
        for (unsigned i = 0; r == 0 && !__atomic_load_n(&board->is_over, __ATOMIC_RELAXED); i++)
                r = raw_session(&raw, path, level < 0 ? (unsigned) (seed + i) % STORM_LEVELS : (unsigned) level);
        if (r == -ECONNABORTED)
                storm_mark(journal, EVENT_ABORTED, client, 0, 0, r);
        else if (r < 0 && r != -ETIMEDOUT)
                fprintf(stderr, "storm: the raw client: %s\n", strerror(-r));
        return r == -ETIMEDOUT ? STORM_EXIT_MISSING : r < 0 && r != -ECONNABORTED ? STORM_EXIT_FAILED : 0;
}
