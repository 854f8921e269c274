// What a software device is like; each is an environment variable, read when the driver is loaded.
#pragma once
#include <cstddef>
#include <cstdint>

namespace software_cuda {

// When queued work is done. late: when somebody waits for it, and no earlier, which shows every missing wait. random:
// at some of the calls in between as well, as a seed has it. eager: at once.
enum class Execution { late, random, eager };

struct Settings {
    Execution execution;         // SOFTWARE_CUDA_EXECUTION
    uint64_t seed;               // SOFTWARE_CUDA_SEED
    int devices;                 // SOFTWARE_CUDA_DEVICES
    size_t bytes;                // SOFTWARE_CUDA_MEMORY_MIB: of each device
    int compute_capability;      // SOFTWARE_CUDA_COMPUTE_CAPABILITY: 80 is 8.0
    int driver_version;          // SOFTWARE_CUDA_DRIVER: 12090 is CUDA 12.9; 0: no driver answers
    bool log;                    // SOFTWARE_CUDA_LOG: every call and every piece of work, to standard error
};

const Settings& settings();

void log(const char* format, ...) __attribute__((format(printf, 1, 2)));

uint64_t random_number();

}  // namespace software_cuda
