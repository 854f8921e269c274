/* Every operation, by the name of its file. */
#ifndef FCNN_OPERATIONS_H
#define FCNN_OPERATIONS_H

#define OPERATIONS(X)                  \
    X(activation_backward)             \
    X(adagrad)                         \
    X(adam)                            \
    X(add)                             \
    X(add_to_diagonal)                 \
    X(advance)                         \
    X(affine_gradient)                 \
    X(batch_norm_backward)             \
    X(batch_norm_forward)              \
    X(batch_norm_inference)            \
    X(batch_norm_statistics)           \
    X(bias_activation)                 \
    X(cast)                            \
    X(check_gradients)                 \
    X(clip)                            \
    X(constrain)                       \
    X(copy_rows)                       \
    X(copy_units)                      \
    X(count_nonfinite)                 \
    X(dropout_backward)                \
    X(dropout_forward)                 \
    X(dropout_members_backward)        \
    X(dropout_members_forward)         \
    X(elementwise_loss)                \
    X(embed_categories)                \
    X(embed_categories_backward)       \
    X(embed_numbers)                   \
    X(embed_numbers_backward)          \
    X(finish_step)                     \
    X(gather_rows)                     \
    X(gradient_of_blocks)              \
    X(judge)                           \
    X(layer_norm_backward)             \
    X(layer_norm_forward)              \
    X(momentum_direction)              \
    X(normalize_matrices)              \
    X(parametric_activation)           \
    X(parametric_activation_backward)  \
    X(penalized_gradient)              \
    X(penalty)                         \
    X(product_of_samples)              \
    X(product_of_weights)              \
    X(repeat_units)                    \
    X(rms_norm_backward)               \
    X(rms_norm_forward)                \
    X(rmsprop)                         \
    X(row_sum)                         \
    X(scale)                           \
    X(sgd)                             \
    X(softmax)                         \
    X(softmax_backward)                \
    X(softmax_cross_entropy)           \
    X(sparse_gradient)                 \
    X(sparse_product)                  \
    X(squares)                         \
    X(store_rows)                      \
    X(sum)                             \
    X(sum_of_blocks)                   \
    X(sum_repeats)                     \
    X(take_next)                       \
    X(update_by_rule)

#endif
