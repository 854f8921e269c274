/* Threads that help the caller of a program: they wait for its phases, first spinning for a moment, then asleep. */
#ifndef FCNN_THREADS_H
#define FCNN_THREADS_H

#include "record.h"

enum { MOST_THREADS = 256 };

/* Takes the helpers for the calling thread, and sees that there are `n` of them, or as many as the system gives; 0 if another
   thread has them, which then keeps them until it gives them back. */
int take_helpers(int64_t n);
void give_back_helpers(void);

typedef void (*Work)(void *context, const Share *share);

/* Calls work(context, …) for each of n_parts parts, MOST_THREADS at most, and returns when all have been done. Whoever is free
   takes the next part, the caller too: a helper without a core delays nothing that it has not begun. `scratch` is the caller's. */
void share_out(Work work, void *context, int64_t n_parts, void *scratch);

#endif
