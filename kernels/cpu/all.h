/* All operations for one kind of numbers. */
#include "numbers.h"
#include "elementary.h"
#include "product.h"
#include "parameters.h"

#include "advance.c"
#include "copy_rows.c"
#include "gather_rows.c"
#include "row_sum.c"
#include "softmax_cross_entropy.c"

#include "adam.c"
#include "check_gradients.c"
#include "finish_step.c"
#include "judge.c"
