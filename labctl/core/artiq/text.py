"""Source text being written: lines, indentation, and which line comes from which block of the schedule."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

LONGEST_COMMENT = 100


class Text:
    """Lines of Python, collected."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.places: dict[int, str] = {}
        """Line number, from 1 -> block of the schedule it comes from."""
        self._depth = 0

    def add(self, line: str = "", place: str = "", comment: str = "") -> None:
        """One line at the present depth."""
        full = f"{'    ' * self._depth}{line}" if line else ""
        if comment:
            full = f"{full}  # {ascii_only(comment)}"[: LONGEST_COMMENT + 40].rstrip()
        self.lines.append(full)
        if place:
            self.places[len(self.lines)] = place

    @contextmanager
    def inside(self) -> Generator[None]:
        """One level deeper."""
        self._depth += 1
        yield
        self._depth -= 1

    @contextmanager
    def same(self) -> Generator[None]:
        """The same level."""
        yield

    @contextmanager
    def method(
        self, name: str, arguments: str = "", returns: str = "", doc: str = "", decorator: str = "@kernel"
    ) -> Generator[None]:
        """A method of the class."""
        self.add()
        if decorator:
            self.add(decorator)
        self.add(
            f"def {name}(self{', ' + arguments if arguments else ''}){' -> ' + returns if returns else ''}:"
        )
        with self.inside():
            if doc:
                self.add(f'"""{quoted(doc)}"""')
            yield

    def source(self) -> str:
        """The whole text."""
        return "\n".join(self.lines) + "\n"


def ascii_only(words: str) -> str:
    """Text that every Python reads the same."""
    return words.replace("µ", "u").encode("ascii", "replace").decode()


def quoted(words: str) -> str:
    """Text that can stand between three double quotes."""
    return ascii_only(words).replace("\\", "/").replace('"', "'").replace("\n", " ")


def identifier(words: str) -> str:
    """A Python name of some words."""
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in words)
    return f"_{name}" if name[:1].isdigit() else name or "_"
