/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The worker as an attacker would have it: taken over. A running worker is stopped where it sleeps in the kernel, made
 * to execute one system call of the attacker's choice, and watched. What is not on the list of its filter must kill it,
 * with its successor in place; what the filter lets pass to the ring must be refused there.
 *
 * The call is made with the instruction in which the worker sleeps: registers are set, one step is taken, and either
 * the result is read or the process is gone. So the filter is the real one, on the real process.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"
#include "tests/system/estate.h"
#include "tests/system/raw.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define CAPTIVE_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CAPTIVE_SANITIZED 1
#endif
#ifndef CAPTIVE_SANITIZED
#define CAPTIVE_SANITIZED 0
#endif
#ifdef OVL_TEST_HOOKS
#define CAPTIVE_HOOKS 1
#else
#define CAPTIVE_HOOKS 0
#endif

#ifdef __x86_64__

struct captive {
        pid_t pid;
        struct user_regs_struct saved;
};

enum captive_engine {
        CAPTIVE_ON_ANY,
        CAPTIVE_ON_URING,
        CAPTIVE_ON_EPOLL,
};

/* A call and its arguments. */
struct captive_call {
        const char *name;
        long number;
        long arguments[6];
        bool is_for_sanitizers;     /* builds with sanitizers have to let it pass */
        bool is_for_hooks;          /* and builds with test hooks this */
        enum captive_engine engine; /* a worker on another may perform it */
};

static enum captive_engine captive_engine(void) {
        return strcmp(getenv("OVL_TEST_ENGINE"), "epoll") == 0 ? CAPTIVE_ON_EPOLL : CAPTIVE_ON_URING;
}

static void captive_wait_stop(struct captive *captive) {
        int status;

        assert_int_equal(waitpid(captive->pid, &status, __WALL), captive->pid);
        if (!WIFSTOPPED(status))
                fail_msg("the worker ended with wait status 0x%x", status);
}

/* Whether the captive stands behind a system call; if not, it was awake: it goes on, and is stopped again. */
static bool captive_is_asleep(void *data) {
        struct captive *captive = data;
        long word;

        assert_int_equal(ptrace(PTRACE_INTERRUPT, captive->pid, 0, 0), 0);
        captive_wait_stop(captive);
        assert_int_equal(ptrace(PTRACE_GETREGS, captive->pid, 0, &captive->saved), 0);
        errno = 0;
        word = ptrace(PTRACE_PEEKTEXT, captive->pid, captive->saved.rip - 2, 0);
        assert_int_equal(errno, 0);
        if ((word & 0xffff) == 0x050f)
                return true;
        assert_int_equal(ptrace(PTRACE_CONT, captive->pid, 0, 0), 0);
        return false;
}

static void captive_seize(struct captive *captive, pid_t pid) {
        *captive = (struct captive){ .pid = pid };
        if (ptrace(PTRACE_SEIZE, pid, 0, 0) < 0)
                harness_skip("this user may not trace a worker");
        if (!harness_wait(captive_is_asleep, captive, harness_deadline(10)))
                fail_msg("the worker never sleeps");
}

static void captive_release(struct captive *captive) {
        assert_int_equal(ptrace(PTRACE_SETREGS, captive->pid, 0, &captive->saved), 0);
        assert_int_equal(ptrace(PTRACE_DETACH, captive->pid, 0, 0), 0);
}

/* Puts the captive in front of a call. */
static void captive_prepare(struct captive *captive, const struct captive_call *call) {
        struct user_regs_struct registers = captive->saved;

        registers.rip -= 2;                           /* the instruction in which it sleeps */
        registers.orig_rax = (unsigned long long) -1; /* what was interrupted is not started again */
        registers.rax = (unsigned long long) call->number;
        registers.rdi = (unsigned long long) call->arguments[0];
        registers.rsi = (unsigned long long) call->arguments[1];
        registers.rdx = (unsigned long long) call->arguments[2];
        registers.r10 = (unsigned long long) call->arguments[3];
        registers.r8 = (unsigned long long) call->arguments[4];
        registers.r9 = (unsigned long long) call->arguments[5];
        assert_int_equal(ptrace(PTRACE_SETREGS, captive->pid, 0, &registers), 0);
}

/* Makes the captive perform a call that it survives. Returns its result. */
static long captive_perform(struct captive *captive, const struct captive_call *call) {
        struct user_regs_struct registers;

        captive_prepare(captive, call);
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, captive->pid, 0, 0), 0);
        captive_wait_stop(captive);
        assert_int_equal(ptrace(PTRACE_GETREGS, captive->pid, 0, &registers), 0);
        return (long) registers.rax;
}

/*
 * Makes the captive perform a call of which it should die, and lets it go: who traces a process takes the news of its
 * death away from the parent for a moment, and it is the parent's answer that is to be seen.
 */
static void captive_let_die(struct captive *captive, const struct captive_call *call) {
        captive_prepare(captive, call);
        assert_int_equal(ptrace(PTRACE_DETACH, captive->pid, 0, 0), 0);
}

/* The worker's descriptor of its ring. */
static int captive_ring(pid_t pid) {
        for (int fd = 3; fd < 64; fd++) {
                char path[64], target[64];
                ssize_t n;

                snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
                n = readlink(path, target, sizeof(target) - 1);
                if (n <= 0)
                        continue;
                target[n] = '\0';
                if (strstr(target, "io_uring"))
                        return fd;
        }
        fail_msg("the worker has no ring");
        return -1;
}

static bool captive_has_successor(void *data) {
        const struct estate *estate = data;
        pid_t pids[4];

        return process_children(estate->daemon.monitor, pids, 4) == 1 && pids[0] != estate->worker;
}

/* --- Stories ---------------------------------------------------------------------------------------------------- */

/* The method itself: a call that the filter allows gives its result, and the worker goes on. */
static void captive_goes_on_after_what_is_allowed(void **state) {
        struct captive_call call = { .name = "getpid", .number = SYS_getpid };
        struct estate estate;
        struct captive captive;
        struct raw *raw;

        estate_start(&estate, NULL);
        raw = raw_open(&estate.daemon, 0);
        captive_seize(&captive, estate.worker);
        assert_int_equal(captive_perform(&captive, &call), estate.worker);
        captive_release(&captive);
        assert_int_equal(raw_status(raw), 0);
        raw_close(raw);
        estate_stop(&estate);
}

/* What its engine needs it may do, and gets the kernel's own answer. */
static void captive_works_with_what_it_has(void **state) {
        static const struct captive_call calls[] = {
                { "accept4", SYS_accept4, { -1 }, .engine = CAPTIVE_ON_EPOLL },
                { "recvfrom", SYS_recvfrom, { -1 }, .engine = CAPTIVE_ON_EPOLL },
                { "sendto", SYS_sendto, { -1 }, .engine = CAPTIVE_ON_EPOLL },
                { "io_uring_enter", SYS_io_uring_enter, { -1 }, .engine = CAPTIVE_ON_URING },
                { "recvmsg", SYS_recvmsg, { -1 } },
                { "sendmsg", SYS_sendmsg, { -1 } },
        };
        struct estate estate;
        struct captive captive;

        estate_start(&estate, NULL);
        captive_seize(&captive, estate.worker);
        for (size_t i = 0; i < HARNESS_N(calls); i++) {
                if (calls[i].engine != CAPTIVE_ON_ANY && calls[i].engine != captive_engine())
                        continue;
                assert_int_equal(captive_perform(&captive, &calls[i]), -EBADF);
        }
        captive_release(&captive);
        estate_stop(&estate);
}

static void captive_dies_of(const struct captive_call *call) {
        struct estate estate;
        struct captive captive;
        struct raw *raw;
        char said[96];

        estate_start(&estate, NULL);
        captive_seize(&captive, estate.worker);
        captive_let_die(&captive, call);
        if (process_wait_end(estate.worker, harness_deadline(10)) < 0)
                fail_msg("a worker that was taken over performed %s, and lives", call->name);
        if (!harness_wait(captive_has_successor, &estate, harness_deadline(10)))
                fail_msg("a worker that died of %s has no successor", call->name);
        snprintf(said, sizeof(said), "worker %d died: signal %d (", (int) estate.worker, SIGSYS);
        if (!daemon_log_has(&estate.daemon, said))
                fail_msg("a worker that tried %s did not die of its filter", call->name);
        raw = raw_open(&estate.daemon, 0);
        assert_int_equal(raw_status(raw), 0);
        raw_close(raw);
        daemon_stop(&estate.daemon);
}

static void captive_dies_of_all(const struct captive_call *calls, size_t n) {
        char log[128];

        for (size_t i = 0; i < n; i++) {
                if ((CAPTIVE_SANITIZED && calls[i].is_for_sanitizers) || (CAPTIVE_HOOKS && calls[i].is_for_hooks))
                        continue;
                if (calls[i].engine != CAPTIVE_ON_ANY && calls[i].engine != captive_engine())
                        continue;
                captive_dies_of(&calls[i]);
                snprintf(log, sizeof(log), "%s/overlapd-s.log", harness_directory());
                unlink(log);
        }
}

static void captive_cannot_reach_the_network(void **state) {
        static const struct captive_call calls[] = {
                { "socket", SYS_socket, { AF_INET, SOCK_STREAM } },
                { "socket of Unix", SYS_socket, { AF_UNIX, SOCK_STREAM } },
                { "socket of netlink", SYS_socket, { AF_NETLINK, SOCK_RAW } },
                { "socketpair", SYS_socketpair, { AF_UNIX, SOCK_STREAM } },
                { "bind", SYS_bind, { 3 } },
                { "connect", SYS_connect, { 3 } },
                { "listen", SYS_listen, { 3, 1 } },
                { "io_uring_setup", SYS_io_uring_setup, { 8 } },
                { "accept", SYS_accept, { 3 } },
                { "sendmsg that connects", SYS_sendmsg, { 3, 0, MSG_FASTOPEN } },
                { "sendmmsg", SYS_sendmmsg, { 3 } },
                { "recvmmsg", SYS_recvmmsg, { 3 } },
                /* what a ring does needs no calls */
                { "accept4", SYS_accept4, { 3 }, .engine = CAPTIVE_ON_URING },
                { "recvfrom", SYS_recvfrom, { 3 }, .engine = CAPTIVE_ON_URING },
                { "sendto", SYS_sendto, { 3 }, .engine = CAPTIVE_ON_URING },
                { "epoll_pwait2", SYS_epoll_pwait2, { 3 }, .engine = CAPTIVE_ON_URING },
                { "timer_settime", SYS_timer_settime, { 3 }, .engine = CAPTIVE_ON_URING },
                /* and who needs calls has no ring */
                { "io_uring_enter", SYS_io_uring_enter, { 3 }, .engine = CAPTIVE_ON_EPOLL },
                { "io_uring_register", SYS_io_uring_register, { 3 }, .engine = CAPTIVE_ON_EPOLL },
                { "sendto that connects", SYS_sendto, { 3, 0, 0, MSG_FASTOPEN }, .engine = CAPTIVE_ON_EPOLL },
                { "sendto with an address", SYS_sendto, { 3, 0, 0, 0, 4096, 16 }, .engine = CAPTIVE_ON_EPOLL },
        };

        captive_dies_of_all(calls, HARNESS_N(calls));
}

static void captive_cannot_reach_files(void **state) {
        static const struct captive_call calls[] = {
                { "open", SYS_open, { 0 }, true },
                { "openat", SYS_openat, { AT_FDCWD }, true },
                { "openat2", SYS_openat2, { AT_FDCWD } },
                { "creat", SYS_creat },
                { "unlink", SYS_unlink },
                { "rename", SYS_rename },
                { "mkdir", SYS_mkdir },
                { "chmod", SYS_chmod },
                { "chdir", SYS_chdir },
                { "mount", SYS_mount },
                { "name_to_handle_at", SYS_name_to_handle_at },
                { "open_by_handle_at", SYS_open_by_handle_at },
                { "memfd_create", SYS_memfd_create },
                { "sendfile", SYS_sendfile },
        };

        captive_dies_of_all(calls, HARNESS_N(calls));
}

static void captive_cannot_run_programs(void **state) {
        static const struct captive_call calls[] = {
                { "execve", SYS_execve },
                { "execveat", SYS_execveat },
                { "fork", SYS_fork },
                { "vfork", SYS_vfork },
                { "clone", SYS_clone, { SIGCHLD }, true },
                { "clone3", SYS_clone3 },
                { "mmap of code", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1 } },
                { "mprotect to code", SYS_mprotect, { 0, 4096, PROT_READ | PROT_EXEC } },
                { "pkey_mprotect", SYS_pkey_mprotect, { 0, 4096, PROT_READ | PROT_EXEC } },
                { "shmat", SYS_shmat },
                { "personality", SYS_personality },
                { "bpf", SYS_bpf },
                { "userfaultfd", SYS_userfaultfd },
                { "perf_event_open", SYS_perf_event_open },
        };

        captive_dies_of_all(calls, HARNESS_N(calls));
}

/* Whatever the user that the daemon runs as, no thread of a worker has a capability left. */
static void captive_has_no_capabilities(void **state) {
        struct estate estate;
        char path[64], line[256];
        struct dirent *entry;
        size_t n_lines = 0;
        DIR *tasks;

        estate_start(&estate, NULL);
        snprintf(path, sizeof(path), "/proc/%d/task", (int) estate.worker);
        tasks = opendir(path);
        assert_non_null(tasks);
        while ((entry = readdir(tasks))) {
                char status[sizeof(path) + sizeof(entry->d_name) + 16];
                FILE *file;

                if (entry->d_name[0] == '.')
                        continue;
                snprintf(status, sizeof(status), "%s/%s/status", path, entry->d_name);
                file = fopen(status, "re");
                assert_non_null(file);
                while (fgets(line, sizeof(line), file)) {
                        if (strncmp(line, "CapInh:", 7) != 0 && strncmp(line, "CapPrm:", 7) != 0 &&
                            strncmp(line, "CapEff:", 7) != 0 && strncmp(line, "CapAmb:", 7) != 0)
                                continue;
                        assert_int_equal(strtoull(line + 7, NULL, 16), 0);
                        n_lines++;
                }
                fclose(file);
        }
        closedir(tasks);
        assert_true(n_lines >= 8); /* of the loop and of the reaper at least */
        estate_stop(&estate);
}

static void captive_cannot_reach_processes(void **state) {
        static const struct captive_call calls[] = {
                { "ptrace", SYS_ptrace, { PTRACE_TRACEME }, true },
                { "process_vm_readv", SYS_process_vm_readv, { 1 }, true },
                { "process_vm_writev", SYS_process_vm_writev, { 1 } },
                { "kill", SYS_kill, { 0 }, false, true },
                { "pidfd_open", SYS_pidfd_open, { 1 } },
                { "pidfd_getfd", SYS_pidfd_getfd, { 0 } },
                { "pidfd_send_signal", SYS_pidfd_send_signal },
                { "unshare", SYS_unshare, { CLONE_NEWUSER } },
                { "setns", SYS_setns },
                { "setuid", SYS_setuid },
                { "capset", SYS_capset },
                { "prctl", SYS_prctl, { PR_SET_DUMPABLE, 1 }, true },
                { "seccomp", SYS_seccomp },
                { "timer_create", SYS_timer_create },
                { "setrlimit", SYS_setrlimit },
                { "prlimit64", SYS_prlimit64 },
                { "keyctl", SYS_keyctl },
        };

        captive_dies_of_all(calls, HARNESS_N(calls));
}

/* Calls for the ring pass the filter: the ring itself refuses whatever widens it. */
static void captive_cannot_widen_its_ring(void **state) {
        static const unsigned opcodes[] = {
                IORING_REGISTER_BUFFERS,      IORING_REGISTER_FILES,
                IORING_REGISTER_EVENTFD,      IORING_REGISTER_PROBE,
                IORING_REGISTER_PERSONALITY,  IORING_REGISTER_RESTRICTIONS,
                IORING_REGISTER_FILES2,       IORING_REGISTER_FILES_UPDATE2,
                IORING_REGISTER_BUFFERS2,     IORING_REGISTER_PBUF_RING,
                IORING_REGISTER_SYNC_CANCEL,  IORING_REGISTER_RING_FDS,
                IORING_REGISTER_IOWQ_AFF,     IORING_UNREGISTER_FILES,
                IORING_REGISTER_ENABLE_RINGS, IORING_REGISTER_IOWQ_MAX_WORKERS,
        };
        struct estate estate;
        struct captive captive;
        struct raw *raw;
        int ring;

        if (captive_engine() != CAPTIVE_ON_URING)
                harness_skip("a worker on epoll has no ring");
        estate_start(&estate, NULL);
        raw = raw_open(&estate.daemon, 0);
        ring = captive_ring(estate.worker);
        captive_seize(&captive, estate.worker);
        for (size_t i = 0; i < HARNESS_N(opcodes); i++) {
                struct captive_call call = { "io_uring_register", SYS_io_uring_register, { ring, opcodes[i], 0, 0 } };
                long result = captive_perform(&captive, &call);

                if (result >= 0)
                        fail_msg("a worker that was taken over registered with opcode %u: %ld", opcodes[i], result);
                if (result != -EACCES && result != -EBADFD && result != -EINVAL)
                        fail_msg("opcode %u was refused with %s", opcodes[i], strerror((int) -result));
        }
        captive_release(&captive);
        assert_int_equal(raw_status(raw), 0);
        raw_close(raw);
        estate_stop(&estate);
}

/* Nor may the successor of a worker that was taken over be kept from coming: the fifth death ends the daemon. */
static void captive_cannot_try_for_ever(void **state) {
        static const struct captive_call call = { "socket", SYS_socket, { AF_INET, SOCK_STREAM } };
        struct estate estate;
        struct captive captive;
        int status;

        estate_start(&estate, NULL);
        for (size_t i = 0; i < 5; i++) {
                char ready[64];

                estate.worker = daemon_worker(&estate.daemon);
                snprintf(ready, sizeof(ready), "worker %d is ready", (int) estate.worker);
                daemon_wait_log(&estate.daemon, ready);
                captive_seize(&captive, estate.worker);
                captive_let_die(&captive, &call);
                if (i < 4)
                        assert_true(harness_wait(captive_has_successor, &estate, harness_deadline(10)));
        }
        assert_int_equal(process_wait_end(estate.daemon.monitor, harness_deadline(10)), 0);
        assert_int_equal(waitpid(estate.daemon.monitor, &status, 0), estate.daemon.monitor);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 0);
}

#endif

static void captive_needs_x86_64(void **state) {
#ifndef __x86_64__
        harness_skip("registers are set for x86-64 only");
#endif
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "the machine is one whose registers are known", captive_needs_x86_64 },
#ifdef __x86_64__
                { "a captive worker may do what its filter allows", captive_goes_on_after_what_is_allowed },
                { "a captive worker may do what its engine needs", captive_works_with_what_it_has },
                { "a captive worker cannot reach the network", captive_cannot_reach_the_network, 60 },
                { "a captive worker cannot reach files", captive_cannot_reach_files, 60 },
                { "a captive worker cannot run programs", captive_cannot_run_programs, 60 },
                { "a captive worker has no capabilities", captive_has_no_capabilities },
                { "a captive worker cannot reach processes", captive_cannot_reach_processes, 60 },
                { "a captive worker cannot widen its ring", captive_cannot_widen_its_ring },
                { "a captive worker cannot try for ever", captive_cannot_try_for_ever },
#endif
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
