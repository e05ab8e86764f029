/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The journal: one line for each event that an administrator may have to explain later.
 *
 * Invariant: at most JOURNAL_WINDOW_LINES lines leave in a window, and fewer about the clients of one user, whatever
 * they do; what was suppressed is counted and the count is written, so that a flood is visible and silence is never
 * mistaken for peace. Texts that come from workers, clients or the kernel are cleaned here, once, at the last door.
 *
 * The window's state has two arrows: a line moves it from "room" to "full" and counts what follows; the first line
 * after the window's end moves it back. No timer is needed: a count that no line follows is written at the end.
 *
 * Rejected: syslog(3), which has no fields; a line per operation, which belongs into counters.
 */

#include "daemon/monitor/journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/time.h"
#include "daemon/ruling.h"

#define JOURNAL_LINE_SIZE 1024
#define JOURNAL_FIELD_SIZE 256
#define JOURNAL_FIELDS_MAX 12

struct journal_packet {
        struct iovec parts[JOURNAL_FIELDS_MAX];
        char texts[JOURNAL_FIELDS_MAX][JOURNAL_FIELD_SIZE];
        int n_parts;
};

enum journal_target journal_default_target(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat status;

        if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2)
                return JOURNAL_TO_STDERR;
        if (fstat(STDERR_FILENO, &status) < 0)
                return JOURNAL_TO_STDERR;
        return status.st_dev == device && status.st_ino == inode ? JOURNAL_TO_JOURNAL : JOURNAL_TO_STDERR;
}

void journal_init(struct journal *journal, enum journal_target target, int max_priority) {
        *journal = (struct journal){ .target = target, .max_priority = max_priority, .window_start_ns = now_ns() };
}

void journal_clean(char *text) {
        for (unsigned char *byte = (unsigned char *) text; *byte; byte++)
                if (*byte < 0x20 || *byte == 0x7f)
                        *byte = '?';
}

__attribute__((format(printf, 2, 3))) static void journal_add(struct journal_packet *packet, const char *format, ...) {
        char *text = packet->texts[packet->n_parts];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, JOURNAL_FIELD_SIZE, format, arguments);
        va_end(arguments);
        journal_clean(text);
        packet->parts[packet->n_parts++] = (struct iovec){ text, strlen(text) };
}

static void journal_add_fields(struct journal_packet *packet, const struct journal_fields *fields) {
        if (fields->message_id)
                journal_add(packet, "MESSAGE_ID=%s", fields->message_id);
        if (fields->session)
                journal_add(packet, "SESSION=%016llx", (unsigned long long) fields->session);
        if (fields->has_client) {
                journal_add(packet, "CLIENT_PID=%d", (int) fields->client_pid);
                journal_add(packet, "CLIENT_UID=%u", (unsigned) fields->client_uid);
        }
        if (fields->client_unit)
                journal_add(packet, "CLIENT_UNIT=%s", fields->client_unit);
        if (fields->error)
                journal_add(packet, "OVERLAPD_ERRNO=%d", fields->error < 0 ? -fields->error : fields->error);
        if (fields->remote)
                journal_add(packet, "REMOTE=%s", fields->remote);
        if (fields->rule)
                journal_add(packet, "RULE=%s", fields->rule);
}

static int journal_send(int priority, const struct journal_fields *fields, const char *line) {
        struct journal_packet packet;
        char message[JOURNAL_LINE_SIZE + sizeof("MESSAGE=")];

        packet.n_parts = 0;
        journal_add(&packet, "PRIORITY=%d", priority);
        journal_add(&packet, "SYSLOG_IDENTIFIER=overlapd");
        if (fields)
                journal_add_fields(&packet, fields);
        snprintf(message, sizeof(message), "MESSAGE=%s", line);
        packet.parts[packet.n_parts++] = (struct iovec){ message, strlen(message) };
        return sd_journal_sendv(packet.parts, packet.n_parts);
}

/* On stderr there are no fields: what a person needs of them is written behind the line. */
static void journal_print(const struct journal_fields *fields, const char *line) {
        char about[JOURNAL_FIELD_SIZE] = "";
        size_t len = 0;

        if (fields && fields->has_client)
                len = (size_t) snprintf(about, sizeof(about), " (client pid %d, uid %u%s%s)", (int) fields->client_pid,
                                        (unsigned) fields->client_uid, fields->client_unit ? ", " : "",
                                        fields->client_unit ? fields->client_unit : "");
        if (len >= sizeof(about))
                about[sizeof(about) - 1] = '\0';
        journal_clean(about);
        fprintf(stderr, "overlapd: %s%s\n", line, about);
}

static void journal_put(struct journal *journal, int priority, const struct journal_fields *fields, const char *line) {
        int r;

        if (journal->target == JOURNAL_TO_JOURNAL) {
                r = journal_send(priority, fields, line);
                if (r >= 0)
                        return;
        }
        journal_print(fields, line);
}

static void journal_open_window(struct journal *journal, uint64_t now) {
        unsigned n_suppressed = journal->n_suppressed;
        char line[JOURNAL_FIELD_SIZE];

        journal->window_start_ns = now;
        journal->n_in_window = 0;
        journal->n_suppressed = 0;
        memset(journal->users, 0, sizeof(journal->users));
        memset(journal->causes, 0, sizeof(journal->causes));
        if (n_suppressed == 0)
                return;
        snprintf(line, sizeof(line),
                 "%u lines were suppressed: more than %u, or %u about one user, or %u of these for one rule, in %u s",
                 n_suppressed, JOURNAL_WINDOW_LINES, JOURNAL_CLIENT_LINES, JOURNAL_CAUSE_LINES, JOURNAL_WINDOW_S);
        journal_put(journal, LOG_WARNING, NULL, line);
        journal->n_in_window++;
}

void journal_finish(struct journal *journal) {
        journal_open_window(journal, now_ns());
}

/*
 * What one rule refuses again and again to one user must not use up the lines in which the user's other refusals, and
 * the ends of its connections, are told.
 */
static bool journal_charge_cause(struct journal *journal, uid_t uid, const char *rule) {
        uint64_t cause = ruling_hash(rule) ^ uid;
        unsigned i = 0;

        while (i < JOURNAL_CAUSES - 1 && journal->causes[i].n_lines > 0 && journal->causes[i].cause != cause)
                i++;
        if (journal->causes[i].n_lines >= JOURNAL_CAUSE_LINES)
                return false;
        journal->causes[i].cause = cause;
        journal->causes[i].n_lines++;
        return true;
}

/* One user's clients must not use up the lines that everybody else needs. */
static bool journal_charge_user(struct journal *journal, const struct journal_fields *fields) {
        uid_t uid = fields->client_uid;
        unsigned i = 0;

        while (i < JOURNAL_USERS - 1 && journal->users[i].n_lines > 0 && journal->users[i].uid != uid)
                i++;
        if (journal->users[i].n_lines >= JOURNAL_CLIENT_LINES ||
            (fields->rule && !journal_charge_cause(journal, uid, fields->rule)))
                return false;
        journal->users[i].uid = uid;
        journal->users[i].n_lines++;
        return true;
}

/* Whether one more line may leave; opens a new window where the old one is over. */
static bool journal_has_room(struct journal *journal, const struct journal_fields *fields) {
        uint64_t now = now_ns();

        if (now - journal->window_start_ns >= JOURNAL_WINDOW_S * NS_PER_S)
                journal_open_window(journal, now);
        if (journal->n_in_window >= JOURNAL_WINDOW_LINES ||
            (fields && fields->has_client && !journal_charge_user(journal, fields))) {
                journal->n_suppressed++;
                return false;
        }
        journal->n_in_window++;
        return true;
}

void journal_write(struct journal *journal, int priority, const struct journal_fields *fields, const char *format,
                   ...) {
        char line[JOURNAL_LINE_SIZE];
        int saved = errno;
        va_list arguments;

        if (priority > journal->max_priority || !journal_has_room(journal, fields)) {
                errno = saved;
                return;
        }
        va_start(arguments, format);
        vsnprintf(line, sizeof(line), format, arguments);
        va_end(arguments);
        journal_clean(line);
        journal_put(journal, priority, fields, line);
        errno = saved;
}
