#include "races.hpp"

#include <cstring>
#include <vector>

namespace cuda_on_cpu {
namespace {

constexpr unsigned nobody = ~0u;
constexpr unsigned warp_size = 32;

// What has happened to one place. Reads are kept as one representative and how far they spread.
struct History {
    Moment write{nobody, 0, 0, 0, 0};
    Moment read{nobody, 0, 0, 0, 0};
    bool read_by_threads = false, read_by_warps = false, read_by_blocks = false;  // by more than one
};

struct Watched {
    const char* name;
    uintptr_t begin, end;
    Memory memory;
    std::vector<History> history;  // by byte; an access is noted at its first byte and every second one after it
};

std::vector<Watched> all_watched;
Watched* last = nullptr;

Watched* find(uintptr_t address) {
    if (last && address >= last->begin && address < last->end) return last;
    for (Watched& watched : all_watched)
        if (address >= watched.begin && address < watched.end) return last = &watched;
    return nullptr;
}

// Whether nothing orders an access at `then` before one at `present`, by another thread.
bool unordered(const Moment& then, const Moment& present, Memory memory, unsigned Moment::* warp_order) {
    if (then.block == nobody || (then.block == present.block && then.thread == present.thread)) return false;
    if (then.block != present.block) return memory == Memory::global;  // shared memory belongs to one block at a time
    if (then.barriers != present.barriers) return false;
    return then.thread / warp_size != present.thread / warp_size || then.*warp_order == present.*warp_order;
}

[[noreturn]] void report(const char* present, const char* past, const Moment& then, const Watched& watched, size_t offset) {
    if (then.block == now().block)
        fail("%s byte %zu of %s, which thread %u of the same block %s with no barrier between", present, offset, watched.name,
             then.thread, past);
    fail("%s byte %zu of %s, which thread %u of block %u %s in the same launch", present, offset, watched.name, then.thread,
         then.block, past);
}

void on_read(Watched& watched, size_t offset) {
    History& history = watched.history[offset];
    const Moment present = now();
    if (watched.memory == Memory::shared && history.write.block != present.block)
        fail("reads byte %zu of %s, shared memory that nothing has been written to", offset, watched.name);
    if (unordered(history.write, present, watched.memory, &Moment::warp_barriers)) report("reads", "wrote", history.write, watched, offset);
    Moment& read = history.read;
    const bool same_warp = !history.read_by_warps && read.thread / warp_size == present.thread / warp_size;
    if (read.block != nobody && read.block != present.block) {
        history.read_by_blocks = true;
        history.read_by_threads = history.read_by_warps = false;
    } else if (read.block == nobody || read.barriers != present.barriers) {
        history.read_by_threads = history.read_by_warps = false;
    } else if (same_warp && read.warp_collectives != present.warp_collectives) {
        history.read_by_threads = false;  // the warp's earlier reads come before any write that it makes from now on
    } else {
        history.read_by_threads |= read.thread != present.thread;
        history.read_by_warps |= !same_warp;
    }
    read = present;
}

void on_write(Watched& watched, size_t offset) {
    History& history = watched.history[offset];
    const Moment present = now();
    if (unordered(history.write, present, watched.memory, &Moment::warp_barriers)) report("writes", "wrote", history.write, watched, offset);
    const Moment& read = history.read;
    bool races = unordered(read, present, watched.memory, &Moment::warp_collectives) || (history.read_by_blocks && watched.memory == Memory::global);
    if (read.block == present.block && read.barriers == present.barriers) {
        const bool same_warp = !history.read_by_warps && read.thread / warp_size == present.thread / warp_size;
        races |= history.read_by_threads && !(same_warp && read.warp_collectives != present.warp_collectives);
    }
    if (races) report("writes", "read", read, watched, offset);
    history.write = present;
}

template <void (*note)(Watched&, size_t)> void access(const void* address, size_t bytes) {
    if (!is_running()) return;
    const uintptr_t begin = reinterpret_cast<uintptr_t>(address);
    Watched* watched = find(begin);
    if (!watched) return;
    for (size_t i = 0; i < bytes && begin + i < watched->end; i += 2) note(*watched, begin - watched->begin + i);
}

}  // namespace

void watch(const char* name, const void* begin, size_t bytes, Memory memory) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(begin);
    if (bytes) all_watched.push_back({name, address, address + bytes, memory, std::vector<History>(bytes)});
    last = nullptr;
}

void forget_all() {
    all_watched.clear();
    last = nullptr;
}

}  // namespace cuda_on_cpu

using cuda_on_cpu::access;
using cuda_on_cpu::on_read;
using cuda_on_cpu::on_write;

extern "C" {
void __tsan_init() {}
#define ACCESSES(bytes)                                                                              \
    void __tsan_read##bytes(void* address) { access<on_read>(address, bytes); }                      \
    void __tsan_write##bytes(void* address) { access<on_write>(address, bytes); }                    \
    void __tsan_volatile_read##bytes(void* address) { access<on_read>(address, bytes); }             \
    void __tsan_volatile_write##bytes(void* address) { access<on_write>(address, bytes); }           \
    void __tsan_unaligned_read##bytes(void* address) { access<on_read>(address, bytes); }            \
    void __tsan_unaligned_write##bytes(void* address) { access<on_write>(address, bytes); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
#undef ACCESSES
void __tsan_read_range(void* address, size_t bytes) { access<on_read>(address, bytes); }
void __tsan_write_range(void* address, size_t bytes) { access<on_write>(address, bytes); }
}
