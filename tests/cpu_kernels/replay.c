/* Computes recorded calls of operations anew (recorded_calls.py writes the file), and compares what they write bit for bit; a NaN
   is like any other. Each array has memory of exactly its size, so that a sanitizer sees what lies beyond.

       replay FILE LEVEL FORKS

   Every call is computed in one part and in several. Then two threads do that at the same time and, where FORKS is 1, children that
   are forked in the midst of it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record.h"
#include "system.h"

#if defined(_WIN32)
#define FROM_LIBRARY __declspec(dllimport)
#define free_memory _aligned_free
#else
#include <sys/wait.h>
#include <unistd.h>
#define FROM_LIBRARY extern
#define free_memory free
#endif

FROM_LIBRARY int fcnn_n_levels(void);
FROM_LIBRARY const char *fcnn_level_name(int level);
FROM_LIBRARY int fcnn_level_is_supported(int level);
FROM_LIBRARY int fcnn_n_operations(void);
FROM_LIBRARY const char *fcnn_operation_name(int operation);
FROM_LIBRARY const char *fcnn_operation_parameters(int operation);
FROM_LIBRARY int64_t fcnn_run(const Execution *given);

typedef struct {
    int64_t size, offset, number_bytes; /* offset: from a cache line; number_bytes: of a float, a double, or 0 */
    const unsigned char *before, *after;
} Buffer;

typedef struct {
    int64_t is_pointer, value, offset; /* of a pointer: which buffer, and how far in */
} Word;

typedef struct {
    const char *name;
    int32_t operation, is_double;
    int is_serial, is_repeatable; /* the latter: computed again and again, it writes the same */
    int64_t n_words, n_buffers;
    Word words[MOST_ARGUMENTS];
    Buffer buffers[MOST_ARGUMENTS];
} Call;

static int level;
static int64_t n_calls;
static Call *calls;

static void give_up(const char *what, const char *about)
{
    fprintf(stderr, "replay: %s: %s\n", what, about);
    exit(2);
}

static const unsigned char *at;

static int64_t next_number(void)
{
    int64_t number;
    memcpy(&number, at, sizeof number);
    at += sizeof number;
    return number;
}

static const unsigned char *next_bytes(int64_t n)
{
    at += n;
    return at - n;
}

static int32_t operation_named(const char *name)
{
    for (int i = 0; i < fcnn_n_operations(); i++)
        if (strcmp(fcnn_operation_name(i), name) == 0) return i;
    give_up("the library has no operation", name);
    return -1;
}

static void read_calls(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) give_up("cannot be read", path);
    fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    rewind(file);
    unsigned char *text = malloc((size_t)size);
    if (!text || fread(text, 1, (size_t)size, file) != (size_t)size) give_up("cannot be read", path);
    fclose(file);
    at = text;
    n_calls = next_number();
    calls = calloc((size_t)n_calls, sizeof *calls);
    for (Call *call = calls; call < calls + n_calls; call++) {
        call->name = (const char *)next_bytes(next_number());
        call->operation = operation_named(call->name);
        call->is_serial = strncmp(fcnn_operation_parameters(call->operation), "SERIAL", 6) == 0;
        call->is_double = (int32_t)next_number();
        call->n_words = next_number();
        for (Word *word = call->words; word < call->words + call->n_words; word++)
            *word = (Word){.is_pointer = next_number(), .value = next_number(), .offset = next_number()};
        call->n_buffers = next_number();
        for (Buffer *buffer = call->buffers; buffer < call->buffers + call->n_buffers; buffer++) {
            buffer->offset = next_number();
            buffer->number_bytes = next_number();
            buffer->size = next_number();
            buffer->before = next_bytes(buffer->size);
            buffer->after = next_number() ? next_bytes(buffer->size) : buffer->before; /* nothing: as before */
        }
    }
}

static int is_nan_at(const unsigned char *bytes, int64_t number_bytes)
{
    float f;
    double d;
    memcpy(&f, bytes, sizeof f);
    if (number_bytes == 4) return f != f;
    memcpy(&d, bytes, sizeof d);
    return d != d;
}

/* How far the bytes are as they should be. */
static int64_t agreement(const Buffer *buffer, const unsigned char *found)
{
    const int64_t step = buffer->number_bytes ? buffer->number_bytes : 1;
    for (int64_t i = 0; i < buffer->size; i += step)
        if (memcmp(found + i, buffer->after + i, (size_t)step) != 0 &&
            !(buffer->number_bytes && is_nan_at(found + i, step) && is_nan_at(buffer->after + i, step)))
            return i;
    return buffer->size;
}

/* Computes a call in n_parts parts; `n_phases` phases of it make a program that is executed n_times times. Returns the array that
   is not what it should be, or −1, and where. */
static int64_t replay(const Call *call, int64_t n_parts, int64_t n_phases, int64_t n_times, void *scratch, int64_t *where)
{
    unsigned char *memory[MOST_ARGUMENTS];
    Record *records = calloc((size_t)n_phases, sizeof *records);
    Phase *phases = calloc((size_t)n_phases, sizeof *phases);
    for (int64_t i = 0; i < call->n_buffers; i++) {
        const Buffer *buffer = call->buffers + i;
        memory[i] = new_memory((size_t)(buffer->offset + buffer->size));
        memcpy(memory[i] + buffer->offset, buffer->before, (size_t)buffer->size);
    }
    for (int64_t p = 0; p < n_phases; p++) {
        records[p] = (Record){.operation = call->operation, .is_double = call->is_double};
        for (int64_t i = 0; i < call->n_words; i++) {
            const Word *word = call->words + i;
            int64_t value = word->value;
            if (word->is_pointer) value = (int64_t)(intptr_t)(memory[value] + call->buffers[value].offset + word->offset);
            records[p].arguments[i] = value;
        }
        phases[p] = (Phase){.first = p, .n_shared = !call->is_serial, .n_serial = call->is_serial, .n_parts = n_parts};
    }
    const Execution execution = {.level = level, .records = records, .phases = phases, .n_phases = n_phases, .n_threads = n_parts,
                                 .n_times = n_times, .budget = INT64_C(1) << 60, .scratch = scratch};
    if (fcnn_run(&execution) != n_times) give_up("a program came back early", call->name);
    int64_t wrong = -1;
    for (int64_t i = call->n_buffers - 1; i >= 0; i--) {
        const Buffer *buffer = call->buffers + i;
        const int64_t agrees = agreement(buffer, memory[i] + buffer->offset);
        if (agrees < buffer->size) {
            wrong = i;
            *where = agrees;
        }
        free_memory(memory[i]);
    }
    free(records);
    free(phases);
    return wrong;
}

static void check(const Call *call, int64_t n_parts, int64_t n_phases, int64_t n_times, void *scratch)
{
    int64_t where;
    const int64_t wrong = replay(call, n_parts, n_phases, n_times, scratch, &where);
    if (wrong < 0) return;
    fprintf(stderr, "replay: %s of %s, %d times in %d parts: byte %d of array %d, which has %d, differs\n", call->name,
            call->is_double ? "doubles" : "floats", (int)(n_phases * n_times), (int)n_parts, (int)where, (int)wrong,
            (int)call->buffers[wrong].size);
    exit(1);
}

static void check_all(int64_t first_parts)
{
    void *scratch = new_memory(SCRATCH_BYTES);
    for (Call *call = calls; call < calls + n_calls; call++)
        for (int64_t n_parts = first_parts; n_parts <= 7; n_parts += 2) {
            check(call, n_parts, 1, 1, scratch);
            if (call->is_repeatable) check(call, n_parts, 6, 2, scratch);
        }
    free_memory(scratch);
}

static _Atomic int n_at_work;

THREAD(caller, first_parts)
{
    check_all((int64_t)(intptr_t)first_parts);
    atomic_fetch_sub(&n_at_work, 1);
    return 0;
}

#if !defined(_WIN32)
static void check_in_a_child(void)
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        check_all(2);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) give_up("a child of a fork", "failed");
}
#endif

int main(int n_arguments, char **arguments)
{
    if (n_arguments != 4) give_up("expects", "FILE LEVEL FORKS");
    for (level = fcnn_n_levels() - 1; level >= 0 && strcmp(fcnn_level_name(level), arguments[2]) != 0;) level--;
    if (level < 0 || !fcnn_level_is_supported(level)) give_up("there is no level", arguments[2]);
    read_calls(arguments[1]);
    void *scratch = new_memory(SCRATCH_BYTES);
    for (Call *call = calls; call < calls + n_calls; call++) {
        int64_t where;
        call->is_repeatable = replay(call, 1, 1, 2, scratch, &where) < 0;
    }
    check_all(1);
    check_all(2);
    for (intptr_t first_parts = 1; first_parts <= 2; first_parts++) {
        atomic_fetch_add(&n_at_work, 1);
        if (!start_thread(caller, (void *)first_parts)) give_up("there is no thread for", "a caller");
    }
#if !defined(_WIN32)
    while (atoi(arguments[3]) && atomic_load(&n_at_work)) check_in_a_child();
#endif
    while (atomic_load(&n_at_work)) let_others_run();
    printf("%d calls agree\n", (int)n_calls);
    return 0;
}
