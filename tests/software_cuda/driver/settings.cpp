#include "settings.hpp"

#include <cuda_runtime_api.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace software_cuda {
namespace {

[[noreturn]] void refuse(const char* name, const char* text, const char* expected) {
    fprintf(stderr, "software CUDA: %s is %s, got '%s'.\n", name, expected, text);
    abort();
}

long number(const char* name, long otherwise, long least, long most) {
    const char* text = getenv(name);
    if (!text || !*text) return otherwise;
    char* end = nullptr;
    const long value = strtol(text, &end, 10);
    char expected[64];
    snprintf(expected, sizeof expected, "an integer from %ld to %ld", least, most);
    if (*end || value < least || value > most) refuse(name, text, expected);
    return value;
}

Execution execution() {
    const char* text = getenv("SOFTWARE_CUDA_EXECUTION");
    if (!text || !*text || !strcmp(text, "late")) return Execution::late;
    if (!strcmp(text, "random")) return Execution::random;
    if (!strcmp(text, "eager")) return Execution::eager;
    refuse("SOFTWARE_CUDA_EXECUTION", text, "late, random or eager");
}

}  // namespace

const Settings& settings() {
    static const Settings read{
        execution(),
        static_cast<uint64_t>(number("SOFTWARE_CUDA_SEED", 1, 0, 1L << 62)),
        static_cast<int>(number("SOFTWARE_CUDA_DEVICES", 1, 0, 64)),
        static_cast<size_t>(number("SOFTWARE_CUDA_MEMORY_MIB", 4096, 0, 1L << 30)) << 20,
        static_cast<int>(number("SOFTWARE_CUDA_COMPUTE_CAPABILITY", 80, 50, 200)),
        static_cast<int>(number("SOFTWARE_CUDA_DRIVER", CUDART_VERSION, 0, 99990)),
        number("SOFTWARE_CUDA_LOG", 0, 0, 1) != 0,
    };
    return read;
}

void log(const char* format, ...) {
    if (!settings().log) return;
    char line[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    fprintf(stderr, "[software CUDA] %s\n", line);
}

// splitmix64
uint64_t random_number() {
    static uint64_t state = settings().seed;
    uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

}  // namespace software_cuda
