"""Small versions of tables that everybody meets: what a newcomer expects of their columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcnn_gpu.tables import TablePreparation, infer_kinds, read

N = 120
_RNG = np.random.default_rng(0)


def _one_of(*values: Any) -> str:
    return str(values[_RNG.integers(len(values))])


def _whole(low: int, high: int) -> int:
    return int(_RNG.integers(low, high))


def _row(*cells: Any, by: str = ",") -> str:
    return by.join(map(str, cells))


def _titanic(i: int) -> str:
    ticket = _one_of("A/5 ", "PC ", "") + str(1000 + i * 7 % 80)
    cabin = f"C{i}" if i % 4 == 0 else ""
    name = f'"Smith{i}, Mr. John Harris {i}"'
    age = "" if i % 5 == 0 else _whole(1, 80)
    fare = _whole(0, 99) + 0.25
    return _row(i + 1, _whole(1, 4), name, _one_of("male", "female"), age, ticket, fare, cabin, _one_of(*"SCQ"))


def _adult(i: int) -> str:
    work = _one_of("Private", "State-gov", "?", "Self-emp")
    return f"{_whole(17, 90)}, {work}, {_whole(12285, 999999)}, {_one_of('Male', 'Female')}, {_one_of('<=50K', '>50K')}"


def _ames(i: int) -> str:
    frontage = "NA" if i % 6 == 0 else _whole(30, 120)
    alley = _one_of("NA", "Grvl", "Pave")
    return _row(i + 1, _one_of(20, 60, 120), frontage, alley, _whole(1900, 2010), _one_of("Y", "N"), "AllPub")


def _bank(i: int) -> str:
    job = _one_of("admin.", "blue-collar", "unknown")
    return f'{_whole(18, 90)};"{job}";"{_one_of("no", "yes")}";{_whole(-500, 9000)};"{_one_of("may", "jun", "oct")}";-1'


def _german(i: int) -> str:
    return f"A1{_whole(1, 5)} {_whole(6, 48)} A3{_whole(0, 5)} {_whole(250, 9000)} {_whole(1, 3)}"


def _shop(i: int) -> str:
    day = f"{_whole(1, 29):02d}.{_whole(1, 13):02d}.2023 {_whole(0, 24):02d}:{_whole(0, 60):02d}"
    money = f"{_whole(1, 3)}.{_whole(100, 999)},{_whole(0, 100):02d} €"
    item, rebate = f"SKU-{_whole(1, 40):03d}", f"{_whole(0, 40)} %"
    return _row(3 * i + 100, _whole(1, 90), day, item, money, rebate, _one_of("ja", "nein"), f"u{i}@x.de", by=";")


def _sensor(i: int) -> str:
    return f"2024-03-{i // 24 + 1:02d}T{i % 24:02d}:00:00Z,dev{i % 5},{_RNG.normal():.2f},{_one_of('OK', 'WARN')},°C"


def _telco(i: int) -> str:
    charges = " " if i % 30 == 0 else f"{_RNG.random() * 3000:.2f}"
    contract = _one_of("One year", "Two year", "Month-to-month")
    return _row(f"{_whole(1000, 9999)}-{i:05d}", _one_of(0, 1), _whole(0, 72), charges, contract)


def _loans(i: int) -> str:
    worked = _one_of("10+ years", "3 years", "n/a", "< 1 year")
    month = f"{_one_of('Jan', 'Dec')}-{_whole(2010, 2018)}"
    return _row(f" {_one_of(36, 60)} months", f"{_RNG.random() * 20:.2f}%", worked, month)


TABLES: dict[str, tuple[str, str, Callable[[int], str], str]] = {
    "Titanic": ("a.csv", "PassengerId,Pclass,Name,Sex,Age,Ticket,Fare,Cabin,Embarked", _titanic,
                "id number text yes_no number id number id category"),
    "Adult": ("adult.data", "", _adult, "number category number yes_no yes_no"),
    "Ames": ("a.csv", "Id,MSSubClass,LotFrontage,Alley,YearBuilt,CentralAir,Utilities", _ames,
             "id number number yes_no number yes_no constant"),
    "bank marketing": ("a.csv", "age;job;default;balance;month;pdays", _bank,
                       "number category yes_no number category constant"),
    "German credit": ("german.data", "", _german, "category number category number yes_no"),
    "a shop's orders": ("a.csv", "order_id;customer_id;Datum;sku;Preis;Rabatt;bezahlt;email", _shop,
                        "id id date category number number yes_no id"),
    "a sensor's log": ("a.csv", "timestamp,device,temp,status,unit", _sensor, "date category number yes_no constant"),
    "Telco": ("a.csv", "customerID,SeniorCitizen,tenure,TotalCharges,Contract", _telco,
              "id yes_no number number category"),
    "loans": ("a.csv", "term,int_rate,emp_length,issue_d", _loans, "yes_no number category date"),
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_known_tables_are_what_everybody_knows(table: str, tmp_path: Path) -> None:
    name, header, row, kinds = TABLES[table]
    lines = [header] * bool(header) + [row(i) for i in range(N)]
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read(tmp_path / name)
    assert [kind.kind for kind in infer_kinds(found)] == kinds.split()
    assert np.isfinite(TablePreparation().fit_transform(found)).all()
