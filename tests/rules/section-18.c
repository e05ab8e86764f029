/* SPDX-License-Identifier: Apache-2.0 */

/* Section 18 of docs/SEMANTICS.md: handles of threads, and what is queued to them. */

#include "tests/rules/section.h"

#include <sys/wait.h>

#define SECTION_18_FUNCTION 5u
#define SECTION_18_OPERATIONS 10u

static struct {
        unsigned n;
        uint64_t argument;
        pid_t tid;
        pid_t pid;
} section_18_seen;

static void section_18_see(struct ovl_thread *thread, uint64_t argument) {
        section_18_seen.n++;
        section_18_seen.argument = argument;
        section_18_seen.tid = gettid();
        section_18_seen.pid = getpid();
}

static void section_18_start(struct section *section) {
        section_start(section);
        assert_ok(ovl_function_register(section->client.thread, SECTION_18_FUNCTION, section_18_see));
}

static int section_18_queue(struct section *section, const struct ovl_thread_handle *handle, uint64_t argument) {
        return ovl_apc_queue_remote(section->client.thread, handle, SECTION_18_FUNCTION, argument);
}

/* A call has copied what it was given when it returns: the program may do with its handle what it likes. */
static void section_18_handles_are_copied(void **state) {
        struct ovl_thread *first, *second;
        struct ovl_thread_handle handle, copy;
        struct ovl_session_info info;
        struct section section;

        section_18_start(&section);
        first = section.client.thread;
        ovl_session_info(section.client.session, &info);
        assert_ok(ovl_thread_handle_open(first, &handle));
        copy = handle;
        assert_ok(ovl_thread_handle_give(first, &handle, info.session));
        assert_ok(section_18_queue(&section, &handle, 1));
        memset(&handle, 0x5a, sizeof(handle));
        assert_int_equal(ovl_sleep(first, client_patience()), OVL_ALERTED);
        assert_int_equal(section_18_seen.n, 1);
        /* The library closes the handle with its thread, from its own copy. */
        assert_ok(ovl_thread_open(section.client.session, &second, NULL));
        ovl_thread_close(first);
        section.client.thread = second;
        assert_int_equal(section_18_queue(&section, &copy, 2), -EBADF);
        assert_int_equal(section_18_queue(&section, &handle, 2), -EBADF);
        section_stop(&section);
}

static void section_18_queueing_runs_nothing(void **state) {
        struct ovl_thread_handle handle, garbage;
        struct section section;

        section_18_start(&section);
        assert_ok(ovl_thread_handle_open(section.client.thread, &handle));
        garbage = handle;
        garbage.bytes[7] ^= 1;
        assert_int_equal(section_18_queue(&section, &garbage, 1), -EBADF);
        assert_ok(section_18_queue(&section, &handle, UINT64_C(0xfedcba9876543210)));
        assert_int_equal(section_18_seen.n, 0);
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section_18_seen.n, 1);
        assert_true(section_18_seen.argument == UINT64_C(0xfedcba9876543210));
        assert_int_equal(ovl_sleep(section.client.thread, SECTION_NOTHING), 0);
        section_stop(&section);
}

/* Another process, which learns the handle over a pipe. */
static void section_18_other_process(const struct section *section, int in, int out) {
        struct client client = { .estate = section->client.estate };
        struct ovl_session_info info;
        struct ovl_thread_handle handle;

        client_open(&client, 0);
        ovl_session_info(client.session, &info);
        assert_int_equal(write(out, &info.session, sizeof(info.session)), sizeof(info.session));
        assert_int_equal(read(in, &handle, sizeof(handle)), sizeof(handle));
        assert_ok(ovl_apc_queue_remote(client.thread, &handle, SECTION_18_FUNCTION, 77));
        client_close(&client);
}

static void section_18_any_process_may_queue(void **state) {
        int to_child[2], to_parent[2], status;
        struct ovl_thread_handle handle;
        struct section section;
        uint64_t session;
        pid_t child;

        section_18_start(&section);
        assert_int_equal(pipe(to_child) + pipe(to_parent), 0);
        child = fork();
        if (child == 0) {
                section_18_other_process(&section, to_child[0], to_parent[1]);
                _exit(0);
        }
        close(to_child[0]);
        close(to_parent[1]);
        assert_ok(ovl_thread_handle_open(section.client.thread, &handle));
        assert_int_equal(read(to_parent[0], &session, sizeof(session)), sizeof(session));
        assert_ok(ovl_thread_handle_give(section.client.thread, &handle, session));
        assert_int_equal(write(to_child[1], &handle, sizeof(handle)), sizeof(handle));
        assert_int_equal(ovl_sleep(section.client.thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section_18_seen.n, 1);
        assert_int_equal(section_18_seen.argument, 77);
        assert_int_equal(section_18_seen.tid, gettid());
        assert_int_equal(section_18_seen.pid, getpid());
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        close(to_child[1]);
        close(to_parent[0]);
        section_stop(&section);
}

struct section_18_worker {
        struct section *section;
        struct ovl_thread_handle handle;
        pid_t tid;
};

/* A worker opens a handle of itself, queues to it, runs it, and closes it. */
static void *section_18_work(void *data) {
        struct section_18_worker *worker = data;
        struct ovl_thread *thread;

        worker->tid = gettid();
        assert_ok(ovl_thread_open(worker->section->client.session, &thread, NULL));
        assert_ok(ovl_thread_handle_open(thread, &worker->handle));
        assert_ok(ovl_apc_queue_remote(thread, &worker->handle, SECTION_18_FUNCTION, 1));
        assert_int_equal(section_18_seen.n, 0);
        assert_int_equal(ovl_sleep(thread, client_patience()), OVL_ALERTED);
        assert_int_equal(section_18_seen.n, 1);
        assert_int_equal(section_18_seen.tid, worker->tid);
        assert_ok(ovl_thread_handle_close(thread, &worker->handle));
        assert_int_equal(ovl_apc_queue_remote(thread, &worker->handle, SECTION_18_FUNCTION, 2), -EBADF);
        assert_int_equal(ovl_thread_handle_close(thread, &worker->handle), -EBADF);
        assert_int_equal(ovl_sleep(thread, SECTION_NOTHING), 0);
        /* Another one ends with its thread. */
        assert_ok(ovl_thread_handle_open(thread, &worker->handle));
        ovl_thread_close(thread);
        return NULL;
}

static bool section_18_has_ended(void *data) {
        struct section_18_worker *worker = data;

        return section_18_queue(worker->section, &worker->handle, 3) == -ESRCH;
}

static void section_18_workers_open_and_close(void **state) {
        struct section_18_worker worker;
        struct section section;
        pthread_t other;

        section_18_start(&section);
        worker.section = &section;
        assert_int_equal(pthread_create(&other, NULL, section_18_work, &worker), 0);
        pthread_join(other, NULL);
        assert_true(harness_wait(section_18_has_ended, &worker, harness_deadline(10)));
        assert_non_null(strstr(ovl_thread_error(section.client.thread)->text, "has ended"));
        assert_int_equal(section_18_seen.n, 1);
        section_stop(&section);
}

static void section_18_never(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        fail_msg("a routine ran although its thread was closed");
}

/* With ten pending operations: each ends as aborted, and those with an event have it set. */
static void section_18_ends_are_whole(void **state) {
        struct ovl_overlapped receiving[SECTION_18_OPERATIONS] = { 0 };
        struct ovl_event *events[SECTION_18_OPERATIONS];
        struct ovl_thread *thread;
        struct section section;

        section_start(&section);
        assert_ok(ovl_thread_open(section.client.session, &thread, NULL));
        for (unsigned i = 0; i < SECTION_18_OPERATIONS; i++) {
                struct ovl_buffer buffer = { section.client.memory + 10 * i, 10 };

                assert_ok(ovl_event_open(section.client.session, OVL_EVENT_MANUAL, &events[i]));
                receiving[i].event = events[i];
                assert_int_equal(
                        ovl_recv(thread, section.socket, &buffer, 1, 0, &receiving[i], i % 2 ? section_18_never : NULL),
                        OVL_PENDING);
        }
        ovl_thread_close(thread);
        for (unsigned i = 0; i < SECTION_18_OPERATIONS; i++) {
                assert_int_equal(ovl_result(&receiving[i]), -ECANCELED);
                assert_int_equal(ovl_event_poll(events[i], NULL), i % 2 == 0);
                ovl_event_close(events[i]);
        }
        /* The socket is whole, and nothing that comes later reaches those operations. */
        receiving[0].event = NULL;
        peer_write(section.fd, "five!", 5);
        assert_int_equal(section_recv(&section, 20, 0, &receiving[0], NULL), OVL_PENDING);
        client_expect(&section.client, &receiving[0], 0, 5);
        section_stop(&section);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "18.1 what a call was given it has copied", section_18_handles_are_copied },
                { "18.2 queueing only queues", section_18_queueing_runs_nothing },
                { "18.3 any process may queue, and the thread runs it", section_18_any_process_may_queue },
                { "18.4 workers open and close handles of themselves", section_18_workers_open_and_close },
                { "18.7 all that is pending ends with its thread", section_18_ends_are_whole },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
