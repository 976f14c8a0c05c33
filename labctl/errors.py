"""Every error labctl raises, in one tree.

LabError
├── ConfigError            a lab file is wrong: file, table, key and the way out
├── LimitError             a value is outside what a signal, line or argument allows
├── DeviceError            an instrument: which device, at which address
│   ├── NotConnectedError      nothing listens there, or the connection broke
│   ├── NoAnswerError          it did not answer in time
│   ├── BadAnswerError         it answered something that is not in its protocol
│   └── RefusedError           it understood and said no
├── BusError               hub, hosts and clients
│   ├── NoHubError             no lab is up at that address
│   ├── UnknownNameError       no such device, signal or action
│   ├── LeaseError             somebody else has exclusive control
│   └── WireError              a message of another version or shape
├── ScheduleError          a schedule cannot run; carries every problem
├── CoreError              the real-time core could not play a schedule
├── RunError               an acquisition could not start or go on
├── StorageError           data could not be written or read back
└── DataError              a file of measured data is not what it claims to be

Each class has a short name that travels over the bus; :func:`from_wire` looks it up in a closed table.
"""

from collections.abc import Sequence


class LabError(Exception):
    """Something a person has to know about; its text is one readable line or block."""


class ConfigError(LabError):
    """A lab file is wrong; the text names file, table, key and the way out."""


class LimitError(LabError):
    """A value outside what is allowed; nothing was sent."""


class DeviceError(LabError):
    """An instrument failed; the text names device and address."""


class NotConnectedError(DeviceError):
    """Nothing listens at the address, or the connection broke."""


class NoAnswerError(DeviceError):
    """The instrument did not answer in time."""


class BadAnswerError(DeviceError):
    """The instrument answered something outside its protocol."""


class RefusedError(DeviceError):
    """The instrument understood the request and refused it."""


class BusError(LabError):
    """Hub, hosts or clients."""


class NoHubError(BusError):
    """No lab is up at that address."""


class UnknownNameError(BusError):
    """No such device, signal or action."""


class LeaseError(BusError):
    """Somebody else has exclusive control of the device."""


class WireError(BusError):
    """A message of another version or of the wrong shape."""


class ScheduleError(LabError):
    """A schedule cannot run; ``problems`` has every reason, each with its place."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class CoreError(LabError):
    """The real-time core could not play a schedule."""


class RunError(LabError):
    """An acquisition could not start or go on."""


class StorageError(LabError):
    """Data could not be written or read back; what was taken before is still there."""


class DataError(LabError):
    """A file of measured data is not what it claims to be."""


WIRE_NAMES: dict[str, type[LabError]] = {
    cls.__name__: cls
    for cls in (
        LabError,
        ConfigError,
        LimitError,
        DeviceError,
        NotConnectedError,
        NoAnswerError,
        BadAnswerError,
        RefusedError,
        BusError,
        NoHubError,
        UnknownNameError,
        LeaseError,
        WireError,
        ScheduleError,
        CoreError,
        RunError,
        StorageError,
        DataError,
    )
}


def from_wire(name: str, text: str) -> LabError:
    """The error that a name from the closed table stands for; an unknown name gives a plain LabError."""
    cls = WIRE_NAMES.get(name)
    return LabError(f"{name}: {text}") if cls is None else cls(text)
