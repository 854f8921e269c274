/* What Python calls: the levels and operations that there are, and the execution of a program. */
#include <string.h>

#include "arithmetic.h"
#include "operations.h"
#include "record.h"
#include "system.h"
#include "threads.h"

/* The instruction levels that have been compiled, best first: -D"LEVELS(X)=X(v4) X(v3) X(v2)". */
#define DECLARED(name) extern const Operation fcnn_operations_##name[];
LEVELS(DECLARED)

typedef struct {
    const char *name;
    const Operation *operations;
} Level;

#define LISTED(name) {#name, fcnn_operations_##name},
static const Level levels[] = {LEVELS(LISTED)};

enum { N_LEVELS = sizeof levels / sizeof *levels };

#define COUNT(name) +1
enum { N_OPERATIONS = 0 OPERATIONS(COUNT) };

EXPORT int fcnn_interface(void) { return INTERFACE; }
EXPORT int fcnn_n_levels(void) { return N_LEVELS; }
EXPORT const char *fcnn_level_name(int level) { return levels[level].name; }

/* Whether this CPU has the instructions of a level: of those of x86-64 what fcnn_gpu/backend/_compiled/_build.py lets the compiler
   use, and of any other what it takes itself. */
EXPORT int fcnn_level_is_supported(int level)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    const char *name = levels[level].name;
    const int v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    const int v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                   __builtin_cpu_supports("bmi2");
    const int v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return strcmp(name, "v4") == 0 ? v4 : strcmp(name, "v3") == 0 ? v3 : v2;
#else
    return level >= 0;
#endif
}

EXPORT int fcnn_n_operations(void) { return N_OPERATIONS; }
EXPORT const char *fcnn_operation_name(int operation) { return levels[0].operations[operation].name; }
EXPORT const char *fcnn_operation_parameters(int operation) { return levels[0].operations[operation].parameters; }
EXPORT int64_t fcnn_scratch_bytes(void) { return SCRATCH_BYTES; }
EXPORT int64_t fcnn_record_bytes(void) { return sizeof(Record); }

typedef struct {
    const Operation *operations;
    const Record *records;
    int64_t n, n_in_blocks, n_blocks;
} Stretch;

static inline __attribute__((always_inline)) void compute_records(const Stretch *stretch, int64_t start, int64_t stop, const Share *share)
{
    for (int64_t i = start; i < stop; i++) {
        const Record *record = stretch->records + i;
        stretch->operations[record->operation].kernels[record->is_double](record->arguments, share);
    }
}

static void compute(void *context, const Share *share)
{
    const Stretch *stretch = context;
    const int64_t first = stretch->n - stretch->n_in_blocks;
    compute_records(stretch, 0, first, share);
    if (first == stretch->n) return;
    const Range blocks = share_of(stretch->n_blocks, 1, share);
    for (int64_t block = blocks.start; block < blocks.stop; block++) {
        const Share one = {.part = block, .n_parts = stretch->n_blocks, .scratch = share->scratch};
        compute_records(stretch, first, stretch->n, &one);
    }
}

/* Executes it up to n_times times, as often as it begins within `budget` nanoseconds; returns how often. Once at least. */
EXPORT int64_t fcnn_run(const Execution *given)
{
    const Operation *operations = levels[given->level].operations;
    const Share whole = {.part = 0, .n_parts = 1, .scratch = given->scratch};
    const int64_t n_threads = given->n_threads < MOST_THREADS ? given->n_threads : MOST_THREADS, n_times = given->n_times;
    const uint64_t before = begin_plain_arithmetic();
    const int helped = n_threads > 1 && take_helpers(n_threads - 1);
    const int64_t end = n_times > 1 ? nanoseconds() + given->budget : 0;
    int64_t done = 0;
    do {
        for (int64_t p = 0; p < given->n_phases; p++) {
            const Phase *phase = given->phases + p;
            const int64_t n_parts = !helped ? 1 : phase->n_parts < n_threads ? phase->n_parts : n_threads;
            Stretch stretch = {operations, given->records + phase->first, phase->n_shared, phase->n_in_blocks, phase->n_blocks};
            if (phase->n_in_blocks && !phase->exact) stretch.n_blocks = (phase->n_blocks + n_parts - 1) / n_parts * n_parts;
            if (n_parts > 1 && stretch.n > 0) share_out(compute, &stretch, n_parts, given->scratch);
            else compute(&stretch, &whole);
            compute_records(&stretch, stretch.n, stretch.n + phase->n_serial, &whole);
        }
        for (int64_t i = 0; i < given->n_moves; i++)
            given->records[given->moves[i].record].arguments[given->moves[i].argument] += given->moves[i].bytes;
        done++;
    } while (done < n_times && nanoseconds() < end);
    if (helped) give_back_helpers();
    end_plain_arithmetic(before);
    return done;
}
