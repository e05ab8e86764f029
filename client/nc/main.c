/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlap-nc: moves bytes between this process and the network, where overlapd owns the sockets. Written against
 * overlap.h alone, as any program of a user is.
 *
 * options.c reads the command line; door.c opens the way through overlapd; connect.c, serve.c, forward.c and probe.c
 * are the four things it does; they dial (dial.c) and relay (relay.c, which joins upstream.c and downstream.c); loop.c
 * runs it all. The manual page says what each option means.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/nc/connect.h"
#include "client/nc/door.h"
#include "client/nc/forward.h"
#include "client/nc/options.h"
#include "client/nc/probe.h"
#include "client/nc/report.h"
#include "client/nc/serve.h"

union mode {
        struct connect connect;
        struct serve serve;
        struct forward forward;
        struct probe probe;
};

/* Descriptors 0 to 2 must be something, or sockets would take their numbers. Tells which were not. */
static int main_fill_standard(bool *ret_was_closed) {
        for (int fd = 0; fd <= STDERR_FILENO; fd++) {
                ret_was_closed[fd] = fcntl(fd, F_GETFD) < 0;
                if (ret_was_closed[fd] && open("/dev/null", O_RDWR) != fd)
                        return -EBADF;
        }
        return 0;
}

static int main_start(union mode *mode, struct door *door, struct local *input, struct local *output) {
        switch (door->options->mode) {
        case OPTIONS_LISTEN:
                return serve_start(&mode->serve, door, input, output);
        case OPTIONS_FORWARD:
                return forward_start(&mode->forward, door);
        case OPTIONS_PROBE:
                probe_start(&mode->probe, door);
                return 0;
        default:
                connect_start(&mode->connect, door, input, output);
                return 0;
        }
}

static int main_run(const struct options *options, const bool *was_closed) {
        _cleanup_free_ union mode *mode = calloc(1, sizeof(*mode));
        struct local input, output;
        struct door door;
        int status;

        if (!mode) {
                report("no memory");
                return REPORT_FAILED;
        }
        local_open_input(&input, was_closed[STDIN_FILENO] || options->is_deaf);
        local_open_output(&output, was_closed[STDOUT_FILENO]);
        status = door_open(&door, options);
        if (status == 0)
                status = main_start(mode, &door, &input, &output);
        if (status == 0)
                status = loop_run(&door.loop);
        door_close(&door);
        if (options->mode == OPTIONS_FORWARD)
                forward_stop(&mode->forward);
        return status;
}

int main(int argc, char **argv) {
        bool was_closed[3] = { false };
        struct options options;

        if (main_fill_standard(was_closed) < 0)
                return REPORT_FAILED;
        signal(SIGPIPE, SIG_IGN);
        if (options_parse(argc, argv, &options) < 0)
                return REPORT_USAGE;
        if (options.mode == OPTIONS_NOTHING)
                return REPORT_DONE;
        return main_run(&options, was_closed);
}
