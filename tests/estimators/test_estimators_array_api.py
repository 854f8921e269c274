"""Arrays of other libraries as X and y, and what comes back; several columns of classes; every sparse format.

Dispatch needs SCIPY_ARRAY_API set before SciPy is imported: those tests run in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.multioutput import MultiOutputClassifier

from fcnn_gpu._types import HostArray
from fcnn_gpu.estimators._array_api import to_host
from tests.support.estimator_cases import assert_same_network, classifier, regressor, scaled_iris, three_labels
from tests.support.foreign_arrays import DlpackTensor
from tests.support.tolerances import assert_close

X, Y = scaled_iris()
METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function")


@pytest.fixture
def torch() -> Any:
    """Only where it is needed: the rest is of NumPy's and SciPy's arrays."""
    return pytest.importorskip("torch")


def test_tensors_train_as_arrays_do_and_numpy_comes_back(torch: Any) -> None:
    theirs = classifier().fit(torch.tensor(X), torch.tensor(Y), torch.ones(len(X)))
    assert_same_network(theirs, classifier().fit(X, Y, np.ones(len(X))))
    tensor = torch.tensor(X)
    assert to_host(tensor) is tensor
    for method in METHODS:
        result = getattr(theirs, method)(torch.tensor(X))
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, getattr(theirs, method)(X))


class _OnDevice(DlpackTensor):
    """A CuPy array, or one of PyTorch's, in the memory of a GPU that there is not."""

    def get(self) -> HostArray:
        return self.memory


def test_arrays_on_a_gpu_are_copied_to_the_host() -> None:
    device = [_OnDevice(a) for a in (X, Y, np.ones(len(X)))]
    assert to_host(device[0]) is X
    assert to_host(X) is X
    assert to_host({"a": 1}) == {"a": 1}
    network = classifier().fit(*device[:2])
    np.testing.assert_array_equal(network.predict(device[0]), network.predict(X))


_PROGRAM = """
import numpy as np, sklearn, torch
from fcnn_gpu.estimators import FCNNClassifier, FCNNRegressor

options = dict(epochs=2, random_state=0, backend="numpy")
X = np.random.default_rng(0).normal(size=(40, 3))
labels, values = (X[:, 0] > 0).astype(int), X[:, :2]
spaces = [torch]
try:
    import array_api_strict
    spaces.append(array_api_strict)
except ImportError:
    pass
for xp in spaces:
    A = xp.asarray(X)
    for y in (labels, labels.astype(str), (values > 0).astype(int)):
        plain = FCNNClassifier(**options).fit(X, y)
        with sklearn.config_context(array_api_dispatch=True):
            network = FCNNClassifier(**options).fit(A, y if y.dtype.kind == "U" else xp.asarray(y))
            for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
                result = getattr(network, name)(A)
                text = name == "predict" and y.dtype.kind == "U"
                assert isinstance(result, np.ndarray if text else type(A)), (xp, name, type(result))
                np.testing.assert_array_equal(np.asarray(result), getattr(plain, name)(X))
            if y.ndim == 1 and y.dtype.kind != "U":
                assert abs(network.score(A, xp.asarray(y)) - plain.score(X, y)) < 1e-6
        assert type(network.predict(A)) is np.ndarray
    with sklearn.config_context(array_api_dispatch=True):
        network = FCNNRegressor(**options).fit(A, xp.asarray(values))
        assert type(network.predict(A)) is type(A)
        assert type(network.predict(X)) is np.ndarray
        score = FCNNRegressor(**options).fit(X, values).score(X, values)
        assert abs(network.score(A, xp.asarray(values)) - score) < 1e-6
print([xp.__name__ for xp in spaces])
"""


@pytest.mark.usefixtures("torch")
def test_with_dispatch_what_comes_back_is_of_the_library_of_x() -> None:
    root = Path(__file__).parents[2]
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "'torch'" in done.stdout


# Several columns of classes


@pytest.mark.parametrize(
    "y",
    [
        np.c_[Y, Y[::-1]],
        np.c_[Y, Y[::-1]].astype(str),
        np.c_[Y, Y[::-1]].astype(str).astype(object),
    ],
    ids=["numbers", "text", "objects"],
)
def test_several_columns_of_classes_are_refused_with_what_takes_them(y: Any) -> None:
    with pytest.raises(ValueError, match=r"MultiOutputClassifier\(FCNNClassifier\(\.\.\.\)\)"):
        classifier().fit(X, y)
    assert MultiOutputClassifier(classifier()).fit(X, y).predict(X).shape == (150, 2)


# Sparse X


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "lil", "dok", "bsr"])
def test_every_sparse_format_gives_the_same_network(format: str) -> None:
    X, Y = three_labels()
    X = np.where(X > 0, X, 0.0)
    sparse: Any = csr_array(X).asformat(format)
    network, dense = classifier().fit(sparse, Y), classifier().fit(X, Y)
    assert_close(network.predict_proba(sparse), dense.predict_proba(X), "training")
    assert network.score(sparse, csr_array(Y)) == dense.score(X, Y)
    values, expected = regressor().fit(sparse, Y).predict(sparse), regressor().fit(X, Y).predict(X)
    assert_close(values.astype(np.float32), expected, "training")


# The dtype of what comes back


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", ["float32", "float64"])
def test_probabilities_have_the_networks_dtype_whatever_x_has(dtype: str, given: str) -> None:
    network = classifier(dtype=dtype).fit(X.astype(given), Y)
    assert {getattr(network, method)(X.astype(given)).dtype for method in METHODS[1:]} == {np.dtype(dtype)}
    np.testing.assert_array_equal(network.predict(X.astype("float32")), network.predict(X))
