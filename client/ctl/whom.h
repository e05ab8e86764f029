/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CTL_WHOM_H
#define CLIENT_CTL_WHOM_H

/* Whom a question is about, as options name them: the same words mean the same in each verb. */

#include <sys/types.h>

#define WHOM_UNIT_SIZE 256u /* as the service manager limits them */

/*
 * Reads a user: a name, or a number, which need not have a name.
 *
 * verb: that complains. Borrowed.
 *
 * Returns 0, or CTL_USAGE after the complaint.
 */
int whom_take_user(const char *verb, const char *value, uid_t *ret_uid);

/*
 * Reads a unit. A name without the ending of a kind of unit is that of a service, as systemctl(1) has it.
 *
 * Returns 0, or CTL_USAGE after the complaint.
 */
int whom_take_unit(const char *verb, const char *value, char ret_unit[WHOM_UNIT_SIZE]);

#endif
