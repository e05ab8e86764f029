/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A simulated socket has a real descriptor, so that it can travel over the link and be counted like any other, but its
 * bytes are here. The kernel's cookie of the descriptor's socket is the name by which the engine finds it again,
 * however often the descriptor was duplicated on its way.
 *
 * A pipe never forgets: what was written is the truth with which the records are compared when the run is over.
 *
 * What follows the kernel: after a reset, bytes that came before can still be read; the error is reported once, by the
 * first call that meets it; from then on reading gives the end of the stream, and writing a broken pipe.
 */

#include "tests/sim/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/sim/check.h"

#define NET_ROOM_MIN 64u
#define NET_ROOM_MAX 16384u

void net_init(struct net *net, struct random *random) {
        *net = (struct net){ .random = random };
        list_init(&net->links);
        list_init(&net->ends);
}

void net_deinit(struct net *net) {
        struct list *link;

        while ((link = list_pop_front(&net->links))) {
                struct net_link *connection = list_entry(link, struct net_link, link);

                free(connection->pipes[0].log);
                free(connection->pipes[1].log);
                free(connection);
        }
        while ((link = list_pop_front(&net->ends)))
                free(list_entry(link, struct net_end, link));
}

static uint64_t net_cookie(int fd) {
        uint64_t cookie = 0;
        socklen_t len = sizeof(cookie);

        if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) < 0)
                return 0;
        return cookie;
}

int net_open(struct net *net, struct net_end **ret_end) {
        struct net_end *end = calloc(1, sizeof(*end));
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (!end || fd < 0)
                abort();
        end->cookie = net_cookie(fd);
        list_push_back(&net->ends, &end->link);
        *ret_end = end;
        return fd;
}

struct net_end *net_find(const struct net *net, int fd) {
        uint64_t cookie = net_cookie(fd);

        list_for_each(link, &net->ends) {
                struct net_end *end = list_entry(link, struct net_end, link);

                if (end->cookie == cookie)
                        return end;
        }
        return NULL;
}

struct net_end *net_find_accepted(const struct net *net, uint64_t tag) {
        list_for_each(link, &net->ends) {
                struct net_end *end = list_entry(link, struct net_end, link);

                if (end->tag == tag)
                        return end;
        }
        return NULL;
}

struct net_link *net_connect(struct net *net, struct net_end *end) {
        struct net_link *connection = calloc(1, sizeof(*connection));

        if (!connection)
                abort();
        connection->number = net->n_links++;
        for (int i = 0; i < 2; i++)
                connection->pipes[i].room = NET_ROOM_MIN + random_below(net->random, NET_ROOM_MAX);
        connection->ends[0] = end;
        if (end)
                end->connection = connection;
        list_push_back(&net->links, &connection->link);
        return connection;
}

bool net_offer(struct net_end *listener, struct net_link *connection) {
        if (!listener->is_listening || listener->is_closed || listener->n_backlog == NET_BACKLOG_MAX)
                return false;
        connection->is_queued = true;
        listener->backlog[listener->n_backlog++] = connection;
        return true;
}

int net_accept(struct net *net, struct net_end *listener, uint64_t tag) {
        struct net_link *connection = listener->backlog[0];
        struct net_end *end;
        int fd = net_open(net, &end);

        listener->n_backlog--;
        memmove(listener->backlog, listener->backlog + 1, listener->n_backlog * sizeof(listener->backlog[0]));
        connection->is_queued = false;
        connection->ends[1] = end;
        end->connection = connection;
        end->side = 1;
        end->tag = tag;
        end->error = connection->was_reset ? ECONNRESET : 0;
        return fd;
}

void net_reset(struct net_link *connection) {
        if (connection->was_reset)
                return;
        connection->was_reset = true;
        for (int i = 0; i < 2; i++) {
                connection->pipes[i].has_ended = true;
                connection->pipes[i].is_broken = true;
                if (connection->ends[i])
                        connection->ends[i]->error = ECONNRESET;
        }
}

void net_close(struct net_end *end) {
        end->is_closed = true;
        for (size_t i = 0; i < end->n_backlog; i++)
                net_reset(end->backlog[i]);
        end->n_backlog = 0;
        if (!end->connection)
                return;
        net_out(end)->has_ended = true;
        net_in(end)->is_broken = true;
}

void net_pipe_write(struct net_pipe *pipe, const void *bytes, size_t len) {
        if (pipe->n_written + len > pipe->size) {
                pipe->size = 2 * (pipe->n_written + len);
                pipe->log = realloc(pipe->log, pipe->size);
                if (!pipe->log)
                        abort();
        }
        memcpy(pipe->log + pipe->n_written, bytes, len);
        pipe->n_written += len;
}
