/* An operation for one kind of numbers, below all that its text may use. */
#include "numbers.h"
#include "elementary.h"
#include "activation.h"
#include "alpha_dropout.h"
#include "category.h"
#include "lanes.h"
#include "normalization.h"
#include "parameters.h"
#include "philox.h"
#include "sources.h"
#include "sparse.h"
#include "sums.h"
#include "transpose.h"
#include "vector.h"
#include "column_sums.h"
#include "embed_numbers.h"

#define FILE_OF(name) TEXT(name.c)
#include FILE_OF(OPERATION_FILE)
#undef FILE_OF
