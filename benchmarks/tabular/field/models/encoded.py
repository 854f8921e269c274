"""Tables for models that take standardized numbers alone."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from ..tables import categories


def encoded(X: pd.DataFrame, estimator: Any) -> Pipeline:
    """`estimator` behind scikit-learn's usual preparation of such a table.

    Numbers are standardized, their gaps the median; each category is a column of its own.
    """
    names = categories(X)
    numbers = [name for name in X if name not in names]
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), names),
    )
    return make_pipeline(columns, estimator)
