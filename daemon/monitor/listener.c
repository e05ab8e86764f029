/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The listener: the door through which clients come, and the only thing that an unknown process can reach.
 *
 * Invariant: who connected is known from the kernel (SO_PEERCRED, the cgroup of the peer), never from what it sends.
 * The socket file that is removed at the end is the one that was made here: device and inode are compared.
 *
 *   (none)  -> listening  at start: made here, or handed over by the service manager
 *   listening -> paused   by the monitor, when descriptors are used up or no worker is there to serve
 *   paused  -> listening  by the monitor's timer, or by a worker that became ready
 *   any     -> (none)     at the end
 *
 * A path that exists is tried first: a daemon that answers is left alone, a file that nobody listens on is what a crash
 * left. Two daemons that start in the same instant on the same stale file are not told apart here; the service manager
 * starts one. When no descriptor is left, accepting fails for ever and the loop would spin on a queue that never gets
 * shorter: the spare descriptor is given up, one connection is taken and closed, and the spare is opened again.
 *
 * No descriptors are let through here: a connection has that from its listener, until a worker takes it. Before Linux
 * 6.16 they cannot be kept out, and are closed with a connection that is given to nobody, for as long as their sender
 * likes: so the reaper closes it.
 *
 * Rejected: the abstract namespace (anybody may squat a name there, and file permissions do not apply).
 */

#include "daemon/monitor/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"
#include "daemon/monitor/origin.h"
#include "daemon/reaper.h"
#include "proto/channel.h"
#include "proto/layout.h"
#include "proto/message.h"
#include "proto/overlapd.pb-c.h"

#define LISTENER_GROUPS_MAX 1024u

void listener_peer_deinit(struct listener_peer *peer) {
        if (peer->fd >= 0) {
                shutdown(peer->fd, SHUT_RDWR);
                reaper_close(peer->reaper, peer->fd, peer->uid);
        }
        peer->fd = -1;
        free(take_ptr(peer->unit));
        free(take_ptr(peer->cgroup));
        free(take_ptr(peer->groups));
        peer->n_groups = 0;
}

/* The network namespace of a socket; that of an accepted one is its client's. 0: it cannot be told. */
static uint64_t listener_netns(int fd) {
        uint64_t cookie = 0;
        socklen_t len = sizeof(cookie);

        return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0 ? 0 : cookie;
}

/* That of this process, whoever made the listening socket. */
static uint64_t listener_own_netns(void) {
        _cleanup_fd_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return fd < 0 ? 0 : listener_netns(fd);
}

/* Whether somebody listens at this address. Returns 1, 0 or -errno. */
static int listener_probe(const struct sockaddr_un *address) {
        _cleanup_fd_ int fd = -1;

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *) address, sizeof(*address)) == 0 || errno == EAGAIN)
                return 1;
        return errno == ECONNREFUSED || errno == ENOENT ? 0 : -errno;
}

/* The umask makes the file its owner's alone from its first instant; listener_share() opens it afterwards. */
static int listener_bind_file(int fd, const struct sockaddr_un *address) {
        mode_t saved = umask(0177);
        int r;

        r = bind(fd, (const struct sockaddr *) address, sizeof(*address)) < 0 ? -errno : 0;
        umask(saved);
        return r;
}

static int listener_bind(int fd, const struct sockaddr_un *address, char error[LISTENER_ERROR_SIZE]) {
        struct stat status;
        int r;

        r = listener_bind_file(fd, address);
        if (r == -EADDRINUSE) {
                if (lstat(address->sun_path, &status) == 0 && !S_ISSOCK(status.st_mode)) {
                        snprintf(error, LISTENER_ERROR_SIZE,
                                 "%s exists and is no socket: remove it or name another path", address->sun_path);
                        return -EEXIST;
                }
                r = listener_probe(address);
                if (r > 0) {
                        snprintf(error, LISTENER_ERROR_SIZE, "already running: a daemon answers at %s",
                                 address->sun_path);
                        return -EADDRINUSE;
                }
                if (r == 0) {
                        unlink(address->sun_path);
                        r = listener_bind_file(fd, address);
                }
        }
        if (r < 0)
                snprintf(error, LISTENER_ERROR_SIZE, "cannot make the socket %s: %s%s", address->sun_path, strerror(-r),
                         r == -ENOENT ? " (its directory must exist: create it, or say --socket PATH, or run a command "
                                        "with a "
                                        "daemon of its own by --private -- COMMAND)"
                                      : "");
        return r;
}

/* Root serves the members of a group; anybody else serves nobody but himself. */
static int listener_share(const char *path, const char *name, bool is_private) {
        struct group *group;

        if (is_private || geteuid() != 0)
                return 0;
        group = getgrnam(name);
        if (!group)
                return 0;
        if (chown(path, 0, group->gr_gid) < 0 || chmod(path, 0660) < 0)
                return -errno;
        return 0;
}

static void listener_keep_fds_out(int fd) {
#ifdef OVL_TEST_HOOKS
        /* As on kernels that cannot. */
        if (getenv("OVL_TEST_FDS_COME"))
                return;
#endif
        channel_allow_fds(fd, 0);
}

static int listener_open_spare(struct listener *listener) {
        listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return listener->spare_fd < 0 ? -errno : 0;
}

static int listener_make(struct listener *listener, const struct sockaddr_un *address, const char *group,
                         char error[LISTENER_ERROR_SIZE]) {
        struct stat status;
        int r;

        listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (listener->fd < 0)
                return -errno;
        r = listener_bind(listener->fd, address, error);
        if (r < 0)
                return r;
        if (lstat(address->sun_path, &status) < 0)
                return -errno;
        listener->device = status.st_dev;
        listener->inode = status.st_ino;
        listener->owns_file = true;
        r = listener_share(address->sun_path, group, listener->is_private);
        if (r < 0)
                return r;
        listener_keep_fds_out(listener->fd);
        if (listen(listener->fd, SOMAXCONN) < 0)
                return -errno;
        return listener_open_spare(listener);
}

int listener_open(struct listener *listener, struct reaper *reaper, const char *path, const char *group,
                  bool is_private, char error[LISTENER_ERROR_SIZE]) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int r;

        if (strlen(path) >= sizeof(address.sun_path)) {
                snprintf(error, LISTENER_ERROR_SIZE, "the socket path has %zu bytes, at most %zu are possible: %s",
                         strlen(path), sizeof(address.sun_path) - 1, path);
                return -ENAMETOOLONG;
        }
        strcpy(address.sun_path, path);
        *listener = (struct listener){
                .fd = -1,
                .spare_fd = -1,
                .reaper = reaper,
                .is_private = is_private,
                .netns = listener_own_netns(),
        };
        strcpy(listener->path, path);
        error[0] = '\0';
        r = listener_make(listener, &address, group, error);
        if (r < 0) {
                if (error[0] == '\0')
                        snprintf(error, LISTENER_ERROR_SIZE, "cannot listen at %s: %s", path, strerror(-r));
                listener_close(listener);
                return r;
        }
        return 0;
}

int listener_adopt(struct listener *listener, struct reaper *reaper, int take_fd) {
        struct sockaddr_un address = { 0 };
        socklen_t len = sizeof(address);
        int flags, r;

        if (sd_is_socket_unix(take_fd, SOCK_STREAM, 1, NULL, 0) <= 0)
                return -EINVAL;
        if (getsockname(take_fd, (struct sockaddr *) &address, &len) < 0)
                return -errno;
        flags = fcntl(take_fd, F_GETFL);
        if (flags < 0 || fcntl(take_fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(take_fd, F_SETFD, FD_CLOEXEC) < 0)
                return -errno;
        listener_keep_fds_out(take_fd);
        *listener = (struct listener){ .fd = -1, .spare_fd = -1, .reaper = reaper, .netns = listener_own_netns() };
        r = listener_open_spare(listener);
        if (r < 0)
                return r;
        memcpy(listener->path, address.sun_path, sizeof(address.sun_path));
        listener->fd = take_fd;
        return 0;
}

void listener_close(struct listener *listener) {
        struct stat status;

        if (listener->owns_file && lstat(listener->path, &status) == 0 && status.st_dev == listener->device &&
            status.st_ino == listener->inode)
                unlink(listener->path);
        listener->owns_file = false;
        if (listener->path[0] == '\0' && listener->fd == 0)
                return;
        listener->fd = fd_close(listener->fd);
        listener->spare_fd = fd_close(listener->spare_fd);
}

/* Takes one connection off the queue when there is no descriptor for it, and closes it. */
static void listener_shed(struct listener *listener) {
        listener->spare_fd = fd_close(listener->spare_fd);
        fd_close(accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC));
        listener_open_spare(listener);
}

static int listener_identify_groups(int fd, struct listener_peer *peer) {
        gid_t groups[LISTENER_GROUPS_MAX];
        socklen_t len = sizeof(groups);

        /* Of who has more, none counts: a rule about some would not tell them apart from those that are missing. */
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0 || len == 0)
                return 0;
        peer->groups = malloc(len);
        if (!peer->groups)
                return -ENOMEM;
        memcpy(peer->groups, groups, len);
        peer->n_groups = len / sizeof(*groups);
        return 0;
}

/*
 * Unit and control group are read from the process of that number. Whoever connects, hands the connection on and ends
 * could have them read from another process that got his number since then: they count only if he lives, still. Before
 * Linux 6.5 that cannot be told.
 */
static void listener_identify_group(int fd, struct listener_peer *peer) {
        struct pollfd process = { .fd = -1, .events = POLLIN };
        _cleanup_fd_ int process_fd = -1;
        socklen_t len = sizeof(process_fd);
        bool is_told;

        is_told = getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &process_fd, &len) == 0 || errno != ENOPROTOOPT;
        origin_find(fd, peer->pid, &peer->cgroup, &peer->unit);
        process.fd = process_fd;
        if (!is_told || (process_fd >= 0 && poll(&process, 1, 0) == 0))
                return;
        free(take_ptr(peer->unit));
        free(take_ptr(peer->cgroup));
}

static int listener_identify_user(int fd, struct listener_peer *peer) {
        struct ucred credentials;
        socklen_t len = sizeof(credentials);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &len) < 0)
                return -errno;
        peer->pid = credentials.pid;
        peer->uid = credentials.uid;
        peer->gid = credentials.gid;
        return 0;
}

int listener_identify(const struct listener *listener, struct listener_peer *peer) {
        uint64_t netns = listener_netns(peer->fd);

        listener_identify_group(peer->fd, peer);
        peer->is_elsewhere = netns == 0 || netns != listener->netns;
        return listener_identify_groups(peer->fd, peer);
}

int listener_accept(struct listener *listener, struct listener_peer *ret_peer) {
        cleanup(listener_peer_deinit) struct listener_peer peer = { .fd = -1 };
        int r;

        peer.reaper = listener->reaper;
        peer.fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (peer.fd < 0) {
                r = -errno;
                if (r == -EMFILE || r == -ENFILE)
                        listener_shed(listener);
                return r == -ECONNABORTED || r == -EINTR ? -EAGAIN : r;
        }
        r = listener_identify_user(peer.fd, &peer);
        if (r < 0)
                return r;
        if (listener->is_private && peer.uid != 0 && peer.uid != geteuid())
                return -EPERM;
        *ret_peer = peer;
        peer = (struct listener_peer){ .fd = -1 };
        return 0;
}

void listener_refuse(int fd, const char *text) {
        Overlapd__Notice notice = OVERLAPD__NOTICE__INIT;
        Overlapd__FromDaemon message = OVERLAPD__FROM_DAEMON__INIT;
        _cleanup_free_ void *frame = NULL;
        struct iovec part;
        ssize_t n;

        notice.status = -EBUSY;
        notice.reason = OVL_REASON_BUSY;
        notice.text = (char *) text;
        notice.closing = true;
        message.what_case = OVERLAPD__FROM_DAEMON__WHAT_NOTICE;
        message.notice = &notice;
        n = message_pack_frame(&message.base, 0, &frame);
        if (n < 0)
                return;
        part = (struct iovec){ frame, (size_t) n };
        channel_send(fd, &part, 1, -1);
}
