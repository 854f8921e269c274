/* Windows, from Vista on, compiled by GCC of MinGW-w64 or by Clang. Processes do not fork here. */
#define WIN32_LEAN_AND_MEAN
#include <malloc.h>
#include <windows.h>

#define EXPORT __declspec(dllexport)

typedef SRWLOCK Lock;
typedef CONDITION_VARIABLE Signal;
#define FREE_LOCK SRWLOCK_INIT
#define NO_SIGNAL CONDITION_VARIABLE_INIT

static inline void lock(Lock *of) { AcquireSRWLockExclusive(of); }
static inline void unlock(Lock *of) { ReleaseSRWLockExclusive(of); }
/* Gives the lock up until the signal comes. It may return without one. */
static inline void wait_for(Signal *signal, Lock *held) { SleepConditionVariableSRW(signal, held, INFINITE, 0); }
static inline void wake_one(Signal *signal) { WakeConditionVariable(signal); }

static inline void let_others_run(void) { SwitchToThread(); }

static inline int64_t nanoseconds(void)
{
    LARGE_INTEGER now, per_second;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&per_second);
    const int64_t whole = now.QuadPart / per_second.QuadPart, rest = now.QuadPart % per_second.QuadPart;
    return whole * 1000000000 + rest * 1000000000 / per_second.QuadPart;
}

/* Whole cache lines, or null. */
static inline void *new_memory(size_t bytes) { return _aligned_malloc(bytes, 64); }

#define THREAD(name, argument) static DWORD WINAPI name(void *argument)

/* Starts a thread that nobody waits for; 0 if the system gives none. */
static inline int start_thread(DWORD(WINAPI *run)(void *), void *argument)
{
    const HANDLE thread = CreateThread(NULL, 0, run, argument, 0, NULL);
    if (thread) CloseHandle(thread);
    return thread != NULL;
}

/* Threads have names from Windows 10 on, which nobody needs to compute. */
static inline void name_thread(const char *name) { (void)name; }
