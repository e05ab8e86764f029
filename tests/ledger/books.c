/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The books of a storm. The files of its threads are read twice: first every post opens an account, then results,
 * records and marks are entered. An operation may be posted in one file and recorded in another, and what crosses
 * between processes has no order that the files could show: therefore nothing is judged before all has been read.
 *
 * Invariant: an account that was opened stays; a second record is counted and never overwrites the first.
 *
 *   (no account) --EVENT_POST--> open --EVENT_RESULT--> refused, or done and a record is due
 *                                open --EVENT_RECORD--> settled --EVENT_RECORD--> doubled
 *
 * Rejected: settling accounts while the storm runs, forgetting those that are settled. It would bound the memory, but
 * a second record for a forgotten operation could not be told from one for an operation that never was.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ledger/books.h"

static size_t index_place(const struct book_index *index, uint64_t key) {
        size_t place = (size_t) ((key * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (index->size - 1);

        while (index->keys[place] != 0 && index->keys[place] != key)
                place = (place + 1) & (index->size - 1);
        return place;
}

static int index_grow(struct book_index *index) {
        struct book_index grown = { .size = index->size > 0 ? index->size * 2 : 1024, .n = index->n };

        grown.keys = calloc(grown.size, sizeof(*grown.keys));
        grown.values = calloc(grown.size, sizeof(*grown.values));
        if (!grown.keys || !grown.values) {
                free(grown.keys);
                free(grown.values);
                return -ENOMEM;
        }
        for (size_t i = 0; i < index->size; i++) {
                size_t place;

                if (index->keys[i] == 0)
                        continue;
                place = index_place(&grown, index->keys[i]);
                grown.keys[place] = index->keys[i];
                grown.values[place] = index->values[i];
        }
        free(index->keys);
        free(index->values);
        *index = grown;
        return 0;
}

/* Returns 1 and the value, or 0. */
static int index_find(const struct book_index *index, uint64_t key, uint32_t *ret_value) {
        size_t place;

        if (index->size == 0)
                return 0;
        place = index_place(index, key);
        if (index->keys[place] != key)
                return 0;
        *ret_value = index->values[place];
        return 1;
}

static int index_add(struct book_index *index, uint64_t key, uint32_t value) {
        size_t place;
        int r;

        if (index->n * 2 >= index->size) {
                r = index_grow(index);
                if (r < 0)
                        return r;
        }
        place = index_place(index, key);
        index->keys[place] = key;
        index->values[place] = value;
        index->n++;
        return 0;
}

/* Makes room for one more. */
static int books_reserve(void **array, size_t *size, size_t n, size_t one) {
        size_t grown = *size > 0 ? *size * 2 : 64;
        void *moved;

        if (n < *size)
                return 0;
        moved = realloc(*array, grown * one);
        if (!moved)
                return -ENOMEM;
        *array = moved;
        *size = grown;
        return 0;
}

/* Finds or opens. The keys of an index must not be 0, and client 0 is the driver: hence the 1. */
static int books_client(struct books *books, uint32_t number, uint32_t *ret_place) {
        int r;

        if (index_find(&books->client_index, (uint64_t) number + 1, ret_place))
                return 0;
        r = books_reserve((void **) &books->clients, &books->clients_size, books->n_clients, sizeof(*books->clients));
        if (r < 0)
                return r;
        r = index_add(&books->client_index, (uint64_t) number + 1, (uint32_t) books->n_clients);
        if (r < 0)
                return r;
        books->clients[books->n_clients] = (struct book_client){ .number = number };
        *ret_place = (uint32_t) books->n_clients++;
        return 0;
}

static int books_conn(struct books *books, uint64_t number, uint32_t client, uint32_t *ret_place) {
        int r;

        if (index_find(&books->conn_index, number, ret_place))
                return 0;
        r = books_reserve((void **) &books->conns, &books->conns_size, books->n_conns, sizeof(*books->conns));
        if (r < 0)
                return r;
        r = index_add(&books->conn_index, number, (uint32_t) books->n_conns);
        if (r < 0)
                return r;
        books->conns[books->n_conns] = (struct book_conn){ .number = number, .client = client };
        *ret_place = (uint32_t) books->n_conns++;
        return 0;
}

struct book_conn *books_find_conn(const struct books *books, uint64_t number) {
        uint32_t place;

        if (number == 0 || !index_find(&books->conn_index, number, &place))
                return NULL;
        return &books->conns[place];
}

static int books_open_account(struct books *books, struct book_journal *file, const struct event *event,
                              struct report *report) {
        struct book_op *op = &file->ops[file->n_ops];
        uint32_t journal = file->journal.header->index;
        int r;

        if (event->id != event_id(journal, file->n_ops) || event->body.post.conn == 0 || event->op == 0 ||
            event->op >= BOOKS_OPS) {
                report_add(report, REPORT_FILE, "file %u: post %zu is misnumbered or malformed", journal, file->n_ops);
                return -EBADMSG;
        }
        *op = (struct book_op){
                .id = event->id,
                .offset = event->body.post.offset,
                .posted_ns = event->time_ns,
                .to = event->body.post.to,
                .journal = journal,
                .order = event->body.post.order,
                .len = event->body.post.len,
                .op = event->op,
                .mode = event->mode,
                .flags = event->flags,
        };
        r = books_conn(books, event->body.post.conn, file->client, &op->conn);
        if (r < 0)
                return r;
        file->n_ops++;
        books->n_ops++;
        if (books->conns[op->conn].client != file->client)
                report_add(report, REPORT_FILE, "connection %llx is used by two clients",
                           (unsigned long long) event->body.post.conn);
        return 0;
}

static int books_open_accounts(struct books *books, struct book_journal *file, struct report *report) {
        uint64_t n_events = journal_n_events(&file->journal), n_posts = 0;
        int r;

        r = books_client(books, file->journal.header->client, &file->client);
        if (r < 0)
                return r;
        for (uint64_t i = 0; i < n_events; i++)
                n_posts += file->journal.events[i].kind == EVENT_POST;
        file->ops = calloc(n_posts + 1, sizeof(*file->ops));
        if (!file->ops)
                return -ENOMEM;
        for (uint64_t i = 0; i < n_events; i++) {
                if (file->journal.events[i].kind != EVENT_POST)
                        continue;
                r = books_open_account(books, file, &file->journal.events[i], report);
                if (r < 0)
                        return r;
        }
        books->n_events += n_events;
        return 0;
}

static struct book_op *books_find_op(const struct books *books, uint64_t id) {
        uint32_t journal = event_id_journal(id);

        if (journal >= books->n_journals || event_id_place(id) >= books->journals[journal].n_ops)
                return NULL;
        return &books->journals[journal].ops[event_id_place(id)];
}

static void books_enter_record(struct books *books, struct book_journal *file, uint64_t place,
                               const struct event *event, struct report *report) {
        struct book_op *op = books_find_op(books, event->id);

        if (!op) {
                report_add(report, REPORT_FORGED, "file %u: a record, status %d, for an operation that nobody posted",
                           file->journal.header->index, event->status);
                return;
        }
        op->n_records++;
        if (op->has_record)
                return;
        op->has_record = true;
        op->seen_ns = event->time_ns;
        op->seen_journal = file->journal.header->index;
        op->seen_place = (uint32_t) place;
        op->seen_mode = event->mode;
        op->status = event->status;
        op->bytes = event->body.record.bytes;
        op->hash = event->body.record.hash;
        op->head = event->body.record.head;
        op->key = event->body.record.key;
        op->from = event->body.record.from;
        op->was_truncated = event->flags & EVENT_FLAG_TRUNCATED;
}

/* Of several marks the earliest counts: two threads may write one each, and either file may be read first. */
static void books_enter_time(uint64_t *mark_ns, uint64_t time_ns) {
        if (*mark_ns == 0 || time_ns < *mark_ns)
                *mark_ns = time_ns;
}

/* A mark may be all that is known of a connection on which nothing was ever posted. */
static int books_enter_mark(struct books *books, struct book_journal *file, const struct event *event) {
        uint64_t how = event->body.mark.detail;
        struct book_conn *conn;
        uint32_t place;
        int r;

        if (event->body.mark.conn == 0)
                return 0;
        r = books_conn(books, event->body.mark.conn, file->client, &place);
        if (r < 0)
                return r;
        conn = &books->conns[place];
        if (event->kind == EVENT_CLOSE)
                books_enter_time(&conn->close_ns, event->time_ns);
        if (event->kind == EVENT_CANCEL)
                books_enter_time(&conn->cancel_ns, event->time_ns);
        for (uint64_t side = 0; event->kind == EVENT_SHUTDOWN && side < 2; side++)
                if (how == side || how == 2)
                        books_enter_time(&conn->shutdown_ns[side], event->time_ns);
        if (event->kind == EVENT_NAME) {
                conn->name = event->body.mark.detail;
                conn->name_ns = event->time_ns;
        }
        if (event->kind == EVENT_SHARED)
                conn->shared_with = event->body.mark.detail;
        return 0;
}

/* Two sessions that share a socket shut the same one down; each closes, and cancels, only for itself. */
static void books_join(struct books *books) {
        for (size_t i = 0; i < books->n_conns; i++) {
                struct book_conn *conn = &books->conns[i], *other = books_find_conn(books, conn->shared_with);

                for (unsigned side = 0; other && side < 2; side++) {
                        if (conn->shutdown_ns[side] != 0)
                                books_enter_time(&other->shutdown_ns[side], conn->shutdown_ns[side]);
                        conn->shutdown_ns[side] = other->shutdown_ns[side];
                }
                if (other)
                        other->shared_with = conn->number;
        }
}

static int books_enter_client(struct books *books, struct book_journal *file, const struct event *event,
                              struct report *report) {
        struct book_client *client;
        uint32_t place = file->client;
        int r;

        if (event->kind == EVENT_DAEMON) {
                if (event->status != 0)
                        report_add(report, REPORT_CRASHED, "the daemon did not live to the end of the storm");
                return 0;
        }
        if (event->kind != EVENT_ABORTED) {
                r = books_client(books, (uint32_t) event->id, &place);
                if (r < 0)
                        return r;
        }
        client = &books->clients[place];
        client->is_killed |= event->kind == EVENT_KILLED;
        client->is_left |= event->kind == EVENT_LEFT;
        if (event->kind == EVENT_STUCK && !client->is_stuck)
                report_add(report, REPORT_STUCK, "client %u made no progress and was stopped", client->number);
        client->is_stuck |= event->kind == EVENT_STUCK;
        if (event->kind == EVENT_CRASHED)
                report_add(report, REPORT_CRASHED, "client %u ended unasked (%d)", client->number, event->status);
        client->is_crashed |= event->kind == EVENT_CRASHED;
        if (event->kind == EVENT_ABORTED && !client->is_aborted)
                report_add(report, REPORT_ABORTED,
                           "client %u: the library gave up its session with status %d, reason %llu: a doubled or "
                           "forged record",
                           client->number, event->status, (unsigned long long) event->body.mark.detail);
        client->is_aborted |= event->kind == EVENT_ABORTED;
        return 0;
}

static int books_enter(struct books *books, struct book_journal *file, uint64_t place, struct report *report) {
        const struct event *event = &file->journal.events[place];
        struct book_op *op;

        switch (event->kind) {
        case EVENT_POST:
        case EVENT_END:
        case EVENT_ENDING:
        case EVENT_WITHDRAWN:
        case EVENT_APC:
        case EVENT_QUEUED:
        case EVENT_RUN:
                return 0;
        case EVENT_RESULT:
                op = books_find_op(books, event->id);
                if (!op || op->has_result) {
                        report_add(report, REPORT_FILE, "file %u: a result without its post",
                                   file->journal.header->index);
                        return -EBADMSG;
                }
                op->has_result = true;
                op->result = event->status;
                op->was_set = event->flags & EVENT_FLAG_SET;
                return 0;
        case EVENT_DROPPED:
                books->n_dropped = event->body.mark.detail;
                return 0;
        case EVENT_RECORD:
                books_enter_record(books, file, place, event, report);
                return 0;
        case EVENT_CLOSE:
        case EVENT_SHUTDOWN:
        case EVENT_CANCEL:
        case EVENT_NAME:
        case EVENT_SHARED:
                return books_enter_mark(books, file, event);
        case EVENT_NESTED:
                report_add(report, REPORT_INDICATION, "a routine of connection %llx ran within another",
                           (unsigned long long) event->body.mark.conn);
                return 0;
        case EVENT_KILLED:
        case EVENT_STUCK:
        case EVENT_CRASHED:
        case EVENT_DAEMON:
        case EVENT_LEFT:
        case EVENT_ABORTED:
                return books_enter_client(books, file, event, report);
        default:
                report_add(report, REPORT_FILE, "file %u: unknown event %u", file->journal.header->index, event->kind);
                return -EBADMSG;
        }
}

static int books_compare(const void *left, const void *right) {
        const struct book_op *a = *(struct book_op *const *) left, *b = *(struct book_op *const *) right;

        if (a->conn != b->conn)
                return a->conn < b->conn ? -1 : 1;
        if (a->op != b->op)
                return a->op < b->op ? -1 : 1;
        if (a->order != b->order)
                return a->order < b->order ? -1 : 1;
        return 0;
}

static int books_sort(struct books *books) {
        size_t n = 0;

        books->sorted = calloc(books->n_ops + 1, sizeof(*books->sorted));
        if (!books->sorted)
                return -ENOMEM;
        for (size_t i = 0; i < books->n_journals; i++)
                for (size_t j = 0; j < books->journals[i].n_ops; j++)
                        books->sorted[n++] = &books->journals[i].ops[j];
        qsort(books->sorted, n, sizeof(*books->sorted), books_compare);
        for (size_t i = 0; i < n; i++) {
                struct book_group *group = &books->conns[books->sorted[i]->conn].groups[books->sorted[i]->op];

                if (group->n_ops++ == 0)
                        group->ops = &books->sorted[i];
        }
        return 0;
}

static int books_open_files(struct books *books, const char *directory) {
        size_t size = 0;
        int r;

        for (;;) {
                r = books_reserve((void **) &books->journals, &size, books->n_journals, sizeof(*books->journals));
                if (r < 0)
                        return r;
                books->journals[books->n_journals] = (struct book_journal){};
                r = journal_open(&books->journals[books->n_journals].journal, directory, (uint32_t) books->n_journals);
                if (r == -ENOENT)
                        return books->n_journals > 0 ? 0 : -ENOENT;
                if (r < 0)
                        return r;
                books->n_journals++;
        }
}

int books_load(struct books *books, const char *directory, struct report *report) {
        int r;

        *books = (struct books){};
        r = books_open_files(books, directory);
        if (r < 0)
                return r;
        for (size_t i = 0; i < books->n_journals; i++) {
                r = books_open_accounts(books, &books->journals[i], report);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < books->n_journals; i++) {
                uint64_t n_events = journal_n_events(&books->journals[i].journal);

                for (uint64_t place = 0; place < n_events; place++) {
                        r = books_enter(books, &books->journals[i], place, report);
                        if (r < 0)
                                return r;
                }
        }
        books_join(books);
        return books_sort(books);
}

void books_close(struct books *books) {
        for (size_t i = 0; i < books->n_journals; i++) {
                journal_close(&books->journals[i].journal);
                free(books->journals[i].ops);
        }
        free(books->journals);
        free(books->clients);
        free(books->conns);
        free(books->client_index.keys);
        free(books->client_index.values);
        free(books->conn_index.keys);
        free(books->conn_index.values);
        free(books->sorted);
        *books = (struct books){};
}

const char *books_describe(const struct book_op *op, char text[64]) {
        static const char *const names[BOOKS_OPS] = { "?", "recv", "send", "accept", "connect", "recvfrom", "sendto" };

        snprintf(text, 64, "%s %u:%llu", names[op->op], op->journal, (unsigned long long) event_id_place(op->id));
        return text;
}
