"""The NI gRPC calls that read and set properties: of the system, the simulated card, and channels, timing and buffers of its tasks."""

from __future__ import annotations

from nidaqmx._stubs import nidaqmx_pb2 as pb

from simulated_hw.ni_daqmx_calls import COUNT_DOWN, FINITE, Context, TaskCalls, coerced, prompt, unknown
from simulated_hw.ni_daqmx_card import PHYSICAL, PRODUCT, PRODUCT_NUMBER, SERIAL, TERMINALS
from simulated_hw.ni_daqmx_errors import TEXTS

VERSION = {0x1272: 25, 0x1923: 5, 0x2F22: 0}
"""Major, minor and update version of the NI-DAQmx this says it is."""
CHANNEL_TYPES = {"ai": 10100, "ao": 10102, "ci": 10131, "co": 10132, "di": 10151, "do": 10153}
COUNT_UP, RISING, COUNT_EDGES, VOLTAGE, PULSE_FREQUENCY, X_SERIES = 10128, 10280, 10125, 10322, 10119, 15858
CONTINUOUS, ON_DEMAND, SAMPLE_CLOCK, IMPLICIT = 10123, 10390, 10388, 10451


class PropertyCalls(TaskCalls):
    """Calls about properties; one that is not simulated is answered with UNIMPLEMENTED."""

    # system and device
    @prompt
    def GetSystemInfoAttributeUInt32(
        self, request: pb.GetSystemInfoAttributeUInt32Request, context: Context
    ) -> pb.GetSystemInfoAttributeUInt32Response:
        """Version of the driver."""
        attribute = request.attribute_raw or request.attribute
        if attribute not in VERSION:
            unknown(context, f"system attribute {attribute:#x}")
        return pb.GetSystemInfoAttributeUInt32Response(value=VERSION[attribute])

    @prompt
    def GetSystemInfoAttributeString(
        self, request: pb.GetSystemInfoAttributeStringRequest, context: Context
    ) -> pb.GetSystemInfoAttributeStringResponse:
        """Names of devices, saved tasks, channels and scales."""
        attribute = request.attribute_raw or request.attribute
        plugged_in = attribute == 0x193B and not self.card.unplugged
        return pb.GetSystemInfoAttributeStringResponse(value=self.card.name if plugged_in else "")

    @prompt
    def GetDeviceAttributeString(
        self, request: pb.GetDeviceAttributeStringRequest, context: Context
    ) -> pb.GetDeviceAttributeStringResponse:
        """What the card is and has."""
        self.card.check_device(request.device_name)
        kinds = {0x231E: "ai", 0x231F: "ao", 0x2320: "line", 0x2322: "line", 0x2324: "ci", 0x2325: "co"}
        attribute = request.attribute_raw or request.attribute
        if attribute == 0x631:
            return pb.GetDeviceAttributeStringResponse(value=PRODUCT)
        if attribute == 0x2A40:
            names = ", ".join(f"/{self.card.name}/{name}" for name in TERMINALS)
            return pb.GetDeviceAttributeStringResponse(value=names)
        if attribute not in kinds:
            unknown(context, f"device attribute {attribute:#x}")
        names = ", ".join(f"{self.card.name}/{name}" for name in PHYSICAL[kinds[attribute]])
        return pb.GetDeviceAttributeStringResponse(value=names)

    @prompt
    def GetDeviceAttributeUInt32(
        self, request: pb.GetDeviceAttributeUInt32Request, context: Context
    ) -> pb.GetDeviceAttributeUInt32Response:
        """Serial and product number."""
        self.card.check_device(request.device_name)
        values = {0x632: SERIAL, 0x231D: PRODUCT_NUMBER, 0x299F: 32, 0x29A1: 32}
        attribute = request.attribute_raw or request.attribute
        if attribute not in values:
            unknown(context, f"device attribute {attribute:#x}")
        return pb.GetDeviceAttributeUInt32Response(value=values[attribute])

    @prompt
    def GetDeviceAttributeInt32(
        self, request: pb.GetDeviceAttributeInt32Request, context: Context
    ) -> pb.GetDeviceAttributeInt32Response:
        """Product category."""
        self.card.check_device(request.device_name)
        attribute = request.attribute_raw or request.attribute
        if attribute != 0x29A9:
            unknown(context, f"device attribute {attribute:#x}")
        return pb.GetDeviceAttributeInt32Response(value_raw=X_SERIES)

    @prompt
    def GetDeviceAttributeBool(
        self, request: pb.GetDeviceAttributeBoolRequest, context: Context
    ) -> pb.GetDeviceAttributeBoolResponse:
        """Whether NI's own driver simulates the card (no: to a client it looks like a real one)."""
        self.card.check_device(request.device_name)
        attribute = request.attribute_raw or request.attribute
        if attribute != 0x22CA:
            unknown(context, f"device attribute {attribute:#x}")
        return pb.GetDeviceAttributeBoolResponse(value=False)

    @prompt
    def ResetDevice(self, request: pb.ResetDeviceRequest, context: Context) -> pb.ResetDeviceResponse:
        """Abort all tasks; outputs to 0 V, lines released."""
        self.card.check_device(request.device_name)
        for task in self.tasks.values():
            task.unreserve()
        for channel in PHYSICAL["ao"]:
            self.card.drive(channel, 0.0)
        for line in [*self.card.line_levels]:
            self.card.switch(line, False)
        self.card.line_levels.clear()
        return pb.ResetDeviceResponse()

    @prompt
    def GetErrorString(
        self, request: pb.GetErrorStringRequest, context: Context
    ) -> pb.GetErrorStringResponse:
        """What a status code means."""
        return pb.GetErrorStringResponse(error_string=TEXTS.get(request.error_code, ""))

    # channels
    @prompt
    def GetChanAttributeInt32(
        self, request: pb.GetChanAttributeInt32Request, context: Context
    ) -> pb.GetChanAttributeInt32Response:
        """Type of a channel and of what it measures."""
        task = self.task(request.task)
        channel = task.channel(request.channel)
        values = {
            0x187F: CHANNEL_TYPES[task.kind],
            0x695: VOLTAGE,
            0x1108: VOLTAGE,
            0x18A0: COUNT_EDGES,
            0x18B5: PULSE_FREQUENCY,
            0x696: COUNT_UP if channel.step > 0 else COUNT_DOWN,
            0x697: RISING,
        }
        attribute = request.attribute_raw or request.attribute
        if attribute not in values:
            unknown(context, f"channel attribute {attribute:#x}")
        return pb.GetChanAttributeInt32Response(value_raw=values[attribute])

    @prompt
    def GetChanAttributeString(
        self, request: pb.GetChanAttributeStringRequest, context: Context
    ) -> pb.GetChanAttributeStringResponse:
        """Names of terminals and of channels of the card."""
        task = self.task(request.task)
        channel = task.channel(request.channel)
        card = self.card.name
        values = {
            0x18F5: ", ".join(f"{card}/{physical}" for physical in channel.physical),
            0x18C7: f"/{card}/{channel.terminal}",
            0x18E1: f"/{card}/PFI{12 + int(channel.physical[0][3:])}" if task.kind == "co" else "",
        }
        attribute = request.attribute_raw or request.attribute
        if attribute not in values:
            unknown(context, f"channel attribute {attribute:#x}")
        return pb.GetChanAttributeStringResponse(value=values[attribute])

    @prompt
    def SetChanAttributeString(
        self, request: pb.SetChanAttributeStringRequest, context: Context
    ) -> pb.SetChanAttributeStringResponse:
        """Terminal a counter counts."""
        attribute = request.attribute_raw or request.attribute
        if attribute != 0x18C7:
            unknown(context, f"setting channel attribute {attribute:#x}")
        channel = self.task(request.task).channel(request.channel)
        channel.terminal = self.card.terminal(request.value)
        return pb.SetChanAttributeStringResponse()

    @prompt
    def GetChanAttributeUInt32(
        self, request: pb.GetChanAttributeUInt32Request, context: Context
    ) -> pb.GetChanAttributeUInt32Response:
        """Count, initial count, number of lines."""
        task = self.task(request.task)
        channel = task.channel(request.channel)
        attribute = request.attribute_raw or request.attribute
        if attribute == 0x148 and task.kind == "ci":
            return pb.GetChanAttributeUInt32Response(value=task.count())
        values = {0x698: channel.initial, 0x2178: len(channel.physical), 0x2179: len(channel.physical)}
        if attribute not in values:
            unknown(context, f"channel attribute {attribute:#x}")
        return pb.GetChanAttributeUInt32Response(value=values[attribute])

    @prompt
    def GetChanAttributeDouble(
        self, request: pb.GetChanAttributeDoubleRequest, context: Context
    ) -> pb.GetChanAttributeDoubleResponse:
        """Limits of analogue channels, frequency and duty of pulses."""
        channel = self.task(request.task).channel(request.channel)
        values = {
            0x17DE: channel.low,
            0x17DD: channel.high,
            0x1187: channel.low,
            0x1186: channel.high,
            0x1178: channel.frequency_hz,
            0x1176: channel.duty,
            0x299: channel.delay_s,
        }
        attribute = request.attribute_raw or request.attribute
        if attribute not in values:
            unknown(context, f"channel attribute {attribute:#x}")
        return pb.GetChanAttributeDoubleResponse(value=values[attribute])

    # timing
    @prompt
    def GetTimingAttributeDouble(
        self, request: pb.GetTimingAttributeDoubleRequest, context: Context
    ) -> pb.GetTimingAttributeDoubleResponse:
        """Rate of the sample clock, as it really is."""
        timing = self.task(request.task).timing
        attribute = request.attribute_raw or request.attribute
        if attribute != 0x1344:
            unknown(context, f"timing attribute {attribute:#x}")
        return pb.GetTimingAttributeDoubleResponse(value=timing.rate_hz if timing else 1000.0)

    @prompt
    def SetTimingAttributeDouble(
        self, request: pb.SetTimingAttributeDoubleRequest, context: Context
    ) -> pb.SetTimingAttributeDoubleResponse:
        """Rate of the sample clock."""
        timing = self.task(request.task).timing
        attribute = request.attribute_raw or request.attribute
        if attribute != 0x1344 or timing is None:
            unknown(context, f"setting timing attribute {attribute:#x}")
        else:
            timing.rate_hz = request.value if timing.source else coerced(request.value)
        return pb.SetTimingAttributeDoubleResponse()

    @prompt
    def GetTimingAttributeInt32(
        self, request: pb.GetTimingAttributeInt32Request, context: Context
    ) -> pb.GetTimingAttributeInt32Response:
        """Finite or continuous, and kind of timing."""
        timing = self.task(request.task).timing
        values = {
            0x1300: CONTINUOUS if timing is not None and not timing.finite else FINITE,
            0x1347: ON_DEMAND if timing is None else IMPLICIT if timing.implicit else SAMPLE_CLOCK,
        }
        attribute = request.attribute_raw or request.attribute
        if attribute not in values:
            unknown(context, f"timing attribute {attribute:#x}")
        return pb.GetTimingAttributeInt32Response(value_raw=values[attribute])

    @prompt
    def GetTimingAttributeUInt64(
        self, request: pb.GetTimingAttributeUInt64Request, context: Context
    ) -> pb.GetTimingAttributeUInt64Response:
        """Samples per channel."""
        timing = self.task(request.task).timing
        attribute = request.attribute_raw or request.attribute
        if attribute != 0x1310:
            unknown(context, f"timing attribute {attribute:#x}")
        return pb.GetTimingAttributeUInt64Response(value=timing.samples if timing else 1)

    @prompt
    def GetTimingAttributeString(
        self, request: pb.GetTimingAttributeStringRequest, context: Context
    ) -> pb.GetTimingAttributeStringResponse:
        """Terminal of the sample clock."""
        task = self.task(request.task)
        attribute = request.attribute_raw or request.attribute
        if attribute != 0x1852:
            unknown(context, f"timing attribute {attribute:#x}")
        source = (task.timing.source if task.timing else "") or f"{task.kind}/SampleClock"
        return pb.GetTimingAttributeStringResponse(value=f"/{self.card.name}/{source}")

    # buffers
    @prompt
    def GetBufferAttributeUInt32(
        self, request: pb.GetBufferAttributeUInt32Request, context: Context
    ) -> pb.GetBufferAttributeUInt32Response:
        """Sizes of the input and output buffers, samples per channel."""
        task = self.task(request.task)
        written = task.written.shape[1] if task.written is not None else 0
        values = {0x186C: task.buffer(), 0x186D: written}
        attribute = request.attribute_raw or request.attribute
        if attribute not in values:
            unknown(context, f"buffer attribute {attribute:#x}")
        return pb.GetBufferAttributeUInt32Response(value=values[attribute])

    @prompt
    def SetBufferAttributeUInt32(
        self, request: pb.SetBufferAttributeUInt32Request, context: Context
    ) -> pb.SetBufferAttributeUInt32Response:
        """Size of the input buffer, samples per channel."""
        attribute = request.attribute_raw or request.attribute
        if attribute != 0x186C:
            unknown(context, f"setting buffer attribute {attribute:#x}")
        self.task(request.task).buffer_size = request.value
        return pb.SetBufferAttributeUInt32Response()
