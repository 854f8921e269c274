"""Tables as people have them through the command line: trained on, measured, predicted on."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fcnn_gpu as fcnn
from fcnn_gpu.cli._rows import known_rows, row_marks

from ..support.cli_cases import Command, assert_mistake

FEW = ("--layers", "16", "--epochs", "4", "--no-progress")
WELL = ("--layers", "32", "--epochs", "60", "--no-progress")


def people(n: int = 400) -> pd.DataFrame:
    """Whose income follows from age, education and hours, with all that real tables have."""
    rng = np.random.default_rng(0)
    age = rng.integers(18, 80, n).astype(float)
    education = rng.choice(["school", "college", "master's, or more"], n)
    hours = rng.normal(38, 6, n)
    pay = age * 900 + 20_000 * (education == "college") + 35_000 * (education == "master's, or more") + hours * 300
    table = pd.DataFrame(
        {
            "person": [f"P{i:05}" for i in rng.permutation(n)],
            "age": age,
            "education": education,
            "hours": [f"{h:.1f} %" for h in hours],
            "rent": [f"€{r:,.2f}" for r in rng.normal(1500, 300, n)],
            "married": rng.choice(["yes", "no"], n),
            "since": pd.date_range("2015-03-01", periods=n, freq="3D").strftime("%d.%m.%Y"),
            "currency": "EUR",
            "remark": [f"a remark that number {i} has made by itself" for i in range(n)],
            "pay": pay.round(2),
            "income": np.where(pay > np.median(pay), ">50K", "<=50K"),
        }
    )
    table.loc[::7, "age"] = np.nan
    return table


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return people()


@pytest.fixture
def file(table: pd.DataFrame, tmp_path: Path) -> Path:
    table.to_csv(tmp_path / "people.csv", index=False)
    return tmp_path / "people.csv"


@pytest.fixture
def run(command: Command, file: Path, tmp_path: Path) -> Path:
    code, _, err = command(
        "train", "--data", file, "--target", "income", "--ignore", "pay", *FEW, "--out", tmp_path / "run"
    )
    assert (code, err) == (0, "")
    return tmp_path / "run"


def headline(out: str, what: str) -> dict[str, float]:
    [line] = [line for line in out.splitlines() if line.startswith(f"{what} (")]
    return {name: float(value) for name, value in re.findall(r"([a-z_0-9]+) (-?[\d.]+)(?:  |$)", line)}


class TestTraining:
    def test_the_columns_are_shown_with_their_reasons(self, command: Command, file: Path) -> None:
        code, out, err = command("train", "--data", file, "--target", "income", "--ignore", "pay", *WELL)
        assert (code, err) == (0, "")
        assert "Target: income: classification (2 different values, which are no numbers)" in out
        rows = {
            line.split()[0]: line.split() for line in out.splitlines() if re.match(r"^ +[a-z]+ +[a-z_]+ +[–0-9]", line)
        }
        kinds = {name: (cells[1], cells[2]) for name, cells in rows.items() if name in people(1).columns}
        assert kinds == {
            "person": ("id", "–"),
            "age": ("number", "2"),
            "education": ("category", "3"),
            "hours": ("number", "1"),
            "rent": ("number", "1"),
            "married": ("yes_no", "1"),
            "since": ("date", "5"),
            "currency": ("constant", "–"),
            "remark": ("text", "–"),
            "pay": ("ignored", "–"),
        }
        assert headline(out, "Test")["accuracy"] > 0.85

    def test_values(self, command: Command, file: Path, tmp_path: Path) -> None:
        arguments = ("--target", "pay", "--ignore", "income", *WELL, "--out", tmp_path / "run")
        code, out, _ = command("train", "--data", file, *arguments)
        assert code == 0
        assert headline(out, "Test")["r2"] > 0.6
        code, predicted, _ = command("predict", tmp_path / "run", file)
        values = np.array(predicted.split()[1:], float)
        truth = pd.read_csv(file)["pay"]
        assert values.min() >= truth.min() - 1
        assert values.max() <= truth.max() + 1

    def test_what_a_column_is_can_be_said(self, command: Command, file: Path) -> None:
        said = ("--column", "age=category", "--column", "since=ignore", "--column", "3=category", "--ignore", "rent")
        code, out, _ = command("train", "--data", file, "--target", "income", *said, *FEW)
        assert code == 0
        assert re.search(r"age +category +\d+ +as given: 6\d different values", out)
        assert re.search(r"hours +category", out)
        assert re.search(r"since +ignored +– +as given", out)
        assert re.search(r"rent +ignored", out)

    def test_all_faults_at_once(self, command: Command, file: Path) -> None:
        wrong = ("--column", "education=number", "--column", "remark=date", "--column", "age=yes_no")
        output = command("train", "--data", file, "--target", "income", *wrong, *FEW)
        assert_mistake(output, "'education' cannot be 'number'.*'remark' cannot be 'date'|'age' cannot be 'yes_no'")
        for name in ("education", "remark", "age"):
            assert f"column '{name}'" in output[2]
        output = command(
            "train", "--data", file, "--target", "income", "--column", "agee=number", "--ignore", "x", *FEW
        )
        assert_mistake(output, "no column 'agee'. Did you mean 'age'.*no column 'x'")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--column", "age"], r"--column expects NAME=KIND, .* got 'age'"),
            (["--column", "age=nummer"], "--column age does not know 'nummer'. Did you mean 'number'"),
            (["--column", "age=number", "--column", "age=date"], "--column names 'age' twice"),
            (["--target", "incme"], "has no target 'incme'. Did you mean 'income'"),
            (["--target", "income,income"], "--target names 'income' twice"),
            (["--target", "income", "--ignore", "income"], "'income' is the target"),
            (
                ["--target", "remark", "--task", "regression"],
                "the target 'remark' is to be numbers, and has 'a remark",
            ),
            (["--target", "income,pay", "--task", "classification"], "labels of two values each, and 'pay' has others"),
            (["--numbers", "log"], "--numbers does not know 'log'"),
            (["--numbers", "robust", "--standardize"], "--numbers and --standardize both say"),
            (["--sheet", "one"], r"--sheet is for Excel files"),
            (["--test-data", "nowhere.csv"], "There is no file"),
        ],
    )
    def test_mistakes(self, command: Command, file: Path, arguments: list[str], message: str) -> None:
        assert_mistake(command("train", "--data", file, *arguments, *FEW, "--out", "run"), message)
        assert not Path("run").exists()

    def test_nothing_to_learn_from(self, command: Command, tmp_path: Path) -> None:
        path = tmp_path / "one.csv"
        path.write_text("y\n" + "a\nb\n" * 20)
        assert_mistake(command("train", "--data", path), "one.csv has no column beside 'y', so nothing to learn from")
        path.write_text("id,y\n" + "".join(f"k{i},{i % 2}\n" for i in range(60)))
        assert_mistake(command("train", "--data", path), "Say what a column is: --column id=category")

    def test_very_many_columns(self, command: Command, tmp_path: Path) -> None:
        wide = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 120)).round(3)).add_prefix("g")
        wide.assign(y=["a", "b"] * 20).to_csv(tmp_path / "wide.csv", index=False)
        code, out, _ = command("train", "--data", tmp_path / "wide.csv", *FEW)
        assert code == 0
        assert "Columns: 120, of which none are shown; inputs come of 120 of kind number" in out
        output = command("train", "--data", tmp_path / "wide.csv", "--target", "zz", *FEW)
        assert_mistake(output, r"Known names: g0, .*, \.\.\. \(121 in all\)")

    def test_lists_are_left_out_without_a_remedy_that_does_not_help(self, command: Command, tmp_path: Path) -> None:
        path = tmp_path / "nested.jsonl"
        path.write_text("".join(json.dumps({"tags": [i], "x": i * i, "y": i % 2}) + "\n" for i in range(40)))
        code, out, _ = command("train", "--data", path, *FEW)
        assert code == 0
        assert "Left out, since its cells are no single values: tags." in out
        assert "NAME=category" not in out

    def test_options_of_tables_and_other_data(self, command: Command) -> None:
        output = command("train", "--data", "digits", "--column", "a=number", "--numbers", "none", *FEW)
        assert_mistake(output, r"--column, --numbers is for tables \(\.csv, \.parquet, \.\.\.\), not for digits")

    def test_several_targets(self, command: Command, table: pd.DataFrame, tmp_path: Path) -> None:
        values = table.assign(**{"net, pay": table["pay"] * 0.6 + 5})
        values.to_csv(tmp_path / "two.csv", index=False)
        code, out, _ = command("train", "--data", "two.csv", "--target", "net, pay", "--ignore", "pay", *FEW)
        assert code == 0
        assert "regression of 1 target" in out
        arguments = ("--target", "pay,age", "--column", "net, pay=ignore", *FEW, "--out", "run")
        code, out, _ = command("train", "--data", "two.csv", *arguments)
        assert code == 0
        assert "Left out: 58 rows without a value of pay, age" in out
        code, out, _ = command("predict", "run", "two.csv")
        assert out.splitlines()[0] == "prediction_pay,prediction_age"
        code, out, _ = command("evaluate", "run", "--data", "two.csv", "--part", "all")
        assert code == 0
        assert "two.csv: 342 rows, 58 of 400 left out" in out

    def test_several_labels(self, command: Command, table: pd.DataFrame, tmp_path: Path) -> None:
        table.assign(rich=table["pay"] > 90_000).to_csv(tmp_path / "labels.csv", index=False)
        arguments = ("--target", "rich,married", "--ignore", "pay", "--ignore", "income", *FEW, "--out", "run")
        code, out, _ = command("train", "--data", "labels.csv", *arguments)
        assert code == 0
        assert "2 labels, several per sample" in out
        code, out, _ = command("predict", "run", "labels.csv", "--proba")
        assert out.splitlines()[0] == "p(rich),p(married)"
        assert command("evaluate", "run", "--data", "labels.csv")[0] == 0

    def test_what_gives_the_target_away_is_named(self, command: Command, table: pd.DataFrame, tmp_path: Path) -> None:
        leaking = table.assign(grade=np.where(table["income"] == ">50K", 1, 0), again=table["income"])
        leaking.to_csv(tmp_path / "leaks.csv", index=False)
        _, out, _ = command("train", "--data", "leaks.csv", "--target", "income", "--ignore", "pay", *FEW)
        assert "Warning: 'again' equals the target 'income'" in out
        assert "Warning: 'grade' has the same classes as the target 'income'" in out

    def test_the_preparation_sees_the_training_part_alone(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A number that only one row has appears in the kinds' reasons wherever that row was looked at."""
        n = 100
        seen: set[float] = set()
        for row in range(0, n, 9):
            values = np.arange(n) / n
            values[row] = 777.0
            file = tmp_path / "one.csv"
            pd.DataFrame({"x": values, "y": np.arange(n) % 2}).to_csv(file, index=False)
            parts = ("--test-fraction", "0.3", "--validation-split", "0.3")
            command("train", "--data", file, "--task", "classification", *FEW, *parts, "--out", "run", "--overwrite")
            preparation = fcnn.load("run/model.safetensors", backend="numpy").preparation
            assert preparation is not None
            seen.add("777" in preparation.kinds_[0].reason)
        assert seen == {True, False}

    def test_a_word_among_the_numbers_of_the_test_part(self, command: Command, tmp_path: Path) -> None:
        """Wherever the row lies, the table is learned from, and the word is named."""
        rng = np.random.default_rng(0)
        said = []
        for row in range(0, 60, 6):
            values = rng.normal(size=60).round(3).astype(object)
            values[row] = "broken"
            pd.DataFrame({"x": values, "z": rng.normal(size=60), "y": np.arange(60) % 2}).to_csv("odd.csv", index=False)
            code, out, err = command(
                "train", "--data", "odd.csv", "--validation-split", "0.2", *FEW, "--out", "run", "--overwrite"
            )
            assert (code, err) == (0, "")
            assert command("predict", "run", "odd.csv")[0] == 0
            said.append("Note: 'broken' in 'x', not in the training rows, counts as missing" in out)
            assert said[-1] or "broken counts as missing" in " ".join(out.split())
        assert True in said
        assert False in said

    def test_test_data(self, command: Command, table: pd.DataFrame, tmp_path: Path) -> None:
        table[:300].to_csv(tmp_path / "train.csv", index=False)
        table[300:].to_parquet(tmp_path / "test.parquet")
        arguments = ("--target", "income", "--ignore", "pay", *FEW, "--test-data", "test.parquet", "--out", "run")
        code, out, err = command("train", "--data", "train.csv", *arguments)
        assert (code, err) == (0, "")
        assert "300 training and 100 test samples" in out
        assert "occur in the training data" not in out
        code, again, _ = command("evaluate", "run", "--data", "test.parquet")
        assert headline(out, "Test") == headline(again, "All")
        assert_mistake(command("evaluate", "run", "--data", "train.csv"), "has no test part, all was trained on")
        assert command("evaluate", "run", "--data", "train.csv", "--part", "train")[0] == 0

    def test_test_data_of_training_rows(self, command: Command, table: pd.DataFrame, tmp_path: Path) -> None:
        table.to_csv(tmp_path / "train.csv", index=False)
        extra = table.iloc[:5].assign(age=33.5, hours="12.5 %")
        pd.concat([extra, table[300:]]).to_parquet(tmp_path / "test.parquet")
        arguments = ("--target", "income", "--ignore", "pay", *FEW, "--test-data", "test.parquet")
        _, out, _ = command("train", "--data", "train.csv", *arguments)
        assert "Warning: 100 of the 105 rows of test.parquet also occur in the training data" in out

    def test_test_data_of_arrays(self, command: Command, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for name, n, d in (("a", 80, 3), ("b", 20, 3), ("c", 20, 4)):
            np.savez(tmp_path / f"{name}.npz", X=rng.normal(size=(n, d)), y=np.arange(n) % 2)
        _, out, _ = command("train", "--data", "a.npz", "--test-data", "b.npz", *FEW)
        assert "80 training and 20 test samples" in out
        assert_mistake(command("train", "--data", "a.npz", "--test-data", "c.npz", *FEW), r"samples of \(4,\)")
        assert_mistake(command("train", "--data", "digits", "--test-data", "c.npz", *FEW), "digits has a test part")


class TestFiles:
    """The same table, whatever holds it."""

    @pytest.mark.parametrize("name", ["p.parquet", "p.feather", "p.xlsx", "p.jsonl", "p.tsv", "p.csv.gz", "p.csv.zst"])
    def test_predictions_are_the_same(
        self, command: Command, run: Path, table: pd.DataFrame, tmp_path: Path, name: str
    ) -> None:
        write_as(table, tmp_path / name)
        table.to_csv(tmp_path / "p.csv", index=False)
        expected = command("predict", run, tmp_path / "p.csv", "--proba", "--keep", "person")
        assert command("predict", run, tmp_path / name, "--proba", "--keep", "person") == expected
        assert expected[0] == 0
        assert expected[1].splitlines()[0] == "person,label,p(<=50K),p(>50K)"

    @pytest.mark.parametrize("name", ["people.log", "people"])
    def test_another_ending(self, command: Command, table: pd.DataFrame, tmp_path: Path, name: str) -> None:
        """Or none: a file of text is a table."""
        table.to_csv(tmp_path / name, index=False)
        arguments = ("--target", "income", "--ignore", "pay", *FEW, "--out", "run")
        assert command("train", "--data", f"./{name}", *arguments)[0] == 0
        assert command("evaluate", "run", "--data", f"./{name}")[0] == 0
        assert command("predict", "run", name)[0] == 0

    def test_a_sheet(self, command: Command, table: pd.DataFrame, tmp_path: Path) -> None:
        with pd.ExcelWriter(tmp_path / "book.xlsx") as book:
            pd.DataFrame({"note": ["nothing"]}).to_excel(book, sheet_name="first", index=False)
            table.to_excel(book, sheet_name="people", index=False)
        arguments = ("--target", "income", "--ignore", "pay", *FEW, "--out", "run")
        code, _, _ = command("train", "--data", "book.xlsx", "--sheet", "people", *arguments)
        assert code == 0
        _, out, _ = command("evaluate", "run", "--data", "book.xlsx", "--sheet", "people")
        assert "Test (80 samples)" in out
        assert command("evaluate", "run", "--data", "book.xlsx")[1] == out  # of the training file, the training sheet
        assert command("predict", "run", "book.xlsx", "--sheet", "people")[0] == 0
        assert_mistake(
            command("train", "--data", "book.xlsx", "--sheet", "x"), "has no sheet 'x'. Its sheets: first, people"
        )
        output = command("train", "--data", "book.xlsx", *arguments, "--overwrite")
        assert_mistake(output, r"no target 'income'.*\(Sheet 'first' was read; there are also 'people': --sheet\.\)")

    def test_another_sheet_of_the_training_file_is_new(
        self, command: Command, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        with pd.ExcelWriter(tmp_path / "book.xlsx") as book:
            table[:300].to_excel(book, sheet_name="old", index=False)
            table[290:].to_excel(book, sheet_name="new", index=False)
        arguments = ("--target", "income", "--ignore", "pay", "--test-fraction", "0", *FEW, "--out", "run")
        assert command("train", "--data", "book.xlsx", *arguments)[0] == 0
        code, out, _ = command("evaluate", "run", "--data", "book.xlsx", "--sheet", "new")
        assert code == 0
        assert "All (110 samples)" in out
        assert "10 of these 110 also occur in the training data" in out

    def test_another_environment_predicts_the_same_from_the_raw_file(
        self, command: Command, run: Path, file: Path, tmp_path: Path
    ) -> None:
        """The model file alone, in a process without pyarrow and pandas, on another backend."""
        _, expected, _ = command("predict", run, file, "--proba")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        shutil.copy(run / "model.safetensors", elsewhere)
        program = (
            "import sys\n"
            "for name in ('pyarrow', 'pandas', 'polars', 'openpyxl'): sys.modules[name] = None\n"
            "from fcnn_gpu.cli._app import run\n"
            f"sys.exit(run(['predict', 'model.safetensors', {str(file)!r}, '--proba', '--backend', 'cpu']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=elsewhere,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        found, wanted = (list(csv.reader(io.StringIO(text))) for text in (done.stdout, expected))
        assert [row[0] for row in found] == [row[0] for row in wanted]
        np.testing.assert_allclose(
            np.array(found[1:])[:, 1:].astype(float), np.array(wanted[1:])[:, 1:].astype(float), atol=1e-5
        )


def write_as(table: pd.DataFrame, path: Path) -> None:
    ending = "".join(path.suffixes)
    writers: dict[str, Any] = {
        ".parquet": table.to_parquet,
        ".feather": table.to_feather,
        ".xlsx": lambda path: table.to_excel(path, index=False),
        ".jsonl": lambda path: table.to_json(path, orient="records", lines=True),
        ".tsv": lambda path: table.to_csv(path, index=False, sep="\t"),
        ".csv.gz": lambda path: table.to_csv(path, index=False),
    }
    if ending == ".csv.zst":
        import pyarrow as pa

        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(table.to_csv(index=False).encode())
        return
    writers[ending](path)


class TestEvaluating:
    def test_the_training_file_is_known_by_its_content(
        self, command: Command, run: Path, file: Path, tmp_path: Path
    ) -> None:
        moved = tmp_path / "renamed.csv"
        file.rename(moved)
        code, out, _ = command("evaluate", run, "--data", moved)
        assert code == 0
        assert headline(out, "Test")["accuracy"] > 0
        assert "(80 samples)" in out
        assert "occur in the training data" not in out

    def test_a_new_file_is_measured_whole(self, command: Command, run: Path, file: Path, table: pd.DataFrame) -> None:
        new = people(500)[450:]
        new["age"] += 0.25  # a row of nobody's
        new.to_csv(file, index=False)  # of the same name
        code, out, _ = command("evaluate", run, "--data", file)
        assert code == 0
        assert "All (50 samples)" in out
        assert "occur in the training data" not in out

    def test_rows_of_the_training_are_named(self, command: Command, run: Path, file: Path, table: pd.DataFrame) -> None:
        """One row that is appended makes a new file of it, and does not move training rows into a test part."""
        extra = table.iloc[[0]].assign(age=33.5, hours="12.5 %")
        pd.concat([extra, table]).to_csv(file, index=False)
        code, out, _ = command("evaluate", run, "--data", file)
        assert code == 0
        assert "All (401 samples)" in out
        assert re.search(
            r"^320 of these 401 also occur in the training data \(rows \d+, \d+, .*\.\.\., from 0\)\.$", out, re.M
        )
        assert "The others (81 samples)" in out
        _, out, _ = command("evaluate", run, "--data", file, "--json")
        found = json.loads(out)
        assert len(found["training_rows"]) == 320
        assert 0 not in found["training_rows"]
        assert found["other_rows"]["n_samples"] == 81

    def test_rows_of_the_training_in_another_test_part(
        self, command: Command, run: Path, file: Path, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        """A larger share of the training file, or of its rows in another order, holds some that were trained on."""
        code, out, _ = command("evaluate", run, "--data", file, "--test-fraction", "0.5")
        assert code == 0
        assert "120 of these 200 also occur in the training data" in out
        assert "The others (80 samples)" in out
        _, out, _ = command("evaluate", run, "--data", file, "--test-fraction", "0.2")
        assert "occur in the training data" not in out
        table.sample(frac=1, random_state=0).to_csv(tmp_path / "shuffled.csv", index=False)
        shuffled = ("--data", tmp_path / "shuffled.csv", "--part", "test")
        _, out, _ = command("evaluate", run, *shuffled, "--test-fraction", "0.2", "--json")
        rows = json.loads(out)["training_rows"]
        assert rows == sorted(rows) != []

    def test_parts_of_a_file_that_has_changed(
        self, command: Command, run: Path, file: Path, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        """Its rows say which part they are of: a row more does not put any that was trained on into the test."""
        more = pd.concat([table, table[:1].assign(age=99)])
        more.sample(frac=1, random_state=0).to_csv(tmp_path / "more.csv", index=False)
        of_file = json.loads(command("evaluate", run, "--data", file, "--part", "train", "--json")[1])
        arguments = ("evaluate", run, "--data", tmp_path / "more.csv", "--json", "--part")
        of_more = json.loads(command(*arguments, "train")[1])
        assert of_more["n_samples"] == of_file["n_samples"] == 320
        assert of_more["accuracy"] == of_file["accuracy"]
        assert json.loads(command(*arguments, "test")[1])["n_samples"] == 81
        _, out, _ = command(*arguments[:-2], "--part", "test")
        assert "401 rows; of these the 81 that training did not have" in out
        (tmp_path / "moved.safetensors").write_bytes((run / "model.safetensors").read_bytes())
        output = command("evaluate", tmp_path / "moved.safetensors", *arguments[2:], "test")
        assert_mistake(output, r"training_rows.npy, which tells its rows, is not beside it. Say --part all")
        new = table.assign(age=-5.0)
        new.to_csv(tmp_path / "more.csv", index=False)
        assert_mistake(command(*arguments, "train"), "--part train of more.csv: none of its rows was trained on")

    def test_arrays_are_known_by_their_content_too(self, command: Command, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(60, 3)), np.arange(60) % 2
        np.savez(tmp_path / "a.npz", X=X, y=y)
        command("train", "--data", "a.npz", *FEW, "--out", "run")
        assert "Test (12 samples)" in command("evaluate", "run", "--data", "a.npz")[1]
        np.savez(tmp_path / "a.npz", X=np.vstack([X, X[:1] + 1]), y=np.append(y, 0))
        out = command("evaluate", "run", "--data", "a.npz")[1]
        assert "All (61 samples)" in out
        assert "48 of these 61 also occur in the training data" in out
        assert "Test (13 samples)" in command("evaluate", "run", "--data", "a.npz", "--part", "test")[1]
        assert "Training part (48 samples)" in command("evaluate", "run", "--data", "a.npz", "--part", "train")[1]

    def test_values_that_training_did_not_have(
        self, command: Command, run: Path, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        other = table.assign(education="abroad")
        other.to_csv(tmp_path / "other.csv", index=False)
        code, _, err = command("evaluate", run, "--data", "other.csv")
        assert code == 0
        assert err == "Note: other.csv: 100% of the rows have values of 'education' that training did not have\n"

    def test_values_that_training_had_too_rarely(self, command: Command, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        towns = [f"town {i}" for i in rng.integers(0, 400, 2000)]
        table = pd.DataFrame({"town": towns, "x": rng.normal(size=2000), "y": rng.choice(["a", "b"], 2000)})
        table.to_csv(tmp_path / "towns.csv", index=False)
        few = ("--layers", "4", "--epochs", "1", "--no-progress", "--test-fraction", "0", "--out", "run")
        assert command("train", "--data", "towns.csv", *few)[0] == 0
        _, _, err = command("evaluate", "run", "--data", "towns.csv", "--part", "train")
        assert re.search("of the rows have values of 'town' that training did not have, or too rarely\n$", err)

    def test_text_where_numbers_were(self, command: Command, run: Path, table: pd.DataFrame, tmp_path: Path) -> None:
        other = table.astype({"age": object})
        other.loc[3, "age"] = "old"
        other.loc[4, "rent"] = "much"
        other.to_csv(tmp_path / "other.csv", index=False)
        output = command("predict", run, "other.csv")
        assert_mistake(
            output, r"column 'age' held numbers in training .* has 'old' \(row 3\)\..*column 'rent'.*'much' \(row 4\)"
        )

    def test_a_model_of_a_program(self, command: Command, table: pd.DataFrame, tmp_path: Path) -> None:
        """Which notes no target: the command asks for it, and takes the classes of the signature."""
        inputs = table[["age", "education", "married"]]
        preparation = fcnn.tables.TablePreparation().fit(inputs)
        X, y = preparation.transform(inputs), (table["income"] == ">50K").to_numpy().astype(int)
        model = fcnn.Sequential([fcnn.Dense(2)], X.shape[1], seed=0, backend="numpy")
        fcnn.Trainer(model, optimizer=fcnn.Adam(0.1)).fit(X, y, epochs=10, progress=False)
        model.signature = fcnn.Signature(class_names=["<=50K", ">50K"], preparation=preparation)
        model.save(tmp_path / "m.safetensors")
        table.to_csv(tmp_path / "people.csv", index=False)
        evaluate = ("evaluate", "m.safetensors", "--data", "people.csv")
        assert_mistake(
            command(*evaluate), r"m\.safetensors does not say which column it predicts\. Say it: --target NAME"
        )
        code, out, _ = command(*evaluate, "--target", "income", "--json")
        assert code == 0
        assert json.loads(out)["accuracy"] == pytest.approx((model.predict_classes(inputs) == y).mean())
        assert_mistake(command(*evaluate, "--target", "married"), "the target 'married' has .*, which are none")

    def test_labels_of_a_program(self, command: Command, table: pd.DataFrame, tmp_path: Path) -> None:
        """Are the zeros and ones that it was trained on, also where a file has one of them alone."""
        preparation = fcnn.tables.TablePreparation().fit(table[["age", "education"]])
        X = preparation.transform(table[["age", "education"]])
        model = fcnn.Sequential([fcnn.Dense(2)], X.shape[1], seed=0, backend="numpy")
        y = np.column_stack([table["pay"] > 90_000, table["pay"] > 0]).astype(int)
        fcnn.Trainer(model, "binary_cross_entropy", fcnn.Adam(0.1)).fit(X, y, epochs=20, progress=False)
        model.signature = fcnn.Signature(preparation=preparation)
        model.save(tmp_path / "m.safetensors")
        table.assign(rich=y[:, 0], paid=y[:, 1]).to_csv(tmp_path / "labels.csv", index=False)
        evaluate = ("evaluate", "m.safetensors", "--data", "labels.csv", "--target")
        code, out, _ = command(*evaluate, "rich,paid", "--json")
        assert code == 0
        assert json.loads(out)["classes"][1]["recall"] > 0.9
        assert_mistake(command(*evaluate, "rich"), "--target names 1 column, and the model .* predicts 2")

    def test_rows_keep_their_numbers_where_some_are_left_out(
        self, command: Command, run: Path, table: pd.DataFrame, tmp_path: Path
    ) -> None:
        new = table.astype({"income": object, "age": object})
        new.loc[:4, "income"] = None
        new.loc[2, "age"], new.loc[10, "age"] = "nobody asks", "old"
        new.to_csv(tmp_path / "new.csv", index=False)
        assert_mistake(command("evaluate", run, "--data", "new.csv"), r"has 'old' \(row 10\)\.")
        arguments = ("--target", "income", *FEW, "--test-data", "new.csv")
        table.to_csv(tmp_path / "old.csv", index=False)
        assert_mistake(command("train", "--data", "old.csv", *arguments), r"has 'old' \(row 10\)\.")
        new.assign(income=None).to_csv(tmp_path / "new.csv", index=False)
        output = command("train", "--data", "old.csv", *arguments)
        assert_mistake(output, "--test-data new.csv has no row with a value of income")

    def test_marks_are_lost_or_foreign(self, command: Command, run: Path, table: pd.DataFrame, tmp_path: Path) -> None:
        table[:50].to_csv(tmp_path / "part.csv", index=False)
        (run / "training_rows.npy").write_bytes(b"junk")
        assert_mistake(command("evaluate", run, "--data", "part.csv"), r"training_rows\.npy cannot be read")
        (run / "training_rows.npy").unlink()
        code, out, _ = command("evaluate", run, "--data", "part.csv")
        assert code == 0
        assert "occur in the training data" not in out


def test_marks_tell_rows_apart() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2000, 5)).astype("f"), rng.integers(0, 3, 2000)
    marks = row_marks(X, y)
    assert len(np.unique(marks)) == 2000
    order = rng.permutation(2000)
    np.testing.assert_array_equal(row_marks(X[order], y[order]), marks[order])
    np.testing.assert_array_equal(known_rows(row_marks(X[:10], y[:10]), marks[5:]), np.arange(5, 10))
    assert not len(known_rows(row_marks(X, y + 1), marks))
    np.testing.assert_array_equal(row_marks(-np.zeros((1, 2), "f"), y[:1]), row_marks(np.zeros((1, 2), "f"), y[:1]))


@pytest.mark.parametrize(
    ("name", "library"), [("a.parquet", "pyarrow"), ("a.feather", "pyarrow"), ("a.xlsx", "openpyxl")]
)
def test_what_reads_a_file_is_not_installed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, library: str
) -> None:
    write_as(pd.DataFrame({"x": [1.5, 2.5], "y": [0, 1]}), tmp_path / name)
    monkeypatch.setitem(sys.modules, library, None)
    assert_mistake(command("train", "--data", name), f"{library}, which is not installed: pip install {library}$")
