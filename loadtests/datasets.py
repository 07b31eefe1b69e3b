"""Owns the real rows that load tests send: the bundled data sets behind the example models, as columns by feature.

Never downloads, never trains, and imports nothing of the gateway: what it says of a model is what a client would write.
"""

from __future__ import annotations

import csv
import gzip
import importlib.resources
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.float32] | npt.NDArray[np.object_]

_PENGUINS = "tests/data/openml/id_42585/data-v1-dl-21854866.arff.gz"
_MEASURED = ("culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One input tensor of a model.

    Attributes:
        features: The columns it is made of, in order.
        row_shape: What one row's values are shaped into; its product is the number of features.
        is_prefix: Whether a request may send fewer of the first axis of `row_shape` (a sequence's length).
    """

    name: str
    features: tuple[str, ...]
    row_shape: tuple[int, ...]
    is_prefix: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Every row of one data set.

    Attributes:
        columns: FP32 or text, each of shape (rows,), by feature. A missing number is NaN, a missing text "".
    """

    model: str
    inputs: tuple[Input, ...]
    columns: dict[str, Column]

    @property
    def rows(self) -> int:
        """How many rows there are to draw from."""
        return len(next(iter(self.columns.values())))


def models() -> tuple[str, ...]:
    """Return the names of the models that have a data set."""
    return tuple(_LOADERS)


@cache
def load_dataset(model: str) -> Dataset:
    """Read the data set of an example model.

    Raises: ValueError: it has none.
    """
    if model not in _LOADERS:
        raise ValueError(f"no data set for model {model!r}; there is one for {', '.join(_LOADERS)}")
    return _LOADERS[model]()


def _breast_cancer() -> Dataset:
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    names = tuple(str(name).replace(" ", "_") for name in bunch.feature_names)
    return Dataset(
        model="breast_cancer",
        inputs=(Input(name="features", features=names, row_shape=(30,)),),
        columns=_columns(names, bunch.data),
    )


def _diabetes() -> Dataset:
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    names = tuple(str(name) for name in bunch.feature_names)
    inputs = tuple(Input(name=name, features=(name,), row_shape=(1,)) for name in names)
    return Dataset(model="diabetes", inputs=inputs, columns=_columns(names, bunch.data))


def _digits() -> Dataset:
    names, columns = _pixels()
    return Dataset(model="digits", inputs=(Input(name="image", features=names, row_shape=(1, 8, 8)),), columns=columns)


def _digits_sequence() -> Dataset:
    names, columns = _pixels()
    steps = Input(name="steps", features=names, row_shape=(8, 8), is_prefix=True)
    return Dataset(model="digits_sequence", inputs=(steps,), columns=columns)


def _pixels() -> tuple[tuple[str, ...], dict[str, Column]]:
    from sklearn.datasets import load_digits

    pixels, _ = load_digits(return_X_y=True)
    names = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    return names, _columns(names, pixels)


def _penguins() -> Dataset:
    file = importlib.resources.files("sklearn.datasets").joinpath(_PENGUINS)
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    records = list(csv.reader(lines[lines.index("@DATA") + 1 :]))
    _, island, *texts, sex = (list(column) for column in zip(*records, strict=True))
    columns: dict[str, Column] = {
        "island": np.array(island, object),
        "sex": np.array(["" if value in {"?", "_"} else value.lower() for value in sex], object),
    }
    for name, text in zip(_MEASURED, texts, strict=True):
        columns[name] = np.array([math.nan if value == "?" else float(value) for value in text], np.float32)
    inputs = tuple(Input(name=name, features=(name,), row_shape=(1,)) for name in columns)
    return Dataset(model="penguins", inputs=inputs, columns=columns)


def _columns(names: Sequence[str], table: npt.NDArray[np.float64]) -> dict[str, Column]:
    return {name: table[:, index].astype(np.float32) for index, name in enumerate(names)}


_LOADERS: dict[str, Callable[[], Dataset]] = {
    "breast_cancer": _breast_cancer,
    "diabetes": _diabetes,
    "digits": _digits,
    "digits_sequence": _digits_sequence,
    "penguins": _penguins,
}
