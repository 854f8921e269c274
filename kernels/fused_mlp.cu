// The forward pass of a whole stack of Dense layers in one launch: A_l = f_l(W_l·A_(l−1) + b_l) for l = 1 ... n_layers.
//
// For nets so small that launches and trips through memory cost more than their arithmetic: up to 128 units a layer, any
// number of inputs. A block takes SAMPLES samples through all layers; their activations stay in shared memory. Weights
// go through shared memory in chunks of DEPTH inputs, two of which take turns: while one is multiplied, the next chunk,
// be it of the next layer, is on its way into registers. The first layer's inputs come in chunks of the same depth.
//
//   16-bit types: tensor cores, 16×16×16 tiles, sums in float; A_l is rounded to T, Z_l = W·A + b is not before f_l.
//   float: fused multiply-adds. A lane sums units `lane`, `lane + 32`, ... for a quarter of the samples.
//
// Widths are padded to 16: weights, inputs and units beyond a layer's own are zeros.
//
// Each layer is a row of `table`: its sizes, its activation, and where its arrays begin. W_l (n_out, n_in), F-ordered, lies
// in `weights` and b_l (n_out) in `biases`; a BIAS of −1 says that there is none. What training keeps of a layer goes into
// `saved`, Z_l at SAVED_Z and A_l at SAVED_A, each (n_out, batch), F-ordered; −1 keeps none. The last A goes to `out`.
//
// Grid: a block of 128 per SAMPLES samples; WIDTH is at least the widest layer's n_out.
// Source: Müller, Rousselle, Novák and Keller, "Real-time neural radiance caching for path tracing", ACM TOG 40(4), 2021,
// section 4.1 (a fully fused network: activations in shared memory from layer to layer; there without biases, all hidden
// layers of one width, and the weights in registers).
#include "activation.cuh"
#include "common.cuh"
#include "tensor_core.cuh"
#include "vector.cuh"

// The columns of `table`.
enum LayerField { LAYER_IN = 0, LAYER_OUT = 1, WEIGHTS = 2, BIAS = 3, KIND = 4, SAVED_Z = 5, SAVED_A = 6, LAYER_FIELDS = 7 };

enum FusedLimit { MAX_LAYERS = 32, TILE = 16, N_WARPS = 4, N_THREADS = 128 };

// Whether rows of `length` elements from x on may be read and written in vectors of N.
template <int N, typename T> __device__ __forceinline__ bool rows_fit(const T* x, long long length) {
    return is_aligned<N>(x) && length % N == 0;
}

// The first n of N neighbours in global memory, and zeros. `fits` says that all N may be read at once where n ≥ N.
template <int N, typename T> __device__ __forceinline__ Vector<T, N> load_some(const T* x, long long n, bool fits) {
    if (fits && n >= N) return load_vector<N>(x);
    Vector<T, N> some;
    #pragma unroll
    for (int e = 0; e < N; ++e) some[e] = e < n ? x[e] : from_accumulator<T>(0.0f);
    return some;
}
template <int N, typename T>
__device__ __forceinline__ void store_some(T* x, const Vector<T, N>& some, long long n, bool fits) {
    if (fits && n >= N) return store_vector<N>(x, some);
    #pragma unroll
    for (int e = 0; e < N; ++e)
        if (e < n) x[e] = some[e];
}

// In shared memory, whose stores are other instructions than vector.cuh's.
template <int N, typename T> __device__ __forceinline__ void put_vector(T* x, const Vector<T, N>& vector) {
    static_assert(sizeof vector == sizeof(uint4), "one access");
    uint4 raw;
    memcpy(&raw, &vector, sizeof raw);
    *reinterpret_cast<uint4*>(x) = raw;
}

template <int KIND, int N> __device__ __forceinline__ void activate_each(float (&z)[N], float alpha) {
    #pragma unroll
    for (int e = 0; e < N; ++e) z[e] = activate<KIND>(z[e], alpha);
}
// One branch per vector, which all threads take alike.
template <int N> __device__ __forceinline__ void activate_by_kind(long long kind, float (&z)[N], float alpha) {
    switch (kind) {
        case SIGMOID: return activate_each<SIGMOID>(z, alpha);
        case TANH: return activate_each<TANH>(z, alpha);
        case RELU: return activate_each<RELU>(z, alpha);
        case LEAKY_RELU: return activate_each<LEAKY_RELU>(z, alpha);
        case ELU: return activate_each<ELU>(z, alpha);
        case SELU: return activate_each<SELU>(z, alpha);
        case GELU: return activate_each<GELU>(z, alpha);
        case GELU_TANH: return activate_each<GELU_TANH>(z, alpha);
        case SILU: return activate_each<SILU>(z, alpha);
        case SOFTPLUS: return activate_each<SOFTPLUS>(z, alpha);
        case MISH: return activate_each<MISH>(z, alpha);
        case HARDSWISH: return activate_each<HARDSWISH>(z, alpha);
        case SIN: return activate_each<SIN>(z, alpha);
        case EXP: return activate_each<EXP>(z, alpha);
        default: return;
    }
}

// How shared memory is cut up; all of it stays below the 48 KiB that a block may have without asking.
template <typename T, int WIDTH, int SAMPLES> struct Shape {
    static constexpr int VECTOR = 16 / static_cast<int>(sizeof(T));
    static constexpr int DEPTH = sizeof(T) == 2 ? 64 : WIDTH == 64 || SAMPLES == 16 ? 32 : 16;
    // Another 16 bytes from row to row spread a column's elements over the banks.
    static constexpr int OF_WEIGHTS = WIDTH + VECTOR;
    static constexpr int OF_INPUTS = (WIDTH > 2 * DEPTH ? WIDTH : 2 * DEPTH) + VECTOR;
    static constexpr int OF_SUMS = sizeof(T) == 2 ? WIDTH + 4 : OF_INPUTS;
};

// The block's sums Σ_i W_oi A_ij, distributed over its threads' registers.
template <typename T, int WIDTH, int SAMPLES> struct Sums {
    using S = Shape<T, WIDTH, SAMPLES>;
    static constexpr int M = WIDTH / (TILE * N_WARPS), N = SAMPLES / TILE;  // tiles of a warp, at most
    wmma::fragment<wmma::accumulator, TILE, TILE, TILE, float> tile[M][N];
    int first_m, step_m, n_m, first_n, step_n;

    // The warps share out the tiles along the units, and where these are fewer than the warps, along the samples too.
    __device__ __forceinline__ void begin(int n_out) {
        const int warp = static_cast<int>(threadIdx.x) / 32;
        n_m = (n_out + TILE - 1) / TILE;
        step_m = n_m > 2 ? 4 : n_m;
        step_n = N_WARPS / step_m;
        first_m = warp % step_m;
        first_n = warp / step_m;
        #pragma unroll
        for (int i = 0; i < M; ++i)
            #pragma unroll
            for (int j = 0; j < N; ++j) wmma::fill_fragment(tile[i][j], 0.0f);
    }
    // `weights` holds the chunk's DEPTH rows of units, `inputs` each sample's DEPTH inputs; n of them count.
    __device__ __forceinline__ void add(const T* weights, const T* inputs, int n) {
        #pragma unroll 1
        for (int k = 0; k < n; k += TILE) {
            wmma::fragment<wmma::matrix_a, TILE, TILE, TILE, T, wmma::col_major> a[M];
            #pragma unroll
            for (int i = 0; i < M; ++i)
                if (first_m + step_m * i < n_m)
                    wmma::load_matrix_sync(a[i], weights + k * S::OF_WEIGHTS + (first_m + step_m * i) * TILE, S::OF_WEIGHTS);
            #pragma unroll
            for (int j = 0; j < N; ++j) {
                if (first_n + step_n * j >= N) continue;
                wmma::fragment<wmma::matrix_b, TILE, TILE, TILE, T, wmma::col_major> b;
                wmma::load_matrix_sync(b, inputs + (first_n + step_n * j) * TILE * S::OF_INPUTS + k, S::OF_INPUTS);
                #pragma unroll
                for (int i = 0; i < M; ++i)
                    if (first_m + step_m * i < n_m) wmma::mma_sync(tile[i][j], a[i], b, tile[i][j]);
            }
        }
    }
    __device__ __forceinline__ void store(float* sums) const {
        #pragma unroll
        for (int i = 0; i < M; ++i)
            #pragma unroll
            for (int j = 0; j < N; ++j)
                if (first_m + step_m * i < n_m && first_n + step_n * j < N)
                    wmma::store_matrix_sync(
                        sums + (first_n + step_n * j) * TILE * S::OF_SUMS + (first_m + step_m * i) * TILE, tile[i][j],
                        S::OF_SUMS, wmma::mem_col_major);
    }
};

template <int WIDTH, int SAMPLES> struct Sums<float, WIDTH, SAMPLES> {
    using S = Shape<float, WIDTH, SAMPLES>;
    static constexpr int M = WIDTH / 32, N = SAMPLES / N_WARPS;
    float sum[M][N];
    int lane, first_n, n_units;

    __device__ __forceinline__ void begin(int n_out) {
        lane = static_cast<int>(threadIdx.x) % 32;
        first_n = static_cast<int>(threadIdx.x) / 32 * N;
        n_units = n_out;
        #pragma unroll
        for (int i = 0; i < M; ++i)
            #pragma unroll
            for (int j = 0; j < N; ++j) sum[i][j] = 0.0f;
    }
    __device__ __forceinline__ void add(const float* weights, const float* inputs, int n) {
        #pragma unroll 1
        for (int k = 0; k < n; k += 4) {
            Vector<float, 4> a[N];
            #pragma unroll
            for (int j = 0; j < N; ++j)
                a[j] = load_vector<4>(inputs + (first_n + j) * S::OF_INPUTS + k);
            #pragma unroll
            for (int e = 0; e < 4; ++e)
                #pragma unroll
                for (int i = 0; i < M; ++i) {
                    if (32 * i >= n_units) continue;
                    const float w = weights[(k + e) * S::OF_WEIGHTS + 32 * i + lane];
                    #pragma unroll
                    for (int j = 0; j < N; ++j) sum[i][j] += w * a[j][e];
                }
        }
    }
    __device__ __forceinline__ void store(float* sums) const {
        #pragma unroll
        for (int i = 0; i < M; ++i)
            #pragma unroll
            for (int j = 0; j < N; ++j) sums[(first_n + j) * S::OF_SUMS + 32 * i + lane] = sum[i][j];
    }
};

// A chunk of weights, and of the first layer's inputs, between global and shared memory: this thread's share.
template <typename T, int WIDTH, int SAMPLES> struct Chunk {
    using S = Shape<T, WIDTH, SAMPLES>;
    static constexpr int V = S::VECTOR, DEPTH = S::DEPTH;
    static constexpr int PER_ROW = WIDTH / V, PER_SAMPLE = DEPTH / V;
    static constexpr int N_WEIGHTS = DEPTH * PER_ROW / N_THREADS, N_INPUTS = SAMPLES * PER_SAMPLE / N_THREADS;
    static_assert(N_WEIGHTS >= 1 && N_INPUTS >= 1 && WIDTH <= N_THREADS, "every thread has a share");
    Vector<T, V> weights[N_WEIGHTS], inputs[N_INPUTS];
    float bias;

    // W (n_out, n_in), from column `first` on.
    __device__ __forceinline__ void fetch_weights(const T* W, int n_out, long long n_in, long long first) {
        const bool fits = rows_fit<V>(W, n_out);
        #pragma unroll
        for (int s = 0; s < N_WEIGHTS; ++s) {
            const int place = s * N_THREADS + static_cast<int>(threadIdx.x), unit = place % PER_ROW * V;
            const long long k = first + place / PER_ROW;
            weights[s] = load_some<V>(W + (k * n_out + unit), k < n_in ? n_out - unit : 0, fits);
        }
    }
    // The samples' inputs from `first` on; A0 begins with the block's first sample, of which there are `n_samples`.
    __device__ __forceinline__ void fetch_inputs(const T* A0, long long n_samples, long long n_in, long long first) {
        const bool fits = rows_fit<V>(A0, n_in);
        #pragma unroll
        for (int s = 0; s < N_INPUTS; ++s) {
            const int place = s * N_THREADS + static_cast<int>(threadIdx.x), sample = place / PER_SAMPLE;
            const long long k = first + place % PER_SAMPLE * V;
            inputs[s] = load_some<V>(A0 + (sample * n_in + k), sample < n_samples ? n_in - k : 0, fits);
        }
    }
    __device__ __forceinline__ void put_weights(T* to) const {
        #pragma unroll
        for (int s = 0; s < N_WEIGHTS; ++s) {
            const int place = s * N_THREADS + static_cast<int>(threadIdx.x);
            put_vector(to + place / PER_ROW * S::OF_WEIGHTS + place % PER_ROW * V, weights[s]);
        }
    }
    __device__ __forceinline__ void put_inputs(T* to) const {
        #pragma unroll
        for (int s = 0; s < N_INPUTS; ++s) {
            const int place = s * N_THREADS + static_cast<int>(threadIdx.x);
            put_vector(to + place / PER_SAMPLE * S::OF_INPUTS + place % PER_SAMPLE * V, inputs[s]);
        }
    }
};

// instances: T in float, __half; WIDTH in 64, 128; SAMPLES in 16, 32
// instances from sm_80: T in __nv_bfloat16; WIDTH in 64, 128; SAMPLES in 16, 32
// block: 128
template <typename T, int WIDTH, int SAMPLES>
__global__ void __launch_bounds__(N_THREADS, 2)
    fused_mlp(long long batch, long long n_layers, long long n_in, long long n_out, long long n_weights,
              long long n_biases, long long n_saved, const long long* __restrict__ table /* C (n_layers, 7) */,
              const float* __restrict__ alphas /* any (n_layers) */, const T* __restrict__ weights /* any (n_weights) */,
              const float* __restrict__ biases /* any (n_biases) */, const T* __restrict__ A0 /* F (n_in, batch) */,
              T* saved /* any (n_saved), may be null */, T* out /* F (n_out, batch) */) {
    using S = Shape<T, WIDTH, SAMPLES>;
    constexpr int V = S::VECTOR, DEPTH = S::DEPTH;
    __shared__ __align__(32) T weight_chunks[2][DEPTH * S::OF_WEIGHTS];
    __shared__ __align__(32) T inputs[SAMPLES * S::OF_INPUTS];
    __shared__ __align__(16) float layer_bias[2][WIDTH];
    __shared__ long long layers[MAX_LAYERS * LAYER_FIELDS];
    __shared__ float layer_alpha[MAX_LAYERS];
    static_assert(sizeof(T) == 4 || SAMPLES * S::OF_SUMS * sizeof(float) <= sizeof weight_chunks[0], "sums take a chunk's place");
    const int thread = static_cast<int>(threadIdx.x);

    for (int i = thread; i < n_layers * LAYER_FIELDS; i += N_THREADS) layers[i] = table[i];
    for (int i = thread; i < n_layers; i += N_THREADS) layer_alpha[i] = alphas[i];
    __syncthreads();

    for (long long first = static_cast<long long>(blockIdx.x) * SAMPLES; first < batch;
         first += static_cast<long long>(gridDim.x) * SAMPLES) {
        const long long n_samples = min(batch - first, static_cast<long long>(SAMPLES));
        Sums<T, WIDTH, SAMPLES> sums;
        Chunk<T, WIDTH, SAMPLES> next;
        auto fetch = [&](int of_layer, long long from) {
            const long long* row = layers + of_layer * LAYER_FIELDS;
            const int units = static_cast<int>(row[LAYER_OUT]);
            next.fetch_weights(weights + row[WEIGHTS], units, row[LAYER_IN], from);
            if (of_layer == 0) next.fetch_inputs(A0 + first * n_in, n_samples, n_in, from);
            if (from == 0) next.bias = row[BIAS] >= 0 && thread < units ? biases[row[BIAS] + thread] : 0.0f;
        };
        fetch(0, 0);
        int layer = 0;
        long long begin = 0;  // the chunk's first input
        for (int turn = 0; layer < n_layers; turn ^= 1) {
            const long long* row = layers + layer * LAYER_FIELDS;
            const int units = static_cast<int>(row[LAYER_OUT]);
            const bool is_last = begin + DEPTH >= row[LAYER_IN];
            T* chunk = weight_chunks[turn];
            // The first layer's chunks take turns in the place that is the later layers' inputs.
            T* chunk_inputs = inputs + (layer == 0 ? turn * DEPTH : begin);
            next.put_weights(chunk);
            if (layer == 0) next.put_inputs(chunk_inputs);
            if (begin == 0 && thread < WIDTH) layer_bias[layer % 2][thread] = next.bias;
            // After this barrier nobody still reads the other chunk, which the next round writes.
            __syncthreads();
            if (!is_last)
                fetch(layer, begin + DEPTH);
            else if (layer + 1 < n_layers)
                fetch(layer + 1, 0);
            if (begin == 0) sums.begin(units);
            const int n_here = static_cast<int>(min(row[LAYER_IN] - begin, static_cast<long long>(DEPTH)));
            sums.add(chunk, chunk_inputs, n_here);
            begin += DEPTH;
            if (!is_last) continue;

            // Nobody reads this chunk and these inputs any more: sums take the place of the one, A of the other.
            __syncthreads();
            float* z_of_all;
            if constexpr (sizeof(T) == 4)
                z_of_all = inputs;
            else
                z_of_all = reinterpret_cast<float*>(chunk);
            sums.store(z_of_all);
            __syncthreads();
            const bool is_output = layer + 1 == n_layers;
            T* keep_z = row[SAVED_Z] >= 0 ? saved + row[SAVED_Z] + first * units : nullptr;
            T* keep_a = is_output ? out + first * units : row[SAVED_A] >= 0 ? saved + row[SAVED_A] + first * units : nullptr;
            const bool z_fits = rows_fit<V>(keep_z, units), a_fits = rows_fit<V>(keep_a, units);
            #pragma unroll 1
            for (int item = thread; item < SAMPLES * (WIDTH / V); item += N_THREADS) {
                const int sample = item / (WIDTH / V), unit = item % (WIDTH / V) * V;
                if (unit >= (units + TILE - 1) / TILE * TILE) continue;
                float z[V];
                Vector<T, V> rounded;
                #pragma unroll
                for (int e = 0; e < V; e += 4) {
                    const auto sum = load_vector<4>(z_of_all + sample * S::OF_SUMS + unit + e);
                    const auto b = load_vector<4>(layer_bias[layer % 2] + unit + e);
                    #pragma unroll
                    for (int c = 0; c < 4; ++c) z[e + c] = sum[c] + b[c];
                }
                if (keep_z && sample < n_samples) {
                    #pragma unroll
                    for (int e = 0; e < V; ++e) rounded[e] = from_accumulator<T>(z[e]);
                    store_some<V>(keep_z + sample * units + unit, rounded, units - unit, z_fits);
                }
                activate_by_kind(row[KIND], z, layer_alpha[layer]);
                #pragma unroll
                for (int e = 0; e < V; ++e) rounded[e] = from_accumulator<T>(unit + e < units ? z[e] : 0.0f);
                put_vector(inputs + sample * S::OF_INPUTS + unit, rounded);
                if (keep_a && sample < n_samples) store_some<V>(keep_a + sample * units + unit, rounded, units - unit, a_fits);
            }
            ++layer;
            begin = 0;
        }
        __syncthreads();  // the next samples' first chunk takes the place of what some thread may still read
    }
}
