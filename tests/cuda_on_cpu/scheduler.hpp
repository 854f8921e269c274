// The threads of a CUDA block as coroutines on one CPU thread: what the kernel's side calls.
//
// Every thread of a block has a stack of its own. It runs until it finishes or must wait for others: at a block
// barrier, or at a warp collective (shuffle, vote, __syncwarp). The last one to arrive releases them all.
// Waiting threads that nobody can release, because others have finished or wait elsewhere, are an error, reported
// with who waits where: on a GPU the same kernel hangs or computes nonsense.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cuda_on_cpu {

struct Index {
    unsigned x, y, z;
};

enum class Collective : int { none, sync, shuffle, up, down, exclusive_or, ballot, any, all, matrix };
enum class Vote : int { none, count, conjunction, disjunction };

// Waits for every thread of the block; returns the votes' count, conjunction or disjunction.
int block_barrier(Vote vote, int predicate, const char* file, int line);

// Waits for the lanes of `mask`; returns this lane's result.
uint64_t warp_collective(Collective kind, unsigned mask, uint64_t value, int operand, int width, const char* file,
                         int line);

// The address on the device, up to multiples of 256, of what lies at `host`.
uint64_t device_address(const void* host);

// What orders accesses of different blocks (races.hpp).
void note_fence();
void note_atomic(const void* address);

// Ends the launch with an error that names the running thread. Does not return.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// How an argument array of a launch lies in host memory.
struct Buffer {
    const char* name;
    void* host;
    uint64_t bytes;
    uint64_t alignment_offset;  // the array's address on the device modulo 256
    int32_t writable;
};

// One kernel argument: an offset into a buffer, or (buffer < 0) a value.
struct Argument {
    const char* name;
    int64_t buffer;
    uint64_t offset;
    const void* value;
    uint64_t size;
};

struct SharedArray {
    const char* name;
    void* begin;
    uint64_t bytes;
};

struct Launch {
    uint64_t entry;
    uint32_t grid, block;
    uint64_t dynamic_shared;
    uint64_t seed;
    uint64_t check_races;
    uint64_t n_buffers;
    const Buffer* buffers;
    uint64_t n_arguments;
    const Argument* arguments;
    uint64_t n_static_shared;
    const SharedArray* static_shared;
    char* stacks;  // from cuda_on_cpu_make_stacks, one set for all libraries of a process
};

struct Entry {
    void (*invoke)(void* const* arguments);
    size_t n_arguments;
    const size_t* sizes;
};

extern const Entry entries[];  // defined by the generated file, one per template instance
extern const size_t n_entries;

}  // namespace cuda_on_cpu

extern cuda_on_cpu::Index threadIdx, blockIdx, blockDim, gridDim;
