// Allocations and copies, with the order of pageable and page-locked memory that CUDA documents ("API synchronization
// behavior" of the runtime's manual): what lies in pageable memory is read before the call returns, what lies in
// page-locked memory some time later; a copy into pageable memory has ended when the call returns.
#include <cstring>
#include <memory>
#include <vector>

#include "api.hpp"

using namespace software_cuda;

EXPORT cudaError_t cudaMalloc(void** out, size_t bytes) {
    ENTER;
    if (const int error = unsafe_call()) return done(error);
    return done(allocate(out, bytes, Kind::device, current_device()));
}
EXPORT cudaError_t cudaMallocManaged(void** out, size_t bytes, unsigned) {
    ENTER;
    if (const int error = unsafe_call()) return done(error);
    return done(allocate(out, bytes, Kind::managed, current_device()));
}
EXPORT cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned) {
    ENTER;
    if (const int error = unsafe_call()) return done(error);
    return done(allocate(out, bytes, Kind::page_locked, current_device()));
}

// Both wait for all that is queued, as the real ones do: nothing that is queued reads what is gone.
EXPORT cudaError_t cudaFree(void* place) {
    ENTER;
    if (!place) return cudaSuccess;
    if (const int error = unsafe_call()) return done(error);
    const auto known = allocation_of(place);
    if (known) drain_device(known->device);
    return done(release(place, true));
}
EXPORT cudaError_t cudaFreeHost(void* place) {
    ENTER;
    if (!place) return cudaSuccess;
    if (const int error = unsafe_call()) return done(error);
    for (int device = 0; device < settings().devices; ++device) drain_device(device);
    return done(release(place, false));
}

EXPORT cudaError_t cudaHostRegister(void* place, size_t bytes, unsigned) {
    ENTER;
    return done(register_pages(place, bytes));
}
EXPORT cudaError_t cudaHostUnregister(void* place) {
    ENTER;
    return done(unregister_pages(place));
}

EXPORT cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
    ENTER;
    *total = settings().bytes;
    *free_bytes = settings().bytes - bytes_in_use(current_device());
    return cudaSuccess;
}

EXPORT cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* place) {
    ENTER;
    void* p = const_cast<void*>(place);
    *out = {};
    const auto known = allocation_of(place);
    out->type = !known                               ? is_page_locked(place) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered
                : known->kind == Kind::page_locked ? cudaMemoryTypeHost
                : known->kind == Kind::device      ? cudaMemoryTypeDevice
                                                   : cudaMemoryTypeManaged;
    out->device = known ? known->device : out->type == cudaMemoryTypeHost ? current_device() : -2;
    out->devicePointer = out->type == cudaMemoryTypeUnregistered ? nullptr : p;
    out->hostPointer = out->type == cudaMemoryTypeDevice ? nullptr : p;
    return cudaSuccess;
}

// ---- copies -----------------------------------------------------------------------------------------------------------

namespace {

struct Side {
    bool of_device, page_locked, inside;
};

Side side_of(const void* place, size_t bytes) {
    const auto known = allocation_of(place);
    const bool of_device = known && known->kind != Kind::page_locked;
    return {of_device, !of_device && is_page_locked(place), !known || known->contains(place, bytes)};
}

// Rows of `width` bytes. A plain copy has one.
struct Copy {
    char* to;
    size_t to_pitch;
    const char* from;
    size_t from_pitch, width, rows;
    size_t to_bytes() const { return to_pitch * (rows - 1) + width; }
    size_t from_bytes() const { return from_pitch * (rows - 1) + width; }
    void run(const char* source) const {
        for (size_t i = 0; i < rows; ++i) memmove(to + i * to_pitch, source + i * from_pitch, width);
    }
};

int copy(const Copy& c, cudaMemcpyKind kind, cudaStream_t handle, bool wait) {
    CUstream_st* stream = resolve(handle);
    if (!stream) return cudaErrorInvalidResourceHandle;
    if (!c.width || !c.rows) return cudaSuccess;
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
    const Side to = side_of(c.to, c.to_bytes()), from = side_of(c.from, c.from_bytes());
    if (!to.inside || !from.inside) return cudaErrorInvalidValue;
    if (kind != cudaMemcpyDefault) {
        const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
        const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
        if (to.of_device != to_device || from.of_device != from_device) return cudaErrorInvalidValue;
    }
    if (stream->capture) {
        if (wait) {
            break_off(stream);
            return cudaErrorStreamCaptureUnsupported;
        }
        return enqueue(handle, "copy", [c] { c.run(c.from); });
    }
    const bool from_pageable = !from.of_device && !from.page_locked, to_pageable = !to.of_device && !to.page_locked;
    if (wait && from_pageable)
        if (const int error = wait_for_stream(stream)) return error;
    int error;
    if (from_pageable && to.of_device) {
        auto staged = std::make_shared<std::vector<char>>(c.from, c.from + c.from_bytes());
        error = enqueue(handle, "copy from pageable memory", [c, staged] { c.run(staged->data()); });
    } else {
        error = enqueue(handle, "copy", [c] { c.run(c.from); });
    }
    if (error) return error;
    const bool ends = to_pageable || (wait && !(to.of_device && (from.of_device || from_pageable)));
    return ends ? wait_for_stream(stream) : cudaSuccess;
}

Copy plain(void* to, const void* from, size_t bytes) {
    return {static_cast<char*>(to), bytes, static_cast<const char*>(from), bytes, bytes, 1};
}
Copy rows(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height) {
    return {static_cast<char*>(to), to_pitch, static_cast<const char*>(from), from_pitch, width, height};
}

}  // namespace

EXPORT cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    ENTER;
    return done(copy(plain(to, from, bytes), kind, nullptr, true));
}
EXPORT cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    ENTER;
    return done(copy(plain(to, from, bytes), kind, stream, false));
}
EXPORT cudaError_t cudaMemcpyPeer(void* to, int, const void* from, int, size_t bytes) {
    ENTER;
    for (int device = 0; device < settings().devices; ++device) drain_device(device);
    return done(copy(plain(to, from, bytes), cudaMemcpyDefault, nullptr, true));
}
EXPORT cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
    ENTER;
    return done(copy(plain(to, from, bytes), cudaMemcpyDefault, stream, false));
}
EXPORT cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                size_t height, cudaMemcpyKind kind) {
    ENTER;
    if (width > to_pitch || width > from_pitch) return done(cudaErrorInvalidPitchValue);
    return done(copy(rows(to, to_pitch, from, from_pitch, width, height), kind, nullptr, true));
}
EXPORT cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                     size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
    ENTER;
    if (width > to_pitch || width > from_pitch) return done(cudaErrorInvalidPitchValue);
    return done(copy(rows(to, to_pitch, from, from_pitch, width, height), kind, stream, false));
}

EXPORT cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
    ENTER;
    const auto known = allocation_of(to);
    if (bytes && (!known || !known->contains(to, bytes))) return done(cudaErrorInvalidValue);
    return done(enqueue(stream, "memset", [=] { memset(to, value, bytes); }));
}
EXPORT cudaError_t cudaMemset(void* to, int value, size_t bytes) { return cudaMemsetAsync(to, value, bytes, nullptr); }

// ---- allocation in the order of a stream --------------------------------------------------------------------------------

EXPORT cudaError_t cudaMallocAsync(void** out, size_t bytes, cudaStream_t) {
    ENTER;
    return done(allocate(out, bytes, Kind::device, current_device()));
}
EXPORT cudaError_t cudaMallocFromPoolAsync(void** out, size_t bytes, cudaMemPool_t, cudaStream_t) {
    ENTER;
    return done(allocate(out, bytes, Kind::device, current_device()));
}
EXPORT cudaError_t cudaFreeAsync(void* place, cudaStream_t stream) {
    ENTER;
    if (!allocation_of(place)) return done(cudaErrorInvalidValue);
    return done(enqueue(stream, "free", [place] { release(place, true); }));
}
EXPORT cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
    ENTER;
    if (device < 0 || device >= settings().devices) return done(cudaErrorInvalidDevice);
    static char pools[64];  // memory goes back at once, so that a pool is no more than its address
    *pool = reinterpret_cast<cudaMemPool_t>(&pools[device]);
    return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) { return cudaDeviceGetDefaultMemPool(pool, device); }
EXPORT cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }
