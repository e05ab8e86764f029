/* SPDX-License-Identifier: Apache-2.0 */
/*
 * echo-port PORT [ADDRESS [THREADS]]: an echo server by completion port, on 127.0.0.1 and in four threads unless told
 * otherwise; SIGTERM or SIGINT ends it.
 *
 * Any thread takes any packet, so two packets of one connection may be handled in either order. Order is what the
 * connection makes of it: receives are posted in rounds, a round after all of the last one was sent; one send at a time
 * takes the buffers that are full next.
 */
#include <errno.h>
#include <netdb.h>
#include <overlap.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
        CONNECTIONS = 128,
        RECEIVES = 4,
        BUFFER_SIZE = 65536,
        THREADS = 4,
        THREADS_MAX = 64,
        PACKETS = 16
};
enum {
        KEY_STOP,
        KEY_LISTENER,
        KEY_CONNECTION
}; /* a connection's key is KEY_CONNECTION plus its number */

struct connection {
        pthread_mutex_t lock; /* of all that follows but socket, which is the server's */
        uint64_t socket;      /* 0: the connection is free */
        int n_pending;        /* operations that have not been indicated */
        int n_full;           /* buffers of this round that are full, up to the first that is not */
        int n_taken;          /* those of them that were sent or are being sent */
        bool sending;
        bool ended; /* no more receives are posted */
        bool is_full[RECEIVES];
        struct ovl_buffer buffers[RECEIVES];
        struct ovl_overlapped receives[RECEIVES], send;
};

struct server {
        struct ovl_session *session;
        struct ovl_port *port;
        uint64_t listener;
        pthread_mutex_t lock; /* of what follows, and of which connections are free */
        int n_connections;
        bool accepting, failed;
        struct ovl_overlapped accept;
        struct connection connections[CONNECTIONS];
};

/* Gives a connection up: what is pending on it ends, and nothing more is posted. */
static void echo_abandon(struct ovl_thread *thread, struct connection *connection) {
        if (!connection->ended)
                ovl_cancel(thread, connection->socket, NULL);
        connection->ended = true;
}

/* Posts a round of receives: by one thread and with none pending, so their order is certain. */
static void echo_receive(struct ovl_thread *thread, struct connection *connection) {
        int i;

        connection->n_full = connection->n_taken = 0;
        for (i = 0; i < RECEIVES && !connection->ended; i++) {
                connection->is_full[i] = false;
                connection->buffers[i].len = BUFFER_SIZE;
                if (ovl_recv(thread, connection->socket, &connection->buffers[i], 1, 0, &connection->receives[i],
                             NULL) >= 0)
                        connection->n_pending++;
                else
                        echo_abandon(thread, connection);
        }
}

static void echo_send(struct ovl_thread *thread, struct connection *connection) {
        struct ovl_buffer *next = &connection->buffers[connection->n_taken];
        int n = connection->n_full - connection->n_taken;

        connection->sending = ovl_send(thread, connection->socket, next, n, 0, &connection->send, NULL) >= 0;
        connection->n_taken += n;
        connection->n_pending += connection->sending;
        if (!connection->sending)
                echo_abandon(thread, connection);
}

static void echo_accept(struct ovl_thread *thread, struct server *server) {
        pthread_mutex_lock(&server->lock);
        if (!server->accepting && server->n_connections < CONNECTIONS)
                server->accepting = ovl_accept(thread, server->listener, 0, &server->accept, NULL) >= 0;
        pthread_mutex_unlock(&server->lock);
}

/* Closes a connection of which nothing is pending: no other thread has a packet of it. */
static void echo_close(struct ovl_thread *thread, struct server *server, struct connection *connection) {
        ovl_socket_close(thread, connection->socket);
        pthread_mutex_lock(&server->lock);
        connection->socket = 0;
        server->n_connections--;
        pthread_mutex_unlock(&server->lock);
        echo_accept(thread, server);
}

static void echo_accepted(struct ovl_thread *thread, struct server *server, const struct ovl_packet *packet) {
        struct connection *connection = server->connections;
        uint64_t socket = packet->overlapped->value;
        bool is_over;
        int r;

        pthread_mutex_lock(&server->lock);
        server->accepting = false;
        if (packet->status == 0) {
                while (connection->socket) /* one is free: otherwise no accept was posted */
                        connection++;
                connection->socket = socket;
                server->n_connections++;
        }
        pthread_mutex_unlock(&server->lock);
        if (packet->status < 0)
                return; /* tried again when a connection ends */
        echo_accept(thread, server);
        pthread_mutex_lock(&connection->lock);
        r = ovl_port_associate(thread, server->port, socket, KEY_CONNECTION + (connection - server->connections));
        connection->ended = connection->sending = false;
        if (r < 0)
                echo_abandon(thread, connection);
        echo_receive(thread, connection);
        is_over = connection->n_pending == 0;
        pthread_mutex_unlock(&connection->lock);
        if (is_over)
                echo_close(thread, server, connection);
}

static void echo_handle(struct ovl_thread *thread, struct server *server, const struct ovl_packet *packet) {
        struct connection *connection = &server->connections[packet->key - KEY_CONNECTION];
        bool is_over;

        pthread_mutex_lock(&connection->lock);
        connection->n_pending--;
        if (packet->overlapped == &connection->send)
                connection->sending = false;
        else if (packet->bytes > 0) {
                connection->buffers[packet->overlapped - connection->receives].len = packet->bytes;
                connection->is_full[packet->overlapped - connection->receives] = true;
        } else if (packet->status == 0)
                connection->ended = true;
        if (packet->status < 0)
                echo_abandon(thread, connection);
        while (connection->n_full < RECEIVES && connection->is_full[connection->n_full])
                connection->n_full++;
        if (!connection->sending && connection->n_full > connection->n_taken)
                echo_send(thread, connection);
        else if (!connection->sending && connection->n_taken == RECEIVES)
                echo_receive(thread, connection);
        is_over = connection->n_pending == 0;
        pthread_mutex_unlock(&connection->lock);
        if (is_over)
                echo_close(thread, server, connection);
}

static void *echo_run(void *argument) {
        struct ovl_packet packets[PACKETS];
        struct server *server = argument;
        struct ovl_thread *thread = NULL;
        struct ovl_error error;
        bool stop = false;
        int i, r;

        r = ovl_thread_open(server->session, &thread, &error);
        while (r >= 0 && !stop) {
                r = ovl_port_wait(server->port, thread, packets, PACKETS, OVL_INFINITE);
                ovl_cork(thread); /* what the packets lead to leaves with one system call */
                for (i = 0; i < r; i++)
                        if (packets[i].key == KEY_STOP)
                                stop = ovl_port_post(server->port, &packets[i]) >= 0; /* for the next thread */
                        else if (packets[i].key == KEY_LISTENER)
                                echo_accepted(thread, server, &packets[i]);
                        else
                                echo_handle(thread, server, &packets[i]);
                ovl_uncork(thread);
        }
        pthread_mutex_lock(&server->lock);
        if (r < 0 && !server->failed) { /* the others fail for the same reason */
                fprintf(stderr, "echo-port: %s\n", thread ? ovl_thread_error(thread)->text : error.text);
                kill(getpid(), SIGTERM);
        }
        server->failed |= r < 0;
        pthread_mutex_unlock(&server->lock);
        ovl_thread_close(thread);
        return NULL;
}

static void echo_must(int r, const struct ovl_error *error) {
        if (r < 0) {
                fprintf(stderr, "echo-port: %s\n", error->text);
                exit(EXIT_FAILURE);
        }
}

static void echo_listen(struct ovl_thread *thread, struct server *server, const char *address, const char *port) {
        struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM };
        struct sockaddr_storage name;
        socklen_t len = sizeof name;
        char host[64], service[16];
        struct addrinfo *info;
        int r;

        if (getaddrinfo(address, port, &hints, &info) != 0) {
                fprintf(stderr, "echo-port: %s port %s is no numeric address\n", address, port);
                exit(EXIT_FAILURE);
        }
        r = ovl_socket_open(thread, info->ai_family, SOCK_STREAM, &server->listener);
        if (r >= 0)
                r = ovl_port_associate(thread, server->port, server->listener, KEY_LISTENER);
        if (r >= 0)
                r = ovl_bind(thread, server->listener, info->ai_addr, info->ai_addrlen);
        if (r >= 0)
                r = ovl_listen(thread, server->listener, 128);
        if (r >= 0)
                r = ovl_getsockname(thread, server->listener, (struct sockaddr *) &name, &len);
        echo_must(r, ovl_thread_error(thread));
        getnameinfo((struct sockaddr *) &name, len, host, sizeof host, service, sizeof service,
                    NI_NUMERICHOST | NI_NUMERICSERV);
        printf(info->ai_family == AF_INET6 ? "listening on [%s]:%s\n" : "listening on %s:%s\n", host, service);
        fflush(stdout);
        freeaddrinfo(info);
}

int main(int argc, char **argv) {
        static const struct ovl_session_options options = { .name = "echo-port" };
        int i, r, n_threads = argc > 3 ? atoi(argv[3]) : THREADS;
        struct server *server = calloc(1, sizeof *server);
        pthread_t pthreads[THREADS_MAX];
        struct ovl_region *region;
        struct ovl_thread *thread;
        struct ovl_error error;
        sigset_t signals;

        if (!server || n_threads < 1 || n_threads > THREADS_MAX)
                return EXIT_FAILURE;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        pthread_sigmask(SIG_BLOCK, &signals, NULL);
        echo_must(ovl_session_open(&options, &server->session, &error), &error);
        echo_must(ovl_port_open(server->session, 0, &server->port, &error), &error);
        echo_must(ovl_thread_open(server->session, &thread, &error), &error);
        r = ovl_region_open(thread, (size_t) CONNECTIONS * RECEIVES * BUFFER_SIZE, &region);
        echo_must(r, ovl_thread_error(thread));
        pthread_mutex_init(&server->lock, NULL);
        for (i = 0; i < CONNECTIONS * RECEIVES; i++) {
                pthread_mutex_init(&server->connections[i / RECEIVES].lock, NULL);
                server->connections[i / RECEIVES].buffers[i % RECEIVES].data =
                        (char *) ovl_region_data(region) + (size_t) i * BUFFER_SIZE;
        }
        echo_listen(thread, server, argc > 2 ? argv[2] : "127.0.0.1", argc > 1 ? argv[1] : "0");
        echo_accept(thread, server);
        for (i = 0; i < n_threads; i++)
                if (pthread_create(&pthreads[i], NULL, echo_run, server) != 0)
                        return EXIT_FAILURE;
        sigwait(&signals, &r);
        ovl_port_post(server->port, &(struct ovl_packet){ .key = KEY_STOP });
        for (i = 0; i < n_threads; i++)
                pthread_join(pthreads[i], NULL);
        if (!server->failed)
                printf("%d threads shared the port\n", n_threads);
        for (i = 0; i < CONNECTIONS; i++)
                if (server->connections[i].socket)
                        ovl_socket_close(thread, server->connections[i].socket);
        ovl_region_close(thread, region); /* waits until the kernel is done with the buffers */
        ovl_thread_close(thread);
        ovl_port_close(server->port);
        ovl_session_free(server->session);
        r = server->failed ? EXIT_FAILURE : EXIT_SUCCESS;
        free(server);
        return r;
}
