"""What holds for every file of the repository: nothing of one machine in it, every module and driver says what it is."""

import ast
import importlib
import inspect
import re
import subprocess
from pathlib import Path

import pytest

from labctl.device import Device

ROOT = Path(__file__).parents[2]
LIBRARY = sorted(
    file
    for folder in ("labctl", "drivers", "sequences", "simulated_hw")
    for file in (ROOT / folder).rglob("*.py")
)

# written in two pieces so that this file does not find itself
REGISTRIES = (
    "pypi" + ".org",
    "python" + "hosted",
    "conda.ana" + "conda",
    "npm" + "js.",
    "crates" + ".io",
    "artif" + "actory",
)
MACHINE_PATH = re.compile(
    r"(?<![\w.$}/~-])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me/\w+|Us" + r"ers/\w+|tm" + r"p)\b"
)
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME)\b")


def tracked_texts() -> dict[Path, str]:
    """Every tracked text file of the repository as it is on disk now."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name for name in listing.decode().split("\0") if name]
    texts = {file: file.read_bytes() for file in files if file.is_file()}
    return {file: text.decode() for file, text in texts.items() if b"\0" not in text}


def places(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file, text in tracked_texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


needs_git = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="not a git checkout: tracked files are not known"
)


@needs_git
def test_no_host_name_of_a_package_registry() -> None:
    assert places(re.compile("|".join(map(re.escape, REGISTRIES)), re.IGNORECASE)) == []


@needs_git
def test_no_path_of_one_machine() -> None:
    assert places(MACHINE_PATH) == []


@needs_git
def test_nothing_marked_unfinished() -> None:
    assert places(UNFINISHED) == []


@pytest.mark.parametrize("text", ["cd /wo" + "rk/main", '"/ho' + 'me/me/lab"', "(/tm" + "p/x)"])
def test_a_path_of_one_machine_is_recognised(text: str) -> None:
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize(
    "text", ["labctl/run/store.py", "node/work/x", "https://example.org/home", "~/tmp/x"]
)
def test_other_paths_are_not(text: str) -> None:
    assert not MACHINE_PATH.search(text)


@pytest.mark.parametrize("file", LIBRARY, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_module_says_what_it_is_for(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    assert len(docstring.partition("\n")[0].split()) >= 3, "no sentence at the top of the file"


def silent_handlers(source: str) -> list[int]:
    """Lines of the ``except`` clauses that do nothing, and of ``suppress`` of every exception."""
    found: list[int] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler):
            nothing = all(
                isinstance(line, ast.Pass)
                or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
                for line in node.body
            )
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("suppress", "contextlib.suppress"):
            nothing = bool({ast.unparse(argument) for argument in node.args} & {"Exception", "BaseException"})
        else:
            nothing = False
        if nothing:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("file", LIBRARY, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_error_is_swallowed(file: Path) -> None:
    assert silent_handlers(file.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    go()\nexcept OSError:\n    pass",
        "try:\n    go()\nexcept:\n    ...",
        "with contextlib.suppress(Exception):\n    go()",
    ],
)
def test_a_swallowed_error_is_recognised(source: str) -> None:
    assert silent_handlers(source)


def drivers() -> list[type[Device]]:
    """Every driver class of the lab folder that stands for an instrument."""
    modules = [
        importlib.import_module(f"drivers.{file.stem}")
        for file in sorted((ROOT / "drivers").glob("*.py"))
        if file.stem != "__init__"
    ]
    classes = [(module, cls) for module in modules for _, cls in inspect.getmembers(module, inspect.isclass)]
    own = [cls for module, cls in classes if issubclass(cls, Device) and cls.__module__ == module.__name__]
    return [cls for cls in own if not cls.__subclasses__()]  # what several drivers share is no driver itself


@pytest.mark.parametrize("driver", drivers())
def test_a_driver_names_its_manual_and_what_it_was_checked_with(driver: type[Device]) -> None:
    assert len(driver.manual) >= 10
    assert len(driver.checked_with) >= 10


def test_the_drivers_were_found() -> None:
    assert {"DlcPro", "MoglabsQrf"} <= {driver.__name__ for driver in drivers()}
