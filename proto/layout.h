/* SPDX-License-Identifier: Apache-2.0 */
#ifndef OVL_LAYOUT_H
#define OVL_LAYOUT_H

/*
 * The fixed layouts of the overlapd protocol: frames, entries, records and lanes.
 *
 * Everything here is little-endian, of fixed width and at a fixed offset; the assertions below are part of the
 * contract. What is cold (control messages) is described in overlapd.proto; the prose is docs/PROTOCOL.md.
 *
 * A reader of memory that somebody else can write copies a structure out once, checks the copy and uses the copy.
 */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "overlapd's layouts are little-endian: on a big-endian machine each field needs a conversion"
#endif

#ifdef __cplusplus
#define OVL_ASSERT_SIZE(type, size) static_assert(sizeof(type) == (size), #type)
#define OVL_ASSERT_AT(type, field, offset) static_assert(offsetof(type, field) == (offset), #type "." #field)
#else
#define OVL_ASSERT_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)
#define OVL_ASSERT_AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)
#endif

/* The protocol versions that this header describes; a hello carries the sender's range. */
#define OVL_PROTOCOL_MIN 1
#define OVL_PROTOCOL_MAX 1

/* --- Frames ----------------------------------------------------------------------------------------------------- */

enum ovl_frame_kind {
        OVL_FRAME_CONTROL = 1, /* one protobuf message of overlapd.proto */
        OVL_FRAME_POST = 2,    /* client to daemon: struct ovl_post_header, slots, inline payload */
        OVL_FRAME_RECORDS = 3, /* daemon to client: struct ovl_records_header, records, inline payload */
};

#define OVL_FRAME_CONTROL_MAX 16384u  /* bytes of a CONTROL body */
#define OVL_FRAME_POST_MAX 131072u    /* bytes of a POST body */
#define OVL_FRAME_RECORDS_MAX 131072u /* bytes of a RECORDS body */
#define OVL_FRAME_FDS_MAX 1u          /* descriptors that one frame may carry */

/* Starts every frame. A body is never empty. */
struct ovl_frame_header {
        uint32_t body_len; /* bytes that follow this header */
        uint8_t kind;      /* enum ovl_frame_kind */
        uint8_t n_fds;     /* descriptors that ride with the frame's first byte */
        uint16_t reserved; /* zero */
};
OVL_ASSERT_SIZE(struct ovl_frame_header, 8);
OVL_ASSERT_AT(struct ovl_frame_header, kind, 4);
OVL_ASSERT_AT(struct ovl_frame_header, n_fds, 5);

/* Starts the body of a POST frame: n_slots slots of 64 bytes follow, then the payloads of the inline sends in order. */
struct ovl_post_header {
        uint32_t n_slots;
        uint32_t reserved; /* zero */
};
OVL_ASSERT_SIZE(struct ovl_post_header, 8);

/* Starts the body of a RECORDS frame: n_records records follow, then the payloads of the inline receives in order. */
struct ovl_records_header {
        uint32_t n_records;
        uint32_t reserved; /* zero */
};
OVL_ASSERT_SIZE(struct ovl_records_header, 8);

/* --- Places in shared memory and addresses ---------------------------------------------------------------------- */

/* A run of bytes in a region of the session. At level 0 region is 0 and the bytes travel in the frames. */
struct ovl_slice {
        uint64_t offset; /* bytes from the start of the region */
        uint32_t len;    /* bytes */
        uint32_t region; /* the number that the reply to RegionAdd gave; 0 names no region */
};
OVL_ASSERT_SIZE(struct ovl_slice, 16);
OVL_ASSERT_AT(struct ovl_slice, len, 8);
OVL_ASSERT_AT(struct ovl_slice, region, 12);

#define OVL_SLICE_LEN_MAX (1u << 30) /* bytes of one slice, and of all slices of one op together */
#define OVL_SLICES_MAX 64u           /* slices of one op */

enum ovl_family {
        OVL_FAMILY_NONE = 0,
        OVL_FAMILY_UNIX = 1,
        OVL_FAMILY_INET = 2,
        OVL_FAMILY_INET6 = 10,
};

/* A socket address, the same on every machine. */
struct ovl_address {
        uint8_t family;    /* enum ovl_family */
        uint8_t path_len;  /* bytes of host that count, for OVL_FAMILY_UNIX; else 0 */
        uint16_t port;     /* 80 is 80; 0 for OVL_FAMILY_UNIX */
        uint32_t scope_id; /* interface number of a link-local IPv6 address, else 0 */
        uint8_t host[108]; /* 4 bytes, 16 bytes or a path, network order; the rest is zero */
};
OVL_ASSERT_SIZE(struct ovl_address, 116);
OVL_ASSERT_AT(struct ovl_address, host, 8);

/* --- Entries ---------------------------------------------------------------------------------------------------- */

/*
 * The operations, and which fields of the entry each reads ("-" is zero). `buffer` with OVL_ENTRY_VECTOR names an array
 * of struct ovl_slice (16 * n bytes, n <= 64) instead of the bytes themselves; of TRANSMIT_PACKETS an array of struct
 * ovl_element, of the same size.
 *
 *   op               socket    buffer              op_flags  other            aux                        address
 *   CONNECT          stream    first data, or -    -         -                -                          peer
 *   ACCEPT           listener  first data, or -    message   prepared socket  2 ovl_address: local and   -
 *                                                            or 0             remote, or -
 *   RECV             any       receives            message   -                -                          -
 *   SEND             any       is sent             message   -                -                          -
 *   RECVFROM         datagram  receives            message   -                1 ovl_address, or -        -
 *   SENDTO           datagram  is sent             message   -                -                          destination
 *   RECVMSG          datagram  receives            message   -                ovl_message and items      -
 *   SENDMSG          datagram  is sent             message   -                items, or -                destination,
 * or - DISCONNECT       stream    -                   reuse     -                -                          -
 *   TRANSMIT_FILE    stream    vector: head, tail  transmit  file, or 0       file offset, length        -
 *   TRANSMIT_PACKETS any       vector of elements  transmit  file, or 0       -                          -
 *   IOCTL            any       input, or -         -         enum ovl_ioctl   output, or -               input, or -
 *   POLL             any       -                   -         OVL_POLL_*       -                          -
 *   RESOLVE          0         name                -         OVL_RESOLVE()    array of ovl_address       -
 *   CONNECT_NAME     inet      name and service    -         OVL_NAME()       -                          -
 */
enum ovl_op {
        OVL_OP_CONNECT = 1,
        OVL_OP_ACCEPT = 2,
        OVL_OP_RECV = 3,
        OVL_OP_SEND = 4,
        OVL_OP_RECVFROM = 5,
        OVL_OP_SENDTO = 6,
        OVL_OP_RECVMSG = 7,
        OVL_OP_SENDMSG = 8,
        OVL_OP_DISCONNECT = 9,
        OVL_OP_TRANSMIT_FILE = 10,
        OVL_OP_TRANSMIT_PACKETS = 11,
        OVL_OP_IOCTL = 12,
        OVL_OP_POLL = 13,
        OVL_OP_RESOLVE = 14,
        OVL_OP_CONNECT_NAME = 15,
};

enum ovl_indication {
        OVL_INDICATE_PLAIN = 0,   /* to the socket's port if it has one when the op ends, else to the posting thread */
        OVL_INDICATE_ROUTINE = 1, /* to the posting thread; refused on a socket that has a port */
        OVL_INDICATE_QUIET = 2,   /* to the posting thread, never to the port */
};

enum ovl_entry_flags {
        OVL_ENTRY_WANT_VERDICT = 0x01, /* a SETTLED record follows once this entry is refused, done or truly pending */
        OVL_ENTRY_VECTOR = 0x02,       /* buffer names an array of slices */
        OVL_ENTRY_INLINE = 0x04,       /* the payload travels in the frames */
        OVL_ENTRY_MORE = 0x08,         /* inline: this send goes on in the next entry of the channel */
};

enum ovl_message_flags {
        OVL_MESSAGE_OOB = 0x01,
        OVL_MESSAGE_PEEK = 0x02,
        OVL_MESSAGE_DONTROUTE = 0x04,
        OVL_MESSAGE_PUSH_IMMEDIATE = 0x20, /* a hint */
        OVL_MESSAGE_DONTWAIT = 0x40,       /* is done now, or ends with -EAGAIN */
        OVL_MESSAGE_WAITALL = 0x100,
        OVL_MESSAGE_PARTIAL = 0x8000,
};

enum ovl_transmit_flags {
        OVL_TRANSMIT_DISCONNECT = 0x01,
        OVL_TRANSMIT_REUSE = 0x02,
};

enum ovl_poll_events {
        OVL_POLL_IN = 0x01,
        OVL_POLL_PRIORITY = 0x02,
        OVL_POLL_OUT = 0x04,
        OVL_POLL_ERROR = 0x08,
        OVL_POLL_HUP = 0x10,
};

/* The field `other` of a RESOLVE: enum ovl_family, SOCK_STREAM, SOCK_DGRAM or 0, and the port of the addresses. */
#define OVL_RESOLVE(family, type, port)                                                                                \
        ((uint64_t) (uint16_t) (port) | (uint64_t) (uint8_t) (family) << 16 | (uint64_t) (uint8_t) (type) << 24)
#define OVL_RESOLVE_NAME_MAX 253u     /* bytes of a name */
#define OVL_RESOLVE_ADDRESSES_MAX 64u /* that one RESOLVE may give */

/*
 * The field `other` of a CONNECT_NAME: the port, and after how many milliseconds it ends in any case (0: that is left
 * to the machine). Where the port is 0 a NUL byte and the name of a service follow the name in the buffer.
 */
#define OVL_NAME(port, timeout_ms) ((uint64_t) (uint16_t) (port) | (uint64_t) (uint32_t) (timeout_ms) << 32)
#define OVL_SERVICE_NAME_MAX 63u /* bytes of the name of a service */

/*
 * The field `other` of an IOCTL, what it takes and what it gives. Those that give a list or an address write it to aux;
 * the others have their answer in the record's `value`.
 *
 *   code                      socket      buffer          address      aux                     value
 *   ADDRESS_LIST_CHANGE       IPv4, IPv6  -               -            -                       -
 *   ROUTING_INTERFACE_CHANGE  IPv4, IPv6  -               destination  -                       -
 *   ROUTING_INTERFACE_QUERY   IPv4, IPv6  -               destination  ovl_address             interface number
 *   INTERFACE_LIST            IPv4, IPv6  -               -            array of ovl_interface  how many there are
 *   KEEP_ALIVE_VALUES         TCP         ovl_keep_alive  -            -                       -
 *   BYTES_TO_READ             any         -               -            -                       bytes
 *   AT_MARK                   TCP         -               -            -                       1 or 0
 *   FLUSH                     any         -               -            -                       -
 */
enum ovl_ioctl {
        OVL_IOCTL_ADDRESS_LIST_CHANGE = 1,
        OVL_IOCTL_ROUTING_INTERFACE_CHANGE = 2,
        OVL_IOCTL_ROUTING_INTERFACE_QUERY = 3,
        OVL_IOCTL_INTERFACE_LIST = 4,
        OVL_IOCTL_KEEP_ALIVE_VALUES = 5,
        OVL_IOCTL_BYTES_TO_READ = 6,
        OVL_IOCTL_AT_MARK = 7,
        OVL_IOCTL_FLUSH = 8,
};

/* The input of KEEP_ALIVE_VALUES. */
struct ovl_keep_alive {
        uint32_t is_on;       /* 1 or 0; of a connection where it is 0 the times do not count */
        uint32_t idle_ms;     /* silence before the first probe; 1 to OVL_KEEP_ALIVE_MS_MAX, rounded up to seconds */
        uint32_t interval_ms; /* between probes; likewise */
        uint32_t reserved;    /* zero */
};
OVL_ASSERT_SIZE(struct ovl_keep_alive, 16);
OVL_ASSERT_AT(struct ovl_keep_alive, idle_ms, 4);
OVL_ASSERT_AT(struct ovl_keep_alive, interval_ms, 8);

#define OVL_KEEP_ALIVE_MS_MAX 32767000u

enum ovl_interface_flags {
        OVL_INTERFACE_UP = 0x01,
        OVL_INTERFACE_BROADCAST = 0x02,
        OVL_INTERFACE_LOOPBACK = 0x04,
        OVL_INTERFACE_POINT_TO_POINT = 0x08,
        OVL_INTERFACE_MULTICAST = 0x10,
};

/* One address of one interface. */
struct ovl_interface {
        uint32_t index;             /* the number of the interface */
        uint32_t flags;             /* enum ovl_interface_flags */
        uint8_t prefix_len;         /* bits of the address that are the network's */
        uint8_t reserved[7];        /* zero */
        char name[16];              /* of the interface, NUL-terminated; the rest is zero */
        struct ovl_address address; /* port 0 */
        uint32_t reserved1;         /* zero */
};
OVL_ASSERT_SIZE(struct ovl_interface, 152);
OVL_ASSERT_AT(struct ovl_interface, flags, 4);
OVL_ASSERT_AT(struct ovl_interface, prefix_len, 8);
OVL_ASSERT_AT(struct ovl_interface, name, 16);
OVL_ASSERT_AT(struct ovl_interface, address, 32);

#define OVL_INTERFACES_MAX 256u /* that one IOCTL may give */

#define OVL_INLINE_LEN_MAX 65535u            /* bytes of the payload of one entry */
#define OVL_INLINE_PIECE 16384u              /* what payload is kept in by the daemon */
#define OVL_INLINE_OP_LEN_MAX (64u * 16384u) /* bytes of a send that is continued by MORE */

#define OVL_SLOT_SIZE 64u
#define OVL_ENTRY_SLOTS_MAX 3u

/*
 * One op, client to daemon: one slot, or two or three consecutive ones (copied together, once) where the op has an
 * address. An IPv4 or IPv6 address ends within the second slot, a Unix path needs the third.
 */
struct ovl_entry {
        uint64_t tag;       /* the client's own; returned in the record, never interpreted */
        uint64_t socket;    /* the id that SocketOpen or an ACCEPT record gave */
        uint8_t op;         /* enum ovl_op */
        uint8_t indication; /* enum ovl_indication */
        uint8_t n_slots;    /* 1 to OVL_ENTRY_SLOTS_MAX */
        uint8_t flags;      /* enum ovl_entry_flags */
        uint32_t op_flags;  /* enum ovl_message_flags or enum ovl_transmit_flags */
        struct ovl_slice buffer;
        uint64_t other;
        struct ovl_slice aux;
        /* second and third slot */
        struct ovl_address address;
        uint8_t reserved[12]; /* zero */
};
OVL_ASSERT_SIZE(struct ovl_entry, 192);
OVL_ASSERT_AT(struct ovl_entry, socket, 8);
OVL_ASSERT_AT(struct ovl_entry, op, 16);
OVL_ASSERT_AT(struct ovl_entry, indication, 17);
OVL_ASSERT_AT(struct ovl_entry, n_slots, 18);
OVL_ASSERT_AT(struct ovl_entry, flags, 19);
OVL_ASSERT_AT(struct ovl_entry, op_flags, 20);
OVL_ASSERT_AT(struct ovl_entry, buffer, 24);
OVL_ASSERT_AT(struct ovl_entry, other, 40);
OVL_ASSERT_AT(struct ovl_entry, aux, 48);
OVL_ASSERT_AT(struct ovl_entry, address, 64);

/*
 * A part of TRANSMIT_PACKETS: memory, or a range of the file that `other` names. On a datagram socket the elements up
 * to one that ends its packet, or to the last, are one datagram; on a stream packets have no meaning.
 */
struct ovl_element {
        uint64_t offset; /* bytes from the start of the region, or of the file */
        uint32_t len;    /* bytes; of a file 0: to its end */
        uint16_t region; /* 0 for a range of the file, and for no memory */
        uint16_t flags;  /* enum ovl_element_flags */
};
OVL_ASSERT_SIZE(struct ovl_element, 16);
OVL_ASSERT_AT(struct ovl_element, len, 8);
OVL_ASSERT_AT(struct ovl_element, region, 12);
OVL_ASSERT_AT(struct ovl_element, flags, 14);

enum ovl_element_flags {
        OVL_ELEMENT_FILE = 0x01,       /* a range of the file */
        OVL_ELEMENT_PACKET_END = 0x02, /* the last of its packet */
};

#define OVL_TRANSMIT_LEN_MAX 2147483646u /* bytes of one TRANSMIT_FILE or TRANSMIT_PACKETS, the file's among them */

/* What RECVMSG writes at the start of its aux slice; the control items that came with the datagram follow it. */
struct ovl_message {
        struct ovl_address address; /* of the sender; family 0: it has none */
        uint32_t flags;             /* enum ovl_received_flags */
        uint32_t control_len;       /* bytes of control items that follow */
        uint32_t reserved;          /* zero */
};
OVL_ASSERT_SIZE(struct ovl_message, 128);
OVL_ASSERT_AT(struct ovl_message, flags, 116);
OVL_ASSERT_AT(struct ovl_message, control_len, 120);

enum ovl_received_flags {
        OVL_RECEIVED_TRUNCATED = 0x02,         /* the datagram was longer than the buffers */
        OVL_RECEIVED_CONTROL_TRUNCATED = 0x04, /* the items did not all have room: those that are there are the first */
        OVL_RECEIVED_BROADCAST = 0x400,        /* it was sent to all of a network */
        OVL_RECEIVED_MULTICAST = 0x800,        /* it was sent to a group */
};

/*
 * Starts each control item: its value follows, and the next item begins at the next multiple of 8. A message has each
 * type once at most.
 */
struct ovl_control {
        uint32_t len;      /* bytes of this and of the value, without what aligns the next one */
        uint16_t type;     /* enum ovl_control_type */
        uint16_t reserved; /* zero */
};
OVL_ASSERT_SIZE(struct ovl_control, 8);
OVL_ASSERT_AT(struct ovl_control, type, 4);

enum ovl_control_type {
        OVL_CONTROL_PACKET_INFO = 1,   /* struct ovl_packet_info */
        OVL_CONTROL_HOP_LIMIT = 2,     /* uint32_t: 1 to 255 */
        OVL_CONTROL_TRAFFIC_CLASS = 3, /* uint32_t: 0 to 255 */
};

#define OVL_CONTROL_LEN_MAX 256u /* bytes of all items of a message */
#define OVL_CONTROL_ALIGN(len) (((len) + 7u) & ~7u)

/* Received: the address that the datagram was sent to, and where it came in. Sent: the source, and where it leaves. */
struct ovl_packet_info {
        uint8_t family;      /* enum ovl_family, the socket's */
        uint8_t reserved[3]; /* zero */
        uint32_t interface;  /* its number; sent: 0 for any */
        uint8_t host[16];    /* 4 or 16 bytes in network order, the rest is zero; sent: all zero for any */
};
OVL_ASSERT_SIZE(struct ovl_packet_info, 24);
OVL_ASSERT_AT(struct ovl_packet_info, interface, 4);
OVL_ASSERT_AT(struct ovl_packet_info, host, 8);

/* --- Records ---------------------------------------------------------------------------------------------------- */

enum ovl_record_kind {
        OVL_RECORD_COMPLETION = 0, /* an op ended */
        OVL_RECORD_APC = 1,        /* tag: the function's number; value: its argument */
        OVL_RECORD_SETTLED = 2,    /* value: entries of this channel that are settled; see OVL_ENTRY_WANT_VERDICT */
        OVL_RECORD_WAITING = 3,    /* level 2: look at the lane; value records were put there since the last bell */
};

enum ovl_record_flags {
        OVL_RECORD_REFUSED = 0x01,           /* the op never started */
        OVL_RECORD_TRUNCATED = 0x02,         /* the datagram was longer than the buffers */
        OVL_RECORD_CONTROL_TRUNCATED = 0x04, /* the control data was longer than its place */
        OVL_RECORD_PARTIAL = 0x08,           /* more of the same message follows */
        OVL_RECORD_INDETERMINATE = 0x10,     /* whether the op took effect is not known */
        OVL_RECORD_PORT = 0x20,              /* delivered to a port: key is the port key of the socket */
        OVL_RECORD_IMMEDIATE = 0x40,         /* ended before its entry was settled */
};

/* One completion, daemon to client. */
struct ovl_record {
        uint64_t tag;         /* of the entry */
        uint64_t thread;      /* the thread that posted the entry */
        uint64_t key;         /* the socket's id, or its port key where OVL_RECORD_PORT is set */
        uint64_t sequence;    /* counts the records of the session from 1 */
        uint64_t bytes;       /* transferred */
        uint64_t value;       /* ACCEPT: the new socket's id; POLL: events; RESOLVE: addresses found; IOCTL: above */
        int32_t status;       /* 0, or a negative Linux errno */
        uint16_t flags;       /* enum ovl_record_flags */
        uint16_t reason;      /* enum ovl_reason: what errno alone does not say */
        uint8_t kind;         /* enum ovl_record_kind */
        uint8_t op;           /* enum ovl_op */
        uint8_t indication;   /* enum ovl_indication of the entry */
        uint8_t reserved;     /* zero */
        uint32_t payload_len; /* inline: bytes of this record's payload in the frame */
};
OVL_ASSERT_SIZE(struct ovl_record, 64);
OVL_ASSERT_AT(struct ovl_record, thread, 8);
OVL_ASSERT_AT(struct ovl_record, key, 16);
OVL_ASSERT_AT(struct ovl_record, sequence, 24);
OVL_ASSERT_AT(struct ovl_record, bytes, 32);
OVL_ASSERT_AT(struct ovl_record, value, 40);
OVL_ASSERT_AT(struct ovl_record, status, 48);
OVL_ASSERT_AT(struct ovl_record, flags, 52);
OVL_ASSERT_AT(struct ovl_record, reason, 54);
OVL_ASSERT_AT(struct ovl_record, kind, 56);
OVL_ASSERT_AT(struct ovl_record, op, 57);
OVL_ASSERT_AT(struct ovl_record, indication, 58);
OVL_ASSERT_AT(struct ovl_record, payload_len, 60);

/* --- Reasons ---------------------------------------------------------------------------------------------------- */

/* X(NAME, number, what it means and what to do). Numbers are for ever. */
#define OVL_REASONS(X)                                                                                                 \
        X(NONE, 0, "no further reason")                                                                                \
        X(UNKNOWN_OP, 1, "the daemon does not know this operation: compare the protocol versions")                     \
        X(OP_NOT_FOR_SOCKET, 2, "this operation does not go with this type of socket")                                 \
        X(UNKNOWN_FLAGS, 3, "a flag is set that this operation does not know")                                         \
        X(RESERVED_BITS, 4, "a reserved field is not zero")                                                            \
        X(BAD_INDICATION, 5, "the indication is not one of plain, routine, quiet")                                     \
        X(ROUTINE_ON_PORT, 6, "a completion routine cannot be used on a socket that has a completion port")            \
        X(UNKNOWN_SOCKET, 7, "no socket of this session has this id: it was closed, or never opened")                  \
        X(UNKNOWN_REGION, 8, "no region of this session has this number: it was released, or never added")             \
        X(OUTSIDE_REGION, 9, "the buffer does not lie within its region")                                              \
        X(BUFFER_TOO_LONG, 10, "an operation moves at most 1 GiB, a transmit 2 GiB: split it")                         \
        X(TOO_MANY_BUFFERS, 11, "an operation takes at most 64 buffers: join some")                                    \
        X(BAD_VECTOR, 12, "the array of slices is not a multiple of 16 bytes, or not aligned to 8")                    \
        X(BAD_ADDRESS, 13, "the address does not fit the socket's family, or is malformed")                            \
        X(NOT_CONNECTED, 14, "the socket is not connected")                                                            \
        X(ALREADY_CONNECTED, 15, "the socket is already connected")                                                    \
        X(CONNECT_PENDING, 16, "a connect is already in progress on this socket")                                      \
        X(NOT_LISTENING, 17, "the socket does not listen: call listen first")                                          \
        X(LISTENING, 18, "the socket listens: it accepts, and neither sends, receives nor connects")                   \
        X(SEND_SHUT, 19, "the sending side of the socket was shut down")                                               \
        X(RECV_SHUT, 20, "the receiving side of the socket was shut down")                                             \
        X(CREDITS, 21, "as many operations are in flight as the session has credits: wait for completions")            \
        X(QUOTA, 22, "a quota of the session or user is used up")                                                      \
        X(CANCELLED, 23, "cancelled on request")                                                                       \
        X(CLOSED, 24, "the socket was closed while the operation was pending")                                         \
        X(THREAD_ENDED, 25, "the thread that posted the operation ended")                                              \
        X(SESSION_ENDED, 26, "the session ended")                                                                      \
        X(DAEMON_GONE, 27, "the connection to overlapd was lost: see its journal; open a new session")                 \
        X(DENIED, 28, "the policy does not allow this")                                                                \
        X(BAD_FRAME, 29, "a frame or message is malformed")                                                            \
        X(OUT_OF_ORDER, 30, "this request is not possible in the present state")                                       \
        X(BAD_MEMORY, 31, "the descriptor is not memory that the daemon can accept")                                   \
        X(UNKNOWN_THREAD, 32, "no thread of this session has this number")                                             \
        X(UNKNOWN_PORT, 33, "no port of this session has this number")                                                 \
        X(HAS_PORT, 34, "the socket already has a completion port: the association is for life")                       \
        X(UNKNOWN_OPTION, 35, "this socket option is not on the list of those that clients may use")                   \
        X(VERSION, 36, "client and daemon have no protocol version in common: upgrade the older one")                  \
        X(BUSY, 37, "too many connections: try again later")                                                           \
        X(NOT_FOUND, 38, "nothing matched: the operation is already done")                                             \
        X(DUPLICATE, 39, "this number is already in use")                                                              \
        X(LEVEL, 40, "this needs a higher protocol level than the session has: ask for it in the hello")               \
        X(BAD_LANE, 41, "the lane breaks the rules of its layout")                                                     \
        X(BAD_DESCRIPTOR, 42, "the descriptor is no socket that the daemon can take over")                             \
        X(EXPORTED, 43, "the socket was exported while the operation was pending")                                     \
        X(UNKNOWN_SESSION, 44, "no session that this one may share with has this number")                              \
        X(UNKNOWN_TICKET, 45, "no socket is shared under this ticket: it was used, or its socket is closed")           \
        X(UNKNOWN_HANDLE, 46, "this thread handle was closed, never made, or not given to this session")               \
        X(UNKNOWN_FUNCTION, 47, "the thread's session has registered no function with this number")                    \
        X(BAD_NAME, 48, "the name is no host name or address")                                                         \
        X(NAME_NOT_FOUND, 49, "the name does not exist, or has no address of this family")                             \
        X(NAME_TRY_AGAIN, 50, "the name servers did not answer: try again later")                                      \
        X(NAME_FAILED, 51, "the name servers failed, or resolving is not possible here")                               \
        X(OOB_INLINE, 52, "urgent data is in the stream of this socket: receive it there, or set OOB_INLINE to 0")     \
        X(WOULD_WAIT, 53, "it cannot be done now, and has the flag DONTWAIT")                                          \
        X(BAD_MESSAGE, 56, "a received message has a place of 128 to 384 bytes in aux, at a multiple of 8")            \
        X(BAD_CONTROL, 57, "a control item is unknown, malformed, there twice, or not for this socket")                \
        X(PREPARED, 60, "the socket is prepared for an accept: until that has ended it does nothing else")             \
        X(NOT_NEW, 61, "an accept takes a stream of its listener's family that is neither bound nor connected")        \
        X(REPLACED, 62, "another kernel socket took the place of the one on which the operation was pending")          \
        X(UNKNOWN_SERVICE, 63, "the machine knows no service of this name: give the number of its port")               \
        X(UNKNOWN_FILE, 65, "no file of this session has this number: it was removed, or never added")                 \
        X(BAD_FILE, 66, "the descriptor is no file that can be sent: open a regular file for reading only")            \
        X(FILE_TOO_SHORT, 67, "the file ends before the bytes that were to be sent: the rest was not sent")            \
        X(FILE_UNREADABLE, 68, "the file cannot be read: the rest was not sent")                                       \
        X(BAD_ELEMENT, 69, "an element has unknown flags, a region and the flag FILE, or lies beyond any file")        \
        X(UNKNOWN_IOCTL, 70, "the daemon does not know this control code: compare the protocol versions")              \
        X(BAD_INPUT, 71, "the input of this control has another length or other values than it takes")                 \
        X(OUTPUT_TOO_SMALL, 72, "there is no room for the output, or too little: the value says for how many")         \
        X(NOT_WATCHED, 73, "overlapd cannot see addresses and routes here: let its service have AF_NETLINK")           \
        X(NOT_OVERLAPPED, 79, "the socket is not overlapped: all calls on it are synchronous, and it has no port")

enum ovl_reason {
#define OVL_REASON_ENUM(name, number, text) OVL_REASON_##name = number,
        OVL_REASONS(OVL_REASON_ENUM)
#undef OVL_REASON_ENUM
};

/* --- Lanes (level 2) -------------------------------------------------------------------------------------------- */

/*
 * A lane is the shared memory of one thread, in two memfds: the client's holds the submission ring, the daemon's the
 * record ring, which the client maps read-only. Each word has one writer; words of different writers never share a
 * cache line. The slots or records start at OVL_LANE_DATA.
 */
#define OVL_LANE_MAGIC 0x4e4c564fu /* "OVLN" */
#define OVL_LANE_DATA 4096u

struct ovl_lane_client {
        uint32_t magic;
        uint32_t version;
        uint32_t n_slots; /* a power of two; read by the daemon once, when the lane is added */
        uint32_t reserved[13];
        uint32_t slots_tail; /* slots ever written, modulo 2^32 */
        uint32_t reserved1[15];
        uint32_t records_head; /* records ever taken, modulo 2^32: a hint, the daemon keeps its own account */
        uint32_t asleep;       /* 1: ring the bell with the next record */
        uint32_t reserved2[14];
};
OVL_ASSERT_SIZE(struct ovl_lane_client, 192);
OVL_ASSERT_AT(struct ovl_lane_client, slots_tail, 64);
OVL_ASSERT_AT(struct ovl_lane_client, records_head, 128);

struct ovl_lane_daemon {
        uint32_t magic;
        uint32_t version;
        uint32_t n_records; /* a power of two */
        uint32_t reserved[13];
        uint32_t slots_head; /* slots ever consumed, modulo 2^32 */
        uint32_t asleep;     /* 1: ring the doorbell after the next entry; 2: also after taking records */
        uint64_t settled;    /* entries ever settled */
        uint32_t reserved1[12];
        uint32_t records_tail; /* records ever written, modulo 2^32 */
        uint32_t reserved2[15];
};
OVL_ASSERT_SIZE(struct ovl_lane_daemon, 192);
OVL_ASSERT_AT(struct ovl_lane_daemon, slots_head, 64);
OVL_ASSERT_AT(struct ovl_lane_daemon, settled, 72);
OVL_ASSERT_AT(struct ovl_lane_daemon, records_tail, 128);

#endif
