/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/worker/resources.h"

#include <errno.h>
#include <sys/mman.h>

#include "daemon/worker/socket.h"

int resources_init(struct resources *resources) {
        void *pool = mmap(NULL, RESOURCES_SOCKETS_MAX * sizeof(struct socket), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (pool == MAP_FAILED)
                return -ENOMEM;
        *resources = (struct resources){ .socket_pool = pool };
        list_init(&resources->sessions);
        list_init(&resources->touched);
        list_init(&resources->marked);
        list_init(&resources->publish);
        list_init(&resources->settle);
        list_init(&resources->awake);
        list_init(&resources->retrying);
        list_init(&resources->spare_sockets);
        return 0;
}

void resources_deinit(struct resources *resources) {
        if (resources->socket_pool)
                munmap(resources->socket_pool, RESOURCES_SOCKETS_MAX * sizeof(struct socket));
        resources->socket_pool = NULL;
}

struct socket *resources_take_socket(struct resources *resources) {
        struct list *link = list_pop_front(&resources->spare_sockets);

        if (link)
                return list_entry(link, struct socket, link);
        if (resources->n_sockets_high == RESOURCES_SOCKETS_MAX)
                return NULL;
        return &resources->socket_pool[resources->n_sockets_high++];
}

void resources_give_socket(struct resources *resources, struct socket *socket) {
        list_push_front(&resources->spare_sockets, &socket->link);
}
