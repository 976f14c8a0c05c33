"""Instruments behind VISA, through pyvisa: ``visa://TCPIP::host::port::SOCKET``."""

from __future__ import annotations

from typing import Any

from labctl.errors import NotConnectedError
from labctl.transport.base import Transport


class VisaTransport(Transport):
    """A VISA resource through pyvisa: ``visa://TCPIP::10.0.4.15::5025::SOCKET`` (pyvisa-py unless ``?library=...``)."""

    def __init__(self, address: str, device: str = "", timeout_s: float = 1.0) -> None:
        super().__init__(address, device, timeout_s)
        self._resource: Any = None

    @property
    def is_open(self) -> bool:
        """Whether the resource is open."""
        return self._resource is not None

    def _open(self) -> None:
        import pyvisa

        try:
            manager: Any = pyvisa.ResourceManager(self.address.options.get("library", "@py"))
            self._resource = manager.open_resource(
                self.address.target, open_timeout=int(max(self.timeout_s, 0.5) * 1000)
            )
        except (OSError, ValueError, pyvisa.Error) as error:
            raise NotConnectedError(
                f"{self.where}: cannot open the VISA resource ({error}); check the instrument and the address in the lab file"
            ) from None
        # framing is the driver's: no terminations here
        self._resource.read_termination = None
        self._resource.write_termination = None

    def _close(self) -> None:
        if self._resource is not None:
            self._resource.close()
            self._resource = None

    def _send(self, data: bytes) -> None:
        import pyvisa

        try:
            self._resource.write_raw(data)
        except (OSError, pyvisa.Error) as error:
            raise self._lost(error) from None

    def _receive(self, timeout_s: float) -> bytes:
        import pyvisa
        import pyvisa.constants

        if self._resource is None:
            raise NotConnectedError(f"{self.where}: not connected")
        self._resource.timeout = max(1, int(timeout_s * 1000))
        try:
            return self._resource.read_bytes(
                1
            )  # one at a time: a timeout in the middle of more would lose the rest
        except pyvisa.errors.VisaIOError as error:
            if error.error_code == pyvisa.constants.StatusCode.error_timeout:
                return b""
            raise self._lost(error) from None
        except OSError as error:
            raise self._lost(error) from None
