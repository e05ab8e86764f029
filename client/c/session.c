/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A session is the program as the daemon sees it. It owns what its threads share: the table of operations in flight,
 * the lists of regions, ports and connections, and the one lock that guards them. The lock is held for moments only,
 * never in a system call that waits.
 *
 *   open -> gone   the daemon hangs up on any connection, or sends what it must not: session_abort(), once
 *   open, gone -> freed   the program: ovl_session_free()
 *
 * Gone is final: all pending operations have ended with -ECONNABORTED and were indicated, and every later call says
 * why. Reconnecting is the program's decision, since it has to open its sockets again.
 *
 * The connection that opened the session is the channel of its first thread. The daemon sends the records of threads
 * that have ended to it, so it lives as long as the session; when its thread is closed the next thread gets it.
 *
 * Rejected: a lock for each table (each operation would take three), and a session that survives the loss of one
 * connection (records that were under way in it are lost, and nobody could tell which).
 */

#include "client/c/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/c/completion.h"
#include "client/c/conduit.h"
#include "client/c/error.h"
#include "client/c/event.h"
#include "client/c/lookup.h"
#include "client/c/port.h"
#include "client/c/vector.h"
#include "client/c/wait.h"
#include "proto/layout.h"

#define SESSION_PATH "/run/overlapd/overlapd.sock"
#define SESSION_CREDITS_MAX 65536u /* more than any daemon grants: bounds what a forged grant makes us allocate */
#define SESSION_NAME_SIZE 128u
#define SESSION_SLOTS_MAX 1024u
#define SESSION_POLL_US 50u

/* More than that many entries are seldom gathered before they are taken; who has them waits a little. */
uint32_t session_slots(const struct ovl_session *session) {
        return session->info.credits < SESSION_SLOTS_MAX ? session->info.credits : SESSION_SLOTS_MAX;
}

uint64_t session_number(struct ovl_session *session) {
        return ++session->n_numbers;
}

void session_abort(struct ovl_session *session, struct ovl_thread *by, const char *text) {
        if (session->is_gone)
                return;
        session->is_gone = true;
        error_set(&session->gone, -ECONNABORTED, OVL_REASON_DAEMON_GONE, "%s", text);
        list_for_each(link, &session->conduits)
                shutdown(list_entry(link, struct conduit, link)->fd, SHUT_RDWR);
        completion_abort_all(session, by);
        list_for_each(link, &session->ports)
                port_serve(list_entry(link, struct ovl_port, link), by);
        wait_signal_all(session, by);
}

int session_gone(const struct ovl_session *session, struct ovl_error *error, const char *call) {
        return error_set(error, -ECONNABORTED, OVL_REASON_DAEMON_GONE, "%s: %s", call, session->gone.text);
}

static int session_find_daemon(struct ovl_session *session, const char *path, struct ovl_error *error) {
        size_t len;

        if (!path)
                path = getenv("OVERLAPD_SOCKET");
        if (!path || !*path)
                path = SESSION_PATH;
        len = strlen(path);
        if (len >= sizeof(session->address.sun_path))
                return error_set(error, -ENAMETOOLONG, 0,
                                 "the path of overlapd's socket has %zu bytes, and the kernel takes at most %zu: use a "
                                 "shorter one: %s",
                                 len, sizeof(session->address.sun_path) - 1, path);
        session->address.sun_family = AF_UNIX;
        memcpy(session->address.sun_path, path, len + 1);
        return 0;
}

/* The daemon takes only UTF-8, and a program's name may be anything. */
static void session_name(char name[SESSION_NAME_SIZE], const char *program) {
        snprintf(name, SESSION_NAME_SIZE, "liboverlap %s%s%s", OVERLAPD_VERSION, program ? ", " : "",
                 program ? program : "");
        for (char *c = name; *c; c++)
                if (*c < 0x20 || *c > 0x7e)
                        *c = '?';
}

static int session_new(struct ovl_session **ret_session) {
        struct ovl_session *session = calloc(1, sizeof(*session));

        if (!session)
                return -ENOMEM;
        pthread_mutex_init(&session->lock, NULL);
        list_init(&session->conduits);
        list_init(&session->threads);
        list_init(&session->ports);
        list_init(&session->regions);
        list_init(&session->leaving);
        list_init(&session->vectors);
        list_init(&session->lookups);
        list_init(&session->big_lookups);
        list_init(&session->lookup_arenas);
        list_init(&session->waits);
        association_init(&session->associations);
        *ret_session = session;
        return 0;
}

/* Copies what the daemon grants. Returns 0, -EPROTO when no daemon grants such a thing, or -ENOMEM. */
static int session_accept(struct ovl_session *session, const Overlapd__HelloReply *reply, uint32_t level) {
        uint32_t credits = reply->credits < SESSION_CREDITS_MAX ? reply->credits : SESSION_CREDITS_MAX;

        if (reply->version < OVL_PROTOCOL_MIN || reply->version > OVL_PROTOCOL_MAX || reply->level > level ||
            !credits || reply->secret.len == 0 || reply->secret.len > sizeof(session->secret))
                return -EPROTO;
        session->engine = strdup(reply->engine);
        session->engine_reason = strdup(reply->engine_reason);
        if (!session->engine || !session->engine_reason)
                return -ENOMEM;
        memcpy(session->secret, reply->secret.data, reply->secret.len);
        session->secret_len = reply->secret.len;
        session->info = (struct ovl_session_info){
                .session = reply->session,
                .engine = session->engine,
                .engine_reason = session->engine_reason,
                .level = reply->level,
                .credits = credits,
                .regions = reply->regions,
                .region_bytes = reply->region_bytes,
                .sockets = reply->sockets,
        };
        return pending_init(&session->pending, credits);
}

/* Which level to ask for. Returns 0 or -EINVAL. */
static int session_choose_level(const struct ovl_session_options *options, uint32_t *ret_level,
                                struct ovl_error *error) {
        static const char *const levels[] = { "inline", "shared", "ring" };
        const char *level = options->level;

        if (!level)
                level = getenv("OVERLAPD_LEVEL");
        if (!level || !*level)
                level = "ring";
        for (uint32_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
                if (strcmp(level, levels[i]) == 0) {
                        *ret_level = i;
                        return 0;
                }
        }
        return error_set(error, -EINVAL, 0, "%s: the level must be inline, shared or ring, and is \"%.64s\"",
                         options->level ? "ovl_session_open" : "OVERLAPD_LEVEL", level);
}

static int session_hello(struct ovl_session *session, const struct ovl_session_options *options,
                         struct ovl_error *error) {
        Overlapd__Request request = OVERLAPD__REQUEST__INIT;
        Overlapd__Hello hello = OVERLAPD__HELLO__INIT;
        _cleanup_free_ struct message_arena *arena = NULL;
        char name[SESSION_NAME_SIZE];
        Overlapd__Reply *reply;
        uint32_t level;
        int r;

        r = session_choose_level(options, &level, error);
        if (r < 0)
                return r;
        arena = malloc(sizeof(*arena));
        if (!arena)
                return error_set(error, -ENOMEM, 0, "no memory for a session");
        message_arena_init(arena);
        session_name(name, options->name);
        hello.version_min = OVL_PROTOCOL_MIN;
        hello.version_max = OVL_PROTOCOL_MAX;
        hello.level = level;
        hello.thread = session_number(session);
        hello.tid = (uint32_t) gettid();
        hello.credits = options->credits;
        hello.client = name;
        request.what_case = OVERLAPD__REQUEST__WHAT_HELLO;
        request.hello = &hello;
        r = conduit_open(session, &request, arena, error, &session->first, &reply);
        if (r < 0)
                return r;
        session->first->number = hello.thread;
        if (reply->what_case != OVERLAPD__REPLY__WHAT_HELLO)
                return error_set(error, -EPROTO, OVL_REASON_BAD_FRAME, "overlapd's answer to the hello is no hello");
        r = session_accept(session, reply->hello, level);
        if (r == -EPROTO)
                return error_set(error, r, OVL_REASON_VERSION,
                                 "overlapd answers with version %u, level %u and %u credits, which this library cannot "
                                 "use: upgrade the older one",
                                 reply->hello->version, reply->hello->level, reply->hello->credits);
        if (r < 0)
                return error_set(error, r, 0, "no memory for %u credits", reply->hello->credits);
        return conduit_add_lane(session->first, session_slots(session), arena, error);
}

OVL_API int ovl_session_open(const struct ovl_session_options *options, struct ovl_session **ret_session,
                             struct ovl_error *ret_error) {
        static const struct ovl_session_options defaults;
        _cleanup_(ovl_session_free) struct ovl_session *session = NULL;
        int r;

        if (!options)
                options = &defaults;
        for (size_t i = 0; i < sizeof(options->reserved) / sizeof(options->reserved[0]); i++)
                if (options->reserved[i])
                        return error_set(ret_error, -EINVAL, 0, "ovl_session_open: options.reserved[%zu] is not NULL",
                                         i);
        r = session_new(&session);
        if (r < 0)
                return error_set(ret_error, r, 0, "no memory for a session");
        if (options->poll_us != OVL_POLL_NEVER)
                session->poll_ns = (options->poll_us ? options->poll_us : SESSION_POLL_US) * UINT64_C(1000);
        r = session_find_daemon(session, options->path, ret_error);
        if (r < 0)
                return r;
        r = session_hello(session, options, ret_error);
        if (r < 0)
                return r;
        session_lock(session);
        conduit_attach(session->first);
        session_unlock(session);
        *ret_session = take_ptr(session);
        return 0;
}

/* Operations that were to go to a port may have outlived their threads: they hold their events. */
static void session_release_events(struct ovl_session *session) {
        struct pending *pending;
        uint32_t index = 0;

        while ((pending = pending_next(&session->pending, &index)))
                if (pending->event)
                        event_end(pending->event, pending);
}

OVL_API struct ovl_session *ovl_session_free(struct ovl_session *session) {
        struct list *link;

        if (!session)
                return NULL;
        session_lock(session);
        session->is_gone = true;
        if (session->first)
                shutdown(session->first->fd, SHUT_RDWR);
        session->first = conduit_unref(session->first);
        session_unlock(session);
        while ((link = list_pop_front(&session->vectors)))
                vector_arena_free(list_entry(link, struct vector_arena, link));
        session_release_events(session);
        apc_table_deinit(&session->apcs);
        lookup_free_all(session);
        association_deinit(&session->associations);
        pending_deinit(&session->pending);
        pthread_mutex_destroy(&session->lock);
        free(session->engine);
        free(session->engine_reason);
        explicit_bzero(session->secret, sizeof(session->secret));
        free(session);
        return NULL;
}

OVL_API void ovl_session_info(const struct ovl_session *session, struct ovl_session_info *ret_info) {
        *ret_info = session->info;
}
