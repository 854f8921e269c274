"""Data sets by name, and readers of the user's own files."""

from ._catalogue import CATALOGUE as CATALOGUE
from ._catalogue import MNIST_MIRRORS as MNIST_MIRRORS
from ._catalogue import cache_folder as cache_folder
from ._catalogue import load as load
from ._csv_source import open_csv as open_csv
from ._dataset import Dataset as Dataset
from ._digits import DigitsWarning as DigitsWarning
from ._download import DownloadError as DownloadError
from ._files import DataFileError as DataFileError
from ._idx import read_idx as read_idx
from ._idx import write_idx as write_idx
from ._npz_source import open_npz as open_npz
from ._parquet import open_parquet as open_parquet
from ._rows import open_arrays as open_arrays
from ._rows import open_npy as open_npy
from ._rows import open_raw as open_raw
from ._source import BlockSource as BlockSource
from ._user_files import read_features as read_features
