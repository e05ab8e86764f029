/* SPDX-License-Identifier: Apache-2.0 */
/* overlap-status: asks the daemon how it is and prints one `name value` line for each figure. */
#include <inttypes.h>
#include <overlap.h>
#include <stdio.h>
#include <stdlib.h>

static void status_print(const struct ovl_session_info *info, const struct ovl_status *status) {
        printf("engine %s\n", info->engine);
        printf("engine_reason %s\n", info->engine_reason);
        printf("worker_pid %" PRIu32 "\n", status->worker_pid);
        printf("sessions %" PRIu32 "\n", status->sessions);
        printf("sockets %" PRIu32 "\n", status->sockets);
        printf("ops_in_flight %" PRIu32 "\n", status->ops_in_flight);
        printf("turns %" PRIu64 "\n", status->turns);
        printf("wakeups %" PRIu64 "\n", status->wakeups);
        printf("system_calls %" PRIu64 "\n", status->system_calls);
        printf("entries %" PRIu64 "\n", status->entries);
        printf("records %" PRIu64 "\n", status->records);
        printf("bytes_received %" PRIu64 "\n", status->bytes_received);
        printf("bytes_sent %" PRIu64 "\n", status->bytes_sent);
        printf("merged_ops %" PRIu64 "\n", status->merged_ops);
}

int main(void) {
        static const struct ovl_session_options options = { .name = "overlap-status" };
        struct ovl_session *session = NULL;
        struct ovl_thread *thread = NULL;
        struct ovl_session_info info;
        struct ovl_status status;
        struct ovl_error error;
        int r;

        r = ovl_session_open(&options, &session, &error);
        if (r >= 0)
                r = ovl_thread_open(session, &thread, &error);
        if (r >= 0) {
                ovl_session_info(session, &info);
                r = ovl_status(thread, &status);
                if (r >= 0)
                        status_print(&info, &status);
                else
                        error = *ovl_thread_error(thread);
        }
        ovl_thread_close(thread);
        ovl_session_free(session);
        if (r < 0)
                fprintf(stderr, "overlap-status: %s\n", error.text);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
