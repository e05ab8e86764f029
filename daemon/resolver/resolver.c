/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The C library resolves names by whatever the machine is set up for: files, name servers, modules of other people.
 * That takes as long as it takes, and runs code that nobody here has read: so it happens in a process of its own, which
 * holds no socket of anybody and may be killed at any time.
 *
 * Each of its threads takes a query, looks it up and answers it; the socket deals the queries out. More queries than
 * threads are never sent. Nothing is kept between two queries.
 *
 * Rejected: a resolver of our own on the engine (it would know name servers and nothing of the machine's other
 * sources), and getaddrinfo_a() (its threads cannot be told from each other, and a signal or a thread tells the end).
 */

#include "daemon/resolver/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/resolver/query.h"
#include "proto/address.h"

#define RESOLVER_STACK_SIZE (512u << 10)

static void cleanup_addrinfo(struct addrinfo **info) {
        if (*info)
                freeaddrinfo(*info);
}

/* What the library's own errors are called in a record. */
static void resolver_explain(int error, struct resolver_answer *answer) {
        switch (error) {
        case EAI_NONAME:
        case EAI_NODATA:
        case EAI_ADDRFAMILY:
                answer->status = -ENOENT;
                answer->reason = OVL_REASON_NAME_NOT_FOUND;
                break;
        case EAI_AGAIN:
        case EAI_MEMORY:
                answer->status = -EAGAIN;
                answer->reason = OVL_REASON_NAME_TRY_AGAIN;
                break;
        case EAI_SERVICE:
                answer->status = -ENOENT;
                answer->reason = OVL_REASON_UNKNOWN_SERVICE;
                break;
        default:
                answer->status = -EIO;
                answer->reason = OVL_REASON_NAME_FAILED;
        }
}

static void resolver_collect(const struct addrinfo *info, const struct resolver_query *query,
                             struct resolver_answer *answer) {
        for (; info && answer->n_addresses < OVL_RESOLVE_ADDRESSES_MAX; info = info->ai_next) {
                struct ovl_address *address = &answer->addresses[answer->n_addresses];

                if (address_from_kernel(info->ai_addr, info->ai_addrlen, address) < 0)
                        continue;
                if (query->service[0] == '\0')
                        address->port = query->port;
                if (address->port == 0 && query->service[0] != '\0')
                        continue;
                answer->n_addresses++;
        }
        if (answer->n_addresses == 0)
                resolver_explain(EAI_NONAME, answer);
}

static int resolver_ask_library(const struct resolver_query *query, const char *name, struct addrinfo **ret_info) {
        struct addrinfo hints = {
                .ai_family = query->family,
                .ai_socktype = query->type ? query->type : SOCK_STREAM, /* without one, each address comes thrice */
        };

        return getaddrinfo(name, query->service[0] != '\0' ? query->service : NULL, &hints, ret_info);
}

#ifdef OVL_TEST_HOOKS
/* Adds what a line of the file says to what earlier ones have said: the addresses of a name stand in lines of their
 * own.
 */
static int resolver_add_planted(const struct resolver_query *query, const char *what, struct addrinfo **info) {
        int error;

        while (strcmp(what, "!hang") == 0)
                pause();
        if (what[0] == '!')
                return strcmp(what, "!again") == 0 ? EAI_AGAIN : EAI_FAIL;
        while (*info)
                info = &(*info)->ai_next;
        error = resolver_ask_library(query, what, info);
        if (error != 0)
                *info = NULL;
        return error;
}

/*
 * Test builds: a file of lines "NAME ADDRESS" or "NAME !hang", "NAME !again", "NAME !failed" in OVL_TEST_HOSTS stands
 * for the machine's name servers. Returns whether it knows the name; the error is then that of getaddrinfo(3), unless
 * some line has an address of the family.
 */
static bool resolver_ask_planted(const struct resolver_query *query, int *ret_error, struct addrinfo **ret_info) {
        const char *path = getenv("OVL_TEST_HOSTS");
        FILE *file = path ? fopen(path, "re") : NULL;
        char name[OVL_RESOLVE_NAME_MAX + 1], what[64];
        struct addrinfo *info = NULL;
        bool is_known = false;

        if (!file)
                return false;
        while (fscanf(file, "%253s %63s", name, what) == 2) {
                if (strcmp(name, query->name) != 0)
                        continue;
                is_known = true;
                *ret_error = resolver_add_planted(query, what, &info);
        }
        fclose(file);
        if (info)
                *ret_error = 0;
        *ret_info = info;
        return is_known;
}
#else
static bool resolver_ask_planted(const struct resolver_query *query, int *ret_error, struct addrinfo **ret_info) {
        return false;
}
#endif

static void resolver_look_up(const struct resolver_query *query, struct resolver_answer *answer) {
        cleanup(cleanup_addrinfo) struct addrinfo *info = NULL;
        int error;

        *answer = (struct resolver_answer){ .number = query->number };
        if (!resolver_ask_planted(query, &error, &info))
                error = resolver_ask_library(query, query->name, &info);
        if (error == 0)
                resolver_collect(info, query, answer);
        else
                resolver_explain(error, answer);
}

static void *resolver_serve(void *argument) {
        int fd = *(const int *) argument;
        struct resolver_answer answer;
        struct resolver_query query;
        ssize_t n;

        for (;;) {
                n = recv(fd, &query, sizeof(query), 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n != sizeof(query))
                        break;
                query.name[sizeof(query.name) - 1] = '\0';
                query.service[sizeof(query.service) - 1] = '\0';
                resolver_look_up(&query, &answer);
                if (send(fd, &answer, sizeof(answer), MSG_NOSIGNAL) < 0)
                        break;
        }
        /* The monitor is gone: a thread that hangs in a lookup is no reason to stay. */
        _exit(0);
}

int resolver_run(int take_fd) {
        pthread_attr_t attributes;
        pthread_t thread;
        int r;

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                return 1;
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, RESOLVER_STACK_SIZE);
        for (unsigned i = 1; i < RESOLVER_THREADS; i++) {
                r = pthread_create(&thread, &attributes, resolver_serve, &take_fd);
                if (r != 0)
                        return 1;
        }
        resolver_serve(&take_fd);
        return 0;
}
