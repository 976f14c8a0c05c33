"""Remembers, in a file, that a device was made safe, so that a host that dies and is started again leaves it so.

The file's presence is what counts: one that is cut short or cannot be read means "safe" as well.
"""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import quote

from labctl.clock import utc_now
from labctl.errors import DeviceError

_SUFFIX = ".safe"


class SafeMark:
    """The mark of one device; without a folder nothing is remembered."""

    def __init__(self, folder: Path | None, device: str) -> None:
        self.device = device
        self._file = None if folder is None else folder / (quote(device, safe="") + _SUFFIX)

    def write(self, reason: str) -> str:
        """Remember it; "" or why that failed, which must not keep anybody from making the device safe."""
        if self._file is None:
            return ""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(f"{utc_now()}\n{reason}\n")
        except OSError as error:
            logging.getLogger(__name__).error("%s: %s cannot be written: %s", self.device, self._file, error)
            return f"{self._file} cannot be written ({error.strerror}), so a restart of its host would set the declared state"
        return ""

    def read(self) -> str:
        """Why and since when it is safe, from before this start of the host; "" without mark."""
        if self._file is None:
            return ""
        try:
            since, _, reason = self._file.read_text(errors="replace").strip().partition("\n")
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{self._file} cannot be read ({error.strerror}): taken as made safe before its host was restarted"
        if not reason:
            return "made safe before its host was restarted"
        return f"{reason} at {since}, before its host was restarted"

    def remove(self) -> None:
        """Forget it; DeviceError if that cannot be done."""
        if self._file is None:
            return
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            raise DeviceError(
                f"{self.device} stays safe: {self._file} cannot be removed ({error.strerror}); remove it by hand, then restore again"
            ) from None


def forget_all(folder: Path) -> None:
    """Remove the marks of every device, as when a lab is brought up anew; OSError if one cannot be removed."""
    for file in folder.glob(f"*{_SUFFIX}"):
        file.unlink(missing_ok=True)
