/* How this thread rounds, whatever a library has set in it: to nearest, with subnormal numbers, without traps. What a program
   computes must not depend on which thread does a part of it. */
#ifndef FCNN_ARITHMETIC_H
#define FCNN_ARITHMETIC_H

#include <stdint.h>

#if defined(__x86_64__)
enum { SETTINGS = 0xffc0, PLAIN = 0x1f80 }; /* of MXCSR; its other bits say what has happened */
#endif

/* Sets it; returns what was set. */
static inline uint64_t begin_plain_arithmetic(void)
{
#if defined(__x86_64__)
    const uint32_t before = __builtin_ia32_stmxcsr();
    if ((before & SETTINGS) != PLAIN) __builtin_ia32_ldmxcsr(PLAIN);
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    if (before) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return before;
#else
    return 0;
#endif
}

static inline void end_plain_arithmetic(uint64_t before)
{
#if defined(__x86_64__)
    if ((before & SETTINGS) != PLAIN) __builtin_ia32_ldmxcsr((uint32_t)before);
#elif defined(__aarch64__)
    if (before) __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

#endif
