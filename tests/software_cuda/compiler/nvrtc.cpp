// NVRTC whose compiler is g++: the "cubin" of a program is a shared library of its kernels, executed by CUDA on the CPU
// (driver/modules.cpp loads it).
//
// The build defines CXX and FLAGS (the compiler and its flags), CUDA_ON_CPU (the folder of CUDA on the CPU), COMPILER (this
// folder), PARTS (the precompiled header, and objects that every library is linked with), NVRTC_MAJOR and NVRTC_MINOR.
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))
extern char** environ;

namespace {

// nvrtcResult
enum Result { SUCCESS = 0, PROGRAM_CREATION_FAILURE = 2, INVALID_OPTION = 5, COMPILATION = 6, NAME_NOT_VALID = 10, INTERNAL = 11 };

struct Program {
    std::string source, name, log, cubin, ptx;
    std::vector<std::string> expressions;
    std::map<std::string, std::string> lowered;
};

bool write_file(const std::string& path, const std::string& text) {
    FILE* file = fopen(path.c_str(), "wb");
    if (!file) return false;
    const bool written = fwrite(text.data(), 1, text.size(), file) == text.size();
    return fclose(file) == 0 && written;
}

std::string read_file(const std::string& path) {
    std::string text;
    if (FILE* file = fopen(path.c_str(), "rb")) {
        char part[65536];
        for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;) text.append(part, n);
        fclose(file);
    }
    return text;
}

bool exists(const std::string& path) {
    struct stat found;
    return stat(path.c_str(), &found) == 0;
}

int run(const std::vector<std::string>& command, const std::string& log) {
    std::vector<char*> arguments;
    for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t child;
    const int failed = posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) return 127;
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
    for (size_t i = 0; (i = text.find(what, i)) != std::string::npos; i += by.size()) text.replace(i, what.size(), by);
    return text;
}

std::vector<std::string> matches(const std::string& text, const std::regex& pattern) {
    std::vector<std::string> found;
    for (std::sregex_iterator i(text.begin(), text.end(), pattern), end; i != end; ++i) found.push_back((*i)[1]);
    return found;
}

// Kernels without templates, by their names: extern "C" __global__ void [attributes] name(
std::vector<std::string> plain_kernels(const std::string& source) {
    static const std::regex kernel(
        "extern\\s*\"C\"\\s*__global__\\s*(?:__launch_bounds__\\s*\\([^)]*\\)\\s*)?void\\s+"
        "(?:__launch_bounds__\\s*\\([^)]*\\)\\s*)?([A-Za-z_]\\w*)\\s*\\(");
    return matches(source, kernel);
}

// The options as g++ takes them. NVIDIA's own headers are for NVIDIA's compiler: those of CUDA on the CPU take their place,
// where the folders that were named hold one of that name.
struct Options {
    std::vector<std::string> for_compiler, folders;
    std::string standard = "-std=c++17";
    bool cubin = false, known = true;
};

Options translated(int n_options, const char* const* options, std::string& log) {
    Options out;
    for (int i = 0; i < n_options; ++i) {
        std::string option = options[i];
        if (option == "-I" || option == "--include-path") option = std::string("-I") + options[++i];
        if (!option.rfind("-I", 0)) out.folders.push_back(option.substr(2));
        else if (!option.rfind("--include-path=", 0)) out.folders.push_back(option.substr(15));
        else if (!option.rfind("-D", 0)) out.for_compiler.push_back(option);
        else if (!option.rfind("-arch=", 0) || !option.rfind("--gpu-architecture=", 0))
            out.cubin = option.find("sm_") != std::string::npos;
        else if (!option.rfind("-std=", 0) || !option.rfind("--std=", 0))
            out.standard = "-std=" + option.substr(option.find('=') + 1);
        else if (option == "-ftz=true" || option == "--ftz=true" || option == "--device-as-default-execution-space" ||
                 option == "-default-device" || !option.rfind("--fmad=", 0) || !option.rfind("-fmad=", 0)) {
        } else {
            log += "nvrtc: error: unrecognized option '" + option + "'\n";
            out.known = false;
        }
    }
    return out;
}

// A header that the program names and none of its folders holds, or "".
std::string missing_header(const std::string& source, const std::vector<std::string>& folders) {
    static const std::regex include("(?:^|\\n)[ \\t]*#[ \\t]*include[ \\t]*<([^>]+)>");
    for (const std::string& header : matches(source, include)) {
        if (!exists(std::string(CUDA_ON_CPU "/include/") + header)) continue;  // not one of CUDA's
        bool found = false;
        for (const std::string& folder : folders) found = found || exists(folder + "/" + header);
        if (!found) return header;
    }
    return "";
}

// The program's text between what a kernel needs around it, with a table of its kernels.
std::string whole_program(Program& p, bool of_cupy) {
    std::string names, kinds, entries;
    const auto add = [&](const std::string& expression, const std::string& name) {
        entries += "    EntryOf<&::" + expression + ">::entry(),\n";
        kinds += "    cuda_on_cpu::KindsOf<&::" + expression + ">::text,\n";
        names += "    \"" + name + "\",\n";
    };
    int number = 0;
    for (const std::string& expression : p.expressions) {
        // A name that nobody can guess: what is asked for must be the lowered name that was given.
        std::string name = "_Z";
        for (char c : expression) name += isalnum(static_cast<unsigned char>(c)) ? c : '_';
        name += "_" + std::to_string(number++);
        p.lowered[expression] = name;
        add(expression, name);
    }
    for (const std::string& name : plain_kernels(p.source)) add(name, name);
    if (entries.empty()) return "";
    const std::string visible = "extern __attribute__((visibility(\"default\"))) ";
    return std::string(of_cupy ? "#include \"for_cupy.hpp\"\n" : "#include \"cuda_on_cpu.hpp\"\n") + "#line 1 \"" + p.name + "\"\n" +
           replaced(p.source, "extern __shared__", "extern") +  // the scheduler has the one array that this may name
           "\n#undef __shared__\n#undef __device__\n#undef __global__\n#include \"entries.hpp\"\n"
           "namespace cuda_on_cpu {\nconst Entry entries[] = {\n" + entries + "};\n"
           "const size_t n_entries = sizeof entries / sizeof *entries;\n}\nextern \"C\" {\n" +
           visible + "const cuda_on_cpu::Entry* const software_cuda_entries = cuda_on_cpu::entries;\n" +
           visible + "const size_t software_cuda_n_entries = sizeof cuda_on_cpu::entries / sizeof *cuda_on_cpu::entries;\n" +
           visible + "const char* const software_cuda_names[] = {\n" + names + "};\n" +
           visible + "const char* const software_cuda_kinds[] = {\n" + kinds + "};\n}\n";
}

int compile(Program& p, const Options& options, bool of_cupy, const std::string& program, const std::string& folder) {
    const std::string source = folder + "/program.cpp", object = folder + "/program.o", library = folder + "/program.so",
                      log = folder + "/log";
    if (!write_file(source, program)) return INTERNAL;
    std::vector<std::string> command = {CXX, options.standard};
    std::istringstream flags(FLAGS);
    for (std::string flag; flags >> flag;) command.push_back(flag);
    command.insert(command.end(), options.for_compiler.begin(), options.for_compiler.end());
    for (const char* own : {PARTS, COMPILER, CUDA_ON_CPU, CUDA_ON_CPU "/include"}) command.push_back(std::string("-I") + own);
    if (of_cupy)
        for (const std::string& named : options.folders)
            if (named.find("cupy/_core/include") != std::string::npos) command.push_back("-I" + named);
    for (const std::string& word : {std::string("-c"), source, std::string("-o"), object}) command.push_back(word);
    int failed = run(command, log);
    // Linked without the sanitizers' flags, which would bring their libraries.
    if (!failed)
        failed = run({CXX, "-shared", object, PARTS "/scheduler.o", PARTS "/races.o", "-o", library}, log);
    p.log += read_file(log);
    if (!failed) p.cubin = read_file(library);
    for (const std::string& path : {source, object, library, log}) unlink(path.c_str());
    return failed ? COMPILATION : SUCCESS;
}

}  // namespace

EXPORT const char* nvrtcGetErrorString(int code) {
    switch (code) {
        case SUCCESS: return "NVRTC_SUCCESS";
        case PROGRAM_CREATION_FAILURE: return "NVRTC_ERROR_PROGRAM_CREATION_FAILURE";
        case INVALID_OPTION: return "NVRTC_ERROR_INVALID_OPTION";
        case COMPILATION: return "NVRTC_ERROR_COMPILATION";
        case NAME_NOT_VALID: return "NVRTC_ERROR_NAME_EXPRESSION_NOT_VALID";
        default: return "NVRTC_ERROR_INTERNAL_ERROR";
    }
}
EXPORT int nvrtcVersion(int* major, int* minor) {
    *major = NVRTC_MAJOR;
    *minor = NVRTC_MINOR;
    return SUCCESS;
}

namespace {
#if NVRTC_MAJOR >= 13
const int architectures[] = {75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121};
#else
const int architectures[] = {50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90, 100, 101, 103, 120, 121};
#endif
}  // namespace
EXPORT int nvrtcGetNumSupportedArchs(int* n) {
    *n = sizeof architectures / sizeof *architectures;
    return SUCCESS;
}
EXPORT int nvrtcGetSupportedArchs(int* out) {
    memcpy(out, architectures, sizeof architectures);
    return SUCCESS;
}

EXPORT int nvrtcCreateProgram(Program** out, const char* source, const char* name, int n_headers, const char* const*,
                              const char* const*) {
    if (n_headers) return PROGRAM_CREATION_FAILURE;  // headers as text: nobody here passes them
    *out = new Program;
    (*out)->source = source;
    (*out)->name = name ? name : "default_program";
    return SUCCESS;
}
EXPORT int nvrtcDestroyProgram(Program** program) {
    delete *program;
    *program = nullptr;
    return SUCCESS;
}
EXPORT int nvrtcAddNameExpression(Program* p, const char* expression) {
    p->expressions.push_back(expression);
    return SUCCESS;
}
EXPORT int nvrtcGetLoweredName(Program* p, const char* expression, const char** name) {
    const auto found = p->lowered.find(expression);
    if (found == p->lowered.end()) return NAME_NOT_VALID;
    *name = found->second.c_str();
    return SUCCESS;
}

EXPORT int nvrtcCompileProgram(Program* p, int n_options, const char* const* given) {
    const Options options = translated(n_options, given, p->log);
    if (!options.known) return INVALID_OPTION;
    const bool of_cupy = p->source.find("cupy/carray.cuh") != std::string::npos;
    const std::string missing = missing_header(p->source, options.folders);
    if (!missing.empty()) {
        p->log += p->name + "(1): catastrophic error: cannot open source file \"" + missing + "\"\n";
        return COMPILATION;
    }
    p->ptx = "// software CUDA compiles for the CPU, not to PTX\n";
    if (!options.cubin || p->source.find_first_not_of(" \n\t") == std::string::npos) return SUCCESS;
    const std::string program = whole_program(*p, of_cupy);
    if (program.empty()) {
        p->log += p->name + ": no kernels\n";
        return COMPILATION;
    }
    const char* temporary = getenv("TMPDIR");
    std::string folder = std::string(temporary && *temporary ? temporary : "/tmp") + "/software_nvrtc_XXXXXX";
    if (!mkdtemp(folder.data())) return INTERNAL;
    const int status = compile(*p, options, of_cupy, program, folder);
    rmdir(folder.c_str());
    return status;
}

EXPORT int nvrtcGetCUBINSize(Program* p, size_t* n) {
    *n = p->cubin.empty() ? 0 : p->cubin.size() + 1;  // CuPy drops the last byte of what it is given
    return SUCCESS;
}
EXPORT int nvrtcGetCUBIN(Program* p, char* out) {
    memcpy(out, p->cubin.c_str(), p->cubin.size() + 1);
    return SUCCESS;
}
EXPORT int nvrtcGetPTXSize(Program* p, size_t* n) {
    *n = p->ptx.size() + 1;
    return SUCCESS;
}
EXPORT int nvrtcGetPTX(Program* p, char* out) {
    memcpy(out, p->ptx.c_str(), p->ptx.size() + 1);
    return SUCCESS;
}
EXPORT int nvrtcGetProgramLogSize(Program* p, size_t* n) {
    *n = p->log.size() + 1;
    return SUCCESS;
}
EXPORT int nvrtcGetProgramLog(Program* p, char* out) {
    memcpy(out, p->log.c_str(), p->log.size() + 1);
    return SUCCESS;
}
EXPORT int nvrtcGetLTOIRSize(Program*, size_t* n) {
    *n = 0;
    return SUCCESS;
}
EXPORT int nvrtcGetLTOIR(Program*, char*) { return SUCCESS; }
