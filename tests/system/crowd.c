/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two processes with four threads each on one shared socket, all of which receive and send at once. Every operation
 * ends once, in the thread that posted it. What arrives is dealt out without a hole or a double, and to each thread in
 * the order of its posts; what each thread sends leaves whole, and in that order.
 *
 * The other end writes pieces that are full of their own number; what the two processes received is noted in memory
 * that they share. Threads count what is wrong, because only the case itself may fail.
 */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/harness/harness.h"
#include "tests/system/client.h"

#define CROWD_PROCESSES 2u
#define CROWD_THREADS 4u /* of each process */
#define CROWD_ALL (CROWD_PROCESSES * CROWD_THREADS)
#define CROWD_DEPTH 8u /* operations of a kind that a thread has in flight */
#define CROWD_WORDS 8u /* of a piece */

struct crowd_piece {
        uint64_t words[CROWD_WORDS];
};

struct crowd_message {
        uint32_t sender;
        uint32_t ordinal;
        uint64_t words[CROWD_WORDS];
};

/* Shared by the processes. */
struct crowd_board {
        unsigned n_rounds;
        unsigned n_wrong;
        uint8_t n_claims[]; /* of each piece */
};

struct crowd_member {
        pthread_t pthread;
        struct crowd_board *board;
        struct client *client;
        struct ovl_thread *thread;
        uint64_t socket;
        uint32_t number; /* among all */
        uint64_t n_ran;
        uint64_t latest; /* the piece that came last, plus 1 */
        struct ovl_overlapped receiving[CROWD_DEPTH];
        struct ovl_overlapped sending[CROWD_DEPTH];
        struct crowd_piece *pieces; /* CROWD_DEPTH of them, lent */
        struct crowd_message *messages;
};

static void crowd_check(struct crowd_board *board, bool is_right) {
        if (!is_right)
                __atomic_add_fetch(&board->n_wrong, 1, __ATOMIC_RELAXED);
}

static void crowd_ran(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct crowd_member *member = overlapped->user;

        crowd_check(member->board, thread == member->thread && pthread_equal(pthread_self(), member->pthread));
        member->n_ran++;
}

/* Every second member has routines. */
static bool crowd_has_routines(const struct crowd_member *member) {
        return member->number % 2;
}

static void crowd_post(struct crowd_member *member, unsigned round) {
        void (*routine)(struct ovl_thread *, struct ovl_overlapped *) = crowd_has_routines(member) ? crowd_ran : NULL;
        unsigned at = round % CROWD_DEPTH;
        struct ovl_buffer piece = { &member->pieces[at], sizeof(*member->pieces) };
        struct ovl_buffer message = { &member->messages[at], sizeof(*member->messages) };
        int r;

        member->messages[at].sender = member->number;
        member->messages[at].ordinal = round;
        for (unsigned i = 0; i < CROWD_WORDS; i++)
                member->messages[at].words[i] = (uint64_t) member->number << 32 | round;
        member->receiving[at].user = member->sending[at].user = member;
        r = ovl_recv(member->thread, member->socket, &piece, 1, OVL_WAITALL | OVL_WANT_VERDICT, &member->receiving[at],
                     routine);
        crowd_check(member->board, r == 0 || r == OVL_PENDING);
        r = ovl_send(member->thread, member->socket, &message, 1, 0, &member->sending[at], routine);
        crowd_check(member->board, r == OVL_PENDING);
}

static void crowd_finish_one(struct crowd_member *member, struct ovl_overlapped *overlapped, size_t len) {
        int r;

        do {
                r = ovl_wait(member->thread, overlapped, client_patience(), crowd_has_routines(member));
        } while (r == OVL_ALERTED);
        crowd_check(member->board, r == 0 && ovl_result(overlapped) == 0 && overlapped->bytes == len);
}

static void crowd_take_piece(struct crowd_member *member, const struct crowd_piece *piece) {
        uint64_t number = piece->words[0];
        bool is_whole = number < (uint64_t) member->board->n_rounds * CROWD_ALL && number >= member->latest;

        for (unsigned i = 0; i < CROWD_WORDS; i++)
                is_whole &= piece->words[i] == number;
        crowd_check(member->board, is_whole);
        if (!is_whole)
                return;
        member->latest = number + 1;
        crowd_check(member->board, __atomic_add_fetch(&member->board->n_claims[number], 1, __ATOMIC_RELAXED) == 1);
}

static void crowd_finish(struct crowd_member *member, unsigned round) {
        unsigned at = round % CROWD_DEPTH;

        crowd_finish_one(member, &member->receiving[at], sizeof(*member->pieces));
        crowd_finish_one(member, &member->sending[at], sizeof(*member->messages));
        /* An operation with a routine is over when that has run. */
        while (crowd_has_routines(member) && member->n_ran < 2 * (uint64_t) (round + 1))
                if (ovl_sleep(member->thread, client_patience()) != OVL_ALERTED) {
                        crowd_check(member->board, false);
                        return;
                }
        crowd_take_piece(member, &member->pieces[at]);
}

static void *crowd_run(void *data) {
        struct crowd_member *member = data;
        unsigned n_rounds = member->board->n_rounds;

        if (ovl_thread_open(member->client->session, &member->thread, NULL) < 0) {
                crowd_check(member->board, false);
                return NULL;
        }
        for (unsigned round = 0; round < n_rounds + CROWD_DEPTH; round++) {
                if (round >= CROWD_DEPTH)
                        crowd_finish(member, round - CROWD_DEPTH);
                if (round < n_rounds)
                        crowd_post(member, round);
        }
        crowd_check(member->board, ovl_sleep(member->thread, 0) == 0);
        crowd_check(member->board, member->n_ran == (crowd_has_routines(member) ? 2 * (uint64_t) n_rounds : 0));
        ovl_thread_close(member->thread);
        return NULL;
}

static void crowd_start(struct crowd_member members[CROWD_THREADS], struct crowd_board *board, struct client *client,
                        uint64_t socket, unsigned first) {
        for (unsigned i = 0; i < CROWD_THREADS; i++) {
                char *memory = client->memory + i * 65536;

                members[i] = (struct crowd_member){
                        .board = board,
                        .client = client,
                        .socket = socket,
                        .number = first + i,
                        .pieces = (struct crowd_piece *) memory,
                        .messages = (struct crowd_message *) (memory + 32768),
                };
                assert_int_equal(pthread_create(&members[i].pthread, NULL, crowd_run, &members[i]), 0);
        }
}

static void crowd_join(struct crowd_member members[CROWD_THREADS]) {
        for (unsigned i = 0; i < CROWD_THREADS; i++)
                pthread_join(members[i].pthread, NULL);
}

/* --- The other process ------------------------------------------------------------------------------------------ */

static void crowd_guest(struct crowd_board *board, const struct estate *estate, int from, int to) {
        static struct crowd_member members[CROWD_THREADS];
        struct client guest = { .estate = *estate };
        struct ovl_ticket ticket;
        uint64_t number, socket;

        client_open(&guest, 0);
        number = client_number(&guest);
        assert_int_equal(write(to, &number, sizeof(number)), sizeof(number));
        assert_int_equal(read(from, &ticket, sizeof(ticket)), sizeof(ticket));
        assert_ok(ovl_socket_join(guest.thread, &ticket, &socket));
        crowd_start(members, board, &guest, socket, CROWD_THREADS);
        crowd_join(members);
        client_close(&guest);
}

static pid_t crowd_fork(struct crowd_board *board, const struct estate *estate, int *ret_to, int *ret_from) {
        int to[2], from[2];
        pid_t pid;

        assert_int_equal(pipe(to), 0);
        assert_int_equal(pipe(from), 0);
        pid = fork();
        if (pid == 0) {
                close(to[1]);
                close(from[0]);
                crowd_guest(board, estate, to[0], from[1]);
                _exit(0);
        }
        close(to[0]);
        close(from[1]);
        *ret_to = to[1];
        *ret_from = from[0];
        return pid;
}

/* --- The other end ---------------------------------------------------------------------------------------------- */

struct crowd_writer {
        int fd;
        uint64_t n_pieces;
};

/* Several at a time, and not where they begin and end. */
static void *crowd_write(void *data) {
        struct crowd_writer *writer = data;
        struct crowd_piece pieces[16];
        unsigned n = 0;

        for (uint64_t number = 0; number < writer->n_pieces; number++) {
                for (unsigned i = 0; i < CROWD_WORDS; i++)
                        pieces[n].words[i] = number;
                if (++n < HARNESS_N(pieces) && number + 1 < writer->n_pieces)
                        continue;
                peer_write(writer->fd, pieces, 13);
                peer_write(writer->fd, (char *) pieces + 13, n * sizeof(*pieces) - 13);
                n = 0;
        }
        return NULL;
}

static void crowd_read(int fd, unsigned n_rounds) {
        uint32_t expected[CROWD_ALL] = { 0 };
        struct crowd_message message;

        for (uint64_t i = 0; i < (uint64_t) n_rounds * CROWD_ALL; i++) {
                peer_read(fd, &message, sizeof(message));
                assert_true(message.sender < CROWD_ALL);
                assert_int_equal(message.ordinal, expected[message.sender]++);
                for (unsigned k = 0; k < CROWD_WORDS; k++)
                        assert_int_equal(message.words[k], (uint64_t) message.sender << 32 | message.ordinal);
        }
}

static unsigned crowd_rounds(void) {
        const char *text = getenv("OVL_TEST_ROUNDS");

        return text ? (unsigned) strtoul(text, NULL, 10) : 200;
}

static void crowd_on_one_socket(void **state) {
        static struct crowd_member members[CROWD_THREADS];
        unsigned n_rounds = crowd_rounds();
        size_t board_size = sizeof(struct crowd_board) + n_rounds * CROWD_ALL;
        struct crowd_board *board;
        struct crowd_writer writer = { .n_pieces = (uint64_t) n_rounds * CROWD_ALL };
        uint64_t socket, number;
        struct ovl_ticket ticket;
        struct client host;
        pthread_t pthread;
        int to, from, status;
        pid_t pid;

        board = mmap(NULL, board_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(board != MAP_FAILED);
        board->n_rounds = n_rounds;
        client_start(&host);
        pid = crowd_fork(board, &host.estate, &to, &from);
        socket = client_pair(&host, AF_INET, &writer.fd);
        assert_int_equal(read(from, &number, sizeof(number)), sizeof(number));
        assert_ok(ovl_socket_share(host.thread, socket, number, &ticket));
        assert_int_equal(write(to, &ticket, sizeof(ticket)), sizeof(ticket));
        crowd_start(members, board, &host, socket, 0);
        assert_int_equal(pthread_create(&pthread, NULL, crowd_write, &writer), 0);
        crowd_read(writer.fd, n_rounds);
        pthread_join(pthread, NULL);
        crowd_join(members);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(board->n_wrong, 0);
        for (uint64_t i = 0; i < writer.n_pieces; i++)
                assert_int_equal(board->n_claims[i], 1);
        printf("# %llu pieces and as many messages, of %u threads\n", (unsigned long long) writer.n_pieces, CROWD_ALL);
        assert_ok(ovl_socket_close(host.thread, socket));
        peer_expect_end(writer.fd);
        close(writer.fd);
        close(to);
        close(from);
        munmap(board, board_size);
        client_stop(&host);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "eight threads of two processes on one socket", crowd_on_one_socket, 1200 },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
