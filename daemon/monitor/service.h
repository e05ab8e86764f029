/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_SERVICE_H
#define DAEMON_MONITOR_SERVICE_H

/* What the service manager hears of the daemon: readiness, reloads, a line of status, and that it lives. */

#include <stdbool.h>
#include <stdint.h>

#define SERVICE_STATUS_SIZE 768
/* A worker that hangs is killed after two or three of these, and leaves its successor time to be heard. */
#define SERVICE_PULSES_PER_WATCHDOG 5u
#define SERVICE_PERIOD_US UINT64_C(5000000) /* between two lines of status where there is no watchdog */

struct service {
        bool is_there;       /* a service manager waits to hear of us */
        bool has_watchdog;   /* and ends us when it does not */
        uint64_t period_us;  /* how often the workers are asked whether they live; 0: never */
        uint64_t n_pulses;   /* signs of life that it was told of */
        char complaint[256]; /* what is wrong although the daemon serves; empty: nothing */
        char status[SERVICE_STATUS_SIZE];
};

void service_init(struct service *service);

/* Says that the daemon serves, with a first line of status. */
void service_is_ready(struct service *service, const char *status);

/* Says that a reload begins. service_has_reloaded() must follow. */
void service_reloads(const struct service *service);

/* Says that the reload is over. complaint: what was wrong with it, shown in the status from here on, or NULL. */
void service_has_reloaded(struct service *service, const char *complaint);

/* Says that the daemon ends, and why. */
void service_stops(const struct service *service, const char *why);

/* Tells a line of status, unless it is the one that was told last. */
void service_tell(struct service *service, const char *status);

/* Feeds the watchdog when workers have given signs of life since it was fed last. n_pulses: all of them so far. */
void service_feed(struct service *service, uint64_t n_pulses);

#endif
