/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_WORKER_UNBUFFERED_H
#define DAEMON_WORKER_UNBUFFERED_H

/* A socket whose receive buffer has no bytes: part of the module socket, and of who sets its options. */

#include <stdbool.h>

#include "daemon/worker/socket.h"

/* The buffer is to have no bytes, or is an ordinary one again. Returns 0 or -errno. */
int unbuffered_set(struct socket *socket, bool is_unbuffered);

/* The first receive is about to be posted: what comes from here on is kept, and what came before is not. */
void unbuffered_listen(struct socket *socket);

/* No receive is posted any more: what comes from here on is lost. */
void unbuffered_ignore(struct socket *socket);

#endif
