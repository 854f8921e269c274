/* Helpers that claim parts of a phase one by one.

   A phase is a ticket: (its serial number, its number of parts, the next part). A part is claimed by replacing the ticket with the
   next one, so a claim on a phase that is over fails, and what the phase works on is read only by who holds a part of it. No helper
   is needed to finish: one that the system does not let run, or that a fork has left behind, delays nothing. (After 2³² phases
   serial numbers come again. A claim that succeeds is one on the ticket as it is: on a part that nobody holds.)

   Who waits spins first, for to be woken takes tens of microseconds, and then sleeps: on a machine whose cores are wanted, who
   spins takes time from whom it waits for. Before it sleeps it says so, and looks once more; who has news first says it, and
   then looks whether anybody sleeps. Both in one order for all threads (memory_order_seq_cst): no news is missed. */
#include "threads.h"

#include "arithmetic.h"
#include "system.h"

enum {
    LOOKS = 16,        /* between two readings of the clock */
    IDLE = 200000,     /* nanoseconds that a helper spins for: more than lies between two programs in training */
    SPINNING = 10000,  /* and the caller, for parts that helpers have begun together with its last */
    YIELDING = 100000, /* from when on it lets others have its core, a helper perhaps; after this it sleeps */
};

static struct {
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) _Atomic int64_t n_done;
    _Alignas(64) Work work;
    void *context;
    int64_t n_parts;
} phase;

static atomic_flag taken = ATOMIC_FLAG_INIT;
static int64_t n_helpers;                  /* changed by who has taken them, like the next */
static void *scratch_of[MOST_THREADS - 1]; /* of each helper; a fork's child gives them to its own */

static Lock sleeping = FREE_LOCK;
static Signal begun = NO_SIGNAL, ended = NO_SIGNAL;
static _Atomic int64_t n_asleep;
static _Atomic int caller_sleeps;

static uint64_t serial_of(uint64_t ticket) { return ticket >> 32; }
static int64_t parts_of(uint64_t ticket) { return ticket >> 16 & 0xffff; }
static int64_t next_of(uint64_t ticket) { return ticket & 0xffff; }

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* `yield` takes no time on most of these CPUs */
#endif
}

/* Does the next part of the phase that this ticket is of. 0 if it has none. */
static int do_a_part(uint64_t ticket, void *scratch)
{
    const int64_t n_parts = parts_of(ticket), next = next_of(ticket);
    if (next >= n_parts) return 0;
    if (!atomic_compare_exchange_strong_explicit(&phase.ticket, &ticket, ticket + 1, memory_order_acquire, memory_order_relaxed))
        return 1; /* another has got it: there may be one more */
    const Share share = {.part = next, .n_parts = n_parts, .scratch = scratch};
    phase.work(phase.context, &share);
    if (atomic_fetch_add(&phase.n_done, 1) + 1 == n_parts && atomic_load(&caller_sleeps)) {
        lock(&sleeping); /* it sleeps by now */
        unlock(&sleeping);
        wake_one(&ended);
    }
    return 1;
}

/* Returns when the ticket is another. */
static void await_news(uint64_t ticket)
{
    const int64_t end = nanoseconds() + IDLE;
    do
        for (int i = 0; i < LOOKS; i++, relax())
            if (atomic_load_explicit(&phase.ticket, memory_order_relaxed) != ticket) return;
    while (nanoseconds() < end);
    lock(&sleeping);
    atomic_fetch_add(&n_asleep, 1);
    while (atomic_load(&phase.ticket) == ticket) wait_for(&begun, &sleeping);
    atomic_fetch_sub(&n_asleep, 1);
    unlock(&sleeping);
}

THREAD(help, scratch)
{
    name_thread("fcnn_gpu");
    begin_plain_arithmetic();
    for (;;) {
        const uint64_t ticket = atomic_load_explicit(&phase.ticket, memory_order_relaxed);
        if (!do_a_part(ticket, scratch)) await_news(ticket);
    }
    return 0; /* never: some compilers want it */
}

#if defined(AFTER_A_FORK)
static void forget_helpers(void)
{
    n_helpers = 0;
    atomic_store(&n_asleep, 0);
    atomic_store(&caller_sleeps, 0);
    atomic_store(&phase.ticket, 0);
    renew_lock(&sleeping);
    renew_signal(&begun);
    renew_signal(&ended);
    atomic_flag_clear(&taken);
}
AFTER_A_FORK(forget_helpers)
#endif

int take_helpers(int64_t n)
{
    if (atomic_flag_test_and_set_explicit(&taken, memory_order_acquire)) return 0;
    while (n_helpers < n && n_helpers < MOST_THREADS - 1) {
        void **scratch = scratch_of + n_helpers;
        if (!*scratch) *scratch = new_memory(SCRATCH_BYTES);
        if (!*scratch || !start_thread(help, *scratch)) break;
        n_helpers++;
    }
    return 1;
}

void give_back_helpers(void) { atomic_flag_clear_explicit(&taken, memory_order_release); }

/* As many that sleep as this phase needs beside those that are awake. */
static void wake_helpers(int64_t n_parts)
{
    const int64_t asleep = atomic_load(&n_asleep), needed = n_parts - 1 - (n_helpers - asleep);
    if (asleep == 0 || needed <= 0) return;
    lock(&sleeping); /* who has said that it will sleep sleeps by now */
    unlock(&sleeping);
    for (int64_t i = 0; i < needed && i < asleep; i++) wake_one(&begun);
}

static int is_done(int64_t n_parts) { return atomic_load_explicit(&phase.n_done, memory_order_acquire) == n_parts; }

static void await_end(int64_t n_parts)
{
    if (is_done(n_parts)) return;
    const int64_t start = nanoseconds();
    for (int64_t waited = 0; waited < YIELDING; waited = nanoseconds() - start) {
        if (waited >= SPINNING) let_others_run();
        for (int i = 0; i < LOOKS; i++, relax())
            if (is_done(n_parts)) return;
    }
    lock(&sleeping);
    atomic_store(&caller_sleeps, 1);
    while (atomic_load(&phase.n_done) < n_parts) wait_for(&ended, &sleeping);
    atomic_store(&caller_sleeps, 0);
    unlock(&sleeping);
}

void share_out(Work work, void *context, int64_t n_parts, void *scratch)
{
    phase.work = work;
    phase.context = context;
    phase.n_parts = n_parts;
    atomic_store_explicit(&phase.n_done, 0, memory_order_relaxed);
    const uint64_t serial = serial_of(atomic_load_explicit(&phase.ticket, memory_order_relaxed)) + 1;
    atomic_store(&phase.ticket, serial << 32 | (uint64_t)n_parts << 16);
    wake_helpers(n_parts);
    while (do_a_part(atomic_load_explicit(&phase.ticket, memory_order_relaxed), scratch)) {}
    await_end(n_parts);
}
