// Images of compiled kernels, and their launches.
#pragma once
#include <cuda.h>

#include <cstddef>
#include <string>
#include <vector>

#include "scheduler.hpp"  // of CUDA on the CPU

struct CUmod_st {
    void* library = nullptr;
    int (*launch)(const cuda_on_cpu::Launch*, char*, size_t) = nullptr;
    const cuda_on_cpu::Entry* entries = nullptr;
    const char* const* names = nullptr;
    const char* const* kinds = nullptr;  // of the parameters: p for a pointer, v for a value
    size_t n_entries = 0;
    std::vector<std::string> shared_names;
    std::vector<cuda_on_cpu::SharedArray> shared;
};

struct CUfunc_st {
    CUmodule module = nullptr;
    size_t entry = 0;
    int dynamic_shared = 48 * 1024;      // the most that a launch may ask for
};

namespace software_cuda {

int load_module(CUmodule* out, const void* image);
int function_of(CUfunction* out, CUmodule module, const char* name);
int launch(CUfunction function, unsigned grid, unsigned block, unsigned shared, CUstream stream, void** parameters);
size_t static_shared(const CUfunc_st& function);
int most_dynamic_shared();

}  // namespace software_cuda
