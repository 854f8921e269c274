#include "scheduler.hpp"

#include "races.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#if !defined(__x86_64__) && !defined(CUDA_ON_CPU_UCONTEXT)
#define CUDA_ON_CPU_UCONTEXT
#endif
#ifdef CUDA_ON_CPU_UCONTEXT
#include <ucontext.h>
#endif

cuda_on_cpu::Index threadIdx, blockIdx, blockDim, gridDim;

// The most a block may ask for on any supported GPU (227 KiB, sm_90 and sm_100).
constexpr size_t max_dynamic_shared = 227 * 1024;
constexpr size_t shared_red_zone = 1024;
alignas(128) unsigned char dynamic_shared[max_dynamic_shared + shared_red_zone];

namespace cuda_on_cpu {
namespace {

constexpr unsigned max_threads = 1024, warp_size = 32;
constexpr size_t stack_bytes = 128 * 1024;
constexpr size_t stack_shift = 256, n_stack_shifts = 16;  // stacks begin at as many places of a page, lest all share a cache set
constexpr size_t red_zone = 64;  // bytes before an array
constexpr size_t guard_bytes = size_t{64} << 20;  // inaccessible, on either side; address space only, no memory
constexpr unsigned char poison = 0xFF;  // a NaN in every floating type, -1 in every signed one

enum class State : unsigned char { fresh, ready, at_barrier, at_collective, done };

// ---- contexts -----------------------------------------------------------------------------------------------------

#ifdef CUDA_ON_CPU_UCONTEXT
using Context = ucontext_t;
void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }
void make_context(Context& context, char* stack, size_t shift, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = stack_bytes - shift;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}
#else
struct Context {
    void* stack_pointer = nullptr;
};
extern "C" void cuda_on_cpu_switch(void** from, void* to);
asm(R"(
    .text
    .hidden cuda_on_cpu_switch
    .globl cuda_on_cpu_switch
    .type cuda_on_cpu_switch, @function
cuda_on_cpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size cuda_on_cpu_switch, .-cuda_on_cpu_switch
)");
void switch_context(Context& from, Context& to) { cuda_on_cpu_switch(&from.stack_pointer, to.stack_pointer); }
void make_context(Context& context, char* stack, size_t shift, void (*entry)()) {
    // Six callee-saved registers, the entry's address, and a slot that leaves the stack as a call would.
    void** top = reinterpret_cast<void**>(stack + stack_bytes - shift) - 8;
    std::fill(top, top + 8, nullptr);
    top[6] = reinterpret_cast<void*>(entry);
    context.stack_pointer = top;
}
#endif

// ---- the state of one launch --------------------------------------------------------------------------------------

struct Site {
    const char* file = nullptr;
    int line = 0;
};

struct Thread {
    State state;
    char* stack;
    Context context;
    Site site;
    // what this thread brought to its warp collective, and what it takes away
    Collective kind;
    unsigned mask;
    uint64_t value, result;
    int operand, width;
    int barrier_result;
};

// Readable pages between two inaccessible stretches.
struct Map {
    char* begin;
    size_t inner;  // bytes of the pages
    bool writable;
};

struct Region {
    const Buffer* buffer;
    Map map;
    char* data;
};

struct Fault {
    bool failed = false;
    char message[2048] = "";
};

Thread threads[max_threads];
Context scheduler_context;
Thread* current = nullptr;
unsigned n_threads;
unsigned n_barriers;                                // that the present block has passed

// Lanes that have come to the same collective and wait for the others of their mask.
struct Gathering {
    Collective kind;
    unsigned mask, arrived;
    int line;
    uint64_t value;
};
struct Warp {
    unsigned n_barriers, n_collectives;  // by all lanes
    unsigned done;                       // the lanes that have finished, and those that do not exist
    unsigned ready;                      // those that can go on
    unsigned n_gatherings;
    Gathering gatherings[warp_size];
};
Warp warps[max_threads / warp_size];
std::vector<char*> free_stacks;
std::vector<Region> regions;
Fault fault;
char* stacks = nullptr;  // each above an inaccessible page
const size_t page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
void* const* kernel_arguments;
void (*kernel)(void* const*);

unsigned index_of(const Thread* thread) { return static_cast<unsigned>(thread - threads); }

void record(const char* format, va_list values) {
    if (fault.failed) return;
    fault.failed = true;
    int used = 0;
    if (current)
        used = snprintf(fault.message, sizeof fault.message, "thread %u of block %u: ", index_of(current), blockIdx.x);
    vsnprintf(fault.message + used, sizeof fault.message - used, format, values);
}

void record(const char* format, ...) __attribute__((format(printf, 1, 2)));
void record(const char* format, ...) {
    va_list values;
    va_start(values, format);
    record(format, values);
    va_end(values);
}

// ---- threads -------------------------------------------------------------------------------------------------------

// Last in, first out: a kernel without barriers runs all its threads on one stack, which stays in the cache.
void collect_stacks() {
    free_stacks.clear();
    for (unsigned i = n_threads; i-- > 0;)
        free_stacks.push_back(stacks + i * (stack_bytes + page_bytes) + page_bytes);
}

void thread_main() {
    kernel(kernel_arguments);
    current->state = State::done;
    switch_context(current->context, scheduler_context);
    __builtin_unreachable();
}

void resume(Thread& thread) {
    if (thread.state == State::fresh) {
        thread.stack = free_stacks.back();
        free_stacks.pop_back();
        const size_t number = static_cast<size_t>(thread.stack - stacks) / (stack_bytes + page_bytes);
        make_context(thread.context, thread.stack, number % n_stack_shifts * stack_shift, thread_main);
    }
    thread.state = State::ready;
    threadIdx = {index_of(&thread), 0, 0};
    Warp& warp = warps[threadIdx.x / warp_size];
    const unsigned bit = 1u << threadIdx.x % warp_size;
    warp.ready &= ~bit;
    current = &thread;
    begin_segment();
    switch_context(scheduler_context, thread.context);
    current = nullptr;
    if (thread.state == State::done) {
        free_stacks.push_back(thread.stack);
        warp.done |= bit;
    }
}

void wait(State state, Site site) {
    Thread* self = current;
    self->state = state;
    self->site = site;
    switch_context(self->context, scheduler_context);
}

// ---- barriers and collectives -------------------------------------------------------------------------------------

struct Barrier {
    unsigned arrived = 0;
    Site site;
    int count = 0;
} barrier;

// The value of another lane; poison where the source takes no part, which CUDA leaves undefined.
uint64_t source_value(const Thread* warp, unsigned mask, int source) {
    const bool defined = source >= 0 && source < static_cast<int>(warp_size) && (mask >> source & 1u);
    return defined ? warp[source].value : ~uint64_t{0};
}

void complete(Thread* warp, unsigned mask) {
    const Collective kind = warp[__builtin_ctz(mask)].kind;
    Warp& counts = warps[index_of(warp) / warp_size];
    counts.n_collectives += mask == ~0u && kind != Collective::matrix;
    counts.n_barriers += mask == ~0u && kind == Collective::sync;
    counts.ready |= mask & ~(1u << (index_of(current) % warp_size));  // the last to come has not stopped
    begin_segment();
    unsigned ballot = 0;
    for (unsigned lane = 0; lane < warp_size; ++lane)
        if (mask >> lane & 1u) ballot |= static_cast<unsigned>(warp[lane].value != 0) << lane;
    for (int lane = 0; lane < static_cast<int>(warp_size); ++lane) {
        if (!(mask >> lane & 1u)) continue;
        Thread& thread = warp[lane];
        const int width = thread.width, begin = lane & ~(width - 1), end = begin + width;
        int source = lane;
        switch (kind) {
            case Collective::shuffle: source = begin + (thread.operand & (width - 1)); break;
            case Collective::up: source = lane - thread.operand < begin ? lane : lane - thread.operand; break;
            case Collective::down: source = lane + thread.operand >= end ? lane : lane + thread.operand; break;
            case Collective::exclusive_or:
                source = (lane ^ thread.operand) >= end ? lane : lane ^ thread.operand;
                break;
            case Collective::ballot: thread.result = ballot; break;
            case Collective::any: thread.result = ballot != 0; break;
            case Collective::all: thread.result = ballot == mask; break;
            case Collective::sync:
            case Collective::matrix:
            case Collective::none: break;
        }
        if (kind >= Collective::shuffle && kind <= Collective::exclusive_or)
            thread.result = source_value(warp, mask, source);
        thread.state = State::ready;
    }
}

const char* name_of(Collective kind) {
    static const char* const names[] = {"",           "__syncwarp",      "__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
                                        "__shfl_xor_sync", "__ballot_sync", "__any_sync",  "__all_sync",
                                        "a function of mma.h"};
    return names[static_cast<int>(kind)];
}

void report_deadlock() {
    size_t used = 0;
    auto add = [&used](const char* format, auto... values) {
        used += static_cast<size_t>(
            std::max(0, snprintf(fault.message + used, sizeof fault.message - used, format, values...)));
        used = std::min(used, sizeof fault.message - 1);
    };
    unsigned done = 0;
    for (unsigned i = 0; i < n_threads; ++i) done += threads[i].state == State::done;
    fault.failed = true;
    add("block %u cannot go on: %u of its %u threads have finished", blockIdx.x, done, n_threads);
    unsigned shown = 0;
    Site last;
    State state = State::done;
    for (unsigned i = 0; i < n_threads && shown < 6; ++i) {
        const Thread& t = threads[i];
        if (t.state == State::done || (t.site.line == last.line && t.state == state)) continue;
        if (t.state == State::at_barrier)
            add("; thread %u waits at the barrier of %s:%d", i, t.site.file, t.site.line);
        else
            add("; thread %u waits in %s(mask 0x%x) at %s:%d", i, name_of(t.kind), t.mask, t.site.file, t.site.line);
        last = t.site;
        state = t.state;
        ++shown;
    }
    add("%s", ". Every thread of a block must reach each __syncthreads, and every lane of a mask its collective.");
}

struct Random {
    uint64_t state;
    uint64_t operator()() {
        uint64_t z = (state += 0x9E3779B97F4A7C15ull);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        return z ^ (z >> 31);
    }
    template <typename T> void shuffle(T* begin, size_t n) {
        for (size_t i = n; i > 1; --i) std::swap(begin[i - 1], begin[(*this)() % i]);
    }
};

// The threads run in a random order of warps and of lanes, reversed after each barrier: of two threads that race
// between barriers, each is the first one somewhere.
void run_block(Random& random) {
    static unsigned order[max_threads / warp_size], lanes[warp_size];
    const unsigned n_warps = (n_threads + warp_size - 1) / warp_size;
    for (unsigned i = 0; i < n_warps; ++i) order[i] = i;
    for (unsigned i = 0; i < warp_size; ++i) lanes[i] = i;
    random.shuffle(order, n_warps);
    random.shuffle(lanes, warp_size);
    for (unsigned i = 0; i < n_threads; ++i) threads[i].state = State::fresh;
    barrier = Barrier{};
    n_barriers = 0;
    for (unsigned w = 0; w < n_warps; ++w) {
        const unsigned n_lanes = std::min(warp_size, n_threads - w * warp_size);
        warps[w].n_barriers = warps[w].n_collectives = warps[w].n_gatherings = 0;
        warps[w].done = n_lanes == warp_size ? 0u : ~0u << n_lanes;
        warps[w].ready = ~warps[w].done;
    }
    collect_stacks();

    for (bool backwards = false;; backwards = !backwards) {
        for (unsigned w = 0; w < n_warps; ++w) {
            Warp& warp = warps[order[backwards ? n_warps - 1 - w : w]];
            Thread* first = threads + (&warp - warps) * warp_size;
            while (warp.ready) {
                for (unsigned l = 0; l < warp_size; ++l) {
                    const unsigned lane = lanes[backwards ? warp_size - 1 - l : l];
                    if (!(warp.ready >> lane & 1u)) continue;
                    resume(first[lane]);
                    if (fault.failed) return;
                }
            }
        }
        // No warp can go on by itself: either all threads have finished, or all are at the barrier.
        if (std::all_of(warps, warps + n_warps, [](const Warp& warp) { return warp.done == ~0u; })) return;
        if (barrier.arrived < n_threads) {
            report_deadlock();
            return;
        }
        for (unsigned i = 0; i < n_threads; ++i) {
            threads[i].state = State::ready;
            threads[i].barrier_result = barrier.count;
        }
        for (unsigned w = 0; w < n_warps; ++w) warps[w].ready = ~warps[w].done;
        barrier.arrived = 0;
        ++n_barriers;
    }
}

// ---- argument arrays between guard pages --------------------------------------------------------------------------

// Making a map costs more than most launches: a few are kept for the next ones.
constexpr size_t n_kept_maps = 16, kept_map_bytes = size_t{1} << 20;
std::vector<Map> idle_maps;

bool lies_in(const Map& map, const char* address) {
    return address >= map.begin && address < map.begin + map.inner + 2 * guard_bytes;
}

void unmap(const Map& map) { munmap(map.begin, map.inner + 2 * guard_bytes); }

bool take_map(size_t inner, Map& map) {
    for (size_t i = idle_maps.size(); i-- > 0;) {
        if (idle_maps[i].inner != inner) continue;
        map = idle_maps[i];
        idle_maps.erase(idle_maps.begin() + static_cast<ptrdiff_t>(i));
        return true;
    }
    void* begin =
        mmap(nullptr, inner + 2 * guard_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (begin == MAP_FAILED) return false;
    map = {static_cast<char*>(begin), inner, false};
    return true;
}

void give_back(const Map& map) {
    if (map.inner > kept_map_bytes) {
        unmap(map);
        return;
    }
    if (idle_maps.size() == n_kept_maps) {
        unmap(idle_maps.front());
        idle_maps.erase(idle_maps.begin());
    }
    idle_maps.push_back(map);
}

bool protect(Map& map, bool writable) {
    if (map.writable == writable) return true;
    map.writable = writable;
    return mprotect(map.begin + guard_bytes, map.inner, writable ? PROT_READ | PROT_WRITE : PROT_READ) == 0;
}

// An array ends at an inaccessible stretch, and starts in a red zone after another one. Up to 15 bytes between its end
// and the stretch, for alignment, are red zone too. Red zones hold poison and are checked after the launch.
bool make_region(const Buffer& buffer, Region& region) {
    const size_t offset = buffer.alignment_offset % 16;
    const size_t span = (buffer.bytes + offset + 15) / 16 * 16 + red_zone;
    const size_t inner = (span + page_bytes - 1) / page_bytes * page_bytes;
    region.buffer = &buffer;
    if (!take_map(inner, region.map) || !protect(region.map, true)) return false;
    char* begin = region.map.begin + guard_bytes;
    region.data = begin + inner - (buffer.bytes + offset + 15) / 16 * 16 + offset;
    memset(begin, poison, static_cast<size_t>(region.data - begin));
    memset(region.data + buffer.bytes, poison, static_cast<size_t>(begin + inner - region.data) - buffer.bytes);
    memcpy(region.data, buffer.host, buffer.bytes);
    return buffer.writable || protect(region.map, false);
}

void check_red_zones(const Region& region) {
    const char* end_of_map = region.map.begin + guard_bytes + region.map.inner;
    for (const char* p = region.data - red_zone; p < region.data; ++p)
        if (static_cast<unsigned char>(*p) != poison)
            record("writes %td bytes before the start of %s", region.data - p, region.buffer->name);
    for (const char* p = region.data + region.buffer->bytes; p < end_of_map; ++p)
        if (static_cast<unsigned char>(*p) != poison)
            record("writes %td bytes past the end of %s", p - region.data - region.buffer->bytes + 1, region.buffer->name);
}

struct sigaction previous_segv, previous_bus;
alignas(16) char signal_stack[64 * 1024];
stack_t previous_stack;

void describe_fault(const char* address) {
    for (const Region& region : regions) {
        if (!lies_in(region.map, address)) continue;
        const char* end = region.data + region.buffer->bytes;
        if (address >= end)
            record("reads or writes %td bytes past the end of %s", address - end + 1, region.buffer->name);
        else if (address < region.data)
            record("reads or writes %td bytes before the start of %s", region.data - address, region.buffer->name);
        else
            record("writes to %s, a const parameter", region.buffer->name);
        return;
    }
    if (reinterpret_cast<uintptr_t>(address) < 65536)
        record("reads or writes through a null pointer");
    else if (address >= stacks && address < stacks + (stack_bytes + page_bytes) * max_threads)
        record("overflows its stack of %zu bytes", stack_bytes);
    else
        record("reads or writes at the invalid address %p", static_cast<const void*>(address));
}

void on_fault(int signal_number, siginfo_t* info, void*) {
    if (!current) {  // not the kernel's doing: let whoever handled it before do so, by faulting again
        sigaction(signal_number, signal_number == SIGSEGV ? &previous_segv : &previous_bus, nullptr);
        return;
    }
    describe_fault(static_cast<const char*>(info->si_addr));
    switch_context(current->context, scheduler_context);
}

void catch_faults() {
    stack_t stack{};
    stack.ss_sp = signal_stack;
    stack.ss_size = sizeof signal_stack;
    sigaltstack(&stack, &previous_stack);
    struct sigaction action{};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &previous_segv);
    sigaction(SIGBUS, &action, &previous_bus);
}

void release_faults() {
    sigaction(SIGSEGV, &previous_segv, nullptr);
    sigaction(SIGBUS, &previous_bus, nullptr);
    sigaltstack(&previous_stack, nullptr);
}

void run_grid(const Launch& launch) {
    Random random{launch.seed};
    std::vector<unsigned> order(launch.grid);
    for (unsigned i = 0; i < launch.grid; ++i) order[i] = i;
    if (launch.seed) random.shuffle(order.data(), order.size());
    blockDim = {launch.block, 1, 1};
    gridDim = {launch.grid, 1, 1};
    for (unsigned block : order) {
        blockIdx = {block, 0, 0};
        for (size_t i = 0; i < launch.n_static_shared; ++i)
            memset(launch.static_shared[i].begin, poison, launch.static_shared[i].bytes);
        memset(dynamic_shared, poison, launch.dynamic_shared + shared_red_zone);
        run_block(random);
        if (fault.failed) return;
        for (size_t i = 0; i < shared_red_zone; ++i)
            if (dynamic_shared[launch.dynamic_shared + i] != poison) {
                record("block %u writes %zu bytes past the end of its dynamic shared memory", block, i + 1);
                return;
            }
    }
}

bool watch_memory(const Launch& launch) {
    size_t bytes = launch.dynamic_shared;
    for (const Region& region : regions) bytes += region.buffer->bytes;
    for (size_t i = 0; i < launch.n_static_shared; ++i) bytes += launch.static_shared[i].bytes;
    if (!reserve(bytes, stacks, (stack_bytes + page_bytes) * max_threads)) return false;
    for (const Region& region : regions) watch(region.buffer->name, region.data, region.buffer->bytes, Memory::global);
    for (size_t i = 0; i < launch.n_static_shared; ++i) {
        const SharedArray& array = launch.static_shared[i];
        watch(array.name, array.begin, array.bytes, Memory::shared);
    }
    watch("the dynamic shared memory", dynamic_shared, launch.dynamic_shared, Memory::shared);
    return true;
}

}  // namespace

Moment now() {
    const unsigned thread = index_of(current);
    const Warp& warp = warps[thread / warp_size];
    return {blockIdx.x, thread, n_barriers, warp.n_barriers, warp.n_collectives};
}
bool is_running() { return current != nullptr; }

uint64_t device_address(const void* host) {
    const char* place = static_cast<const char*>(host);
    for (const Region& region : regions)
        if (lies_in(region.map, place))
            return static_cast<uint64_t>(place - region.data) + region.buffer->alignment_offset;
    return reinterpret_cast<uint64_t>(host);
}

int block_barrier(Vote vote, int predicate, const char* file, int line) {
    if (barrier.arrived == 0) {
        barrier.site = {file, line};
        barrier.count = 0;
    } else if (barrier.site.line != line) {
        fail("waits at the barrier of %s:%d while others of its block wait at the one of %s:%d", file, line,
             barrier.site.file, barrier.site.line);
    }
    ++barrier.arrived;
    barrier.count += predicate != 0;
    wait(State::at_barrier, {file, line});
    return vote == Vote::count         ? current->barrier_result
           : vote == Vote::conjunction ? current->barrier_result == static_cast<int>(n_threads)
                                       : current->barrier_result != 0;
}

namespace {
// Says what keeps this thread's collective from ever being complete.
[[noreturn]] void refuse_collective(const Thread& self, unsigned lane, const Thread* warp) {
    const auto [file, line] = self.site;
    for (unsigned other = 0; other < warp_size; ++other) {
        if (!(self.mask >> other & 1u) || other == lane) continue;
        const Thread& thread = warp[other];
        const bool exists = index_of(&thread) < n_threads;
        if (!exists || thread.state == State::done)
            fail("calls %s at %s:%d with mask 0x%x, but lane %u %s", name_of(self.kind), file, line, self.mask, other,
                 exists ? "has finished" : "does not exist");
        if (thread.state != State::at_collective) continue;
        if (thread.kind != self.kind || thread.mask != self.mask ||
            (self.kind != Collective::sync && thread.site.line != line))
            fail("calls %s(mask 0x%x) at %s:%d while lane %u waits in %s(mask 0x%x) at %s:%d", name_of(self.kind), self.mask,
                 file, line, other, name_of(thread.kind), thread.mask, thread.site.file, thread.site.line);
        if (self.kind == Collective::matrix && thread.value != self.value)
            fail("calls %s at %s:%d with another pointer or leading dimension than lane %u", name_of(self.kind), file, line,
                 other);
    }
    fail("calls %s at %s:%d, which cannot be complete", name_of(self.kind), file, line);
}
}  // namespace

uint64_t warp_collective(Collective kind, unsigned mask, uint64_t value, int operand, int width, const char* file,
                         int line) {
    Thread& self = *current;
    const unsigned index = index_of(&self), lane = index % warp_size;
    Thread* warp = threads + (index - lane);
    if (!(mask >> lane & 1u))
        fail("calls %s at %s:%d with mask 0x%x, which leaves out its own lane %u", name_of(kind), file, line, mask, lane);
    if (width < 1 || width > static_cast<int>(warp_size) || (width & (width - 1)))
        fail("calls %s at %s:%d with width %d; it is a power of two up to 32", name_of(kind), file, line, width);
    self.kind = kind;
    self.mask = mask;
    self.value = value;
    self.operand = operand;
    self.width = width;
    self.site = {file, line};
    const unsigned bit = 1u << lane;
    Warp& state = warps[index / warp_size];
    const Gathering mine{kind, mask, bit, kind == Collective::sync ? 0 : line, kind == Collective::matrix ? value : 0};
    Gathering* joined = nullptr;
    bool wrong = (mask & state.done) != 0;
    for (unsigned i = 0; i < state.n_gatherings; ++i) {
        Gathering& other = state.gatherings[i];
        if (!(other.arrived & mask)) continue;
        if (other.kind == kind && other.mask == mask && other.line == mine.line && other.value == mine.value)
            joined = &other;
        else
            wrong = true;
    }
    if (wrong) refuse_collective(self, lane, warp);
    if (joined)
        joined->arrived |= bit;
    else
        *(joined = &state.gatherings[state.n_gatherings++]) = mine;
    if (joined->arrived == mask) {
        *joined = state.gatherings[--state.n_gatherings];
        complete(warp, mask);
    } else {
        wait(State::at_collective, {file, line});
    }
    return self.result;
}

void fail(const char* format, ...) {
    va_list values;
    va_start(values, format);
    record(format, values);
    va_end(values);
    switch_context(current->context, scheduler_context);
    __builtin_unreachable();
}

}  // namespace cuda_on_cpu

// ---- what the compiler's checks of the kernel's own code call -----------------------------------------------------
// Each takes a description that starts with the place in the source.

namespace {
struct Place {
    const char* file;
    uint32_t line, column;
};
[[noreturn]] void undefined_behaviour(const void* description, const char* what) {
    const Place* place = static_cast<const Place*>(description);
    cuda_on_cpu::fail("%s at %s:%u:%u", what, place->file ? place->file : "an unknown place", place->line, place->column);
}
}  // namespace

extern "C" {
void __ubsan_handle_out_of_bounds(void* d, uintptr_t i) {
    char what[96];
    snprintf(what, sizeof what, "index %td is outside the array", static_cast<ptrdiff_t>(i));
    undefined_behaviour(d, what);
}
void __ubsan_handle_type_mismatch_v1(void* d, uintptr_t) {
    undefined_behaviour(d, "a misaligned address is read or written");
}
void __ubsan_handle_divrem_overflow(void* d, uintptr_t, uintptr_t) { undefined_behaviour(d, "an integer is divided by zero"); }
void __ubsan_handle_shift_out_of_bounds(void* d, uintptr_t, uintptr_t) {
    undefined_behaviour(d, "an integer is shifted by its width or more, or by less than zero");
}
void __ubsan_handle_add_overflow(void* d, uintptr_t, uintptr_t) { undefined_behaviour(d, "a signed addition overflows"); }
void __ubsan_handle_sub_overflow(void* d, uintptr_t, uintptr_t) { undefined_behaviour(d, "a signed subtraction overflows"); }
void __ubsan_handle_mul_overflow(void* d, uintptr_t, uintptr_t) { undefined_behaviour(d, "a signed product overflows"); }
void __ubsan_handle_negate_overflow(void* d, uintptr_t) { undefined_behaviour(d, "a negation overflows"); }

// Stacks for the threads of a block, or null where there is no memory.
__attribute__((visibility("default"))) char* cuda_on_cpu_make_stacks() {
    using namespace cuda_on_cpu;
    const size_t step = stack_bytes + page_bytes;
    void* map = mmap(nullptr, step * max_threads, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return nullptr;
    for (unsigned i = 0; i < max_threads; ++i)
        if (mprotect(static_cast<char*>(map) + i * step, page_bytes, PROT_NONE)) return nullptr;
    return static_cast<char*>(map);
}

// Runs one kernel; 0, or 1 with the reason in `message`.
__attribute__((visibility("default"))) int cuda_on_cpu_launch(const cuda_on_cpu::Launch* launch, char* message,
                                                              size_t message_bytes) {
    using namespace cuda_on_cpu;
    fault = Fault{};
    stacks = launch->stacks;
    const Entry& entry = entries[launch->entry];
    n_threads = launch->block;
    bool valid = launch->entry < n_entries && n_threads >= 1 && n_threads <= max_threads && stacks;
    if (!valid) record("the launch is malformed, or there is no memory for the threads' stacks");
    if (valid && launch->dynamic_shared > max_dynamic_shared)
        record("%zu bytes of dynamic shared memory are more than any GPU has", static_cast<size_t>(launch->dynamic_shared));
    if (valid && entry.n_arguments != launch->n_arguments)
        record("the kernel takes %zu arguments, got %zu", entry.n_arguments, static_cast<size_t>(launch->n_arguments));
    regions.assign(launch->n_buffers, Region{});
    for (size_t i = 0; i < launch->n_buffers && !fault.failed; ++i)
        if (!make_region(launch->buffers[i], regions[i])) record("no memory for a copy of %s", launch->buffers[i].name);

    std::vector<const char*> addresses(launch->n_arguments);
    std::vector<void*> values(launch->n_arguments);
    for (size_t i = 0; i < launch->n_arguments && !fault.failed; ++i) {
        const Argument& argument = launch->arguments[i];
        if (argument.buffer >= 0) {
            addresses[i] = regions[argument.buffer].data + argument.offset;
            values[i] = &addresses[i];
        } else {
            values[i] = const_cast<void*>(argument.value);
        }
        if (argument.size != entry.sizes[i])
            record("argument %s has %zu bytes, its parameter %zu", argument.name, static_cast<size_t>(argument.size),
                   entry.sizes[i]);
    }
    if (!fault.failed && launch->check_races && !watch_memory(*launch)) record("no memory to look for races in");
    if (!fault.failed) {
        kernel = entry.invoke;
        kernel_arguments = values.data();
        catch_faults();
        run_grid(*launch);
        release_faults();
        current = nullptr;
        for (const Region& region : regions)
            if (!fault.failed) check_red_zones(region);
    }
    forget_all();
    for (const Region& region : regions) {
        if (!region.map.begin) continue;
        if (!fault.failed && region.buffer->writable) memcpy(region.buffer->host, region.data, region.buffer->bytes);
        give_back(region.map);
    }
    regions.clear();
    if (fault.failed) snprintf(message, message_bytes, "%s", fault.message);
    return fault.failed;
}
}
