# pyright: standard
# (h5netcdf and xarray carry incomplete types; this is the one file that touches them)
"""Published data of a run: one netCDF-4/HDF5 file that ``xarray.open_dataset`` reads, with units and long names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5netcdf
import numpy as np

from labctl.errors import StorageError
from labctl.run.columns import Columns, of_rows

if TYPE_CHECKING:
    import xarray

Rows = Sequence[tuple[int, int, Mapping[str, Any]]]


def variables(
    table: Columns, columns: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, tuple[str, Any, dict[str, Any]]]]:
    """The variables of the dataset, one by one; ``time`` is laboratory time in s since the run began.

    Text columns become integers with ``flag_values`` and ``flag_meanings`` (CF conventions).
    """
    about = {"units": "s", "long_name": "laboratory time since the run began"}
    yield "time", ("record", table.time_s, about)
    for name in [*table.names]:
        meta = columns.get(name, {})
        attrs: dict[str, Any] = {
            "units": meta.get("unit", "") or "1",
            "long_name": meta.get("long_name", "") or name,
        }
        data, words = table.values(name)
        if words is not None:
            texts = sorted(words)
            codes = {text: code for code, text in enumerate(texts)}
            meanings = codes if table.has(name) else {"missing": -1, **codes}
            attrs |= {
                "flag_values": np.array(list(meanings.values()), np.int16),
                "flag_meanings": " ".join(text.replace(" ", "_") for text in meanings),
            }
            data = np.array([*(codes[word] for word in words), -1], np.int16)[data]
        yield name, ("record", data, attrs)


def publish(
    path: Path, rows: Rows | Columns, columns: Mapping[str, Mapping[str, str]], attributes: Mapping[str, Any]
) -> None:
    """Write the file beside its name and rename it: readers see all of it or nothing. One variable is in memory at a time."""
    table = rows if isinstance(rows, Columns) else of_rows(list(rows))
    temporary = path.with_name(path.name + ".tmp")
    number = {"long_name": "number of the round or shot", "units": "1"}
    try:
        with h5netcdf.File(temporary, "w") as file:
            file.dimensions["record"] = len(table)
            for name, value in attributes.items():
                file.attrs[name] = value if isinstance(value, int | float) else str(value)
            _add(file, "record", table.number, number)
            for name, (_, data, attrs) in variables(table, columns):
                _add(file, name, data, attrs)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{path}: cannot publish ({error}); the journal beside it is complete: free some space, then `labctl show RID --publish`"
        ) from None


def _add(file: h5netcdf.File, name: str, data: Any, attrs: Mapping[str, Any]) -> None:
    missing = np.nan if data.dtype.kind == "f" else None  # what other readers of netCDF take for a gap
    variable = file.create_variable(name, ("record",), data.dtype, data=data, fillvalue=missing)
    for key, value in attrs.items():
        variable.attrs[key] = value


def load(path: Path) -> xarray.Dataset:
    """A published file, in memory."""
    import xarray

    with xarray.open_dataset(path, engine="h5netcdf") as data:
        return data.load()
