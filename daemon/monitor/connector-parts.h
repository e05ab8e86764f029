/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_CONNECTOR_PARTS_H
#define DAEMON_MONITOR_CONNECTOR_PARTS_H

/*
 * What the files of the connector have in common. Part of the module connector, and of nobody else: connector.c answers
 * what ends at once, connector-connect.c has the life of a connect, connector-name.c leads one through the addresses of
 * a name.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "daemon/monitor/connector.h"
#include "proto/address.h"

struct connector_name;

/* What a descriptor is that a worker sent. */
struct connector_kind {
        int family;
        int type;
};

/* How a request ended. */
struct connector_result {
        int status;
        uint32_t reason;
        bool is_about_rule; /* the policy refused it */
        char text[LINK_TEXT_SIZE];
};

struct connector_connect {
        struct list link;
        struct connector *connector;    /* borrowed */
        struct connector_client client; /* its rulings are held, and its unit and cgroup with them */
        struct connector_kind kind;
        uint64_t ticket;
        struct ovl_address address; /* of the present attempt */
        sd_event_source *source;    /* likewise */
        uint64_t pause_ns;          /* likewise: since it was tried last; 0: it was tried once */
        int fd;
        int flags;                   /* of the open file, as they were */
        struct connector_name *name; /* owned: whose addresses are tried; NULL: there is just the one */
};

/* --- Results ---------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 4, 5))) void connector_set(struct connector_result *result, int status, uint32_t reason,
                                                         const char *format, ...);
void connector_explain_connect(int status, const struct ovl_address *address, struct connector_result *result);

/* An address as journal and clients are told it: IPv4 that is written as IPv6 as what it is. Returns the text. */
const char *connector_format(const struct ovl_address *address, char text[ADDRESS_TEXT_SIZE]);

/* take_fd: rides with the answer. Taken on success. */
int connector_answer(struct connector *connector, uint64_t ticket, const struct connector_result *result, int take_fd);

/* Tells the journal of a request that failed; others are not told here. address: that it was about; NULL: none. */
void connector_log(struct connector *connector, const struct connector_client *client,
                   const struct ovl_address *address, const char *name, const struct connector_result *result);

/* What a client has reached, or let in: the lines by which somebody finds out later who it was. name: NULL: none. */
void connector_tell(struct connector *connector, const struct connector_client *client, const char *message_id,
                    const struct connector_kind *kind, const struct ovl_address *address, const char *name);

/* --- Checks ----------------------------------------------------------------------------------------------------- */

/* name: for which the address was found just now; NULL: the client gave it. Returns whether it is allowed. */
bool connector_asks_policy(struct connector *connector, enum ruling_act act, int type,
                           const struct connector_client *client, const struct ovl_address *address, const char *name,
                           struct connector_result *result);

/* Gives the kernel's form of an address that belongs to this family of sockets. */
int connector_check_address(const struct ovl_address *address, int family, struct sockaddr_storage *ret_kernel,
                            socklen_t *ret_len, struct connector_result *result);

/* --- Connects --------------------------------------------------------------------------------------------------- */

/* Carries out a LINK_CONNECT. Returns 0, or -errno when the answer could not be given; so do the next three. */
int connector_connect(struct connector *connector, const struct link_message *message, int fd,
                      const struct connector_kind *kind, const struct connector_client *client);
int connector_cancel(struct connector *connector, uint64_t ticket);

/* Answers, and frees the connect. */
int connector_finish(struct connector_connect *take_connect, const struct connector_result *result);

/* Carries out a LINK_CONNECT_NAME, whose fields were checked. */
int connector_connect_name(struct connector *connector, const struct link_message *message, int fd,
                           const struct connector_kind *kind, const struct connector_client *client);

struct connector_connect *connector_find(struct connector *connector, uint64_t ticket);
struct connector_connect *connector_connect_free(struct connector_connect *connect);
DEFINE_CLEANUP(struct connector_connect *, connector_connect_free)

/*
 * A connect that was not started; it counts from here on.
 *
 * Returns 0, or -errno and how it ended: -ENOBUFS when too many are in progress, or the user's share of them is.
 */
int connector_connect_new(struct connector *connector, const struct link_message *message, int fd,
                          const struct connector_kind *kind, const struct connector_client *client,
                          struct connector_connect **ret_connect, struct connector_result *result);

/* Tries connect->address, in the kernel's form. Returns 1 when that goes on, else 0 and how it ended. */
int connector_start(struct connector_connect *connect, const struct sockaddr_storage *kernel, socklen_t len,
                    struct connector_result *result);

/*
 * Asks the kernel what came of the attempt.
 *
 * Returns 0 when it still goes on, else 1: it has ended, and either the connect was answered and is gone, or the next
 * address is tried.
 */
int connector_collect(struct connector_connect *connect);

/* Has the kernel forget the attempt: the socket is as before. */
void connector_forget(struct connector_connect *connect);

/* --- Names ------------------------------------------------------------------------------------------------------ */

struct connector_name *connector_name_free(struct connector_name *name);

/* The name that was asked for; NULL: there is none, or it is an address. */
const char *connector_name_text(const struct connector_name *name);

/* An attempt has ended. Returns 0, or -errno when the answer could not be given. The connect may be gone. */
int connector_name_go_on(struct connector_connect *connect, const struct connector_result *result);

/* Whether no attempt is made yet: the name is looked up. */
bool connector_name_is_looking(const struct connector_name *name);

#endif
