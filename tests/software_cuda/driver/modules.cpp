#include "modules.hpp"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "memory.hpp"
#include "queue.hpp"
#include "settings.hpp"

namespace software_cuda {
namespace {

std::map<std::string, CUmodule> loaded;  // an image that is loaded again is the same module
std::map<std::pair<CUmodule, size_t>, CUfunction> functions;

size_t image_bytes(const char* image) {
    const auto* header = reinterpret_cast<const Elf64_Ehdr*>(image);
    return header->e_shoff + static_cast<size_t>(header->e_shentsize) * header->e_shnum;
}

// Static variables of functions have local names, _ZZ...: kernels have no others than their shared arrays.
void find_shared_arrays(CUmod_st& module, const char* image, const char* base) {
    const auto* header = reinterpret_cast<const Elf64_Ehdr*>(image);
    const auto* sections = reinterpret_cast<const Elf64_Shdr*>(image + header->e_shoff);
    for (int i = 0; i < header->e_shnum; ++i) {
        if (sections[i].sh_type != SHT_SYMTAB) continue;
        const auto* symbols = reinterpret_cast<const Elf64_Sym*>(image + sections[i].sh_offset);
        const char* strings = image + sections[sections[i].sh_link].sh_offset;
        for (size_t k = 0; k < sections[i].sh_size / sizeof(Elf64_Sym); ++k) {
            const char* name = strings + symbols[k].st_name;
            if (ELF64_ST_TYPE(symbols[k].st_info) != STT_OBJECT || strncmp(name, "_ZZ", 3)) continue;
            if (strstr(name, "cuda_on_cpu")) continue;
            const int section = symbols[k].st_shndx;
            if (section >= header->e_shnum || !(sections[section].sh_flags & SHF_WRITE)) continue;
            module.shared_names.push_back(name);
            module.shared.push_back({nullptr, const_cast<char*>(base) + symbols[k].st_value, symbols[k].st_size});
        }
    }
    for (size_t i = 0; i < module.shared.size(); ++i) module.shared[i].name = module.shared_names[i].c_str();
}

// dlopen takes a path, and takes a path that it knows for the same library: so each image has one of its own.
void* opened(const char* image, size_t bytes) {
    const char* folder = getenv("TMPDIR");
    std::string path = std::string(folder && *folder ? folder : "/tmp") + "/software_cuda_XXXXXX";
    const int file = mkostemp(path.data(), O_CLOEXEC);
    if (file < 0) return nullptr;
    bool written = true;
    for (size_t done = 0; done < bytes && written;) {
        const ssize_t n = write(file, image + done, bytes - done);
        written = n > 0;
        done += written ? static_cast<size_t>(n) : 0;
    }
    close(file);
    void* library = written ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (!library) fprintf(stderr, "[software CUDA] %s\n", written ? dlerror() : "an image could not be written");
    unlink(path.c_str());
    return library;
}

// The stacks of a block's threads, each above an inaccessible page.
char* stacks(const CUmod_st& module) {
    static char* const made = [&module] {
        auto make = reinterpret_cast<char* (*)()>(dlsym(module.library, "cuda_on_cpu_make_stacks"));
        return make ? make() : nullptr;
    }();
    return made;
}

// A pointer among a kernel's arguments must lie in memory of the device that runs it, or in page-locked memory.
void check_pointer(const std::string& kernel, size_t i, void* pointer) {
    if (!pointer) return;
    char text[512];
    const auto found = allocation_of(pointer);
    if (!found) {
        if (allocation_of(static_cast<char*>(pointer) - 1)) return;  // one past an end: an empty array
        snprintf(text, sizeof text, "%s: argument %zu, %p, lies in no memory of a device", kernel.c_str(), i, pointer);
        fault(cudaErrorIllegalAddress, text);
    } else if (found->kind == Kind::device && found->device != current_device()) {
        snprintf(text, sizeof text, "%s: argument %zu lies on device %d, the kernel runs on device %d", kernel.c_str(), i,
                 found->device, current_device());
        fault(cudaErrorIllegalAddress, text);
    }
}

}  // namespace

int load_module(CUmodule* out, const void* data) {
    const char* image = static_cast<const char*>(data);
    if (!out || !image) return CUDA_ERROR_INVALID_VALUE;
    // Loading copies to the device and waits for that.
    if (captures_now()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (memcmp(image, ELFMAG, SELFMAG)) return CUDA_ERROR_INVALID_IMAGE;
    const std::string key(image, image_bytes(image));
    const auto known = loaded.find(key);
    if (known != loaded.end()) {
        *out = known->second;
        return CUDA_SUCCESS;
    }
    auto module = std::make_unique<CUmod_st>();
    module->library = opened(image, key.size());
    if (!module->library) return CUDA_ERROR_INVALID_IMAGE;
    const auto symbol = [&](const char* name) { return dlsym(module->library, name); };
    module->launch = reinterpret_cast<decltype(module->launch)>(symbol("cuda_on_cpu_launch"));
    const auto* entries = static_cast<const cuda_on_cpu::Entry* const*>(symbol("software_cuda_entries"));
    const auto* n_entries = static_cast<const size_t*>(symbol("software_cuda_n_entries"));
    module->names = static_cast<const char* const*>(symbol("software_cuda_names"));
    module->kinds = static_cast<const char* const*>(symbol("software_cuda_kinds"));
    if (!module->launch || !entries || !n_entries || !module->names || !module->kinds) return CUDA_ERROR_INVALID_IMAGE;
    module->entries = *entries;
    module->n_entries = *n_entries;
    Dl_info info;
    if (!dladdr(reinterpret_cast<void*>(module->launch), &info)) return CUDA_ERROR_INVALID_IMAGE;
    find_shared_arrays(*module, image, static_cast<const char*>(info.dli_fbase));
    *out = module.release();
    loaded[key] = *out;
    return CUDA_SUCCESS;
}

int function_of(CUfunction* out, CUmodule module, const char* name) {
    if (!out || !module || !name) return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < module->n_entries; ++i) {
        if (strcmp(module->names[i], name)) continue;
        CUfunction& function = functions[{module, i}];
        if (!function) function = new CUfunc_st{module, i};
        *out = function;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_NOT_FOUND;
}

size_t static_shared(const CUfunc_st& function) {
    size_t bytes = 0;
    for (const auto& array : function.module->shared) bytes += array.bytes;
    return bytes;
}

// Of one block, by compute capability (CUDA C++ Programming Guide, table of technical specifications).
int most_dynamic_shared() {
    const int capability = settings().compute_capability;
    const int kib = capability >= 120                       ? 99
                    : capability >= 90                      ? 227
                    : capability == 86 || capability == 89  ? 99
                    : capability >= 80                      ? 163
                    : capability == 75                      ? 64
                                                            : 96;
    return kib * 1024;
}

int launch(CUfunction function, unsigned grid, unsigned block, unsigned shared, CUstream handle, void** parameters) {
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    const CUstream_st* stream = resolve(handle);
    if (!stream || stream->device != current_device()) return CUDA_ERROR_INVALID_HANDLE;
    if (!grid || grid > 2147483647u || !block || block > 1024 || shared > static_cast<unsigned>(function->dynamic_shared))
        return CUDA_ERROR_INVALID_VALUE;
    const cuda_on_cpu::Entry& entry = function->module->entries[function->entry];
    const char* kinds = function->module->kinds[function->entry];
    const std::string name = function->module->names[function->entry];
    auto values = std::make_shared<std::vector<std::vector<char>>>();  // they are read at the call
    for (size_t i = 0; i < entry.n_arguments; ++i) {
        const char* from = static_cast<const char*>(parameters[i]);
        values->emplace_back(from, from + entry.sizes[i]);
        if (kinds[i] != 'p') continue;
        void* pointer;
        memcpy(&pointer, from, sizeof pointer);
        check_pointer(name, i, pointer);
    }
    return enqueue(handle, name.c_str(), [function, grid, block, shared, values, name] {
        const CUmod_st& module = *function->module;
        std::vector<cuda_on_cpu::Argument> arguments(values->size() + 1);
        for (size_t i = 0; i < values->size(); ++i)
            arguments[i] = {"an argument", -1, 0, (*values)[i].data(), (*values)[i].size()};
        cuda_on_cpu::Launch launch{};
        launch.entry = function->entry;
        launch.grid = grid;
        launch.block = block;
        launch.dynamic_shared = shared;
        launch.seed = settings().execution == Execution::random ? random_number() | 1 : 1;
        launch.n_arguments = values->size();
        launch.arguments = arguments.data();
        launch.n_static_shared = module.shared.size();
        launch.static_shared = module.shared.data();
        launch.stacks = stacks(module);
        char message[2048] = "";
        if (module.launch(&launch, message, sizeof message)) {
            const bool address = strstr(message, "reads or writes") || strstr(message, "misaligned");
            fault(address ? cudaErrorIllegalAddress : cudaErrorLaunchFailure, name + ": " + message);
        }
    });
}

}  // namespace software_cuda
