// The driver's own interface: contexts, modules, launches; and what the libraries above the driver call.
#include <cuda.h>
#include <dlfcn.h>

#include <cstring>

#include "api.hpp"
#include "modules.hpp"

using namespace software_cuda;

namespace {
CUresult answer(int code) { return static_cast<CUresult>(code); }
}  // namespace

#define ENTER_DRIVER                                                  \
    if (const int why = software_cuda::refusal()) return answer(why); \
    const software_cuda::Locked locked

EXPORT CUresult cuInit(unsigned) { return answer(refusal()); }
EXPORT CUresult cuDriverGetVersion(int* version) {
    *version = settings().driver_version;
    return CUDA_SUCCESS;
}

// A device has one context, its primary one.
EXPORT CUresult cuCtxGetCurrent(CUcontext* context) {
    ENTER_DRIVER;
    static char contexts[64];
    *context = reinterpret_cast<CUcontext>(&contexts[current_device()]);
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxSetCurrent(CUcontext) { return answer(refusal()); }
EXPORT CUresult cuCtxGetDevice(CUdevice* device) {
    ENTER_DRIVER;
    *device = current_device();
    return CUDA_SUCCESS;
}
EXPORT CUresult cuStreamGetCtx(CUstream, CUcontext* context) { return cuCtxGetCurrent(context); }
EXPORT CUresult cuDevicePrimaryCtxRelease(CUdevice) { return answer(refusal()); }

EXPORT CUresult cuModuleLoadData(CUmodule* out, const void* image) {
    ENTER_DRIVER;
    return answer(load_module(out, image));
}
EXPORT CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }  // kept: whoever loads it again gets the same one
EXPORT CUresult cuModuleGetFunction(CUfunction* out, CUmodule module, const char* name) {
    ENTER_DRIVER;
    return answer(function_of(out, module, name));
}
EXPORT CUresult cuModuleGetGlobal(CUdeviceptr* place, size_t* bytes, CUmodule module, const char* name) {
    ENTER_DRIVER;
    void* found = module ? dlsym(module->library, name) : nullptr;
    if (place) *place = reinterpret_cast<CUdeviceptr>(found);
    if (bytes) *bytes = 0;
    return found ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

// The kernels here have one dimension; another is refused rather than run wrong.
EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid, unsigned grid_y, unsigned grid_z, unsigned block,
                               unsigned block_y, unsigned block_z, unsigned shared, CUstream stream, void** parameters,
                               void** extra) {
    ENTER_DRIVER;
    if (grid_y != 1 || grid_z != 1 || block_y != 1 || block_z != 1 || extra) return CUDA_ERROR_NOT_SUPPORTED;
    return answer(launch(function, grid, block, shared, stream, parameters));
}

EXPORT CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
    ENTER_DRIVER;
    switch (attribute) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
        case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = static_cast<int>(static_shared(*function)); break;
        case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = 0; break;
        case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;
        case CU_FUNC_ATTRIBUTE_PTX_VERSION: case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = settings().compute_capability; break;
        case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA: *value = 0; break;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = function->dynamic_shared; break;
        case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = -1; break;
        default: return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    ENTER_DRIVER;
    if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) return CUDA_SUCCESS;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_ERROR_INVALID_VALUE;
    if (value < 0 || value + static_cast<int>(static_shared(*function)) > most_dynamic_shared()) return CUDA_ERROR_INVALID_VALUE;
    function->dynamic_shared = value;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction, int block, size_t) {
    ENTER_DRIVER;
    *blocks = block > 0 ? 2048 / block : 0;
    return CUDA_SUCCESS;
}
EXPORT CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction, CUoccupancyB2DSize, size_t, int) {
    ENTER_DRIVER;
    *grid = 4;
    *block = 256;
    return CUDA_SUCCESS;
}

// ---- for cuBLAS, and for tests ------------------------------------------------------------------------------------------

// Queue `work(argument)`; `forget(argument)` is called when nobody will run it again.
EXPORT int software_cuda_enqueue(CUstream stream, const char* what, void (*work)(void*), void* argument,
                                 void (*forget)(void*)) {
    const std::shared_ptr<void> kept(argument, forget);
    if (const int why = refusal()) return why;
    const Locked locked;
    return enqueue(stream, what, [work, kept] { work(kept.get()); });
}
// Do all that is queued on any device. What a test leaves behind is its own, and no later wait's.
EXPORT void software_cuda_finish() {
    const Locked locked;
    for (int device = 0; device < settings().devices; ++device) drain_device(device);
}
EXPORT const char* software_cuda_fault() {
    static std::string text;
    const Locked locked;
    text = last_fault();
    return text.c_str();
}
EXPORT void software_cuda_forget_fault() {
    const Locked locked;
    forget_fault();
}
