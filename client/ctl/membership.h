/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_MEMBERSHIP_H
#define CLIENT_CTL_MEMBERSHIP_H

/* Whether this process, or its user after the next login, is in a group. */

#include <stddef.h>
#include <sys/types.h>

#define MEMBERSHIP_NAME_SIZE 64

enum membership {
        MEMBERSHIP_NONE,
        MEMBERSHIP_LATER, /* the user was put into the group after this process's login */
        MEMBERSHIP_NOW,
};

enum membership membership_of(gid_t group);

/* The name of a user or group, or its number where it has no name. Return `to`. */
char *membership_user_name(uid_t user, char to[MEMBERSHIP_NAME_SIZE]);
char *membership_group_name(gid_t group, char to[MEMBERSHIP_NAME_SIZE]);

#endif
