#include "memory.hpp"

#include <cuda_runtime_api.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "settings.hpp"

namespace software_cuda {
namespace {

std::map<char*, Allocation> allocations;
std::map<char*, size_t> registered;
size_t in_use[64];

constexpr size_t granularity = 512;
constexpr size_t guard_bytes = size_t{64} << 20;   // on either side: address space only, no memory
constexpr size_t poisoned_bytes = size_t{64} << 20;

size_t rounded_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

}  // namespace

// An allocation ends where the inaccessible stretch begins. What it holds at first is a NaN in every floating type and
// −1 in every signed one: nobody's lucky zero.
int allocate(void** out, size_t bytes, Kind kind, int device) {
    if (!out) return cudaErrorInvalidValue;
    *out = nullptr;
    if (bytes == 0) return cudaSuccess;
    const bool of_device = kind == Kind::device;
    if (of_device && (bytes > settings().bytes || in_use[device] > settings().bytes - bytes)) return cudaErrorMemoryAllocation;
    static const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t rounded = rounded_up(bytes, granularity), inner = rounded_up(rounded, page);
    const size_t map_bytes = inner + 2 * guard_bytes;
    void* map = mmap(nullptr, map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) return cudaErrorMemoryAllocation;
    char* pages = static_cast<char*>(map) + guard_bytes;
    if (mprotect(pages, inner, PROT_READ | PROT_WRITE)) {
        munmap(map, map_bytes);
        return cudaErrorMemoryAllocation;
    }
    char* begin = pages + inner - rounded;
    memset(begin, 0xFF, std::min(rounded, poisoned_bytes));
    allocations[begin] = {begin, bytes, rounded, kind, device, static_cast<char*>(map), map_bytes};
    if (of_device) in_use[device] += bytes;
    *out = begin;
    return cudaSuccess;
}

int release(void* place, bool of_device) {
    const auto found = allocations.find(static_cast<char*>(place));
    if (found == allocations.end() || (found->second.kind != Kind::page_locked) != of_device) return cudaErrorInvalidValue;
    const Allocation& known = found->second;
    if (known.kind == Kind::device) in_use[known.device] -= known.bytes;
    munmap(known.map, known.map_bytes);
    allocations.erase(found);
    return cudaSuccess;
}

std::optional<Allocation> allocation_of(const void* place) {
    char* p = static_cast<char*>(const_cast<void*>(place));
    auto next = allocations.upper_bound(p);
    if (next == allocations.begin()) return std::nullopt;
    const Allocation& before = std::prev(next)->second;
    if (p >= before.begin + before.rounded) return std::nullopt;
    return before;
}

bool is_page_locked(const void* place) {
    if (allocation_of(place)) return true;
    char* p = static_cast<char*>(const_cast<void*>(place));
    auto next = registered.upper_bound(p);
    if (next == registered.begin()) return false;
    const auto& [begin, bytes] = *std::prev(next);
    return p < begin + bytes;
}

int register_pages(void* place, size_t bytes) {
    if (!place || !bytes) return cudaErrorInvalidValue;
    if (is_page_locked(place)) return cudaErrorHostMemoryAlreadyRegistered;
    registered[static_cast<char*>(place)] = bytes;
    return cudaSuccess;
}

int unregister_pages(void* place) {
    return registered.erase(static_cast<char*>(place)) ? cudaSuccess : cudaErrorHostMemoryNotRegistered;
}

size_t bytes_in_use(int device) { return in_use[device]; }

}  // namespace software_cuda
