"""What a folder keeps beside its steps: notes that a program sets, and moments that nobody has trained with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.placement._record import RECORD, Record

from ..support.placement_cases import X, Y, assert_equal, fit, outcome, stored_network

X32 = X.astype("float32")


def opened(folder: Path) -> fcnn.Sequential:
    return fcnn.load(folder, backend="numpy", verify=True)


def test_notes_set_after_the_last_step_are_kept(tmp_path: Path) -> None:
    model = stored_network("disk", 5, storage=tmp_path / "net")
    fit(model, fcnn.Adam(0.01), epochs=1)
    classes = [f"class {i}" for i in range(model.n_out)]
    model.info["note"] = {"of": ["a", None, 0.5]}
    model.signature = fcnn.Signature(class_names=classes)
    before = Record.unpack(tmp_path / "net" / RECORD)
    model.named_arrays()["4.b"][...] = 7  # which counts with a step
    model.close()
    after = Record.unpack(tmp_path / "net" / RECORD)
    assert_equal(after.arrays, before.arrays)
    assert {n for n in after.data if after.data[n] != before.data[n]} == {"info", "signature"}
    model = opened(tmp_path / "net")
    assert (model.info, model.link) == ({"note": {"of": ["a", None, 0.5]}}, "softmax")
    assert list(model.signature.class_names or ()) == classes
    model.link = None
    model.close()
    model = opened(tmp_path / "net")
    assert model.link is None
    written = os.stat(tmp_path / "net" / RECORD)
    model.close()
    assert os.path.samestat(os.stat(tmp_path / "net" / RECORD), written), "nothing had been set"


def test_notes_that_cannot_be_kept_are_an_error_and_the_folder_is_free(tmp_path: Path) -> None:
    model = stored_network("disk", 5, storage=tmp_path / "net")
    model.info = {"note": object()}
    with pytest.raises(TypeError, match="plain JSON data"):
        model.close()
    model.close()  # for good, by now
    model = opened(tmp_path / "net")
    assert model.info == {}
    model.close()


def test_an_optimizer_that_has_not_trained_leaves_the_moments_to_the_next(tmp_path: Path) -> None:
    straight, interrupted = (stored_network("disk", 5, storage=tmp_path / name) for name in ("a", "b"))
    options = {"epochs": 2, "shuffle": False}
    trainer = fit(straight, fcnn.Adam(0.01), **options)
    fit(interrupted, fcnn.Adam(0.01), **options)
    interrupted.close()
    interrupted = opened(tmp_path / "b")
    for _ in range(2):
        other = fcnn.Trainer(interrupted, optimizer=fcnn.Adam(0.01))
        other.evaluate(X32, Y)
        del other
    trainer.fit(X32, Y, epochs=2, batch_size=16, progress=False, shuffle=False)
    again = fit(interrupted, fcnn.Adam(0.01), **options)
    assert int(again.optimizer.control.step[0]) == int(trainer.optimizer.control.step[0])
    found, expected = outcome(again), outcome(trainer)
    for name in (n for n in expected if not n.startswith("history")):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    straight.close()
    interrupted.close()
