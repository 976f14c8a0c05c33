# pyright: standard
# (xarray and h5netcdf carry incomplete types; this is the one file that touches them)
"""Published data of a run: one netCDF-4/HDF5 file that ``xarray.open_dataset`` reads, with units and long names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from labctl.errors import StorageError
from labctl.run.columns import Columns, of_rows

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
    number = {"record": ("record", table.number, {"long_name": "number of the round or shot", "units": "1"})}
    told = {k: v if isinstance(v, int | float) else str(v) for k, v in attributes.items()}
    try:
        xarray.Dataset({}, number, told).to_netcdf(temporary, engine="h5netcdf")
        for name, variable in variables(table, columns):
            xarray.Dataset({name: variable}).to_netcdf(temporary, mode="a", engine="h5netcdf")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"{path}: cannot publish ({error}); the journal beside it is complete: free some space, then `labctl show RID --publish`"
        ) from None


def load(path: Path) -> xarray.Dataset:
    """A published file, in memory."""
    with xarray.open_dataset(path, engine="h5netcdf") as data:
        return data.load()
