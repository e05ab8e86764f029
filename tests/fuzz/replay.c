/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A fuzz target without a fuzzer: gives it the files that are named, one after the other. So what a fuzzer has found,
 * and the seeds that it begins with, are tests of every build and with every compiler.
 */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/fuzz/fuzz.h"

static void replay_close(FILE *file) {
        if (file)
                fclose(file);
}
DEFINE_CLEANUP(FILE *, replay_close)

static void replay_file(const char *path) {
        _cleanup_(replay_close) FILE *file = fopen(path, "rb");
        _cleanup_free_ uint8_t *bytes = NULL;
        long len;

        fuzz_check(file && fseek(file, 0, SEEK_END) == 0, "%s: %s", path, strerror(errno));
        len = ftell(file);
        rewind(file);
        bytes = malloc((size_t) len + 1);
        fuzz_check(bytes && fread(bytes, 1, (size_t) len, file) == (size_t) len, "%s: %s", path, strerror(errno));
        LLVMFuzzerTestOneInput(bytes, (size_t) len);
}

int main(int argc, char **argv) {
        for (int i = 1; i < argc; i++) {
                fprintf(stderr, "%s\n", argv[i]);
                replay_file(argv[i]);
        }
        fprintf(stderr, "replayed %d files\n", argc - 1);
        return argc > 1 ? 0 : 1;
}
