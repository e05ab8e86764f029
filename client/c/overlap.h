/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OVERLAP_H
#define OVERLAP_H

/*
 * liboverlap: overlapped I/O through overlapd.
 *
 * A session is a connection to the daemon. A region is memory that is lent to it. A thread is whoever posts operations:
 * usually one for each thread of the program. Operations are posted with an overlapped structure, which belongs to the
 * library until its completion was indicated, and so do the bytes of the buffers. How a completion is indicated:
 *
 *   by a completion routine   runs in an alertable wait of the very thread that posted, never elsewhere
 *   by a completion port      where the socket is associated with one: any thread that waits on the port gets a packet
 *   not at all                the caller polls or waits for the result
 *
 * The library starts no threads, installs no signal handlers, logs nothing and keeps nothing that is process-wide.
 * Sessions, regions, ports and sockets may be used by many threads at once. A struct ovl_thread is used by its owner;
 * what others may do with it is said where it is allowed.
 *
 * Results: 0 or more is success; a negative number is -errno. What was wrong, in words: ovl_thread_error().
 *
 * When the daemon is lost, or sends what it must not, the session is over for good: every pending operation ends with
 * -ECONNABORTED and is indicated, waits return, and later calls fail with -ECONNABORTED. A child of fork() must not use
 * what its parent opened; the descriptors are closed by exec.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OVL_API __attribute__((visibility("default")))

struct ovl_session;
struct ovl_thread;
struct ovl_region;
struct ovl_port;

/* What a posting call returns when exactly one indication will follow. */
#define OVL_PENDING 1

/* What an alertable wait returns when at least one completion routine ran, and the object was not waited for. */
#define OVL_ALERTED 2

/* A timeout that never ends. */
#define OVL_INFINITE UINT64_MAX

/* --- Errors ----------------------------------------------------------------------------------------------------- */

/* Why a call failed. */
struct ovl_error {
        int status;      /* -errno, as the call returned it */
        unsigned reason; /* a number that is finer than errno; 0 where there is none */
        char text[504];  /* what was wrong, with which value, and what to do */
};

/*
 * Describes the last call on this thread that failed.
 *
 * thread: borrowed; by its owner.
 *
 * Returns a description that stays valid until the next call on this thread. Never NULL.
 */
OVL_API const struct ovl_error *ovl_thread_error(const struct ovl_thread *thread);

/* What a reason means and what to do about it: static text, never NULL. */
OVL_API const char *ovl_reason_text(unsigned reason);

/* --- Sessions --------------------------------------------------------------------------------------------------- */

struct ovl_session_options {
        const char *path;  /* of the daemon's socket; NULL: $OVERLAPD_SOCKET, or else /run/overlapd/overlapd.sock */
        uint32_t credits;  /* operations that may be in flight at once; 0: the daemon chooses */
        const char *name;  /* of the program, for the daemon's journal; NULL: none */
        void *reserved[5]; /* NULL */
};

/*
 * Opens a session with the daemon. Blocks until the daemon has answered, at most 10 s.
 *
 * options:   NULL for the defaults. Borrowed.
 * ret_error: filled on failure; NULL if not wanted.
 *
 * Returns 0 and the session, or -ENOENT, -ECONNREFUSED, -EACCES (no daemon at this path, or no permission),
 * -ENAMETOOLONG (a path of more than 107 bytes), -EPROTONOSUPPORT (no protocol version in common), -EBUSY, -ETIMEDOUT,
 * -ECONNABORTED (the daemon hung up), -EPROTO (it answered what no daemon of this protocol does).
 */
OVL_API int ovl_session_open(const struct ovl_session_options *options, struct ovl_session **ret_session,
                             struct ovl_error *ret_error);

/*
 * Ends a session: its sockets are closed and its pending operations end with -ECANCELED, but nothing is indicated.
 *
 * session: taken; its threads, ports and regions were freed before. NULL is fine. Returns NULL.
 */
OVL_API struct ovl_session *ovl_session_free(struct ovl_session *session);

/* What the daemon said of itself and granted. Strings live as long as the session. */
struct ovl_session_info {
        uint64_t session;          /* names the session in the daemon's journal */
        const char *engine;        /* what performs the I/O: "uring", "epoll" */
        const char *engine_reason; /* why */
        uint32_t level;            /* 0 inline, 1 shared, 2 ring */
        uint32_t credits;
        uint32_t regions;
        uint64_t region_bytes;
        uint32_t sockets;
        uint64_t reserved[8];
};

/* Never fails. */
OVL_API void ovl_session_info(const struct ovl_session *session, struct ovl_session_info *ret_info);

/* Counters of the daemon's worker that serves this session (not of this session alone). */
struct ovl_status {
        uint32_t worker_pid;
        uint32_t sessions;
        uint32_t sockets;
        uint32_t ops_in_flight;
        uint64_t turns;
        uint64_t wakeups; /* turns that slept before they found work */
        uint64_t system_calls;
        uint64_t entries; /* operations that were taken */
        uint64_t records; /* completions that were sent */
        uint64_t bytes_received;
        uint64_t bytes_sent;
        uint64_t merged_ops; /* that shared a system request with the operation before them */
        uint64_t reserved[8];
};

/* Asks the daemon. thread: by its owner. Returns 0 or -errno. */
OVL_API int ovl_status(struct ovl_thread *thread, struct ovl_status *ret_status);

/* --- Memory ----------------------------------------------------------------------------------------------------- */

/*
 * Makes memory from which buffers can be lent, maps it, and adds it to the session.
 *
 * thread: whose connection carries the request. By its owner.
 * size:   bytes, rounded up to a multiple of 4096.
 *
 * Returns 0 and the region, -EDQUOT when the daemon's quota does not allow it, or -errno. The memory is zero.
 */
OVL_API int ovl_region_open(struct ovl_thread *thread, size_t size, struct ovl_region **ret_region);

/*
 * Takes a region back: waits until the daemon and the kernel are done with it, then unmaps it. No buffer in it may be
 * posted any more, and pending operations that use it should have been cancelled: the call waits for their end.
 *
 * Returns 0, or -errno when the daemon is gone; the region is freed in every case.
 */
OVL_API int ovl_region_close(struct ovl_thread *thread, struct ovl_region *region);

/* The first byte, and the number of bytes. Never fail. */
OVL_API void *ovl_region_data(const struct ovl_region *region);
OVL_API size_t ovl_region_size(const struct ovl_region *region);

/* --- Threads ---------------------------------------------------------------------------------------------------- */

/*
 * Opens a thread: whoever posts operations and runs their completion routines. The calling thread becomes its owner.
 * Each has a connection of its own; the first uses the session's.
 *
 * Returns 0 and the thread, or -errno and ret_error (NULL if not wanted).
 */
OVL_API int ovl_thread_open(struct ovl_session *session, struct ovl_thread **ret_thread, struct ovl_error *ret_error);

/*
 * Closes a thread. Its pending operations end with -ECANCELED (those that will go to a port go on); their routines
 * never run. Waits until all have ended, so that their overlapped structures are free when this returns.
 *
 * thread: taken. NULL is fine. By its owner, and not from one of its routines. Returns NULL.
 */
OVL_API struct ovl_thread *ovl_thread_close(struct ovl_thread *thread);

/*
 * The number that names the thread in the daemon's records and journal. Unique among the threads that are open: the
 * number of a session's first thread is used again when that thread has been closed.
 */
OVL_API uint64_t ovl_thread_number(const struct ovl_thread *thread);

/*
 * For embedding in another event loop: a descriptor that becomes readable when there is something to dispatch, also
 * when another thread took a completion of this one in. The loop then calls ovl_dispatch() and, if it uses completion
 * routines, ovl_sleep() with a timeout of 0. Posts under a cork are to be flushed before the loop goes to sleep.
 *
 * Returns the descriptor; borrowed, valid as long as the thread.
 */
OVL_API int ovl_thread_fd(const struct ovl_thread *thread);

/*
 * Takes in what has arrived, without blocking and without running routines. Any thread of the program may call it.
 *
 * Returns the number of completions taken in (0 or more; those that another thread took in before do not count), or
 * -ECONNABORTED when the daemon is gone: every operation that was pending on this thread has then ended with that
 * status. Only a failure in the owner's own call is described by ovl_thread_error().
 */
OVL_API int ovl_dispatch(struct ovl_thread *thread);

/*
 * An alertable wait: runs every completion routine that is queued, also those that are queued meanwhile; if there was
 * none, waits for the first. Routines of one socket are never nested.
 *
 * timeout_ns: nanoseconds; 0 only runs what is there; OVL_INFINITE.
 *
 * Returns OVL_ALERTED when at least one routine ran, 0 on timeout, or -ECONNABORTED when the daemon is gone and no
 * routine is left to run.
 */
OVL_API int ovl_sleep(struct ovl_thread *thread, uint64_t timeout_ns);

/*
 * From here on posts are gathered and leave with one system call, at ovl_uncork(), when the thread next waits in the
 * library or makes a request, or when they fill a frame (about 2,000 operations). Calls nest.
 *
 * ovl_uncork() returns 0, -EINVAL without a cork, or -ECONNABORTED: the gathered operations have then ended with that
 * status, and were indicated.
 */
OVL_API void ovl_cork(struct ovl_thread *thread);
OVL_API int ovl_uncork(struct ovl_thread *thread);

/* --- Overlapped operations -------------------------------------------------------------------------------------- */

/*
 * One operation in flight. The caller provides the memory and zeroes it once; it must stay where it is until the
 * completion was indicated, and may then be used again. Indicated means: its routine was called, its packet was taken
 * from the port, or, where there is neither, its status is no longer -EINPROGRESS. Only `user` is the caller's while
 * the operation is in flight.
 */
struct ovl_overlapped {
        void *user;
        uint64_t bytes;       /* transferred; valid once the operation has ended */
        uint64_t value;       /* what the operation yields beyond bytes: the new socket of an accept */
        int32_t status;       /* -EINPROGRESS, then 0 or -errno: written last, with release order */
        uint16_t flags;       /* 0x10: whether the operation took effect is not known */
        uint16_t reason;      /* finer than the status: ovl_reason_text() */
        uint64_t reserved[8]; /* the library's */
};

/* A completion routine. Runs in the posting thread, in an alertable wait; may post, wait and close. */
#define OVL_ROUTINE(name) void (*name)(struct ovl_thread * thread, struct ovl_overlapped * overlapped)

/* One buffer of an operation: it lies within a region of the session. */
struct ovl_buffer {
        void *data;
        size_t len; /* bytes */
};

/* Flags of posting calls. */
enum {
        OVL_PEEK = 0x02,     /* receive: the data stays in the socket */
        OVL_WAITALL = 0x100, /* receive: ends when the buffers are full */
        OVL_WANT_VERDICT =
                1 << 24,     /* wait until it is known whether the operation was refused, is done or is pending */
        OVL_QUIET = 1 << 25, /* no packet on the socket's port */
};

/*
 * Posting calls. All have in common:
 *
 * thread:     the posting thread; by its owner.
 * socket:     id of a socket of the session.
 * flags:      OVL_WANT_VERDICT and others.
 * overlapped: lent until the completion is indicated.
 * routine:    NULL: the completion goes to the socket's port, if it has one, or else is indicated by status alone.
 *
 * Return 0 when the operation is done and its completion already indicated (only with OVL_WANT_VERDICT), OVL_PENDING
 * when exactly one indication follows, success or failure, or -errno when the operation did not start and nothing is
 * indicated: -EFAULT (a buffer that is in no region), -ENOBUFS (no credit left), -EINVAL (also a routine on a socket
 * that has a port), -EMSGSIZE (more than 64 buffers or 1 GiB), -EBUSY (the overlapped structure is still in use),
 * -ECONNABORTED (the daemon is gone); with OVL_WANT_VERDICT also what the daemon refuses, such as -EBADF (no such
 * socket), -ENOTCONN, -ESHUTDOWN: the structure is then free, its status is that error, and nothing else in it changed.
 * Without OVL_WANT_VERDICT such a refusal is the operation's completion, indicated like any other.
 *
 * A posting call blocks only for a verdict, and while the daemon is so far behind that its connection is full.
 */

/*
 * Receives from a stream. Receives on one socket fill in posting order; each ends when any data has arrived.
 *
 * buffers: n of them (1 to 64), filled one after the other. The array is captured, the memory lent.
 *
 * The record: bytes received; 0 with status 0 at the end of the stream. A receive of 0 bytes ends when data or the end
 * has arrived, and consumes nothing. See recv(2).
 */
OVL_API int ovl_recv(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                     unsigned flags, struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Sends on a stream: all bytes or an error. Sends on one socket leave in posting order.
 *
 * buffers: n of them (0 to 64). The array is captured, the memory lent.
 *
 * The record: bytes sent; after a cancel, how many had left. See send(2).
 */
OVL_API int ovl_send(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                     unsigned flags, struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Connects a stream socket. address: captured.
 *
 * The record: status 0 when connected, or -ECONNREFUSED, -ETIMEDOUT, -ENETUNREACH, -EACCES (policy)... See connect(2).
 */
OVL_API int ovl_connect(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                        unsigned flags, struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Accepts a connection on a listening socket. Accepts are served in posting order.
 *
 * The record: value is the id of the new socket, which belongs to the session. See accept(2).
 */
OVL_API int ovl_accept(struct ovl_thread *thread, uint64_t listener, unsigned flags, struct ovl_overlapped *overlapped,
                       OVL_ROUTINE(routine));

/*
 * Resolves the name of a host, or reads an address, on the daemon's machine. Operations of this kind have no socket:
 * their packets go to no port, and they are cancelled by ovl_cancel() with socket 0.
 *
 * name:      at most 253 bytes; captured.
 * family:    AF_INET, AF_INET6 or AF_UNSPEC. type: SOCK_STREAM, SOCK_DGRAM or 0.
 * port:      that the addresses shall have.
 * addresses: room for n (1 or more); lent until the completion is indicated.
 *
 * The record: value is how many addresses there are, 1 to 64; the first n of them are in the array, and bytes is what
 * these take there. -ENOENT (no such name, or it has no address of this family), -EAGAIN (try again later), -EIO. No
 * order among operations of this kind. See getaddrinfo(3).
 */
OVL_API int ovl_resolve(struct ovl_thread *thread, const char *name, int family, int type, uint16_t port,
                        struct sockaddr_storage *addresses, size_t n, unsigned flags, struct ovl_overlapped *overlapped,
                        OVL_ROUTINE(routine));

/* The state of an operation, as often as one likes and from any thread: -EINPROGRESS, or its status. */
OVL_API int ovl_result(const struct ovl_overlapped *overlapped);

/*
 * Waits for one operation, alertably or not.
 *
 * thread:     who waits; by its owner. The operation may be another thread's of the same session.
 * alertable:  not 0: also runs routines of this thread, and returns as soon as one has run.
 *
 * Routines that are queued win over an operation that has ended. An operation with a routine has ended before its
 * routine has run.
 *
 * Returns 0 when the operation has ended (its result is ovl_result()), OVL_ALERTED, -ETIMEDOUT, or -EINVAL when the
 * operation is none of this session.
 */
OVL_API int ovl_wait(struct ovl_thread *thread, struct ovl_overlapped *overlapped, uint64_t timeout_ns, int alertable);

/*
 * Cancels operations on a socket and waits until each has ended, by cancellation or otherwise. Nothing is lost: data
 * that arrived went to an operation or stays in the socket.
 *
 * socket:     0: on all sockets of the session, and those that have none.
 * overlapped: the operation; NULL: all operations on the socket. Of an operation that has no socket, with socket 0.
 *
 * Returns how many ended because of this call (0 when all that matched ended by themselves meanwhile), or -ENOENT when
 * nothing matched, or -errno. Those that wait for this very thread have their records taken in when this returns; of
 * others, those that the daemon had sent.
 */
OVL_API int ovl_cancel(struct ovl_thread *thread, uint64_t socket, struct ovl_overlapped *overlapped);

/*
 * The same for what one thread of the session has posted, on all sockets.
 *
 * thread: who asks; by its owner.
 * number: of the thread that posted: ovl_thread_number().
 *
 * Returns as ovl_cancel().
 */
OVL_API int ovl_cancel_thread(struct ovl_thread *thread, uint64_t number);

/* --- Sockets ---------------------------------------------------------------------------------------------------- */

/*
 * Requests. All block until the daemon has answered (completions that arrive meanwhile are kept), are made by the
 * thread's owner, and return 0 or -errno with ovl_thread_error() saying more.
 */

/* family: AF_INET or AF_INET6. type: SOCK_STREAM. Gives the id of a new socket of the session. See socket(2). */
OVL_API int ovl_socket_open(struct ovl_thread *thread, int family, int type, uint64_t *ret_socket);

/*
 * Closes a socket. The id is invalid at once; pending operations end with -ECANCELED and are indicated; those that
 * wait for this very thread have their records taken in when this returns. -EBADF when the socket is not there.
 */
OVL_API int ovl_socket_close(struct ovl_thread *thread, uint64_t socket);

/* Lets another session join a socket: 16 bytes, which are handed over by whatever way the two processes have. */
struct ovl_ticket {
        uint8_t bytes[16];
};

/*
 * Makes a ticket to a socket. It is good for one ovl_socket_join(), and as long as the socket is open in this session.
 *
 * session: the number of the session that may join, as its ovl_session_info() says: of the same user and unit.
 *
 * -ESRCH when there is no such session, -EDQUOT when too many tickets were not used.
 */
OVL_API int ovl_socket_share(struct ovl_thread *thread, uint64_t socket, uint64_t session,
                             struct ovl_ticket *ret_ticket);

/*
 * Joins a socket of another session. Operations of both stand in the same queues: their order is that in which the
 * daemon takes them. Each session has its own association with a port; who closes the socket ends its own operations,
 * and the last one closes the kernel's socket.
 *
 * Gives the id of the socket in this session. -ENOENT when the ticket is not good (any more) for this session.
 */
OVL_API int ovl_socket_join(struct ovl_thread *thread, const struct ovl_ticket *ticket, uint64_t *ret_socket);

/*
 * Gives the daemon a socket of this process: stream or datagram, Unix, IPv4 or IPv6, in any state but connecting.
 *
 * fd: borrowed. The daemon has a duplicate when this returns; close this one, what is done with it disturbs the order
 *     of operations.
 *
 * -EBADFD when it is no such socket: ovl_thread_error() says what it is. -EACCES (policy), -EDQUOT.
 */
OVL_API int ovl_socket_adopt(struct ovl_thread *thread, int fd, uint64_t *ret_socket);

/*
 * Takes a socket out of the daemon. The id is invalid at once; sends that are queued leave first, everything else that
 * is pending ends with -ECANCELED and is indicated. Data that has arrived and was given to no operation is still in the
 * socket.
 *
 * ret_fd: the descriptor, in blocking mode and close-on-exec. The caller's.
 *
 * -EBUSY when another session has joined the socket: it stays open. -EACCES (policy).
 */
OVL_API int ovl_socket_export(struct ovl_thread *thread, uint64_t socket, int *ret_fd);

OVL_API int ovl_bind(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len);
OVL_API int ovl_listen(struct ovl_thread *thread, uint64_t socket, int backlog);

/* how: SHUT_RD, SHUT_WR or SHUT_RDWR. Sends that are pending leave before the end of the stream is sent. */
OVL_API int ovl_shutdown(struct ovl_thread *thread, uint64_t socket, int how);

/* len: room on entry, used on return. See getsockname(2), getpeername(2). */
OVL_API int ovl_getsockname(struct ovl_thread *thread, uint64_t socket, struct sockaddr *address, socklen_t *len);
OVL_API int ovl_getpeername(struct ovl_thread *thread, uint64_t socket, struct sockaddr *address, socklen_t *len);

/*
 * level, option: as in setsockopt(2), of those that take an int: SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_SNDBUF,
 * SO_RCVBUF, SO_OOBINLINE, SO_ERROR (read only), TCP_NODELAY, TCP_CORK, TCP_QUICKACK, TCP_KEEPIDLE, TCP_KEEPINTVL,
 * TCP_KEEPCNT, TCP_USER_TIMEOUT, IPV6_V6ONLY, IP_TOS, IPV6_TCLASS. Others: -ENOPROTOOPT.
 */
OVL_API int ovl_setsockopt(struct ovl_thread *thread, uint64_t socket, int level, int option, int value);
OVL_API int ovl_getsockopt(struct ovl_thread *thread, uint64_t socket, int level, int option, int *ret_value);

/* --- Completion ports ------------------------------------------------------------------------------------------- */

/* What a port delivers. */
struct ovl_packet {
        uint64_t key;                      /* of the socket's association, or as posted */
        struct ovl_overlapped *overlapped; /* of the operation, which has ended; or as posted */
        uint64_t bytes;                    /* transferred, or as posted */
        int32_t status;                    /* of the operation; 0 when posted */
        uint32_t reserved;
};

/*
 * Opens a completion port.
 *
 * concurrency: how many threads that took a packet may run at a time; one that waits in the library does not count.
 *              0: as many as the machine has processors.
 */
OVL_API int ovl_port_open(struct ovl_session *session, unsigned concurrency, struct ovl_port **ret_port,
                          struct ovl_error *ret_error);

/*
 * Closes a port: who waits on it gets -ECANCELED, packets that nobody took are dropped. The sockets that are associated
 * with it stay open; what ends on them from now on is indicated by its status alone.
 *
 * port: taken; no thread calls anything with it any more but returns from its wait. NULL is fine. Returns NULL.
 */
OVL_API struct ovl_port *ovl_port_close(struct ovl_port *port);

/* Associates a socket with a port, for the socket's life. -EEXIST when it has one. */
OVL_API int ovl_port_associate(struct ovl_thread *thread, struct ovl_port *port, uint64_t socket, uint64_t key);

/*
 * Takes packets: in the order in which they came; the thread that came last to wait is served first. Not an alertable
 * wait.
 *
 * thread: who waits; by its owner. It counts as running from the return of this call until it waits on a port again,
 *         and does not while it is blocked in another wait or request of the library.
 * max:    room in ret_packets, 1 or more.
 *
 * Returns how many packets there are (1 or more), -ETIMEDOUT, -ECANCELED when the port was closed, or -ECONNABORTED.
 */
OVL_API int ovl_port_wait(struct ovl_port *port, struct ovl_thread *thread, struct ovl_packet *ret_packets, size_t max,
                          uint64_t timeout_ns);

/* Posts a packet of one's own: delivered verbatim, but for `reserved`. Any thread. Returns 0, -ENOMEM or -ECANCELED. */
OVL_API int ovl_port_post(struct ovl_port *port, const struct ovl_packet *packet);

#undef OVL_ROUTINE

#ifdef __cplusplus
}
#endif

#endif
