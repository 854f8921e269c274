/* C = α·A·B, the three products of a layer, with what belongs to each element of C done while it is in a register.

   A (m, k), B (k, n), C (m, n); an element of A lies at A[i·a_row + p·a_inner], of B at B[p·b_inner + j·b_column], of C at
   C[i·c_row + j]. `groups` products side by side, each with a part of the matrices that begins a_group, b_group, c_group elements
   behind that of the one before, and n elements of b. `accumulate`: C + α·A·B, α = 1. Behind α, by `epilogue`:
       STORE          C
       BIAS           C + b_j
       BIAS_RELU      max(C + b_j, 0)
       BIAS_LEAKY     max(C + b_j, slope·(C + b_j))
       CHECK          C, and *unsound ← 1 if the square of any element is not finite

   Every element is one sum over p = 0, 1, 2, ..., each product added with one rounding: it has the same bits whatever the tile,
   the block or the thread that it is computed in. Source of the blocks: Goto & van de Geijn (2008), "Anatomy of
   high-performance matrix multiplication". */
#ifndef FCNN_EPILOGUES
#define FCNN_EPILOGUES
enum { STORE, BIAS, BIAS_RELU, BIAS_LEAKY, CHECK };
#endif

/* Z = A₀·W (batch, n_out) with its epilogue, and dA₀ = dZ·Wᵀ: the rows of A and C are samples. */
ARGUMENTS(product_of_samples, SAMPLES,
          int64_t batch;
          int64_t n;
          int64_t k;
          int64_t a_row;
          int64_t a_inner;
          int64_t b_inner;
          int64_t b_column;
          int64_t c_row;
          int64_t groups;
          int64_t a_group;
          int64_t b_group;
          int64_t c_group;
          int64_t accumulate;
          int64_t epilogue;
          double alpha;
          double slope;
          rows const real *A;
          const real *B;
          optional const real *b;
          optional any_order int64_t *unsound;
          rows real *C;)

/* dW = A₀ᵀ·dZ (n_in, n_out), or any product: rows of C are shared out. The m rows are those of all groups. */
ARGUMENTS(product_of_weights, SHARED,
          int64_t m;
          int64_t n;
          int64_t k;
          int64_t a_row;
          int64_t a_inner;
          int64_t b_inner;
          int64_t b_column;
          int64_t c_row;
          int64_t groups;
          int64_t a_group;
          int64_t b_group;
          int64_t c_group;
          int64_t accumulate;
          int64_t epilogue;
          double alpha;
          double slope;
          const real *A;
          const real *B;
          optional const real *b;
          optional any_order int64_t *unsound;
          real *C;)

/* The gradients of a layer's weights and biases, in parts: block b of n_blocks of the samples has dW_b = A₀ᵀ·dZ (m, n) of each group in
   its row of `blocks`, one group after the other, and behind them, with `biases`, db_b = Σ dZ (groups·n), in the order of its samples.
   A is A₀ (batch, groups·m), B is dZ (batch, groups·n). A thread that has computed a block's dZ finds them in its cache; sum_of_blocks adds
   the blocks up. Shares are of whole blocks. */
ARGUMENTS(gradient_of_blocks, SAMPLES,
          int64_t batch;
          int64_t m;
          int64_t n;
          int64_t groups;
          int64_t n_blocks;
          int64_t biases;
          rows const real *A;
          rows const real *B;
          real *blocks;)
