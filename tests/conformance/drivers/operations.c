/* SPDX-License-Identifier: Apache-2.0 */

/* Overlapped operations, as the runner asks for them: posted, waited for, reported. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "driver.h"

#define OPERATION_PARTS_MAX 64
#define OPERATION_NS_PER_MS 1000000u

/* What a seed and a length stand for: see the README. */
static void operation_fill(uint8_t *data, size_t len, uint64_t seed) {
        for (size_t i = 0; i < len; i++)
                data[i] = (uint8_t) (seed + i + i / 251);
}

/* FNV-1a, 32 bits. */
static uint32_t operation_checksum(const uint8_t *data, size_t len) {
        uint32_t sum = 0x811c9dc5u;

        for (size_t i = 0; i < len; i++)
                sum = (sum ^ data[i]) * 0x01000193u;
        return sum;
}

/* Names the routines of this command in the order in which they ran. */
static void operation_routine(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct object *op = overlapped->user;
        struct driver *driver = op->op.driver;
        size_t used = strlen(driver->ran);

        snprintf(driver->ran + used, sizeof(driver->ran) - used, "%s%s", used ? "," : "", op->name);
}

/* Memory for an operation: the session's region is opened when first needed, and nothing in it is used twice. */
static int operation_lend(struct driver *driver, struct object *thread, size_t len, uint8_t **ret_data) {
        struct object *session = thread->owner;
        int r;

        if (!session->session.region) {
                r = ovl_region_open(thread->thread, DRIVER_REGION_SIZE, &session->session.region);
                if (r < 0)
                        return driver_fail(driver, r, ovl_thread_error(thread->thread));
        }
        if (len > DRIVER_REGION_SIZE - session->session.region_used)
                return -ENOMEM;
        *ret_data = (uint8_t *) ovl_region_data(session->session.region) + session->session.region_used;
        session->session.region_used += (len + 63) & ~(size_t) 63;
        return 0;
}

/* The operation that the line names, new or used again; its thread and socket. */
static struct object *operation_prepare(struct driver *driver, const struct line *line, struct object **ret_thread,
                                        uint64_t *ret_socket) {
        struct object *thread = driver_named(driver, line, OBJECT_THREAD, "thread");
        struct object *socket = driver_named(driver, line, OBJECT_SOCKET, "socket");
        struct object *op = driver_find(driver, OBJECT_OP, line_word(line, 1));

        if (!thread || !socket)
                return NULL;
        if (!op)
                op = driver_add(driver, OBJECT_OP, line_word(line, 1), thread->owner);
        op->op.driver = driver;
        op->op.overlapped.user = op;
        *ret_thread = thread;
        *ret_socket = socket->socket;
        return op;
}

static unsigned operation_flags(const struct line *line) {
        return (line_has(line, "verdict") ? OVL_WANT_VERDICT : 0) | (line_has(line, "quiet") ? OVL_QUIET : 0) |
               (line_has(line, "peek") ? OVL_PEEK : 0) | (line_has(line, "waitall") ? OVL_WAITALL : 0);
}

/* What a posting call answered. */
static int operation_posted(struct driver *driver, struct object *thread, int r) {
        if (r < 0)
                return driver_fail(driver, r, ovl_thread_error(thread->thread));
        driver_say(driver, r == OVL_PENDING ? " pending" : " done");
        return 0;
}

int operation_connect(struct driver *driver, const struct line *line) {
        struct sockaddr_storage address;
        struct object *thread, *op;
        uint64_t socket;
        socklen_t len;
        int r;

        op = operation_prepare(driver, line, &thread, &socket);
        if (!op || command_address(line, &address, &len) < 0)
                return -EINVAL;
        r = ovl_connect(thread->thread, socket, (struct sockaddr *) &address, len, operation_flags(line),
                        &op->op.overlapped, line_has(line, "routine") ? operation_routine : NULL);
        return operation_posted(driver, thread, r);
}

int operation_accept(struct driver *driver, const struct line *line) {
        const char *into = line_option(line, "into");
        struct object *thread, *op;
        uint64_t socket;
        int r;

        op = operation_prepare(driver, line, &thread, &socket);
        if (!op || !into)
                return -EINVAL;
        snprintf(op->op.into, sizeof(op->op.into), "%s", into);
        r = ovl_accept(thread->thread, socket, operation_flags(line), &op->op.overlapped,
                       line_has(line, "routine") ? operation_routine : NULL);
        return operation_posted(driver, thread, r);
}

/* Cuts memory into as many buffers as the line says. */
static size_t operation_cut(const struct line *line, uint8_t *data, size_t len, struct ovl_buffer *ret_buffers) {
        size_t n = line_number(line, "parts"), used = 0;

        n = n < 1 ? 1 : n > OPERATION_PARTS_MAX ? OPERATION_PARTS_MAX : n;
        for (size_t i = 0; i < n; i++) {
                size_t part = i + 1 < n ? len / n : len - used;

                ret_buffers[i] = (struct ovl_buffer){ .data = data + used, .len = part };
                used += part;
        }
        return n;
}

static int operation_transfer(struct driver *driver, const struct line *line, bool sends) {
        struct ovl_buffer buffers[OPERATION_PARTS_MAX];
        struct object *thread, *op;
        uint64_t socket;
        size_t n;
        int r;

        op = operation_prepare(driver, line, &thread, &socket);
        if (!op)
                return -EINVAL;
        op->op.len = line_number(line, "len");
        r = operation_lend(driver, thread, op->op.len, &op->op.data);
        if (r < 0)
                return r;
        if (sends)
                operation_fill(op->op.data, op->op.len, line_number(line, "seed"));
        n = operation_cut(line, op->op.data, op->op.len, buffers);
        r = (sends ? ovl_send : ovl_recv)(thread->thread, socket, buffers, n, operation_flags(line), &op->op.overlapped,
                                          line_has(line, "routine") ? operation_routine : NULL);
        return operation_posted(driver, thread, r);
}

int operation_recv(struct driver *driver, const struct line *line) {
        return operation_transfer(driver, line, false);
}

int operation_send(struct driver *driver, const struct line *line) {
        return operation_transfer(driver, line, true);
}

/* How an operation stands. An accept that is done has named a socket. */
static void operation_report(struct driver *driver, struct object *op) {
        const struct ovl_overlapped *overlapped = &op->op.overlapped;
        int status = ovl_result(overlapped);

        driver_say(driver, " status=%d bytes=%llu reason=%u", status, (unsigned long long) overlapped->bytes,
                   overlapped->reason);
        if (status == 0 && op->op.into[0] && !driver_find(driver, OBJECT_SOCKET, op->op.into))
                driver_add(driver, OBJECT_SOCKET, op->op.into, op->owner)->socket = overlapped->value;
}

int operation_wait(struct driver *driver, const struct line *line) {
        struct object *thread = driver_named(driver, line, OBJECT_THREAD, "thread");
        struct object *op = driver_find(driver, OBJECT_OP, line_word(line, 1));
        int r;

        if (!thread || !op)
                return -EINVAL;
        r = ovl_wait(thread->thread, &op->op.overlapped, line_number(line, "timeout") * OPERATION_NS_PER_MS,
                     line_has(line, "alertable"));
        if (r < 0)
                return r;
        if (r == OVL_ALERTED)
                driver_say(driver, " alerted ran=%s", driver->ran);
        else
                operation_report(driver, op);
        return 0;
}

int operation_result(struct driver *driver, const struct line *line) {
        struct object *thread = driver_named(driver, line, OBJECT_THREAD, "thread");
        struct object *op = driver_find(driver, OBJECT_OP, line_word(line, 1));

        if (!op || !thread)
                return -EINVAL;
        ovl_dispatch(thread->thread);
        operation_report(driver, op);
        return 0;
}

int operation_data(struct driver *driver, const struct line *line) {
        struct object *op = driver_find(driver, OBJECT_OP, line_word(line, 1));

        if (!op)
                return -EINVAL;
        driver_say(driver, " len=%llu fnv=%u", (unsigned long long) op->op.overlapped.bytes,
                   operation_checksum(op->op.data, op->op.overlapped.bytes));
        return 0;
}

int operation_sleep(struct driver *driver, const struct line *line) {
        struct object *thread = driver_find(driver, OBJECT_THREAD, line_word(line, 1));
        int r;

        if (!thread)
                return -EINVAL;
        r = ovl_sleep(thread->thread, line_number(line, "timeout") * OPERATION_NS_PER_MS);
        if (r < 0)
                return r;
        driver_say(driver, "%s ran=%s", r == OVL_ALERTED ? " alerted" : "", driver->ran);
        return 0;
}

int operation_port_wait(struct driver *driver, const struct line *line) {
        struct object *thread = driver_named(driver, line, OBJECT_THREAD, "thread");
        struct object *port = driver_find(driver, OBJECT_PORT, line_word(line, 1));
        struct ovl_packet packet;
        struct object *op;
        int r;

        if (!thread || !port)
                return -EINVAL;
        r = ovl_port_wait(port->port, thread->thread, &packet, 1, line_number(line, "timeout") * OPERATION_NS_PER_MS);
        if (r < 0)
                return r;
        op = packet.overlapped->user;
        driver_say(driver, " key=%llu op=%s packet-bytes=%llu", (unsigned long long) packet.key, op->name,
                   (unsigned long long) packet.bytes);
        operation_report(driver, op);
        return 0;
}

int operation_cancel(struct driver *driver, const struct line *line) {
        struct object *thread = driver_named(driver, line, OBJECT_THREAD, "thread");
        struct object *socket = driver_find(driver, OBJECT_SOCKET, line_word(line, 1));
        const char *name = line_option(line, "op");
        struct object *op = name ? driver_find(driver, OBJECT_OP, name) : NULL;
        int r;

        if (!thread || !socket || (name && !op))
                return -EINVAL;
        r = ovl_cancel(thread->thread, socket->socket, op ? &op->op.overlapped : NULL);
        if (r < 0)
                return driver_fail(driver, r, ovl_thread_error(thread->thread));
        driver_say(driver, " cancelled=%d", r);
        return 0;
}

int operation_cork(struct driver *driver, const struct line *line) {
        struct object *thread = driver_find(driver, OBJECT_THREAD, line_word(line, 1));

        if (!thread)
                return -EINVAL;
        ovl_cork(thread->thread);
        return 0;
}

int operation_uncork(struct driver *driver, const struct line *line) {
        struct object *thread = driver_find(driver, OBJECT_THREAD, line_word(line, 1));

        return thread ? ovl_uncork(thread->thread) : -EINVAL;
}
