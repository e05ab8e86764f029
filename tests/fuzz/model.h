/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_MODEL_H
#define TESTS_FUZZ_MODEL_H

/* What overlapd-policy(5) says, as simply as it can be done: one rule after the other. */

#include "daemon/monitor/policy.h"

/* The rule that decides, or NULL. */
const struct policy_rule *model_decide(const struct policy *policy, const struct policy_subject *subject,
                                       const struct ruling_facts *facts, const struct ruling_question *question);

#endif
