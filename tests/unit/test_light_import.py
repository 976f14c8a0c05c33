"""``import labctl`` and ``labctl --help`` load none of the heavy libraries, so they answer at once."""

import subprocess
import sys

HEAVY = {
    *("numpy", "scipy", "numba", "h5py", "h5netcdf", "xarray", "pandas", "lmfit"),
    *("matplotlib", "jinja2", "PySide6", "pyqtgraph", "zmq", "pyvisa", "serial", "ptufile"),
    *("nidaqmx", "grpc", "google"),
}
REPORT = "\nimport sys; print('\\nloaded:', *{name.partition('.')[0] for name in sys.modules})"
HELP = """
import sys
sys.argv = ["labctl", "--help"]
from labctl.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def run(code: str) -> tuple[set[str], str]:
    """Top-level modules loaded after the code, and what it printed before."""
    done = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, _, loaded = done.stdout.rpartition("\nloaded: ")
    return set(loaded.split()), said


def test_import_labctl_is_light() -> None:
    loaded, _ = run("import labctl")
    assert "labctl" in loaded
    assert loaded & HEAVY == set()


def test_help_is_light() -> None:
    loaded, said = run(HELP)
    assert "Usage: labctl" in said
    assert loaded & HEAVY == set()


def test_a_heavy_import_would_be_seen() -> None:
    loaded, _ = run("import labctl.tags.stream")
    assert "numpy" in loaded & HEAVY
