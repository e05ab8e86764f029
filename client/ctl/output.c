/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What overlapctl prints. Names of units, rules and errors come from elsewhere: what a terminal would take for an order
 * does not reach it.
 *
 * Invariant: a table is printed whole or not at all, and JSON is one document on one or many lines, never two.
 *
 * Rejected: colours and lines that are cut at the width of the terminal: what is printed is read by other programs,
 * too.
 */

#include "client/ctl/output.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/time.h"

#define OUTPUT_FACT_WIDTH 12

void output_table_deinit(struct output_table *table) {
        for (size_t i = 0; i < table->n_cells; i++)
                free(table->cells[i]);
        free(take_ptr(table->cells));
        table->n_cells = table->n_cells_size = 0;
}

static bool output_is_control(unsigned char byte) {
        return byte < 0x20 || byte == 0x7f;
}

/* How many bytes the character at `text` has; 0: it is none. */
static size_t output_utf8_len(const unsigned char *text) {
        size_t n = text[0] < 0x80                       ? 1
                   : text[0] >= 0xc2 && text[0] <= 0xdf ? 2
                   : (text[0] & 0xf0) == 0xe0           ? 3
                   : text[0] >= 0xf0 && text[0] <= 0xf4 ? 4
                                                        : 0;

        for (size_t i = 1; i < n; i++)
                if ((text[i] & 0xc0) != 0x80)
                        return 0;
        if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
            (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
                return 0;
        return n;
}

char *output_clean(const char *from, char *to, size_t size) {
        size_t at = 0;

        while (*from && at + 1 < size) {
                const unsigned char *bytes = (const unsigned char *) from;
                size_t n = output_utf8_len(bytes);

                if (n > 1 && at + n >= size)
                        break;
                /* U+0080 to U+009F are controls, too. */
                if (n == 0 || output_is_control(bytes[0]) || (bytes[0] == 0xc2 && bytes[1] < 0xa0)) {
                        to[at++] = '?';
                        from += n ? n : 1;
                        continue;
                }
                memmove(to + at, from, n);
                at += n;
                from += n;
        }
        to[at] = '\0';
        return to;
}

/* Without memory half a table would be printed as if it were whole. */
static void *output_must(void *object) {
        if (object)
                return object;
        fputs("overlapctl: no memory\n", stderr);
        exit(1);
}

static void output_make_room(struct output_table *table) {
        size_t size = table->n_cells_size ? table->n_cells_size * 2 : 64;

        if (table->n_cells < table->n_cells_size)
                return;
        table->cells = output_must(reallocarray(table->cells, size, sizeof(*table->cells)));
        table->n_cells_size = size;
}

void output_cell(struct output_table *table, const char *format, ...) {
        char *text = NULL;
        va_list arguments;
        int n;

        output_make_room(table);
        va_start(arguments, format);
        n = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (n == 0)
                free(text);
        table->cells[table->n_cells++] = text = output_must(n < 0 ? NULL : n == 0 ? strdup("-") : text);
        output_clean(text, text, strlen(text) + 1);
}

static size_t output_count_columns(const struct output_table *table) {
        size_t n = 0;

        while (table->titles[n])
                n++;
        return n;
}

/* Bytes, but for those that continue a character. */
static size_t output_width(const char *text) {
        size_t n = 0;

        for (; *text; text++)
                n += (*text & 0xc0) != 0x80;
        return n;
}

static void output_put(const char *text, size_t width, bool is_right, bool is_last) {
        size_t n = output_width(text);
        int pad = n < width ? (int) (width - n) : 0;

        if (is_right)
                printf("%*s%s", pad, "", text);
        else
                printf("%s%*s", text, is_last ? 0 : pad, "");
        fputs(is_last ? "\n" : "  ", stdout);
}

void output_table_print(const struct output_table *table) {
        size_t n_columns = output_count_columns(table), widths[OUTPUT_COLUMNS_MAX] = { 0 };
        bool is_right[OUTPUT_COLUMNS_MAX] = { false };

        for (size_t i = 0; i < n_columns; i++) {
                is_right[i] = table->titles[i][0] == '>';
                widths[i] = strlen(table->titles[i] + is_right[i]);
        }
        for (size_t i = 0; i < table->n_cells; i++) {
                size_t n = output_width(table->cells[i]);

                if (n > widths[i % n_columns])
                        widths[i % n_columns] = n;
        }
        for (size_t i = 0; i < n_columns; i++)
                output_put(table->titles[i] + is_right[i], widths[i], is_right[i], i + 1 == n_columns);
        for (size_t i = 0; i < table->n_cells; i++) {
                size_t column = i % n_columns;

                output_put(table->cells[i], widths[column], is_right[column], column + 1 == n_columns);
        }
}

void output_fact(const char *name, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vasprintf(&text, format, arguments);
        va_end(arguments);
        if (n < 0) {
                text = NULL;
                return;
        }
        output_clean(text, text, (size_t) n + 1);
        printf("%*s: %s\n", OUTPUT_FACT_WIDTH, name, text);
}

const char *output_level(uint32_t level) {
        static const char *const levels[] = { "inline", "shared", "ring" };

        return level < sizeof(levels) / sizeof(levels[0]) ? levels[level] : "unknown";
}

char *output_bytes(uint64_t n, char to[OUTPUT_TEXT_SIZE]) {
        static const char units[] = "KMGTPE";
        double value = (double) n;
        int unit = -1;

        while (value >= 1024 && units[unit + 1]) {
                value /= 1024;
                unit++;
        }
        if (unit < 0)
                snprintf(to, OUTPUT_TEXT_SIZE, "%u", (unsigned) n);
        else
                snprintf(to, OUTPUT_TEXT_SIZE, "%.1f%c", value, units[unit]);
        return to;
}

char *output_duration(uint64_t ns, char to[OUTPUT_TEXT_SIZE]) {
        uint64_t s = ns / NS_PER_S;

        if (ns < NS_PER_MS)
                snprintf(to, OUTPUT_TEXT_SIZE, "%.1fus", (double) ns / 1e3);
        else if (ns < NS_PER_S)
                snprintf(to, OUTPUT_TEXT_SIZE, "%.2fms", (double) ns / 1e6);
        else if (s < 60)
                snprintf(to, OUTPUT_TEXT_SIZE, "%.1fs", (double) ns / 1e9);
        else if (s < 3600)
                snprintf(to, OUTPUT_TEXT_SIZE, "%umin %us", (unsigned) (s / 60), (unsigned) (s % 60));
        else if (s < 86400)
                snprintf(to, OUTPUT_TEXT_SIZE, "%uh %umin", (unsigned) (s / 3600), (unsigned) (s / 60 % 60));
        else
                snprintf(to, OUTPUT_TEXT_SIZE, "%llud %uh", (unsigned long long) s / 86400, (unsigned) (s / 3600 % 24));
        return to;
}

/* --- JSON ------------------------------------------------------------------------------------------------------- */

struct json_object *output_json_object(void) {
        return output_must(json_object_new_object());
}

struct json_object *output_json_array(void) {
        return output_must(json_object_new_array());
}

void output_json_add(struct json_object *object, const char *name, struct json_object *take_value) {
        if (json_object_object_add(object, name, take_value) < 0)
                output_must(NULL);
}

void output_json_append(struct json_object *array, struct json_object *take_value) {
        if (json_object_array_add(array, take_value) < 0)
                output_must(NULL);
}

void output_json_number(struct json_object *object, const char *name, uint64_t value) {
        output_json_add(object, name, output_must(json_object_new_uint64(value)));
}

void output_json_bool(struct json_object *object, const char *name, bool value) {
        output_json_add(object, name, output_must(json_object_new_boolean(value)));
}

void output_json_id(struct json_object *object, const char *name, uint64_t value) {
        char text[OUTPUT_TEXT_SIZE];

        snprintf(text, sizeof(text), "%016llx", (unsigned long long) value);
        output_json_add(object, name, output_must(json_object_new_string(text)));
}

void output_json_string(struct json_object *object, const char *name, const char *value) {
        _cleanup_free_ char *text = NULL;

        if (!value || value[0] == '\0') {
                output_json_add(object, name, NULL);
                return;
        }
        text = output_must(strdup(value));
        for (char *at = text; *at;) {
                size_t n = output_utf8_len((const unsigned char *) at);

                if (n == 0)
                        *at = '?';
                at += n ? n : 1;
        }
        output_json_add(object, name, output_must(json_object_new_string(text)));
}

int output_json_print(struct json_object *take_object) {
        const char *text = output_must((void *) json_object_to_json_string_ext(
                take_object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE | JSON_C_TO_STRING_SPACED));
        int r = puts(text) < 0 || fflush(stdout) == EOF ? -errno : 0;

        json_object_put(take_object);
        return r;
}
