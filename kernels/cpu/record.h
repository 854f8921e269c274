/* What a program is made of. fcnn_gpu/backend/_compiled writes these structures; all numbers in them have 8 bytes or 4. */
#ifndef FCNN_RECORD_H
#define FCNN_RECORD_H

#include <stdatomic.h>
#include <stdint.h>

/* The number of this interface: another with every change of Record, of Phase, of Execution, or of a function that Python calls. */
enum { INTERFACE = 2 };

enum { MOST_ARGUMENTS = 26 };

/* One operation of a program, with its arguments in the order of its ARGUMENTS structure. */
typedef struct {
    int32_t operation; /* its place in OPERATIONS */
    int32_t is_double; /* 0: `real` is float; 1: double */
    int64_t arguments[MOST_ARGUMENTS];
} Record;

/* Records first ... first + n_shared − 1 are computed by `n_parts` threads at a time, each its share of every one in turn.
   Once all have come to their end, the caller computes the n_serial that follow, and the next phase begins.

   The last n_in_blocks of the shared ones are by samples, which have n_blocks blocks: a thread goes with one block of its own through
   all of them, and then with the next, so that what one of them writes is still in the cache when another reads it. There are
   exactly so many blocks if `exact`; else as many more as all parts take to have equally many. */
typedef struct {
    int64_t first, n_shared, n_serial, n_parts, n_in_blocks, n_blocks, exact;
} Phase;

/* After each time, argument `argument` of a record points so many bytes further on. */
typedef struct {
    int64_t record, argument, bytes;
} Move;

/* A program, how often it is to be executed, and in what. */
typedef struct {
    int64_t level;
    Record *records;
    const Phase *phases;
    int64_t n_phases;
    const Move *moves;
    int64_t n_moves, n_threads, n_times, budget;
    void *scratch;
} Execution;

/* Which part of a phase's work a call is to do, and memory of the thread's own to do it in. */
typedef struct {
    int64_t part, n_parts;
    void *scratch;
} Share;

enum { SCRATCH_BYTES = 3 << 20 };

typedef struct {
    int64_t start, stop;
} Range;

/* Part `part` of 0 ... n − 1, cut at multiples of `grain`. */
static inline Range share_of(int64_t n, int64_t grain, const Share *share)
{
    const int64_t pieces = (n + grain - 1) / grain;
    Range range = {pieces * share->part / share->n_parts * grain, pieces * (share->part + 1) / share->n_parts * grain};
    if (range.start > n) range.start = n;
    if (range.stop > n) range.stop = n;
    return range;
}

typedef void (*Kernel)(const void *arguments, const Share *share);

/* An operation for both kinds of numbers, and how it is called: its kind, then the members of its structure. */
typedef struct {
    const char *name, *parameters;
    Kernel kernels[2];
} Operation;

#endif
