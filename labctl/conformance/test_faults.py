"""An instrument that does not answer, answers late, in pieces or with nonsense: the error says where, and it comes back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from labctl.conformance.recording import Wire
from labctl.conformance.tried import Tried, alike, names_itself
from labctl.device import Device
from labctl.errors import BadAnswerError, DeviceError, NoAnswerError, NotConnectedError
from labctl.sim.faults import HAS_NO_MEANING

MOST = 2
"""So many signals are asked for under a fault."""
MOST_WELL = 6
"""So many are looked at to see whether all is well again."""
LATE_ANSWERS = 8
"""So many questions may fail on a serial line because of answers to old ones."""


@dataclass
class Patient:
    """A device, what it showed while all was well, and signals that are asked for over the wire."""

    tried: Tried
    device: Device
    well: dict[str, Any]
    questions: list[str]

    def ask(self, name: str) -> Any:
        """Read one signal."""
        return self.device.signal(name).get()

    def is_well(self) -> None:
        """Every steady signal shows what it did before, each at once.

        A serial line has no connection to drop, so an answer to an old question may still come: then an error is right, but
        never a wrong value, and not for long.
        """
        patience = LATE_ANSWERS if self.tried.scheme == "serial" else 0
        for name, before in self.well.items():
            while True:
                try:
                    value = self.ask(name)
                    break
                except DeviceError as error:
                    assert patience > 0 and names_itself(error, self.device), str(error)
                    patience -= 1
            assert self.is_as_before(name, value), f"{name} is {value!r}, was {before!r} before the fault"

    def is_as_before(self, name: str, value: Any) -> bool:
        """Whether a signal reads as before the fault."""
        return alike(self.device, name, value, self.well[name])


@pytest.fixture
def patient(tried: Tried) -> Iterator[Patient]:
    """An open device that has been looked at."""
    wire = Wire()
    device = tried.open(wire=wire)
    steady = tried.steady(device)
    questions = tried.questions(wire, device, steady)[:MOST]
    assert questions, (
        "no signal is asked for over the wire and reads the same twice: the kit cannot tell right from wrong"
    )
    looked_at = list(dict.fromkeys([*questions, *steady]))[:MOST_WELL]
    yield Patient(tried, device, {name: steady[name] for name in looked_at}, questions)
    tried.cure()


def test_silence_is_an_error_that_says_where(patient: Patient) -> None:
    """NoAnswerError with device and address; the next question after the silence is answered."""
    for name in patient.questions:
        patient.tried.fault("silent")
        with pytest.raises(NoAnswerError) as raised:
            patient.ask(name)
        assert names_itself(raised.value, patient.device), str(raised.value)
        patient.tried.cure()
        patient.is_well()


def test_one_lost_reply_is_survived(patient: Patient) -> None:
    """Asked again, or an error that says where; never a wrong value."""
    for name in patient.questions:
        patient.tried.fault("drop", 1)
        _right_or(patient, name, NoAnswerError)
        patient.tried.cure()
        patient.is_well()


def test_a_late_reply_is_never_taken_for_the_next_answer(patient: Patient) -> None:
    """What comes after the time is up belongs to the old question, whatever is asked next."""
    late_s = 1.5 * patient.tried.choice.timeout_s
    names = [*patient.questions, patient.questions[0]]
    for name, other in itertools.pairwise(names):
        patient.tried.fault("late", late_s)
        _right_or(patient, name, NoAnswerError)
        patient.tried.cure()
        got = patient.ask(other)
        assert patient.is_as_before(other, got), f"the late answer for {name} was taken for {other}"
        patient.tried.wait(late_s)
        patient.is_well()


def test_nonsense_is_an_error_that_says_where(patient: Patient) -> None:
    """BadAnswerError or NoAnswerError for anything but text, which may be whatever it likes."""
    for name in patient.questions:
        patient.tried.fault("garbage")
        if type(patient.device).signals[name].kind is str:
            _not(patient, name)
        else:
            with pytest.raises((BadAnswerError, NoAnswerError)) as raised:
                patient.ask(name)
            assert names_itself(raised.value, patient.device), str(raised.value)
        patient.tried.cure()
        patient.is_well()


def test_a_garbled_number_is_never_taken_for_another(patient: Patient) -> None:
    """With bytes flipped on the way, a number or switch is right or an error."""
    for name in patient.questions:
        if type(patient.device).signals[name].kind is not str:
            patient.tried.fault("garble")
            _right_or(patient, name, DeviceError)
            patient.tried.cure()
            patient.is_well()


def test_other_noise_on_the_wire_is_never_taken_for_a_value(patient: Patient) -> None:
    """An echo, messages nobody asked for, replies without their ends: a number or switch is right or an error."""
    for kind in ("echo", "unasked", "glue"):
        if kind in HAS_NO_MEANING.get(patient.tried.scheme, ((), ""))[0]:
            pytest.skip(HAS_NO_MEANING[patient.tried.scheme][1])
        for name in patient.questions:
            if type(patient.device).signals[name].kind is not str:
                patient.tried.fault(kind)
                _right_or(patient, name, DeviceError)
                patient.tried.cure()
                patient.is_well()


def test_an_answer_in_two_pieces_is_one_answer(patient: Patient) -> None:
    """The second half comes a little later."""
    _has_halves(patient)
    patient.tried.fault("split", 0.2 * patient.tried.choice.timeout_s)
    for name in patient.questions:
        assert patient.is_as_before(name, patient.ask(name))


def test_half_an_answer_is_no_answer(patient: Patient) -> None:
    """The second half comes after the time is up: an error that says where, and the half is forgotten."""
    _has_halves(patient)
    late_s = 1.5 * patient.tried.choice.timeout_s
    for name in patient.questions:
        patient.tried.fault("split", late_s)
        _right_or(patient, name, (NoAnswerError, BadAnswerError))
        patient.tried.cure()
        patient.is_well()
        patient.tried.wait(late_s)
        patient.is_well()


def test_a_connection_that_breaks_is_made_again(patient: Patient) -> None:
    """Closed instead of an answer, once: right or NotConnectedError, and the next question is answered.

    A serial port stays open when its cable is pulled: the answer is missing.
    """
    if why := patient.tried.does_not_apply("disconnect"):
        pytest.skip(why)
    broken = NoAnswerError if patient.tried.scheme == "serial" else NotConnectedError
    for name in patient.questions:
        patient.tried.fault("disconnect", 1)
        _right_or(patient, name, broken)
        patient.tried.cure()
        patient.is_well()


def test_an_instrument_that_is_away_is_named_and_comes_back(patient: Patient) -> None:
    """It accepts no connection: NotConnectedError with device and address; then all is well again.

    Over ZeroMQ and on a serial line it is silent.
    """
    expected = patient.tried.take_away()
    for _ in range(2):
        with pytest.raises(expected) as raised:
            patient.ask(patient.questions[0])
        assert names_itself(raised.value, patient.device), str(raised.value)
    patient.tried.cure()
    for name in patient.well:  # a connection that was idle is found broken only now
        try:
            patient.ask(name)
        except NotConnectedError as error:
            assert names_itself(error, patient.device), str(error)
    patient.is_well()


def _right_or(patient: Patient, name: str, errors: type[DeviceError] | tuple[type[DeviceError], ...]) -> None:
    """The value as it was, or one of the errors, saying where."""
    try:
        value = patient.ask(name)
    except errors as error:
        assert names_itself(error, patient.device), str(error)
    else:
        assert patient.is_as_before(name, value), f"{name} is {value!r}, was {patient.well[name]!r}"


def _has_halves(patient: Patient) -> None:
    if why := patient.tried.does_not_apply("split"):
        pytest.skip(why)


def _not(patient: Patient, name: str) -> None:
    """Text under garbage: an error saying where, or not what it was."""
    try:
        assert patient.ask(name) != patient.well[name]
    except DeviceError as error:
        assert names_itself(error, patient.device), str(error)
