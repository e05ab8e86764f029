/* SPDX-License-Identifier: Apache-2.0 */

/*
 * overlap-nc HOST PORT: reaches the host, then moves standard input there and what comes from there to standard output.
 *
 * The end of the stream does not end the program as long as its input goes on, as with OpenBSD's nc; but nobody at a
 * terminal should have to type something to find that the other side is gone.
 */

#include "client/nc/connect.h"

#include "client/nc/report.h"

void connect_manner(const struct options *options, const struct local *input, struct relay_manner *ret_manner) {
        bool is_listening = options->mode == OPTIONS_LISTEN;

        *ret_manner = (struct relay_manner){
                .is_datagram = options->type == SOCK_DGRAM,
                .is_of_all = is_listening && options->is_kept,
                .has_peer = !is_listening,
                .is_shut = options->is_shut,
                .ends_with_peer = !options->is_shut && (is_listening || input->is_terminal),
                .is_kept = options->is_kept,
                .timeout_ns = options->timeout_ns,
                .quit_ns = options->quit_ns,
        };
}

int connect_exit(const struct relay *relay) {
        return relay->status < 0 ? REPORT_FAILED : REPORT_DONE;
}

static void connect_ended(struct relay *relay) {
        loop_stop(relay->loop, connect_exit(relay));
}

static void connect_dialled(struct dial *dial, int status) {
        struct connect *connect = list_entry(dial, struct connect, dial);
        struct door *door = connect->door;
        char text[ADDRESS_TEXT_SIZE];
        struct relay_manner manner;

        if (status != REPORT_DONE) {
                loop_stop(&door->loop, status);
                return;
        }
        if (door->options->is_verbose)
                report("connected to %s", address_format(&dial->address, text));
        connect_manner(door->options, connect->input, &manner);
        if (relay_start(&connect->relay, &door->loop, &door->pool, &manner, connect->input, connect->output,
                        dial->socket, connect_ended) < 0)
                loop_stop(&door->loop, door_tell_refused(door, "lend memory", "for", &dial->address));
}

void connect_start(struct connect *connect, struct door *door, struct local *input, struct local *output) {
        *connect = (struct connect){ .door = door, .input = input, .output = output };
        dial_start(&connect->dial, door, door->options->port, connect_dialled);
}
