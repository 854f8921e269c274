// The part of CUDA C++ that this project's kernels use, for a host C++ compiler: included before a kernel's text.
//
// Vector types, intrinsics, 16-bit floating types with correctly rounded conversions, atomics, and the barriers and
// warp collectives of scheduler.hpp. A name that is missing here is a compile error, never a silent no-op.
#pragma once

#include <math.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "scheduler.hpp"

// ---- vector types -------------------------------------------------------------------------------------------------

#define CUDA_ON_CPU_VECTOR(T, name, bytes2, bytes4)                              \
    struct alignas(bytes2) name##2 { T x, y; };                                  \
    struct name##3 { T x, y, z; };                                               \
    struct alignas(bytes4) name##4 { T x, y, z, w; };                            \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                   \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }           \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDA_ON_CPU_VECTOR(signed char, char, 2, 4)
CUDA_ON_CPU_VECTOR(unsigned char, uchar, 2, 4)
CUDA_ON_CPU_VECTOR(short, short, 4, 8)
CUDA_ON_CPU_VECTOR(unsigned short, ushort, 4, 8)
CUDA_ON_CPU_VECTOR(int, int, 8, 16)
CUDA_ON_CPU_VECTOR(unsigned, uint, 8, 16)
CUDA_ON_CPU_VECTOR(long long, longlong, 16, 16)
CUDA_ON_CPU_VECTOR(unsigned long long, ulonglong, 16, 16)
CUDA_ON_CPU_VECTOR(float, float, 8, 16)
CUDA_ON_CPU_VECTOR(double, double, 16, 16)
#undef CUDA_ON_CPU_VECTOR

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

// ---- bits ---------------------------------------------------------------------------------------------------------

namespace cuda_on_cpu {
template <typename To, typename From> To bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

// The nearest value with `mantissa` bits after the leading one and exponents down to `min_exponent`, ties to even;
// as bits of a format with `exponent` exponent bits. From double, so that float and double both round once.
template <int exponent, int mantissa> uint16_t rounded_bits(double value) {
    constexpr int bias = (1 << (exponent - 1)) - 1, min_exponent = 1 - bias;
    const uint16_t sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
    constexpr uint16_t infinity = static_cast<uint16_t>(((1 << exponent) - 1) << mantissa);
    if (std::isnan(value)) return 0x7FFF;
    if (std::isinf(value)) return sign | infinity;
    if (value == 0) return sign;
    const double magnitude = std::fabs(value);
    const int e = std::max(std::ilogb(magnitude), min_exponent);
    const double scaled = std::nearbyint(std::ldexp(magnitude, mantissa - e));  // exact scaling, then one rounding
    // `scaled` counts units of 2^(e − mantissa). Adding it to the biased exponent carries into it where it must.
    const uint32_t whole = static_cast<uint32_t>(scaled);
    const uint32_t implicit = 1u << mantissa;
    const uint32_t encoded = whole < implicit ? whole : (static_cast<uint32_t>(e + bias) << mantissa) + (whole - implicit);
    return static_cast<uint16_t>(sign | std::min<uint32_t>(encoded, infinity));
}
template <int exponent, int mantissa> float widened(uint16_t code) {
    constexpr int bias = (1 << (exponent - 1)) - 1;
    const int e = code >> mantissa & ((1 << exponent) - 1), fraction = code & ((1 << mantissa) - 1);
    float magnitude;
    if (e == (1 << exponent) - 1)
        magnitude = fraction ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
    else if (e == 0)
        magnitude = std::ldexp(static_cast<float>(fraction), 1 - bias - mantissa);
    else
        magnitude = std::ldexp(static_cast<float>(fraction + (1 << mantissa)), e - bias - mantissa);
    return code & 0x8000 ? -magnitude : magnitude;
}
}  // namespace cuda_on_cpu

inline int __float_as_int(float x) { return cuda_on_cpu::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return cuda_on_cpu::bits<unsigned>(x); }
inline float __int_as_float(int x) { return cuda_on_cpu::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return cuda_on_cpu::bits<float>(x); }
inline long long __double_as_longlong(double x) { return cuda_on_cpu::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return cuda_on_cpu::bits<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}

// ---- 16-bit floating types ----------------------------------------------------------------------------------------
// Only what the kernels may use of them: storage and conversions. Arithmetic happens in float.

struct __half {
    unsigned short code;
    __half() = default;
    explicit __half(float value) : code(cuda_on_cpu::rounded_bits<5, 10>(value)) {}
    explicit __half(double value) : code(cuda_on_cpu::rounded_bits<5, 10>(value)) {}
    explicit operator float() const { return cuda_on_cpu::widened<5, 10>(code); }
};
struct __nv_bfloat16 {
    unsigned short code;
    __nv_bfloat16() = default;
    explicit __nv_bfloat16(float value) : code(cuda_on_cpu::rounded_bits<8, 7>(value)) {}
    explicit __nv_bfloat16(double value) : code(cuda_on_cpu::rounded_bits<8, 7>(value)) {}
    explicit operator float() const { return __uint_as_float(static_cast<unsigned>(code) << 16); }
};
struct alignas(4) __half2 { __half x, y; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
inline float __half2float(__half x) { return static_cast<float>(x); }
inline __half __float2half_rn(float x) { return __half(x); }
inline __half __float2half(float x) { return __half(x); }
inline __half __double2half(double x) { return __half(x); }
inline float __bfloat162float(__nv_bfloat16 x) { return static_cast<float>(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __double2bfloat16(double x) { return __nv_bfloat16(x); }

// ---- arithmetic ---------------------------------------------------------------------------------------------------

inline float rsqrtf(float x) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x))); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
inline float normcdff(float x) { return 0.5f * erfcf(-x * 0.70710678118654752f); }
inline double normcdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752); }
using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

#define CUDA_ON_CPU_MIN_MAX(T)                            \
    inline T min(T a, T b) { return b < a ? b : a; }      \
    inline T max(T a, T b) { return a < b ? b : a; }
CUDA_ON_CPU_MIN_MAX(int)
CUDA_ON_CPU_MIN_MAX(unsigned)
CUDA_ON_CPU_MIN_MAX(long)
CUDA_ON_CPU_MIN_MAX(unsigned long)
CUDA_ON_CPU_MIN_MAX(long long)
CUDA_ON_CPU_MIN_MAX(unsigned long long)
#undef CUDA_ON_CPU_MIN_MAX
// As on the device: a NaN loses against a number.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

// ---- memory -------------------------------------------------------------------------------------------------------

template <typename T> T __ldg(const T* address) { return *address; }
template <typename T> T __ldcs(const T* address) { return *address; }
template <typename T> T __ldcg(const T* address) { return *address; }
template <typename T> void __stcs(T* address, T value) { *address = value; }
template <typename T> void __stcg(T* address, T value) { *address = value; }
template <typename T> void __stwb(T* address, T value) { *address = value; }
inline void __threadfence() { cuda_on_cpu::note_fence(); }
inline void __threadfence_block() {}

// The threads of the emulation take turns on one CPU thread and are never interrupted: plain updates are atomic.
namespace cuda_on_cpu {
template <typename T, typename Update> __attribute__((no_sanitize("thread"))) T updated(T* address, Update update) {
    note_atomic(address);
    const T old = *address;
    *address = update(old);
    return old;
}
}  // namespace cuda_on_cpu
#define CUDA_ON_CPU_ATOMIC(name, T, expression)                                           \
    inline T name(T* address, T value) {                                                  \
        return cuda_on_cpu::updated(address, [value](T old) -> T { return expression; }); \
    }
#define CUDA_ON_CPU_INTEGER_ATOMICS(T)                            \
    CUDA_ON_CPU_ATOMIC(atomicAdd, T, old + value)                 \
    CUDA_ON_CPU_ATOMIC(atomicMin, T, value < old ? value : old)   \
    CUDA_ON_CPU_ATOMIC(atomicMax, T, old < value ? value : old)   \
    CUDA_ON_CPU_ATOMIC(atomicAnd, T, old & value)                 \
    CUDA_ON_CPU_ATOMIC(atomicOr, T, old | value)                  \
    CUDA_ON_CPU_ATOMIC(atomicXor, T, old ^ value)                 \
    CUDA_ON_CPU_ATOMIC(atomicExch, T, (static_cast<void>(old), value)) \
    inline T atomicCAS(T* address, T compare, T value) {          \
        return cuda_on_cpu::updated(address, [=](T old) { return old == compare ? value : old; }); \
    }
CUDA_ON_CPU_INTEGER_ATOMICS(int)
CUDA_ON_CPU_INTEGER_ATOMICS(unsigned)
CUDA_ON_CPU_INTEGER_ATOMICS(unsigned long long)
CUDA_ON_CPU_ATOMIC(atomicAdd, float, old + value)
CUDA_ON_CPU_ATOMIC(atomicAdd, double, old + value)
CUDA_ON_CPU_ATOMIC(atomicExch, float, (static_cast<void>(old), value))
#undef CUDA_ON_CPU_INTEGER_ATOMICS
#undef CUDA_ON_CPU_ATOMIC

// ---- barriers and warp collectives --------------------------------------------------------------------------------
// The default arguments are the place of the call.

#define CUDA_ON_CPU_HERE const char* file = __builtin_FILE(), int line = __builtin_LINE()
constexpr int warpSize = 32;
inline void __syncthreads(CUDA_ON_CPU_HERE) { cuda_on_cpu::block_barrier(cuda_on_cpu::Vote::none, 0, file, line); }
inline int __syncthreads_count(int predicate, CUDA_ON_CPU_HERE) {
    return cuda_on_cpu::block_barrier(cuda_on_cpu::Vote::count, predicate, file, line);
}
inline int __syncthreads_and(int predicate, CUDA_ON_CPU_HERE) {
    return cuda_on_cpu::block_barrier(cuda_on_cpu::Vote::conjunction, predicate, file, line);
}
inline int __syncthreads_or(int predicate, CUDA_ON_CPU_HERE) {
    return cuda_on_cpu::block_barrier(cuda_on_cpu::Vote::disjunction, predicate, file, line);
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, CUDA_ON_CPU_HERE) {
    cuda_on_cpu::warp_collective(cuda_on_cpu::Collective::sync, mask, 0, 0, 32, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_ON_CPU_HERE) {
    return static_cast<unsigned>(
        cuda_on_cpu::warp_collective(cuda_on_cpu::Collective::ballot, mask, predicate != 0, 0, 32, file, line));
}
inline int __any_sync(unsigned mask, int predicate, CUDA_ON_CPU_HERE) {
    return static_cast<int>(
        cuda_on_cpu::warp_collective(cuda_on_cpu::Collective::any, mask, predicate != 0, 0, 32, file, line));
}
inline int __all_sync(unsigned mask, int predicate, CUDA_ON_CPU_HERE) {
    return static_cast<int>(
        cuda_on_cpu::warp_collective(cuda_on_cpu::Collective::all, mask, predicate != 0, 0, 32, file, line));
}
namespace cuda_on_cpu {
template <typename T>
T exchange(Collective kind, unsigned mask, T value, int operand, int width, const char* file, int line) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "a shuffle moves up to eight bytes");
    uint64_t packed = 0;
    memcpy(&packed, &value, sizeof value);
    packed = warp_collective(kind, mask, packed, operand, width, file, line);
    memcpy(&value, &packed, sizeof value);
    return value;
}
}  // namespace cuda_on_cpu
#define CUDA_ON_CPU_SHUFFLE(name, kind)                                                                   \
    template <typename T> T name(unsigned mask, T value, int operand, int width = 32, CUDA_ON_CPU_HERE) { \
        return cuda_on_cpu::exchange(cuda_on_cpu::Collective::kind, mask, value, operand, width, file, line); \
    }
CUDA_ON_CPU_SHUFFLE(__shfl_sync, shuffle)
CUDA_ON_CPU_SHUFFLE(__shfl_up_sync, up)
CUDA_ON_CPU_SHUFFLE(__shfl_down_sync, down)
CUDA_ON_CPU_SHUFFLE(__shfl_xor_sync, exclusive_or)
#undef CUDA_ON_CPU_SHUFFLE
#undef CUDA_ON_CPU_HERE
[[noreturn]] inline void __trap() { cuda_on_cpu::fail("__trap"); }

// ---- entries ------------------------------------------------------------------------------------------------------

namespace cuda_on_cpu {
template <auto kernel> struct EntryOf;
template <typename... P, void (*kernel)(P...)> struct EntryOf<kernel> {
    static constexpr size_t sizes[sizeof...(P) + 1] = {sizeof(P)..., 0};
    template <size_t... i> static void call(void* const* arguments, std::index_sequence<i...>) {
        kernel(*static_cast<std::remove_cv_t<P>*>(arguments[i])...);
    }
    static void invoke(void* const* arguments) { call(arguments, std::index_sequence_for<P...>{}); }
    static constexpr Entry entry() { return {invoke, sizeof...(P), sizes}; }
};
}  // namespace cuda_on_cpu

// ---- names that the run-time compiler lacks: their use must fail here as well -----------------------------------------

#undef INFINITY
#undef NAN
#undef HUGE_VAL
#undef HUGE_VALF
#undef M_PI
#undef M_SQRT2
#undef M_SQRT1_2
#undef M_2_SQRTPI
#undef M_E
#undef M_LN2

// ---- keywords: last, because system headers use some of these names -------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
