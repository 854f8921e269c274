// Data races and uninitialized shared memory, found by looking at every access of a kernel.
//
// The kernel's text is compiled with -fsanitize=thread, which puts a call before each load and store, but it is linked
// with the calls' definitions in races.cpp and not with the sanitizer's library: CUDA's rules are not those of CPU threads.
// Two accesses of one place, one of them a write, race unless a barrier lies between them (in one block) or a __syncwarp
// of the full warp (in one warp). A read comes before a write that follows a full shuffle or vote of the warp, too: what was
// read has arrived before it can be exchanged. But a write is not visible after a shuffle: that takes a __syncwarp.
// Between two blocks of a launch nothing lies but a ticket: what a block did before a thread's __threadfence and its
// atomic on some address comes before what another block does after an atomic on that address and a __threadfence. In
// either block the other threads take part through a barrier before the fence, or after it. Atomics themselves are not
// looked at.
#pragma once

#include "scheduler.hpp"

namespace cuda_on_cpu {

// Where in the program the running thread is.
struct Moment {
    unsigned block, thread, barriers;
    unsigned warp_barriers;     // __syncwarps of the full warp
    unsigned warp_collectives;  // these, and its full shuffles and votes
};
Moment now();
bool is_running();

enum class Memory { global, shared };

// Before a launch: memory for the histories of so many bytes (false where there is none), and where the threads' stacks
// lie, which are their own. Then, for each array, `watch`.
bool reserve(size_t bytes, const void* stacks, size_t stacks_bytes);
void watch(const char* name, const void* begin, size_t bytes, Memory memory);
// What orders the running thread's accesses may have changed.
void begin_segment();
void forget_all();

}  // namespace cuda_on_cpu
