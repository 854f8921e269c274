// What every function of the runtime's interface begins and ends with. Its prototypes are NVIDIA's own: a signature that
// differs does not compile.
#pragma once
#include <cuda_runtime_api.h>

#include "memory.hpp"
#include "queue.hpp"
#include "settings.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

// Returns where the devices cannot be used; then holds the driver's lock to the end of the function.
#define ENTER                                                  \
    if (const int why = software_cuda::refusal()) return done(why); \
    const software_cuda::Locked locked

inline cudaError_t done(int code) { return static_cast<cudaError_t>(software_cuda::result(code)); }
