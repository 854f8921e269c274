// The functions of libcublas and libcublasLt that the package calls, computed on the CPU, with the argument checks of
// the real ones and some more: a product without a workspace of the caller's, one whose output overlaps an operand, and
// an algorithm that was chosen for another problem are refused.
//
// A call checks everything at once and reads alpha and beta, as the library does; the arithmetic is handed to the
// function set by cublas_on_cpu_on_submit, which may run it now, later, or many times (a recorded graph). Built with
// SOFTWARE_CUDA (the CUDA version, 12 or 13), it is queued on the handle's stream of the software driver instead, and the
// library serves CuPy's own calls as well (gemm_of_cupy.inc).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <mutex>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum Type { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };
enum Compute { C_32F = 68, C_64F = 70, C_32F_FAST_TF32 = 77 };
enum Epilogue { PLAIN = 1, RELU = 2, BIAS = 4, GELU = 32, AUX = 128, BGRADA = 256, BGRADB = 512 };

// Work, and who queues it

using Work = std::function<void()>;

#ifdef SOFTWARE_CUDA
}  // namespace
extern "C" int software_cuda_enqueue(void* stream, const char* what, void (*work)(void*), void* argument,
                                     void (*forget)(void*));
namespace {
int submit(void* stream, Work item) {
    const auto run = [](void* p) { (*static_cast<Work*>(p))(); };
    const auto forget = [](void* p) { delete static_cast<Work*>(p); };
    return software_cuda_enqueue(stream, "matrix product", run, new Work(std::move(item)), forget) ? EXECUTION_FAILED : SUCCESS;
}
constexpr bool strict = false;  // CuPy's products have neither a workspace of their own nor a math mode
#else
constexpr bool strict = true;
std::mutex lock;
std::map<int64_t, Work> work;
int64_t last_work = 0;
int (*on_submit)(int64_t) = nullptr;

int submit(void*, Work item) {
    int64_t id;
    {
        std::lock_guard<std::mutex> guard(lock);
        id = ++last_work;
        work[id] = std::move(item);
    }
    if (!on_submit) return EXECUTION_FAILED;
    return on_submit(id) ? EXECUTION_FAILED : SUCCESS;
}
#endif

// Numbers

size_t size_of(int type) { return type == R_64F ? 8 : type == R_32F ? 4 : 2; }

bool known(int type) { return type == R_32F || type == R_64F || type == R_16F || type == R_16BF; }

double load(const void* base, int type, int64_t i) {
    if (type == R_64F) return static_cast<const double*>(base)[i];
    if (type == R_32F) return static_cast<const float*>(base)[i];
    if (type == R_16F) return static_cast<double>(static_cast<const _Float16*>(base)[i]);
    uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(base)[i]) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

void store(void* base, int type, int64_t i, double value) {
    const float rounded = static_cast<float>(value);
    if (type == R_64F) static_cast<double*>(base)[i] = value;
    else if (type == R_32F) static_cast<float*>(base)[i] = rounded;
    else if (type == R_16F) static_cast<_Float16*>(base)[i] = static_cast<_Float16>(rounded);
    else {
        uint32_t bits;
        std::memcpy(&bits, &rounded, 4);
        const bool nan = std::isnan(rounded);
        const uint32_t up = nan ? 0 : 0x7fff + (bits >> 16 & 1);  // to nearest, ties to even
        static_cast<uint16_t*>(base)[i] = nan ? 0x7fc0 : static_cast<uint16_t>((bits + up) >> 16);
    }
}

// The nearest number of 10 bits of mantissa, ties away from zero: what tensor cores read of a float32.
double tf32(double value) {
    float narrow = static_cast<float>(value);
    if (!std::isfinite(narrow)) return narrow;
    uint32_t bits;
    std::memcpy(&bits, &narrow, 4);
    bits = (bits + 0x1000) & ~0x1fffu;
    std::memcpy(&narrow, &bits, 4);
    return narrow;
}

struct Matrix {
    int type = -1;
    uint64_t rows = 0, columns = 0;
    int64_t leading = 0;
    bool good() const { return known(type) && leading >= std::max<int64_t>(1, static_cast<int64_t>(rows)); }
    size_t bytes() const { return columns == 0 ? 0 : size_of(type) * (leading * (columns - 1) + rows); }
};

struct Product {
    int compute;
    bool transpose_a, transpose_b;
    Matrix a, b, c;  // a and b as they are stored
    int epilogue = PLAIN;
    int bias_type = -1;
    int64_t aux_leading = 0;
};

int64_t inner(const Product& p) { return p.transpose_a ? p.a.rows : p.a.columns; }

// What the documentation's tables allow.
int check(const Product& p) {
    if (!p.a.good() || !p.b.good() || !p.c.good()) return INVALID_VALUE;
    const uint64_t m = p.transpose_a ? p.a.columns : p.a.rows, n = p.transpose_b ? p.b.rows : p.b.columns;
    if (static_cast<uint64_t>(inner(p)) != (p.transpose_b ? p.b.columns : p.b.rows)) return INVALID_VALUE;
    if (m != p.c.rows || n != p.c.columns) return INVALID_VALUE;
    if (p.a.type != p.b.type) return NOT_SUPPORTED;
    const bool wide = p.a.type == R_64F, narrow = p.a.type == R_16F || p.a.type == R_16BF;
    if (p.c.type != p.a.type && !(narrow && p.c.type == R_32F)) return NOT_SUPPORTED;
    if ((p.compute == C_64F) != wide) return NOT_SUPPORTED;
    if (p.compute == C_32F_FAST_TF32 && p.a.type != R_32F) return NOT_SUPPORTED;
    if (p.compute != C_64F && p.compute != C_32F && p.compute != C_32F_FAST_TF32) return INVALID_VALUE;
    const bool vector = p.epilogue & (BIAS | BGRADA | BGRADB);
    if (vector && p.bias_type != p.c.type) return NOT_SUPPORTED;
    if (p.epilogue & AUX) {
        if (!(p.epilogue & GELU)) return NOT_SUPPORTED;
        if (p.aux_leading % 8 || p.aux_leading < static_cast<int64_t>(m)) return INVALID_VALUE;
    }
    return SUCCESS;
}

bool overlap(const void* x, size_t x_bytes, const void* y, size_t y_bytes) {
    const auto a = reinterpret_cast<uintptr_t>(x), b = reinterpret_cast<uintptr_t>(y);
    return x_bytes && y_bytes && a < b + y_bytes && b < a + x_bytes;
}

double gelu(double z) { return 0.5 * z * (1 + std::tanh(std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z))); }

Work arithmetic(const Product& p, double alpha, double beta, const void* a, const void* b, void* c, void* vector,
                void* aux) {
    return [=] {
        const int64_t m = p.c.rows, n = p.c.columns, k = inner(p);
        const bool rough = p.compute == C_32F_FAST_TF32;
        const auto at_a = [&](int64_t i, int64_t l) {
            const double x = load(a, p.a.type, p.transpose_a ? l + i * p.a.leading : i + l * p.a.leading);
            return rough ? tf32(x) : x;
        };
        const auto at_b = [&](int64_t l, int64_t j) {
            const double x = load(b, p.b.type, p.transpose_b ? j + l * p.b.leading : l + j * p.b.leading);
            return rough ? tf32(x) : x;
        };
        if (p.epilogue & BGRADA)
            for (int64_t i = 0; i < m; ++i) {
                double sum = 0;
                for (int64_t l = 0; l < k; ++l) sum += at_a(i, l);
                store(vector, p.bias_type, i, sum);
            }
        if (p.epilogue & BGRADB)
            for (int64_t j = 0; j < n; ++j) {
                double sum = 0;
                for (int64_t l = 0; l < k; ++l) sum += at_b(l, j);
                store(vector, p.bias_type, j, sum);
            }
        for (int64_t j = 0; j < n; ++j)
            for (int64_t i = 0; i < m; ++i) {
                double sum = 0;
                for (int64_t l = 0; l < k; ++l) sum += at_a(i, l) * at_b(l, j);
                double z = alpha * sum;
                if (beta != 0) z += beta * load(c, p.c.type, i + j * p.c.leading);  // otherwise c may hold NaN
                if (p.epilogue & BIAS) z += load(vector, p.bias_type, i);
                if (p.epilogue & AUX) store(aux, p.c.type, i + j * p.aux_leading, z);
                if (p.epilogue & GELU) z = gelu(z);
                if (p.epilogue & RELU) z = z > 0 ? z : 0;  // of NaN: 0
                store(c, p.c.type, i + j * p.c.leading, z);
            }
    };
}

double factor(const void* from, int compute) {
    return compute == C_64F ? *static_cast<const double*>(from) : *static_cast<const float*>(from);
}

// What the API hands out: each begins with a number that says what it is.

constexpr uint64_t BLAS = 0xb1a5, LT = 0x17, LAYOUT = 0x1a, OPERATION = 0x09, PREFERENCE = 0x9f;

struct Blas {
    uint64_t magic = BLAS;
    void* stream = nullptr;
    void* workspace = nullptr;
    size_t workspace_bytes = 0;
    int pointer_mode = 0, math_mode = 0;
};

struct Lt {
    uint64_t magic = LT;
};

struct Layout {
    uint64_t magic = LAYOUT;
    Matrix matrix;
};

struct Operation {
    uint64_t magic = OPERATION;
    int32_t compute = 0, scale = 0, transpose_a = 0, transpose_b = 0;
    uint32_t epilogue = PLAIN;
    void *bias = nullptr, *aux = nullptr;
    int64_t aux_leading = 0;
    int32_t bias_type = -1;
};

struct Preference {
    uint64_t magic = PREFERENCE;
    uint64_t workspace = 0;
    uint32_t reductions = 7, alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
};

template <typename T> T* as(void* handle, uint64_t magic) {
    return handle && *static_cast<uint64_t*>(handle) == magic ? static_cast<T*>(handle) : nullptr;
}

int set(void* field, size_t size, const void* from, size_t n_bytes) {
    if (!from || n_bytes != size) return INVALID_VALUE;
    std::memcpy(field, from, size);
    return SUCCESS;
}

struct Algorithm {
    uint64_t problem, workspace, alignment_a, alignment_b, alignment_d, reserved[3];
};

struct HeuristicResult {
    Algorithm algorithm;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};
static_assert(sizeof(Algorithm) == 64 && sizeof(HeuristicResult) == 96, "as in cublasLt.h");

uint64_t alignment(const void* p) {
    const auto address = reinterpret_cast<uint64_t>(p);
    return address ? address & -address : 1 << 20;
}

Product product_of(const Operation& o, const Layout& a, const Layout& b, const Layout& d) {
    Product p{o.compute, o.transpose_a != 0, o.transpose_b != 0, a.matrix, b.matrix, d.matrix};
    p.epilogue = static_cast<int>(o.epilogue);
    p.bias_type = o.bias_type < 0 ? d.matrix.type : o.bias_type;
    p.aux_leading = o.aux_leading;
    return p;
}

uint64_t fingerprint(const Product& p) {
    uint64_t hash = 1469598103934665603u;
    const auto mix = [&](uint64_t value) { hash = (hash ^ value) * 1099511628211u; };
    for (const Matrix* x : {&p.a, &p.b, &p.c})
        for (uint64_t value : {static_cast<uint64_t>(x->type), x->rows, x->columns, static_cast<uint64_t>(x->leading)})
            mix(value);
    for (int64_t value : {int64_t(p.compute), int64_t(p.transpose_a), int64_t(p.transpose_b), int64_t(p.epilogue),
                          int64_t(p.bias_type), p.aux_leading})
        mix(static_cast<uint64_t>(value));
    return hash;
}

int check_lt(const Operation& o, const Product& p) {
    const bool wide = o.compute == C_64F;
    if (o.scale != (wide ? R_64F : R_32F)) return NOT_SUPPORTED;
    if ((o.epilogue & (BIAS | BGRADA | BGRADB)) && !o.bias) return INVALID_VALUE;
    if ((o.epilogue & AUX) && (!o.aux || alignment(o.aux) < 16)) return INVALID_VALUE;
    return check(p);
}

}  // namespace

#ifndef SOFTWARE_CUDA
EXPORT void cublas_on_cpu_on_submit(int (*function)(int64_t)) { on_submit = function; }

EXPORT void cublas_on_cpu_run(int64_t id) {
    Work item;
    {
        std::lock_guard<std::mutex> guard(lock);
        item = work.at(id);
    }
    item();
}

EXPORT void cublas_on_cpu_forget(int64_t id) {
    std::lock_guard<std::mutex> guard(lock);
    work.erase(id);
}
#endif

// cuBLAS

EXPORT int cublasGetProperty(int which, int* value) {
    if (which < 0 || which > 2 || !value) return INVALID_VALUE;
#ifdef SOFTWARE_CUDA
    *value = (int[]){SOFTWARE_CUDA, 0, 0}[which];
#else
    *value = (int[]){12, 9, 3}[which];
#endif
    return SUCCESS;
}

EXPORT int cublasCreate_v2(void** handle) {
    if (!handle) return INVALID_VALUE;
    *handle = new Blas;
    return SUCCESS;
}

EXPORT int cublasDestroy_v2(void* handle) {
    Blas* blas = as<Blas>(handle, BLAS);
    if (!blas) return NOT_INITIALIZED;
    blas->magic = 0;
    delete blas;
    return SUCCESS;
}

EXPORT int cublasSetStream_v2(void* handle, void* stream) {
    Blas* blas = as<Blas>(handle, BLAS);
    if (!blas) return NOT_INITIALIZED;
    blas->stream = stream;
    blas->workspace = nullptr;  // "unconditionally resets the workspace back to the default workspace pool"
    return SUCCESS;
}

EXPORT int cublasSetWorkspace_v2(void* handle, void* workspace, size_t n_bytes) {
    Blas* blas = as<Blas>(handle, BLAS);
    if (!blas) return NOT_INITIALIZED;
    if (!workspace || alignment(workspace) < 256) return INVALID_VALUE;
    blas->workspace = workspace;
    blas->workspace_bytes = n_bytes;
    return SUCCESS;
}

EXPORT int cublasSetPointerMode_v2(void* handle, int mode) {
    Blas* blas = as<Blas>(handle, BLAS);
    if (!blas) return NOT_INITIALIZED;
    if (mode != 0 && mode != 1) return INVALID_VALUE;
    blas->pointer_mode = mode;
    return SUCCESS;
}

EXPORT int cublasSetMathMode(void* handle, int mode) {
    Blas* blas = as<Blas>(handle, BLAS);
    if (!blas) return NOT_INITIALIZED;
    if (mode & ~(16 | 7)) return INVALID_VALUE;
    blas->math_mode = mode;
    return SUCCESS;
}

EXPORT int cublasGemmEx(void* handle, int transa, int transb, int m, int n, int k, const void* alpha, const void* A,
                        int atype, int lda, const void* B, int btype, int ldb, const void* beta, void* C, int ctype,
                        int ldc, int compute, int algorithm) {
    const Blas* blas = as<Blas>(handle, BLAS);
    if (!blas) return NOT_INITIALIZED;
    if (transa < 0 || transa > 1 || transb < 0 || transb > 1 || m < 0 || n < 0 || k < 0) return INVALID_VALUE;
    if (!alpha || !beta || (strict ? algorithm != -1 : algorithm != -1 && algorithm != 99) || blas->pointer_mode != 0) return INVALID_VALUE;
    if (strict && (!blas->workspace || blas->math_mode != 16)) return INVALID_VALUE;
    const auto matrix = [](int type, bool transposed, int rows, int columns, int leading) {
        return Matrix{type, static_cast<uint64_t>(transposed ? columns : rows),
                      static_cast<uint64_t>(transposed ? rows : columns), leading};
    };
    const Product p{compute, transa != 0, transb != 0, matrix(atype, transa, m, k, lda),
                    matrix(btype, transb, k, n, ldb), matrix(ctype, false, m, n, ldc)};
    if (const int status = check(p)) return status;
    if (!A || !B || !C) return INVALID_VALUE;
    if (overlap(A, p.a.bytes(), C, p.c.bytes()) || overlap(B, p.b.bytes(), C, p.c.bytes())) return INVALID_VALUE;
    return submit(blas->stream, arithmetic(p, factor(alpha, compute), factor(beta, compute), A, B, C, nullptr, nullptr));
}

EXPORT int cublasGemmStridedBatchedEx(void* handle, int transa, int transb, int m, int n, int k, const void* alpha, const void* A,
                                      int atype, int lda, long long apart_a, const void* B, int btype, int ldb, long long apart_b,
                                      const void* beta, void* C, int ctype, int ldc, long long apart_c, int count, int compute,
                                      int algorithm) {
    if (count < 0 || !known(atype) || !known(btype) || !known(ctype)) return INVALID_VALUE;
    const auto behind = [](const void* x, int type, long long elements) {
        return const_cast<char*>(static_cast<const char*>(x)) + elements * static_cast<long long>(size_of(type));
    };
    for (int i = 0; i < count; ++i) {
        const int status = cublasGemmEx(handle, transa, transb, m, n, k, alpha, behind(A, atype, i * apart_a), atype, lda,
                                        behind(B, btype, i * apart_b), btype, ldb, beta, behind(C, ctype, i * apart_c), ctype, ldc,
                                        compute, algorithm);
        if (status) return status;
    }
    return SUCCESS;
}

// cuBLASLt

#ifdef SOFTWARE_CUDA
EXPORT size_t cublasLtGetVersion() { return SOFTWARE_CUDA * 10000; }
#else
EXPORT size_t cublasLtGetVersion() { return 120903; }
#endif

EXPORT const char* cublasLtGetStatusName(int) { return "CUBLAS_STATUS"; }

EXPORT int cublasLtCreate(void** handle) {
    if (!handle) return INVALID_VALUE;
    *handle = new Lt;
    return SUCCESS;
}

EXPORT int cublasLtDestroy(void* handle) {
    Lt* lt = as<Lt>(handle, LT);
    if (!lt) return NOT_INITIALIZED;
    lt->magic = 0;
    delete lt;
    return SUCCESS;
}

EXPORT int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    if (!layout || !known(type)) return INVALID_VALUE;
    Layout* made = new Layout;
    made->matrix = {type, rows, columns, leading};
    *layout = made;
    return SUCCESS;
}

EXPORT int cublasLtMatrixLayoutDestroy(void* handle) {
    Layout* layout = as<Layout>(handle, LAYOUT);
    if (!layout) return INVALID_VALUE;
    layout->magic = 0;
    delete layout;
    return SUCCESS;
}

EXPORT int cublasLtMatmulDescCreate(void** operation, int compute, int scale) {
    if (!operation) return INVALID_VALUE;
    Operation* made = new Operation;
    made->compute = compute;
    made->scale = scale;
    *operation = made;
    return SUCCESS;
}

EXPORT int cublasLtMatmulDescDestroy(void* handle) {
    Operation* operation = as<Operation>(handle, OPERATION);
    if (!operation) return INVALID_VALUE;
    operation->magic = 0;
    delete operation;
    return SUCCESS;
}

EXPORT int cublasLtMatmulDescSetAttribute(void* handle, int attribute, const void* from, size_t n_bytes) {
    Operation* o = as<Operation>(handle, OPERATION);
    if (!o) return INVALID_VALUE;
    switch (attribute) {
        case 3: return set(&o->transpose_a, 4, from, n_bytes);
        case 4: return set(&o->transpose_b, 4, from, n_bytes);
        case 7: return set(&o->epilogue, 4, from, n_bytes);
        case 8: return set(&o->bias, 8, from, n_bytes);
        case 11: return set(&o->aux, 8, from, n_bytes);
        case 12: return set(&o->aux_leading, 8, from, n_bytes);
        case 26: return set(&o->bias_type, 4, from, n_bytes);
        default: return INVALID_VALUE;
    }
}

EXPORT int cublasLtMatmulPreferenceCreate(void** preference) {
    if (!preference) return INVALID_VALUE;
    *preference = new Preference;
    return SUCCESS;
}

EXPORT int cublasLtMatmulPreferenceDestroy(void* handle) {
    Preference* preference = as<Preference>(handle, PREFERENCE);
    if (!preference) return INVALID_VALUE;
    preference->magic = 0;
    delete preference;
    return SUCCESS;
}

EXPORT int cublasLtMatmulPreferenceSetAttribute(void* handle, int attribute, const void* from, size_t n_bytes) {
    Preference* p = as<Preference>(handle, PREFERENCE);
    if (!p) return INVALID_VALUE;
    switch (attribute) {
        case 1: return set(&p->workspace, 8, from, n_bytes);
        case 3: return set(&p->reductions, 4, from, n_bytes);
        case 5: return set(&p->alignment_a, 4, from, n_bytes);
        case 6: return set(&p->alignment_b, 4, from, n_bytes);
        case 7: return set(&p->alignment_c, 4, from, n_bytes);
        case 8: return set(&p->alignment_d, 4, from, n_bytes);
        default: return INVALID_VALUE;
    }
}

// Two algorithms: one without workspace, and one that asks for 1 MiB where there is as much.
EXPORT int cublasLtMatmulAlgoGetHeuristic(void* handle, void* operation, void* a, void* b, void* c, void* d,
                                          void* preference, int requested, HeuristicResult* results, int* returned) {
    if (!as<Lt>(handle, LT)) return NOT_INITIALIZED;
    const Operation* o = as<Operation>(operation, OPERATION);
    const Layout *of_a = as<Layout>(a, LAYOUT), *of_b = as<Layout>(b, LAYOUT), *of_d = as<Layout>(d, LAYOUT);
    const Preference* wanted = as<Preference>(preference, PREFERENCE);
    if (!o || !of_a || !of_b || !as<Layout>(c, LAYOUT) || !of_d || !wanted || requested < 1 || !results || !returned)
        return INVALID_VALUE;
    if (wanted->reductions & ~2u) return INVALID_VALUE;  // sums in a 16-bit output
    const Product p = product_of(*o, *of_a, *of_b, *of_d);
    *returned = 0;
    if (const int status = check_lt(*o, p)) return status;
    for (const uint64_t needed : {uint64_t(0), uint64_t(1) << 20}) {
        if (*returned == requested || needed > wanted->workspace) break;
        HeuristicResult& result = results[(*returned)++];
        result = {};
        result.algorithm = {fingerprint(p), needed, wanted->alignment_a, wanted->alignment_b, wanted->alignment_d, {}};
        result.workspace = needed;
        result.waves = 1;
    }
    return SUCCESS;
}

EXPORT int cublasLtMatmul(void* handle, void* operation, const void* alpha, const void* A, void* a, const void* B, void* b,
                          const void* beta, const void* C, void* c, void* D, void* d, const Algorithm* algorithm,
                          void* workspace, size_t workspace_bytes, void* stream) {
    if (!as<Lt>(handle, LT)) return NOT_INITIALIZED;
    const Operation* o = as<Operation>(operation, OPERATION);
    const Layout *of_a = as<Layout>(a, LAYOUT), *of_b = as<Layout>(b, LAYOUT), *of_d = as<Layout>(d, LAYOUT);
    if (!o || !of_a || !of_b || !as<Layout>(c, LAYOUT) || !of_d || !alpha || !beta || !algorithm) return INVALID_VALUE;
    const Product p = product_of(*o, *of_a, *of_b, *of_d);
    if (const int status = check_lt(*o, p)) return status;
    if (!A || !B || !D || C != D || c != d) return INVALID_VALUE;
    if (algorithm->problem != fingerprint(p) || algorithm->workspace > workspace_bytes) return INVALID_VALUE;
    if (algorithm->workspace && (!workspace || alignment(workspace) < 256)) return INVALID_VALUE;
    if (alignment(A) < algorithm->alignment_a || alignment(B) < algorithm->alignment_b ||
        alignment(D) < algorithm->alignment_d)
        return INVALID_VALUE;
    if (overlap(A, p.a.bytes(), D, p.c.bytes()) || overlap(B, p.b.bytes(), D, p.c.bytes())) return INVALID_VALUE;
    const Work product = arithmetic(p, factor(alpha, o->compute), factor(beta, o->compute), A, B, D, o->bias, o->aux);
    const size_t used = algorithm->workspace;
    return submit(stream, [product, workspace, used] {
        if (used) std::memset(workspace, 0xff, used);  // nothing of the caller's lies there
        product();
    });
}

#ifdef SOFTWARE_CUDA
#include "gemm_of_cupy.inc"
#endif
