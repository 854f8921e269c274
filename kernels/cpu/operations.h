/* Every operation, by the name of its file. */
#ifndef FCNN_OPERATIONS_H
#define FCNN_OPERATIONS_H

#define OPERATIONS(X)          \
    X(activation_backward)     \
    X(bias_activation)         \
    X(product_of_samples)      \
    X(product_of_weights)      \
    X(copy_rows)               \
    X(gather_rows)             \
    X(advance)                 \
    X(row_sum)                 \
    X(elementwise_loss)        \
    X(softmax)                 \
    X(softmax_backward)        \
    X(softmax_cross_entropy)   \
    X(adam)                    \
    X(check_gradients)         \
    X(judge)                   \
    X(finish_step)

#endif
