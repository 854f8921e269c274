/* One operation for one instruction level: that of the file which is named (-DOPERATION_FILE=adam). */
#include "level.h"

#define REAL_IS_FLOAT 1
#include "operation_of.h"
#undef REAL_IS_FLOAT
#define REAL_IS_FLOAT 0
#include "operation_of.h"
