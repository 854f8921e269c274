// What CuPy links to and nobody here needs: refused, and said so. The calls between processes (cudaIpc…) belong to training
// over several processes; whoever writes that finds device memory made in one place, memory.cpp.
#include <cuda.h>

#include "api.hpp"

#define REFUSED(name)                                                                              \
    extern "C" __attribute__((visibility("default"))) int refused_##name() __asm__(#name); \
    int refused_##name() {                                                                         \
        software_cuda::log("%s is not supported", #name);                                          \
        return software_cuda::result(cudaErrorNotSupported);                                       \
    }

REFUSED(cudaIpcCloseMemHandle)
REFUSED(cudaIpcGetEventHandle)
REFUSED(cudaIpcGetMemHandle)
REFUSED(cudaIpcOpenEventHandle)
REFUSED(cudaIpcOpenMemHandle)
REFUSED(cudaDeviceGetLimit)
REFUSED(cudaDeviceSetLimit)
REFUSED(cudaDeviceSetMemPool)
REFUSED(cudaMemPoolCreate)
REFUSED(cudaMemPoolDestroy)
REFUSED(cudaMemPoolGetAttribute)
REFUSED(cudaMemPoolSetAttribute)
REFUSED(cudaMemPrefetchAsync)
REFUSED(cudaMemAdvise)
REFUSED(cudaMalloc3DArray)
REFUSED(cudaMallocArray)
REFUSED(cudaFreeArray)
REFUSED(cudaMemcpy2DFromArray)
REFUSED(cudaMemcpy2DFromArrayAsync)
REFUSED(cudaMemcpy2DToArray)
REFUSED(cudaMemcpy2DToArrayAsync)
REFUSED(cudaMemcpy3D)
REFUSED(cudaMemcpy3DAsync)
REFUSED(cudaCreateTextureObject)
REFUSED(cudaDestroyTextureObject)
REFUSED(cudaGetChannelDesc)
REFUSED(cudaGetTextureObjectResourceDesc)
REFUSED(cudaGetTextureObjectTextureDesc)
REFUSED(cudaCreateSurfaceObject)
REFUSED(cudaDestroySurfaceObject)
REFUSED(cuLinkCreate_v2)
REFUSED(cuLinkAddData_v2)
REFUSED(cuLinkAddFile_v2)
REFUSED(cuLinkComplete)
REFUSED(cuLinkDestroy)
REFUSED(cuModuleLoad)
REFUSED(cuLaunchCooperativeKernel)
REFUSED(cuCtxCreate_v2)
REFUSED(cuCtxDestroy_v2)
