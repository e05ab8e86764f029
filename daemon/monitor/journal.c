/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The journal: one line for each event that an administrator may have to explain later.
 *
 * Invariant: at most JOURNAL_WINDOW_LINES lines leave in a window, and fewer of one cause, which is an event about the
 * clients of one user: what one of them does often hides neither another's lines nor rarer ones of its own. What was
 * suppressed is counted by cause and the counts are written, so that a flood is visible and silence is never mistaken
 * for peace. Texts that come from workers, clients or the kernel are cleaned here, once, at the last door.
 *
 * The window's state has two arrows: a line moves it from "room" to "full" and counts what follows; the first line
 * after the window's end moves it back. No timer is needed: a count that no line follows is written at the end.
 *
 * Nobody waits for the journal: a line that it does not take at once is lost and counted, for its reader may be what
 * hangs. Where there is no journal at all, lines go to stderr.
 *
 * Rejected: sd_journal_send(), which waits; syslog(3), which has no fields; a line per operation, which belongs into
 * counters.
 */

#include "daemon/monitor/journal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/events.h"

#define JOURNAL_LINE_SIZE 1024
#define JOURNAL_FIELD_SIZE 256
#define JOURNAL_PACKET_SIZE 8192
#define JOURNAL_CAUSE_LINES_MAX 8 /* causes that are named when a window is over; the rest is one sum */

/* Fields as journald takes them: NAME=value and a newline each. No value has a newline, for all are cleaned. */
struct journal_packet {
        char bytes[JOURNAL_PACKET_SIZE];
        size_t len;
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
        *journal = (struct journal){
                .target = target,
                .max_priority = max_priority,
                .fd = -1,
                .socket_path = JOURNAL_SOCKET,
                .window_start_ns = now_ns(),
        };
#ifdef OVL_TEST_HOOKS
        /* Test builds: a socket that gets what the journal would, beside stderr. */
        journal->is_copied = getenv("OVL_TEST_JOURNAL");
        if (journal->is_copied)
                journal->socket_path = getenv("OVL_TEST_JOURNAL");
#endif
}

void journal_clean(char *text) {
        for (unsigned char *byte = (unsigned char *) text; *byte; byte++)
                if (*byte < 0x20 || *byte == 0x7f)
                        *byte = '?';
}

/* A field that finds no room is left out. */
__attribute__((format(printf, 4, 5))) static void journal_add(struct journal_packet *packet, const char *name,
                                                              size_t size, const char *format, ...) {
        size_t room = sizeof(packet->bytes) - packet->len, name_len = strlen(name);
        char *field = packet->bytes + packet->len;
        va_list arguments;

        if (name_len + size + 2 > room)
                return;
        memcpy(field, name, name_len);
        field[name_len] = '=';
        va_start(arguments, format);
        vsnprintf(field + name_len + 1, size, format, arguments);
        va_end(arguments);
        journal_clean(field + name_len + 1);
        packet->len += strlen(field);
        packet->bytes[packet->len++] = '\n';
}

static void journal_add_text(struct journal_packet *packet, const char *name, const char *text) {
        if (text)
                journal_add(packet, name, JOURNAL_FIELD_SIZE, "%s", text);
}

static void journal_add_number(struct journal_packet *packet, const char *name, uint64_t number) {
        journal_add(packet, name, JOURNAL_FIELD_SIZE, "%llu", (unsigned long long) number);
}

static void journal_add_totals(struct journal_packet *packet, const struct journal_totals *totals) {
        journal_add_number(packet, "DURATION_USEC", totals->duration_ns / 1000);
        journal_add_number(packet, "OPERATIONS", totals->n_ops);
        journal_add_number(packet, "SOCKETS", totals->n_sockets);
        journal_add_number(packet, "BYTES_RECEIVED", totals->bytes_received);
        journal_add_number(packet, "BYTES_SENT", totals->bytes_sent);
}

static void journal_add_fields(struct journal_packet *packet, const struct journal_fields *fields) {
        journal_add_text(packet, "MESSAGE_ID", fields->message_id);
        if (fields->session)
                journal_add(packet, "SESSION", JOURNAL_FIELD_SIZE, "%016llx", (unsigned long long) fields->session);
        if (fields->has_client) {
                if (fields->client_pid > 0)
                        journal_add(packet, "CLIENT_PID", JOURNAL_FIELD_SIZE, "%d", (int) fields->client_pid);
                journal_add_number(packet, "CLIENT_UID", fields->client_uid);
        }
        journal_add_text(packet, "CLIENT_UNIT", fields->client_unit);
        if (fields->client_cgroup)
                journal_add(packet, "CLIENT_CGROUP", JOURNAL_LINE_SIZE, "%s", fields->client_cgroup);
        if (fields->has_client_thread)
                journal_add_number(packet, "CLIENT_THREAD", fields->client_thread);
        if (fields->client_socket)
                journal_add_number(packet, "CLIENT_SOCKET", fields->client_socket);
        if (fields->has_client_op)
                journal_add_number(packet, "CLIENT_OP", fields->client_op);
        if (fields->error)
                journal_add_number(packet, "OVERLAPD_ERRNO",
                                   (uint64_t) (fields->error < 0 ? -fields->error : fields->error));
        journal_add_text(packet, "PROTOCOL", fields->protocol);
        journal_add_text(packet, "RULE", fields->rule);
        journal_add_text(packet, "REMOTE", fields->remote);
        journal_add_text(packet, "REMOTE_NAME", fields->remote_name);
        journal_add_text(packet, "LOCAL", fields->local);
        if (fields->worker_pid)
                journal_add_number(packet, "WORKER_PID", (uint64_t) fields->worker_pid);
        journal_add_text(packet, "ENGINE", fields->engine);
        if (fields->totals)
                journal_add_totals(packet, fields->totals);
}

/* Whom a line is about, behind it: fields are not seen on stderr, nor by who just reads the journal. */
static void journal_tell_client(const struct journal_fields *fields, char ret_about[JOURNAL_FIELD_SIZE]) {
        char pid[32] = "";
        size_t len = 0;

        ret_about[0] = '\0';
        if (fields && fields->has_client && fields->client_pid > 0)
                snprintf(pid, sizeof(pid), "client pid %d, ", (int) fields->client_pid);
        if (fields && fields->has_client)
                len = (size_t) snprintf(ret_about, JOURNAL_FIELD_SIZE, " (%suid %u%s%s)", pid,
                                        (unsigned) fields->client_uid, fields->client_unit ? ", " : "",
                                        fields->client_unit ? fields->client_unit : "");
        if (len >= JOURNAL_FIELD_SIZE)
                ret_about[JOURNAL_FIELD_SIZE - 1] = '\0';
        journal_clean(ret_about);
}

static int journal_send(struct journal *journal, int priority, const struct journal_fields *fields, const char *line) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct journal_packet packet = { .len = 0 };
        char about[JOURNAL_FIELD_SIZE];

        if (journal->fd < 0)
                journal->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (journal->fd < 0)
                return -errno;
        journal_add_number(&packet, "PRIORITY", (uint64_t) priority);
        journal_add_text(&packet, "SYSLOG_IDENTIFIER", "overlapd");
        journal_tell_client(fields, about);
        journal_add(&packet, "MESSAGE", JOURNAL_LINE_SIZE, "%s%s", line, about);
        if (fields)
                journal_add_fields(&packet, fields);
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", journal->socket_path);
        if (sendto(journal->fd, packet.bytes, packet.len, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *) &address,
                   sizeof(address)) < 0)
                return -errno;
        return 0;
}

static void journal_print(const struct journal_fields *fields, const char *line) {
        char about[JOURNAL_FIELD_SIZE];

        journal_tell_client(fields, about);
        fprintf(stderr, "overlapd: %s%s\n", line, about);
}

static void journal_put_line(struct journal *journal, int priority, const struct journal_fields *fields,
                             const char *line) {
        int r = -ENOENT;

        if (journal->is_copied)
                journal_send(journal, priority, fields, line);
        if (journal->target == JOURNAL_TO_JOURNAL)
                r = journal_send(journal, priority, fields, line);
        if (r == -EAGAIN || r == -ENOBUFS || r == -ENOMEM) {
                journal->n_lost++;
                journal->n_lost_ever++;
        } else if (r < 0) {
                journal_print(fields, line);
        }
}

static void journal_put(struct journal *journal, int priority, const struct journal_fields *fields, const char *line) {
        struct journal_fields lost = { .message_id = EVENT_LINES_LOST };
        unsigned n_lost = journal->n_lost;
        char text[JOURNAL_FIELD_SIZE];

        if (n_lost > 0) {
                snprintf(text, sizeof(text), "%u lines were lost: the journal did not take them", n_lost);
                journal->n_lost = 0;
                journal_put_line(journal, LOG_WARNING, &lost, text);
                if (journal->n_lost > 0)
                        journal->n_lost += n_lost - 1;
        }
        journal_put_line(journal, priority, fields, line);
}

/* --- Not too many ------------------------------------------------------------------------------------------------ */

static void journal_report_cause(struct journal *journal, const struct journal_cause *cause) {
        struct journal_fields fields = {
                .message_id = EVENT_LINES_SUPPRESSED,
                .has_client = true,
                .client_uid = cause->uid,
        };
        char line[JOURNAL_FIELD_SIZE + JOURNAL_SAMPLE_SIZE];

        snprintf(line, sizeof(line), "%u lines were suppressed, of which the first was: %s", cause->n_suppressed,
                 cause->sample);
        journal_put(journal, LOG_WARNING, &fields, line);
}

/* What was suppressed in the window that is over: its causes while they are few, and the sum of all. */
static void journal_open_window(struct journal *journal, uint64_t now) {
        struct journal_fields fields = { .message_id = EVENT_LINES_SUPPRESSED };
        unsigned n_suppressed = journal->n_suppressed, n_named = 0;
        char line[JOURNAL_FIELD_SIZE];

        journal->window_start_ns = now;
        journal->n_in_window = 0;
        journal->n_suppressed = 0;
        for (unsigned i = 0; i < JOURNAL_CAUSES && n_suppressed > 0; i++)
                if (journal->causes[i].n_suppressed > 0 && n_named++ < JOURNAL_CAUSE_LINES_MAX)
                        journal_report_cause(journal, &journal->causes[i]);
        memset(journal->causes, 0, sizeof(journal->causes));
        if (n_suppressed == 0)
                return;
        snprintf(line, sizeof(line),
                 "%u lines were suppressed: more than %u, or %u of one kind about one user, in %u s", n_suppressed,
                 JOURNAL_WINDOW_LINES, JOURNAL_CAUSE_LINES, JOURNAL_WINDOW_S);
        journal_put(journal, LOG_WARNING, &fields, line);
        journal->n_in_window++;
}

void journal_finish(struct journal *journal) {
        journal_open_window(journal, now_ns());
}

void journal_deinit(struct journal *journal) {
        journal->fd = fd_close(journal->fd);
}

static uint64_t journal_hash(const char *text) {
        uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

        for (; text && *text; text++)
                hash = (hash ^ (unsigned char) *text) * UINT64_C(0x100000001b3);
        return hash;
}

static bool journal_is_cause(const struct journal_cause *cause, const struct journal_fields *fields) {
        if (cause->rule != journal_hash(fields->rule))
                return false;
        if (cause->uid != fields->client_uid || !cause->message_id || !fields->message_id)
                return cause->uid == fields->client_uid && cause->message_id == fields->message_id;
        return strcmp(cause->message_id, fields->message_id) == 0;
}

/* Those for whom there is no place of their own share the last. */
static struct journal_cause *journal_find_cause(struct journal *journal, const struct journal_fields *fields) {
        unsigned i = 0;

        while (i < JOURNAL_CAUSES - 1 && journal->causes[i].n_lines > 0 &&
               !journal_is_cause(&journal->causes[i], fields))
                i++;
        journal->causes[i].uid = fields->client_uid;
        journal->causes[i].message_id = fields->message_id;
        journal->causes[i].rule = journal_hash(fields->rule);
        return &journal->causes[i];
}

/* Whether one more line may leave. */
static bool journal_charge(struct journal *journal, const struct journal_fields *fields, const char *line) {
        struct journal_cause *cause = fields && fields->has_client ? journal_find_cause(journal, fields) : NULL;

        if (journal->n_in_window < JOURNAL_WINDOW_LINES && (!cause || cause->n_lines < JOURNAL_CAUSE_LINES)) {
                journal->n_in_window++;
                if (cause)
                        cause->n_lines++;
                return true;
        }
        journal->n_suppressed++;
        if (cause && cause->n_suppressed++ == 0) {
                cause->n_lines = cause->n_lines > 0 ? cause->n_lines : 1; /* the place is taken */
                snprintf(cause->sample, sizeof(cause->sample), "%.*s", (int) sizeof(cause->sample) - 1, line);
        }
        return false;
}

void journal_write(struct journal *journal, int priority, const struct journal_fields *fields, const char *format,
                   ...) {
        char line[JOURNAL_LINE_SIZE];
        uint64_t now = now_ns();
        int saved = errno;
        va_list arguments;

        if (priority > journal->max_priority)
                return;
        va_start(arguments, format);
        vsnprintf(line, sizeof(line), format, arguments);
        va_end(arguments);
        journal_clean(line);
        if (now - journal->window_start_ns >= JOURNAL_WINDOW_S * NS_PER_S)
                journal_open_window(journal, now);
        if (journal_charge(journal, fields, line))
                journal_put(journal, priority, fields, line);
        errno = saved;
}

void journal_write_each(struct journal *journal, int priority, const struct journal_fields *fields, const char *what,
                        const char *text) {
        do {
                size_t len = strcspn(text, "\n");

                journal_write(journal, priority, fields, "%s: %.*s", what, (int) len, text);
                text += len;
                text += strspn(text, "\n");
        } while (*text);
}
