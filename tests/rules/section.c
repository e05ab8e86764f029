/* SPDX-License-Identifier: Apache-2.0 */

/* A case runs in a process of its own, so that its section can be found by an APC, which has a number for argument. */

#include "tests/rules/section.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

static struct section *section_current;

void section_start(struct section *section) {
        *section = (struct section){ .poster = pthread_self() };
        section_current = section;
        client_start(&section->client);
        section->socket = client_pair(&section->client, AF_INET, &section->fd);
}

void section_stop(struct section *section) {
        close(section->fd);
        client_stop(&section->client);
}

int section_recv(struct section *section, size_t place, unsigned flags, struct ovl_overlapped *overlapped,
                 void (*routine)(struct ovl_thread *, struct ovl_overlapped *)) {
        struct ovl_buffer buffer = { section->client.memory + place * 10, 10 };

        overlapped->user = section;
        return ovl_recv(section->client.thread, section->socket, &buffer, 1, flags, overlapped, routine);
}

int section_recv_sync(struct section *section, size_t place, unsigned flags) {
        struct ovl_buffer buffer = { section->client.memory + place * 10, 10 };

        return ovl_recv(section->client.thread, section->socket, &buffer, 1, flags, NULL, NULL);
}

void section_bring(struct section *section, const char *bytes) {
        struct ovl_overlapped polling = { 0 };

        peer_write(section->fd, bytes, strlen(bytes));
        assert_ok(ovl_poll(section->client.thread, section->socket, POLLIN, OVL_QUIET, &polling, NULL));
        assert_int_equal(client_await(&section->client, &polling), 0);
}

void section_count(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct section *section = overlapped->user;

        assert_true(pthread_equal(pthread_self(), section->poster));
        section->n_ran++;
}

void section_apc(struct ovl_thread *thread, uint64_t argument) {
        section_current->order[section_current->n_ran++] = (unsigned) argument;
}

void section_apc_write(struct ovl_thread *thread, uint64_t argument) {
        section_apc(thread, argument);
        peer_write(section_current->fd, "0123456789abcdefghij", argument);
}

/* No descriptor announces that a thread is in the kernel. */
static bool section_is_asleep(void *data) {
        const pid_t *tid = data;
        char path[64], line[64] = "";
        FILE *file;

        snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int) *tid);
        file = fopen(path, "re");
        if (!file)
                harness_skip("the kernel does not show in which system call a thread is");
        if (!fgets(line, sizeof(line), file))
                line[0] = '\0';
        fclose(file);
        return atoi(line) == SYS_ppoll;
}

void section_await_asleep(pid_t tid) {
        assert_true(harness_wait(section_is_asleep, &tid, harness_deadline(20)));
}
