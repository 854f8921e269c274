"""scikit-learn's own tests of its MLPs, run on the estimators here (tests/support/sklearn_mlp.py)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from sklearn import neural_network

from fcnn_gpu import DivergenceError
from tests.support import sklearn_mlp

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*column-vector y was passed:sklearn.exceptions.DataConversionWarning"),
]

PRIVATE = AttributeError, "sets or calls private attributes"
WORDS = AssertionError, "expects scikit-learn's words of an error, of which ours say the same"
DIVERGES = (
    DivergenceError,
    "expects NaN or a ValueError where training diverges: DivergenceError, with the weights from before",
)
NOT_TOLD = pytest.fail.Exception
"""Of an error or a warning that does not come."""

DIFFERENT: dict[str, tuple[type[BaseException], str]] = {
    "test_fit": PRIVATE,  # test_alpha_of_sklearn.py compares steps
    "test_gradient": PRIVATE,  # and gradient_check gradients
    "test_early_stopping_stratified": WORDS,
    "test_minimum_input_sample_size": WORDS,
    "test_nonfinite_params": DIVERGES,
    "test_mlp_diverging_loss": DIVERGES,
    "test_warm_start": (NOT_TOLD, "goes on with a y of which some classes are missing"),
    "test_preserve_feature_names[MLPClassifier]": (ValueError, "a y of one class is refused"),
    "test_mlp_param_dtypes[MLPRegressor-float32]": (AssertionError, "predictions have the dtype of y, not of X"),
    "test_predict_proba_multilabel": (AssertionError, "logarithms tell probabilities apart that round to 1"),
    "test_lbfgs_regression_maxfun[X0-y0]": (
        NOT_TOLD,
        "a linear network converges within the 10 passes: other first weights",
    ),
    "test_verbose_sgd": (AssertionError, "lines of epochs go to standard error"),
}
"""Their tests that fail here, with what and why; docs/migration.md says it to users."""


def _their_tests() -> ModuleType:
    """Their file, run with our classes in the place of theirs."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLPClassifier", "MLPRegressor"):
            patch.setattr(neural_network, name, getattr(sklearn_mlp, name))
        spec.loader.exec_module(module)
    return module


globals().update({name: test for name, test in vars(_their_tests()).items() if name.startswith("test_")})


def test_the_page_names_each_test_that_differs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "migration.md").read_text()
    for name in DIFFERENT:
        assert f"`{name.partition('[')[0]}`" in page, name


@pytest.fixture(autouse=True)
def _as_known(request: pytest.FixtureRequest) -> None:
    if request.node.name in DIFFERENT:
        raises, reason = DIFFERENT[request.node.name]
        request.applymarker(pytest.mark.xfail(raises=raises, reason=reason, strict=True))


@pytest.fixture
def global_random_seed() -> int:
    """What their tests take a seed from."""
    return 0
