/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A RESOLVE is an op without a socket, and so without a queue: each is asked of the monitor at once, and ends when the
 * answer comes, in any order. It stands in its session's list until then.
 *
 * The name is copied when the entry is taken, together with the few bytes around it that make it whole words: client
 * memory is read in words. The addresses come from the monitor as a file of memory, are read once, and are written to
 * the client before the record is made; how many fit was decided when the entry was taken.
 *
 * Rejected: messages with a few addresses each. An answer would then come in pieces, and could be cancelled in the
 * middle.
 */

#include "daemon/worker/resolve.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "daemon/worker/post.h"
#include "proto/shm.h"
#include "proto/text.h"

#define RESOLVE_WORDS ((RESOLVE_TEXT_MAX + 7 + 7) / 8 + 1)

_Static_assert(OVL_RESOLVE_NAME_MAX <= RESOLVE_TEXT_MAX, "a name can be copied");

static int refuse(int status, unsigned reason, unsigned *ret_reason) {
        *ret_reason = reason;
        return status;
}

/* Regions begin and end at pages: the words around a name lie within its region. */
void resolve_copy(const struct iovec *from, uint8_t *to) {
        uint64_t words[RESOLVE_WORDS];
        size_t before = (uintptr_t) from->iov_base % sizeof(words[0]);

        if (from->iov_len == 0)
                return;
        shm_copy(words, (const uint8_t *) from->iov_base - before, (before + from->iov_len + 7) / 8 * 8);
        memcpy(to, (const uint8_t *) words + before, from->iov_len);
}

static bool resolve_copy_name(const struct iovec *from, char ret_name[OVL_RESOLVE_NAME_MAX]) {
        if (from->iov_len == 0 || from->iov_len > OVL_RESOLVE_NAME_MAX)
                return false;
        resolve_copy(from, (uint8_t *) ret_name);
        return text_is_host_name(ret_name, from->iov_len);
}

/* Inline: the name came along, and its piece is the place of the addresses from here on. */
static int resolve_take_inline(struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        struct link_message *message = op_question(op);
        uint32_t name_len = op->payload.len;

        if (entry->buffer.region != 0 || entry->buffer.offset != 0 || entry->aux.region != 0 || entry->aux.offset != 0)
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (op->payload.lost == OVL_REASON_QUOTA)
                return refuse(-ENOBUFS, OVL_REASON_QUOTA, ret_reason);
        if (op->payload.lost != OVL_REASON_NONE || name_len == 0 || name_len > OVL_RESOLVE_NAME_MAX)
                return refuse(-EINVAL, OVL_REASON_BAD_NAME, ret_reason);
        payload_copy(&op->payload, message->text, name_len);
        if (!text_is_host_name(message->text, name_len))
                return refuse(-EINVAL, OVL_REASON_BAD_NAME, ret_reason);
        payload_release(&op->payload);
        if (payload_append(&op->payload, &op->session->payloads, NULL, entry->aux.len) < 0)
                return refuse(-ENOBUFS, OVL_REASON_QUOTA, ret_reason);
        op->len = entry->aux.len;
        return 0;
}

static int resolve_take_name(struct op *op, const struct ovl_slice *slice, unsigned *ret_reason) {
        struct link_message *message = op_question(op);
        struct iovec name;
        int r;

        r = post_take_slice(op->session, op, slice, &name, ret_reason);
        if (r < 0)
                return r;
        _Static_assert(sizeof(message->text) > OVL_RESOLVE_NAME_MAX, "the name and a NUL fit the text of a message");
        if (!resolve_copy_name(&name, message->text))
                return refuse(-EINVAL, OVL_REASON_BAD_NAME, ret_reason);
        return 0;
}

/* What `other` says beside the port. */
static int resolve_take_kind(struct op *op, uint64_t other, unsigned *ret_reason) {
        struct link_message *message = op_question(op);
        uint8_t family = (uint8_t) (other >> 16), type = (uint8_t) (other >> 24);

        if (other >> 32)
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        if (family != 0 && family != OVL_FAMILY_INET && family != OVL_FAMILY_INET6)
                return refuse(-EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS, ret_reason);
        if (type != 0 && type != SOCK_STREAM && type != SOCK_DGRAM)
                return refuse(-EAFNOSUPPORT, OVL_REASON_BAD_ADDRESS, ret_reason);
        message->body.resolve.port = (uint16_t) other;
        message->body.resolve.family = family;
        message->body.resolve.type = type;
        return 0;
}

int resolve_take(struct op *op, const struct ovl_entry *entry, unsigned *ret_reason) {
        const uint8_t flags = OVL_ENTRY_WANT_VERDICT | (op->peer->lane ? 0 : OVL_ENTRY_INLINE);
        struct link_message *message = op_question(op);
        int r;

        if ((entry->flags & ~flags) || entry->op_flags != 0)
                return refuse(-EOPNOTSUPP, OVL_REASON_UNKNOWN_FLAGS, ret_reason);
        if (entry->indication > OVL_INDICATE_QUIET)
                return refuse(-EINVAL, OVL_REASON_BAD_INDICATION, ret_reason);
        if (entry->n_slots != 1)
                return refuse(-EINVAL, OVL_REASON_RESERVED_BITS, ret_reason);
        *message = (struct link_message){ .kind = LINK_RESOLVE };
        message->body.resolve.session = op->session->number;
        r = resolve_take_kind(op, entry->other, ret_reason);
        if (r < 0)
                return r;
        if (entry->aux.len == 0 || entry->aux.len % sizeof(struct ovl_address) != 0 ||
            entry->aux.len / sizeof(struct ovl_address) > OVL_RESOLVE_ADDRESSES_MAX)
                return refuse(-EINVAL, OVL_REASON_BAD_ADDRESS, ret_reason);
        if (entry->flags & OVL_ENTRY_INLINE)
                return resolve_take_inline(op, entry, ret_reason);
        op->parts = &op->one;
        op->n_parts = 1;
        r = post_take_slice(op->session, op, &entry->aux, &op->one, ret_reason);
        if (r < 0)
                return r;
        op->len = op->one.iov_len;
        return resolve_take_name(op, &entry->buffer, ret_reason);
}

void resolve_start(struct op *op, struct list *ended) {
        int r;

        op->state = OP_ACTIVE;
        op->ticket.owner = TICKET_RESOLVE;
        op->ticket.message = op_question(op);
        op->ticket.message->asker = op_asker(op);
        op->ticket.fd = -1;
        list_push_back(&op->session->resolving, &op->link);
        r = ask_send(&op->session->resources->ask, &op->ticket);
        if (r == 0)
                return;
        list_unlink(&op->link);
        op_end(op, r, OVL_REASON_QUOTA, 0);
        list_push_back(ended, &op->link);
}

/* Reads the addresses. Returns how many bytes there are. */
static size_t resolve_read(int fd, struct ovl_address *ret_addresses, size_t size) {
        size_t len = 0;
        ssize_t n;

        do {
                n = read(fd, (uint8_t *) ret_addresses + len, size - len);
                if (n > 0)
                        len += (size_t) n;
        } while ((n > 0 && len < size) || (n < 0 && errno == EINTR));
        return len;
}

static void resolve_store(struct op *op, uint32_t n_addresses, int fd) {
        struct ovl_address addresses[OVL_RESOLVE_ADDRESSES_MAX];
        size_t wanted = n_addresses * sizeof(addresses[0]);

        if (fd < 0 || n_addresses > OVL_RESOLVE_ADDRESSES_MAX || resolve_read(fd, addresses, wanted) != wanted) {
                op_end(op, -EIO, OVL_REASON_NAME_FAILED, 0);
                return;
        }
        if (wanted > op->len)
                wanted = op->len;
        if (op->payload.pool)
                payload_put(&op->payload, 0, addresses, wanted);
        else
                memcpy(op->one.iov_base, addresses, wanted);
        op_end(op, 0, OVL_REASON_NONE, wanted);
        op->value = n_addresses;
}

void resolve_finish(struct op *op, const struct link_message *answer, int fd) {
        struct list ended;

        list_init(&ended);
        list_unlink(&op->link);
        if (answer->status == 0)
                resolve_store(op, answer->body.found.n_addresses, fd);
        else
                op_end(op, answer->status, answer->status == -ECANCELED ? op->cancel : answer->reason, 0);
        list_push_back(&ended, &op->link);
        session_indicate_all(&ended);
}
