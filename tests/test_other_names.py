"""Names of other libraries: those that mean the same are taken, others are answered by what to write here."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu._registry import ARGUMENTS, Registry
from fcnn_gpu.activations import ACTIVATIONS
from fcnn_gpu.cli._named import build
from fcnn_gpu.initializers import INITIALIZERS
from fcnn_gpu.layers import LAYERS
from fcnn_gpu.losses import LOSSES
from fcnn_gpu.metrics import METRICS
from fcnn_gpu.model._elsewhere import MODEL
from fcnn_gpu.model.sequential import _FOR_OTHER_ROOMS
from fcnn_gpu.optimizers import OPTIMIZERS
from fcnn_gpu.regularizers import REGULARIZERS
from fcnn_gpu.schedules import SCHEDULES

FAMILIES: list[Registry[Any]] = [
    ACTIVATIONS,
    INITIALIZERS,
    LAYERS,
    LOSSES,
    METRICS,
    OPTIMIZERS,
    REGULARIZERS,
    SCHEDULES,
]
BY_KIND = {family.family: family for family in FAMILIES}

TAKEN: dict[str, dict[str, str]] = {
    "activation": {"swish": "silu", "linear": "identity", "logistic": "sigmoid", "hard_swish": "hardswish"},
    "loss": {
        "mean_squared_error": "mse",
        "mean_absolute_error": "mae",
        "l1_loss": "mae",
        "mse_loss": "mse",
        "smooth_l1_loss": "huber",
        "binary_cross_entropy_with_logits": "binary_cross_entropy",
        "softmax_cross_entropy": "cross_entropy",
    },
    "initializer": {
        "glorot_uniform": "xavier_uniform",
        "glorot_normal": "xavier_normal",
        "kaiming_normal": "he_normal",
        "kaiming_uniform": "he_uniform",
    },
    "schedule": {"cosine_annealing": "cosine", "exponential_decay": "exponential"},
}
"""Strings of other libraries, and the member that each gives."""

KERAS_AND_SKLEARN: dict[str, dict[str, str | None]] = {
    "activation": {"Swish": "silu", "LeakyReLU": "leaky_relu", "leakyrelu": "leaky_relu", "hard_sigmoid": None},
    "loss": {
        "bce": "binary_cross_entropy",
        "binary_crossentropy": "binary_cross_entropy",
        "categorical_crossentropy": "cross_entropy",
        "sparse_categorical_crossentropy": "cross_entropy",
        "SparseCategoricalCrossentropy": "cross_entropy",
        "MeanSquaredError": "mse",
        "squared_hinge": "hinge",
        "log_loss": "cross_entropy",
        "squared_error": "mse",
        "cosine_similarity": None,
    },
    "initializer": {"GlorotUniform": "xavier_uniform", "ones": "constant", "RandomNormal": "normal", "zero": "zeros"},
    "layer": {
        "BatchNormalization": "batch_norm",
        "LayerNormalization": "layer_norm",
        "RMSNormalization": "rms_norm",
        "GroupNormalization": "group_norm",
        "Conv2D": None,
    },
    "optimizer": {"Nadam": "nadam", "momentum": "sgd", "Adamax": "adamax"},
}
"""What they call things that are called otherwise here, or (None) are not here."""

TORCH_LOSSES: dict[str, str | None] = {
    "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy",
    "CrossEntropyLoss": "cross_entropy",
    "HuberLoss": "huber",
    "KLDivLoss": "kl_divergence",
    "L1Loss": "mae",
    "LinearCrossEntropyLoss": "cross_entropy",
    "MSELoss": "mse",
    "MultiLabelSoftMarginLoss": "binary_cross_entropy",
    "NLLLoss": "cross_entropy",
    "PoissonNLLLoss": "poisson",
    "SmoothL1Loss": "huber",
    "SoftMarginLoss": "binary_cross_entropy",
}
"""All others of its losses are not here."""

NEAREST = re.compile(r"(?:Did you mean|Here it is called) '([^']+)'")


def answer_of(family: Registry[Any], name: str) -> str | None:
    """The member that the error for this name leads to."""
    with pytest.raises(ValueError, match=re.escape(repr(name))) as caught:
        family.resolve(name)
    found = NEAREST.search(str(caught.value))
    if found is None:
        assert "There is no such" in str(caught.value)
    return found[1] if found else None


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family)
def test_synonyms_lead_to_members_and_hide_none(family: Registry[Any]) -> None:
    assert set(family.synonyms.values()) <= set(family)
    assert not set(family.synonyms) & set(family)
    quoted = {
        word for text in family._elsewhere.values() if text and text[0] == "'" for word in re.findall(r"^'(\w+)'", text)
    }
    assert quoted <= set(family)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family)
def test_what_is_here_is_not_said_to_be_elsewhere(family: Registry[Any]) -> None:
    """The name of a member without capitals and separators has an answer of its own only if that names the member."""
    members = {re.sub("[_-]", "", name): name for name in family}
    answers = {name: called for name, called in family._elsewhere.items() if name in members}
    assert all(called and repr(members[name]) in called for name, called in answers.items()), answers
    assert not {re.sub("[_-]", "", synonym) for synonym in family.synonyms} & set(family._elsewhere)


@pytest.mark.parametrize("kind", TAKEN)
def test_strings_that_mean_the_same_are_taken(kind: str) -> None:
    family = BY_KIND[kind]
    for name, member in TAKEN[kind].items():
        assert family[name] is family[member]


@pytest.mark.parametrize("kind", KERAS_AND_SKLEARN)
def test_names_of_keras_and_scikit_learn_are_answered(kind: str) -> None:
    wanted = KERAS_AND_SKLEARN[kind]
    assert {name: answer_of(BY_KIND[kind], name) for name in wanted} == wanted


def test_a_synonym_is_what_pytorch_computes() -> None:
    torch = pytest.importorskip("torch")
    z = np.linspace(-4, 4, 18, dtype="float32").reshape(2, 9)
    for name, theirs in (("swish", torch.nn.functional.silu), ("hard_swish", torch.nn.functional.hardswish)):
        model = fcnn.Sequential([name], n_in=9, backend="numpy")
        np.testing.assert_allclose(model(z), theirs(torch.tensor(z)).numpy(), rtol=1e-5, atol=1e-6)
    for name in ("l1_loss", "mse_loss", "huber_loss", "smooth_l1_loss", "poisson_nll_loss"):
        theirs = getattr(torch.nn.functional, name)(torch.tensor(z), torch.tensor(z[::-1].copy() + 4))
        ours = LOSSES.resolve(name).forward(z, z[::-1] + 4)
        np.testing.assert_allclose(float(ours), float(theirs), rtol=1e-5)


def test_every_loss_of_pytorch_is_answered() -> None:
    nn = pytest.importorskip("torch").nn
    names = [name for name in dir(nn) if "Loss" in name and "Options" not in name]
    assert set(TORCH_LOSSES) <= {*names, "LinearCrossEntropyLoss"}  # which older ones do not have
    found = {name: answer_of(LOSSES, name) for name in names}
    assert found == {name: TORCH_LOSSES.get(name) for name in names}


def test_every_activation_and_layer_of_pytorch_is_answered() -> None:
    """By the member of the same name, or in so many words; never by one of another meaning."""
    nn = pytest.importorskip("torch").nn
    renamed = {"Linear": "dense", "LazyLinear": "dense", "BatchNorm1d": "batch_norm", "LazyBatchNorm1d": "batch_norm"}
    for name in [kind.__name__ for kind in vars(nn.modules.activation).values() if isinstance(kind, type)]:
        if name in nn.modules.activation.__all__ and name not in ("MultiheadAttention", "LogSoftmax", "PReLU"):
            answer = answer_of(ACTIVATIONS, name)
            assert answer is None or answer.replace("_", "") == name.lower()
    for name, member in renamed.items():
        assert answer_of(LAYERS, name) == member
    for name, member in {
        "Dropout": "dropout",
        "LayerNorm": "layer_norm",
        "RMSNorm": "rms_norm",
        "GroupNorm": "group_norm",
        "PReLU": "prelu",
    }.items():
        assert answer_of(LAYERS, name) == member


def test_every_optimizer_schedule_and_initializer_of_pytorch_is_answered() -> None:
    torch = pytest.importorskip("torch")
    kinds = [name for name, kind in vars(torch.optim).items() if isinstance(kind, type) and name != "Optimizer"]
    for name in kinds:
        if name != "LBFGS":
            answer = answer_of(OPTIMIZERS, name)
            assert answer is None or answer == name.lower()
    with pytest.raises(ValueError, match=r"'L-BFGS'. Trainer and estimators take it, .*fcnn.LBFGS\(\)"):
        OPTIMIZERS.resolve("L-BFGS")
    schedulers = torch.optim.lr_scheduler
    for name in schedulers.__all__:
        if name not in ("LRScheduler",):
            with pytest.raises(ValueError, match=f"Unknown schedule '{name}'. (Here it is|There is no|It is|Did you)"):
                SCHEDULES.resolve(name)
    for name in [name for name in dir(torch.nn.init) if name.endswith("_") and name[0] != "_"]:
        with pytest.raises(ValueError, match=f"Unknown initializer '{name}'. (Here it|There is no|It is|Did you mean)"):
            INITIALIZERS.resolve(name)


def test_a_name_in_a_list_of_layers() -> None:
    model = fcnn.Sequential([fcnn.Dense(3), "swish"], n_in=2, backend="numpy")
    assert model.config()["layers"][1]["activation"] == {"name": "silu"}
    for name, hint in (("Linear", r"fcnn.Dense\(n_out\)"), ("log_softmax", "takes logits"), ("GELU", "'gelu'")):
        with pytest.raises(ValueError, match=f"Unknown layer or activation '{name}'.*{hint}"):
            fcnn.Sequential([fcnn.Dense(3), name], n_in=2, backend="numpy")


def test_a_name_on_the_command_line() -> None:
    assert build("--activation", "swish", ACTIVATIONS) == fcnn.activations.SiLU()
    assert build("--loss", "pinball:quantiles=0.9", LOSSES) == fcnn.losses.Quantile([0.9])
    with pytest.raises(
        ValueError, match=r"^--loss does not know 'bce'. Here it is called 'binary_cross_entropy', which"
    ):
        build("--loss", "bce", LOSSES)


def model() -> fcnn.Sequential:
    return fcnn.Sequential([fcnn.Dense(2)], n_in=3, seed=0, backend="numpy")


f: Any = fcnn
"""To type checkers, too, these calls are mistakes."""

USERS = set(
    re.findall(
        r"\w+",
        """
    awaits_data backward close config dtype explain freeze frozen n_trainable unfreeze
    forward from_config infer info initialize input_center input_scale
    input_shift join_members layer_outputs layers link members memory_report n_in n_out n_parameters
    n_predictions named_arrays named_parameters objective_gradient ops output_center parameters penalty
    precision predict predict_classes predict_labels predict_members preparation recompute restore save seed
    select_members share_workspace signature snapshot statistics summary walk
    """,
    )
)
"""What a network has for users."""

CALLS: list[tuple[Callable[[], Any], str]] = [
    (lambda: f.Adam(lr=0.1), "Adam has no argument 'lr'. Here it is called learning_rate."),
    (lambda: f.AdamW(betas=(0.9, 0.99)), "AdamW has no argument 'betas'. Here it is called beta1 and beta2."),
    (lambda: f.Dense(units=3), "Dense has no argument 'units'. Here it is called n_out."),
    (lambda: f.Dense(3, use_bias=False), "Dense has no argument 'use_bias'. Here it is called bias."),
    (lambda: f.Dropout(rate=0.5), "Dropout has no argument 'rate'. Here it is called p."),
    (lambda: f.schedules.OneCycle(max_lr=1.0), "Here it is called max_learning_rate."),
    (lambda: f.CrossEntropy(weight=[1, 2]), "Here it is called class_weight."),
    (
        lambda: f.FCNNClassifier(hidden_dim=3),
        "FCNNClassifier has no argument 'hidden_dim'. Here it is called hidden_",
    ),
    (lambda: f.FCNNClassifier(n_hidden=3), "Here it is called hidden_layer_sizes."),
    (lambda: f.FCNNRegressor(max_iter=3), "Here it is called epochs."),
    (lambda: f.TabularClassifier(seed=3), "Here it is called random_state."),
    (lambda: f.Sequential([f.Dense(1)], n_in=2, device="cuda"), "Sequential has no argument 'device'. Here it"),
    (lambda: f.Sequential([f.Dense(1)]), "Sequential() missing 1 required positional argument: 'n_in'"),
    (lambda: f.Trainer(model(), lr=0.1), "Trainer has no argument 'lr'. Here it is called optimizer (which has"),
    (lambda: f.Trainer(model()).fit([[1]], [1], n_epochs=3), "Trainer.fit has no argument 'n_epochs'. Here it is"),
    (lambda: f.Adam(learning_rat=0.1), "Adam has no argument 'learning_rat'. Did you mean 'learning_rate'? Its arg"),
    (lambda: f.MSE().__class__(1), "MSE() takes 1 positional argument but 2 were given"),
    (lambda: f.activations.ReLU(alpha=1), "ReLU has no argument 'alpha'. It has none."),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[message[:45] for _, message in CALLS])
def test_an_argument_is_called_otherwise(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


def test_arguments_are_asked_for_in_lower_case() -> None:
    assert all(name == name.lower() for name in ARGUMENTS)
    with pytest.raises(TypeError, match=r"Cosine has no argument 'T_max'. Here it is called epochs."):
        f.schedules.Cosine(0.1, T_max=3)


@pytest.mark.parametrize("name", MODEL)
def test_a_method_that_others_have_is_answered(name: str) -> None:
    network = model()
    assert not hasattr(network, name)
    with pytest.raises(AttributeError, match=f"^'Sequential' object has no attribute '{name}'. ") as caught:
        getattr(network, name)
    for attribute in re.findall(r"\bmodel\.([a-z]\w*)", str(caught.value)):
        assert hasattr(network, attribute)


def test_what_is_no_habit_is_an_attribute_error_as_ever() -> None:
    network: Any = model()
    with pytest.raises(AttributeError, match=r"^'Sequential' object has no attribute 'layer'$") as caught:
        network.layer  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("layer", network)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        np.testing.assert_array_equal(other(np.ones((1, 3))), network(np.ones((1, 3))))


def test_a_property_that_fails_says_why_itself() -> None:
    class Broken(fcnn.Sequential):
        @property
        def fault(self) -> int:
            raise AttributeError("told by the property")

    with pytest.raises(AttributeError, match=r"^told by the property$"):
        Broken([fcnn.Dense(1)], n_in=1, backend="numpy").fault  # noqa: B018


def test_a_network_shows_what_users_need() -> None:
    """The rest is there for training and data, and `dir` does not show it."""
    network = model()
    assert {name for name in dir(network) if not name.startswith("_")} == USERS
    hidden = {name for name in object.__dir__(network) if not name.startswith("_")} - USERS
    assert hidden == _FOR_OTHER_ROOMS
    assert all(hasattr(network, name) for name in dir(network))
    network.mine = 3  # type: ignore[attr-defined]
    assert "mine" in dir(network)
