// Before a kernel that CuPy itself has generated: the 16-bit types as CuPy's headers want them, and those headers.
#pragma once
#include "cuda_on_cpu.hpp"

struct __half_raw {
    unsigned short x;
};
struct half {
    unsigned short code;
    half() = default;
    half(float v) : code(__half(v).code) {}
    explicit half(double v) : code(__half(v).code) {}
    explicit half(bool v) : half(static_cast<float>(v)) {}
    explicit half(int v) : half(static_cast<float>(v)) {}
    explicit half(unsigned v) : half(static_cast<float>(v)) {}
    explicit half(long long v) : half(static_cast<float>(v)) {}
    explicit half(unsigned long long v) : half(static_cast<float>(v)) {}
    half(const __half_raw& v) : code(v.x) {}
    operator float() const { return cuda_on_cpu::widened<5, 10>(code); }
    operator __half_raw() const { return {code}; }
};
inline unsigned short __half_as_ushort(half x) { return x.code; }
inline half __ushort_as_half(unsigned short code) { return half(__half_raw{code}); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.code; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short code) {
    __nv_bfloat16 x;
    x.code = code;
    return x;
}
inline bool operator==(__nv_bfloat16 a, __nv_bfloat16 b) { return static_cast<float>(a) == static_cast<float>(b); }
inline bool __hisnan(__nv_bfloat16 x) { return std::isnan(static_cast<float>(x)); }
inline int __hisinf(__nv_bfloat16 x) { return std::isinf(static_cast<float>(x)); }

#define __CUDACC_VER_MAJOR__ 12  // so that float16.cuh takes `half` from here
#include <cupy/float16.cuh>
#undef __CUDACC_VER_MAJOR__
