#pragma once  // cuda_on_cpu.hpp, included before every kernel, has the 16-bit types
