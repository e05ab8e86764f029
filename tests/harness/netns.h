/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_HARNESS_NETNS_H
#define TESTS_HARNESS_NETNS_H

/*
 * A network of the case's own, whose addresses and routes it may change. Daemons that it starts are in it. Calls
 * assert, and have taken effect when they return.
 */

#include <stdbool.h>

/* Moves the case, which has no other thread, into a new network that has nothing but loopback. Skips it otherwise. */
void netns_enter(void);

/* The same where that is allowed. Returns whether it was. */
bool netns_try_enter(void);

/* Adds an address as one writes it to loopback, or prolongs it, or takes it away. */
void netns_add_address(const char *address);
void netns_remove_address(const char *address);

/* The same with a route to this one IPv4 address, through loopback. */
void netns_add_route(const char *to);
void netns_remove_route(const char *to);

/* Whether the network has IPv6. */
bool netns_has_ipv6(void);

#endif
