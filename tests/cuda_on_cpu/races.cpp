#include "races.hpp"

#include <cstring>
#include <unordered_map>
#include <vector>

namespace cuda_on_cpu {
namespace {

constexpr unsigned nobody = ~0u;
constexpr unsigned warp_size = 32;

// A point in one thread's program. Blocks run one after another, so time orders what happens in the whole launch.
struct Point {
    Moment moment;
    uint32_t time;
};
constexpr Point never{{nobody, 0, 0, 0, 0}, 0};
uint32_t last_time = 0;
Point this_point() { return {now(), ++last_time}; }

// Tickets, by address: how many atomics there were, and which of them came after a fence of their thread (releases).
struct Release {
    Point fence;
    uint64_t atomic;
};
struct Ticket {
    uint64_t n_atomics = 0;
    std::unordered_map<unsigned, std::vector<Release>> by_block;
};
std::unordered_map<uintptr_t, Ticket> tickets;
// Of the running block: each thread's last fence, its atomics since (address and number), and those before a fence.
struct Acquisition {
    uintptr_t address;
    uint64_t atomic;
    Point fence;
};
unsigned ordered_block = nobody;
std::unordered_map<unsigned, Point> fences;
std::unordered_map<unsigned, std::vector<std::pair<uintptr_t, uint64_t>>> unfenced;
std::vector<Acquisition> acquired;

void enter(unsigned block) {
    if (block == ordered_block) return;
    ordered_block = block;
    fences.clear();
    unfenced.clear();
    acquired.clear();
}

// Whether a ticket orders what a finished block did at `then` before what the running block does at `present`.
bool ticket_orders(const Point& then, const Moment& present) {
    enter(present.block);
    for (const Acquisition& mine : acquired) {
        if (mine.fence.moment.thread != present.thread && mine.fence.moment.barriers >= present.barriers) continue;
        const auto& releases = tickets[mine.address].by_block[then.moment.block];
        for (const Release& release : releases) {
            const Moment& fence = release.fence.moment;
            const bool covers = then.time < release.fence.time &&
                                (fence.thread == then.moment.thread || fence.barriers > then.moment.barriers);
            if (covers && release.atomic < mine.atomic) return true;
        }
    }
    return false;
}

// What has happened to one place. Reads are kept as one representative and how far they spread.
struct History {
    Point write = never;
    Point read = never;
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
bool unordered(const Point& past, const Moment& present, Memory memory, unsigned Moment::* warp_order) {
    const Moment& then = past.moment;
    if (then.block == nobody || (then.block == present.block && then.thread == present.thread)) return false;
    if (then.block != present.block)  // shared memory belongs to one block at a time
        return memory == Memory::global && !ticket_orders(past, present);
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
    const Point here = this_point();
    const Moment& present = here.moment;
    if (watched.memory == Memory::shared && history.write.moment.block != present.block)
        fail("reads byte %zu of %s, shared memory that nothing has been written to", offset, watched.name);
    if (unordered(history.write, present, watched.memory, &Moment::warp_barriers)) report("reads", "wrote", history.write.moment, watched, offset);
    const Moment& read = history.read.moment;
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
    history.read = here;
}

void on_write(Watched& watched, size_t offset) {
    History& history = watched.history[offset];
    const Point here = this_point();
    const Moment& present = here.moment;
    if (unordered(history.write, present, watched.memory, &Moment::warp_barriers)) report("writes", "wrote", history.write.moment, watched, offset);
    const Moment& read = history.read.moment;
    bool races = unordered(history.read, present, watched.memory, &Moment::warp_collectives) || (history.read_by_blocks && watched.memory == Memory::global);
    if (read.block == present.block && read.barriers == present.barriers) {
        const bool same_warp = !history.read_by_warps && read.thread / warp_size == present.thread / warp_size;
        races |= history.read_by_threads && !(same_warp && read.warp_collectives != present.warp_collectives);
    }
    if (races) report("writes", "read", read, watched, offset);
    history.write = here;
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
    tickets.clear();
    enter(nobody);
}

void note_fence() {
    if (!is_running()) return;
    const Point here = this_point();
    enter(here.moment.block);
    for (const auto& [address, atomic] : unfenced[here.moment.thread]) acquired.push_back({address, atomic, here});
    unfenced[here.moment.thread].clear();
    fences.insert_or_assign(here.moment.thread, here);
}

void note_atomic(const void* address) {
    if (!is_running()) return;
    const Moment present = now();
    enter(present.block);
    Ticket& ticket = tickets[reinterpret_cast<uintptr_t>(address)];
    const uint64_t number = ticket.n_atomics++;
    if (const auto fence = fences.find(present.thread); fence != fences.end())
        ticket.by_block[present.block].push_back({fence->second, number});
    unfenced[present.thread].push_back({reinterpret_cast<uintptr_t>(address), number});
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
