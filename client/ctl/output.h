/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_OUTPUT_H
#define CLIENT_CTL_OUTPUT_H

/* What overlapctl prints: tables for people, JSON for programs. */

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUTPUT_COLUMNS_MAX 16u
#define OUTPUT_TEXT_SIZE 32u

/*
 * A table. Filled row by row, printed at the end, when the widths are known. Used like this:
 *
 *      cleanup(output_table_deinit) struct output_table table = OUTPUT_TABLE("SESSION", ">SOCKETS", "UNIT");
 *
 *      output_cell(&table, "%llu", number);
 *      ...
 *      output_table_print(&table);
 *
 * A title that begins with '>' is that of a column of numbers, which stand to the right.
 */
struct output_table {
        const char *titles[OUTPUT_COLUMNS_MAX + 1]; /* NULL-terminated; borrowed */
        char **cells;
        size_t n_cells;
        size_t n_cells_size;
};

#define OUTPUT_TABLE(...)                                                                                              \
        {                                                                                                              \
                .titles = { __VA_ARGS__ }                                                                              \
        }

void output_table_deinit(struct output_table *table);

/*
 * Adds the next cell. What output_clean() leaves out becomes question marks; an empty text becomes a dash. Without
 * memory the process ends with a message.
 */
__attribute__((format(printf, 2, 3))) void output_cell(struct output_table *table, const char *format, ...);

/* Prints titles and rows. */
void output_table_print(const struct output_table *table);

/* Prints one pair of a list of facts: "  name: value", the values below each other. */
__attribute__((format(printf, 2, 3))) void output_fact(const char *name, const char *format, ...);

/*
 * Copies a text that may come from somebody else, without control characters and what is no UTF-8. `to` may be `from`.
 * Returns `to`.
 */
char *output_clean(const char *from, char *to, size_t size);

/* The name of a level, static. */
const char *output_level(uint32_t level);

/* 12345678 as "11.8M". Return `to`. */
char *output_bytes(uint64_t n, char to[OUTPUT_TEXT_SIZE]);

/* Nanoseconds as "1.25ms", "3.2s", "4min 5s", "2h 3min" or "3d 4h". */
char *output_duration(uint64_t ns, char to[OUTPUT_TEXT_SIZE]);

/* --- JSON. What is added belongs to the object from then on; without memory the process ends with a message. --- */

struct json_object *output_json_object(void);
struct json_object *output_json_array(void);
void output_json_add(struct json_object *object, const char *name, struct json_object *take_value);
void output_json_append(struct json_object *array, struct json_object *take_value);
void output_json_number(struct json_object *object, const char *name, uint64_t value);
void output_json_bool(struct json_object *object, const char *name, bool value);

/* A number that names something, as 16 hexadecimal digits: programs that read JSON lose digits of such numbers. */
void output_json_id(struct json_object *object, const char *name, uint64_t value);

/* NULL or an empty text: null. What is no UTF-8 becomes question marks. */
void output_json_string(struct json_object *object, const char *name, const char *value);

/* Prints it, frees it, and returns 0; or -errno when standard output does not take it. */
int output_json_print(struct json_object *take_object);

#endif
