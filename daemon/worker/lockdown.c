/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The worker reads hostile bytes, so it is assumed to be taken over one day. An allow-list: what is not named kills the
 * process, and the monitor starts another. Denying with an error was rejected: it gives an attacker any number of
 * tries, and hides mistakes of ours.
 */

#include "daemon/worker/lockdown.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"

/* Sanitizers make system calls of their own, most of them when they look for leaks at the end. */
#ifdef __has_feature
#define LOCKDOWN_CLANG_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define LOCKDOWN_CLANG_SANITIZED 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || LOCKDOWN_CLANG_SANITIZED
#define LOCKDOWN_SANITIZED 1
#else
#define LOCKDOWN_SANITIZED 0
#endif

#define LOCKDOWN_N(array) (sizeof(array) / sizeof((array)[0]))

static const int lockdown_allowed[] = {
        /* the channels, the link, readiness */
        SCMP_SYS(recvmsg),
        SCMP_SYS(read),
        SCMP_SYS(pread64), /* of files that clients lend */
        SCMP_SYS(write),
        SCMP_SYS(epoll_wait),
        SCMP_SYS(epoll_pwait),
        SCMP_SYS(epoll_ctl),
        SCMP_SYS(poll),
        SCMP_SYS(ppoll),
        /* sockets that exist */
        SCMP_SYS(close),
        SCMP_SYS(shutdown),
        SCMP_SYS(getsockname),
        SCMP_SYS(getpeername),
        SCMP_SYS(getsockopt),
        SCMP_SYS(setsockopt),
        /* regions */
        SCMP_SYS(fcntl),
        SCMP_SYS(fstat),
        SCMP_SYS(newfstatat),
        SCMP_SYS(fstatfs),
        SCMP_SYS(ftruncate), /* of lanes; no other file is open */
        SCMP_SYS(munmap),
        SCMP_SYS(madvise),
        /* memory, time, the locks of threads, the end */
        SCMP_SYS(brk),
        SCMP_SYS(mremap),
        SCMP_SYS(futex),
        SCMP_SYS(clock_gettime),
        SCMP_SYS(gettimeofday), /* by thread sanitizers; and where the kernel offers no clock without a call */
        SCMP_SYS(getrandom),
        SCMP_SYS(rt_sigreturn),
        SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(rt_sigaction),
        SCMP_SYS(restart_syscall),
        SCMP_SYS(getpid),
        SCMP_SYS(gettid),
        SCMP_SYS(exit),
        SCMP_SYS(exit_group),
        SCMP_SYS(rseq),
        SCMP_SYS(sched_yield),
#if LOCKDOWN_SANITIZED
        SCMP_SYS(getdents),
        SCMP_SYS(nanosleep),
        SCMP_SYS(sigaltstack),
        SCMP_SYS(sched_getaffinity),
        SCMP_SYS(getrusage),
        SCMP_SYS(sysinfo),
        SCMP_SYS(clone),
        SCMP_SYS(openat),
        SCMP_SYS(open),
        SCMP_SYS(readlink),
        SCMP_SYS(prctl),
        SCMP_SYS(wait4),
        SCMP_SYS(ptrace),
        SCMP_SYS(lseek),
        SCMP_SYS(getdents64),
        SCMP_SYS(ioctl),
        SCMP_SYS(stat),
        SCMP_SYS(process_vm_readv),
        SCMP_SYS(set_robust_list),
        SCMP_SYS(getppid),
#endif
};

static const int lockdown_allowed_on_uring[] = {
        SCMP_SYS(io_uring_enter),
        SCMP_SYS(io_uring_register),
};

static const int lockdown_allowed_on_epoll[] = {
        SCMP_SYS(accept4),       SCMP_SYS(recvfrom),     SCMP_SYS(epoll_pwait2),
        SCMP_SYS(timer_settime), SCMP_SYS(timer_delete), /* at the end */
};

static int lockdown_allow(scmp_filter_ctx filter, const int *calls, size_t n) {
        int r;

        for (size_t i = 0; i < n; i++) {
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int lockdown_fill_for_engine(scmp_filter_ctx filter, enum lockdown lockdown) {
        int r;

        if (lockdown == LOCKDOWN_URING)
                return lockdown_allow(filter, lockdown_allowed_on_uring, LOCKDOWN_N(lockdown_allowed_on_uring));
        r = lockdown_allow(filter, lockdown_allowed_on_epoll, LOCKDOWN_N(lockdown_allowed_on_epoll));
        if (r < 0)
                return r;
        /* On connections only: neither a connect nor an address. */
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendto), 2,
                                SCMP_A3(SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0), SCMP_A4(SCMP_CMP_EQ, 0));
}

static int lockdown_fill(scmp_filter_ctx filter, enum lockdown lockdown) {
        int r;

        r = lockdown_allow(filter, lockdown_allowed, LOCKDOWN_N(lockdown_allowed));
        if (r < 0)
                return r;
        r = lockdown_fill_for_engine(filter, lockdown);
        if (r < 0)
                return r;
        /* A send that opens a connection would be a connect. */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendmsg), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, 0));
        if (r < 0)
                return r;
        /* Questions to a socket: how much there is to read, whether its urgent byte comes next, what is not
         * acknowledged. */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, FIONREAD));
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, SIOCATMARK));
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, SIOCOUTQ));
        if (r < 0)
                return r;
        /* For abort(), and for the kill points of test builds: nobody else may be signalled. */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) getpid()));
        if (r < 0)
                return r;
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) getpid()));
        if (r < 0)
                return r;
        /* The daemon's half of a lane is made when a client asks for it: memory that can be sealed, and nothing else.
         */
        r = seccomp_rule_add(
                filter, SCMP_ACT_ALLOW, SCMP_SYS(memfd_create), 1,
                SCMP_A1(SCMP_CMP_MASKED_EQ, (scmp_datum_t) ~MFD_NOEXEC_SEAL, MFD_CLOEXEC | MFD_ALLOW_SEALING));
        if (r < 0)
                return r;
        /* Memory is never executable, neither when it is mapped nor later. */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
        if (r < 0)
                return r;
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

int lockdown_drop_capabilities(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 }, held[_LINUX_CAPABILITY_U32S_3];

        /* The system's service has none from the start, and its filter denies capset. */
        if (syscall(SYS_capget, &header, held) == 0 && memcmp(held, none, sizeof(none)) == 0)
                return 0;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
                return -errno;
        return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

static void lockdown_release(scmp_filter_ctx *filter) {
        seccomp_release(*filter);
}

int lockdown_worker(enum lockdown lockdown) {
        cleanup(lockdown_release) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
        int r;

        if (!filter)
                return -ENOMEM;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                return -errno;
        r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
        if (r < 0)
                return r;
        r = lockdown_fill(filter, lockdown);
        if (r < 0)
                return r;
        return seccomp_load(filter);
}
