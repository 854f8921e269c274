// In place of the header of this name, which is for nvcc: the C interface, and the few helpers that CuPy calls.
#pragma once
#include <cuda_runtime_api.h>
#include <driver_functions.h>
