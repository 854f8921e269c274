"""Data sets by name, and readers of the user's own files."""

from typing import TYPE_CHECKING

from .._on_demand import on_demand
from ._digits import DigitsWarning as DigitsWarning
from ._source import BlockSource as BlockSource

if TYPE_CHECKING:
    from ._catalogue import CATALOGUE as CATALOGUE
    from ._catalogue import MNIST_MIRRORS as MNIST_MIRRORS
    from ._catalogue import cache_folder as cache_folder
    from ._catalogue import load as load
    from ._csv_source import open_csv as open_csv
    from ._dataset import Dataset as Dataset
    from ._download import DownloadError as DownloadError
    from ._files import DataFileError as DataFileError
    from ._idx import read_idx as read_idx
    from ._idx import write_idx as write_idx
    from ._npz_source import open_npz as open_npz
    from ._parquet import open_parquet as open_parquet
    from ._rows import open_arrays as open_arrays
    from ._rows import open_npy as open_npy
    from ._rows import open_raw as open_raw
    from ._user_files import read_features as read_features
else:  # training on arrays reads no files
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "_catalogue": "CATALOGUE MNIST_MIRRORS cache_folder load",
            "_csv_source": "open_csv",
            "_dataset": "Dataset",
            "_download": "DownloadError",
            "_files": "DataFileError",
            "_idx": "read_idx write_idx",
            "_npz_source": "open_npz",
            "_parquet": "open_parquet",
            "_rows": "open_arrays open_npy open_raw",
            "_user_files": "read_features",
        },
    )
