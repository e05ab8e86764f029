/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_KILLPOINT_H
#define BASE_KILLPOINT_H

/*
 * A kill point marks a place where the death of the process must do no harm. In test builds the process kills itself at
 * the n-th passage of the point that OVL_TEST_KILLPOINT=LABEL:N names; in release builds nothing is left of it.
 */

#ifdef OVL_TEST_HOOKS
void killpoint_pass(const char *label);
#define KILLPOINT(label) killpoint_pass(label)
#else
#define KILLPOINT(label) ((void) 0)
#endif

#endif
