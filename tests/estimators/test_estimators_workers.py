"""Worker processes compute where the process that they work for says."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import pytest
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import fcnn_gpu as fcnn
from fcnn_gpu.backend import _select, choose_backend, resolve_backend
from fcnn_gpu.estimators import FCNNClassifier

OF_AUTO = "no CUDA device can be used", "a CUDA device answers"
"""How the reasons of "auto" begin, with a GPU and without."""


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Parallel]:
    """joblib's, begun while nobody had said anything of a backend."""
    monkeypatch.setattr(_select, "_default", None)
    monkeypatch.setenv("FCNN_BACKEND", "")  # which `set_backend` changes, and the end of the test restores
    get_reusable_executor().shutdown(wait=True)
    parallel = Parallel(n_jobs=2, backend="loky")
    assert parallel(delayed(reason)() for _ in range(2))
    yield parallel
    get_reusable_executor().shutdown(wait=True)


def reason(estimator: Any = None) -> str:
    """Why a network that is built now is where it is."""
    return choose_backend(None, "backend")[1]


def within(estimator: Any) -> tuple[str, str]:
    X = np.random.default_rng(0).normal(size=(20, 3))
    fitted = clone(estimator).fit(X, X[:, 0] > 0)
    return fitted.model_.ops.name, reason()


def test_set_backend_reaches_workers_that_have_begun(workers: Parallel) -> None:
    estimator = FCNNClassifier((2,), epochs=1)
    unset = joblib.hash(estimator)
    fcnn.set_backend("numpy")
    for name, why in workers(delayed(within)(estimator) for _ in range(3)):
        assert (name, why) == ("numpy", "as the process that this one works for says")
    fcnn.set_backend("auto")
    assert joblib.hash(clone(estimator)) != unset, "what a cache keeps is of another backend"
    for _, why in workers(delayed(within)(estimator) for _ in range(3)):
        assert why.startswith(OF_AUTO)


def test_a_worker_does_not_choose_another_backend_by_itself(workers: Parallel) -> None:
    """Where the GPU that is asked for is not to be had, the fold fails as it would here."""
    X = np.random.default_rng(0).normal(size=(20, 3))
    estimator = FCNNClassifier((2,), epochs=1)
    fcnn.set_backend("cupy:77")
    with pytest.raises(fcnn.BackendError):
        cross_val_score(estimator, X, X[:, 0] > 0, cv=2, n_jobs=2, error_score="raise")


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX, where other tests have imported it
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", [m for m in ("spawn", "fork") if m in multiprocessing.get_all_start_methods()])
def test_set_backend_reaches_children_that_begin_later(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_select, "_default", None)
    monkeypatch.setenv("FCNN_BACKEND", "auto")
    fcnn.set_backend("numpy")
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert "numpy" in pool.apply(reason) or "works for" in pool.apply(reason)
        if method == "fork":  # what the child had from the parent is not its own word: the parent may change its mind
            fcnn.set_backend("auto")
            assert pool.apply(reason, (FCNNClassifier(),)).startswith(OF_AUTO)


def test_a_pickle_says_nothing_to_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A file that was written on a machine with a GPU opens on one without."""
    monkeypatch.setattr(_select, "_default", "cupy:77")
    joblib.dump(FCNNClassifier((2,), epochs=1), tmp_path / "file")
    monkeypatch.setattr(_select, "_default", None)
    monkeypatch.setattr(_select, "_inherited", None)
    estimator = joblib.load(tmp_path / "file")
    assert _select._inherited is None
    assert within(estimator)[0] == resolve_backend("auto").name
    assert not any("default" in name for name in vars(estimator))
