/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The monitor: the loop, and the life of the daemon.
 *
 * Invariant: connections are accepted only while a worker is ready to serve them; before that and between two workers
 * they wait in the socket's queue. The monitor never waits for a client, a worker or the network: whatever may take
 * time is an event of the loop.
 *
 *   starting -> serving   the first worker is ready: the service manager is told, or the command is started
 *   serving  -> stopping  by SIGTERM or SIGINT, by the end of the command, by a crew that failed
 *   starting -> stopping  likewise
 *   stopping -> (end)     the last worker and the command are gone; after 5 s, or at a second signal, they are killed
 *
 * A private instance passes signals on to its command, whose end is its own. A Ctrl-C at the terminal reaches the
 * command without help, so only signals that a process sent are passed on.
 *
 * The modules below never call the monitor: after each dispatch monitor_settle() reads what has become of them.
 *
 * Rejected: a thread for anything; reloading what only a new start can change (SIGHUP says so instead).
 */

#include "daemon/monitor/monitor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "daemon/monitor/admin.h"
#include "daemon/monitor/crew.h"
#include "daemon/monitor/events.h"
#include "daemon/monitor/journal.h"
#include "daemon/monitor/listener.h"
#include "daemon/monitor/lobby.h"
#include "daemon/monitor/rulings.h"
#include "daemon/monitor/service.h"
#include "daemon/monitor/shards.h"
#include "daemon/monitor/spawn.h"
#include "daemon/reaper.h"

#define MONITOR_ACCEPTS_PER_VISIT 16
#define MONITOR_PAUSE_US (100 * UINT64_C(1000)) /* of the listener when descriptors are used up */
#define MONITOR_PAUSES_NS (10 * NS_PER_S)       /* pauses that follow each other faster are one event */
#define MONITOR_ADMIN "admin"                   /* FileDescriptorName= of the administrators' socket */
#define MONITOR_STOP_US (5 * UINT64_C(1000000)) /* until workers that do not finish are killed */

enum monitor_state {
        MONITOR_STARTING,
        MONITOR_SERVING,
        MONITOR_STOPPING,
};

struct monitor {
        const struct monitor_options *options; /* borrowed */
        struct journal journal;
        struct shards shards;
        struct rulings rulings;
        struct reaper *reaper;
        struct listener listener;
        struct admin admin;
        struct admin_about about;
        struct config config; /* as it is in force */
        struct crew crew;
        struct service service;
        sd_event *event;
        sd_event_source *listener_source;
        sd_event_source *pause_timer; /* while it exists, nothing is accepted */
        uint64_t last_pause_ns;
        sd_event_source *pulse_timer;
        sd_event_source *stop_timer;
        sd_event_source *command_source;
        enum monitor_state state;
        struct lobby lobby;
        sd_event_source *lobby_timer; /* goes off when the first guest has waited too long */
        bool is_accepting;
        pid_t command_pid; /* 0: not started, or ended */
        int exit_status;
        struct rlimit n_files; /* as the daemon found it */
        char directory[64];    /* of a private instance; empty: none */
};

static bool monitor_is_private(const struct monitor *monitor) {
        return monitor->options->command;
}

static void monitor_deinit(struct monitor *monitor) {
        admin_deinit(&monitor->admin);
        crew_deinit(&monitor->crew);
        sd_event_source_disable_unref(monitor->listener_source);
        sd_event_source_disable_unref(monitor->pause_timer);
        sd_event_source_disable_unref(monitor->pulse_timer);
        sd_event_source_disable_unref(monitor->stop_timer);
        sd_event_source_disable_unref(monitor->command_source);
        lobby_deinit(&monitor->lobby);
        sd_event_source_disable_unref(monitor->lobby_timer);
        listener_close(&monitor->listener);
        monitor->reaper = reaper_free(monitor->reaper);
        shards_deinit(&monitor->shards);
        rulings_deinit(&monitor->rulings);
        journal_deinit(&monitor->journal);
        if (monitor->directory[0] != '\0')
                rmdir(monitor->directory);
        sd_event_unref(monitor->event);
}

/* --- Stopping --------------------------------------------------------------------------------------------------- */

static void monitor_kill(struct monitor *monitor) {
        crew_kill(&monitor->crew);
        if (monitor->command_pid > 0)
                kill(monitor->command_pid, SIGKILL);
}

static int monitor_on_stop_timer(sd_event_source *source, uint64_t now, void *data) {
        struct monitor *monitor = data;

        journal_write(&monitor->journal, LOG_WARNING, &(struct journal_fields){ .message_id = EVENT_STOP_KILLED },
                      "not everybody ended within 5 s: they are killed");
        monitor_kill(monitor);
        return 0;
}

static void monitor_stop(struct monitor *monitor, int exit_status, const char *why) {
        struct journal_fields fields = { .message_id = EVENT_STOP };

        if (monitor->state == MONITOR_STOPPING)
                return;
        monitor->state = MONITOR_STOPPING;
        monitor->about.state = "stopping";
        monitor->exit_status = exit_status;
        journal_write(&monitor->journal, exit_status == 0 || monitor_is_private(monitor) ? LOG_INFO : LOG_ERR, &fields,
                      "overlapd stops: %s", why);
        service_stops(&monitor->service, why);
        crew_stop(&monitor->crew);
        if (monitor->command_pid > 0)
                kill(monitor->command_pid, SIGTERM);
        if (sd_event_add_time_relative(monitor->event, &monitor->stop_timer, CLOCK_MONOTONIC, MONITOR_STOP_US, 0,
                                       monitor_on_stop_timer, monitor) < 0)
                monitor_kill(monitor);
}

/* --- Connections ------------------------------------------------------------------------------------------------ */

static void monitor_refuse(struct monitor *monitor, const struct listener_peer *peer, const char *text) {
        struct journal_fields fields = {
                .message_id = EVENT_CHANNEL_REFUSED,
                .has_client = true,
                .client_pid = peer->pid,
                .client_uid = peer->uid,
                .client_unit = peer->unit,
                .client_cgroup = peer->cgroup,
                .error = -EBUSY,
        };

        monitor->about.n_refused++;
        journal_write(&monitor->journal, LOG_NOTICE, &fields, "connection refused: %s", text);
        listener_refuse(peer->fd, text);
}

/* Gives the connection to a worker. On success its descriptor is the worker's. Returns -EAGAIN when to ask again. */
static int monitor_hand_over(struct monitor *monitor, struct listener_peer *peer, const char **ret_text) {
        struct link_message message = { .kind = LINK_CHANNEL };
        struct shards_channel *channel;
        bool is_counted = !allowances_exempt(&monitor->crew.allowances, peer->uid);
        int worker, r;

        r = shards_admit(&monitor->shards, peer->uid, ret_text);
        if (r < 0)
                return r;
        *ret_text = "overlapd is short of memory or of workers: try again in a moment";
        worker = crew_pick(&monitor->crew, peer->uid, peer->unit, is_counted);
        if (worker < 0)
                return worker;
        r = shards_add(&monitor->shards, peer->uid, peer->unit, peer->pid, (unsigned) worker, &channel);
        if (r < 0)
                return r;
        r = rulings_ref(&monitor->rulings, peer, (unsigned) worker, &channel->client);
        if (r < 0) {
                shards_remove(&monitor->shards, channel);
                return r;
        }
        message.body.peer = (struct link_peer){
                .channel = channel->number,
                .shard = channel->shard->number,
                .uid = peer->uid,
                .gid = peer->gid,
                .pid = peer->pid,
                .ruling = channel->client->number,
                .may_bring_unix = peer->uid == geteuid(),
        };
        r = crew_give(&monitor->crew, channel->shard, &message, channel->client, peer->fd);
        if (r < 0) {
                shards_remove(&monitor->shards, channel);
                return r == -EPIPE ? -EAGAIN : r;
        }
        peer->fd = -1;
        monitor->about.n_accepted++;
        return 0;
}

/* Serves a connection, or refuses it, or returns -EAGAIN or -EBUSY where it may wait. */
static int monitor_take_in(struct monitor *monitor, struct listener_peer *peer, bool may_wait) {
        const char *text;
        int r;

        r = monitor_hand_over(monitor, peer, &text);
        if (may_wait && (r == -EAGAIN || r == -EBUSY))
                return r;
        if (r < 0)
                monitor_refuse(monitor, peer, text);
        return 0;
}

static void monitor_take_in_lobby(struct monitor *monitor) {
        uint64_t now = now_ns(), deadline_ns;

        list_for_each_safe(link, &monitor->lobby.guests) {
                struct lobby_guest *guest = list_entry(link, struct lobby_guest, link);

                if (monitor_take_in(monitor, &guest->peer, guest->deadline_ns > now) == 0)
                        lobby_leave(&monitor->lobby, guest);
        }
        deadline_ns = lobby_deadline_ns(&monitor->lobby);
        if (deadline_ns == 0) {
                sd_event_source_set_enabled(monitor->lobby_timer, SD_EVENT_OFF);
                return;
        }
        sd_event_source_set_time(monitor->lobby_timer, deadline_ns / 1000 + 1);
        sd_event_source_set_enabled(monitor->lobby_timer, SD_EVENT_ONESHOT);
}

/* Being awake is enough: monitor_settle() looks into the lobby. */
static int monitor_on_lobby_timer(sd_event_source *source, uint64_t now, void *data) {
        return 0;
}

static int monitor_on_pause_end(sd_event_source *source, uint64_t now, void *data) {
        struct monitor *monitor = data;

        monitor->pause_timer = sd_event_source_disable_unref(monitor->pause_timer);
        return 0;
}

static void monitor_pause(struct monitor *monitor, int error) {
        struct journal_fields fields = { .message_id = EVENT_LISTENER_PAUSED, .error = error };
        uint64_t now = now_ns();

        if (monitor->pause_timer)
                return;
        if (monitor->last_pause_ns == 0 || now - monitor->last_pause_ns > MONITOR_PAUSES_NS)
                journal_write(&monitor->journal, LOG_WARNING, &fields,
                              "accepting pauses for 100 ms, and again as long as this lasts: %s", strerror(-error));
        monitor->last_pause_ns = now;
        sd_event_add_time_relative(monitor->event, &monitor->pause_timer, CLOCK_MONOTONIC, MONITOR_PAUSE_US, 0,
                                   monitor_on_pause_end, monitor);
}

/* Whether the user has not connected too often of late. If he has he is told, and it is written down when it begins. */
static bool monitor_lets_pass(struct monitor *monitor, const struct listener_peer *peer) {
        struct bucket_rate rate = allowances_rate(&monitor->crew.allowances, peer->uid, LIMIT_RATE_SESSIONS);
        unsigned n_unknown =
                shards_count_unopened(&monitor->shards, peer->uid) + lobby_count(&monitor->lobby, peer->uid);
        uint64_t wait_ns = 0;
        bool begins = false;
        char text[LISTENER_ERROR_SIZE];
        int r;

        r = gate_pass(&monitor->crew.gate, peer->uid, &rate, n_unknown, now_ns(), &wait_ns, &begins);
        if (r == 0)
                return true;
        snprintf(text, sizeof(text),
                 "user %u opened sessions too often, and can connect again in %.3f s; SessionsPerSecond= and "
                 "SessionsBurst= below [User] in overlapd.conf say how often is allowed",
                 (unsigned) peer->uid, (double) wait_ns / NS_PER_S);
        if (begins)
                monitor_refuse(monitor, peer, text);
        else
                listener_refuse(peer->fd, text);
        return false;
}

static int monitor_on_listener(sd_event_source *source, int fd, uint32_t events, void *data) {
        struct monitor *monitor = data;

        for (int i = 0; i < MONITOR_ACCEPTS_PER_VISIT; i++) {
                cleanup(listener_peer_deinit) struct listener_peer peer = { .fd = -1 };
                int r;

                r = listener_accept(&monitor->listener, &peer);
                if (r == -EAGAIN)
                        break;
                if (r == -EPERM)
                        continue;
                if (r < 0) {
                        monitor_pause(monitor, r);
                        break;
                }
                if (!monitor_lets_pass(monitor, &peer))
                        continue;
                r = listener_identify(&monitor->listener, &peer);
                if (r < 0) {
                        monitor_pause(monitor, r);
                        break;
                }
                r = monitor_take_in(monitor, &peer, true);
                if (r < 0 && lobby_enter(&monitor->lobby, &peer) < 0)
                        monitor_take_in(monitor, &peer, false);
        }
        return 0;
}

/* --- The command of a private instance -------------------------------------------------------------------------- */

static int monitor_on_command(sd_event_source *source, const siginfo_t *info, void *data) {
        struct monitor *monitor = data;
        int status = info->si_code == CLD_EXITED ? info->si_status : 128 + info->si_status;

        monitor->command_pid = 0;
        monitor_stop(monitor, status, "the command ended");
        return 0;
}

static int monitor_start_command(struct monitor *monitor) {
        char *const *command = monitor->options->command;
        int r;

        r = spawn_command(command, monitor->listener.path, &monitor->n_files, &monitor->command_pid);
        if (r < 0) {
                fprintf(stderr, "overlapd: cannot execute %s: %s\n", command[0], strerror(-r));
                monitor_stop(monitor, r == -ENOENT ? 127 : 126, "its command cannot be executed");
                return r;
        }
        return sd_event_add_child(monitor->event, &monitor->command_source, monitor->command_pid, WEXITED,
                                  monitor_on_command, monitor);
}

/* --- Signals ---------------------------------------------------------------------------------------------------- */

static int monitor_on_end_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *data) {
        struct monitor *monitor = data;
        char why[64];

        if (monitor->state == MONITOR_STOPPING) {
                monitor_kill(monitor);
                return 0;
        }
        if (monitor->command_pid > 0) {
                if (info->ssi_code != SI_KERNEL)
                        kill(monitor->command_pid, (int) info->ssi_signo);
                return 0;
        }
        snprintf(why, sizeof(why), "signal %s from process %u", sigabbrev_np((int) info->ssi_signo), info->ssi_pid);
        monitor_stop(monitor, 0, why);
        return 0;
}

static bool monitor_needs_restart(const struct config *now, const struct config *next) {
        return strcmp(now->socket, next->socket) != 0 || strcmp(now->engine, next->engine) != 0 ||
               now->n_workers != next->n_workers || now->poll_us != next->poll_us ||
               strcmp(now->policy, next->policy) != 0;
}

static void monitor_reload(struct monitor *monitor) {
        const struct monitor_options *options = monitor->options;
        _cleanup_free_ char *errors = NULL;
        const struct journal_fields reloaded = { .message_id = EVENT_RELOADED };
        const struct journal_fields refused = { .message_id = EVENT_RELOAD_REFUSED };
        char policy[RULINGS_WHY_SIZE];
        struct config config;
        int r;

        service_reloads(&monitor->service);
        config_init(&config);
        if (options->config_path) {
                r = config_load(&config, options->config_path, options->is_config_required, &errors);
                if (r < 0) {
                        journal_write_each(&monitor->journal, LOG_ERR, &refused, "nothing was reloaded",
                                           errors ? errors : strerror(-r));
                        service_has_reloaded(&monitor->service, "the settings could not be reloaded, see the journal");
                        return;
                }
        }
        r = rulings_load(&monitor->rulings, &errors);
        if (r < 0) {
                journal_write_each(&monitor->journal, LOG_ERR, &refused,
                                   "nothing was reloaded, the policy is as before", errors ? errors : strerror(-r));
                service_has_reloaded(&monitor->service, "the policy could not be reloaded, see the journal");
                return;
        }
        crew_tell_rulings(&monitor->crew);
        crew_set_allowances(&monitor->crew, &config.allowances);
        monitor->about.n_reloads++;
        if (!options->is_log_given) {
                monitor->journal.target = monitor->config.log = config.log;
                config_place(&monitor->config, CONFIG_KEY_LOG, "%s", config.places[CONFIG_KEY_LOG]);
        }
        journal_write(&monitor->journal, LOG_NOTICE, &reloaded, "reloaded: %s",
                      rulings_describe(&monitor->rulings, policy));
        journal_write(&monitor->journal, LOG_INFO, &reloaded,
                      "reloaded: of the settings, quotas and where lines are written can change%s",
                      monitor_needs_restart(&options->config, &config)
                              ? "; the other settings differ from the file or were given on the command line and stay"
                              : "");
        service_has_reloaded(&monitor->service, NULL);
}

static int monitor_on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *data) {
        struct monitor *monitor = data;

        if (monitor_is_private(monitor))
                return monitor_on_end_signal(source, info, data);
        monitor_reload(monitor);
        return 0;
}

static int monitor_add_signals(struct monitor *monitor) {
        sigset_t signals;
        int r;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGHUP);
        sigaddset(&signals, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return -errno;
        signal(SIGPIPE, SIG_IGN);
        r = sd_event_add_signal(monitor->event, NULL, SIGTERM, monitor_on_end_signal, monitor);
        if (r < 0)
                return r;
        r = sd_event_add_signal(monitor->event, NULL, SIGINT, monitor_on_end_signal, monitor);
        if (r < 0)
                return r;
        return sd_event_add_signal(monitor->event, NULL, SIGHUP, monitor_on_hangup, monitor);
}

/* --- Starting and serving --------------------------------------------------------------------------------------- */

static const struct crew_member *monitor_first_ready(const struct monitor *monitor) {
        for (unsigned i = 0; i < monitor->crew.n_members; i++)
                if (monitor->crew.members[i].state == CREW_READY)
                        return &monitor->crew.members[i];
        return NULL;
}

static void monitor_describe(const struct monitor *monitor, char to[SERVICE_STATUS_SIZE]) {
        unsigned n_sessions = 0, n_sockets = 0, n_ops = 0;
        const struct crew_member *first = monitor_first_ready(monitor);

        if (!first) {
                snprintf(to, SERVICE_STATUS_SIZE, "Waiting for a worker");
                return;
        }
        for (unsigned i = 0; i < monitor->crew.n_members; i++) {
                n_sessions += monitor->crew.members[i].n_sessions;
                n_sockets += monitor->crew.members[i].n_sockets;
                n_ops += monitor->crew.members[i].n_ops;
        }
        snprintf(to, SERVICE_STATUS_SIZE,
                 "Serving at %s: %u sessions, %u sockets, %u operations in flight; engine %s (%s)",
                 monitor->listener.path, n_sessions, n_sockets, n_ops, first->engine, first->engine_reason);
}

static int monitor_on_pulse(sd_event_source *source, uint64_t now, void *data) {
        struct monitor *monitor = data;
        char status[SERVICE_STATUS_SIZE];
        int r;

        if (monitor->state == MONITOR_STOPPING)
                return 0;
        if (monitor->state == MONITOR_SERVING) {
                monitor_describe(monitor, status);
                service_tell(&monitor->service, status);
        }
        crew_pulse(&monitor->crew);
        r = sd_event_source_set_time_relative(source, monitor->service.period_us);
        return r < 0 ? r : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

static int monitor_serve(struct monitor *monitor) {
        const struct crew_member *first = monitor_first_ready(monitor);
        char policy[RULINGS_WHY_SIZE];
        struct journal_fields fields = { .message_id = EVENT_START, .engine = first->engine };
        char status[SERVICE_STATUS_SIZE];

        monitor->state = MONITOR_SERVING;
        monitor->about.state = "serving";
        journal_write(&monitor->journal, LOG_INFO, &fields, "overlapd %s serves at %s: engine %s (%s), workers: %u",
                      OVERLAPD_VERSION, monitor->listener.path, first->engine, first->engine_reason,
                      monitor->crew.n_members);
        if (monitor_is_private(monitor))
                return monitor_start_command(monitor);
        journal_write(&monitor->journal, LOG_NOTICE, &(struct journal_fields){ .message_id = EVENT_POLICY }, "%s",
                      rulings_describe(&monitor->rulings, policy));
        monitor_describe(monitor, status);
        service_is_ready(&monitor->service, status);
        return 0;
}

/* What the modules below have come to, after each dispatch. */
static int monitor_settle(sd_event_source *source, void *data) {
        struct monitor *monitor = data;
        bool accepts;
        int r;

        crew_settle(&monitor->crew);
        service_feed(&monitor->service, monitor->crew.n_pulses);
        if (monitor->crew.has_failed)
                monitor_stop(monitor, 1, "no worker can be kept running");
        if (monitor->state == MONITOR_STARTING && monitor->crew.n_ready > 0) {
                r = monitor_serve(monitor);
                if (r < 0)
                        monitor_stop(monitor, 1, strerror(-r));
        }
        if (monitor->state == MONITOR_STOPPING && monitor->crew.n_alive == 0 && monitor->command_pid == 0)
                return sd_event_exit(monitor->event, monitor->exit_status);
        if (monitor->state == MONITOR_SERVING)
                monitor_take_in_lobby(monitor);
        admin_settle(&monitor->admin);
        accepts = monitor->state == MONITOR_SERVING && monitor->crew.n_ready > 0 && !monitor->pause_timer;
        if (accepts != monitor->is_accepting) {
                monitor->is_accepting = accepts;
                return sd_event_source_set_enabled(monitor->listener_source, accepts ? SD_EVENT_ON : SD_EVENT_OFF);
        }
        return 0;
}

static void monitor_complain_of_admin(struct monitor *monitor, const char *why) {
        journal_write(&monitor->journal, LOG_WARNING, &(struct journal_fields){ .message_id = EVENT_ADMIN_CLOSED },
                      "overlapctl cannot ask: %s", why);
}

/* Takes one socket of the service manager, which has said which it is. */
static int monitor_adopt_one(struct monitor *monitor, int take_fd, const char *name, bool has_listener) {
        if (name && strcmp(name, MONITOR_ADMIN) == 0)
                return admin_adopt(&monitor->admin, take_fd);
        return has_listener ? -EEXIST : listener_adopt(&monitor->listener, monitor->reaper, take_fd);
}

/* Returns 1 when a socket for clients was taken of the service manager, 0 when there is none. */
static int monitor_adopt(struct monitor *monitor) {
        char **names = NULL;
        int n = sd_listen_fds_with_names(1, &names), n_adopted = 0;

        if (n < 0)
                journal_write(&monitor->journal, LOG_WARNING,
                              &(struct journal_fields){ .message_id = EVENT_ACTIVATION_IGNORED },
                              "LISTEN_FDS is ignored: %s", strerror(-n));
        for (int i = 0; i < n; i++) {
                const char *name = names ? names[i] : NULL;
                int fd = SD_LISTEN_FDS_START + i;
                bool is_admin = name && strcmp(name, MONITOR_ADMIN) == 0;

                if (monitor_adopt_one(monitor, fd, name, n_adopted > 0) >= 0) {
                        n_adopted += !is_admin;
                        continue;
                }
                journal_write(
                        &monitor->journal, LOG_WARNING,
                        &(struct journal_fields){ .message_id = EVENT_ACTIVATION_IGNORED },
                        "descriptor %d of the service manager is ignored: one listening Unix stream socket is needed, "
                        "and one of the name " MONITOR_ADMIN,
                        fd);
                fd_close(fd);
        }
        for (int i = 0; names && names[i]; i++)
                free(names[i]);
        free(names);
        if (n_adopted > 0 && !monitor->admin.is_listening)
                monitor_complain_of_admin(monitor,
                                          "the service manager handed over no socket of the name " MONITOR_ADMIN
                                          ": enable overlapd-admin.socket");
        return n_adopted;
}

/* Beside the socket of clients. Returns 0, or -errno and a text. */
static int monitor_open_admin(struct monitor *monitor, const char *socket_path, char error[LISTENER_ERROR_SIZE]) {
        char path[CONFIG_SOCKET_PATH_MAX + 1];
        int r;

        if (monitor->admin.is_listening)
                return 0;
        r = admin_path(socket_path, path, sizeof(path));
        if (r < 0) {
                snprintf(error, LISTENER_ERROR_SIZE, "the path of its socket would be too long");
                return r;
        }
        return admin_open(&monitor->admin, path, monitor_is_private(monitor), error);
}

/* Who finds the socket of clients can also ask. Without the one to ask on they are served all the same. */
static int monitor_open(struct monitor *monitor, const char *path) {
        char error[LISTENER_ERROR_SIZE], admin_error[LISTENER_ERROR_SIZE];
        int admin_r = monitor_open_admin(monitor, path, admin_error), r;

        r = listener_open(&monitor->listener, monitor->reaper, path, LISTENER_GROUP, monitor_is_private(monitor),
                          error);
        if (r < 0)
                journal_write(&monitor->journal, LOG_ERR, &(struct journal_fields){ .message_id = EVENT_START_FAILED },
                              "%s", error);
        else if (admin_r < 0)
                monitor_complain_of_admin(monitor, admin_error);
        return r;
}

static int monitor_make_directory(struct monitor *monitor) {
        const char *runtime = getenv("XDG_RUNTIME_DIR");

        if (!runtime || runtime[0] != '/' || strlen(runtime) > 40 || access(runtime, W_OK) < 0)
                runtime = "/tmp";
        snprintf(monitor->directory, sizeof(monitor->directory), "%s/overlapd-XXXXXX", runtime);
        if (!mkdtemp(monitor->directory)) {
                int r = -errno;

                journal_write(&monitor->journal, LOG_ERR, &(struct journal_fields){ .message_id = EVENT_START_FAILED },
                              "cannot make a directory in %s: %s", runtime, strerror(-r));
                monitor->directory[0] = '\0';
                return r;
        }
        return 0;
}

static int monitor_listen(struct monitor *monitor) {
        char path[CONFIG_SOCKET_PATH_MAX + 1];
        int r;

        if (monitor_is_private(monitor)) {
                r = monitor_make_directory(monitor);
                if (r < 0)
                        return r;
                snprintf(path, sizeof(path), "%s/overlapd.sock", monitor->directory);
        } else {
                r = monitor_adopt(monitor);
                if (r > 0)
                        return 0;
                snprintf(path, sizeof(path), "%s", monitor->options->config.socket);
        }
        return monitor_open(monitor, path);
}

static int monitor_arm(struct monitor *monitor) {
        int r;

        r = sd_event_add_io(monitor->event, &monitor->listener_source, monitor->listener.fd, EPOLLIN,
                            monitor_on_listener, monitor);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(monitor->listener_source, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_time(monitor->event, &monitor->lobby_timer, CLOCK_MONOTONIC, UINT64_MAX, 1000,
                              monitor_on_lobby_timer, monitor);
        if (r < 0)
                return r;
        r = sd_event_add_post(monitor->event, NULL, monitor_settle, monitor);
        if (r < 0 || monitor->service.period_us == 0)
                return r < 0 ? r : 0;
        r = sd_event_add_time_relative(monitor->event, &monitor->pulse_timer, CLOCK_MONOTONIC,
                                       monitor->service.period_us, 0, monitor_on_pulse, monitor);
        return r < 0 ? r : 0;
}

/* The monitor holds one descriptor for each connect in progress: as many as this process is allowed at most. */
static void monitor_raise_files(struct monitor *monitor) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        monitor->n_files = limit;
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
}

/* Without its rules a daemon does not start: neither would it be right to allow all, nor to refuse all. */
static int monitor_load_policy(struct monitor *monitor) {
        _cleanup_free_ char *errors = NULL;
        int r;

        r = rulings_load(&monitor->rulings, &errors);
        if (r < 0)
                journal_write_each(&monitor->journal, LOG_ERR,
                                   &(struct journal_fields){ .message_id = EVENT_START_FAILED },
                                   "the policy cannot be used", errors ? errors : strerror(-r));
        return r;
}

static void monitor_init_admin(struct monitor *monitor) {
        const struct admin_sources sources = {
                .about = &monitor->about,
                .crew = &monitor->crew,
                .shards = &monitor->shards,
                .rulings = &monitor->rulings,
                .journal = &monitor->journal,
        };

        monitor->config = monitor->options->config;
        monitor->about = (struct admin_about){
                .config = &monitor->config,
                .socket_path = monitor->listener.path,
                .state = "starting",
                .started_ns = now_ns(),
        };
        admin_init(&monitor->admin, monitor->event, &monitor->journal, monitor->reaper, &sources);
}

static int monitor_init(struct monitor *monitor, const struct monitor_options *options) {
        const struct config *config = &options->config;
        struct spawn_worker spawn = {
                .engine = config->engine,
                .poll_us = config->poll_us,
                .plant = options->plant,
                .features = options->features,
                .killpoint = options->killpoint,
        };
        int r;

        monitor->options = options;
        journal_init(&monitor->journal, config->log,
                     options->command && !options->is_log_given ? LOG_WARNING : LOG_INFO);
        monitor_raise_files(monitor);
        service_init(&monitor->service);
        lobby_init(&monitor->lobby);
        r = reaper_new(&monitor->reaper);
        if (r < 0)
                return r;
        r = shards_init(&monitor->shards);
        if (r < 0)
                return r;
        r = sd_event_new(&monitor->event);
        if (r < 0)
                return r;
        rulings_init(&monitor->rulings, &options->policy, monitor->event, &monitor->journal);
        crew_init(&monitor->crew, monitor->event, &monitor->journal, &monitor->shards, &monitor->rulings,
                  &config->allowances, &spawn, config->n_workers, monitor->n_files.rlim_max);
        monitor_init_admin(monitor);
        r = monitor_load_policy(monitor);
        if (r < 0)
                return r;
        r = monitor_add_signals(monitor);
        if (r < 0)
                return r;
        r = monitor_listen(monitor);
        if (r < 0)
                return r;
        r = monitor_arm(monitor);
        if (r < 0)
                return r;
        return crew_start(&monitor->crew);
}

int monitor_run(const struct monitor_options *options) {
        cleanup(monitor_deinit) struct monitor monitor = { 0 };
        int r;

        r = monitor_init(&monitor, options);
        if (r < 0) {
                journal_write(&monitor.journal, LOG_ERR, &(struct journal_fields){ .message_id = EVENT_START_FAILED },
                              "overlapd cannot start: %s", strerror(-r));
                return 1;
        }
        r = sd_event_loop(monitor.event);
        journal_finish(&monitor.journal);
        if (r < 0) {
                journal_write(&monitor.journal, LOG_ERR, &(struct journal_fields){ .message_id = EVENT_STOP },
                              "overlapd ends: %s", strerror(-r));
                return 1;
        }
        return r;
}
