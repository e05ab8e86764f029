/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_RESOLVER_QUERY_H
#define DAEMON_RESOLVER_QUERY_H

/*
 * What the monitor asks the resolver, and what it is answered: one packet each of a SOCK_SEQPACKET pair, the only place
 * where the two meet. The resolver reads what name servers sent: the monitor checks every field of an answer.
 */

#include <stdint.h>

#include "proto/layout.h"

struct resolver_query {
        uint64_t number; /* returned in the answer */
        uint16_t port;   /* that the addresses shall have */
        uint8_t family;  /* enum ovl_family; 0: any */
        uint8_t type;    /* SOCK_*; 0: any */
        char name[OVL_RESOLVE_NAME_MAX + 1];
        char service[OVL_SERVICE_NAME_MAX + 1]; /* whose port the addresses shall have instead; empty: none */
};

struct resolver_answer {
        uint64_t number;
        int32_t status;       /* 0 or -errno */
        uint32_t reason;      /* enum ovl_reason */
        uint32_t n_addresses; /* 1 or more when the status is 0, else 0 */
        uint32_t reserved;    /* zero */
        struct ovl_address addresses[OVL_RESOLVE_ADDRESSES_MAX];
};

#define RESOLVER_THREADS 16u /* queries that are looked up at once */

#endif
