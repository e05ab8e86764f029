/* SPDX-License-Identifier: Apache-2.0 */

/* The policy at work, and what it knows of the machine. */

#include "daemon/monitor/rulings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/harness/harness.h"
#include "tests/harness/process.h"

struct rulings_fixture {
        sd_event *event;
        struct journal journal;
        struct rulings rulings;
        const char *directories[2];
        char directory[128];
};

static void rulings_write(struct rulings_fixture *fixture, const char *text) {
        _cleanup_fd_ int fd = -1;
        char path[256];

        snprintf(path, sizeof(path), "%s/rules.conf", fixture->directory);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        assert_ok(fd);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void rulings_set_up(struct rulings_fixture *fixture, const char *text) {
        struct rulings_source source = { .directories = fixture->directories };
        char *errors = NULL;

        *fixture = (struct rulings_fixture){ 0 };
        snprintf(fixture->directory, sizeof(fixture->directory), "%s/p", harness_directory());
        mkdir(fixture->directory, 0755);
        fixture->directories[0] = fixture->directory;
        rulings_write(fixture, text);
        assert_ok(sd_event_new(&fixture->event));
        journal_init(&fixture->journal, JOURNAL_TO_STDERR, LOG_EMERG);
        rulings_init(&fixture->rulings, &source, fixture->event, &fixture->journal);
        if (rulings_load(&fixture->rulings, &errors) < 0)
                fail_msg("%s", errors);
}

static void rulings_tear_down(struct rulings_fixture *fixture) {
        rulings_deinit(&fixture->rulings);
        sd_event_unref(fixture->event);
}

static bool rulings_may_connect(struct rulings_fixture *fixture, const struct rulings_client *client, const char *host,
                                uint16_t port) {
        struct ovl_address address = { .family = OVL_FAMILY_INET, .port = port };
        struct ruling_question question = { .act = RULING_CONNECT, .address = &address };
        char why[RULINGS_WHY_SIZE];

        assert_int_equal(inet_pton(AF_INET, host, address.host), 1);
        return rulings_allow(&fixture->rulings, client, &question, why);
}

static void rulings_alike_share_one(void **state) {
        gid_t groups[] = { 1, 2 };
        const struct listener_peer peers[] = {
                { .fd = -1, .uid = 7 },
                { .fd = -1, .uid = 8 },
                { .fd = -1, .uid = 7, .gid = 3 },
                { .fd = -1, .uid = 7, .unit = (char *) "a.service" },
                { .fd = -1, .uid = 7, .cgroup = (char *) "/a" },
                { .fd = -1, .uid = 7, .groups = groups, .n_groups = 2 },
                { .fd = -1, .uid = 7, .groups = groups, .n_groups = 1 },
                { .fd = -1, .uid = 7, .is_elsewhere = true },
        };
        struct rulings_client *clients[HARNESS_N(peers)], *again, *other;
        struct rulings_fixture fixture;
        int n_fds;

        rulings_set_up(&fixture, "[allow a]\nUser=7\nAction=connect\n");
        n_fds = process_count_fds(getpid());
        for (size_t i = 0; i < HARNESS_N(peers); i++) {
                assert_ok(rulings_ref(&fixture.rulings, &peers[i], 0, &clients[i]));
                for (size_t j = 0; j < i; j++)
                        assert_ptr_not_equal(clients[i], clients[j]);
                assert_ok(rulings_ref(&fixture.rulings, &peers[i], 0, &again));
                assert_ptr_equal(again, clients[i]);
                assert_ok(rulings_ref(&fixture.rulings, &peers[i], 1, &other));
                assert_ptr_not_equal(other, clients[i]);
                assert_true(other->number != clients[i]->number);
                rulings_unref(other);
        }
        assert_true(rulings_may_connect(&fixture, clients[0], "198.51.100.1", 80));
        assert_false(rulings_may_connect(&fixture, clients[1], "198.51.100.1", 80));
        assert_false(rulings_may_connect(&fixture, clients[7], "198.51.100.1", 80));
        assert_false(rulings_may_connect(&fixture, NULL, "198.51.100.1", 80));
        for (size_t i = 0; i < HARNESS_N(peers); i++) {
                rulings_unref(clients[i]);
                rulings_unref(clients[i]);
        }
        assert_true(list_is_empty(&fixture.rulings.clients));
        assert_int_equal(process_count_fds(getpid()), n_fds);
        rulings_tear_down(&fixture);
}

static void rulings_are_replaced_together(void **state) {
        const struct listener_peer peer = { .fd = -1, .uid = 7 };
        struct rulings_fixture fixture;
        struct rulings_client *client;
        char *errors = NULL;
        uint64_t number;

        rulings_set_up(&fixture, "[allow a]\nUser=7\nAction=connect\nPort=80\n");
        assert_ok(rulings_ref(&fixture.rulings, &peer, 0, &client));
        number = client->number;
        rulings_write(&fixture, "[allow a]\nUser=7\nAction=connect\nPort=eighty\n");
        assert_int_equal(rulings_load(&fixture.rulings, &errors), -EINVAL);
        assert_non_null(strstr(errors, "rules.conf:4: Port=eighty: must be ports"));
        free(errors);
        assert_true(rulings_may_connect(&fixture, client, "198.51.100.1", 80));
        rulings_write(&fixture, "[allow a]\nUser=7\nAction=connect\nPort=81\n");
        assert_ok(rulings_load(&fixture.rulings, &errors));
        assert_true(client->number == number);
        assert_false(rulings_may_connect(&fixture, client, "198.51.100.1", 80));
        assert_true(rulings_may_connect(&fixture, client, "198.51.100.1", 81));
        rulings_unref(client);
        rulings_tear_down(&fixture);
}

/* What workers get says the same, and cannot be changed. */
static void rulings_are_sealed(void **state) {
        const struct listener_peer peer = { .fd = -1, .uid = 7 };
        struct rulings_fixture fixture;
        struct rulings_client *client;
        struct ruling *copy;

        rulings_set_up(&fixture, "[allow a]\nUser=7\nAction=connect\n");
        assert_ok(rulings_ref(&fixture.rulings, &peer, 0, &client));
        copy = mmap(NULL, client->ruling->size, PROT_READ, MAP_SHARED, client->fd, 0);
        assert_ptr_not_equal(copy, MAP_FAILED);
        assert_memory_equal(copy, client->ruling, client->ruling->size);
        assert_true(ruling_is_sound(copy, client->ruling->size));
        assert_ptr_equal(mmap(NULL, client->ruling->size, PROT_READ | PROT_WRITE, MAP_SHARED, client->fd, 0),
                         MAP_FAILED);
        assert_int_equal(pwrite(client->fd, "x", 1, 0), -1);
        munmap(copy, client->ruling->size);
        rulings_unref(client);
        rulings_tear_down(&fixture);
}

static void rulings_learn_names(void **state) {
        const struct listener_peer peer = { .fd = -1, .uid = 7 };
        struct ovl_address address = { .family = OVL_FAMILY_INET, .host = { 198, 51, 100, 1 } };
        struct rulings_fixture fixture;
        struct rulings_client *client;

        rulings_set_up(&fixture, "[allow a]\nUser=7\nAction=connect\nTo=db.example *.sub.example\n");
        assert_ok(rulings_ref(&fixture.rulings, &peer, 0, &client));
        assert_false(rulings_learn(&fixture.rulings, "other.example", &address, 1));
        assert_false(rulings_learn(&fixture.rulings, "sub.example", &address, 1));
        assert_false(rulings_learn(&fixture.rulings, "", &address, 1));
        assert_false(rulings_may_connect(&fixture, client, "198.51.100.1", 80));
        assert_true(rulings_learn(&fixture.rulings, "DB.Example.", &address, 1));
        assert_true(rulings_may_connect(&fixture, client, "198.51.100.1", 80));
        /* Whoever asks again and again makes no work for the workers. */
        assert_false(rulings_learn(&fixture.rulings, "db.example", &address, 1));
        assert_true(rulings_may_connect(&fixture, client, "198.51.100.1", 80));
        address.host[3] = 2;
        assert_true(rulings_learn(&fixture.rulings, "a.b.sub.example", &address, 1));
        assert_true(rulings_may_connect(&fixture, client, "198.51.100.2", 80));
        /* There is an end to what is remembered: the oldest goes. */
        for (unsigned i = 0; i < FACTS_FOUND_MAX; i++) {
                address.host[0] = 11;
                address.host[1] = (uint8_t) (i >> 16);
                address.host[2] = (uint8_t) (i >> 8);
                address.host[3] = (uint8_t) i;
                facts_learn(&fixture.rulings.facts, ruling_hash("db.example"), &address);
        }
        assert_int_equal(fixture.rulings.facts.n_found, FACTS_FOUND_MAX);
        assert_ok(facts_publish(&fixture.rulings.facts));
        assert_true(ruling_facts_are_sound(fixture.rulings.facts.known, fixture.rulings.facts.known->size));
        assert_false(rulings_may_connect(&fixture, client, "198.51.100.1", 80));
        assert_true(rulings_may_connect(&fixture, client, "11.0.0.1", 80));
        /* After its time an address counts no more. */
        for (size_t i = 0; i < fixture.rulings.facts.n_found; i++)
                fixture.rulings.facts.found[i].until_s = 0;
        assert_ok(facts_publish(&fixture.rulings.facts));
        assert_false(rulings_may_connect(&fixture, client, "11.0.0.1", 80));
        rulings_unref(client);
        rulings_tear_down(&fixture);
}

/* Whoever does not know the machine's addresses takes each for one of them. */
static void rulings_without_facts_are_strict(void **state) {
        const struct listener_peer peer = { .fd = -1, .uid = 7 };
        struct rulings_fixture fixture;
        struct rulings_client *client;

        rulings_set_up(&fixture, "[allow near]\nUser=7\nAction=connect\nTo=198.51.100.1\n"
                                 "[allow all]\nUser=7\nAction=connect\n");
        assert_ok(rulings_ref(&fixture.rulings, &peer, 0, &client));
        assert_true(rulings_may_connect(&fixture, client, "198.51.100.2", 80));
        assert_false(rulings_may_connect(&fixture, client, "127.0.0.1", 80));
        fixture.rulings.facts.known->is_incomplete = true;
        assert_false(rulings_may_connect(&fixture, client, "198.51.100.2", 80));
        assert_true(rulings_may_connect(&fixture, client, "198.51.100.1", 80));
        rulings_unref(client);
        rulings_tear_down(&fixture);
}

int main(int argc, char **argv) {
        static const struct harness_test tests[] = {
                { "clients that are alike share a ruling", rulings_alike_share_one },
                { "rulings are replaced together, or not at all", rulings_are_replaced_together },
                { "what workers get is sealed", rulings_are_sealed },
                { "names are learned, and forgotten", rulings_learn_names },
                { "without facts every address must be named", rulings_without_facts_are_strict },
        };

        return harness_main(argc, argv, tests, HARNESS_N(tests));
}
