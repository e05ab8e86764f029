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
        static const struct {
                const char *name;
                enum plant plant;
        } plants[] = {
                { "lost-record", PLANT_LOST_RECORD },           { "doubled-record", PLANT_DOUBLED_RECORD },
                { "swapped-bytes", PLANT_SWAPPED_BYTES },       { "lost-apc", PLANT_LOST_APC },
                { "swapped-datagram", PLANT_SWAPPED_DATAGRAM }, { "doubled-apc", PLANT_DOUBLED_APC },
        };

        for (size_t i = 0; name && i < sizeof(plants) / sizeof(plants[0]); i++)
                if (strcmp(name, plants[i].name) == 0)
                        return plants[i].plant;
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
        struct features features;
        struct worker *worker;
        struct engine *engine;
        char reason[ENGINE_REASON_SIZE];
        int r;

        r = features_parse(options->features, &features);
        if (r < 0) {
                snprintf(ready.text, sizeof(ready.text), "--features %s: there is something unknown in it",
                         options->features);
                return worker_fail(options->link_fd, &ready, r);
        }
        r = engine_new(options->engine, &stats, &features, &engine, reason, sizeof(reason));
        if (r < 0) {
                snprintf(ready.text, sizeof(ready.text), "%s", reason);
                return worker_fail(options->link_fd, &ready, r);
        }
        ready.body.ready.is_second_choice = r > 0;
        /* Where only an administrator may make rings this was one until now. */
        r = lockdown_drop_capabilities();
        if (r == 0)
                r = worker_new(engine, reason, options->link_fd, plant_parse(options->plant), &worker);
        if (r < 0) {
                snprintf(ready.text, sizeof(ready.text), "the worker cannot be set up: %s", strerror(-r));
                engine_free(engine);
                return worker_fail(options->link_fd, &ready, r);
        }
        worker->polling.limit_ns = options->poll_us * UINT64_C(1000);
        r = lockdown_worker(strcmp(engine->ops->name, "uring") == 0 ? LOCKDOWN_URING : LOCKDOWN_EPOLL);
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
