/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

/* What the targets share. Each is linked with libFuzzer, or with replay.c, which gives it whole files. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* What must hold of any input. */
#define fuzz_check(condition, ...)                                                                                     \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: %s does not hold: ", __FILE__, __LINE__, #condition);                  \
                        fprintf(stderr, __VA_ARGS__);                                                                  \
                        fputc('\n', stderr);                                                                           \
                        abort();                                                                                       \
                }                                                                                                      \
        } while (0)

/* A directory for the files of this process, below $TMPDIR: who runs the target removes that. */
const char *fuzz_directory(void);

/* Makes a file there hold these bytes; with NULL takes it away. Returns its path. */
const char *fuzz_write(const char *name, const void *bytes, size_t len);

#endif
