/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The service: what systemd, or another manager that speaks its protocol of notices, hears of the daemon.
 *
 * Invariant: READY=1 is said only when a worker serves, and again after each reload; WATCHDOG=1 only when a worker has
 * finished a turn since the last one. So a monitor that hangs and a crew of which nobody gets anywhere look the same to
 * the manager, which starts the service anew; one worker that hangs is the crew's to replace, before that.
 *
 *   (silent) -> ready      service_is_ready()
 *   ready -> reloading     service_reloads(), by SIGHUP
 *   reloading -> ready     service_has_reloaded(), whether or not the new settings were taken
 *   ready -> stopping      service_stops()
 *
 * MONOTONIC_USEC goes with RELOADING=1: units of Type=notify-reload (systemd 253) ask for it, others pass over it.
 *
 * Rejected: sd_event_set_watchdog(), which says that the monitor lives while every worker may hang.
 */

#include "daemon/monitor/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/time.h"

void service_init(struct service *service) {
        uint64_t watchdog_us = 0;

        *service = (struct service){ .is_there = getenv("NOTIFY_SOCKET") };
        service->has_watchdog = service->is_there && sd_watchdog_enabled(0, &watchdog_us) > 0;
        if (service->has_watchdog)
                service->period_us = watchdog_us / SERVICE_PULSES_PER_WATCHDOG;
        else if (service->is_there)
                service->period_us = SERVICE_PERIOD_US;
}

/* Keeps the line, and gives it with what is wrong. */
static void service_note(struct service *service, const char *status, const char *before) {
        snprintf(service->status, sizeof(service->status), "%s", status);
        sd_notifyf(0, "%sSTATUS=%s%s%s", before, status, service->complaint[0] != '\0' ? "; " : "", service->complaint);
}

void service_is_ready(struct service *service, const char *status) {
        service_note(service, status, "READY=1\n");
}

void service_reloads(const struct service *service) {
        sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Reloading", (unsigned long long) (now_ns() / 1000));
}

void service_has_reloaded(struct service *service, const char *complaint) {
        char status[SERVICE_STATUS_SIZE];

        snprintf(service->complaint, sizeof(service->complaint), "%s", complaint ? complaint : "");
        /* A line of status is one line. */
        service->complaint[strcspn(service->complaint, "\n")] = '\0';
        strcpy(status, service->status);
        service_note(service, status, "READY=1\n");
}

void service_stops(const struct service *service, const char *why) {
        sd_notifyf(0, "STOPPING=1\nSTATUS=Stopping: %s", why);
}

void service_tell(struct service *service, const char *status) {
        if (service->is_there && strcmp(service->status, status) != 0)
                service_note(service, status, "");
}

void service_feed(struct service *service, uint64_t n_pulses) {
        if (!service->has_watchdog || n_pulses == service->n_pulses)
                return;
        service->n_pulses = n_pulses;
        sd_notify(0, "WATCHDOG=1");
}
