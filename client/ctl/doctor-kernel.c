/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the kernel has, and what it allows to this process: tried wherever it can be tried, for a version and a sysctl
 * say only what should be. Where something is refused, the reasons that can be seen from here are named beside it.
 *
 * What a filter may refuse is tried by children, before anything else is looked at: a filter may kill who asks, and
 * then it is told that it does.
 *
 * io_uring is tried here for the sake of a daemon that is started from here: clients need none, and a daemon that
 * already runs on it has proved that it may.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"
#include "client/ctl/doctor.h"

#define KERNEL_IO_URING_DISABLED "/proc/sys/kernel/io_uring_disabled" /* Linux 6.6 */
#define KERNEL_IO_URING_GROUP "/proc/sys/kernel/io_uring_group"
#define KERNEL_PORTS "/proc/sys/net/ipv4/ip_local_port_range"
#define KERNEL_PORTS_MIN 10000u
#define KERNEL_PAGE 4096u

/* --- What is tried ----------------------------------------------------------------------------------------------- */

static int kernel_try_io_uring(void) {
        struct io_uring_params params = { 0 };
        _cleanup_fd_ int fd = (int) syscall(__NR_io_uring_setup, 4, &params);

        return fd < 0 ? -errno : 0;
}

/* Does what the library and the daemon do for a region. */
static int kernel_try_memfd(void) {
        _cleanup_fd_ int fd = memfd_create("overlapctl", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
        void *memory;

        if (fd < 0 && errno == EINVAL)
                fd = memfd_create("overlapctl", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0 || ftruncate(fd, KERNEL_PAGE) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
                return -errno;
        memory = mmap(NULL, KERNEL_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (memory == MAP_FAILED)
                return -errno;
        munmap(memory, KERNEL_PAGE);
        return fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0 ? -errno : 0;
}

static int kernel_try_unix(void) {
        _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        return fd < 0 ? -errno : 0;
}

/* Lets a child try. Returns 0, -errno, or DOCTOR_KILLED. */
static int kernel_try(int (*function)(void)) {
        struct rlimit no_core = { 0 };
        int status;
        pid_t pid;

        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                setrlimit(RLIMIT_CORE, &no_core);
                _exit(-function());
        }
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) ? -WEXITSTATUS(status) : DOCTOR_KILLED;
}

void doctor_try_kernel(struct doctor *doctor) {
        doctor->unix_status = kernel_try(kernel_try_unix);
        doctor->memfd_status = kernel_try(kernel_try_memfd);
        doctor->io_uring_status = kernel_try(kernel_try_io_uring);
}

/* The name of an error, or what a filter does instead. */
static const char *kernel_error(int error) {
        const char *name = error == DOCTOR_KILLED ? "who tries is killed" : strerrorname_np(-error);

        return name ? name : "an unknown error";
}

static void kernel_check_version(struct doctor *doctor) {
        unsigned major = 0, minor = 0;
        struct utsname name;

        if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2) {
                doctor_tell(doctor, DOCTOR_SKIPPED, "the kernel does not tell its version");
        } else if (major < 5 || (major == 5 && minor < 15)) {
                doctor_tell(doctor, DOCTOR_PROBLEM, "this is Linux %s, and overlapd needs 5.15 or later", name.release);
                doctor_repair(doctor, "%sapt install linux-image-%s && %sreboot", doctor_root(),
                              strcmp(name.machine, "x86_64") == 0    ? "amd64"
                              : strcmp(name.machine, "aarch64") == 0 ? "arm64"
                                                                     : name.machine,
                              doctor_root());
        } else {
                doctor_tell(doctor, DOCTOR_OK, "this is Linux %s; overlapd needs 5.15 or later", name.release);
        }
}

/* --- Filters ----------------------------------------------------------------------------------------------------- */

/* Whether a filter of system calls is active. */
static bool kernel_has_filter(void) {
        char mode[16];

        return doctor_read_status(0, "Seccomp", mode, sizeof(mode)) >= 0 && strcmp(mode, "2") == 0;
}

static void kernel_check_filter(struct doctor *doctor) {
        char mode[16], count[16];

        if (doctor->unix_status < 0) {
                doctor_tell(
                        doctor, DOCTOR_PROBLEM,
                        "this process may not open Unix sockets (%s), without which nobody reaches overlapd: a unit "
                        "allows them with RestrictAddressFamilies=AF_UNIX",
                        kernel_error(doctor->unix_status));
                doctor_repair(doctor,
                              "systemctl cat UNIT    (the unit of the program, and what of it is to be changed)");
                return;
        }
        if (doctor_read_status(0, "Seccomp", mode, sizeof(mode)) < 0) {
                doctor_tell(doctor, DOCTOR_SKIPPED, "whether a filter of system calls is active cannot be read");
                return;
        }
        if (doctor_read_status(0, "Seccomp_filters", count, sizeof(count)) < 0)
                snprintf(count, sizeof(count), "some");
        if (strcmp(mode, "2") == 0)
                doctor_tell(doctor, DOCTOR_OK,
                            "%s filter(s) of system calls bind this process; Unix sockets are allowed", count);
        else
                doctor_tell(doctor, DOCTOR_OK, "no filter of system calls binds this process");
}

/* --- io_uring ---------------------------------------------------------------------------------------------------- */

/* The sysctl forbids it. */
static void kernel_tell_disabled(struct doctor *doctor, enum doctor_verdict verdict, uint64_t disabled) {
        char group[32];

        if (disabled == 2) {
                doctor_tell(doctor, verdict, "io_uring is refused to everybody: kernel.io_uring_disabled is 2");
                doctor_repair(doctor, "%ssysctl -w kernel.io_uring_disabled=0", doctor_root());
                return;
        }
        if (doctor_read_line(KERNEL_IO_URING_GROUP, group, sizeof(group)) < 0)
                snprintf(group, sizeof(group), "not readable");
        doctor_tell(doctor, verdict,
                    "io_uring is refused to this user: kernel.io_uring_disabled is %llu (only for root and members of "
                    "kernel.io_uring_group, which is %s)",
                    (unsigned long long) disabled, group);
        doctor_repair(doctor, "%ssysctl -w kernel.io_uring_group=$(getent group overlapd | cut -d: -f3)",
                      doctor_root());
}

static void kernel_tell_refused(struct doctor *doctor, int error) {
        bool has_daemon = doctor->has_session && strcmp(doctor->engine, "uring") == 0;
        enum doctor_verdict verdict = has_daemon ? DOCTOR_OK : DOCTOR_WARNING;
        const char *more = has_daemon ? "; the running daemon has it all the same" : "; overlapd falls back to epoll";
        const char *name = kernel_error(error);
        uint64_t disabled = 0;

        if (error == -EPERM && doctor_read_number(KERNEL_IO_URING_DISABLED, &disabled) >= 0 && disabled > 0) {
                kernel_tell_disabled(doctor, verdict, disabled);
        } else if (error == DOCTOR_KILLED ||
                   ((error == -EPERM || error == -ENOSYS || error == -EACCES) && kernel_has_filter())) {
                doctor_tell(doctor, verdict,
                            "io_uring is refused to this process (%s) while a filter of system calls binds it, and no "
                            "sysctl "
                            "forbids it: the filter of a container, or SystemCallFilter= of a unit%s",
                            name, more);
                doctor_repair(doctor, "podman run --security-opt seccomp=unconfined    (in a unit: "
                                      "SystemCallFilter=@aio)");
        } else if (error == -ENOSYS) {
                doctor_tell(doctor, verdict, "this kernel was built without io_uring%s", more);
                doctor_repair(doctor, "grep CONFIG_IO_URING= /boot/config-$(uname -r)    (take a kernel that has it)");
        } else if (error == -ENOMEM) {
                doctor_tell(doctor, verdict, "there is no memory for a ring (ENOMEM): the limit of locked memory%s",
                            more);
                doctor_repair(doctor, "ulimit -l unlimited");
        } else {
                doctor_tell(doctor, verdict, "io_uring is refused to this process (%s): a security module%s", name,
                            more);
                doctor_repair(doctor, "%sjournalctl -k -g 'avc|apparmor|io_uring'", doctor_root());
        }
}

static void kernel_check_io_uring(struct doctor *doctor) {
        uint64_t disabled;

        if (doctor->io_uring_status < 0)
                kernel_tell_refused(doctor, doctor->io_uring_status);
        else if (doctor_read_number(KERNEL_IO_URING_DISABLED, &disabled) >= 0 && disabled == 1)
                doctor_tell(doctor, DOCTOR_OK,
                            "this process may use io_uring; kernel.io_uring_disabled is 1: others may not");
        else
                doctor_tell(doctor, DOCTOR_OK, "this process may use io_uring");
}

/* --- Memory that is lent ----------------------------------------------------------------------------------------- */

static void kernel_check_memfd(struct doctor *doctor) {
        char more[64] = "";
        uint64_t noexec;

        if (doctor_read_number("/proc/sys/vm/memfd_noexec", &noexec) >= 0)
                snprintf(more, sizeof(more), "; vm.memfd_noexec is %llu", (unsigned long long) noexec);
        if (doctor->memfd_status == 0) {
                doctor_tell(doctor, DOCTOR_OK, "memory can be made, sealed and mapped%s", more);
                return;
        }
        doctor_tell(
                doctor, DOCTOR_PROBLEM,
                "memory cannot be made, sealed and mapped to be lent (%s%s)%s; the level \"inline\" needs none of it",
                kernel_error(doctor->memfd_status),
                kernel_has_filter() ? ", while a filter of system calls binds this process" : "", more);
        doctor_repair(doctor, "export OVERLAPD_LEVEL=inline");
}

/* --- Sysctls ----------------------------------------------------------------------------------------------------- */

static const struct kernel_sysctl {
        const char *name;
        const char *path;
        uint64_t min;
        uint64_t advised;
        const char *why;
} kernel_sysctls[] = {
        { "net.core.somaxconn", "/proc/sys/net/core/somaxconn", 1024, 4096,
          "so few clients, and connections of a listening socket, may wait to be taken" },
        { "fs.nr_open", "/proc/sys/fs/nr_open", 1048576, 1048576,
          "the unit's LimitNOFILE=1048576 cannot be given, and the service does not start" },
        { "net.core.wmem_default", "/proc/sys/net/core/wmem_default", 65536, 212992,
          "so few bytes of completions fit into a connection before the daemon has to wait for a client" },
};

static void kernel_check_ports(struct doctor *doctor) {
        unsigned first, last;
        char line[64];

        if (doctor_read_line(KERNEL_PORTS, line, sizeof(line)) < 0 || sscanf(line, "%u %u", &first, &last) != 2 ||
            last < first || last - first + 1 >= KERNEL_PORTS_MIN)
                return;
        doctor_tell(doctor, DOCTOR_WARNING,
                    "net.ipv4.ip_local_port_range is %u to %u: all clients together can have no more than %u "
                    "connections to "
                    "one address",
                    first, last, last - first + 1);
        doctor_repair(doctor, "%ssysctl -w net.ipv4.ip_local_port_range='32768 60999'", doctor_root());
}

/* How many files are open of those that may be. */
static void kernel_check_files(struct doctor *doctor) {
        unsigned long long used, max;
        char line[128];

        if (doctor_read_line("/proc/sys/fs/file-nr", line, sizeof(line)) < 0 ||
            sscanf(line, "%llu %*u %llu", &used, &max) != 2 || used < max - max / 5)
                return;
        doctor_tell(doctor, DOCTOR_WARNING, "%llu files are open on this machine, and fs.file-max is %llu", used, max);
        doctor_repair(doctor, "%ssysctl -w fs.file-max=%llu", doctor_root(), max < UINT64_MAX / 2 ? max * 2 : max);
}

static void kernel_check_sysctls(struct doctor *doctor) {
        size_t n_before = doctor->n_findings, n_read = 0;

        for (size_t i = 0; i < sizeof(kernel_sysctls) / sizeof(kernel_sysctls[0]); i++) {
                const struct kernel_sysctl *sysctl = &kernel_sysctls[i];
                uint64_t value;

                if (doctor_read_number(sysctl->path, &value) < 0)
                        continue; /* that of another network namespace, or hidden */
                n_read++;
                if (value >= sysctl->min)
                        continue;
                doctor_tell(doctor, DOCTOR_WARNING, "%s is %llu: %s", sysctl->name, (unsigned long long) value,
                            sysctl->why);
                doctor_repair(doctor, "%ssysctl -w %s=%llu", doctor_root(), sysctl->name,
                              (unsigned long long) sysctl->advised);
        }
        kernel_check_ports(doctor);
        kernel_check_files(doctor);
        if (n_read == 0)
                doctor_tell(doctor, DOCTOR_SKIPPED, "/proc/sys cannot be read");
        else if (doctor->n_findings == n_before)
                doctor_tell(doctor, DOCTOR_OK,
                            "net.core.somaxconn, net.core.wmem_default, net.ipv4.ip_local_port_range, "
                            "fs.nr_open and fs.file-max leave room");
}

/* --- Control groups ---------------------------------------------------------------------------------------------- */

static void kernel_check_cgroup(struct doctor *doctor) {
        _cleanup_free_ char *cgroup = NULL, *unit = NULL;
        struct statfs status;
        const char *layout;

        if (statfs("/sys/fs/cgroup", &status) < 0)
                status.f_type = 0;
        if (status.f_type == CGROUP2_SUPER_MAGIC)
                layout = "unified";
        else if (access("/sys/fs/cgroup/systemd/cgroup.procs", F_OK) == 0 ||
                 access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) == 0)
                layout = "legacy or mixed";
        else
                layout = NULL;
        if (sd_pid_get_cgroup(0, &cgroup) < 0)
                cgroup = NULL;
        if (sd_pid_get_unit(0, &unit) < 0)
                unit = NULL;
        if (layout) {
                doctor_tell(doctor, DOCTOR_OK, "control groups are %s; this process is in %s, unit %s", layout,
                            cgroup ? cgroup : "an unknown one", unit ? unit : "none");
        } else {
                doctor_tell(doctor, DOCTOR_WARNING,
                            "no control groups are mounted at /sys/fs/cgroup: rules of the policy "
                            "that name a unit or a control group match nobody");
                doctor_repair(doctor, "%smount -t cgroup2 none /sys/fs/cgroup", doctor_root());
        }
}

const struct doctor_check doctor_kernel_checks[] = {
        { "kernel", kernel_check_version },
        { "seccomp", kernel_check_filter },
        { "io_uring", kernel_check_io_uring },
        { "memfd", kernel_check_memfd },
        { "sysctl", kernel_check_sysctls },
        { "cgroup", kernel_check_cgroup },
        { 0 },
};
