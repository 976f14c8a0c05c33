"""Logging: set up once per process; the library itself only calls ``logging.getLogger(__name__)``."""

from __future__ import annotations

import logging
import logging.handlers
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def to_file(path: Path, process: str) -> None:
    """Log of one process, at INFO and above, into ``path`` (5 files of 2 MB); uncaught exceptions go there too."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=2_000_000, backupCount=4)
    handler.setFormatter(logging.Formatter(FORMAT.replace("%(name)s", f"{process} %(name)s")))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        root.critical("uncaught\n%s", "".join(traceback.format_exception(kind, error, trace)))

    sys.excepthook = uncaught
    threading.excepthook = lambda args: uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )
