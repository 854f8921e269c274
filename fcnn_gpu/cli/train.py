"""`fcnn-gpu train`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import _backend, _known, _threads
from ._defaults import HELD_OUT, THRESHOLDS, Defaults

_DATA, _NETWORK, _TRAINING, _OUTPUT = "Data", "Network", "Training", "Machine and output"


def _option(text: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel)


def train(
    data: Annotated[
        str,
        _option(
            f"{_known.DATA_SETS}, or a file of yours: a table (.csv, .parquet, .feather, .xlsx, .jsonl), "
            ".npz, .npy, IDX, or a folder of IDX files.",
            _DATA,
        ),
    ] = "mnist-mini",
    target: Annotated[
        list[str] | None,
        _option(
            "Tables: the column to predict, by name or by number from 0; several have commas between them, or options "
            "of their own. (default: the last) .npy and IDX: their file with the targets.",
            _DATA,
        ),
    ] = None,
    task: Annotated[
        str | None, _option("classification or regression. (default: what the targets look like)", _DATA)
    ] = None,
    column: Annotated[
        list[str] | None,
        _option(
            f"Tables: what a column is, NAME=KIND: {_known.KINDS}. May be repeated. (default: what its values look "
            "like)",
            _DATA,
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None, _option("Tables: a column to leave out, by name or number. May be repeated.", _DATA)
    ] = None,
    numbers: Annotated[
        str | None,
        _option(
            "Tables: how numbers are scaled: robust (median and quartiles, outliers pulled in), standard, quantile or "
            "none. (default: robust; tabm quantile; standard without hidden layers)",
            _DATA,
        ),
    ] = None,
    header: Annotated[
        bool | None,
        _option(
            "CSV, Excel: whether the first line names the columns. (default: if it has no number; asks where unclear)",
            _DATA,
            "--header/--no-header",
        ),
    ] = None,
    sheet: Annotated[str | None, _option("Excel: the sheet. (default: the first)", _DATA)] = None,
    test_data: Annotated[
        str | None, _option("A file of the same kind to test on, in place of a share of the data.", _DATA)
    ] = None,
    test_fraction: Annotated[
        float, _option("The share of a file without a test part that is kept for the test.", _DATA)
    ] = 0.2,
    standardize: Annotated[
        bool | None,
        _option(
            "Train on features (and regression targets) of mean 0 and standard deviation 1; the scaling becomes part "
            "of the saved weights. Tables: --numbers standard, or none. (default: yes, but not for images with pixels "
            "in 0 to 1)",
            _DATA,
            "--standardize/--no-standardize",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        _option(
            "Tables: default (RealMLP-TD), fast (its short form), tabm (TabM, many times slower), best (eight of "
            "default, bagged), or plain, what the other options say. (default: tables of 1,000 training rows or more "
            "default, unless an option defines a plain network; other data plain)",
            _NETWORK,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        _option(
            "Widths of the hidden layers of a plain network: 512,512, or none. (default: images 128, tables 128,128; "
            "of fewer than 1,000 samples 64)",
            _NETWORK,
        ),
    ] = None,
    activation: Annotated[
        str | None,
        _option(f"Of the hidden layers: {_known.ACTIVATIONS}. (default: {Defaults.activation})", _NETWORK),
    ] = None,
    init: Annotated[
        str | None,
        _option(
            f"What draws the weights: {_known.INITIALIZERS}. (default: images what fits each layer's activation, "
            "tables fan_in_uniform)",
            _NETWORK,
        ),
    ] = None,
    bias_init: Annotated[
        str | None,
        _option("What draws the biases, as --init. (default: images zeros, tables fan_in_uniform)", _NETWORK),
    ] = None,
    dropout: Annotated[
        float | None,
        _option(
            "The probability with which a hidden unit is dropped in a training step. (default: the preset's; plain "
            "images 0.2, tables 0.1)",
            _NETWORK,
        ),
    ] = None,
    batch_norm: Annotated[
        bool, _option("Normalize each hidden layer over the batch, before its activation.", _NETWORK, "--batch-norm")
    ] = False,
    l1: Annotated[float, _option("λ of the penalty λ·Σ|w| on the weights.", _NETWORK)] = 0.0,
    l2: Annotated[float, _option("λ of the penalty λ·Σw² on the weights.", _NETWORK)] = 0.0,
    loss: Annotated[
        str | None,
        _option(
            f"{_known.LOSSES}; with its settings as in huber:delta=2. (default: cross_entropy for classes, "
            "binary_cross_entropy for several labels per sample, mse for numbers)",
            _TRAINING,
        ),
    ] = None,
    label_smoothing: Annotated[
        float | None,
        _option(
            "With cross_entropy: the share of a target that goes to all classes alike. (default: the preset's; plain "
            "0)",
            _TRAINING,
        ),
    ] = None,
    class_weight: Annotated[
        str | None,
        _option(
            "How much samples of a class count in training: balanced (as much in all as of every other class), or "
            "CLASS=2,OTHER=0.5. (default: 1)",
            _TRAINING,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        _option(
            f"Also measured after each epoch and on the test part: {_known.METRICS}; as in f1:average=weighted, "
            "top_3_accuracy. May be repeated.",
            _TRAINING,
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        _option(f"{_known.OPTIMIZERS}; as in adam:beta1=0.8. (default: {Defaults.optimizer})", _TRAINING),
    ] = None,
    lr: Annotated[
        float | None,
        _option(
            "The learning rate; with one_cycle the largest. (default: the preset's; adam and adamw 0.003, sgd 0.01, "
            "others their own)",
            _TRAINING,
            "--lr",
            "--learning-rate",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        _option(
            f"How the learning rate goes on: {_known.SCHEDULES}; as in step:every=10,factor=0.5 or "
            f"warmup:epochs=1,then=cosine. (default: {Defaults.schedule})",
            _TRAINING,
        ),
    ] = None,
    momentum: Annotated[float | None, _option("Of sgd and rmsprop. (default: 0)", _TRAINING)] = None,
    weight_decay: Annotated[
        float | None,
        _option(
            "Each step takes λ·η of the weights, η the learning rate. (default: the preset's; adamw 0.01, others 0)",
            _TRAINING,
        ),
    ] = None,
    clip_norm: Annotated[
        float | None, _option("Scale gradients down to this norm where theirs is larger. (default: off)", _TRAINING)
    ] = None,
    epochs: Annotated[
        int | None,
        _option(
            "Passes over the training data. (default: the preset's, 256, fast 8 to 56 by the table's size; plain "
            "images 20, tables 30 to 100)",
            _TRAINING,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        _option(
            "Samples per training step. (default: the preset's, 256; plain images 32, tables a hundredth, from 32 to "
            "256)",
            _TRAINING,
        ),
    ] = None,
    validation_split: Annotated[
        float | None,
        _option(
            "The share of the training data that is held out and measured after each epoch. (default: 0; of a preset "
            f"{HELD_OUT}, by which the best epoch is chosen)",
            _TRAINING,
        ),
    ] = None,
    early_stopping: Annotated[
        int | None,
        _option(
            "Stop when the validation loss (of a preset for classes the accuracy) was no better for this many epochs, "
            "and take the best epoch's weights. (default: off; tabm 17)",
            _TRAINING,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        _option(
            "Tables: train a preset's network for each of so many folds, validated by the fold, which it does not see; "
            "predictions are the mean of theirs. (default: best 8)",
            _TRAINING,
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        _option(
            "What training may take, as in 90s, 10min or 1.5h: a preset takes fewer folds or fewer epochs, a plain "
            "network ends after an epoch. (default: off)",
            _TRAINING,
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        _option(
            "Of two classes, the probability beyond which the second is predicted, or the metric for which that is to "
            f"be the best on validation samples: {', '.join(THRESHOLDS)}. Saved with the model. (default: 0.5)",
            _TRAINING,
        ),
    ] = None,
    backend: Annotated[str | None, _option(_backend.HELP, _OUTPUT)] = None,
    threads: Annotated[int | None, _option(_threads.HELP, _OUTPUT)] = None,
    memory_limit: Annotated[
        str | None,
        _option(
            "What weights, gradients and moments may take on the device, as in 2GB; larger layers pass through it from "
            "the host or from disk. (default: what there is)",
            _OUTPUT,
        ),
    ] = None,
    seed: Annotated[int, _option("Of the initial weights, dropout and the order of the samples.", _OUTPUT)] = 0,
    dtype: Annotated[str, _option("float32 or float64.", _OUTPUT)] = "float32",
    precision: Annotated[
        str | None,
        _option("On a GPU: tf32, bfloat16 or float16, for faster products. (default: the dtype)", _OUTPUT),
    ] = None,
    out: Annotated[
        str | None,
        _option("The folder for the model, history.csv, run.json and pictures. (default: nothing is kept)", _OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool,
        _option("Replace an earlier run in --out, which is refused otherwise.", _OUTPUT, "--overwrite"),
    ] = False,
    as_json: Annotated[
        bool,
        _option("Print what run.json says as JSON; all else that is told goes to standard error.", _OUTPUT, "--json"),
    ] = False,
    progress: Annotated[
        bool,
        _option("Show a line per epoch, and a bar where there is a terminal.", _OUTPUT, "--progress/--no-progress"),
    ] = True,
    watch: Annotated[
        bool,
        _option("Serve a page with the run's curves and weights to browsers on this machine while it trains.", _OUTPUT),
    ] = False,
    watch_port: Annotated[int, _option("Of the page of --watch. (default: a free one)", _OUTPUT)] = 0,
) -> int:
    """Train a network and report how good it is on test data.

    Without options: 784–128–10 on 5,000 handwritten digits that ship with the package. What has a name may have
    settings, name:key=value,...: leaky_relu:alpha=0.1, huber:delta=2.
    """
    options = locals()
    from ._options import TrainOptions  # with all that trains, which the help does without
    from ._run import run_training

    return run_training(TrainOptions(**options))
