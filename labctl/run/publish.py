"""What a finished (or cut short) run becomes: netCDF, figures, run.json and a report, all from its journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from labctl.errors import DataError, LabError
from labctl.run import columns
from labctl.run import folder as folders
from labctl.run.columns import Columns
from labctl.run.results import Result, results
from labctl.run.tag_check import Heralds, check
from labctl.schedule.items import from_json


def publish(
    folder: Path,
    about: dict[str, Any],
    drawn: bool = True,
) -> list[Result]:
    """Write data.nc, report.html and run.json of a run folder from its journal; returns its figures.

    Works on any readable journal, so a run whose process was killed is published by calling it again. Records that the
    analysis cannot understand are published all the same; run.json says why there are no figures.

    drawn:  whether there is a report; a block of a long run needs none of its own
    """
    from labctl.run import report, store

    table, content = columns.read(folder / "journal")
    found: list[Result] = []
    try:
        found = results(str(about.get("analysis", "")), table, about.get("arguments", {}))
    except LabError as failure:
        about["analysis_error"] = str(failure)
    about["results"] = {
        r.key: {
            "label": r.label,
            "value": r.value.value,
            "standard_error": r.value.standard_error,
            "unit": r.value.unit,
        }
        for r in found
    }
    about["records"] = len(table)
    try:
        heralds = _heralds(folder, table)
        if heralds is not None:
            about["tags"] = msgspec.structs.asdict(heralds) | {"text": heralds.text}
    except DataError as failure:  # damaged tags; the records do not need them
        about["tags_error"] = str(failure)
    folders.write_json(folder / "run.json", about)
    attributes = {
        key: about.get(key, "")
        for key in ("rid", "sequence", "label", "began", "reason", "schedule_sha256", "seed")
    }
    store.publish(
        folder / "data.nc",
        table,
        about.get("columns", {}),
        {k: "" if v is None else v for k, v in attributes.items()},
    )
    if drawn:
        report.write(folder / "report.html", about, table, content, found)
    return found


def _heralds(folder: Path, table: Columns) -> Heralds | None:
    """The heralds in the time tags beside those of the records; the tags become Parquet. None without tags."""
    try:
        schedule = from_json((folder / "schedule.json").read_bytes())
    except OSError as error:
        raise DataError(f"{folder / 'schedule.json'}: cannot be read ({error.strerror})") from None
    return check(folder, schedule, table)
