"""What the help of `train` names, which takes no import of it; a test compares this with the registries."""

ACTIVATIONS = (
    "identity, sigmoid, tanh, relu, leaky_relu, elu, selu, gelu, gelu_tanh, silu, softplus, mish, hardswish, sin, exp, "
    "softmax"
)
DATA_SETS = "mnist-mini, mnist, digits"
INITIALIZERS = (
    "xavier_uniform, xavier_normal, he_normal, he_uniform, lecun_normal, lecun_uniform, fan_in_uniform, orthogonal, "
    "normal, truncated_normal, uniform, variance_scaling, constant, random_signs, zeros, std, he+5"
)
"""Without `array`, whose values have no place in a command."""
KINDS = "number, decimal_comma, decimal_point, category, yes_no, date, day_first, month_first, ignore"
LOSSES = (
    "cross_entropy, kl_divergence, focal, mse, mae, huber, log_cosh, quantile, poisson, binary_cross_entropy, hinge"
)
METRICS = (
    "accuracy, balanced_accuracy, mcc, top_k_accuracy, precision, recall, f1, f_beta, roc_auc, average_precision, "
    "log_loss, brier, calibration_error, pinball, coverage, r2, explained_variance, mae, mse, rmse, median_ae, mape, "
    "log_cosh"
)
OPTIMIZERS = "adadelta, adagrad, adam, adamax, adamw, lion, muon, nadam, radam, rmsprop, sgd"
SCHEDULES = (
    "constant, step, exponential, cosine, linear, polynomial, invscaling, piecewise_constant, cosine_restarts, warmup, "
    "one_cycle, flat_cos, coslog4, reduce_on_plateau, adaptive"
)
