"""Instruments on a serial port, through pyserial: ``serial:///dev/ttyUSB0``."""

from __future__ import annotations

import math
import os
import threading
from typing import Any

from labctl.errors import NotConnectedError
from labctl.transport.base import Transport
from labctl.transport.waiting import ready

STEP_S = 0.01
"""Times waited are multiples of it, as pyserial sets up the whole port for each new one, s."""


class SerialTransport(Transport):
    """A serial port through pyserial: ``serial:///dev/ttyUSB0?baudrate=57600`` or ``serial://socket://host:port``."""

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        super().__init__(address, device, timeout_s)
        self._port: Any = None
        self._number = -1
        """Descriptor of a port of this machine on POSIX, where pyserial takes three times as many system calls; else -1."""
        self._wake: tuple[int, int] = (-1, -1)
        """A pipe: what is written to its second end interrupts a read."""
        self._mutex = threading.Lock()  # so that nothing is written to it once its number is somebody else's

    @property
    def is_open(self) -> bool:
        """Whether the port is open."""
        return self._port is not None

    def _open(self) -> None:
        import serial

        options = self.address.options
        try:
            self._port = serial.serial_for_url(
                self.address.target,
                baudrate=int(options.get("baudrate", "9600")),
                rtscts=options.get("rtscts") == "1",
                timeout=0.1,
                write_timeout=max(self.timeout_s, 0.5),
            )
            self._port.reset_input_buffer()
            if isinstance(getattr(self._port, "fd", None), int):
                self._number = self._port.fd
                self._wake = os.pipe()
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise NotConnectedError(
                f"{self.where}: cannot open the port ({error}); check that it exists and nobody else has it"
            ) from None

    def _close(self) -> None:
        if self._port is not None:
            self._port.close()
            self._port = None
            self._number = -1
            with self._mutex:
                ends, self._wake = self._wake, (-1, -1)
                for end in ends if ends[0] >= 0 else ():
                    os.close(end)

    def _send(self, data: bytes) -> None:
        try:
            if self._number < 0 or not self._written(data):
                self._port.write(data)
        except OSError as error:
            raise self._lost(error) from None

    def _receive(self, timeout_s: float) -> bytes:
        if self._port is None:
            raise NotConnectedError(f"{self.where}: not connected")
        try:
            if self._number >= 0:
                return self._read_now(timeout_s)
            if timeout_s <= 0:
                there: int = self._port.in_waiting
                return self._port.read(there) if there else b""
            wait_s = math.ceil(timeout_s / STEP_S) * STEP_S
            if wait_s != self._port.timeout:
                self._port.timeout = wait_s
            first: bytes = self._port.read(1)
            waiting = self._port.in_waiting if first else 0
            return first + (self._port.read(waiting) if waiting else b"")
        except OSError as error:
            raise self._lost(error) from None

    def _written(self, data: bytes) -> bool:
        """Whether it went out at once; nothing was sent if not."""
        try:
            sent = os.write(self._number, data)
        except BlockingIOError:
            return False
        if sent < len(data):
            self._port.write(data[sent:])
        return True

    def _read_now(self, timeout_s: float) -> bytes:
        """What comes within a time."""
        if timeout_s > 0 and not ready((self._number, self._wake[0]), timeout_s):
            return b""
        try:
            data = os.read(self._number, 65536)
        except BlockingIOError:
            data = b""
        if not data and timeout_s > 0:
            raise self._lost("interrupted, or the port is gone")
        return data

    def interrupt(self) -> None:
        """Cancel a read in another thread, where the port can."""
        with self._mutex:
            if self._wake[1] >= 0:
                os.write(self._wake[1], b"x")
                return
        cancel = getattr(self._port, "cancel_read", None)
        if cancel is not None:
            cancel()
