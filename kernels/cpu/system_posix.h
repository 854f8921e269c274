/* Linux, macOS and other POSIX systems. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#define EXPORT __attribute__((visibility("default")))

typedef pthread_mutex_t Lock;
typedef pthread_cond_t Signal;
#define FREE_LOCK PTHREAD_MUTEX_INITIALIZER
#define NO_SIGNAL PTHREAD_COND_INITIALIZER

static inline void lock(Lock *of) { pthread_mutex_lock(of); }
static inline void unlock(Lock *of) { pthread_mutex_unlock(of); }
/* Gives the lock up until the signal comes. It may return without one. */
static inline void wait_for(Signal *signal, Lock *held) { pthread_cond_wait(signal, held); }
static inline void wake_one(Signal *signal) { pthread_cond_signal(signal); }

static inline void let_others_run(void) { sched_yield(); }

static inline int64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Whole cache lines, or null. */
static inline void *new_memory(size_t bytes)
{
    void *memory = NULL;
    return posix_memalign(&memory, 64, bytes) ? NULL : memory;
}

#define THREAD(name, argument) static void *name(void *argument)

/* Starts a thread that nobody waits for; 0 if the system gives none. Of signals only those reach it that it raises itself by a
   fault: a handler of Python's, say for Ctrl-C, runs in threads that know Python. */
static inline int start_thread(void *(*run)(void *), void *argument)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked, before;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&blocked, faults[i]);
    pthread_t thread;
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    const int failed = pthread_create(&thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed) pthread_detach(thread);
    return !failed;
}

/* What debuggers and `top -H` call this thread: 15 characters at most. */
static inline void name_thread(const char *name)
{
#if defined(__linux__)
    prctl(PR_SET_NAME, name);
#elif defined(__APPLE__)
    pthread_setname_np(name);
#else
    (void)name;
#endif
}

/* `reset` is called in the child of a fork, which has none of the threads, and locks as they were. */
#define AFTER_A_FORK(reset) \
    __attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, reset); }

static inline void renew_lock(Lock *of) { pthread_mutex_init(of, NULL); }
static inline void renew_signal(Signal *signal) { pthread_cond_init(signal, NULL); }
