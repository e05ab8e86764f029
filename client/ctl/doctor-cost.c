/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What this machine lets everybody pay: a look at the clock, and waking a thread whose processor has gone to sleep. An
 * operation costs less than either, so on a machine where these are dear nothing else that is tuned shows.
 *
 * Both are measured, in less than a quarter of a second; what the kernel says of its clock and its governors explains
 * the figure, and is not judged by itself. What is usual is said in docs/man/overlapctl.1: a warning begins well above.
 */

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/time.h"
#include "client/ctl/doctor.h"
#include "client/ctl/samples.h"

#define COST_CLOCK "/sys/devices/system/clocksource/clocksource0/"
#define COST_CLOCK_LOOKS 2000u
#define COST_CLOCK_MAX_NS 500u
#define COST_IDLE "/sys/devices/system/cpu/cpuidle/"
#define COST_GOVERNOR "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
#define COST_WAKES 50u
#define COST_WAKE_PAUSE_NS (2 * NS_PER_MS)
#define COST_WAKE_MAX_US 250u

/* --- The clock --------------------------------------------------------------------------------------------------- */

static void cost_check_clock(struct doctor *doctor) {
        char source[64], available[128] = "";
        uint64_t start, per_look_ns, best_ns = UINT64_MAX;

        for (unsigned round = 0; round < 5; round++) {
                start = now_ns();
                for (unsigned i = 0; i < COST_CLOCK_LOOKS; i++)
                        now_ns();
                per_look_ns = (now_ns() - start) / COST_CLOCK_LOOKS;
                if (per_look_ns < best_ns)
                        best_ns = per_look_ns;
        }
        if (doctor_read_line(COST_CLOCK "current_clocksource", source, sizeof(source)) < 0)
                snprintf(source, sizeof(source), "not known");
        doctor_read_line(COST_CLOCK "available_clocksource", available, sizeof(available));
        if (best_ns <= COST_CLOCK_MAX_NS) {
                doctor_tell(doctor, DOCTOR_OK, "a look at the clock costs %llu ns (clock source %s)",
                            (unsigned long long) best_ns, source);
                return;
        }
        doctor_tell(
                doctor, DOCTOR_WARNING,
                "a look at the clock costs %llu ns, and up to 100 are usual: the clock source is %s, available are: %s",
                (unsigned long long) best_ns, source, available[0] ? available : "not known");
        if (strstr(available, "tsc") && strcmp(source, "tsc") != 0)
                doctor_repair(doctor, "echo tsc | %stee " COST_CLOCK "current_clocksource", doctor_root());
}

/* --- Waking ------------------------------------------------------------------------------------------------------ */

/* What the two threads share. */
struct cost_wake {
        _Atomic uint32_t round;    /* the futex: which wake-up the sleeper waits for */
        _Atomic uint32_t answered; /* which it has seen */
        _Atomic uint64_t seen_ns;  /* when */
};

static void *cost_sleep(void *data) {
        struct cost_wake *wake = data;

        for (uint32_t round = 1; round <= COST_WAKES; round++) {
                while (atomic_load(&wake->round) < round)
                        syscall(SYS_futex, &wake->round, FUTEX_WAIT_PRIVATE, round - 1, NULL, NULL, 0);
                atomic_store(&wake->seen_ns, now_ns());
                atomic_store(&wake->answered, round);
        }
        return NULL;
}

static void cost_pause(void) {
        struct timespec pause = { .tv_nsec = COST_WAKE_PAUSE_NS };

        while (nanosleep(&pause, &pause) < 0)
                ;
}

/* Wakes a thread that sleeps for so long that its processor does, too. Returns 0 or -errno. */
static int cost_measure_wake(struct samples *samples) {
        struct cost_wake wake = { 0 };
        pthread_t thread;
        int r;

        r = pthread_create(&thread, NULL, cost_sleep, &wake);
        if (r != 0)
                return -r;
        for (uint32_t round = 1; round <= COST_WAKES; round++) {
                uint64_t start;

                cost_pause();
                start = now_ns();
                atomic_store(&wake.round, round);
                syscall(SYS_futex, &wake.round, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
                while (atomic_load(&wake.answered) < round)
                        cost_pause();
                samples_add(samples, atomic_load(&wake.seen_ns) - start);
        }
        pthread_join(thread, NULL);
        samples_sort(samples);
        return 0;
}

static void cost_check_wake(struct doctor *doctor) {
        cleanup(samples_deinit) struct samples samples = { 0 };
        char driver[64], idle[64], governor[64];
        uint64_t median_ns;
        int r;

        r = samples_init(&samples, COST_WAKES);
        if (r >= 0)
                r = cost_measure_wake(&samples);
        if (r < 0) {
                doctor_tell(doctor, DOCTOR_SKIPPED, "waking cannot be measured (%s)", strerrordesc_np(-r));
                return;
        }
        if (doctor_read_line(COST_IDLE "current_driver", driver, sizeof(driver)) < 0)
                snprintf(driver, sizeof(driver), "none");
        if (doctor_read_line(COST_IDLE "current_governor", idle, sizeof(idle)) < 0 &&
            doctor_read_line(COST_IDLE "current_governor_ro", idle, sizeof(idle)) < 0)
                snprintf(idle, sizeof(idle), "none");
        if (doctor_read_line(COST_GOVERNOR, governor, sizeof(governor)) < 0)
                snprintf(governor, sizeof(governor), "none");
        median_ns = samples_percentile(&samples, 50);
        doctor_tell(
                doctor, median_ns > COST_WAKE_MAX_US * 1000 ? DOCTOR_WARNING : DOCTOR_OK,
                "waking a sleeping thread costs %.1f us (median; 90%% within %.1f); idle driver %s, its governor %s, "
                "governor of frequency %s",
                (double) median_ns / 1000, (double) samples_percentile(&samples, 90) / 1000, driver, idle, governor);
        if (median_ns <= COST_WAKE_MAX_US * 1000)
                return;
        if (strcmp(governor, "powersave") == 0 || strcmp(governor, "ondemand") == 0 ||
            strcmp(governor, "conservative") == 0)
                doctor_repair(doctor, "%scpupower frequency-set -g performance", doctor_root());
        else if (strcmp(driver, "none") != 0)
                doctor_repair(doctor, "%scpupower idle-set --disable-by-latency 50", doctor_root());
}

const struct doctor_check doctor_cost_checks[] = {
        { "clock", cost_check_clock },
        { "wake", cost_check_wake },
        { 0 },
};
