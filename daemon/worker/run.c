/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker as a process: set up, locked down, and then one turn after the other. Everything that needs a permission is
 * done before the lock-down; that it serves is said after it.
 */

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon/worker/lockdown.h"
#include "daemon/worker/worker.h"

static enum plant plant_parse(const char *name) {
        if (!name)
                return PLANT_NONE;
        if (strcmp(name, "lost-record") == 0)
                return PLANT_LOST_RECORD;
        if (strcmp(name, "doubled-record") == 0)
                return PLANT_DOUBLED_RECORD;
        if (strcmp(name, "swapped-bytes") == 0)
                return PLANT_SWAPPED_BYTES;
        return PLANT_NONE;
}

static int worker_fail(int link_fd, struct link_message *ready, int status) {
        ready->status = status;
        link_send(link_fd, ready, -1);
        fd_close(link_fd);
        return 1;
}

int worker_run(const struct worker_options *options) {
        struct link_message ready = { .kind = LINK_READY };
        struct stats stats = { 0 };
        struct worker *worker;
        struct engine *engine;
        char reason[sizeof(ready.body.ready.reason)];
        int r;

        r = engine_uring_new(&stats, &engine, ready.text, sizeof(ready.text));
        if (r < 0)
                return worker_fail(options->link_fd, &ready, r);
        snprintf(reason, sizeof(reason), "%s",
                 strcmp(options->engine, "auto") == 0 ? "io_uring is available" : "it was asked for");
        r = worker_new(engine, reason, options->link_fd, plant_parse(options->plant), &worker);
        if (r < 0) {
                snprintf(ready.text, sizeof(ready.text), "the worker cannot be set up: %s", strerror(-r));
                engine_free(engine);
                return worker_fail(options->link_fd, &ready, r);
        }
        worker->polling.limit_ns = options->poll_us * UINT64_C(1000);
        r = lockdown_worker();
        if (r < 0) {
                snprintf(ready.text, sizeof(ready.text), "the worker cannot be locked down: %s", strerror(-r));
                link_send(options->link_fd, &ready, -1);
                return 1;
        }
        snprintf(ready.text, sizeof(ready.text), "%s", engine->ops->name);
        snprintf(ready.body.ready.reason, sizeof(ready.body.ready.reason), "%s", reason);
        ask_report(&worker->resources.ask, &ready);
        do
                r = worker_turn(worker, true);
        while (r > 0);
        worker = worker_free(worker);
        return r < 0 ? 1 : 0;
}
