/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_LISTENER_H
#define DAEMON_MONITOR_LISTENER_H

/* The Unix socket that clients connect to. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/un.h>

#define LISTENER_ERROR_SIZE 512

struct reaper;

struct listener {
        int fd;
        struct reaper *reaper; /* borrowed; closes connections that are given to nobody */
        uint64_t netns;        /* the cookie of this process's network namespace; 0: it cannot be told */
        int spare_fd; /* given up for an instant when there is no descriptor left, to take a connection off the queue */
        char path[sizeof(((struct sockaddr_un *) NULL)->sun_path) + 1];
        dev_t device; /* of the socket file that we made */
        ino_t inode;
        bool owns_file;
        bool is_private; /* only the own user and root may connect */
};

#define LISTENER_GROUP "overlapd" /* of clients of the system's daemon */

/* A connection that was accepted. */
struct listener_peer {
        int fd;
        struct reaper *reaper; /* borrowed; NULL: there is no fd */
        pid_t pid;
        uid_t uid;
        gid_t gid;
        char *unit;    /* of systemd, or NULL */
        char *cgroup;  /* or NULL */
        gid_t *groups; /* beside gid */
        size_t n_groups;
        bool is_elsewhere; /* in another network namespace than this process, or in one that cannot be told */
};

void listener_peer_deinit(struct listener_peer *peer);

/*
 * Makes the socket file and listens. A file that a dead daemon left is replaced; that of a living one is not.
 *
 * reaper: borrowed.
 * group: whose members root lets in; where there is no such group, and for anybody else, nobody is.
 *
 * Returns 0 or -errno, and then a text for a person: -EADDRINUSE when a daemon runs there already, -ENAMETOOLONG.
 */
int listener_open(struct listener *listener, struct reaper *reaper, const char *path, const char *group,
                  bool is_private, char error[LISTENER_ERROR_SIZE]);

/*
 * Uses a socket that the service manager opened.
 *
 * take_fd: taken on success.
 *
 * Returns 0, or -EINVAL when it is no listening Unix stream socket.
 */
int listener_adopt(struct listener *listener, struct reaper *reaper, int take_fd);

/* Closes, and removes the file if it is still the one that listener_open() made. Takes a zeroed listener. */
void listener_close(struct listener *listener);

/*
 * Takes one connection, of which then process, user and group are known.
 *
 * Returns 0; -EAGAIN when none waits; -EMFILE or -ENFILE when descriptors are used up (one connection was taken and
 * closed); -EPERM when the user may not connect to a private instance (closed); or another -errno.
 */
int listener_accept(struct listener *listener, struct listener_peer *ret_peer);

/* Finds out all else about a connection, which takes longer. Returns 0 or -ENOMEM. */
int listener_identify(const struct listener *listener, struct listener_peer *peer);

/*
 * Tells a connection that it is not served, and why, with one CONTROL frame. Best effort: it never waits.
 *
 * fd: borrowed; to be closed afterwards.
 */
void listener_refuse(int fd, const char *text);

#endif
