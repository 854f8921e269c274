// Elementwise passes in accesses of 16 bytes, several of them in flight per thread.
//
//     constexpr int width = vector_width<T, Accumulator<T>>;              // elements: 16 bytes of the widest type
//     for_each_place<width>(n, is_aligned<width>(x, y), [&](auto place) {
//         auto a = place.load(x);                                         // all loads first, then arithmetic, then
//         for (int k = 0; k < place.size; ++k) a[k] = f(a[k]);            // stores: what is loaded first does not
//         place.store(y, a);                                              // wait for what is loaded last
//     });
//
// The lambda is written once and compiled for several vectors, one vector, four elements and one: the elements after the
// last whole vector, and arrays that begin between two 16-byte boundaries (views), take the same arithmetic. The widest type has accesses of 16 bytes and the others narrower ones, so that in each access the threads of a
// warp touch one contiguous stretch.
//
// One access of 16 bytes from each of an H100's 2048 threads per multiprocessor keeps 32 KiB in flight; 3.35 TB/s at a
// latency of 0.8 µs need 20 KiB. Two vectors per thread leave room for kernels that registers hold to fewer threads.
#pragma once

#include "common.cuh"

constexpr int VECTOR_BYTES = 16;  // the largest access that a thread can make

// N neighbouring elements of memory: loaded and stored in accesses of 16 bytes, or in one where they are fewer bytes.
template <typename T, int N> struct alignas(sizeof(T) * N < VECTOR_BYTES ? sizeof(T) * N : VECTOR_BYTES) Vector {
    T element[N];
    __device__ __forceinline__ T& operator[](int k) { return element[k]; }
    __device__ __forceinline__ const T& operator[](int k) const { return element[k]; }
};

// As many elements as 16 bytes hold.
template <typename T> using Vector16 = Vector<T, VECTOR_BYTES / static_cast<int>(sizeof(T))>;

template <typename T, typename... More> constexpr int widest_size() {
    int widest = sizeof(T);
    ((widest = static_cast<int>(sizeof(More)) > widest ? static_cast<int>(sizeof(More)) : widest), ...);
    return widest;
}

// How many elements a pass over arrays of these types takes at once.
template <typename... T> constexpr int vector_width = VECTOR_BYTES / widest_size<T...>();

// The type of one access of so many bytes. Stores name their instruction: NVRTC takes the assignment of a uint4 apart
// where there are several in a row, and writes four times four bytes.
template <int BYTES> struct Access;
template <> struct Access<1> { using type = unsigned char; };
template <> struct Access<2> { using type = unsigned short; };
template <> struct Access<4> { using type = unsigned; };
template <> struct Access<8> { using type = uint2; };
template <> struct Access<16> { using type = uint4; };

template <int N, typename T> __device__ __forceinline__ Vector<T, N> load_vector(const T* x) {
    constexpr int bytes = N * static_cast<int>(sizeof(T)), one = bytes < VECTOR_BYTES ? bytes : VECTOR_BYTES;
    using Raw = typename Access<one>::type;
    Raw raw[bytes / one];
    #pragma unroll
    for (int k = 0; k < bytes / one; ++k) raw[k] = reinterpret_cast<const Raw*>(x)[k];
    Vector<T, N> vector;
    memcpy(&vector, raw, bytes);
    return vector;
}
template <int N, typename T> __device__ __forceinline__ void store_vector(T* x, const Vector<T, N>& vector) {
    constexpr int bytes = N * static_cast<int>(sizeof(T)), one = bytes < VECTOR_BYTES ? bytes : VECTOR_BYTES;
    using Raw = typename Access<one>::type;
    Raw raw[bytes / one];
    memcpy(raw, &vector, bytes);
    #pragma unroll
    for (int k = 0; k < bytes / one; ++k) __stwb(reinterpret_cast<Raw*>(x) + k, raw[k]);
}

// Whether vectors of N elements may be read from and written to all of these places. Null pointers do not count.
template <int N, typename... T> __device__ __forceinline__ bool is_aligned(const T*... x) {
    return ((reinterpret_cast<unsigned long long>(x) % alignof(Vector<T, N>) == 0) && ...);
}

// VECTORS times WIDTH neighbouring elements of arrays of one length, `step` elements from one vector to the next.
template <int WIDTH, int VECTORS> struct Place {
    static constexpr int width = WIDTH, vectors = VECTORS, size = WIDTH * VECTORS;
    long long first, step;

    // Where element k of what `load` gives lies.
    __device__ __forceinline__ long long index(int k) const { return first + k / WIDTH * step + k % WIDTH; }

    template <typename T> __device__ __forceinline__ Vector<T, size> load(const T* x) const {
        Vector<T, size> loaded;
        #pragma unroll
        for (int v = 0; v < VECTORS; ++v) {
            const Vector<T, WIDTH> one = load_vector<WIDTH>(x + (first + v * step));
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) loaded[v * WIDTH + k] = one[k];
        }
        return loaded;
    }
    template <typename T> __device__ __forceinline__ void store(T* x, const Vector<T, size>& elements) const {
        #pragma unroll
        for (int v = 0; v < VECTORS; ++v) {
            Vector<T, WIDTH> one;
            #pragma unroll
            for (int k = 0; k < WIDTH; ++k) one[k] = elements[v * WIDTH + k];
            store_vector<WIDTH>(x + (first + v * step), one);
        }
    }
};

// Calls body(place) so that the places of the whole grid make up 0 ... n − 1, each once. `aligned` says whether every
// array that body touches may be read in vectors of WIDTH elements (is_aligned). Any grid is right; one that gives each
// thread WIDTH·VECTORS elements goes around once.
template <int WIDTH, int VECTORS = 2, typename Body>
__device__ __forceinline__ void for_each_place(long long n, bool aligned, Body body) {
    const long long n_vectors = aligned ? n / WIDTH : 0, stride = index_stride();
    long long v = first_index(), i = n_vectors * WIDTH + first_index();
    // Not unrolled: the body holds what should be in flight, and more of it costs registers.
    #pragma unroll 1
    for (; v + (VECTORS - 1) * stride < n_vectors; v += VECTORS * stride)
        body(Place<WIDTH, VECTORS>{v * WIDTH, stride * WIDTH});
    if constexpr (VECTORS > 1) {
        #pragma unroll 1
        for (; v < n_vectors; v += stride) body(Place<WIDTH, 1>{v * WIDTH, 0});
    }
    #pragma unroll 1
    for (; i + 3 * stride < n; i += 4 * stride) body(Place<1, 4>{i, stride});
    #pragma unroll 1
    for (; i < n; i += stride) body(Place<1, 1>{i, 0});
}
