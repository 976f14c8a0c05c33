# pyright: standard
# (xarray and h5netcdf carry incomplete types; this is the one file that touches them)
"""Published data of a run: one netCDF-4/HDF5 file that ``xarray.open_dataset`` reads, with units and long names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from labctl.errors import StorageError

Rows = Sequence[tuple[int, int, Mapping[str, Any]]]


def dataset(
    rows: Rows, columns: Mapping[str, Mapping[str, str]], attributes: Mapping[str, Any]
) -> xarray.Dataset:
    """Records as a dataset with the one dimension ``record``; ``time`` is laboratory time in s since the run began.

    Text columns become integers with ``flag_values`` and ``flag_meanings`` (CF conventions).
    """
    variables: dict[str, Any] = {
        "time": (
            "record",
            np.array([t for _, t, _ in rows], np.float64) / 1e12,
            {"units": "s", "long_name": "laboratory time since the run began"},
        )
    }
    for name in {key: None for _, _, values in rows for key in values}:
        values = [row.get(name) for _, _, row in rows]
        meta = columns.get(name, {})
        attrs: dict[str, Any] = {
            "units": meta.get("unit", "") or "1",
            "long_name": meta.get("long_name", "") or name,
        }
        if any(isinstance(v, str) for v in values):
            texts = sorted({str(v) for v in values if v is not None})
            codes = {text: code for code, text in enumerate(texts)}
            meanings = codes if None not in values else {"missing": -1, **codes}
            attrs |= {
                "flag_values": np.array(list(meanings.values()), np.int16),
                "flag_meanings": " ".join(text.replace(" ", "_") for text in meanings),
            }
            data: Any = np.array([-1 if v is None else codes[str(v)] for v in values], np.int16)
        elif any(v is None or isinstance(v, float) for v in values):
            data = np.array([np.nan if v is None else v for v in values], np.float64)
        else:
            data = np.array(values, np.int64)
        variables[name] = ("record", data, attrs)
    coordinates = {
        "record": (
            "record",
            np.array([n for n, _, _ in rows], np.int64),
            {"long_name": "number of the round or shot", "units": "1"},
        )
    }
    return xarray.Dataset(
        variables,
        coordinates,
        {k: v if isinstance(v, int | float) else str(v) for k, v in attributes.items()},
    )


def publish(
    path: Path, rows: Rows, columns: Mapping[str, Mapping[str, str]], attributes: Mapping[str, Any]
) -> None:
    """Write the file beside its name and rename it: readers see all of it or nothing."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        dataset(rows, columns, attributes).to_netcdf(temporary, engine="h5netcdf")
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
