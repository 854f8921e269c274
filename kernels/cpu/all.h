/* All operations for one kind of numbers. */
#include "numbers.h"
#include "elementary.h"
#include "product.h"
#include "parameters.h"
#include "sums.h"

#include "advance.c"
#include "gather_rows.c"
#include "store_rows.c"
#include "take_next.c"

#include "count_nonfinite.c"
#include "row_sum.c"
#include "softmax_cross_entropy.c"
#include "sum.c"

#include "check_gradients.c"
#include "clip.c"
#include "finish_step.c"
#include "judge.c"
#include "penalized_gradient.c"
#include "penalty.c"
#include "squares.c"

#include "adagrad.c"
#include "adam.c"
#include "rmsprop.c"
#include "sgd.c"
