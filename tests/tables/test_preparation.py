"""`TablePreparation`: a transformer as scikit-learn has them, whose fitted state is plain data."""

from __future__ import annotations

import copy
import json
import pickle
import random
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fcnn_gpu as fcnn
from fcnn_gpu.tables import Table, TableError, TablePreparation
from fcnn_gpu.tables._encoders import smooth_clip

N = 90
_RNG = np.random.default_rng(3)

TABLE: dict[str, Any] = {
    "size": _RNG.normal(size=N) * 30,
    "gaps": [None if i % 9 == 0 else float(i * i) for i in range(N)],
    "price": [f"{i + 1}.{100 + i},5 €" if i % 7 else "n.v." for i in range(N)],
    "town": ["Rome", "Oslo", "Bonn", "", "Rome", "Lima"] * 15,
    "many": [f"m{i * i % 31}" for i in range(N)],
    "smokes": ["yes", "no", "no", ""] * 22 + ["no", "yes"],
    "when": [datetime(2024, 1, 1) + timedelta(hours=41 * i) for i in range(N)],
    "row": range(N),
    "always": ["x"] * N,
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"numbers": "standard", "dtype": "float64"},
    {"numbers": "quantile", "categories": "codes", "max_one_hot": 3},
    {"max_categories": 2, "ignore": ["size"], "columns": {"row": "number"}},
    {"scale_one_hot": True, "categories": "codes", "max_one_hot": 8},
    {"scale_one_hot": True, "numbers": "quantile", "max_categories": 3},
]
Y = np.array([0, 1] * (N // 2))


@parametrize_with_checks(
    [
        TablePreparation(),
        TablePreparation(numbers="standard", dtype="float64"),
        TablePreparation(numbers="quantile", categories="codes"),
    ]
)
@pytest.mark.filterwarnings("ignore")
def test_it_is_a_transformer(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("setting", SETTINGS)
def test_its_plain_data_is_all_of_it(setting: dict[str, Any]) -> None:
    preparation = TablePreparation(**setting).fit(TABLE)
    again = TablePreparation.of(json.loads(json.dumps(preparation.plain(), allow_nan=False)))
    expected = preparation.transform(TABLE)
    assert expected.flags.c_contiguous
    assert np.isfinite(expected).all()
    for other in (
        again,
        pickle.loads(pickle.dumps(preparation)),
        copy.deepcopy(preparation),
        clone(preparation).fit(TABLE),
    ):
        np.testing.assert_array_equal(other.transform(TABLE), expected)
        assert other.get_feature_names_out().tolist() == preparation.get_feature_names_out().tolist()
        assert other.plain() == preparation.plain()
        assert (other.cardinalities_, other.used_) == (preparation.cardinalities_, preparation.used_)
    assert expected.dtype == setting.get("dtype", "float32")
    assert expected.shape[1] == len(set(preparation.get_feature_names_out()))


_COLUMNS = st.one_of(
    st.lists(st.floats() | st.none(), min_size=4, max_size=4),
    st.lists(st.integers() | st.none(), min_size=4, max_size=4),
    st.lists(st.text(max_size=4) | st.none(), min_size=4, max_size=4),
    st.lists(st.booleans() | st.none(), min_size=4, max_size=4),
    st.lists(st.datetimes() | st.none(), min_size=4, max_size=4),
    st.lists(st.sampled_from(["1,5", "2.5", "", "3 %", "$4", "x"]), min_size=4, max_size=4),
    st.lists(st.one_of(st.floats(), st.text(max_size=3), st.booleans(), st.datetimes()), min_size=4, max_size=4),
)


@given(st.dictionaries(st.text(max_size=5), _COLUMNS, min_size=1, max_size=4), st.sampled_from(SETTINGS[:3]))
@settings(max_examples=150, deadline=None)
def test_any_table_is_prepared_alike_by_plain_data(table: dict[str, Any], setting: dict[str, Any]) -> None:
    before = copy.deepcopy(table)
    try:
        preparation = TablePreparation(**setting).fit(table)
    except TableError:
        return
    expected = preparation.transform(table)
    again = TablePreparation.of(json.loads(json.dumps(preparation.plain(), allow_nan=False)))
    np.testing.assert_array_equal(again.transform(table), expected)
    assert np.isfinite(expected).all()
    assert len(set(again.get_feature_names_out())) == expected.shape[1]
    assert repr(before) == repr(table)


def _mutate(rng: random.Random, value: Any) -> Any:
    """The same data with something in it changed."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.9:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if rng.random() < 0.15:
            del value[key]
        else:
            value[key] = _mutate(rng, value[key])
        return value
    return rng.choice(
        [None, "", "x", -1, 10**400, 0.5, float("nan"), [], {}, [None], True, "number", "date", ["a", "a"]]
    )


def test_changed_plain_data_is_refused_or_works() -> None:
    table = Table.of(TABLE)
    for seed in range(400):
        setting = SETTINGS[seed % len(SETTINGS)]
        plain = _mutate(random.Random(seed), json.loads(json.dumps(_fitted(setting).plain())))
        try:
            made = TablePreparation.of(plain)
        except (ValueError, TypeError):
            continue
        try:
            out = made.transform(table)
        except TableError:
            continue
        assert np.isfinite(out).all(), seed


_FITTED: dict[str, TablePreparation] = {}


def _fitted(setting: dict[str, Any]) -> TablePreparation:
    return _FITTED.setdefault(repr(setting), TablePreparation(**setting).fit(TABLE))


CATEGORY = {"kind": "category", "source": "town", "values": ["a", "b"], "has_gaps": False}
PLAIN_FAULTS = [
    ({"version": 2}, "a preparation of version 2 is not known, only 1. Install the release that wrote it"),
    ({"columns": []}, "is not whole"),
    ({"encoders": []}, "is not whole"),
    ({"dtype": "int8"}, r"TablePreparation\(dtype\) is 'float32' or 'float64', got 'int8'"),
    ({"encoders": [{"kind": "magic"}]}, "columns of kind 'magic' are not known"),
    ({"encoders": [{"kind": "number", "source": "size", "more": 1}]}, "number has a field 'more', which is not known"),
    ({"encoders": [{"kind": "number", "source": "size", "scale": 5}]}, "number has scale = 5, expected a scale"),
    (
        {"encoders": [CATEGORY | {"scales": [{"method": "robust", "center": 0.0, "factor": 2.0}]}]},
        "category has 1 scales, expected one for each column of its values",
    ),
    ({"encoders": [CATEGORY | {"scales": [None, None]}]}, r"category has scales = \[None, None\], expected scales"),
]


@pytest.mark.parametrize(("change", "message"), PLAIN_FAULTS)
def test_what_is_wrong_with_plain_data(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TablePreparation.of(_fitted({}).plain() | change)
    with pytest.raises(ValueError, match="a preparation is not whole: it lacks 'encoders'"):
        TablePreparation.of({k: v for k, v in _fitted({}).plain().items() if k != "encoders"})
    with pytest.raises(TypeError, match="a preparation is a JSON object, got list"):
        TablePreparation.of([])  # type: ignore[arg-type]


def test_scales_are_scikit_learns() -> None:
    x = _RNG.normal(size=(500, 1)) ** 3 * 7 + 2
    new = np.linspace(-200, 200, 999)[:, None]
    robust = TablePreparation(dtype="float64").fit(x)
    np.testing.assert_allclose(robust.transform(new), smooth_clip(RobustScaler().fit(x).transform(new)), atol=1e-12)
    standard = TablePreparation(numbers="standard", dtype="float64").fit(x)
    np.testing.assert_allclose(standard.transform(new), StandardScaler().fit(x).transform(new), atol=1e-12)
    quantile = TablePreparation(numbers="quantile", dtype="float64").fit(x)
    theirs = QuantileTransformer(n_quantiles=500 // 30, output_distribution="normal", subsample=None).fit(x)
    np.testing.assert_allclose(quantile.transform(new), theirs.transform(new), atol=1e-6)
    assert 5.1 < np.abs(quantile.transform(new)).max() < 5.2


@pytest.mark.parametrize("numbers", ["robust", "standard", "quantile"])
@pytest.mark.parametrize(
    "values", [[1e308, -1e308, 0, 5], [5e-324, 0, 1e-323, 2e-323], [1e-310, 1, 1e300, 7], [3.5, 7, 7, 7, 7, 7, 7]]
)
def test_no_number_is_too_large_or_too_small(numbers: str, values: list[float]) -> None:
    preparation = TablePreparation(numbers=numbers).fit({"x": values})
    out = preparation.transform({"x": [*values, 1.7e308, -1.7e308, 5e-324, np.inf, -np.inf, np.nan]})
    assert np.isfinite(out).all()
    assert (np.diff(out[np.argsort(values), 0]) >= 0).all()


def test_outliers_keep_their_order() -> None:
    x = np.array([0.0, 1, 1e10, 1e100, 1e200])
    assert smooth_clip(x).tolist() == sorted(smooth_clip(x).tolist())
    assert smooth_clip(x)[-1] == 3


def test_a_failing_fit_leaves_what_was_fitted() -> None:
    preparation = TablePreparation().fit(TABLE)
    before = preparation.plain()
    for bad, wrong in (({"x": [1, 1]}, TableError), ({"x": "text"}, TypeError), ({"x": [[1], [2]]}, TableError)):
        with pytest.raises(wrong):
            preparation.fit(bad)
        assert preparation.plain() == before
    preparation.set_params(columns={"size": "date"})
    with pytest.raises(TableError):
        preparation.fit(TABLE)
    assert preparation.plain() == before


@pytest.mark.parametrize(
    ("column", "remedy"),
    [
        ([f"k{i}" for i in range(60)], r" Say what a column is: columns={'b': 'category'}\.$"),
        ([7] * 60, r" Say what a column is: columns={'b': 'number'}\.$"),
        ([None] * 60, r"\(no values\)\.$"),
    ],
)
def test_what_may_help_where_no_column_can_be_an_input(column: list[Any], remedy: str) -> None:
    table = {"a": [None] * 60, "b": column}
    with pytest.raises(TableError, match=remedy) as caught:
        TablePreparation().fit(table)
    if "columns" in str(caught.value):
        kind = str(caught.value).split("'")[-2]
        TablePreparation(columns={"b": kind}).fit(table)


def test_new_tables_are_not_as_the_training_part() -> None:
    preparation = TablePreparation().fit({"x": [1.5, 2, 4, 9], "t": ["a", "b", "c", "a"], "b": ["no", "yes"] * 2})
    names = preparation.get_feature_names_out().tolist()
    assert names == ["x", "t=a", "t=b", "t=c", "b=yes"]
    new = {"more": [1, 2], "b": [None, "maybe"], "t": ["d", None], "x": [None, 3.0]}
    np.testing.assert_array_equal(preparation.transform(new), np.zeros((2, 5)))
    assert preparation.unseen(new) == {"t": 0.5, "b": 0.5}
    with pytest.raises(TableError, match=r"mapping lacks 't', 'b'. Known names: x"):
        preparation.transform({"x": [1]})
    with pytest.raises(TableError, match="X has 2 features, but TablePreparation is expecting 3 features as input"):
        preparation.transform([[1, 2]])
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        preparation.transform({"x": [], "t": [], "b": []})
    with pytest.raises(TableError, match="column 't' holds list values, and held categories in training"):
        preparation.transform(new | {"t": [[1], [2]]})
    with pytest.raises(TableError, match="column 'x' holds dates, and held numbers in training"):
        preparation.transform(new | {"x": [datetime(2024, 1, 1)] * 2})
    with pytest.raises(TypeError, match=r"'x' is 5; 't' is 'abc'. One row is \{'age': \[42\]\}"):
        preparation.transform({"x": 5, "t": "abc", "b": ["no"]})
    np.testing.assert_array_equal(
        preparation.transform([[2.0, "a", "no"]]), preparation.transform({"x": [2], "t": ["a"], "b": ["no"]})
    )


def test_iso_dates_are_taken_whatever_training_had() -> None:
    german = [f"{day:02}.03.2024" for day in range(1, 29)]
    preparation = TablePreparation().fit({"when": german})
    iso = {"when": [f"2024-03-{day:02}" for day in range(1, 29)]}
    np.testing.assert_array_equal(preparation.transform(iso), preparation.transform({"when": german}))
    with pytest.raises(TableError, match=r"'03/28/2024' \(row 1\)"):
        preparation.transform({"when": ["2024-03-28", "03/28/2024"]})


def test_gaps_are_inputs_where_training_had_some() -> None:
    preparation = TablePreparation().fit(TABLE)
    gaps = [name for name in preparation.get_feature_names_out() if name.endswith("=missing")]
    assert gaps == ["gaps=missing", "price=missing", "town=missing", "smokes=missing"]
    frame = dict(zip(preparation.get_feature_names_out(), preparation.transform(TABLE).T, strict=True))
    for name in gaps:
        values = TABLE[name.removesuffix("=missing")]
        assert frame[name].tolist() == [value in ("", None, "n.v.") for value in values]
        column = frame.get(name.removesuffix("=missing"), frame.get("smokes=yes"))
        if name != "town=missing":
            assert column is not None
            assert (column[frame[name] == 1] == 0).all()


def test_names_of_inputs_are_unique() -> None:
    table = {"t": ["a", "missing", "", "b"], "t=a": [1.5, 2, 3, 7], "t=missing": ["x", "y", "z", ""]}
    names = TablePreparation().fit(table).get_feature_names_out().tolist()
    assert len(set(names)) == len(names)
    assert "t=missing (2)" in names


def test_codes_stand_behind_all_else() -> None:
    preparation = TablePreparation(categories="codes", max_one_hot=3, max_categories=20).fit(TABLE)
    assert preparation.cardinalities_ == {"town": 6, "many": 17}
    assert preparation.get_feature_names_out().tolist()[-2:] == ["town", "many"]
    out = preparation.transform(TABLE)
    assert out[:6, -2].tolist() == [4, 3, 1, 5, 4, 2]
    assert out[:, -1].min() == 1
    assert out[:, -1].max() == 16
    unknown = preparation.transform({name: list(values)[:1] for name, values in TABLE.items()} | {"many": ["new"]})
    assert unknown[0, -1] == 0
    few = TablePreparation(max_categories=2).fit({"t": ["a", "b", "b", "c", "c", "d"]})
    assert few.get_feature_names_out().tolist() == ["t=b", "t=c"]


def test_columns_of_categories_are_scaled_as_numbers_are() -> None:
    preparation = TablePreparation(scale_one_hot=True, dtype="float64").fit(TABLE)
    plain = TablePreparation(dtype="float64").fit(TABLE)
    names, unscaled = preparation.get_feature_names_out().tolist(), plain.get_feature_names_out().tolist()
    of_gaps = ["town=missing", "smokes=missing"]  # which are no values
    assert names == [name for name in unscaled if name not in of_gaps]
    out = preparation.transform(TABLE)
    expected = plain.transform(TABLE)[:, [unscaled.index(name) for name in names]]
    rows = [name.startswith(("town", "many", "smokes")) for name in names]
    np.testing.assert_array_equal(out[:, np.logical_not(rows)], expected[:, np.logical_not(rows)])
    as_numbers = TablePreparation(columns=dict.fromkeys(map(str, range(sum(rows))), "number"), dtype="float64")
    given = {str(i): column for i, column in enumerate(expected[:, rows].T)}
    np.testing.assert_allclose(out[:, rows], as_numbers.fit_transform(given), atol=1e-12)
    fresh = {name: list(values)[:2] for name, values in TABLE.items()} | {"town": ["Paris", ""], "smokes": ["?", None]}
    unknown = preparation.transform(fresh)[:, [names.index(name) for name in names if name.startswith(("t", "sm"))]]
    np.testing.assert_array_equal(unknown[0], unknown[1], "a gap is as a value that training did not have")


def test_two_values_that_are_to_be_categories_are_one_column_where_it_is_scaled() -> None:
    table = {"a": ["x", "y", "x", None, "x", "x"], "b": ["u", None, None, "u", None, None]}
    settings: dict[str, Any] = {"columns": {"a": "category", "b": "category"}, "numbers": "none"}
    preparation = TablePreparation(scale_one_hot=True, **settings).fit(table)
    assert preparation.get_feature_names_out().tolist() == ["a=y", "b=u"]
    expected = [[-1, 1], [1, -1], [-1, -1], [0, 1], [-1, -1], [-1, -1]]
    np.testing.assert_array_equal(preparation.transform(table), expected)
    apart = TablePreparation(**settings).fit(table)
    assert apart.get_feature_names_out().tolist() == ["a=x", "a=y", "a=missing", "b=u", "b=missing"]


def test_parameters_are_checked() -> None:
    for setting, message in (
        ({"numbers": "log"}, r"TablePreparation\(numbers\)"),
        ({"categories": "hash"}, r"TablePreparation\(categories\)"),
        ({"max_one_hot": 0}, r"TablePreparation\(max_one_hot\)"),
        ({"max_categories": 1.5}, r"TablePreparation\(max_categories\)"),
        ({"scale_one_hot": 1}, r"TablePreparation\(scale_one_hot\) expects True or False"),
        ({"dtype": "int8"}, r"TablePreparation\(dtype\) is 'float32' or 'float64', got 'int8'"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            TablePreparation(**setting).fit(TABLE)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_output_of_other_libraries(library: str) -> None:
    module = pytest.importorskip(library)
    frame = module.DataFrame({name: list(values) for name, values in TABLE.items()})
    preparation = TablePreparation().fit(frame)
    out = preparation.set_output(transform=library).transform(frame)
    assert isinstance(out, module.DataFrame)
    assert list(out.columns) == preparation.get_feature_names_out().tolist()
    if library == "pandas":
        part: Any = preparation.transform(frame.iloc[5:9])
        assert part.index.tolist() == [5, 6, 7, 8]


def test_it_stands_in_pipelines_over_data_frames() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({name: list(values) for name, values in TABLE.items()})
    frame["size"] = Y * 4 + np.asarray(frame["size"]) / 30
    trees = make_pipeline(TablePreparation(), HistGradientBoostingClassifier(max_iter=20))
    assert cross_val_score(trees, frame, Y, cv=3).mean() > 0.8
    network = make_pipeline(TablePreparation(), fcnn.FCNNClassifier(epochs=20, random_state=0))
    search = GridSearchCV(network, {"tablepreparation__numbers": ["robust", "quantile"]}, cv=2, error_score="raise")
    assert search.fit(frame, Y).best_score_ > 0.8
    some = make_column_transformer(
        (TablePreparation(), ["size", "town"]), remainder="drop", verbose_feature_names_out=False
    )
    assert some.fit(frame).get_feature_names_out().tolist()[0] == "size"
    assert some.transform(frame).shape == (N, 6)


def test_words_among_numbers_and_dates_are_named_or_counted_as_missing() -> None:
    table = {
        "x": [f"{i / 2}" for i in range(30)],
        "when": [f"2024-01-{i + 1:02}" for i in range(30)],
        "z": range(0, 60, 2),
    }
    preparation = TablePreparation(columns={"z": "number"}).fit(table)
    odd = {"x": ["1.5", "much", "none of it"], "when": ["2024-01-05", "2024-01-06", "long ago"], "z": [1, 2, 3]}
    assert preparation.unreadable(table) == {}
    assert preparation.unreadable(odd) == {"x": ("much", "none of it"), "when": ("long ago",)}
    with pytest.raises(TableError, match=r"(?s)'much' \(row 1\).*'long ago' \(row 2\)"):
        preparation.transform(odd)
    preparation.count_as_missing(preparation.unreadable(odd))
    gaps = odd | {"x": ["1.5", "", ""], "when": ["2024-01-05", "2024-01-06", None]}
    np.testing.assert_array_equal(preparation.transform(odd), preparation.transform(gaps))
    again = TablePreparation.of(json.loads(json.dumps(preparation.plain())))
    np.testing.assert_array_equal(again.transform(odd), preparation.transform(gaps))
    with pytest.raises(ValueError, match="'town', 'y': no column of numbers or dates that is used"):
        preparation.count_as_missing({"y": ["a"], "town": ["b"], "x": []})
