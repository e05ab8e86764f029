/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A worker that does what a test tells it to: linked into overlapd in the place of the real one, so that the monitor is
 * tested through its own program. It speaks the link to the monitor; its channels speak lines of text:
 *
 *   peer                what the monitor said of this connection: uid pid shard worker
 *   open SESSION        reports the channel as open
 *   socket FAMILY TYPE  asks for a socket, which becomes the channel's
 *   bind IP PORT        likewise for connect, which is answered when it ends, and for listen BACKLOG
 *   cancel              cancels the connect; it has no answer of its own
 *   name, flags         the port that the socket is bound to; its file flags
 *   flood NUMBER        asks for so many sockets without taking an answer in between
 *   end TEXT            reports the channel as closed, and closes it
 *   exit STATUS, signal NUMBER   the end of this worker
 *   kind NUMBER, short, bare, memory, ticket, alien   a message that no honest worker sends
 *   quota KIND, strange KIND   a report of a quota: of the connection's shard, or of one that there is not
 *   linger              likewise; behind it the channel's connection, which lingers for what is not received
 *
 * A request is answered with "STATUS REASON TEXT". OVL_TEST_DOUBLE says how the worker starts: fail, mute, stubborn (it
 * does not stop), deaf (it does not read its link once it is ready), silent (it gives no sign of life).
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/link.h"
#include "daemon/worker/worker.h"
#include "proto/address.h"

#define DOUBLE_CHANNELS_MAX 1024
#define DOUBLE_LINE_SIZE 512

struct double_channel {
        int fd;
        int socket_fd;
        struct link_peer peer;
        uint64_t session;
        uint64_t ticket;
        char line[DOUBLE_LINE_SIZE];
        size_t line_len;
};

struct double_worker {
        int link_fd;
        uint64_t last_ticket;
        struct double_channel channels[DOUBLE_CHANNELS_MAX];
        size_t n_channels;
        bool is_over; /* the monitor said so, or is gone */
};

static bool double_is(const char *mode) {
        const char *value = getenv("OVL_TEST_DOUBLE");

        return value && strcmp(value, mode) == 0;
}

static void double_say(struct double_channel *channel, const char *text) {
        if (send(channel->fd, text, strlen(text), MSG_NOSIGNAL) < 0 || send(channel->fd, "\n", 1, MSG_NOSIGNAL) < 0)
                return;
}

static void double_listen_to_monitor(struct double_worker *worker);

/* The monitor reads on only while its answers are read: whoever waits to send must go on receiving. */
static void double_tell(struct double_worker *worker, const struct link_message *message, int with_fd) {
        struct pollfd link = { .fd = worker->link_fd, .events = POLLIN | POLLOUT };

        while (link_send(worker->link_fd, message, with_fd) == -EAGAIN && !worker->is_over) {
                poll(&link, 1, -1);
                if (link.revents & ~POLLOUT)
                        double_listen_to_monitor(worker);
        }
}

static void double_end(struct double_worker *worker, struct double_channel *channel, const char *text) {
        struct link_message message = { .kind = LINK_CHANNEL_CLOSED };

        message.body.channel.channel = channel->peer.channel;
        message.body.channel.session = channel->session;
        snprintf(message.text, sizeof(message.text), "%s", text);
        channel->fd = fd_close(channel->fd);
        channel->socket_fd = fd_close(channel->socket_fd);
        double_tell(worker, &message, -1);
        *channel = worker->channels[--worker->n_channels];
}

/* --- Requests --------------------------------------------------------------------------------------------------- */

static int double_address(const char *host, const char *port, struct ovl_address *ret_address) {
        struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t) atoi(port)) };
        struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons((uint16_t) atoi(port)) };

        if (inet_pton(AF_INET, host, &four.sin_addr) == 1)
                return address_from_kernel((struct sockaddr *) &four, sizeof(four), ret_address);
        if (inet_pton(AF_INET6, host, &six.sin6_addr) == 1)
                return address_from_kernel((struct sockaddr *) &six, sizeof(six), ret_address);
        memset(ret_address, 0xff, sizeof(*ret_address));
        return 0;
}

static bool double_request(struct double_worker *worker, struct double_channel *channel, const char *verb,
                           const char *a, const char *b) {
        struct link_message message = { .ticket = ++worker->last_ticket };

        if (strcmp(verb, "socket") == 0) {
                message.kind = LINK_SOCKET;
                message.body.socket.session = channel->session;
                message.body.socket.family = atoi(a);
                message.body.socket.type = atoi(b);
        } else if (strcmp(verb, "bind") == 0 || strcmp(verb, "connect") == 0) {
                message.kind = strcmp(verb, "bind") == 0 ? LINK_BIND : LINK_CONNECT;
                message.body.name.session = channel->session;
                double_address(a, b, &message.body.name.address);
        } else if (strcmp(verb, "listen") == 0) {
                message.kind = LINK_LISTEN;
                message.body.listen.session = channel->session;
                message.body.listen.backlog = (uint32_t) atoi(a);
        } else {
                return false;
        }
        channel->ticket = message.ticket;
        double_tell(worker, &message, message.kind == LINK_SOCKET ? -1 : channel->socket_fd);
        return true;
}

/* The monitor gets the last reference to a connection, in a packet that it may never read. */
static void double_linger(struct double_worker *worker, struct double_channel *channel) {
        const struct linger linger = { .l_onoff = 1, .l_linger = 600 };
        const char bytes[65536] = { 0 };

        while (send(channel->socket_fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
                ;
        setsockopt(channel->socket_fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        send(worker->link_fd, "junk", 4, MSG_NOSIGNAL);
        send(worker->link_fd, "", 0, MSG_NOSIGNAL);
        double_tell(worker, &(struct link_message){ .kind = LINK_BIND }, channel->socket_fd);
        channel->socket_fd = fd_close(channel->socket_fd);
        raise(SIGKILL);
}

/* Messages that condemn a worker. */
static bool double_misbehave(struct double_worker *worker, struct double_channel *channel, const char *verb,
                             const char *a) {
        struct link_message message = { .ticket = ++worker->last_ticket, .kind = LINK_BIND };
        _cleanup_fd_ int memory_fd = -1;

        if (strcmp(verb, "kind") == 0) {
                message.kind = (uint32_t) atoi(a);
                double_tell(worker, &message, -1);
        } else if (strcmp(verb, "short") == 0) {
                send(worker->link_fd, "junk", 4, MSG_NOSIGNAL);
        } else if (strcmp(verb, "bare") == 0) {
                double_tell(worker, &message, -1);
        } else if (strcmp(verb, "memory") == 0) {
                memory_fd = memfd_create("double", MFD_CLOEXEC);
                double_tell(worker, &message, memory_fd);
        } else if (strcmp(verb, "ticket") == 0) {
                message.kind = LINK_CONNECT;
                message.ticket = channel->ticket;
                double_tell(worker, &message, channel->socket_fd);
        } else if (strcmp(verb, "quota") == 0 || strcmp(verb, "strange") == 0) {
                message.kind = LINK_QUOTA;
                message.body.quota.shard = channel->peer.shard + (verb[0] == 's' ? 1000 : 0);
                message.body.quota.kind = (uint8_t) atoi(a);
                message.body.quota.n_refused = 3;
                snprintf(message.text, sizeof(message.text), "said with %s", verb);
                double_tell(worker, &message, -1);
        } else if (strcmp(verb, "linger") == 0) {
                double_linger(worker, channel);
        } else if (strcmp(verb, "alien") == 0) {
                message.kind = LINK_CHANNEL_OPEN;
                message.body.channel.channel = channel->peer.channel + 1000;
                double_tell(worker, &message, -1);
        } else {
                return false;
        }
        return true;
}

/* --- Channels --------------------------------------------------------------------------------------------------- */

static void double_describe(struct double_channel *channel, const char *verb) {
        struct sockaddr_in6 name = { 0 };
        socklen_t len = sizeof(name);
        char text[128];

        if (strcmp(verb, "peer") == 0) {
                snprintf(text, sizeof(text), "%u %d %llu %d", channel->peer.uid, channel->peer.pid,
                         (unsigned long long) channel->peer.shard, (int) getpid());
        } else if (strcmp(verb, "name") == 0) {
                getsockname(channel->socket_fd, (struct sockaddr *) &name, &len);
                snprintf(text, sizeof(text), "%u", ntohs(name.sin6_port));
        } else {
                snprintf(text, sizeof(text), "%d", fcntl(channel->socket_fd, F_GETFL));
        }
        double_say(channel, text);
}

static void double_open(struct double_worker *worker, struct double_channel *channel, const char *session) {
        struct link_message message = { .kind = LINK_CHANNEL_OPEN };

        channel->session = strtoull(session, NULL, 10);
        message.body.channel.channel = channel->peer.channel;
        message.body.channel.session = channel->session;
        message.body.channel.is_first = 1;
        double_tell(worker, &message, -1);
        double_say(channel, "0");
}

static void double_cancel(struct double_worker *worker, struct double_channel *channel) {
        struct link_message message = { .kind = LINK_CANCEL, .ticket = channel->ticket };

        double_tell(worker, &message, -1);
}

/* What the link does not take is not asked for again. */
static void double_flood(struct double_worker *worker, struct double_channel *channel, unsigned n) {
        struct link_message message = { .kind = LINK_SOCKET };
        unsigned n_sent = 0;
        char text[32];

        message.body.socket.family = AF_INET;
        message.body.socket.type = SOCK_STREAM;
        for (unsigned i = 0; i < n; i++)
                n_sent += link_send(worker->link_fd, &message, -1) == 0;
        snprintf(text, sizeof(text), "%u", n_sent);
        double_say(channel, text);
}

/* Returns whether the channel is still there. */
static bool double_obey(struct double_worker *worker, struct double_channel *channel, const char *line) {
        char verb[32] = "", a[128] = "", b[32] = "";

        if (sscanf(line, "%31s %127s %31s", verb, a, b) < 1)
                return true;
        if (strcmp(verb, "end") == 0) {
                double_end(worker, channel, a);
                return false;
        }
        if (strcmp(verb, "open") == 0)
                double_open(worker, channel, a);
        else if (strcmp(verb, "cancel") == 0)
                double_cancel(worker, channel);
        else if (strcmp(verb, "flood") == 0)
                double_flood(worker, channel, (unsigned) atoi(a));
        else if (strcmp(verb, "exit") == 0)
                exit(atoi(a));
        else if (strcmp(verb, "signal") == 0)
                raise(atoi(a));
        else if (!double_request(worker, channel, verb, a, b) && !double_misbehave(worker, channel, verb, a))
                double_describe(channel, verb);
        return true;
}

static void double_read(struct double_worker *worker, struct double_channel *channel) {
        ssize_t n;
        char *end;

        n = recv(channel->fd, channel->line + channel->line_len, DOUBLE_LINE_SIZE - channel->line_len - 1,
                 MSG_DONTWAIT);
        if (n <= 0) {
                double_end(worker, channel, "");
                return;
        }
        channel->line_len += (size_t) n;
        channel->line[channel->line_len] = '\0';
        while ((end = strchr(channel->line, '\n'))) {
                char line[DOUBLE_LINE_SIZE];

                *end = '\0';
                strcpy(line, channel->line);
                channel->line_len -= (size_t) (end + 1 - channel->line);
                memmove(channel->line, end + 1, channel->line_len + 1);
                if (!double_obey(worker, channel, line))
                        return;
        }
}

/* --- The link --------------------------------------------------------------------------------------------------- */

static void double_take_answer(struct double_worker *worker, const struct link_message *message, int take_fd) {
        char text[512];

        for (size_t i = 0; i < worker->n_channels; i++) {
                struct double_channel *channel = &worker->channels[i];

                if (channel->ticket != message->ticket)
                        continue;
                if (take_fd >= 0) {
                        fd_close(channel->socket_fd);
                        channel->socket_fd = take_fd;
                }
                snprintf(text, sizeof(text), "%d %u %s", message->status, message->reason, message->text);
                double_say(channel, text);
                return;
        }
        fd_close(take_fd);
}

static void double_listen_to_monitor(struct double_worker *worker) {
        struct link_message message;
        int fd, r;

        r = link_receive(worker->link_fd, &message, &fd);
        if (r == -EAGAIN)
                return;
        if (r <= 0)
                worker->is_over = true;
        else if (message.kind == LINK_STOP)
                worker->is_over = !double_is("stubborn");
        else if (message.kind == LINK_PULSE && !double_is("silent"))
                double_tell(worker, &message, -1);
        else if (message.kind == LINK_ANSWER)
                double_take_answer(worker, &message, fd);
        else if (message.kind == LINK_CHANNEL && worker->n_channels < DOUBLE_CHANNELS_MAX)
                worker->channels[worker->n_channels++] =
                        (struct double_channel){ .fd = fd, .socket_fd = -1, .peer = message.body.peer };
        else
                fd_close(fd);
}

static void double_turn(struct double_worker *worker, const struct pollfd *waits, size_t n_waits) {
        for (size_t i = n_waits; i > 0; i--)
                if (waits[i - 1].revents != 0)
                        double_read(worker, &worker->channels[i - 1]);
}

int worker_run(const struct worker_options *options) {
        static struct double_worker worker;
        struct link_message ready = { .kind = LINK_READY, .text = "double" };

        worker.link_fd = options->link_fd;
        snprintf(ready.body.ready.reason, sizeof(ready.body.ready.reason), "asked for %s, plant %s, kill point %s",
                 options->engine, options->plant ? options->plant : "none",
                 getenv("OVL_TEST_KILLPOINT") ? getenv("OVL_TEST_KILLPOINT") : "none");
        if (double_is("fail")) {
                ready.status = -EPERM;
                strcpy(ready.text, "the engine may not be used here");
        }
        if (!double_is("mute"))
                double_tell(&worker, &ready, -1);
        if (double_is("fail"))
                return 1;
        while (!worker.is_over) {
                struct pollfd waits[DOUBLE_CHANNELS_MAX + 1];
                size_t n = worker.n_channels;

                for (size_t i = 0; i < n; i++)
                        waits[i] = (struct pollfd){ .fd = worker.channels[i].fd, .events = POLLIN };
                waits[n] = (struct pollfd){ .fd = double_is("deaf") ? -1 : worker.link_fd, .events = POLLIN };
                if (poll(waits, n + 1, -1) < 0)
                        continue;
                double_turn(&worker, waits, n);
                if (waits[n].revents != 0)
                        double_listen_to_monitor(&worker);
        }
        return 0;
}
