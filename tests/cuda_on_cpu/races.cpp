#include "races.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <vector>

namespace cuda_on_cpu {
namespace {

constexpr unsigned nobody = ~0u;
constexpr unsigned warp_size = 32;

// What one thread does from one event that may order it (it is resumed, its warp's collective is complete, a fence) to
// the next is a segment: all accesses in it are ordered alike. Segments have numbers that grow from launch to launch, so
// that what an earlier launch left in the histories needs no clearing: it is smaller than the first number of this one.
constexpr uint32_t last_segment = (1u << 29) - 1;
uint32_t first_segment = 1;    // of this launch
uint32_t next_segment = 1;
uint32_t segment = 0;          // the running thread's; 0 until it is asked for
std::vector<Moment> segments;  // of this launch, from first_segment on

const Moment& moment_of(uint32_t number) { return segments[number - first_segment]; }
bool is_known(uint32_t number) { return number >= first_segment; }

uint32_t this_segment() {
    if (segment == 0) {
        if (next_segment == last_segment) fail("is resumed more often in this launch than races can be looked for");
        segments.push_back(now());
        segment = next_segment++;
    }
    return segment;
}

// A point in one thread's program. Blocks run one after another, so segments order what happens in the whole launch.
struct Point {
    Moment moment;
    uint32_t time;
};
Point this_point() {
    const uint32_t time = this_segment();
    return {moment_of(time), time};
}

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

// What has happened to one place, as numbers of segments. Reads are kept as one representative and how far they spread.
struct History {
    uint32_t write;
    uint32_t read : 29;
    uint32_t read_by_threads : 1, read_by_warps : 1, read_by_blocks : 1;  // by more than one
};
static_assert(sizeof(History) == 8);

struct Watched {
    uintptr_t begin, end;
    Memory memory;
    History* history;  // by byte; an access is noted at its first byte and every second one after it
    const char* name;
};

std::vector<Watched> all_watched;
constexpr size_t n_recent = 64;
Watched* recent[n_recent];  // by page: where the last access to it was found

// The histories' memory, used by one launch after the other. It begins as zeros: segments that no launch has.
constexpr size_t kept_bytes = size_t{16} << 20;
char* histories = nullptr;
size_t histories_bytes = 0, histories_used = 0;

uintptr_t private_begin = 0, private_bytes = 0;

Watched* find(uintptr_t address) {
    if (address - private_begin < private_bytes) return nullptr;  // most accesses that concern nobody else
    Watched*& last = recent[address >> 12 & (n_recent - 1)];
    if (last && address >= last->begin && address < last->end) return last;
    for (Watched& watched : all_watched)
        if (address >= watched.begin && address < watched.end) return last = &watched;
    return nullptr;
}

// Whether nothing orders an access in the segment `past` before one at `present`, by another thread.
bool unordered(uint32_t past, const Moment& present, Memory memory, unsigned Moment::* warp_order) {
    if (!is_known(past)) return false;
    const Moment& then = moment_of(past);
    if (then.block != present.block)  // shared memory belongs to one block at a time
        return memory == Memory::global && !ticket_orders({then, past}, present);
    if (then.thread == present.thread || then.barriers != present.barriers) return false;
    return then.thread / warp_size != present.thread / warp_size || then.*warp_order == present.*warp_order;
}

[[noreturn]] void report(const char* present, const char* past, const Moment& then, const Watched& watched, size_t offset) {
    if (then.block == now().block)
        fail("%s byte %zu of %s, which thread %u of the same block %s with no barrier between", present, offset, watched.name,
             then.thread, past);
    fail("%s byte %zu of %s, which thread %u of block %u %s in the same launch", present, offset, watched.name, then.thread,
         then.block, past);
}

void on_read(Watched& watched, size_t offset, uint32_t here, const Moment& present) {
    History& history = watched.history[offset];
    if (history.read == here) return;  // and nobody else has run since
    if (watched.memory == Memory::shared && !(is_known(history.write) && moment_of(history.write).block == present.block))
        fail("reads byte %zu of %s, shared memory that nothing has been written to", offset, watched.name);
    if (unordered(history.write, present, watched.memory, &Moment::warp_barriers))
        report("reads", "wrote", moment_of(history.write), watched, offset);
    const bool was_read = is_known(history.read);
    const Moment read = was_read ? moment_of(history.read) : Moment{nobody, 0, 0, 0, 0};
    const bool same_warp = (!was_read || !history.read_by_warps) && read.thread / warp_size == present.thread / warp_size;
    if (was_read && read.block != present.block) {
        history.read_by_blocks = true;
        history.read_by_threads = history.read_by_warps = false;
    } else if (!was_read || read.barriers != present.barriers) {
        history.read_by_threads = history.read_by_warps = false;
        if (!was_read) history.read_by_blocks = false;
    } else if (same_warp && read.warp_collectives != present.warp_collectives) {
        history.read_by_threads = false;  // the warp's earlier reads come before any write that it makes from now on
    } else {
        history.read_by_threads |= read.thread != present.thread;
        history.read_by_warps |= !same_warp;
    }
    history.read = here;
}

void on_write(Watched& watched, size_t offset, uint32_t here, const Moment& present) {
    History& history = watched.history[offset];
    if (history.write == here) return;  // and nobody else has run since
    if (unordered(history.write, present, watched.memory, &Moment::warp_barriers))
        report("writes", "wrote", moment_of(history.write), watched, offset);
    if (is_known(history.read)) {
        const Moment& read = moment_of(history.read);
        bool races = unordered(history.read, present, watched.memory, &Moment::warp_collectives) ||
                     (history.read_by_blocks && watched.memory == Memory::global);
        if (read.block == present.block && read.barriers == present.barriers) {
            const bool same_warp = !history.read_by_warps && read.thread / warp_size == present.thread / warp_size;
            races |= history.read_by_threads && !(same_warp && read.warp_collectives != present.warp_collectives);
        }
        if (races) report("writes", "read", read, watched, offset);
    }
    history.write = here;
}

uint64_t bits(const History& history) {
    uint64_t packed;
    memcpy(&packed, &history, sizeof packed);
    return packed;
}

template <void (*note)(Watched&, size_t, uint32_t, const Moment&)> void access(const void* address, size_t bytes) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(address);
    Watched* watched = find(begin);  // there are none unless a launch is under way
    if (!watched) return;
    const uint32_t here = this_segment();
    const Moment& present = segments.back();
    const size_t offset = begin - watched->begin, n = std::min<size_t>(bytes, watched->end - begin);
    History* places = watched->history + offset;
    const uint64_t before = bits(places[0]);
    note(*watched, offset, here, present);
    for (size_t i = 2; i < n; i += 2)
        if (bits(places[i]) == before)  // what has the same history gets the same answer
            places[i] = places[0];
        else
            note(*watched, offset + i, here, present);
}

}  // namespace

bool reserve(size_t bytes, const void* stacks, size_t stacks_bytes) {
    private_begin = reinterpret_cast<uintptr_t>(stacks);
    private_bytes = stacks_bytes;
    histories_used = 0;
    const size_t needed = bytes * sizeof(History);
    if (next_segment > last_segment / 2) {  // numbers begin anew, and so do the histories
        first_segment = next_segment = 1;
        if (histories) munmap(histories, histories_bytes);
        histories = nullptr;
        histories_bytes = 0;
    }
    if (needed <= histories_bytes) return true;
    if (histories) munmap(histories, histories_bytes);
    histories_bytes = std::max(needed, 2 * histories_bytes);
    void* map = mmap(nullptr, histories_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    histories = map == MAP_FAILED ? nullptr : static_cast<char*>(map);
    if (!histories) histories_bytes = 0;
    return histories != nullptr;
}

void watch(const char* name, const void* begin, size_t bytes, Memory memory) {
    if (!bytes) return;
    const uintptr_t address = reinterpret_cast<uintptr_t>(begin);
    all_watched.push_back({address, address + bytes, memory, reinterpret_cast<History*>(histories + histories_used), name});
    histories_used += bytes * sizeof(History);
}

void begin_segment() { segment = 0; }

void forget_all() {
    all_watched.clear();
    std::fill(recent, recent + n_recent, nullptr);
    tickets.clear();
    enter(nobody);
    segments.clear();
    segment = 0;
    first_segment = next_segment;
    if (histories_used > kept_bytes) madvise(histories, histories_bytes, MADV_DONTNEED);
}

void note_fence() {
    if (!is_running()) return;
    begin_segment();
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
