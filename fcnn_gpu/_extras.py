"""What is not installed with the package, and how it is.

Messages name the packages themselves: they are on PyPI whether fcnn_gpu came from there, from a checkout or from a
wheel file, and `pip install 'fcnn_gpu[plot]'` works for the first alone. The extras of pyproject.toml have the same.
"""

PACKAGES = {
    "cuda12": "cupy-cuda12x[ctk]>=14.2,<15",
    "cuda13": "cupy-cuda13x[ctk]>=14.2,<15",
    "excel": "openpyxl>=3.1,<4",
    "mlflow": "mlflow-skinny>=3,<4",
    "optuna": "optuna>=4,<6",
    "parquet": "pyarrow>=17,<27",
    "plot": "matplotlib>=3.8,<4",
    "tensorboard": "tensorboardX>=2.6.2,<3",
    "wandb": "wandb>=0.19,<1",
}
"""Of an extra, what it is for; CuPy with the CUDA libraries brings all else that its extra names but ml_dtypes."""


def how_to_install(extra: str) -> str:
    """The command that does.

    >>> how_to_install("plot")
    "pip install 'matplotlib>=3.8,<4'"
    """
    return f"pip install '{PACKAGES[extra]}'"
