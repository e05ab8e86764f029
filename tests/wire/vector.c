/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The reader of vector files. Of each line what stands before a `#` counts: pairs of hexadecimal digits. Lines that
 * begin with `=` say in words what the bytes hold, for readers that decode by name (see vectors.py).
 */

#include "tests/wire/vector.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/harness.h"

static const char *vector_folder(void) {
        const char *folder = getenv("OVL_TEST_VECTORS");

        if (!folder)
                fail_msg("OVL_TEST_VECTORS does not name proto/vectors: run this test through meson test");
        return folder;
}

static int vector_digit(int character) {
        return isdigit(character) ? character - '0' : tolower(character) - 'a' + 10;
}

static void vector_read_line(const char *line, struct vector *vector) {
        for (; *line && *line != '#' && *line != '='; line++) {
                if (isspace((unsigned char) *line))
                        continue;
                assert_true(isxdigit((unsigned char) line[0]) && isxdigit((unsigned char) line[1]));
                assert_true(vector->len < VECTOR_SIZE);
                vector->bytes[vector->len++] = (uint8_t) (vector_digit(line[0]) << 4 | vector_digit(line[1]));
                line++;
        }
}

void vector_read(const char *name, struct vector *ret_vector) {
        char path[512], line[1024];
        FILE *file;

        snprintf(path, sizeof(path), "%s/%s.txt", vector_folder(), name);
        file = fopen(path, "re");
        if (!file)
                fail_msg("cannot open %s", path);
        ret_vector->len = 0;
        while (fgets(line, sizeof(line), file))
                vector_read_line(line, ret_vector);
        fclose(file);
        assert_true(ret_vector->len > 0);
}

size_t vector_for_each(void (*each)(const char *name, void *data), void *data) {
        DIR *directory = opendir(vector_folder());
        struct dirent *entry;
        size_t n = 0;

        assert_non_null(directory);
        while ((entry = readdir(directory))) {
                char name[256];
                size_t len = strlen(entry->d_name);

                if (len < 5 || strcmp(entry->d_name + len - 4, ".txt") != 0)
                        continue;
                snprintf(name, sizeof(name), "%.*s", (int) (len - 4), entry->d_name);
                each(name, data);
                n++;
        }
        closedir(directory);
        return n;
}

void vector_compare(const char *name, const void *bytes, size_t len) {
        const uint8_t *ours = bytes;
        struct vector vector;

        vector_read(name, &vector);
        for (size_t i = 0; i < len && i < vector.len; i++)
                if (ours[i] != vector.bytes[i])
                        fail_msg("%s: byte %zu is %02x in the vector and %02x here", name, i, vector.bytes[i], ours[i]);
        if (len != vector.len)
                fail_msg("%s: the vector has %zu bytes, there are %zu here", name, vector.len, len);
}
