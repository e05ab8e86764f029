/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which engine. io_uring is taken where it can be had, since it needs fewer system calls; epoll does the same
 * everywhere. Whoever asks for one gets that one or an error: a measurement on the wrong engine is worse than none.
 */

#include "daemon/worker/engine.h"

#include <stdio.h>
#include <string.h>

static int engine_take_uring(bool is_wished, struct stats *stats, const struct features *features,
                             struct engine **ret_engine, char *ret_reason, size_t reason_size) {
        char problem[ENGINE_REASON_SIZE - 64];
        int r;

        r = engine_uring_new(stats, features, ret_engine, problem, sizeof(problem));
        if (r < 0 && is_wished)
                snprintf(ret_reason, reason_size, "io_uring is refused: %s; --engine epoll or auto would serve here",
                         problem);
        else if (r < 0)
                snprintf(ret_reason, reason_size, "io_uring is refused: %s", problem);
        else
                snprintf(ret_reason, reason_size, "%s%s%s", is_wished ? "it was asked for" : "io_uring is available",
                         problem[0] != '\0' ? ", but weaker: " : "", problem);
        return r;
}

int engine_new(const char *wish, struct stats *stats, const struct features *features, struct engine **ret_engine,
               char *ret_reason, size_t reason_size) {
        bool is_auto = strcmp(wish, "auto") == 0;
        char problem[ENGINE_REASON_SIZE];
        int r;

        if (is_auto || strcmp(wish, "uring") == 0) {
                r = engine_take_uring(!is_auto, stats, features, ret_engine, ret_reason, reason_size);
                if (r >= 0 || !is_auto)
                        return r;
        } else {
                snprintf(ret_reason, reason_size, "it was asked for");
        }
        r = engine_epoll_new(stats, features, ret_engine, problem, sizeof(problem));
        if (r < 0)
                snprintf(ret_reason, reason_size, "%s", problem);
        return r < 0 ? r : is_auto;
}
