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
 *   by an event               where the overlapped structure names one: any thread may wait for it
 *   by a completion port      where the socket is associated with one: any thread that waits on the port gets a packet
 *   not at all                the caller polls or waits for the result
 *
 * A posting call without an overlapped structure is synchronous: it returns when the operation has ended.
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
struct ovl_event;

/* What a posting call returns when exactly one indication will follow. */
#define OVL_PENDING 1

/* What an alertable wait returns when at least one completion routine or APC ran, and nothing was waited for. */
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
        uint32_t poll_us;  /* how long a wait looks before it sleeps, while that pays; 0: 50; OVL_POLL_NEVER */
        const char *name;  /* of the program, for the daemon's journal; NULL: none */
        const char *level; /* "inline", "shared" or "ring"; NULL: $OVERLAPD_LEVEL, or else the best that is granted */
        void *reserved[4]; /* NULL */
};

/* poll_us: waits sleep at once. Only at the level "ring" do they look for completions before they sleep. */
#define OVL_POLL_NEVER UINT32_MAX

/*
 * At which level a session runs changes nothing but costs and limits:
 *
 *   inline   bytes are copied through the connection. Regions are ordinary memory of the program. A send has at most
 *            1 MiB, a receive gives at most 65,535 bytes, and all operations together have 16 MiB in flight
 *   shared   the daemon and the kernel work in the program's regions; entries and completions go through the connection
 *   ring     these, too, go through memory, without system calls as long as both sides are awake
 */

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
 * session: taken; its threads, ports, events and regions were freed before. NULL is fine. Returns NULL.
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

/*
 * Asks why the policy refused an operation: that of the thread's session which it refused last. A record says only
 * OVL_REASON_DENIED; calls that wait for their operation or its verdict ask by themselves.
 *
 * thread: by its owner.
 *
 * Returns -EACCES, and ovl_thread_error() names the rule with its file and line; -ENODATA when none was refused; or
 * another -errno.
 */
OVL_API int ovl_thread_denied(struct ovl_thread *thread);

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
        uint64_t polls;      /* turns that found work by looking for it before they would have slept */
        uint64_t lanes;      /* of all sessions */
        uint64_t reserved[6];
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

/* --- Files ------------------------------------------------------------------------------------------------------ */

/*
 * Lends a file to the daemon, for ovl_transmit_file() and ovl_transmit_packets().
 *
 * fd: a regular file that is open for reading only. Borrowed: the daemon has a duplicate when this returns.
 *
 * Returns 0 and the number of the file in this session; -EBADFD when it is no such file, and ovl_thread_error() says
 * why; -EBADF when it is no descriptor; -EDQUOT (64 files); -EOPNOTSUPP at the level "inline". Blocks until the daemon
 * has looked at the file, which takes as long as its file system takes.
 */
OVL_API int ovl_file_open(struct ovl_thread *thread, int fd, uint64_t *ret_file);

/*
 * Takes a file back. No operation may name it any more; waits for the end of those that do. Its number may be given
 * again.
 *
 * Returns 0, or -ENOENT when the file is not there.
 */
OVL_API int ovl_file_close(struct ovl_thread *thread, uint64_t file);

/* --- Threads ---------------------------------------------------------------------------------------------------- */

/*
 * Opens a thread: whoever posts operations and runs their completion routines. The calling thread becomes its owner.
 * Each has a connection of its own; the first uses the session's.
 *
 * Returns 0 and the thread, or -errno and ret_error (NULL if not wanted).
 */
OVL_API int ovl_thread_open(struct ovl_session *session, struct ovl_thread **ret_thread, struct ovl_error *ret_error);

/*
 * Closes a thread. Its pending operations end with -ECANCELED (those that have no event and will go to a port go on);
 * their routines never run, their events are set. Waits until all have ended, so that their overlapped structures are
 * free when this returns. APCs that have not run are dropped.
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
 * when a completion of this thread was taken in meanwhile, by another thread or in a request, wait or post of its own.
 * The loop then calls ovl_dispatch() and, if it uses completion routines or APCs, ovl_sleep() with a timeout of 0:
 * after these two there is nothing of which it was not told. Posts under a cork are to be flushed before the loop goes
 * to sleep. At the level "ring" the first call of this function costs a little of what that level spares: from then on
 * the daemon makes the descriptor readable for whatever comes after the thread has taken what was there.
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
 * An alertable wait: runs every completion routine and APC that is queued, in the order in which they were queued, also
 * those that are queued meanwhile; if there was none, waits for the first. Routines of one socket are never nested.
 *
 * timeout_ns: nanoseconds; 0 only runs what is there; OVL_INFINITE.
 *
 * Returns OVL_ALERTED when at least one ran, 0 on timeout, or -ECONNABORTED when the daemon is gone and nothing is left
 * to run.
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
 *
 * The event is captured by the posting call: it is reset before the operation can end, and set when it has ended, after
 * the status was written. An operation that did not start does not set it. With a routine it is ignored, neither reset
 * nor set. On a socket that has a port both are indicated, the event first.
 */
struct ovl_overlapped {
        void *user;
        struct ovl_event *event; /* borrowed; NULL: none */
        uint64_t bytes;          /* transferred; valid once the operation has ended */
        uint64_t value;       /* what the operation yields beyond bytes: an accept's new socket, a poll's events... */
        int32_t status;       /* -EINPROGRESS, then 0 or -errno: written last, with release order */
        uint16_t flags;       /* OVL_TRUNCATED and others */
        uint16_t reason;      /* finer than the status: ovl_reason_text() */
        uint64_t reserved[8]; /* the library's */
};

/* What an operation that has ended may say of itself besides its status. */
enum {
        OVL_TRUNCATED = 0x02,         /* the datagram was longer than the buffers: they are full, the rest is lost */
        OVL_CONTROL_TRUNCATED = 0x04, /* its control items were longer than their place: the first are there */
        OVL_INDETERMINATE = 0x10,     /* whether the operation took effect is not known */
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
        OVL_DISCONNECT = 0x01,      /* transmit: the end of the stream follows */
        OVL_REUSE = 0x02,           /* disconnect: the socket is as new afterwards */
        OVL_OOB = 0x01,             /* TCP: the urgent byte: what is received, or the last of what is sent */
        OVL_PEEK = 0x02,            /* receive: the data stays in the socket */
        OVL_DONTROUTE = 0x04,       /* send: to hosts of the networks that the machine is in, only */
        OVL_PUSH_IMMEDIATE = 0x20,  /* receive: a hint, without effect: no receive waits for more than there is */
        OVL_DONTWAIT = 0x40,        /* receive, send, accept: is done now, or ends with -EAGAIN */
        OVL_WAITALL = 0x100,        /* receive from a stream: ends when the buffers are full */
        OVL_PARTIAL = 0x8000,       /* without effect: no socket has messages of which there are parts */
        OVL_WANT_VERDICT = 1 << 24, /* wait until it is known whether it was refused, is done or is pending */
        OVL_QUIET = 1 << 25,        /* no packet on the socket's port */
};

/*
 * Posting calls. All have in common:
 *
 * thread:     the posting thread; by its owner.
 * socket:     id of a socket of the session.
 * flags:      OVL_WANT_VERDICT and others.
 * overlapped: lent until the completion is indicated. NULL: the call is synchronous, see below.
 * routine:    NULL: the completion goes to the socket's port, if it has one, or else is indicated by status alone.
 *
 * Return 0 when the operation is done and its completion already indicated (only with OVL_WANT_VERDICT), OVL_PENDING
 * when exactly one indication follows, success or failure, or -errno when the operation did not start and nothing is
 * indicated: -EFAULT (a buffer that is in no region), -ENOBUFS (no credit left), -EINVAL (also a routine on a socket
 * that has a port, or an event of another session), -EMSGSIZE (more than 64 buffers or 1 GiB; at the level "inline" a
 * send of more than 1 MiB, or an ovl_sendto() or OVL_WAITALL of more than 65,535 bytes), -EBUSY (the overlapped
 * structure is still in use), -ECONNABORTED (the daemon is gone); with OVL_WANT_VERDICT also what the daemon refuses,
 * such as -EBADF (no such socket), -ENOTCONN, -ESHUTDOWN: the structure is then free, its status is that error, and
 * nothing else in it changed. Without OVL_WANT_VERDICT such a refusal is the operation's completion, indicated like any
 * other.
 *
 * With OVL_DONTWAIT a receive, a send or an accept is done now or ends with -EAGAIN, which is indicated like any other
 * end. It overtakes nothing: behind others of its direction it ends so, too.
 *
 * A posting call blocks only for a verdict, and while the daemon is so far behind that its connection is full.
 */

/*
 * Receives from a stream, or one datagram. Receives on one socket fill in posting order; on a stream each ends when any
 * data has arrived.
 *
 * buffers: n of them (1 to 64), filled one after the other. The array is captured, the memory lent.
 * flags:   also OVL_PEEK, OVL_DONTWAIT, OVL_PUSH_IMMEDIATE and OVL_PARTIAL; on a stream OVL_WAITALL, which goes with
 *          none of them but OVL_PUSH_IMMEDIATE; on TCP OVL_OOB: it ends with the urgent byte, or with 0 bytes where
 *          none can come any more. Such receives wait for none of the others, nor the others for them; with
 *          SO_OOBINLINE they are refused with -EINVAL. A byte that comes while none is pending stays until the stream
 *          is received beyond it.
 *
 * The record, on a stream: bytes received (at the level "inline" at most 65,535); 0 with status 0 at the end of the
 * stream. A receive of 0 bytes ends when data or the end has arrived, and consumes nothing. On a datagram socket: as
 * ovl_recvfrom(). See recv(2).
 */
OVL_API int ovl_recv(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                     unsigned flags, struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Sends on a stream: all bytes or an error. On a datagram socket, sends one datagram to its peer: all buffers together,
 * and none is an empty datagram. Sends on one socket leave in posting order.
 *
 * buffers: n of them (0 to 64). The array is captured, the memory lent.
 * flags:   also OVL_DONTROUTE and OVL_DONTWAIT; on a stream OVL_PARTIAL, on TCP OVL_OOB: the last byte is urgent. With
 *          OVL_DONTWAIT a stream takes all or nothing: if no send is before it and there is room for some of the bytes,
 *          the rest leaves like that of any other send.
 *
 * The record: bytes sent; after a cancel, how many had left. Of a datagram also -EDESTADDRREQ (the socket has no peer),
 * -EMSGSIZE (it is too long, and nothing was sent). See send(2).
 */
OVL_API int ovl_send(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                     unsigned flags, struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Receives one datagram, and says from whom. Receives on one socket, with ovl_recv(), take datagrams in posting order.
 *
 * buffers:  n of them (1 to 64), filled one after the other. The array is captured, the memory lent.
 * flags:    also OVL_PEEK, OVL_DONTWAIT, OVL_PUSH_IMMEDIATE and OVL_PARTIAL.
 * from:     filled with the sender's address before the operation is indicated. Lent until then. NULL: not wanted.
 * from_len: filled with the bytes of that address; 0 when the sender has none, or no datagram came. Lent until then.
 *           NULL if and only if `from` is.
 *
 * Refused: -EOPNOTSUPP (not a datagram socket), -EINVAL (it is neither bound nor connected, nor has it sent).
 *
 * The record: bytes received; 0 for an empty datagram. When the datagram was longer than the buffers, the status is
 * -EMSGSIZE and the flags have OVL_TRUNCATED: bytes and sender are as after a success, the rest is lost, also when the
 * buffers have no bytes at all. -ECONNREFUSED: an earlier datagram was not taken at the peer; the socket goes on. See
 * recvfrom(2).
 */
OVL_API int ovl_recvfrom(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                         unsigned flags, struct sockaddr_storage *from, socklen_t *from_len,
                         struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/* What a datagram has beside its bytes. */
struct ovl_received {
        struct sockaddr_storage address; /* the sender */
        socklen_t address_len;           /* bytes of that; 0: it has none */
        unsigned flags;                  /* OVL_TRUNCATED, OVL_CONTROL_TRUNCATED, OVL_BROADCAST and OVL_MULTICAST */
        uint64_t bytes;                  /* of the datagram, that are in the buffers */
        void *control;                   /* the caller's: where control items go; NULL: nowhere */
        size_t control_len; /* the caller's: bytes of that place; afterwards: of the items that are there */
};

enum {
        OVL_BROADCAST = 0x400, /* the datagram was sent to all of a network */
        OVL_MULTICAST = 0x800, /* the datagram was sent to a group */
};

/*
 * Receives one datagram, and says what there is to say of it: ovl_recvfrom() with control items. Which items come is
 * chosen with ovl_setsockopt(): IP_PKTINFO or IPV6_RECVPKTINFO (OVL_PACKET_INFO), IP_RECVTTL or IPV6_RECVHOPLIMIT
 * (OVL_HOP_LIMIT), IP_RECVTOS or IPV6_RECVTCLASS (OVL_TRAFFIC_CLASS); at first none.
 *
 * buffers:  n of them (1 to 64), filled one after the other. The array is captured, the memory lent.
 * received: its control and control_len are captured; the place may be anywhere in memory. It is written, and the place
 *           of the items, before the operation is indicated, and only if a datagram was taken. Lent until then.
 * flags:    also OVL_PEEK.
 *
 * Refused: -EFAULT (no structure, or no place for items where it has a length), -EOPNOTSUPP (not a datagram socket),
 * -EINVAL (it is neither bound nor connected, nor has it sent).
 *
 * The record: as that of ovl_recvfrom(). When the items were longer than their place, the status is -EMSGSIZE and the
 * flags have OVL_CONTROL_TRUNCATED; the datagram is complete, unless they have OVL_TRUNCATED, too. Without an
 * overlapped structure the call returns -EMSGSIZE then, and `received` says how many bytes there are. Whether a
 * datagram was sent to many is known of sockets that were opened here, and of others with OVL_PACKET_INFO; all of them
 * are IPv4 or IPv6. See recvmsg(2), WSARecvMsg.
 */
OVL_API int ovl_recvmsg(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                        struct ovl_received *received, unsigned flags, struct ovl_overlapped *overlapped,
                        OVL_ROUTINE(routine));

/*
 * Sends one datagram with control items: from a source address, through an interface, with a hop limit or a traffic
 * class of its own. Sends on one socket leave in posting order.
 *
 * buffers: n of them (0 to 64), together one datagram. The array is captured, the memory lent.
 * address: as ovl_sendto(); NULL: to the socket's peer.
 * control: control_len bytes of items (at most 256), which ovl_item_put() makes. Captured. NULL: none.
 * flags:   also OVL_DONTROUTE and OVL_DONTWAIT.
 *
 * Refused: -EINVAL (an item that is unknown, malformed or there twice; any on a Unix socket), and as ovl_sendto().
 *
 * The record: as that of ovl_sendto(); -EDESTADDRREQ without address and peer. A source that is no address of the
 * machine, or an interface that it does not have, is -EINVAL, -EADDRNOTAVAIL, -ENODEV or -ENETUNREACH. See sendmsg(2),
 * WSASendMsg.
 */
OVL_API int ovl_sendmsg(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                        unsigned flags, const struct sockaddr *address, socklen_t len, const void *control,
                        size_t control_len, struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/* Types of control items. */
enum {
        OVL_PACKET_INFO = 1,   /* received: whom it was sent to, and where it came in; sent: from whom, and where */
        OVL_HOP_LIMIT = 2,     /* 1 to 255: how many machines may hand it on, or could have */
        OVL_TRAFFIC_CLASS = 3, /* 0 to 255 */
};

/* One control item. */
struct ovl_item {
        unsigned type;
        unsigned value; /* the hop limit or traffic class; of OVL_PACKET_INFO the interface's number, 0 for any */
        struct sockaddr_storage
                address; /* OVL_PACKET_INFO: with port 0; to be sent: its host may be all zero for any */
};

/* A length of the place for one item of each type. */
#define OVL_ITEMS_SIZE 64

/*
 * Reads one item after the other.
 *
 * control, len: items, as they were received.
 * at:           0 at first; moved behind the item that was read.
 *
 * Returns 1 and an item, 0 when there is none left, or -EINVAL where they are malformed.
 */
OVL_API int ovl_item_next(const void *control, size_t len, size_t *at, struct ovl_item *ret_item);

/*
 * Appends an item.
 *
 * control: `size` bytes.
 * len:     of these, used; 0 at first, grows by what the item takes.
 *
 * Returns 0, -EMSGSIZE when there is no room, or -EINVAL where the item is none.
 */
OVL_API int ovl_item_put(void *control, size_t size, size_t *len, const struct ovl_item *item);

/*
 * Sends one datagram to an address, also where the socket is connected to another. A UDP socket that has no address
 * gets one. Sends on one socket leave in posting order.
 *
 * flags:   also OVL_DONTROUTE and OVL_DONTWAIT.
 * buffers: n of them (0 to 64), together one datagram. The array is captured, the memory lent.
 * address: captured. The path of a Unix socket is absolute, as overlapd sees the file system. To port 0 nothing is
 *          sent, and that is no error: it is lost, as at any port where nobody is. The socket gets no address by it.
 *
 * Refused: -EOPNOTSUPP (not a datagram socket), -EAFNOSUPPORT (an address of another family), -EACCES (policy).
 *
 * The record: bytes sent, which is all; -EMSGSIZE when that is too many for one datagram, and nothing was sent. See
 * sendto(2).
 */
OVL_API int ovl_sendto(struct ovl_thread *thread, uint64_t socket, const struct ovl_buffer *buffers, size_t n,
                       unsigned flags, const struct sockaddr *address, socklen_t len, struct ovl_overlapped *overlapped,
                       OVL_ROUTINE(routine));

/*
 * Sends a file on a stream, which the daemon reads: nothing of it passes through the program. A head leaves before it,
 * and a tail behind it. Sends on one socket leave in posting order.
 *
 * file:   as ovl_file_open() gave it; 0: none, only head and tail are sent.
 * offset: bytes from the start of the file. Nobody's file position counts, or is changed.
 * len:    bytes of the file; 0: all from the offset to the end. Together with head and tail at most 2,147,483,646.
 * head:   NULL: none. What it describes is captured, the memory lent; so with the tail.
 *
 * Refused: -ENOTCONN (not connected, or a datagram socket), -EBADF (no such file), -EOPNOTSUPP (the level "inline":
 * read the file and send what was read).
 *
 * The record: bytes sent, of head, file and tail together; after a cancel or a failure, how many had left. -ENODATA:
 * the file has fewer bytes than `offset` and `len` say. It is looked at before anything leaves, and then nothing has; a
 * file that shrinks meanwhile ends the operation where it ends. -EIO: it cannot be read. -EMSGSIZE: to its end there
 * are more bytes than one operation sends. See sendfile(2).
 */
OVL_API int ovl_transmit_file(struct ovl_thread *thread, uint64_t socket, uint64_t file, uint64_t offset, uint64_t len,
                              const struct ovl_buffer *head, const struct ovl_buffer *tail, unsigned flags,
                              struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/* Of a part of ovl_transmit_packets(). */
enum {
        OVL_FROM_FILE = 0x01,  /* it is a range of the file */
        OVL_PACKET_END = 0x02, /* it is the last of its packet */
};

/* A part of ovl_transmit_packets(): memory of a region, or a range of the file. */
struct ovl_part {
        void *data;      /* of memory */
        uint64_t offset; /* of a range of the file: bytes from its start */
        size_t len;      /* bytes; of a range of the file 0: to its end */
        unsigned flags;  /* OVL_FROM_FILE, OVL_PACKET_END */
};

/*
 * Sends memory and ranges of a file in one order: on a datagram socket, which has a peer, each packet as one datagram,
 * and on a stream one after the other, where packets have no meaning.
 *
 * file:  as ovl_file_open() gave it; 0: none, and no part is a range of it.
 * parts: n of them (0 to 64). The last one ends its packet in any case. The array is captured, the memory lent.
 * flags: on a stream also OVL_DISCONNECT and OVL_REUSE, as of ovl_transmit_file().
 *
 * Refused as ovl_transmit_file(), but that a datagram socket is only refused where it has no peer.
 *
 * The record: as that of ovl_transmit_file(). -EMSGSIZE also: a packet is too long for a datagram; those before it have
 * left.
 */
OVL_API int ovl_transmit_packets(struct ovl_thread *thread, uint64_t socket, uint64_t file,
                                 const struct ovl_part *parts, size_t n, unsigned flags,
                                 struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Waits until a socket can be read or written, or has an error. Takes nothing; any number may wait on one socket,
 * whatever its type and state, and they have no place in the order of other operations.
 *
 * events: POLLIN, POLLPRI, POLLOUT of poll(2), or none: POLLERR and POLLHUP are always told.
 *
 * The record: value holds the events that are there, of those and POLLERR and POLLHUP: the latter also when the other
 * side has ended its sending. What receives take that are pending is theirs, and not told. See poll(2).
 */
OVL_API int ovl_poll(struct ovl_thread *thread, uint64_t socket, unsigned events, unsigned flags,
                     struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Connects a stream socket, or sets the peer of a datagram socket, which can be done again.
 *
 * address: captured. The path of a Unix socket is absolute, as overlapd sees the file system; the listener sees
 *          overlapd's credentials.
 *
 * The record: status 0 when connected, or -ECONNREFUSED, -ETIMEDOUT, -ENETUNREACH, -EACCES (policy)... On a datagram
 * socket it takes its turn among the sends. See connect(2).
 */
OVL_API int ovl_connect(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                        unsigned flags, struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Accepts a connection on a listening socket. Accepts are served in posting order.
 *
 * flags: also OVL_DONTWAIT.
 *
 * The record: value is the id of the new socket, which belongs to the session. See accept(2).
 */
OVL_API int ovl_accept(struct ovl_thread *thread, uint64_t listener, unsigned flags, struct ovl_overlapped *overlapped,
                       OVL_ROUTINE(routine));

/* Between whom a connection is. */
struct ovl_accepted {
        struct sockaddr_storage local;
        struct sockaddr_storage remote;
        socklen_t local_len;  /* bytes of that address; 0: it has none */
        socklen_t remote_len; /* likewise */
};

/*
 * Accepts a connection into a socket that was opened for it, together with its first data. Accepts of both kinds are
 * served in posting order, whatever they then wait for.
 *
 * prepared: a stream of the listener's family that is neither bound nor connected. From here on until the operation has
 *           ended it can be neither bound nor connected, nor be prepared for another accept (-EINVAL); closing it ends
 *           the operation with -ECANCELED, cancelling operations on it does not. When the operation has succeeded, it
 *           is the connection, under its number, with its port and with the options of the listener; otherwise it is as
 *           it was. 0: the connection gets a number of its own, as with ovl_accept().
 * buffers:  n of them (0 to 64; at the level "inline" 65,535 bytes), where the first data goes. The array is captured,
 *           the memory lent. Without any room the operation ends when there is a connection; with some, when data has
 *           come, or the end of the stream. To give up a connection that sends nothing close the prepared socket:
 *           ovl_connect_time() tells since when it waits.
 * accepted: filled with the addresses of both ends before the operation is indicated, where it succeeds. Lent until
 *           then. NULL: not wanted.
 *
 * Refused, besides what all posting calls are: -EINVAL (not a listener; a prepared socket that is not new, or already
 * prepared), -EBADF (no such prepared socket).
 *
 * The record: value is the id of the prepared or the new socket (0: this session has closed the prepared one, and
 * another has it); bytes that were received, 0 at the end of the stream.
 * It goes to the port of the listener. When the connection breaks before its first data, -ECONNRESET. With any error,
 * also -ECANCELED, a connection that was there is closed. See accept(2), AcceptEx.
 */
OVL_API int ovl_accept_into(struct ovl_thread *thread, uint64_t listener, uint64_t prepared,
                            const struct ovl_buffer *buffers, size_t n, struct ovl_accepted *accepted, unsigned flags,
                            struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Connects a stream socket and sends its first data, before any other send.
 *
 * address: as ovl_connect().
 * buffers: n of them (0 to 64; at the level "inline" 65,535 bytes). The array is captured, the memory lent.
 *
 * The record: status 0 when it is connected and all bytes are sent; bytes that were sent. -ECONNREFUSED and others as
 * ovl_connect(), with 0 bytes: the socket can be connected again. After an error of the sending, or a cancel that came
 * when it was connected, the socket is connected. See ConnectEx.
 */
OVL_API int ovl_connect_send(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                             const struct ovl_buffer *buffers, size_t n, unsigned flags,
                             struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Connects a stream to a host by its name, or sets the peer of a datagram socket: one operation, in which the daemon
 * resolves the name and tries the addresses in their order until one is reached. So a program connects to what it may
 * reach without knowing any address, and the policy decides by the name and by the very address that is then used.
 *
 * socket:     IPv4, IPv6, or, unless IPV6_V6ONLY is set, IPv6 for addresses of both.
 * name:       of a host, at most 253 bytes, or an address; captured.
 * service:    the number of a port, 1 to 65535, or the name of a service, at most 63 bytes; captured.
 * timeout_ms: after which it ends in any case; 0: none. Without one the name has 30 seconds, each address but the last
 *             10 seconds, and the last one what the kernel takes.
 *
 * Returns, besides what all posting calls do, -EINVAL (a name or service that can be none); synchronously (overlapped
 * is NULL) -EOPNOTSUPP in non-blocking mode.
 *
 * The record: 0 bytes; status 0; that of the last address that was tried, as of ovl_connect(); -ETIMEDOUT; -ENOENT (no
 * such name, no address of this family, or no such service), -EAGAIN or -EIO of the name servers; -EACCES when the
 * policy lets the name not be resolved, or refuses all its addresses, and then ovl_thread_denied() says more. It is
 * cancelled in each of its phases, and the socket can be connected again. ovl_getpeername() tells the address. See
 * getaddrinfo(3), WSAConnectByName.
 */
OVL_API int ovl_connect_name(struct ovl_thread *thread, uint64_t socket, const char *name, const char *service,
                             uint32_t timeout_ms, unsigned flags, struct ovl_overlapped *overlapped,
                             OVL_ROUTINE(routine));

/*
 * Disconnects a stream: sends that were posted before leave, then the end of the stream. New sends are refused from the
 * call on (-ESHUTDOWN); receives go on.
 *
 * flags: also OVL_REUSE: the socket is then as new, under its number and with its port: neither bound nor connected,
 *        without options, good for ovl_connect() and ovl_accept_into(). What is pending on it ends with -ECANCELED;
 *        what has arrived and was not received is lost, as with ovl_socket_close().
 *
 * Refused: -ENOTCONN.
 *
 * The record: 0 bytes; status 0 when the end of the stream was sent; -ECONNRESET and others when the connection is
 * broken (with OVL_REUSE that is no error). A cancel that comes in time changes only that the socket is not renewed.
 * See shutdown(2), DisconnectEx.
 */
OVL_API int ovl_disconnect(struct ovl_thread *thread, uint64_t socket, unsigned flags,
                           struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Resolves the name of a host, or reads an address, on the daemon's machine. Operations of this kind have no socket:
 * their packets go to no port, and they are cancelled by ovl_cancel() with socket 0.
 *
 * name:      at most 253 bytes; captured.
 * family:    AF_INET, AF_INET6 or AF_UNSPEC.
 * type:      SOCK_STREAM, SOCK_DGRAM or 0.
 * port:      that the addresses shall have.
 * addresses: room for n (1 or more; more than 64 are never filled). Lent until the completion is indicated.
 *
 * Returns, besides what all posting calls do, -EINVAL (no name of a host, no room), -EAFNOSUPPORT or -ESOCKTNOSUPPORT
 * (another family or type).
 *
 * The record: value is how many addresses there are, 1 to 64; the first n of them are in the array, and bytes is what
 * these take there. -ENOENT (no such name, or it has no address of this family), -EAGAIN (try again later), -EIO. No
 * order among operations of this kind. See getaddrinfo(3).
 */
OVL_API int ovl_resolve(struct ovl_thread *thread, const char *name, int family, int type, uint16_t port,
                        struct sockaddr_storage *addresses, size_t n, unsigned flags, struct ovl_overlapped *overlapped,
                        OVL_ROUTINE(routine));

/*
 * Ioctls: what is asked of a socket, or of the machine's addresses and routes through it. They have no place in the
 * order of other operations. What the socket itself knows is done when the daemon takes the operation; the rest later.
 */

/* Codes of ovl_ioctl(). */
enum {
        OVL_ADDRESS_LIST_CHANGE = 1, /* ends once the addresses of the machine have changed */
        OVL_BYTES_TO_READ = 6,       /* value: bytes that can be received now; of a datagram socket, of the next one */
        OVL_AT_MARK = 7,             /* value: 1 when the next byte of the stream is the urgent one, or else 0 */
        OVL_FLUSH = 8,               /* ends everything that this session has pending on the socket */
};

/*
 * Does what has neither input nor output but a number.
 *
 * code: OVL_ADDRESS_LIST_CHANGE  IPv4 and IPv6 sockets. Ends with the first change after it was posted: an address of
 *                                the socket's family came or went. For the next change it is to be posted again. With
 *                                OVL_WANT_VERDICT, changes count from the return of the call on.
 *       OVL_BYTES_TO_READ, OVL_AT_MARK (TCP)
 *       OVL_FLUSH                Sends that are queued are discarded, and what is pending ends with -ECANCELED, sends
 *                                that were under way with the bytes that had left. Ends after all of them.
 *
 * Refused: -EOPNOTSUPP (no such code, or not for this socket), -EPERM or -EAFNOSUPPORT and others (the daemon cannot
 * see addresses: ovl_thread_error() says what to do), -ENOBUFS (too many wait for changes).
 *
 * The record: bytes is 0; value is the number. See SIOCINQ of tcp(7), sockatmark(3), rtnetlink(7).
 */
OVL_API int ovl_ioctl(struct ovl_thread *thread, uint64_t socket, uint32_t code, unsigned flags,
                      struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Sets when TCP probes a silent connection, or that it does not.
 *
 * on:          0: no probes; the times do not count.
 * idle_ms:     of silence before the first probe, 1 to 32,767,000. Rounded up to seconds, as the next.
 * interval_ms: between probes, likewise.
 *
 * Returns, besides what all posting calls do, -EINVAL (a time that is none). Refused: -EOPNOTSUPP (not TCP).
 *
 * The record: bytes is 0. See SO_KEEPALIVE of socket(7), TCP_KEEPIDLE of tcp(7).
 */
OVL_API int ovl_keep_alive(struct ovl_thread *thread, uint64_t socket, int on, uint32_t idle_ms, uint32_t interval_ms,
                           unsigned flags, struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Ends once the route to an address has changed: another interface leads there, or from another address of ours, or
 * none does any more, or one does at last. For the next change it is to be posted again. With OVL_WANT_VERDICT, changes
 * count from the return of the call on.
 *
 * address: of the socket's family; captured. The port does not count.
 *
 * Refused: as OVL_ADDRESS_LIST_CHANGE, and -EAFNOSUPPORT (an address of another family).
 *
 * The record: bytes is 0. See rtnetlink(7).
 */
OVL_API int ovl_route_change(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                             unsigned flags, struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/*
 * Tells which address of the machine, and which interface, lead to an address.
 *
 * address: of the socket's family; captured. The port does not count.
 * source:  filled before the operation is indicated. Lent until then.
 *
 * Returns, besides what all posting calls do, -EFAULT (no room). Refused: -EOPNOTSUPP (not an IPv4 or IPv6 socket),
 * -EAFNOSUPPORT (an address of another family).
 *
 * The record: value is the number of the interface, bytes what the address takes at `source`. -ENETUNREACH when nothing
 * leads there. See rtnetlink(7).
 */
OVL_API int ovl_route_query(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len,
                            struct sockaddr_storage *source, unsigned flags, struct ovl_overlapped *overlapped,
                            OVL_ROUTINE(routine));

/* What an interface is. */
enum {
        OVL_INTERFACE_IS_UP = 0x01,
        OVL_INTERFACE_HAS_BROADCAST = 0x02,
        OVL_INTERFACE_IS_LOOPBACK = 0x04,
        OVL_INTERFACE_IS_POINT_TO_POINT = 0x08,
        OVL_INTERFACE_HAS_MULTICAST = 0x10,
};

/* One address of one interface of the daemon's machine. */
struct ovl_interface_info {
        char name[16]; /* of the interface, NUL-terminated */
        uint32_t index;
        uint32_t flags;      /* OVL_INTERFACE_IS_UP and others */
        uint32_t prefix_len; /* bits of the address that are the network's */
        uint32_t reserved;
        struct sockaddr_storage address; /* port 0 */
};

/*
 * Lists the addresses of the machine that are of the socket's family, with their interfaces.
 *
 * interfaces: room for n (1 or more; more than 256 are never filled). Lent until the completion is indicated.
 *
 * Returns, besides what all posting calls do, -EFAULT (no room at all). Refused: -EOPNOTSUPP (not an IPv4 or IPv6
 * socket).
 *
 * The record: value is how many there are, bytes what they take in the array. -ERANGE when there are more than n: then
 * bytes is 0, nothing was written, and value says how many. See getifaddrs(3).
 */
OVL_API int ovl_interface_list(struct ovl_thread *thread, uint64_t socket, struct ovl_interface_info *interfaces,
                               size_t n, unsigned flags, struct ovl_overlapped *overlapped, OVL_ROUTINE(routine));

/* --- Synchronous calls ------------------------------------------------------------------------------------------ */

/*
 * A posting call without an overlapped structure returns when its operation has ended. The operation stands in the
 * socket's queues as any other. A routine is ignored, a port gets no packet.
 *
 * Returns what the record of the operation says: the bytes; of ovl_poll() the events, of ovl_resolve() how many
 * addresses there are, of an ioctl its value; or -errno, and ovl_thread_error() says more. ovl_accept(), ovl_connect()
 * and their kin with data need their structure (-EINVAL); the calls below do without.
 *
 * A call that has to wait does so alertably: routines and APCs of the thread run, and it goes on. Posts of the thread
 * that wait under a cork leave first.
 *
 * Such a call ends early with
 *
 *   -EAGAIN      the socket is in non-blocking mode, and the operation is not done at once
 *   -ETIMEDOUT   the socket has a timeout, and it is over
 *   -ECANCELED   ovl_cancel_blocked(), or ovl_cancel() for all operations on the socket; or the socket was closed:
 *                ovl_thread_error() has the reason
 *
 * and then nothing is lost: what was received or sent before that is what the call returns, as a success.
 *
 * On a socket that was opened with OVL_NON_OVERLAPPED, or accepted by such a one, all posting calls are synchronous.
 * One with a structure fills it, and sets its event, as ever; mode and timeouts are nothing to it. It returns 0 when
 * the operation has succeeded, or its error.
 */

/*
 * Accepts a connection.
 *
 * ret_socket: the id of the new socket, which goes about synchronous calls as the listener does.
 *
 * Returns 0 or -errno, as all synchronous calls. See accept(2).
 */
OVL_API int ovl_accept_sync(struct ovl_thread *thread, uint64_t listener, uint64_t *ret_socket);

/*
 * Connects.
 *
 * address: as for ovl_connect().
 *
 * Returns 0 or -errno, as all synchronous calls; -EOPNOTSUPP in non-blocking mode: ovl_connect() does not block. See
 * connect(2).
 */
OVL_API int ovl_connect_sync(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len);

/*
 * How long synchronous calls on a socket may take, in this session; other calls may take for ever. Sockets that it
 * accepts from now on have the same timeouts.
 *
 * recv_ns: nanoseconds for receives and accepts; OVL_INFINITE, as at the beginning.
 * send_ns: for sends and connects.
 *
 * Returns 0, -EBADF (no such socket), or -errno.
 */
OVL_API int ovl_set_timeouts(struct ovl_thread *thread, uint64_t socket, uint64_t recv_ns, uint64_t send_ns);

/*
 * Sets or ends the non-blocking mode of a socket, in this session, and of the sockets that it accepts from then on. It
 * is for synchronous calls, other than ovl_poll(): they return -EAGAIN instead of waiting.
 *
 * is_nonblocking: 0 or not, as at the beginning.
 *
 * Returns 0, -EBADF (no such socket), or -errno.
 */
OVL_API int ovl_set_nonblocking(struct ovl_thread *thread, uint64_t socket, int is_nonblocking);

/*
 * Ends the synchronous call in which a thread waits: of several, one in an APC of another, the innermost. It returns
 * -ECANCELED, unless its operation has ended otherwise by then. Operations with a structure that the thread posted are
 * not concerned.
 *
 * thread: borrowed. Any thread of the program may call this until ovl_thread_close() of it returns.
 *
 * Returns 0 when the call was told, or -ENOENT when the thread waits in none.
 */
OVL_API int ovl_cancel_blocked(struct ovl_thread *thread);

/* --- Results and cancels ---------------------------------------------------------------------------------------- */

/* The state of an operation, as often as one likes and from any thread: -EINPROGRESS, or its status. */
OVL_API int ovl_result(const struct ovl_overlapped *overlapped);

/*
 * Waits for one operation, alertably or not.
 *
 * thread:     who waits; by its owner.
 * overlapped: of the operation, which may be another thread's of the same session.
 * timeout_ns: nanoseconds; 0 only looks, and runs nothing; OVL_INFINITE.
 * alertable:  not 0: also runs routines and APCs of this thread, and returns as soon as one has run.
 *
 * Returns 0 when the operation has ended (its result is ovl_result()), OVL_ALERTED, -ETIMEDOUT, or -EINVAL when the
 * operation is none of this session. An event that somebody else has set does not end it.
 *
 * Routines that are queued win over an operation that has ended. An operation with a routine has ended before its
 * routine has run.
 */
OVL_API int ovl_wait(struct ovl_thread *thread, struct ovl_overlapped *overlapped, uint64_t timeout_ns, int alertable);

/*
 * Cancels operations on a socket and waits until each has ended, by cancellation or otherwise. Nothing is lost: data
 * that arrived went to an operation or stays in the socket.
 *
 * socket:     0: on all sockets of the session, and those that have none.
 * overlapped: the operation; NULL: all operations on the socket. With socket 0 any operation of the session is found,
 *             also one that has no socket, or whose socket was closed here.
 *
 * Returns how many ended because of this call (0 when all that matched ended by themselves meanwhile), or -ENOENT when
 * nothing matched, or -errno. Those that wait for this very thread have their records taken in when this returns; of
 * others, those that the daemon had sent.
 */
OVL_API int ovl_cancel(struct ovl_thread *thread, uint64_t socket, struct ovl_overlapped *overlapped);

/*
 * The same for the operations that this very thread posted, on one socket or, with socket 0, on all: each has ended,
 * and its record was taken in, when this returns. That there are none is no error: 0.
 */
OVL_API int ovl_cancel_thread(struct ovl_thread *thread, uint64_t socket);

/* --- Events ----------------------------------------------------------------------------------------------------- */

/*
 * An event is set or not. Operations set it when they end, and any thread of the program may; any thread may wait.
 * One that was not opened with OVL_EVENT_MANUAL resets itself when it satisfies a wait, so that each signal releases
 * one wait; a manual one stays set and releases all. Setting an event that is set changes nothing but its generation.
 *
 * Events that satisfy a wait do so at the moment in which they are set, the earliest wait first: a set that is followed
 * by a reset releases those that were waiting.
 */

enum {
        OVL_EVENT_MANUAL = 1, /* stays set until it is reset */
        OVL_EVENT_SET = 2,    /* is set from the beginning */
};

/*
 * Makes an event.
 *
 * flags: OVL_EVENT_MANUAL, OVL_EVENT_SET.
 *
 * Returns 0 and the event, -EINVAL (unknown flags) or -ENOMEM.
 */
OVL_API int ovl_event_open(struct ovl_session *session, unsigned flags, struct ovl_event **ret_event);

/*
 * Gives an event up. Operations in flight that name it, and threads that wait for it, go on.
 *
 * event: taken; NULL is fine. Returns NULL.
 */
OVL_API struct ovl_event *ovl_event_close(struct ovl_event *event);

/* Set an event, or reset it, whatever it is. By any thread of the program. Never fail. */
OVL_API void ovl_event_set(struct ovl_event *event);
OVL_API void ovl_event_reset(struct ovl_event *event);

/*
 * Looks, and consumes nothing. Does not take in what the daemon has sent: see ovl_dispatch().
 *
 * ret_generation: how many signals the event ever had; NULL if not wanted.
 *
 * Returns 1 when the event is set, or 0.
 */
OVL_API int ovl_event_poll(struct ovl_event *event, uint64_t *ret_generation);

/*
 * Waits for events of one session. Completions that arrive meanwhile are taken in, also those of operations that other
 * threads posted and that will set one of the events.
 *
 * thread:     who waits; by its owner.
 * events:     n of them (1 to 64). Borrowed until this returns.
 * all:        0: any of them: the first in the array that is set. Else all of them, at one moment: as long as one is
 *             not set, none is consumed. An array for all names each event once.
 * timeout_ns: nanoseconds; 0 only looks; OVL_INFINITE.
 * alertable:  not 0: also runs routines and APCs of this thread, and returns as soon as one has run.
 * ret_index:  written when the wait was satisfied: the place of the event in the array; 0 for all. NULL if not wanted.
 *
 * Returns 0 when the wait was satisfied, OVL_ALERTED, -ETIMEDOUT, -EINVAL (a number of events that is none, an event of
 * another session, for all one event twice), or -ECONNABORTED when the daemon is gone and the events are not set.
 *
 * A routine or APC that is queued when the wait begins wins over events that are set, which stay so; later whichever
 * comes first ends the wait. After OVL_ALERTED the events may be set or not: call again.
 */
OVL_API int ovl_wait_events(struct ovl_thread *thread, struct ovl_event *const *events, size_t n, int all,
                            uint64_t timeout_ns, int alertable, size_t *ret_index);

/*
 * For foreign event loops: a descriptor that is readable exactly while the event is set. The loop must not read it. It
 * also watches ovl_thread_fd() of the threads that post, and calls ovl_dispatch(): that is what sets events.
 *
 * What a loop was told may be over when it acts: another thread took the signal, or reset the event, and perhaps it was
 * set anew since. So each signal has a number, the generation, and the loop proceeds like this:
 *
 *   1. The descriptor is readable: ovl_event_poll() gives 1 and a generation. (0: the signal was stale; nothing to do.)
 *   2. The loop looks at what the event stands for: operations, states.
 *   3. ovl_event_confirm() with that generation takes the signal, and resets the event. If it returns 0 the event was
 *      taken, or signalled again after step 1: the descriptor says which, and the loop begins anew with step 1.
 *
 * A loop that wants each signal of an event that resets itself for itself alone confirms before it acts.
 *
 * Returns the descriptor, always the same; borrowed, valid until the event is closed. Or -EMFILE, -ENFILE, -ENOMEM.
 */
OVL_API int ovl_event_export(struct ovl_event *event);

/*
 * Takes the signal of this generation: resets the event if it is set and had no further signal, in one step.
 *
 * Returns 1 when it did, or 0 when there is no such signal (any more): nothing was changed.
 */
OVL_API int ovl_event_confirm(struct ovl_event *event, uint64_t generation);

/* --- Asynchronous procedure calls ------------------------------------------------------------------------------- */

/* A function that a thread calls because it was asked to. Runs in its alertable waits; may post, wait and close. */
#define OVL_APC(name) void (*name)(struct ovl_thread * thread, uint64_t argument)

/*
 * Queues an APC to a thread of this program: behind all routines and APCs that are queued, and behind those of
 * operations that have ended by now. Wakes the thread if it waits alertably.
 *
 * thread:   borrowed. Any thread of the program may call this until ovl_thread_close() of it returns.
 * function: NULL: nothing is queued.
 *
 * Returns 0, -ENOMEM, or -ESRCH when the thread is being closed.
 */
OVL_API int ovl_apc_queue(struct ovl_thread *thread, OVL_APC(function), uint64_t argument);

/*
 * Lets other processes name a function of this one by a number: those that have a handle of one of its threads can have
 * it called there. At most 1,024 numbers; one that is registered again names the new function.
 *
 * thread:   whose connection carries the request. By its owner.
 * function: NULL: takes the number back. APCs that name it and have not begun are dropped.
 *
 * Returns 0, -EDQUOT (too many), -ENOENT (a number to be taken back that is not registered), or -errno.
 */
OVL_API int ovl_function_register(struct ovl_thread *thread, uint64_t number, OVL_APC(function));

/* A thread, for other processes: random bytes that only those can use to whom the handle was given. */
struct ovl_thread_handle {
        unsigned char bytes[16];
};

/*
 * Makes a handle of this thread. It works in this process, and in those that it is given to, until it or the thread is
 * closed.
 *
 * thread: by its owner.
 *
 * Returns 0 and the handle, -EDQUOT (the session has too many), or -errno.
 */
OVL_API int ovl_thread_handle_open(struct ovl_thread *thread, struct ovl_thread_handle *ret_handle);

/*
 * Lets another session use a handle that this session opened. The other one must be of the same user and the same unit
 * of the service manager; how it learns the bytes is the programs' affair.
 *
 * session: its number, from ovl_session_info().
 *
 * Returns 0, -ESRCH (no such session), -EBADF (no such handle), -EDQUOT (given to too many), or -errno.
 */
OVL_API int ovl_thread_handle_give(struct ovl_thread *thread, const struct ovl_thread_handle *handle, uint64_t session);

/* Makes a handle that this session opened useless for everybody. Returns 0, -EBADF (no such handle), or -errno. */
OVL_API int ovl_thread_handle_close(struct ovl_thread *thread, const struct ovl_thread_handle *handle);

/*
 * Queues an APC to a thread of any process: in its place among what ends there, as ovl_apc_queue() does.
 *
 * thread: whose connection carries the request. By its owner.
 * number: of a function that the target registered.
 *
 * Returns 0 when it is queued, -EBADF (a handle that was closed or is not this session's), -ESRCH (the thread has
 * ended: what was queued to it and had not run is dropped), -ENOENT (no such function), -ENOBUFS (the target does not
 * take its APCs: too many wait), or -errno. A process that takes APCs in and does not run them keeps 16,384; further
 * ones are dropped.
 */
OVL_API int ovl_apc_queue_remote(struct ovl_thread *thread, const struct ovl_thread_handle *handle, uint64_t number,
                                 uint64_t argument);

#undef OVL_APC

/* --- Sockets ---------------------------------------------------------------------------------------------------- */

/*
 * Requests. All block until the daemon has answered (completions that arrive meanwhile are kept), are made by the
 * thread's owner, and return 0 or -errno with ovl_thread_error() saying more.
 */

/* Together with the type of a socket: all calls on it are synchronous. */
#define OVL_NON_OVERLAPPED (1 << 24)

/*
 * Opens a socket.
 *
 * family: AF_INET, AF_INET6 or AF_UNIX.
 * type:   SOCK_STREAM or SOCK_DGRAM, perhaps with OVL_NON_OVERLAPPED: such a socket, and those that it accepts, have no
 *         port.
 *
 * Returns 0 and the id of a new socket of the session, -EAFNOSUPPORT or -ESOCKTNOSUPPORT for others. See socket(2).
 */
OVL_API int ovl_socket_open(struct ovl_thread *thread, int family, int type, uint64_t *ret_socket);

/*
 * Closes a socket. The id is invalid at once; pending operations end with -ECANCELED and are indicated; those that
 * wait for this very thread have their records taken in when this returns. -EBADF when the socket is not there.
 *
 * While the socket is open elsewhere, under an id that ovl_socket_join() gave, what this session has posted goes on
 * instead, and is indicated when it ends: structures and buffers are lent until then. ovl_cancel() with socket 0 still
 * ends it, and so does the end of its thread. Who closes it last ends what is pending for all.
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
 * daemon takes them. Each session has its own association with a port. The last one that closes the socket ends what is
 * pending on it, whoever posted it, and closes the kernel's socket.
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
 * -EBADFD when it is no such socket: ovl_thread_error() says what it is. -EBADF when it is no descriptor, -EINVAL when
 * it is one that the kernel passes to nobody. -EACCES (policy; a Unix socket, where the daemon runs as another user),
 * -EDQUOT.
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

/*
 * Binds. A Unix socket is bound to an absolute path, as overlapd sees the file system (the file stays when the socket
 * is closed), to an abstract name, or, with the family alone, to an abstract name that the kernel chooses. See bind(2).
 */
OVL_API int ovl_bind(struct ovl_thread *thread, uint64_t socket, const struct sockaddr *address, socklen_t len);
OVL_API int ovl_listen(struct ovl_thread *thread, uint64_t socket, int backlog);

/*
 * Ends a direction of a socket: further receives, or sends, are refused with -ESHUTDOWN. What is pending goes on: a
 * receive still ends with what comes, and sends leave before the end of the stream is sent. A direction that is shut
 * already can be shut again. See shutdown(2).
 *
 * how: SHUT_RD, SHUT_WR or SHUT_RDWR.
 *
 * -ENOTCONN on a stream that is not connected. A datagram socket needs no peer for it; nothing is sent.
 */
OVL_API int ovl_shutdown(struct ovl_thread *thread, uint64_t socket, int how);

/*
 * Tell the address of a socket, and of its peer.
 *
 * address: filled as far as there is room.
 * len:     room on entry; on return the bytes that the address has: of a Unix socket without a name the family alone.
 *
 * See getsockname(2), getpeername(2).
 */
OVL_API int ovl_getsockname(struct ovl_thread *thread, uint64_t socket, struct sockaddr *address, socklen_t *len);
OVL_API int ovl_getpeername(struct ovl_thread *thread, uint64_t socket, struct sockaddr *address, socklen_t *len);

/*
 * level, option: as in setsockopt(2), of those that take an int: SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_SNDBUF,
 *                SO_RCVBUF, SO_OOBINLINE, SO_BROADCAST, SO_ERROR (read only), TCP_NODELAY, TCP_CORK, TCP_QUICKACK,
 *                TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT, IPV6_V6ONLY, IP_TOS, IPV6_TCLASS, IP_TTL,
 *                IPV6_UNICAST_HOPS, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP,
 *                IP_RECVERR, IPV6_RECVERR, IP_PKTINFO, IPV6_RECVPKTINFO, IP_RECVTTL, IPV6_RECVHOPLIMIT, IP_RECVTOS,
 *                IPV6_RECVTCLASS. Others, and those that do not go with the socket's type or family: -ENOPROTOOPT.
 *
 * SO_RCVBUF may be 0, and is told as 0, also of what a listener accepts. Then nothing is received but by operations
 * that wait for it: the peer of a stream stalls after a few KiB (if it was set before the connect or the listen) and
 * loses nothing; datagrams that come while no receive is pending are lost. SO_SNDBUF of a TCP socket may be 0 in the
 * same way: a send ends when the peer has acknowledged its bytes, and not when the kernel has taken them.
 *
 * IP_RECVERR of IPv4 datagram sockets, IPV6_RECVERR of IPv6: whether a receive ends with -ECONNREFUSED for each
 * datagram that was sent to a port that nobody has; at first 1. There is no error queue that could be read.
 */
OVL_API int ovl_setsockopt(struct ovl_thread *thread, uint64_t socket, int level, int option, int value);
OVL_API int ovl_getsockopt(struct ovl_thread *thread, uint64_t socket, int level, int option, int *ret_value);

/* What ovl_connect_time() tells of a socket that is not connected. */
#define OVL_NOT_CONNECTED UINT32_MAX

/*
 * Tells since when a stream is connected: seconds, or OVL_NOT_CONNECTED. Of a socket that an ovl_accept_into() was
 * given and that waits for its first data: since when its connection was accepted. -ENOPROTOOPT for other types.
 */
OVL_API int ovl_connect_time(struct ovl_thread *thread, uint64_t socket, uint32_t *ret_seconds);

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

/* Associates a socket with a port, for the socket's life. -EEXIST when it has one, -EINVAL when it is not overlapped.
 */
OVL_API int ovl_port_associate(struct ovl_thread *thread, struct ovl_port *port, uint64_t socket, uint64_t key);

/*
 * From here on, an operation of this session on the socket gives no packet when its call itself returns 0 and it has
 * succeeded: the caller has the result, and may use the structure again. What returns OVL_PENDING gives its packet,
 * however soon it ends, and so does what ends with an error, also with OVL_TRUNCATED. Events are set as ever. It cannot
 * be taken back; again is no error.
 *
 * thread: by its owner.
 * socket: one that ovl_port_associate() was called for.
 *
 * Returns 0, or -EINVAL when the socket has no port. Asks nobody, and does not block.
 */
OVL_API int ovl_port_skip(struct ovl_thread *thread, uint64_t socket);

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

/*
 * The same as an alertable wait. A routine or APC that is queued when the wait begins comes before packets, unless the
 * thread took its latest packet from this port: then packets that are there come first, and what is queued stays so.
 *
 * ret_n: how many packets there are; written when this returns 0.
 *
 * Returns 0, OVL_ALERTED when routines or APCs ran and no packet was taken, or as ovl_port_wait().
 */
OVL_API int ovl_port_wait_alertable(struct ovl_port *port, struct ovl_thread *thread, struct ovl_packet *ret_packets,
                                    size_t max, uint64_t timeout_ns, size_t *ret_n);

/* Posts a packet of one's own: delivered verbatim, but for `reserved`. Any thread. Returns 0, -ENOMEM or -ECANCELED. */
OVL_API int ovl_port_post(struct ovl_port *port, const struct ovl_packet *packet);

#undef OVL_ROUTINE

#ifdef __cplusplus
}
#endif

#endif
