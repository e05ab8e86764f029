/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_SESSION_H
#define CLIENT_SESSION_H

/* A session: what all threads of the program share. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "client/c/apc.h"
#include "client/c/association.h"
#include "client/c/overlap.h"
#include "client/c/pending.h"

struct conduit;

#define SESSION_SECRET_SIZE 64u /* bytes of a secret that the library can keep; version 1 has 16 */

struct ovl_session {
        /* Constant once the session is open. */
        struct sockaddr_un address; /* of the daemon */
        struct ovl_session_info info;
        char *engine;
        char *engine_reason;
        uint8_t secret[SESSION_SECRET_SIZE];
        size_t secret_len;
        uint64_t poll_ns;      /* how long to look for records before sleeping, while it pays; 0: never */
        struct conduit *first; /* opened the session; lives as long as it */

        /* Guards everything below, and what threads, ports, regions and conduits say it guards. Never held in poll. */
        pthread_mutex_t lock;
        bool is_gone;            /* the daemon was lost, or is not to be trusted */
        struct ovl_error gone;   /* why */
        uint64_t n_numbers;      /* numbers of threads and ports that were given out */
        uint64_t n_waits;        /* waits ever begun: their order */
        struct list conduits;    /* struct conduit: those included that are being opened */
        struct list threads;     /* struct ovl_thread */
        struct list ports;       /* struct ovl_port */
        uint32_t n_regions;      /* level 0: ever made */
        struct list regions;     /* struct ovl_region: where buffers may lie */
        struct list leaving;     /* struct ovl_region: level 0: where no further buffer may lie */
        struct list vectors;     /* struct vector_arena. Owned */
        struct list lookups;     /* struct lookup: those that are free */
        struct list big_lookups; /* likewise, for long answers */
        struct list lookup_arenas;
        struct list waits; /* struct wait: threads that wait now, the latest first */
        struct pending_table pending;
        struct association_table associations;
        struct apc_table apcs;
};

static inline void session_lock(struct ovl_session *session) {
        pthread_mutex_lock(&session->lock);
}

static inline void session_unlock(struct ovl_session *session) {
        pthread_mutex_unlock(&session->lock);
}

/* How many slots the lane of a thread has at least. */
uint32_t session_slots(const struct ovl_session *session);

/* Gives a number to a thread or port. Under the lock. */
uint64_t session_number(struct ovl_session *session);

/*
 * The daemon is gone or lies: every connection is shut, every pending operation ends with -ECONNABORTED and is
 * indicated, every wait returns. Only the first call has an effect. Under the lock.
 *
 * by:   who found out, and need not be woken; NULL: not known.
 * text: why, for a person.
 */
void session_abort(struct ovl_session *session, struct ovl_thread *by, const char *text);

/* Describes why the session is gone. Returns -ECONNABORTED. Under the lock. */
int session_gone(const struct ovl_session *session, struct ovl_error *error, const char *call);

DEFINE_CLEANUP(struct ovl_session *, ovl_session_free)

#endif
