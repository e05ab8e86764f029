/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The live view. Everything that is drawn comes from one struct, so that a key, a change of size and a new sample are
 * all the same: something in it changes, and the screen is drawn again.
 *
 *   live -> paused   somebody wants to read (p); samples are no longer taken
 *   live -> lost     the daemon has gone; the last sample stays, and each interval it is asked again
 *   lost -> live     it is back: rates begin anew, for its numbers did
 *
 * Complaints of what asks the daemon go to standard error, which is this terminal. While the screen is drawn they go
 * into memory, and the latest is shown in the screen's own line for it.
 */

#include "client/ctl/top-screen.h"

#include <curses.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <term.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "client/ctl/membership.h"
#include "client/ctl/output.h"
#include "client/ctl/question.h"

#define SCREEN_HEAD 5 /* lines above the first row */
#define SCREEN_TEXT_SIZE 512

struct screen {
        const struct ctl *ctl;
        SCREEN *terminal;  /* NULL: not taken */
        int question_fd;   /* the daemon; -1: lost */
        int stderr_fd;     /* the standard error of the terminal */
        int complaints_fd; /* memory in its place */
        uint64_t interval_ns;
        uint64_t next_ns; /* when the next sample is taken */
        enum top_sort sort;
        size_t first; /* row that is shown at the top */
        bool is_paused;
        bool is_help;
        bool is_over;
        char complaint[SCREEN_TEXT_SIZE];
        struct top_sample sample;
};

/* --- Complaints -------------------------------------------------------------------------------------------------- */

static int screen_catch_complaints(struct screen *screen) {
        screen->complaints_fd = memfd_create("overlapctl", MFD_CLOEXEC);
        if (screen->complaints_fd < 0)
                return -errno;
        screen->stderr_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        if (screen->stderr_fd < 0 || dup2(screen->complaints_fd, STDERR_FILENO) < 0)
                return -errno;
        return 0;
}

static void screen_release_complaints(struct screen *screen) {
        if (screen->stderr_fd >= 0)
                dup2(screen->stderr_fd, STDERR_FILENO);
        screen->stderr_fd = fd_close(screen->stderr_fd);
        screen->complaints_fd = fd_close(screen->complaints_fd);
}

/* Takes the first line of what was complained of, and forgets the rest. */
static void screen_read_complaint(struct screen *screen) {
        static const char prefix[] = "overlapctl: ";
        char text[SCREEN_TEXT_SIZE];
        ssize_t n = pread(screen->complaints_fd, text, sizeof(text) - 1, 0);

        if (n <= 0)
                return;
        text[n] = '\0';
        text[strcspn(text, "\n")] = '\0';
        output_clean(text + (strncmp(text, prefix, strlen(prefix)) == 0 ? strlen(prefix) : 0), screen->complaint,
                     sizeof(screen->complaint));
        if (ftruncate(screen->complaints_fd, 0) == 0)
                lseek(screen->complaints_fd, 0, SEEK_SET);
}

/* --- Drawing ----------------------------------------------------------------------------------------------------- */

/* One line, cut at the edge of the screen. */
__attribute__((format(printf, 2, 3))) static void screen_line(int y, const char *format, ...) {
        char text[SCREEN_TEXT_SIZE];
        va_list arguments;

        if (y >= LINES)
                return;
        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        mvaddnstr(y, 0, text, COLS);
}

static char *screen_rate(double rate, char to[OUTPUT_TEXT_SIZE]) {
        return output_bytes((uint64_t) (rate + 0.5), to);
}

static void screen_draw_head(const struct screen *screen) {
        const struct summary *summary = &screen->sample.summary;
        const Overlapd__AdminWorker *totals = &summary->totals;
        char uptime[OUTPUT_TEXT_SIZE], received[OUTPUT_TEXT_SIZE], sent[OUTPUT_TEXT_SIZE];

        screen_line(0, "overlapd %s  %s  up %s  engine %s  workers %u of %u", summary->version, summary->state,
                    output_duration(summary->said.uptime_ns, uptime),
                    summary->n_workers > 0 ? summary->workers[0].engine : "-", summary->said.workers_ready,
                    summary->said.workers_wanted);
        screen_line(1, "sessions %u  sockets %u  in flight %u  %.0f ops/s  received %s/s  sent %s/s", totals->sessions,
                    totals->sockets, totals->ops, screen->sample.ops_s,
                    screen_rate(screen->sample.received_s, received), screen_rate(screen->sample.sent_s, sent));
        if (screen->complaint[0])
                screen_line(2, "%s", screen->complaint);
        else
                screen_line(2, "%ssorted by %s%s   (h: help)", screen->is_paused ? "paused, " : "",
                            top_sort_name(screen->sort), screen->sample.is_partial ? ", not all are told" : "");
        attron(A_REVERSE);
        screen_line(4, "%-16s %7s %-10s %-24s %-6s %6s %7s %9s %9s %9s", "SESSION", "PID", "USER", "UNIT", "STATE",
                    "SOCKS", "FLIGHT", "OPS/S", "RECV/S", "SENT/S");
        attroff(A_REVERSE);
}

static void screen_draw_row(int y, const struct top_row *row) {
        char user[MEMBERSHIP_NAME_SIZE] = "-", received[OUTPUT_TEXT_SIZE], sent[OUTPUT_TEXT_SIZE];

        if (row->is_known)
                membership_user_name(row->uid, user);
        screen_line(y, "%016llx %7d %-10.10s %-24.24s %-6s %6u %7u %9.0f %9s %9s", (unsigned long long) row->session,
                    (int) row->pid, user, row->unit[0] ? row->unit : "-", row->state, row->sockets, row->ops,
                    row->ops_s, screen_rate(row->received_s, received), screen_rate(row->sent_s, sent));
}

static void screen_draw_help(void) {
        static const char *const texts[] = {
                "q        end",
                "s        sort by the next column: bytes, ops, received, sent, sockets, in-flight, age",
                "p        pause, and go on",
                "h, ?     this help, and back",
                "space    look now",
                "arrows, page up, page down, home    move through the sessions",
                "",
                "SOCKS    sockets that the session has",
                "FLIGHT   operations that were posted and have not ended",
                "OPS/S, RECV/S, SENT/S    since the last look; of a new session since it began",
        };

        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
                screen_line(SCREEN_HEAD + (int) i, "  %s", texts[i]);
}

static size_t screen_room(void) {
        return LINES > SCREEN_HEAD ? (size_t) (LINES - SCREEN_HEAD) : 0;
}

static void screen_draw(struct screen *screen) {
        size_t n_rows = screen->sample.n_rows, room = screen_room();

        if (screen->first >= n_rows)
                screen->first = n_rows > 0 ? n_rows - 1 : 0;
        erase();
        screen_draw_head(screen);
        if (screen->is_help)
                screen_draw_help();
        else
                for (size_t i = 0; i < room && screen->first + i < n_rows; i++)
                        screen_draw_row(SCREEN_HEAD + (int) i, &screen->sample.rows[screen->first + i]);
        refresh();
}

/* --- Asking ------------------------------------------------------------------------------------------------------ */

static void screen_lose(struct screen *screen) {
        screen->question_fd = fd_close(screen->question_fd);
        screen_read_complaint(screen);
}

static void screen_ask(struct screen *screen) {
        /* What the daemon counts when it is back has nothing to do with what it counted before. */
        struct top_sample sample, none = { 0 };
        bool was_lost = screen->question_fd < 0;

        if (was_lost)
                screen->question_fd = question_connect(screen->ctl);
        if (screen->question_fd < 0 || top_sample_take(screen->ctl, screen->question_fd,
                                                       was_lost ? &none : &screen->sample, &sample) != CTL_DONE) {
                screen_lose(screen);
                return;
        }
        screen->complaint[0] = '\0';
        if (sample.is_partial)
                screen_read_complaint(screen);
        top_sample_deinit(&screen->sample);
        screen->sample = sample;
        top_sample_sort(&screen->sample, screen->sort);
}

/* --- Keys -------------------------------------------------------------------------------------------------------- */

static void screen_move(struct screen *screen, long n) {
        long first = (long) screen->first + n, last = (long) screen->sample.n_rows - (long) screen_room();

        if (first > last)
                first = last;
        screen->first = first > 0 ? (size_t) first : 0;
}

static void screen_take_key(struct screen *screen, int key) {
        switch (key) {
        case 'q':
        case 'Q':
                screen->is_over = true;
                break;
        case 's':
                screen->sort = (screen->sort + 1) % TOP_N_SORTS;
                top_sample_sort(&screen->sample, screen->sort);
                break;
        case 'p':
                screen->is_paused = !screen->is_paused;
                break;
        case 'h':
        case '?':
                screen->is_help = !screen->is_help;
                break;
        case ' ':
                screen->next_ns = 0;
                break;
        case KEY_UP:
        case KEY_DOWN:
                screen_move(screen, key == KEY_UP ? -1 : 1);
                break;
        case KEY_PPAGE:
        case KEY_NPAGE:
                screen_move(screen, key == KEY_PPAGE ? -(long) screen_room() : (long) screen_room());
                break;
        case KEY_HOME:
                screen->first = 0;
                break;
        default: /* KEY_RESIZE: LINES and COLS have changed */
                break;
        }
}

/* How long to wait for a key, in ms. */
static int screen_patience(const struct screen *screen) {
        uint64_t now = now_ns();

        if (screen->is_paused)
                return -1;
        return now < screen->next_ns ? (int) ((screen->next_ns - now + NS_PER_MS - 1) / NS_PER_MS) : 0;
}

/* A terminal that was taken away answers each read at once, with nothing. */
static bool screen_is_gone(void) {
        struct pollfd terminal = { .fd = STDIN_FILENO };

        return poll(&terminal, 1, 0) > 0 && terminal.revents & (POLLERR | POLLHUP | POLLNVAL);
}

static void screen_loop(struct screen *screen) {
        while (!screen->is_over) {
                int key;

                if (screen->next_ns == 0 || (!screen->is_paused && now_ns() >= screen->next_ns)) {
                        screen_ask(screen);
                        screen->next_ns = now_ns() + screen->interval_ns;
                }
                screen_draw(screen);
                timeout(screen_patience(screen));
                key = getch();
                if (key != ERR)
                        screen_take_key(screen, key);
                else if (screen_is_gone())
                        screen->is_over = true;
        }
}

/*
 * What keeps the terminal from showing a screen, or NULL. newterm() would say so of one that it does not know, too, but
 * not before it has lost memory.
 */
static const char *screen_find_fault(void) {
        const char *fault = NULL;
        int error;

        if (setupterm(NULL, STDOUT_FILENO, &error) == ERR)
                return "is not known here";
        if (!cursor_address)
                fault = "cannot move its cursor";
        del_curterm(cur_term);
        return fault;
}

/* Takes the terminal. Returns 0, or the exit status after the complaint. */
static int screen_open(struct screen *screen) {
        const char *fault;

        if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
                return ctl_complain_usage("top", "top: standard input and output must be a terminal: use --batch");
        fault = screen_find_fault();
        if (fault)
                return ctl_complain_usage("top", "top: the terminal '%s' %s (TERM): use --batch",
                                          getenv("TERM") ? getenv("TERM") : "", fault);
        /* Who cannot be asked at all is told so without a screen. */
        screen->question_fd = question_connect(screen->ctl);
        if (screen->question_fd < 0)
                return CTL_LOST;
        setlocale(LC_CTYPE, "");
        screen->terminal = newterm(NULL, stdout, stdin);
        if (!screen->terminal) {
                ctl_complain("the terminal cannot be used for a screen: use --batch");
                return CTL_FAILED;
        }
        cbreak();
        noecho();
        curs_set(0);
        keypad(stdscr, true);
        return 0;
}

static void screen_close(struct screen *screen) {
        if (screen->terminal) {
                endwin();
                delscreen(screen->terminal);
        }
        screen_release_complaints(screen);
        screen->question_fd = fd_close(screen->question_fd);
        top_sample_deinit(&screen->sample);
}

int top_screen_run(const struct ctl *ctl, uint64_t interval_ns, enum top_sort sort) {
        struct screen screen = {
                .ctl = ctl,
                .question_fd = -1,
                .stderr_fd = -1,
                .complaints_fd = -1,
                .interval_ns = interval_ns,
                .sort = sort,
        };
        int r;

        r = screen_open(&screen);
        if (r == 0 && screen_catch_complaints(&screen) >= 0)
                screen_loop(&screen);
        screen_close(&screen);
        return r;
}
