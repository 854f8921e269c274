// Memory of the devices, and page-locked memory of the host, each allocation between inaccessible stretches of addresses.
#pragma once
#include <cstddef>
#include <optional>

namespace software_cuda {

enum class Kind { page_locked, device, managed };

struct Allocation {
    char* begin;
    size_t bytes;     // as asked for
    size_t rounded;   // what may be touched: CUDA's allocations, too, end at a multiple of 512
    Kind kind;
    int device;       // that it lies on, or that was current
    char* map;
    size_t map_bytes;
    bool contains(const void* place, size_t n_bytes) const {
        const char* p = static_cast<const char*>(place);
        return p >= begin && p + n_bytes <= begin + rounded;
    }
};

// All of these expect the driver's lock to be held.
int allocate(void** out, size_t bytes, Kind kind, int device);
int release(void* place, bool of_device);
std::optional<Allocation> allocation_of(const void* place);
bool is_page_locked(const void* place);
int register_pages(void* place, size_t bytes);
int unregister_pages(void* place);
size_t bytes_in_use(int device);

}  // namespace software_cuda
