/* SPDX-License-Identifier: Apache-2.0 */

/* Sessions, threads, ports and sockets, as the runner asks for them. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static const struct {
        const char *name;
        int level, option;
} command_options[] = {
        { "no_delay", IPPROTO_TCP, TCP_NODELAY },      { "keep_alive", SOL_SOCKET, SO_KEEPALIVE },
        { "send_buffer", SOL_SOCKET, SO_SNDBUF },      { "receive_buffer", SOL_SOCKET, SO_RCVBUF },
        { "reuse_address", SOL_SOCKET, SO_REUSEADDR }, { "error", SOL_SOCKET, SO_ERROR },
};

int command_features(struct driver *driver, const struct line *line) {
        driver_say(driver, " level:0 level:1 level:2 thread port routine verdict peek waitall vector cork option quiet "
                           "cancel status");
        return 0;
}

static void command_choose_level(const struct line *line, struct ovl_session_options *options) {
        static const char *const levels[] = { "inline", "shared", "ring" };
        uint64_t level = line_number(line, "level");

        options->level = level < sizeof(levels) / sizeof(*levels) ? levels[level] : NULL;
}

int command_open(struct driver *driver, const struct line *line) {
        struct ovl_session_options options = {
                .path = line_option(line, "path"),
                .credits = (uint32_t) line_number(line, "credits"),
                .name = "driver",
        };
        struct ovl_session_info info;
        struct ovl_session *session;
        struct ovl_error error;
        int r;

        command_choose_level(line, &options);
        r = ovl_session_open(&options, &session, &error);
        if (r < 0)
                return driver_fail(driver, r, &error);
        driver_add(driver, OBJECT_SESSION, line_word(line, 1), NULL)->session.session = session;
        ovl_session_info(session, &info);
        driver_say(driver, " level=%u credits=%u sockets=%u engine=%s", info.level, info.credits, info.sockets,
                   info.engine);
        return 0;
}

int command_thread(struct driver *driver, const struct line *line) {
        struct object *session = driver_named(driver, line, OBJECT_SESSION, "session");
        struct ovl_thread *thread;
        struct ovl_error error;
        int r;

        if (!session)
                return -EINVAL;
        r = ovl_thread_open(session->session.session, &thread, &error);
        if (r < 0)
                return driver_fail(driver, r, &error);
        driver_add(driver, OBJECT_THREAD, line_word(line, 1), session)->thread = thread;
        driver_say(driver, " number=%llu", (unsigned long long) ovl_thread_number(thread));
        return 0;
}

int command_port(struct driver *driver, const struct line *line) {
        struct object *session = driver_named(driver, line, OBJECT_SESSION, "session");
        struct ovl_error error;
        struct ovl_port *port;
        int r;

        if (!session)
                return -EINVAL;
        r = ovl_port_open(session->session.session, 0, &port, &error);
        if (r < 0)
                return driver_fail(driver, r, &error);
        driver_add(driver, OBJECT_PORT, line_word(line, 1), session)->port = port;
        return 0;
}

int command_socket(struct driver *driver, const struct line *line) {
        struct object *thread = driver_named(driver, line, OBJECT_THREAD, "thread");
        const char *family = line_option(line, "family"), *type = line_option(line, "type");
        uint64_t socket;
        int r;

        if (!thread || !family || !type)
                return -EINVAL;
        r = ovl_socket_open(thread->thread,
                            strcmp(family, "inet6") == 0  ? AF_INET6
                            : strcmp(family, "unix") == 0 ? AF_UNIX
                                                          : AF_INET,
                            strcmp(type, "datagram") == 0 ? SOCK_DGRAM : SOCK_STREAM, &socket);
        if (r < 0)
                return driver_fail(driver, r, ovl_thread_error(thread->thread));
        driver_add(driver, OBJECT_SOCKET, line_word(line, 1), thread->owner)->socket = socket;
        return 0;
}

int command_address(const struct line *line, struct sockaddr_storage *ret_address, socklen_t *ret_len) {
        const char *host = line_option(line, "host");
        struct sockaddr_in inet = { .sin_family = AF_INET, .sin_port = htons((uint16_t) line_number(line, "port")) };
        struct sockaddr_in6 inet6 = { .sin6_family = AF_INET6, .sin6_port = inet.sin_port };

        if (host && inet_pton(AF_INET, host, &inet.sin_addr) == 1) {
                memcpy(ret_address, &inet, sizeof(inet));
                *ret_len = sizeof(inet);
                return 0;
        }
        if (host && inet_pton(AF_INET6, host, &inet6.sin6_addr) == 1) {
                memcpy(ret_address, &inet6, sizeof(inet6));
                *ret_len = sizeof(inet6);
                return 0;
        }
        return -EINVAL;
}

/* The thread and the socket that a command is about; the socket is its name, or an option. */
static int command_pair(struct driver *driver, const struct line *line, struct ovl_thread **ret_thread,
                        uint64_t *ret_socket) {
        struct object *thread = driver_named(driver, line, OBJECT_THREAD, "thread");
        struct object *socket = driver_find(driver, OBJECT_SOCKET, line_word(line, 1));

        if (!thread || !socket)
                return -EINVAL;
        *ret_thread = thread->thread;
        *ret_socket = socket->socket;
        return 0;
}

static int command_result(struct driver *driver, struct ovl_thread *thread, int r) {
        return r < 0 ? driver_fail(driver, r, ovl_thread_error(thread)) : 0;
}

int command_bind(struct driver *driver, const struct line *line) {
        struct sockaddr_storage address;
        struct ovl_thread *thread;
        uint64_t socket;
        socklen_t len;
        int r;

        r = command_pair(driver, line, &thread, &socket);
        if (r < 0)
                return r;
        r = command_address(line, &address, &len);
        if (r < 0)
                return r;
        return command_result(driver, thread, ovl_bind(thread, socket, (struct sockaddr *) &address, len));
}

int command_listen(struct driver *driver, const struct line *line) {
        struct ovl_thread *thread;
        uint64_t socket;
        int r;

        r = command_pair(driver, line, &thread, &socket);
        if (r < 0)
                return r;
        return command_result(driver, thread, ovl_listen(thread, socket, (int) line_number(line, "backlog")));
}

int command_name(struct driver *driver, const struct line *line) {
        struct sockaddr_storage address = { 0 };
        socklen_t len = sizeof(address);
        char host[INET6_ADDRSTRLEN] = "";
        struct ovl_thread *thread;
        uint64_t socket;
        in_port_t port;
        int r;

        r = command_pair(driver, line, &thread, &socket);
        if (r < 0)
                return r;
        r = (line_has(line, "peer") ? ovl_getpeername : ovl_getsockname)(thread, socket, (struct sockaddr *) &address,
                                                                         &len);
        if (r < 0)
                return command_result(driver, thread, r);
        if (address.ss_family == AF_INET6)
                inet_ntop(AF_INET6, &((struct sockaddr_in6 *) &address)->sin6_addr, host, sizeof(host));
        else
                inet_ntop(AF_INET, &((struct sockaddr_in *) &address)->sin_addr, host, sizeof(host));
        memcpy(&port, (const char *) &address + offsetof(struct sockaddr_in, sin_port), sizeof(port));
        driver_say(driver, " host=%s port=%u", host, ntohs(port));
        return 0;
}

static int command_find_option(const struct line *line, int *ret_level, int *ret_option) {
        const char *name = line_option(line, "option");

        for (size_t i = 0; name && i < sizeof(command_options) / sizeof(*command_options); i++)
                if (strcmp(command_options[i].name, name) == 0) {
                        *ret_level = command_options[i].level;
                        *ret_option = command_options[i].option;
                        return 0;
                }
        return -EINVAL;
}

int command_option_set(struct driver *driver, const struct line *line) {
        struct ovl_thread *thread;
        int level, option, r;
        uint64_t socket;

        r = command_pair(driver, line, &thread, &socket);
        if (r < 0)
                return r;
        r = command_find_option(line, &level, &option);
        if (r < 0)
                return r;
        return command_result(driver, thread,
                              ovl_setsockopt(thread, socket, level, option, (int) line_number(line, "value")));
}

int command_option_get(struct driver *driver, const struct line *line) {
        int level, option, value, r;
        struct ovl_thread *thread;
        uint64_t socket;

        r = command_pair(driver, line, &thread, &socket);
        if (r < 0)
                return r;
        r = command_find_option(line, &level, &option);
        if (r < 0)
                return r;
        r = ovl_getsockopt(thread, socket, level, option, &value);
        if (r >= 0)
                driver_say(driver, " value=%d", value);
        return command_result(driver, thread, r);
}

int command_associate(struct driver *driver, const struct line *line) {
        struct object *port = driver_named(driver, line, OBJECT_PORT, "port");
        struct ovl_thread *thread;
        uint64_t socket;
        int r;

        r = command_pair(driver, line, &thread, &socket);
        if (r < 0 || !port)
                return -EINVAL;
        return command_result(driver, thread, ovl_port_associate(thread, port->port, socket, line_number(line, "key")));
}

int command_shutdown(struct driver *driver, const struct line *line) {
        const char *how = line_option(line, "how");
        struct ovl_thread *thread;
        uint64_t socket;
        int r;

        r = command_pair(driver, line, &thread, &socket);
        if (r < 0 || !how)
                return -EINVAL;
        return command_result(driver, thread,
                              ovl_shutdown(thread, socket,
                                           strcmp(how, "send") == 0      ? SHUT_WR
                                           : strcmp(how, "receive") == 0 ? SHUT_RD
                                                                         : SHUT_RDWR));
}

int command_status(struct driver *driver, const struct line *line) {
        struct object *thread = driver_named(driver, line, OBJECT_THREAD, "thread");
        struct ovl_status status;
        int r;

        if (!thread)
                return -EINVAL;
        r = ovl_status(thread->thread, &status);
        if (r >= 0)
                driver_say(driver, " worker=%u", status.worker_pid);
        return command_result(driver, thread->thread, r);
}

/* --- The end of things ------------------------------------------------------------------------------------------ */

int command_close_socket(struct driver *driver, const struct line *line) {
        struct object *object = driver_find(driver, OBJECT_SOCKET, line_word(line, 1));
        struct ovl_thread *thread;
        uint64_t socket;
        int r;

        r = command_pair(driver, line, &thread, &socket);
        if (r < 0)
                return r;
        /* It stays known by its name: a case may want to use what was closed. */
        r = ovl_socket_close(thread, object->socket);
        return command_result(driver, thread, r);
}

static void command_end_thread(struct object *object) {
        object->thread = ovl_thread_close(object->thread);
        object->is_closed = true;
}

int command_close_thread(struct driver *driver, const struct line *line) {
        struct object *object = driver_find(driver, OBJECT_THREAD, line_word(line, 1));

        if (!object)
                return -EINVAL;
        command_end_thread(object);
        return 0;
}

int command_close_port(struct driver *driver, const struct line *line) {
        struct object *object = driver_find(driver, OBJECT_PORT, line_word(line, 1));

        if (!object)
                return -EINVAL;
        object->port = ovl_port_close(object->port);
        object->is_closed = true;
        return 0;
}

/* It takes a thread to give a region back: also where the daemon is gone, and no further thread can be opened. */
static void command_end_region(struct driver *driver, struct object *session) {
        struct ovl_thread *thread = NULL, *helper = NULL;

        if (!session->session.region)
                return;
        for (struct object *object = driver->objects; object; object = object->next)
                if (object->owner == session && object->kind == OBJECT_THREAD && !object->is_closed)
                        thread = object->thread;
        if (!thread && ovl_thread_open(session->session.session, &helper, NULL) >= 0)
                thread = helper;
        if (!thread)
                return;
        /* Their operations end, and nothing uses the region any more. */
        for (struct object *object = driver->objects; object; object = object->next)
                if (object->owner == session && object->kind == OBJECT_SOCKET)
                        ovl_socket_close(thread, object->socket);
        ovl_region_close(thread, session->session.region);
        ovl_thread_close(helper);
}

static void command_end_session(struct driver *driver, struct object *session) {
        command_end_region(driver, session);
        for (struct object *object = driver->objects; object; object = object->next) {
                if (object->owner != session || object->is_closed)
                        continue;
                if (object->kind == OBJECT_THREAD)
                        command_end_thread(object);
                if (object->kind == OBJECT_PORT) {
                        object->port = ovl_port_close(object->port);
                        object->is_closed = true;
                }
        }
        session->session.session = ovl_session_free(session->session.session);
        session->is_closed = true;
}

int command_close_session(struct driver *driver, const struct line *line) {
        struct object *object = driver_find(driver, OBJECT_SESSION, line_word(line, 1));

        if (!object)
                return -EINVAL;
        command_end_session(driver, object);
        return 0;
}

void command_close_all(struct driver *driver) {
        for (struct object *object = driver->objects; object; object = object->next)
                if (object->kind == OBJECT_SESSION && !object->is_closed)
                        command_end_session(driver, object);
}
