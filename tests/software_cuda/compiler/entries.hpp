// After a program's text: which of a kernel's parameters are pointers, p, and which are values, v.
#pragma once
#include <type_traits>

namespace cuda_on_cpu {
template <auto kernel> struct KindsOf;
template <typename... P, void (*kernel)(P...)> struct KindsOf<kernel> {
    static constexpr char text[sizeof...(P) + 1] = {(std::is_pointer_v<P> ? 'p' : 'v')..., 0};
};
}  // namespace cuda_on_cpu
