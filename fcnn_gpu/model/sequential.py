"""Sequential: layers in order, as people train, ask, save and copy them."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from .._arrays import quietly
from .._checks import check_integer
from .._registry import answer_attribute
from .._types import HostArray
from ..backend import Ops, SparseRows, resolve_backend
from ..data import (
    Features,
    Signature,
    SourceFeatures,
    SparseFeatures,
    aligned,
    features_of,
    mean_over_members,
    restored,
)
from ..datasets import BlockSource
from ..initializers import SymmetryWarning, drawing_is_left_out, without_drawing
from ..layers import last_layers
from ..losses import VALUE_LINKS
from ..memory import explains_out_of_memory
from ..placement import OpenedFolder, Storage, StoredWeights
from ._config import check_config
from ._elsewhere import MODEL
from ._finite import check_outputs
from ._join import join_members
from ._members import select_members
from ._network import check_dtype
from ._out_of_memory import explain_inference
from ._passes import Passes
from ._precision import resolve_precision

if TYPE_CHECKING:
    from ..losses import Loss
    from ..memory import MemoryReport
    from ..metrics import Metric
    from ..optimizers import Optimizer
    from ..tables import TablePreparation

_INFERENCE_BATCH = 1024
_FOR_OTHER_ROOMS = frozenset(
    """all_directly apply_link backward_pass batch_arrays can_be_recorded categories center_options check_batch
    check_finite check_saveable compute_dtype consists_of_primitives directly each_output flat forget_forward
    forward_pass has_penalty inference_batch initialize_on input_map make_workspace n_changes outputs_of
    prediction_center random_step refresh_low_precision release_training sparse_obstacle stored timetable""".split()  # noqa: SIM905
)
"""Attributes that are no concern of users."""
_logger = logging.getLogger("fcnn_gpu")


class Sequential(Passes):
    """A network of layers in order: outputs = f_L(... f_2(f_1(X)) ...).

    >>> import numpy as np
    >>> from fcnn_gpu import Dense
    >>> model = Sequential([Dense(50, activation="relu"), Dense(10)], n_in=100, seed=0, backend="numpy")
    >>> model.layers[0].W.shape, model.n_parameters
    ((50, 100), 5560)
    >>> model(np.zeros((32, 100))).shape
    (32, 10)

    `seed` fixes the initial weights and all dropout masks, on every backend alike; None draws one (see `model.seed`).
    `backend` is "auto", "cpu", "numpy", "cupy" or "cupy:<device>" and is bound for good; None takes the default
    (`fcnn.set_backend`, FCNN_BACKEND, then "auto"). `dtype` is float32, or float64 for checks.

    `input_scale` and `input_shift` are applied to X wherever it enters: the network sees input_scale·X + input_shift.
    So pixels may stay uint8, a quarter of the memory of float32, and still be seen as numbers from 0 to 1:
    `input_scale=1/255`. Both belong to the model and are saved with it.

    `input_center` and `output_center`, one number per column, are for numbers that lie far from 0 beside their spread,
    such as time stamps, whose digits `dtype` does not hold: X enters as X − input_center, subtracted in float64 on the
    host, and outputs on the host (`predict`, `model(X)`, what metrics see) are float64, output_center added. `Trainer`
    subtracts that from the targets, in float64, too. The network proper sees and gives numbers near 0.

    `signature` holds the names of the features and classes that the network was trained on, and the scale of its
    inputs; `Trainer.fit` notes it. From then on a table's columns are taken by name, in whatever order they stand, and
    numbers of another scale are refused. With a preparation in it (`fcnn_gpu.tables.TablePreparation`), X may be a
    table as it is: text, gaps, dates.

    X may be an array of any library, or a table. Samples in uint8, float16 and bfloat16 stay so, and are cast when a
    batch is gathered; others become `dtype`. On a GPU, an array that lies on the model's device already (of CuPy,
    PyTorch, JAX, or any other library with DLPack or `__cuda_array_interface__`) is used where it is. Where the first
    layer is Dense, X may be a sparse matrix of SciPy's, too: memory and arithmetic are those of its numbers.

    `precision`, on a GPU, makes products faster: "tf32", "bfloat16" or "float16"
    (`fcnn_gpu.model._precision.Precision`). Parameters, gradients, optimizer and results stay in float32; in the last
    two, activations have 16 bits, and so has a copy of the weights that the optimizer writes along with them. Training
    in float16 scales the loss so that small gradients do not round to 0. None is `dtype` itself, the only precision
    that NumPy has.

    `recompute=k`, for deep networks: training keeps the output of every k-th layer alone and runs the others again in
    the backward pass, segment by segment. The results are the same bits, for a third more arithmetic; True takes the k
    that needs the least memory, about the square root of the number of layers. Layers that users have written are run
    once, and all that they keep is kept. `share_workspace`: evaluation and prediction in the thread that trains take
    the memory of training's activations, in batches that have room there; `backward` must then follow its `forward`
    without inference in between.
    """

    def __dir__(self) -> list[str]:
        """What users need: without what training and data ask of a network."""
        return sorted(set(super().__dir__()) - _FOR_OTHER_ROOMS)

    if not TYPE_CHECKING:  # to which there is no such attribute

        def __getattr__(self, name):
            answer_attribute(self, name, MODEL)

    def __call__(self, X: Any, batch_size: int | None = None) -> HostArray:
        """Raw outputs (logits) on the host, (n_samples, n_outputs), computed in batches of `batch_size` (1024).

        X is an array of any library, or a `datasets.BlockSource`, of which a few MiB are in memory at a time. Of X
        without samples, (0, n_in), the outputs are (0, n_outputs), and so with all that predicts.
        """
        return self.infer(X, None, batch_size, "model")

    def predict(self, X: Any, batch_size: int | None = None) -> HostArray:
        """Outputs through the loss's link, (n_samples, n_outputs): probabilities for the cross-entropies, else values.

        `Trainer` sets the link from its loss; before that, and for a network without one, these are the raw outputs. Of
        an ensemble (`EnsembleLoss`) they are the mean of its members' predictions, (n_samples, n_outputs of one).
        """
        return self.infer(X, self._given_link, batch_size, "model.predict")

    @property
    def _given_link(self) -> str | None:
        """What predictions go through: of several members the mean is taken in any case, else of the raw outputs."""
        return "identity" if self.link is None and self.members > 1 else self.link

    def predict_members(self, X: Any, batch_size: int | None = None) -> HostArray:
        """`predict` of each member of an ensemble by itself, (n_samples, members, n_outputs of one).

        Their spread tells how far the members agree on a sample; their mean is `predict`.
        """
        return self.infer(X, self._given_link, batch_size, "model.predict_members", of_each=True)

    def predict_classes(self, X: Any, batch_size: int | None = None) -> HostArray:
        """Labels (n_samples,): the largest output, or for one output whether its probability is over ½.

        One output that is a logit has a probability over ½ where it is positive. Where the network ends in a sigmoid,
        or was trained on values of 0 and 1 ('mse' and the like), the output itself is compared with ½.
        `signature.threshold` takes the place of ½, also where two outputs are two classes.
        """
        threshold = self.signature.threshold
        if threshold is not None:
            return (self._probabilities(X, batch_size)[:, -1] > threshold).astype(np.int64)
        if self.members > 1:
            outputs, are_logits = self.predict(X, batch_size), self.link is None
        else:
            outputs, are_logits = self(X, batch_size), self.link != "identity"
        if outputs.shape[1] > 1:
            return outputs.argmax(axis=1)
        boundary = 0.0 if are_logits and not self._ends_in("sigmoid") else 0.5
        return (outputs[:, 0] > boundary).astype(np.int64)

    def _ends_in(self, name: str) -> bool:
        """Whether the last layers have this activation."""
        ends = (getattr(layer, "activation", None) for layer in last_layers(self.layers))
        return all(getattr(activation, "name", None) == name for activation in ends)

    def _probabilities(self, X: Any, batch_size: int | None) -> HostArray:
        """Of two classes, (n_samples, 1 or 2), whether or not the outputs are probabilities already."""
        link = "sigmoid" if self.n_predictions == 1 else "softmax"
        if self.link == "identity" or self._ends_in(link):
            link = "identity"
        return self.infer(X, link, batch_size, "model.predict_classes")

    def predict_labels(self, X: Any, batch_size: int | None = None) -> HostArray:
        """The names of the predicted classes, (n_samples,): `predict_classes` by `signature.class_names`.

        Where a sample may have several labels (a sigmoid and several outputs) there is no one name: AttributeError, and
        so where the classes have no names.
        """
        names = self.signature.class_names
        if names is None or self.link in VALUE_LINKS or (self.link == "sigmoid" and self.n_predictions > 1):
            why = "its signature names no classes" if names is None else "a sample may have several labels, or none"
            raise AttributeError(f"model.predict_labels: {why}. Use predict, or predict_classes.")
        return np.array(names)[self.predict_classes(X, batch_size)]

    @property
    def preparation(self) -> TablePreparation | None:
        """What makes inputs of a table as it is, where the network was trained on one: `signature.preparation`."""
        return self.signature.transformer

    @quietly
    def infer(
        self,
        X: Any,
        link: str | None,
        batch_size: int | None = None,
        who: str = "model.infer",
        prepared: bool = False,
        of_each: bool = False,
    ) -> HostArray:
        """Outputs through a link of the caller's choice ("identity", "sigmoid", "softmax", "exp"), None for raw ones.

        `prepared`: X is what `preparation` has made of a table. Otherwise a matrix is taken for a table where the
        preparation was fitted on a matrix of as many columns. `of_each`: no mean over members, but the predictions of
        each, (n_samples, members, n_outputs of one).

        Raises `NonFiniteOutputError`, an ArithmeticError, where one is NaN or infinite: X is not, once it is checked.
        """
        center = self.output_center
        if center is not None and link not in (None, "identity"):
            raise ValueError(f"{who}: output_center is added to values, and these outputs go through a {link}.")
        size = _INFERENCE_BATCH if batch_size is None else check_integer("batch_size", batch_size, low=1)
        if not prepared:
            X = self.signature.prepared(X, who)
        samples: Features | SparseFeatures | SourceFeatures
        outputs = self.all_directly(X, link, size, who) if center is None else None
        if outputs is not None:
            return self._predictions(outputs, link, who, of_each)
        if isinstance(X, BlockSource):
            source = aligned(X, self.signature, who, targets=False)
            samples = SourceFeatures(source, self.n_in, self.dtype, who, self.input_center, self.categories)
        else:
            samples = features_of(self, X, who, prepared=True, may_be_empty=True)
        outputs = restored(self._infer(samples, link, min(size, len(samples))), center)
        return self._predictions(outputs, link, who, of_each)

    def _predictions(self, outputs: HostArray, link: str | None, who: str, of_each: bool) -> HostArray:
        """What is given of outputs that have gone through the link."""
        check_outputs(self, outputs, who)
        if of_each:
            outputs = outputs.reshape(len(outputs), self.members, self.n_predictions)
        elif link is not None:
            outputs = mean_over_members(outputs, self.members)
        return self.signature.clamped(outputs) if link in VALUE_LINKS else outputs

    @explains_out_of_memory(explain_inference)
    def _infer(self, samples: Features | SparseFeatures | SourceFeatures, link: str | None, size: int) -> HostArray:
        self.refresh_low_precision()
        outputs = np.empty((len(samples), self.n_out), self.dtype)
        if not len(samples):
            return outputs
        self._trained_arrays = None
        size = self.inference_batch(size)
        with closing(samples.batches(size)) as batches:
            for start, batch in batches:
                Z = self.outputs_of(batch if isinstance(batch, SparseRows) else self.ops.asarray(batch))
                if self._precision.mixed:  # 16-bit probabilities would have three digits
                    results = self.ops.scratch("results", Z.size, self.dtype).reshape(Z.shape[::-1]).T
                    self.ops.cast(Z, results)
                    Z = results
                self.apply_link(Z, link)
                outputs[start : start + size] = self.ops.to_numpy(Z).T
        return outputs

    def select_members(self, members: Sequence[int]) -> Sequential:
        """A network of these members of an ensemble, by number from 0, with copies of their weights.

        Its predictions are the mean of theirs. ValueError for a network without members, for numbers that it does not
        have, and where a layer behind `Members` mixes units of several members.
        """
        selected: Sequential = select_members(self, members)
        return selected

    @classmethod
    def join_members(cls, models: Sequence[Sequential], backend: str | Ops | None = None) -> Sequential:
        """One network of trained ones, with copies of their weights: its predictions are the mean of theirs.

        Its one layer, `Branches`, has their layers, and its `members` are theirs: all that networks of several members
        can do, it can (`EnsembleLoss` trains it on, `select_members` takes it apart). Networks may differ in their
        layers. What they take and give must be the same: ValueError where they differ in n_in, in what is done to X
        (scale, center, a table's preparation), in outputs, link, names, dtype or precision, in members, or where one
        still waits for samples. Output centers may differ. A `signature.target_range` is that of all together.
        `backend` None is that of the first network.

        >>> import numpy as np
        >>> from fcnn_gpu import Dense
        >>> models = [Sequential([Dense(8, activation="relu"), Dense(1)], n_in=3, seed=seed) for seed in range(4)]
        >>> joined, X = Sequential.join_members(models), np.ones((5, 3))
        >>> bool((joined(X) == np.concatenate([model(X) for model in models], axis=1)).all()), joined.members
        (True, 4)
        """
        joined: Sequential = join_members(models, cls.from_config, backend)
        return joined

    def close(self) -> None:
        """Let go of the folder that holds weights on disk, so that it can be opened again; a temporary one is removed.

        The end of the process does the same. What has been set since the last step of `info`, `signature` and `link` is
        kept; of all else, the folder has the last step. The network cannot be used any more. Without weights on disk:
        nothing.
        """
        if self.stored is not None:
            self.stored.close()

    def save(self, path: Any) -> None:
        """Write architecture and weights to one safetensors file, safely: the old file stays until the new is whole."""
        from ._save_and_load import save

        save(self, path)

    def check_saveable(self, path: Any, who: str = "model.save") -> None:
        """Raise now what `save` would raise later: a class that is not registered, `info` that is no plain data.

        ValueError where the name promises files of another kind, as "net.h5" does.
        """
        from ._save_and_load import check_saveable

        check_saveable(self, path, who)

    def summary(self, batch_size: int = 32) -> None:
        """Print the layers with the shapes of W, b and their output Z for a batch, parameters and bytes."""
        from ._summary import print_summary

        print_summary(self, check_integer("summary(batch_size)", batch_size, low=1))

    def _repr_html_(self) -> str:
        """The summary, in a notebook."""
        from ._summary import summary_html

        return summary_html(self)

    def memory_report(
        self,
        batch_size: int,
        optimizer: str | Optimizer = "adam",
        training: bool = True,
        *,
        loss: str | Loss | None = None,
        data: Any = None,
        metrics: Sequence[str | Metric | Callable[..., float]] = (),
        micro_batch_size: int | None = None,
        recompute: bool | int | None = None,
        validation: int | None = None,
    ) -> MemoryReport:
        """The bytes that training, or inference, takes in batches of this size, by kind. Nothing is allocated.

        It runs the code of one step on arrays without memory and counts what that asks for, so it knows every layer,
        loss and optimizer. `print` shows it as a table; `report.total` is the sum.

        Args:
            batch_size: samples in a batch.
            optimizer: a name or an instance; moments and velocities are its.
            training: False for inference, which keeps no gradients of activations and has no optimizer.
            loss: a name or an instance; None takes the loss that the model was trained with, or one that fits.
            data: count a data set as well: (X, y), (X, y, sample_weight), a number of samples, or a
                `datasets.BlockSource`, of which chunks and the shuffle buffer count.
            metrics: those of the training run: for them the outputs of an epoch are kept.
            micro_batch_size: that of `fit`: at most so many samples of a batch are computed on at a time.
            recompute: another than the network's own, as in `Sequential`.
            validation: count what it takes to evaluate so many samples of validation data after an epoch as well.
        """
        from ..training import memory_report

        options: dict[str, Any] = {"data": data, "metrics": metrics, "micro_batch_size": micro_batch_size}
        options |= {"recompute": recompute, "validation": validation}
        return memory_report(self, batch_size, optimizer, training, loss=loss, **options)

    def explain(
        self,
        x: Any,
        y: Any,
        *,
        loss: str | Loss | None = None,
        optimizer: str | Optimizer = "sgd",
        output: int | None = None,
        training: bool = False,
    ) -> Any:
        """One sample through the network with its numbers: forward, loss, backward, and one update; nothing changes.

        An `explain.Explanation`: `print` shows it, and `save("page.html")` writes it as a page. The arguments are those
        of `explain.explain`.
        """
        from ..explain import explain

        return explain(self, x, y, loss=loss, optimizer=optimizer, output=output, training=training)

    @classmethod
    def from_config(
        cls,
        config: dict[str, Any],
        backend: str | Ops | None = None,
        memory_limit: int | str | None = None,
        storage: str | os.PathLike[str] | Storage | None = None,
        _opened: OpenedFolder | None = None,
        _like: StoredWeights | None = None,
    ) -> Sequential:
        """A network of this architecture with fresh initial weights.

        Precision is how a network computes, not what it is: where the backend has only that of the parameters, the
        network takes that, and a line in the log says so.

        ValueError or TypeError where `config` is not what `Sequential.config` gives; it says which layer, and why.
        """
        layers, ops = check_config(config), resolve_backend(backend)
        precision = resolve_precision(config.get("precision"), check_dtype(config["dtype"])).name
        if precision not in ops.precisions:
            _logger.warning(
                "The network was made for %s; on %s it computes in %s.", precision, ops.name, config["dtype"]
            )
            precision = config["dtype"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SymmetryWarning)  # the weights are about to be replaced
            model = cls(
                layers,
                config["n_in"],
                seed=config["seed"],
                backend=ops,
                dtype=config["dtype"],
                input_scale=config.get("input_scale", 1.0),
                input_shift=config.get("input_shift", 0.0),
                input_center=config.get("input_center"),
                output_center=config.get("output_center"),
                precision=precision,
                recompute=config.get("recompute", False),
                share_workspace=config.get("share_workspace", False),
                memory_limit=memory_limit,
                storage=storage,
                _opened=_opened,
                _like=_like,
            )
        model.link, model.members = config["link"], config.get("members", 1)
        if config.get("frozen"):
            model._set_frozen("frozen", True, config["frozen"], commits=False)
        if drawing_is_left_out():
            model.awaits_data = config.get("awaits_data", False)
        return model

    def __deepcopy__(self, memo: dict[int, Any]) -> Sequential:
        """A network of its own, weights on the host or on disk in the same place: on disk in a temporary folder."""
        if self.stored is None:
            model = rebuild(*self.__reduce__()[1])
        else:
            with without_drawing():
                model = type(self).from_config(self.config(), self.ops, self._memory_limit, _like=self.stored)
            model.restore(self.named_arrays())
            model.ops.assign(model.random_step, self.ops.to_numpy(self.random_step))
            model.info, model.signature = copy.deepcopy(self.info), self.signature
        memo[id(self)] = model
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle is rebuilt from its parts: copied one by one, the views would leave the flat buffer."""
        if self.stored is not None and self.stored.store.place == "disk":
            raise TypeError(
                "A network with weights on disk cannot be pickled: all of them would have to be in memory. Write it "
                "with model.save(path) and read it with fcnn_gpu.load(path, memory_limit=...), or copy it with "
                "copy.deepcopy."
            )
        arrays = {name: self.ops.to_numpy(array).copy() for name, array in self.named_arrays().items()}
        random_step = int(self.ops.to_numpy(self.random_step)[0])
        return rebuild, (self.config(), self.ops.name, arrays, random_step, copy.deepcopy(self.info), self.signature)


def rebuild(
    config: dict[str, Any],
    backend: str | Ops,
    arrays: dict[str, HostArray],
    random_step: int,
    info: dict[str, Any],
    signature: Signature,
) -> Sequential:
    """What `copy.deepcopy` and unpickling call."""
    with without_drawing():
        model = Sequential.from_config(config, backend)
    model.restore(arrays)
    model.ops.fill(model.random_step, random_step)
    model.info, model.signature = info, signature
    return model
