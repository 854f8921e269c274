/* Helpers that claim parts of a phase one by one.

   A phase is a ticket: (its serial number, its number of parts, the next part). A part is claimed by replacing the ticket with the
   next one, so a claim on a phase that is over fails, and what the phase works on is read only by who holds a part of it. No helper
   is needed to finish: one that the system does not let run, or that a fork has left behind, delays nothing.
   No signal reaches a helper. */
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

enum {
    MOST_HELPERS = 255,
    IDLE_SPINS = 8000,   /* looks at the ticket before a helper falls asleep: some tenths of a millisecond */
    WAITING_SPINS = 2000 /* looks at what is done before the caller lets others have its core */
};

static struct {
    _Alignas(64) atomic_ullong ticket;
    _Alignas(64) atomic_llong n_done;
    _Alignas(64) Work work;
    void *context;
    int64_t n_parts;
} phase;

static atomic_flag taken = ATOMIC_FLAG_INIT;
static atomic_int n_asleep;
static int n_helpers; /* changed by who has taken them */
static pthread_mutex_t sleeping = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t begun = PTHREAD_COND_INITIALIZER;
static pthread_once_t first_use = PTHREAD_ONCE_INIT;

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Whether a part was claimed, and done. */
static int do_a_part(void *scratch)
{
    unsigned long long ticket = atomic_load_explicit(&phase.ticket, memory_order_acquire);
    const unsigned n_parts = ticket >> 16 & 0xffff, next = ticket & 0xffff;
    if (next >= n_parts) return 0;
    if (!atomic_compare_exchange_strong_explicit(&phase.ticket, &ticket, ticket + 1, memory_order_acq_rel, memory_order_relaxed))
        return 1; /* there may be another */
    const Share share = {.part = next, .n_parts = phase.n_parts, .scratch = scratch};
    phase.work(phase.context, &share);
    atomic_fetch_add_explicit(&phase.n_done, 1, memory_order_release);
    return 1;
}

static void sleep_until_begun(unsigned long long seen)
{
    pthread_mutex_lock(&sleeping);
    atomic_fetch_add(&n_asleep, 1);
    while (atomic_load(&phase.ticket) >> 32 == seen >> 32) pthread_cond_wait(&begun, &sleeping);
    atomic_fetch_sub(&n_asleep, 1);
    pthread_mutex_unlock(&sleeping);
}

static void *help(void *scratch)
{
    for (;;) {
        unsigned long long seen = atomic_load_explicit(&phase.ticket, memory_order_acquire);
        for (int spins = 0; spins < IDLE_SPINS; spins++) {
            if (do_a_part(scratch)) spins = 0;
            else relax();
            if (spins == 0) seen = atomic_load_explicit(&phase.ticket, memory_order_acquire);
        }
        sleep_until_begun(seen);
    }
    return NULL;
}

/* A fork's child has none of the threads. */
static void forget_helpers(void)
{
    n_helpers = 0;
    atomic_store(&n_asleep, 0);
    atomic_store(&phase.ticket, 0);
    pthread_mutex_init(&sleeping, NULL);
    pthread_cond_init(&begun, NULL);
    atomic_flag_clear(&taken);
}

static void prepare(void) { pthread_atfork(NULL, NULL, forget_helpers); }

int take_helpers(int64_t n)
{
    pthread_once(&first_use, prepare);
    if (atomic_flag_test_and_set_explicit(&taken, memory_order_acquire)) return 0;
    while (n_helpers < n && n_helpers < MOST_HELPERS) {
        void *scratch = NULL;
        if (posix_memalign(&scratch, 64, SCRATCH_BYTES)) break;
        sigset_t all, before;
        pthread_t thread;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        const int failed = pthread_create(&thread, NULL, help, scratch);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (failed) {
            free(scratch);
            break;
        }
        pthread_detach(thread);
        n_helpers++;
    }
    return 1;
}

void give_back_helpers(void) { atomic_flag_clear_explicit(&taken, memory_order_release); }

void share_out(Work work, void *context, int64_t n_parts, void *scratch)
{
    phase.work = work;
    phase.context = context;
    phase.n_parts = n_parts;
    atomic_store_explicit(&phase.n_done, 0, memory_order_relaxed);
    const unsigned long long serial = (atomic_load_explicit(&phase.ticket, memory_order_relaxed) >> 32) + 1;
    atomic_store(&phase.ticket, serial << 32 | (unsigned long long)n_parts << 16);
    if (atomic_load(&n_asleep)) {
        pthread_mutex_lock(&sleeping);
        pthread_cond_broadcast(&begun);
        pthread_mutex_unlock(&sleeping);
    }
    while (do_a_part(scratch)) {}
    for (int spins = 0; atomic_load_explicit(&phase.n_done, memory_order_acquire) < n_parts; spins++)
        if (spins < WAITING_SPINS) relax();
        else sched_yield();
}
