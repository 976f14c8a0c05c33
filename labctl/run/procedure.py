"""What a procedure (several runs with something to do between them) is given: the lab's devices, and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from labctl.analysis.link import signal_to_noise
from labctl.analysis.value import Estimate
from labctl.run.runner import Outcome
from labctl.run.stored import link_worth

__all__ = ["Figures", "Outcome", "Steps", "link_worth", "mean", "window_signal_to_noise"]


class Steps(Protocol):
    """The lab as a procedure sees it; the same over the bus and in virtual time."""

    def get(self, signal: str) -> Any:
        """Ask an instrument: ``get("alice.oven.temperature")``, SI."""
        ...

    def set(self, signal: str, value: Any) -> None:
        """Set a signal, SI."""
        ...

    def wait_ready(self, timeout_s: float) -> None:
        """Return when every device is ready."""
        ...

    def run(self, sequence: str, rounds: int, label: str = "", **arguments: Any) -> Outcome:
        """Take a run of a sequence; RunError if it was cut short."""
        ...

    def say(self, text: str) -> None:
        """Tell the operator what happens."""
        ...


class Figures:
    """What a procedure returns: its figures by key, as in the file of published values, and the run they belong to.

    main:     the run whose report shows the comparison
    related:  further runs whose plots belong into it
    """

    def __init__(self, main: Outcome, related: list[Outcome], values: dict[str, Estimate]) -> None:
        self.main = main
        self.related = related
        self.values = values

    @property
    def folder(self) -> Path:
        """Run folder of the main run."""
        return self.main.folder


def mean(values: list[Estimate]) -> Estimate:
    """The plain mean of independent figures of one unit."""
    error = sum(one.standard_error**2 for one in values) ** 0.5 / len(values)
    return Estimate(sum(one.value for one in values) / len(values), error, values[0].unit)


def window_signal_to_noise(link: Outcome, noise: Outcome, window_s: float) -> Estimate:
    """Signal to noise of a link run: its heralds against the noise a separate run measured in the same open time.

    window_s:  length of the signal gate, s; both detectors are open in each attempt
    """
    heralds = link.records
    attempts = heralds / link.value("herald_probability").value
    rate = noise.value("noise_rate")
    counts = round((rate.value / rate.standard_error) ** 2)  # of a Poisson rate: (rate / error)^2
    return signal_to_noise(heralds, attempts * window_s, counts, counts / (2 * rate.value))
