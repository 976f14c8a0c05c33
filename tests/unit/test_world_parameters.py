import copy
from pathlib import Path
from typing import Any

import pytest
from world_lab import SHIPPED, VALUES, laboratory

from labctl.errors import ConfigError
from simulated_hw.world import parameters


def test_the_shipped_file_is_complete_and_every_value_says_where_it_comes_from() -> None:
    read, sources = parameters.load(SHIPPED)
    assert read.filters.etalon_fwhm_hz == 40e6
    assert len(sources) == entries(VALUES)
    assert all(source.source.startswith(parameters.KINDS) for source in sources)
    assert ("filters.etalon_fwhm_hz", 40e6, "Hz", "published: USTC 2026") in laboratory().sources()


def entries(table: dict[str, Any]) -> int:
    return sum(entries(value) if isinstance(value, dict) else 1 for value in table.values())


def test_no_published_result_is_an_input() -> None:
    _, sources = parameters.load(SHIPPED)
    for result in (2.226, 0.986, 0.091, 9.6, 0.8, 8.35e-4, 35.0):
        assert all(source.value != pytest.approx(result, rel=1e-6) for source in sources), result


def changed(path: tuple[str, ...], entry: Any) -> dict[str, Any]:
    content = copy.deepcopy(VALUES)
    place = content
    for key in path[:-1]:
        place = place[key]
    if entry is None:
        del place[path[-1]]
    else:
        place[path[-1]] = entry
    return content


@pytest.mark.parametrize(
    ("path", "entry", "text"),
    [
        (
            ("filters", "etalon_fwmh_hz"),
            [1.0, "guessed: x"],
            "lab.toml: [filters] has no key 'etalon_fwmh_hz'",
        ),
        (("filtres",), {}, "lab.toml: no table [filtres]"),
        (("filters", "etalon_k"), None, "lab.toml: [filters] etalon_k is missing"),
        (("filters",), None, "lab.toml: table [filters] is missing"),
        (("lasers", "laser_397"), None, "table [lasers.laser_397] is missing"),
        (("fibre", "index"), 1.468, '[fibre] index must be [value, "source"]'),
        (("fibre", "index"), [1.468], '[fibre] index must be [value, "source"]'),
        (("fibre", "index"), ["1.468", "guessed: x"], "[fibre] index must be a number in 1"),
        (("fibre", "index"), [True, "guessed: x"], "[fibre] index must be a number in 1"),
        (("fibre", "index"), [float("nan"), "guessed: x"], "[fibre] index must be a number in 1"),
        (("fibre", "index"), [0.9, "guessed: x"], "[fibre] index = 0.9 1 is outside 1.0 to inf"),
        (("fibre", "index"), [1.468, "because"], "the source must be a text beginning with published:"),
        (("run", "powered"), [1, "guessed: x"], "[run] powered must be true or false"),
        (("fibre",), 3, "fibre must be a table [fibre]"),
    ],
)
def test_what_is_wrong_is_named(path: tuple[str, ...], entry: Any, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        parameters.parse(changed(path, entry), "lab.toml")
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_not_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        parameters.load(tmp_path / "gone.toml")
    (tmp_path / "bad.toml").write_text("[atom\n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not TOML"):
        parameters.load(tmp_path / "bad.toml")
