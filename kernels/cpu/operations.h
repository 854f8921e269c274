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
    X(store_rows)              \
    X(take_next)               \
    X(advance)                 \
    X(count_nonfinite)         \
    X(row_sum)                 \
    X(elementwise_loss)        \
    X(softmax)                 \
    X(softmax_backward)        \
    X(softmax_cross_entropy)   \
    X(sum)                     \
    X(check_gradients)         \
    X(squares)                 \
    X(clip)                    \
    X(judge)                   \
    X(penalty)                 \
    X(penalized_gradient)      \
    X(sgd)                     \
    X(adam)                    \
    X(rmsprop)                 \
    X(adagrad)                 \
    X(finish_step)

#endif
