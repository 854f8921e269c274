"""Ctrl-C in scikit-learn's loops: nothing half-trained is scored."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.callbacks import Callback
from fcnn_gpu.estimators import FCNNClassifier, FCNNRegressor
from tests.support.interrupted import POSIX, run_and_signal

pytestmark = POSIX

_SEARCH = """
import time, warnings
import numpy as np
from sklearn.model_selection import GridSearchCV, cross_val_score
from fcnn_gpu.callbacks import Callback
from fcnn_gpu.estimators import FCNNClassifier

class Says(Callback):
    def on_epoch_end(self, trainer, record):
        if record["epoch"] == 1:
            print("begun", flush=True)

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 2, 60)
    classifier = FCNNClassifier((4,), epochs={epochs}, random_state=0, callbacks={callbacks})
    try:
        {call}
        print("scored")
    except KeyboardInterrupt as error:
        print("interrupted", error)
"""


@pytest.mark.parametrize(
    "call",
    [
        "cross_val_score(classifier, X, y, cv=2)",
        "GridSearchCV(classifier, {'l2': [0.0, 1e-4]}, cv=2, n_jobs=1, refit=False).fit(X, y)",
    ],
)
def test_one_ctrl_c_ends_a_search(call: str) -> None:
    script = _SEARCH.replace("{call}", call).replace("{epochs}", "10**6").replace("{callbacks}", "[Says()]")
    code, lines, err = run_and_signal(script)
    said = "interrupted FCNNClassifier.fit was interrupted; the estimator keeps what it had learned by then."
    assert (code, lines[-1], err) == (0, said, "")


def test_one_ctrl_c_ends_a_search_in_workers() -> None:
    """As at a terminal, where every process of the group gets it."""
    call = "GridSearchCV(classifier, {'l2': [0.0, 1e-4]}, cv=2, n_jobs=2, pre_dispatch='all').fit(X, y)"
    script = _SEARCH.replace("{call}", "print('begun', flush=True); time.sleep(3); " + call)
    script = script.replace("{epochs}", "10**6").replace("{callbacks}", "()").replace("time.sleep(3); ", "")

    def send(process: subprocess.Popen[str]) -> None:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(6)  # the workers have begun by then, or begin: either way
        os.killpg(process.pid, signal.SIGINT)

    _, lines, _ = run_and_signal(script, send=send)
    assert lines[-1].startswith("interrupted")


class Press(Callback):
    """Ctrl-C after the step that begins an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        if epoch == self.epoch:
            os.kill(os.getpid(), signal.SIGINT)


X = np.random.default_rng(0).normal(size=(60, 4))


def test_an_interrupted_estimator_keeps_what_it_has_learned() -> None:
    regressor = FCNNRegressor((4,), epochs=50, batch_size=16, random_state=0, backend="numpy", callbacks=[Press(3)])
    with pytest.raises(KeyboardInterrupt, match="keeps what it had learned"):
        regressor.fit(X, X[:, 0])
    assert regressor.n_iter_ == 2
    assert np.isfinite(regressor.predict(X)).all()


def test_before_the_first_epoch_is_done_it_is_as_it_was() -> None:
    classifier = FCNNClassifier((4,), epochs=3, batch_size=16, random_state=0, backend="numpy")
    y = X[:, 0] > 0
    before = classifier.fit(X, y).predict_proba(X)
    classifier.set_params(callbacks=[Press(1)], random_state=1)
    with pytest.raises(KeyboardInterrupt, match="the estimator is as it was"):
        classifier.fit(X, y)
    np.testing.assert_array_equal(classifier.predict_proba(X), before)
    assert classifier.n_iter_ == 3
