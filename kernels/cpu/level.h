/* What the text of an operation is written in. It is compiled for each instruction level (-DLEVEL=v3), and included twice in
   each: with `real` as float and as double.

   Sums of products are written FMA(a, b, c): rounded once on every CPU that has fused multiply-add, so that a network has the
   same bits on all of them. Nothing else may be contracted (-ffp-contract=off). */
#ifndef FCNN_LEVEL_H
#define FCNN_LEVEL_H

#include <stddef.h>
#include <string.h>

#include "record.h"

#define INLINE static inline __attribute__((always_inline))
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(name) JOIN(name, SUFFIX)

#if defined(__FMA__) || defined(__aarch64__)
#define HAS_FMA 1
#else
#define HAS_FMA 0
#endif

/* Of a pointer in ARGUMENTS. `rows`: each sample's own row, (batch, n) with `batch` an argument, and a call touches the rows of
   its share alone. `optional`: may be null. `any_order`: it is changed by atomic instructions, and calls that do may do so in any
   order. To the compiler none says anything new of a member of 8 bytes. */
#define rows _Alignas(8)
#define optional _Alignas(int64_t)
#define any_order _Alignas(double)
_Static_assert(sizeof(void *) == 8, "records hold pointers of 8 bytes");

/* The arguments of an operation, members of 8 bytes, and the same as text. KIND says who computes it:
   SAMPLES  the samples are shared out, as by share_of(batch, 1, share);
   SHARED   something else is: units, parameters, tiles;
   SERIAL   one thread computes all of it. */
#define TEXT(...) #__VA_ARGS__
#define ARGUMENTS(name, KIND, ...)   \
    typedef struct {                 \
        __VA_ARGS__                  \
    } NAME(name##_arguments);        \
    _Static_assert(sizeof(NAME(name##_arguments)) <= 8 * MOST_ARGUMENTS, #name " has too many arguments"); \
    const char NAME(name##_parameters)[] = #KIND ": " TEXT(__VA_ARGS__);

/* A setting that may change from step to step: a number, or, where there is a table, its number at `position`, the last one beyond the
   table's end. The step counts the position up when it is done. */
#define SCHEDULED(name)                  \
    double name;                         \
    int64_t n_##name;                    \
    optional const double *name##_table; \
    optional const int64_t *name##_position;
#define SCHEDULED_VALUE(a, name) \
    ((a)->name##_table           \
         ? (a)->name##_table[*(a)->name##_position < (a)->n_##name ? *(a)->name##_position : (a)->n_##name - 1] \
         : (a)->name)

INLINE void raise_flag(int64_t *flag) { atomic_store_explicit((_Atomic int64_t *)flag, 1, memory_order_relaxed); }

/* The head of an operation: `a` are its arguments. */
#define OPERATION(name)                                                                     \
    static void JOIN(NAME(name), _of)(const NAME(name##_arguments) * a, __attribute__((unused)) const Share *share); \
    void NAME(name)(const void *arguments, const Share *share)                              \
    {                                                                                       \
        JOIN(NAME(name), _of)(arguments, share);                                            \
    }                                                                                       \
    static void JOIN(NAME(name), _of)(const NAME(name##_arguments) * a, __attribute__((unused)) const Share *share)

#endif
