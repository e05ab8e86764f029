/* SPDX-License-Identifier: Apache-2.0 */

#include "daemon/worker/resources.h"

#include <errno.h>
#include <sys/mman.h>

#include "daemon/worker/handle.h"
#include "daemon/worker/socket.h"

static void *resources_map(size_t size) {
        void *pool = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        return pool == MAP_FAILED ? NULL : pool;
}

int resources_init(struct resources *resources) {
        *resources = (struct resources){ 0 };
        resources->socket_pool = resources_map(RESOURCES_SOCKETS_MAX * sizeof(struct socket));
        resources->handle_pool = resources_map(RESOURCES_HANDLES_MAX * sizeof(struct handle));
        if (!resources->socket_pool || !resources->handle_pool) {
                resources_deinit(resources);
                return -ENOMEM;
        }
        rules_init(&resources->rules);
        quotas_init(&resources->quotas);
        apc_table_init(&resources->apcs);
        list_init(&resources->sessions);
        list_init(&resources->touched);
        list_init(&resources->marked);
        list_init(&resources->publish);
        list_init(&resources->settle);
        list_init(&resources->awake);
        list_init(&resources->retrying);
        list_init(&resources->postponed);
        list_init(&resources->paused);
        list_init(&resources->starved);
        list_init(&resources->spare_sockets);
        list_init(&resources->spare_handles);
        return 0;
}

void resources_deinit(struct resources *resources) {
        if (resources->socket_pool)
                munmap(resources->socket_pool, RESOURCES_SOCKETS_MAX * sizeof(struct socket));
        resources->socket_pool = NULL;
        if (resources->handle_pool)
                munmap(resources->handle_pool, RESOURCES_HANDLES_MAX * sizeof(struct handle));
        resources->handle_pool = NULL;
        rules_deinit(&resources->rules);
        quotas_deinit(&resources->quotas);
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

struct handle *resources_take_handle(struct resources *resources) {
        struct list *link = list_pop_front(&resources->spare_handles);

        if (link)
                return list_entry(link, struct handle, link);
        if (resources->n_handles_high == RESOURCES_HANDLES_MAX)
                return NULL;
        return &resources->handle_pool[resources->n_handles_high++];
}

void resources_give_handle(struct resources *resources, struct handle *handle) {
        list_push_front(&resources->spare_handles, &handle->link);
}
