/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file-receiver PORT DIRECTORY: receives one file per connection into a directory, on 127.0.0.1; SIGTERM or SIGINT ends
 * it.
 *
 * While one buffer is written to the file the next ones are being filled. A file gets its name, 000001 and so on, when
 * its connection has come to an orderly end; what was received in part is removed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <overlap.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum {
        FILES = 32,
        RECEIVES = 4,
        BUFFER_SIZE = 262144
};

struct file {
        struct receiver *receiver;
        uint64_t socket; /* 0: free */
        uint64_t size;
        int fd, n_pending, status;
        bool ended;
        char name[32];
        struct ovl_overlapped receives[RECEIVES];
        char *data;
};

struct receiver {
        struct ovl_thread *thread;
        struct ovl_overlapped accept;
        uint64_t listener;
        int n_files, n_names;
        bool accepting;
        struct file files[FILES];
};

static void file_received(struct ovl_thread *thread, struct ovl_overlapped *overlapped);
static void receiver_accepted(struct ovl_thread *thread, struct ovl_overlapped *overlapped);

/* Nothing more is wanted of this connection; status says why. */
static void file_end(struct file *file, int status) {
        if (!file->ended && status < 0)
                ovl_cancel(file->receiver->thread, file->socket, NULL);
        if (!file->ended)
                file->status = status;
        file->ended = true;
}

static void file_receive(struct file *file, struct ovl_overlapped *overlapped) {
        struct ovl_buffer empty = { file->data + (overlapped - file->receives) * BUFFER_SIZE, BUFFER_SIZE };
        int r;

        overlapped->user = file;
        r = ovl_recv(file->receiver->thread, file->socket, &empty, 1, 0, overlapped, file_received);
        file->n_pending += r >= 0;
        if (r < 0)
                file_end(file, r);
}

static int file_write(struct file *file, const char *data, size_t len) {
        while (len > 0) {
                ssize_t n = write(file->fd, data, len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                len -= n;
                file->size += n;
        }
        return 0;
}

static void receiver_accept(struct receiver *receiver) {
        receiver->accept.user = receiver;
        if (!receiver->accepting && receiver->n_files < FILES)
                receiver->accepting =
                        ovl_accept(receiver->thread, receiver->listener, 0, &receiver->accept, receiver_accepted) >= 0;
}

/* Gives a complete file the next number that nobody has; what is there already stays. */
static int file_name(struct file *file, char *ret_name, size_t size) {
        int r;

        do {
                snprintf(ret_name, size, "%06d", ++file->receiver->n_names);
                r = link(file->name, ret_name) < 0 ? -errno : 0;
        } while (r == -EEXIST);
        return r;
}

/* Ends every routine of a file: where nothing is pending any more, it is given its name. */
static void file_settle(struct file *file) {
        char name[16];

        if (file->n_pending > 0)
                return;
        if (close(file->fd) < 0 && file->status == 0)
                file->status = -errno;
        if (file->status == 0)
                file->status = file_name(file, name, sizeof name);
        if (file->status == 0)
                printf("%s: %llu bytes\n", name, (unsigned long long) file->size);
        else
                fprintf(stderr, "file-receiver: a file was lost: %s\n", strerror(-file->status));
        unlink(file->name);
        ovl_socket_close(file->receiver->thread, file->socket);
        file->socket = 0;
        file->receiver->n_files--;
        receiver_accept(file->receiver);
}

static void file_received(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct file *file = overlapped->user;
        int r = overlapped->status;

        file->n_pending--;
        if (r == 0 && overlapped->bytes > 0 && !file->ended)
                r = file_write(file, file->data + (overlapped - file->receives) * BUFFER_SIZE, overlapped->bytes);
        if (r < 0 || overlapped->bytes == 0)
                file_end(file, r);
        if (!file->ended)
                file_receive(file, overlapped);
        file_settle(file);
}

static void receiver_accepted(struct ovl_thread *thread, struct ovl_overlapped *overlapped) {
        struct receiver *receiver = overlapped->user;
        struct file *file = receiver->files;
        int i;

        receiver->accepting = false;
        if (overlapped->status < 0)
                return;      /* tried again when a file ends */
        while (file->socket) /* one is free: otherwise no accept was posted */
                file++;
        receiver->n_files++;
        file->socket = overlapped->value;
        file->size = 0;
        file->status = 0;
        file->ended = false;
        snprintf(file->name, sizeof file->name, ".part-%d", (int) (file - receiver->files));
        file->fd = open(file->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (file->fd < 0)
                file_end(file, -errno);
        for (i = 0; i < RECEIVES && !file->ended; i++)
                file_receive(file, &file->receives[i]);
        file_settle(file);
        receiver_accept(receiver);
}

static void receiver_must(int r, const struct ovl_error *error) {
        if (r < 0) {
                fprintf(stderr, "file-receiver: %s\n", error->text);
                exit(EXIT_FAILURE);
        }
}

static void receiver_listen(struct receiver *receiver, uint16_t port) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
        struct ovl_thread *thread = receiver->thread;
        socklen_t len = sizeof address;
        int r;

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        r = ovl_socket_open(thread, AF_INET, SOCK_STREAM, &receiver->listener);
        if (r >= 0)
                r = ovl_bind(thread, receiver->listener, (struct sockaddr *) &address, len);
        if (r >= 0)
                r = ovl_listen(thread, receiver->listener, 128);
        if (r >= 0)
                r = ovl_getsockname(thread, receiver->listener, (struct sockaddr *) &address, &len);
        receiver_must(r, ovl_thread_error(thread));
        printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
        fflush(stdout);
}

/* Waits for a signal or for something to dispatch, whichever comes first. */
static int receiver_run(struct receiver *receiver, int signal_fd) {
        struct pollfd fds[2] = { { .fd = signal_fd, .events = POLLIN },
                                 { .fd = ovl_thread_fd(receiver->thread), .events = POLLIN } };
        int r = 0;

        receiver_accept(receiver);
        while (r >= 0 && fds[0].revents == 0) {
                r = ovl_sleep(receiver->thread, 0);
                if (r >= 0)
                        poll(fds, 2, -1);
        }
        if (r < 0)
                fprintf(stderr, "file-receiver: %s\n", ovl_thread_error(receiver->thread)->text);
        return r;
}

int main(int argc, char **argv) {
        static const struct ovl_session_options options = { .name = "file-receiver" };
        struct receiver *receiver = calloc(1, sizeof *receiver);
        struct ovl_session *session;
        struct ovl_region *region;
        struct ovl_error error;
        sigset_t signals;
        int i, r;

        if (!receiver || argc != 3 || chdir(argv[2]) < 0) {
                fprintf(stderr, "Usage: file-receiver PORT DIRECTORY\n");
                return EXIT_FAILURE;
        }
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        setvbuf(stdout, NULL, _IOLBF, 0);
        receiver_must(ovl_session_open(&options, &session, &error), &error);
        receiver_must(ovl_thread_open(session, &receiver->thread, &error), &error);
        r = ovl_region_open(receiver->thread, (size_t) FILES * RECEIVES * BUFFER_SIZE, &region);
        receiver_must(r, ovl_thread_error(receiver->thread));
        for (i = 0; i < FILES; i++) {
                receiver->files[i].receiver = receiver;
                receiver->files[i].data = (char *) ovl_region_data(region) + (size_t) i * RECEIVES * BUFFER_SIZE;
        }
        receiver_listen(receiver, atoi(argv[1]));
        r = receiver_run(receiver, signalfd(-1, &signals, SFD_CLOEXEC));
        for (i = 0; i < FILES; i++)
                if (receiver->files[i].socket) {
                        unlink(receiver->files[i].name);
                        ovl_socket_close(receiver->thread, receiver->files[i].socket);
                }
        ovl_region_close(receiver->thread, region); /* waits until the kernel is done with the buffers */
        ovl_thread_close(receiver->thread);
        ovl_session_free(session);
        free(receiver);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
