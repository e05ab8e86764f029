/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a client passes may be anything, and even to ask what it is may take for ever: a file system can be a program of
 * the client's. So nothing but its flags is looked at here; the rest is a job for a reader.
 *
 *   unknown -> good      a reader found a regular file
 *   unknown -> refused   ... or something else: the client is told, and it goes
 *   good -> leaving      the client takes it back: it takes no further op
 *   any -> forgotten     its last op has ended, or its session: the descriptor stays as long as a piece is read of it
 *
 * Who reads next. A read that hangs keeps its piece, so nobody may have so many that others have none: two a file, four
 * a session, and a user never more than are left to others. So a user whose reads all hang leaves half of the pieces to
 * the next one. Files have their turns one after the other, and so have the ops of a file.
 *
 * Only what was opened for reading alone is taken: a descriptor that could be written through is more than sending
 * needs. Reads at an offset leave the position alone that the client's descriptor shares with this one.
 */

#include "daemon/worker/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/kernel-compat.h"
#include "daemon/reaper.h"

int files_init(struct files *files, struct reaper *reaper) {
        *files = (struct files){ .reaper = reaper };
        list_init(&files->hungry);
        return reader_new(&files->reader);
}

static void file_free(struct file *file) {
        list_unlink(&file->hungry);
        reaper_close(file->files->reaper, file->fd, file->uid);
        charge_release(&file->charge);
        quota_unit_unref(file->unit);
        free(file);
}

void files_deinit(struct files *files) {
        struct file *files_read[READER_PIECES] = { 0 };

        if (!files->reader)
                return;
        for (uint32_t i = 0; i < READER_PIECES; i++) {
                struct piece *piece = reader_piece(files->reader, i);

                if (piece->state != PIECE_FREE && --piece->file->n_reads == 0)
                        files_read[i] = piece->file;
        }
        files->reader = reader_free(files->reader);
        for (uint32_t i = 0; i < READER_PIECES; i++)
                if (files_read[i])
                        file_free(files_read[i]);
}

/* --- Life ------------------------------------------------------------------------------------------------------- */

int file_new(struct files *files, int *take_fd, uint64_t session, struct quota_unit *unit, struct charge *charge,
             struct file **ret_file, const char **ret_problem) {
        int flags = fcntl(*take_fd, F_GETFL);
        struct file *file;

        if (flags < 0 || (flags & O_PATH) || (flags & O_ACCMODE) != O_RDONLY) {
                *ret_problem = "it is not open for reading only";
                return -EBADFD;
        }
        if (flags & O_DIRECT) {
                *ret_problem = "it is open with O_DIRECT: open it without";
                return -EBADFD;
        }
        file = malloc(sizeof(*file));
        if (!file)
                return -ENOMEM;
        *file = (struct file){
                .files = files,
                .fd = fd_take(take_fd),
                .session = session,
                .uid = unit->user->uid,
                .charge = charge_move(charge),
                .unit = quota_unit_ref(unit),
                .wants_check = true,
                .status = -EINPROGRESS,
        };
        list_init(&file->waiting);
        list_init(&file->hungry);
        list_push_back(&files->hungry, &file->hungry);
        *ret_file = file;
        return 0;
}

struct file *file_forget(struct file *file) {
        if (!file)
                return NULL;
        assert(list_is_empty(&file->waiting));
        list_unlink(&file->hungry);
        file->is_forgotten = true;
        if (file->n_reads == 0)
                file_free(file);
        return NULL;
}

void file_give_up(struct file *file) {
        while (file && list_pop_front(&file->waiting))
                ;
}

/* --- Turns ------------------------------------------------------------------------------------------------------ */

static bool file_wants_piece(const struct file *file) {
        return file->wants_check || !list_is_empty(&file->waiting);
}

void file_await(struct file *file, struct list *waits) {
        list_push_back(&file->waiting, waits);
        if (!list_is_linked(&file->hungry))
                list_push_back(&file->files->hungry, &file->hungry);
}

static bool file_may_read(const struct file *file) {
        const struct reader *reader = file->files->reader;

        return file->n_reads < FILE_READS_MAX &&
               reader_n_of_session(reader, file->session) < FILE_READS_OF_SESSION_MAX &&
               reader_n_of_user(reader, file->uid) < reader_n_free(reader);
}

static struct file *files_next_file(struct files *files) {
        list_for_each_safe(link, &files->hungry) {
                struct file *file = list_entry(link, struct file, hungry);

                if (!file_wants_piece(file))
                        list_unlink(link);
                else if (file_may_read(file))
                        return file;
        }
        return NULL;
}

struct piece *files_next(struct files *files, struct list **ret_waits) {
        struct piece *piece = reader_find(files->reader);
        struct file *file = piece ? files_next_file(files) : NULL;

        if (!file)
                return NULL;
        list_unlink(&file->hungry);
        piece->file = file;
        piece->fd = file->fd;
        piece->session = file->session;
        piece->uid = file->uid;
        piece->n_parts = 0;
        piece->job = file->wants_check ? PIECE_CHECKS : PIECE_READS;
        file->n_reads++;
        *ret_waits = file->wants_check ? NULL : list_pop_front(&file->waiting);
        file->wants_check = false;
        if (file_wants_piece(file))
                list_push_back(&files->hungry, &file->hungry);
        return piece;
}

void file_release(struct piece *piece) {
        struct file *file = piece->file;

        reader_release(piece);
        if (--file->n_reads == 0 && file->is_forgotten)
                file_free(file);
}

void file_checked(struct piece *piece) {
        piece->file->status = piece->result;
        piece->file->problem = piece->problem;
        file_release(piece);
}
