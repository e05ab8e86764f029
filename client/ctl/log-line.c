/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An entry on one line: when, what kind of event, who, and what. It is made from the fields, which have one meaning
 * each, where an event has them all; of other events the daemon's own sentence is shown. An event that this version
 * does not know is shown the same way, so a newer daemon's journal can be read.
 *
 * Who wrote an entry is for log.c to say, which chooses entries by fields that no writer can forge. What is in the
 * others may come from anybody: nothing of it reaches a terminal but text.
 */

#include "client/ctl/log-line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "client/ctl/membership.h"
#include "client/ctl/output.h"

#define LOG_LINE_FIELD_SIZE 512u
#define LOG_LINE_MESSAGE_SIZE 2048u
#define LOG_LINE_TIME_SIZE 64u
#define LOG_LINE_WHO_SIZE 1024u
#define LOG_LINE_US_PER_S 1000000u

#define LOG_LINE_REQUEST_REFUSED "777dc9027a334018b7105a7e52189294"
#define LOG_LINE_CHANNEL_REFUSED "f04c1d883f70424293c6a59572c327b2"
#define LOG_LINE_QUOTA_REACHED "39b189a2163948768b7a6bd559065aa4"
#define LOG_LINE_ADMIN_REFUSED "32671ce9204d43debb6364fb04581f23"

const char *const log_line_refusals[] = {
        LOG_LINE_REQUEST_REFUSED, LOG_LINE_CHANNEL_REFUSED, LOG_LINE_QUOTA_REACHED, LOG_LINE_ADMIN_REFUSED, NULL,
};

/* units/overlapd.catalog explains each. */
static const struct log_line_event {
        const char *message_id;
        const char *word;
} log_line_events[] = {
        { "c12fc7e5579c4159b2bc1a57fbfc1556", "start" },
        { "4516a71b14cd42d6a546df57f1aba7c0", "stop" },
        { "0b4deac28f6844b3b4f5607be70e7abb", "worker" },
        { "14ed93798ca64f3f948a58b36b52cf21", "worker-end" },
        { "5f18608825fe4ccb9eff286308285d8b", "worker-died" },
        { "414a2645f9664f6c8cbc12aaeacc9290", "worker-bad" },
        { "dc3cc0da3f02461cae89b288e668dbd3", "kicked" },
        { LOG_LINE_CHANNEL_REFUSED, "refused" },
        { LOG_LINE_REQUEST_REFUSED, "refused" },
        { LOG_LINE_QUOTA_REACHED, "quota" },
        { LOG_LINE_ADMIN_REFUSED, "admin-refused" },
        { "1823267332bb4a8a8aa207dd525f86f4", "admin-closed" },
        { "8b82f470532746ad9f745dbe38027f80", "paused" },
        { "bcd41ada32ba42798697106e69ac34b2", "reload" },
        { "40367cf3918d4c12b4619f2563c47efb", "reload-bad" },
        { "f6e5ace16923430bbb288d98f0dd27df", "start-bad" },
        { "1457ac8d3cdd4e17ae7cab350f93fee2", "killed" },
        { "bd57f0e29fed4cd88aa23f659d4c7b1e", "activation" },
        { "e3bfe5aabe5644f498a8f60e03b4381a", "policy" },
        { "7515be9209d44d5781559be0798daa32", "connected" },
        { "25d2bf603942466db2174496aab77528", "listening" },
        { "a962cdbe762e4b7b86cbd7532fcf924c", "session-end" },
        { "5a5b3eaff9554e5ea71a7269ffd35ff3", "suppressed" },
        { "6ffba269c32c4c4985b01e5270703039", "lost" },
        { "957077655580443385751f0fc0cf0350", "resolver" },
        { "c3a1e17e11ef4c569aaff1c585eab786", "lookout" },
};

enum log_line_kind {
        LOG_LINE_TEXT,
        LOG_LINE_NUMBER, /* without quotes */
        LOG_LINE_ID,     /* a number that names something: as list has it */
};

/* Fields that go into JSON, and under which name. */
static const struct log_line_field {
        const char *field;
        const char *name;
        enum log_line_kind kind;
} log_line_fields[] = {
        { "MESSAGE_ID", "message_id", LOG_LINE_TEXT },
        { "PRIORITY", "priority", LOG_LINE_NUMBER },
        { "MESSAGE", "message", LOG_LINE_TEXT },
        { "SESSION", "session", LOG_LINE_TEXT },
        { "CLIENT_PID", "client_pid", LOG_LINE_NUMBER },
        { "CLIENT_UID", "client_uid", LOG_LINE_NUMBER },
        { "CLIENT_UNIT", "client_unit", LOG_LINE_TEXT },
        { "CLIENT_CGROUP", "client_cgroup", LOG_LINE_TEXT },
        { "CLIENT_THREAD", "client_thread", LOG_LINE_ID },
        { "CLIENT_SOCKET", "client_socket", LOG_LINE_ID },
        { "CLIENT_OP", "client_op", LOG_LINE_ID },
        { "PROTOCOL", "protocol", LOG_LINE_TEXT },
        { "REMOTE", "remote", LOG_LINE_TEXT },
        { "REMOTE_NAME", "remote_name", LOG_LINE_TEXT },
        { "LOCAL", "local", LOG_LINE_TEXT },
        { "RULE", "rule", LOG_LINE_TEXT },
        { "OVERLAPD_ERRNO", "errno", LOG_LINE_NUMBER },
        { "WORKER_PID", "worker_pid", LOG_LINE_NUMBER },
        { "ENGINE", "engine", LOG_LINE_TEXT },
        { "DURATION_USEC", "duration_us", LOG_LINE_NUMBER },
        { "OPERATIONS", "operations", LOG_LINE_NUMBER },
        { "SOCKETS", "sockets", LOG_LINE_NUMBER },
        { "BYTES_RECEIVED", "bytes_received", LOG_LINE_NUMBER },
        { "BYTES_SENT", "bytes_sent", LOG_LINE_NUMBER },
};

/* Returns whether there is such a field; its text without control characters, "" where there is none. */
static bool log_line_get(sd_journal *journal, const char *field, char *to, size_t size) {
        const void *data;
        size_t len, skip = strlen(field) + 1, n;

        to[0] = '\0';
        if (sd_journal_get_data(journal, field, &data, &len) < 0 || len < skip)
                return false;
        n = len - skip < size - 1 ? len - skip : size - 1;
        memcpy(to, (const char *) data + skip, n);
        to[n] = '\0';
        output_clean(to, to, size);
        return true;
}

static bool log_line_get_number(sd_journal *journal, const char *field, uint64_t *ret_number) {
        char text[LOG_LINE_FIELD_SIZE], *end;

        if (!log_line_get(journal, field, text, sizeof(text)) || text[0] < '0' || text[0] > '9')
                return false;
        errno = 0;
        *ret_number = strtoull(text, &end, 10);
        return !errno && *end == '\0';
}

static const char *log_line_event(sd_journal *journal) {
        char id[LOG_LINE_FIELD_SIZE], rule[LOG_LINE_FIELD_SIZE];
        bool has_id = log_line_get(journal, "MESSAGE_ID", id, sizeof(id));

        /* What a rule has refused is another thing than what the network did not give. */
        if (has_id && strcmp(id, LOG_LINE_REQUEST_REFUSED) == 0 && log_line_get(journal, "RULE", rule, sizeof(rule)))
                return "denied";
        if (has_id)
                for (size_t i = 0; i < sizeof(log_line_events) / sizeof(log_line_events[0]); i++)
                        if (strcmp(log_line_events[i].message_id, id) == 0)
                                return log_line_events[i].word;
        if (log_line_get(journal, "_PID", id, sizeof(id)) && strcmp(id, "1") == 0)
                return "systemd";
        return "note";
}

/* --- For people -------------------------------------------------------------------------------------------------- */

static void log_line_time(uint64_t us, char to[LOG_LINE_TIME_SIZE]) {
        time_t s = (time_t) (us / LOG_LINE_US_PER_S);
        struct tm tm;
        size_t len;

        if (!localtime_r(&s, &tm)) {
                snprintf(to, LOG_LINE_TIME_SIZE, "@%llu", (unsigned long long) s);
                return;
        }
        len = strftime(to, LOG_LINE_TIME_SIZE, "%Y-%m-%d %H:%M:%S", &tm);
        snprintf(to + len, LOG_LINE_TIME_SIZE - len, ".%03u", (unsigned) (us % LOG_LINE_US_PER_S / 1000));
}

/* "web.service[812] ann", "pid 812 ann", or a dash where the entry is about no client. */
static void log_line_who(sd_journal *journal, char to[LOG_LINE_WHO_SIZE]) {
        char unit[LOG_LINE_FIELD_SIZE], user[MEMBERSHIP_NAME_SIZE] = "";
        uint64_t pid, uid;
        size_t len = 0;

        to[0] = '\0';
        if (log_line_get_number(journal, "CLIENT_UID", &uid) && uid < UINT32_MAX)
                membership_user_name((uid_t) uid, user);
        if (!log_line_get_number(journal, "CLIENT_PID", &pid))
                pid = 0;
        if (log_line_get(journal, "CLIENT_UNIT", unit, sizeof(unit)))
                len = (size_t) snprintf(to, LOG_LINE_WHO_SIZE, pid ? "%s[%llu]" : "%s", unit, (unsigned long long) pid);
        else if (pid)
                len = (size_t) snprintf(to, LOG_LINE_WHO_SIZE, "pid %llu", (unsigned long long) pid);
        if (user[0])
                snprintf(to + len, LOG_LINE_WHO_SIZE - len, len ? " %s" : "%s", user);
        if (!to[0])
                snprintf(to, LOG_LINE_WHO_SIZE, "-");
}

/* An address, and the name that stood for it. Returns false where there is none. */
static bool log_line_address(sd_journal *journal, const char *field, char *to, size_t size) {
        char name[LOG_LINE_FIELD_SIZE];
        size_t len;

        if (!log_line_get(journal, field, to, size))
                return false;
        len = strlen(to);
        if (log_line_get(journal, "REMOTE_NAME", name, sizeof(name)))
                snprintf(to + len, size - len, " (%s)", name);
        return true;
}

/* Of a connection or a listener. Returns false where a field is missing. */
static bool log_line_what_address(sd_journal *journal, const char *field, char *to, size_t size) {
        char protocol[LOG_LINE_FIELD_SIZE], address[2 * LOG_LINE_FIELD_SIZE];

        if (!log_line_get(journal, "PROTOCOL", protocol, sizeof(protocol)) ||
            !log_line_address(journal, field, address, sizeof(address)))
                return false;
        snprintf(to, size, "%s %s", protocol, address);
        return true;
}

static bool log_line_what_refused(sd_journal *journal, char *to, size_t size) {
        char address[2 * LOG_LINE_FIELD_SIZE], rule[LOG_LINE_FIELD_SIZE];

        if (!log_line_address(journal, "REMOTE", address, sizeof(address)) ||
            !log_line_get(journal, "RULE", rule, sizeof(rule)))
                return false;
        snprintf(to, size, "%s: %s", address, rule);
        return true;
}

static bool log_line_what_totals(sd_journal *journal, char *to, size_t size) {
        char received_text[OUTPUT_TEXT_SIZE], sent_text[OUTPUT_TEXT_SIZE], duration_text[OUTPUT_TEXT_SIZE];
        uint64_t duration, operations, sockets, received, sent;

        if (!log_line_get_number(journal, "DURATION_USEC", &duration) ||
            !log_line_get_number(journal, "OPERATIONS", &operations) ||
            !log_line_get_number(journal, "SOCKETS", &sockets) ||
            !log_line_get_number(journal, "BYTES_RECEIVED", &received) ||
            !log_line_get_number(journal, "BYTES_SENT", &sent))
                return false;
        duration = duration > UINT64_MAX / 1000 ? UINT64_MAX : duration * 1000;
        snprintf(to, size, "after %s: %llu operations, %llu sockets, %s bytes received, %s sent",
                 output_duration(duration, duration_text), (unsigned long long) operations,
                 (unsigned long long) sockets, output_bytes(received, received_text), output_bytes(sent, sent_text));
        return true;
}

static void log_line_what(sd_journal *journal, const char *event, char *to, size_t size) {
        bool is_told = false;

        if (strcmp(event, "connected") == 0)
                is_told = log_line_what_address(journal, "REMOTE", to, size);
        else if (strcmp(event, "listening") == 0)
                is_told = log_line_what_address(journal, "LOCAL", to, size);
        else if (strcmp(event, "denied") == 0)
                is_told = log_line_what_refused(journal, to, size);
        else if (strcmp(event, "session-end") == 0)
                is_told = log_line_what_totals(journal, to, size);
        if (!is_told)
                log_line_get(journal, "MESSAGE", to, size);
}

static void log_line_print_text(sd_journal *journal, uint64_t us) {
        char when[LOG_LINE_TIME_SIZE], who[LOG_LINE_WHO_SIZE], what[LOG_LINE_MESSAGE_SIZE],
                session[LOG_LINE_FIELD_SIZE];
        const char *event = log_line_event(journal);

        log_line_time(us, when);
        log_line_who(journal, who);
        log_line_what(journal, event, what, sizeof(what));
        log_line_get(journal, "SESSION", session, sizeof(session));
        printf("%s  %-13s  %-24s  %s%s%s\n", when, event, who, what, session[0] ? "  session " : "", session);
}

/* --- For programs ------------------------------------------------------------------------------------------------ */

static void log_line_add_field(sd_journal *journal, struct json_object *object, const struct log_line_field *field) {
        char text[LOG_LINE_MESSAGE_SIZE];
        uint64_t number;

        if (field->kind == LOG_LINE_TEXT) {
                if (log_line_get(journal, field->field, text, sizeof(text)))
                        output_json_string(object, field->name, text);
        } else if (log_line_get_number(journal, field->field, &number)) {
                if (field->kind == LOG_LINE_ID)
                        output_json_id(object, field->name, number);
                else
                        output_json_number(object, field->name, number);
        }
}

static int log_line_print_json(sd_journal *journal, uint64_t us) {
        struct json_object *object = output_json_object();
        time_t s = (time_t) (us / LOG_LINE_US_PER_S);
        _cleanup_free_ char *cursor = NULL;
        char when[LOG_LINE_TIME_SIZE];
        struct tm tm;
        const char *text;
        size_t len;

        len = gmtime_r(&s, &tm) ? strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm) : 0;
        snprintf(when + len, sizeof(when) - len, ".%06uZ", (unsigned) (us % LOG_LINE_US_PER_S));
        output_json_string(object, "time", when);
        output_json_string(object, "event", log_line_event(journal));
        for (size_t i = 0; i < sizeof(log_line_fields) / sizeof(log_line_fields[0]); i++)
                log_line_add_field(journal, object, &log_line_fields[i]);
        if (sd_journal_get_cursor(journal, &cursor) >= 0)
                output_json_string(object, "cursor", cursor);
        text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        if (text)
                puts(text);
        json_object_put(object);
        return text ? 0 : -ENOMEM;
}

int log_line_print(sd_journal *journal, bool is_json) {
        uint64_t us;
        int r;

        r = sd_journal_get_realtime_usec(journal, &us);
        if (r < 0)
                return r;
        if (is_json)
                return log_line_print_json(journal, us);
        log_line_print_text(journal, us);
        return 0;
}
