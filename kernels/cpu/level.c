/* The table of all operations, for one instruction level. */
#include "level.h"
#include "operations.h"

#define DECLARE(name)                                           \
    extern const char JOIN(name##_parameters_f32_, LEVEL)[];    \
    void JOIN(name##_f32_, LEVEL)(const void *, const Share *); \
    void JOIN(name##_f64_, LEVEL)(const void *, const Share *);
OPERATIONS(DECLARE)

#define ENTRY(name) {#name, JOIN(name##_parameters_f32_, LEVEL), {JOIN(name##_f32_, LEVEL), JOIN(name##_f64_, LEVEL)}},
const Operation JOIN(fcnn_operations_, LEVEL)[] = {OPERATIONS(ENTRY)};
