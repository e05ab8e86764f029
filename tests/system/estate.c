/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a daemon holds is counted before the first client comes and after the last one has gone: descriptors, and the
 * shared memory that it has mapped. Both are looked at until they agree, because closing is not immediate: the worker
 * waits for the kernel, and hands descriptors to a thread that may block.
 */

#include "tests/system/estate.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"

#define ESTATE_PATIENCE_S 10

static void estate_close_file(FILE **file) {
        if (*file)
                fclose(*file);
}

int estate_count_maps(pid_t pid) {
        cleanup(estate_close_file) FILE *file = NULL;
        char path[64], line[512];
        int n = 0;

        snprintf(path, sizeof(path), "/proc/%d/maps", pid);
        file = fopen(path, "re");
        if (!file)
                return -1;
        while (fgets(line, sizeof(line), file))
                n += strstr(line, "/memfd:") != NULL;
        return n;
}

long estate_private_kib(pid_t pid) {
        cleanup(estate_close_file) FILE *file = NULL;
        char path[64], line[512];
        long kib, sum = 0;

        snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
        file = fopen(path, "re");
        if (!file)
                return -1;
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "Private_Dirty: %ld", &kib) == 1)
                        sum += kib;
        return sum;
}

void estate_take_stock(struct estate *estate) {
        char ready[64];

        estate->worker = daemon_worker(&estate->daemon);
        snprintf(ready, sizeof(ready), "worker %d is ready", (int) estate->worker);
        daemon_wait_log(&estate->daemon, ready);
        estate->n_monitor_fds = daemon_count_fds(estate->daemon.monitor);
        estate->n_worker_fds = daemon_count_fds(estate->worker);
        estate->n_worker_maps = estate_count_maps(estate->worker);
}

void estate_start(struct estate *ret_estate, const char *const *arguments) {
        struct estate estate = { 0 };

        daemon_start(&estate.daemon, arguments);
        estate_take_stock(&estate);
        *ret_estate = estate;
}

static bool estate_has_maps(void *data) {
        const struct estate *estate = data;

        return estate_count_maps(estate->worker) == estate->n_worker_maps;
}

void estate_check(const struct estate *estate) {
        assert_int_equal(daemon_worker(&estate->daemon), estate->worker);
        daemon_wait_fds(estate->daemon.monitor, estate->n_monitor_fds);
        daemon_wait_fds(estate->worker, estate->n_worker_fds);
        if (!harness_wait(estate_has_maps, (void *) estate, harness_deadline(ESTATE_PATIENCE_S)))
                fail_msg("the worker maps %d shared memory files, not %d", estate_count_maps(estate->worker),
                         estate->n_worker_maps);
}

void estate_stop(struct estate *estate) {
        estate_check(estate);
        daemon_stop(&estate->daemon);
}
