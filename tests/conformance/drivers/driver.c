/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The driver of the C library: does what the conformance runner says, a line at a time, and reports.
 *
 * The lines are described in tests/conformance/README.md. The program has one thread, which owns all threads of the
 * library; it knows nothing but overlap.h, as any program would. It ends well at the end of its input.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static const struct {
        const char *name;
        driver_command *command;
} driver_commands[] = {
        { "features", command_features },
        { "open", command_open },
        { "thread", command_thread },
        { "port", command_port },
        { "socket", command_socket },
        { "bind", command_bind },
        { "listen", command_listen },
        { "name", command_name },
        { "option-set", command_option_set },
        { "option-get", command_option_get },
        { "associate", command_associate },
        { "shutdown", command_shutdown },
        { "close-socket", command_close_socket },
        { "close-thread", command_close_thread },
        { "close-port", command_close_port },
        { "close-session", command_close_session },
        { "status", command_status },
        { "connect", operation_connect },
        { "accept", operation_accept },
        { "recv", operation_recv },
        { "send", operation_send },
        { "wait", operation_wait },
        { "result", operation_result },
        { "data", operation_data },
        { "sleep", operation_sleep },
        { "port-wait", operation_port_wait },
        { "cancel", operation_cancel },
        { "cork", operation_cork },
        { "uncork", operation_uncork },
};

const char *line_word(const struct line *line, size_t i) {
        return i < line->n_words ? line->words[i] : "";
}

const char *line_option(const struct line *line, const char *name) {
        size_t len = strlen(name);

        for (size_t i = 0; i < line->n_words; i++)
                if (strncmp(line->words[i], name, len) == 0 && line->words[i][len] == '=')
                        return line->words[i] + len + 1;
        return NULL;
}

uint64_t line_number(const struct line *line, const char *name) {
        const char *value = line_option(line, name);

        return value ? strtoull(value, NULL, 0) : 0;
}

bool line_has(const struct line *line, const char *flag) {
        for (size_t i = 1; i < line->n_words; i++)
                if (strcmp(line->words[i], flag) == 0)
                        return true;
        return false;
}

void driver_say(struct driver *driver, const char *format, ...) {
        size_t used = strlen(driver->answer);
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(driver->answer + used, sizeof(driver->answer) - used, format, arguments);
        va_end(arguments);
}

int driver_fail(struct driver *driver, int r, const struct ovl_error *error) {
        snprintf(driver->error, sizeof(driver->error), "reason=%u %s", error->reason, error->text);
        return r;
}

struct object *driver_find(struct driver *driver, enum object_kind kind, const char *name) {
        for (struct object *object = driver->objects; object; object = object->next)
                if (object->kind == kind && !object->is_closed && strcmp(object->name, name) == 0)
                        return object;
        return NULL;
}

struct object *driver_add(struct driver *driver, enum object_kind kind, const char *name, struct object *owner) {
        struct object *object = calloc(1, sizeof(*object));

        if (!object)
                abort();
        object->kind = kind;
        object->owner = owner;
        snprintf(object->name, sizeof(object->name), "%s", name);
        object->next = driver->objects;
        driver->objects = object;
        return object;
}

struct object *driver_named(struct driver *driver, const struct line *line, enum object_kind kind, const char *option) {
        const char *name = line_option(line, option);
        struct object *object = name ? driver_find(driver, kind, name) : NULL;

        if (!object)
                snprintf(driver->error, sizeof(driver->error), "reason=0 the driver has no %s '%s'", option,
                         name ? name : "");
        return object;
}

static void line_split(char *text, struct line *ret_line) {
        char *rest = text;

        *ret_line = (struct line){ 0 };
        for (char *word; ret_line->n_words < DRIVER_WORDS_MAX && (word = strsep(&rest, " \t\n"));)
                if (*word)
                        ret_line->words[ret_line->n_words++] = word;
}

static int driver_run(struct driver *driver, const struct line *line) {
        for (size_t i = 0; i < sizeof(driver_commands) / sizeof(*driver_commands); i++)
                if (strcmp(driver_commands[i].name, line_word(line, 0)) == 0)
                        return driver_commands[i].command(driver, line);
        snprintf(driver->error, sizeof(driver->error), "reason=0 there is no command '%s'", line_word(line, 0));
        return -EOPNOTSUPP;
}

/* One line to the runner, whatever the text of an error holds. */
static void driver_answer(struct driver *driver, int r) {
        for (char *at = driver->error; *at; at++)
                if (*at == '\n')
                        *at = ' ';
        if (r < 0)
                printf("error %d %s\n", r, driver->error);
        else
                printf("ok%s\n", driver->answer);
        fflush(stdout);
}

int main(void) {
        struct driver driver = { 0 };
        struct line line;
        char *text = NULL;
        size_t size = 0;

        while (getline(&text, &size, stdin) >= 0) {
                driver.answer[0] = driver.error[0] = driver.ran[0] = '\0';
                line_split(text, &line);
                driver_answer(&driver, driver_run(&driver, &line));
        }
        free(text);
        command_close_all(&driver);
        while (driver.objects) {
                struct object *object = driver.objects;

                driver.objects = object->next;
                free(object);
        }
        return 0;
}
