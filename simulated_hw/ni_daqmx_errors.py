"""The NI-DAQmx status codes a simulated card answers with, and what they mean."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """Status codes by the names NI gives them."""

    DEVICE_CANNOT_BE_ACCESSED = -201003
    EVERY_N_ALREADY_REGISTERED = -200966
    CANNOT_REGISTER_WHILE_RUNNING = -200960
    DONE_EVENT_ALREADY_REGISTERED = -200950
    WRITE_NOT_STARTED_ON_DEMAND = -200846
    OUTPUT_BUFFER_TOO_SMALL = -200609
    INVALID_AO_DATA = -200561
    WAIT_UNTIL_DONE_NOT_DONE = -200560
    MULTIPLE_CHANNEL_TYPES = -200559
    WRITE_CHANNELS_MISMATCH = -200524
    INVALID_RANGE_SYNTAX = -200498
    CHANNEL_ALREADY_IN_TASK = -200489
    CANNOT_WHILE_RUNNING = -200479
    NO_CHANNELS_IN_TASK = -200478
    NOT_RUNNING = -200475
    OUTPUT_BUFFER_EMPTY = -200462
    READ_NO_INPUT_CHANNELS = -200460
    WRITE_NO_OUTPUT_CHANNELS = -200459
    INVALID_SAMPLE_CLOCK = -200414
    NO_EXTERNAL_SAMPLE_CLOCK = -200303
    SAMPLES_NOT_YET_AVAILABLE = -200284
    SAMPLES_NO_LONGER_AVAILABLE = -200279
    SAMPLES_NEVER_AVAILABLE = -200278
    READ_BUFFER_TOO_SMALL = -200229
    INVALID_DEVICE = -200220
    NO_SUCH_CHANNEL = -200170
    MULTIPLE_COUNTERS = -200147
    INVALID_TASK = -200088
    INVALID_VALUE = -200077
    RESERVED = -50103


TEXTS: dict[int, str] = {
    Code.DEVICE_CANNOT_BE_ACCESSED: "Device cannot be accessed: it is no longer present, or powered off.",
    Code.EVERY_N_ALREADY_REGISTERED: "Every N Samples Acquired Into Buffer Event already registered within this task.",
    Code.CANNOT_REGISTER_WHILE_RUNNING: "DAQmx software event cannot be registered because the task is running.",
    Code.DONE_EVENT_ALREADY_REGISTERED: "Done Event already registered within this task.",
    Code.WRITE_NOT_STARTED_ON_DEMAND: "Write cannot be performed when auto start is false and the task is not running.",
    Code.OUTPUT_BUFFER_TOO_SMALL: "Generation cannot be started, because the output buffer holds fewer than 2 samples.",
    Code.INVALID_AO_DATA: "Attempted writing analog data that is too large or too small.",
    Code.WAIT_UNTIL_DONE_NOT_DONE: "Wait Until Done did not indicate that the task was done within the specified timeout.",
    Code.MULTIPLE_CHANNEL_TYPES: "Specified operation cannot be performed: a task cannot hold channels of different types.",
    Code.WRITE_CHANNELS_MISMATCH: "Write cannot be performed: number of channels or samples in the data does not match the task.",
    Code.INVALID_RANGE_SYNTAX: "Syntax for a range of objects in the input string is invalid.",
    Code.CHANNEL_ALREADY_IN_TASK: "Specified channel cannot be added to the task, because it is already in the task.",
    Code.CANNOT_WHILE_RUNNING: "Specified operation cannot be performed while the task is running.",
    Code.NO_CHANNELS_IN_TASK: "Specified operation cannot be performed when there are no channels in the task.",
    Code.NOT_RUNNING: "Specified operation cannot be performed when the task is not running.",
    Code.OUTPUT_BUFFER_EMPTY: "The output buffer is empty: write samples before starting.",
    Code.READ_NO_INPUT_CHANNELS: "Read failed, because there are no channels in this task from which data can be read.",
    Code.WRITE_NO_OUTPUT_CHANNELS: "Write failed, because there are no output channels in this task to which data can be written.",
    Code.INVALID_SAMPLE_CLOCK: "Sample Clock source specified is invalid.",
    Code.NO_EXTERNAL_SAMPLE_CLOCK: "External sample clock source must be specified for this application.",
    Code.SAMPLES_NOT_YET_AVAILABLE: "Some or all of the samples requested have not yet been acquired.",
    Code.SAMPLES_NO_LONGER_AVAILABLE: "The application is not able to keep up with the hardware acquisition.",
    Code.SAMPLES_NEVER_AVAILABLE: "Attempted to read a sample beyond the final sample acquired. The sample will never be available, since the acquisition has stopped.",
    Code.READ_BUFFER_TOO_SMALL: "Buffer is too small to fit read data.",
    Code.INVALID_DEVICE: "Device identifier is invalid.",
    Code.NO_SUCH_CHANNEL: "Physical channel specified does not exist on this device.",
    Code.MULTIPLE_COUNTERS: "This card does not support multiple counters in one task.",
    Code.INVALID_TASK: "Task specified is invalid or does not exist.",
    Code.INVALID_VALUE: "Requested value is not a supported value for this property.",
    Code.RESERVED: "The specified resource is reserved. The operation could not be completed as specified.",
}


class NiError(Exception):
    """A call that the driver refuses: its status code, and text with what it was about."""

    def __init__(self, code: Code, about: str = "") -> None:
        self.code = code
        super().__init__(f"{TEXTS[code]}\n\n{about}" if about else TEXTS[code])
