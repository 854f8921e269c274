/* All operations but the products, for one instruction level. */
#include "level.h"
#include "operations.h"

#define REAL_IS_FLOAT 1
#include "all.h"
#undef REAL_IS_FLOAT
#define REAL_IS_FLOAT 0
#include "all.h"

#define ENTRY(name) {#name, JOIN(name##_parameters_f32_, LEVEL), {JOIN(name##_f32_, LEVEL), JOIN(name##_f64_, LEVEL)}},
const Operation JOIN(fcnn_operations_, LEVEL)[] = {OPERATIONS(ENTRY)};
