"""A simulated NI card behind NI-DAQmx's own gRPC service, for any client of the NI gRPC Device Server.

Wire: DEVICES.md section 2; the messages and the service are those NI ships in the ``nidaqmx`` package. The card is
like a PCIe-6363. Simulated: edge counting, also sampled; pulse trains; analogue inputs and outputs and digital lines,
on demand and clocked, finite and continuous; every-N-samples and done events; reservations and NI's status codes.
Everything else is answered with UNIMPLEMENTED, as an old server would. Not simulated: triggers, other measurements,
streaming output without regeneration. Of output samples closer together than the world looks, the world sees the last.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
import numpy as np
from nidaqmx._stubs.nidaqmx_pb2_grpc import add_NiDAQmxServicer_to_server

from labctl.clock import SystemClock
from labctl.errors import ConfigError
from labctl.sim.instrument import Send, Session, SimInstrument
from simulated_hw.ni_daqmx_card import Card
from simulated_hw.ni_daqmx_data import DataCalls
from simulated_hw.world.card_wiring import CardWiring

log = logging.getLogger(__name__)
TICK_S = 0.005
CALLS_AT_ONCE = 64
"""Waiting reads and registered events each take one of these."""


class SimNiDaq(SimInstrument):
    """A card called ``name``. It brings a server of its own: ``listen`` and ``close``; ``nidaqmx://host:port/name``.

    sleep:  waits on the world's clock while a read waits for samples
    """

    served_as: str = "Dev1"

    def __init__(
        self,
        wiring: CardWiring,
        now: Callable[[], float],
        rng: np.random.Generator,
        *,
        name: str = "Dev1",
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        super().__init__()
        self.card = Card(name, wiring, now, rng)
        self.served_as = name
        self._sleep = sleep or SystemClock().sleep
        self._server: grpc.Server | None = None
        self._calls: DataCalls | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._ticker: threading.Thread | None = None

    def session(self, port: str, send: Send) -> Session:
        """There is none: bytes are gRPC's business."""
        raise ConfigError(f"{self.card.name}: a simulated NI card is reached at nidaqmx:// addresses only")

    def own_faults(self) -> dict[str, Callable[[], None]]:
        """The card taken out of its computer, and put back."""
        return {"unplug": self.unplug, "plug_in": self.plug_in}

    def unplug(self) -> None:
        """Take the card away: its tasks stop, calls are refused with -201003."""
        self.card.unplugged = True
        for task in [*self.card.running]:
            task.unreserve()

    def plug_in(self) -> None:
        """Put the card back."""
        self.card.unplugged = False

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that clients have made and not cleared."""
        return [*self._calls.tasks] if self._calls is not None else []

    def listen(
        self,
        lock: Any | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        sleep: Callable[[float], None] | None = None,
    ) -> int:
        """Serve at a TCP port and return it. Tasks of an earlier server are gone.

        lock:   the world's lock, held while a call reads or changes the world
        sleep:  of a virtual clock: makes time pass while a read waits for samples. The card is then brought up to date
                by calls alone, so that one client's calls always give the same
        """
        shared: Any = lock if lock is not None else threading.RLock()
        calls = cast("type[Any]", DataCalls)(self.card, shared, sleep or self._sleep, self.faults)
        self._pool = ThreadPoolExecutor(CALLS_AT_ONCE, "simulated-nidaqmx")
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        server = grpc.server(self._pool, options=[*options, ("grpc.so_reuseport", 0)])
        add_NiDAQmxServicer_to_server(calls, server)
        try:
            number = server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            self._pool.shutdown()
            raise ConfigError(
                f"simulated {type(self).__name__}: cannot listen on {host}:{port} ({error}); "
                "is the same lab already up? see `labctl ls`, `labctl down`"
            ) from None
        self._calls, self._server = calls, server
        server.start()
        if sleep is None:
            self._ticker = threading.Thread(target=self._tick, args=(calls,), name="simulated-nidaqmx-clock")
            self._ticker.start()
        return number

    def close(self) -> None:
        """Stop serving: calls under way end with UNAVAILABLE, tasks are cleared, outputs stay as they are."""
        if self._calls is None or self._server is None or self._pool is None:
            return
        self._calls.stopping.set()
        self._server.stop(0.5).wait()
        self._pool.shutdown()
        if self._ticker is not None:
            self._ticker.join()
        for task in self._calls.tasks.values():
            task.clear()
        self._calls = self._server = self._pool = self._ticker = None

    def _tick(self, calls: DataCalls) -> None:
        """Bring the card up to date, so that outputs reach the world in time whoever asks."""
        while not calls.stopping.wait(TICK_S):
            try:
                with calls.lock:
                    self.card.advance()
            except Exception:  # whatever a part of the world does, the card goes on
                log.exception("simulated %s failed", self.card.name)


def demo(now: Callable[[], float]) -> SimNiDaq:
    """A card with nothing at its inputs, a piezo on its first output and a shutter on its first line."""
    wiring = CardWiring(outputs={"ao0": lambda volts: None}, switches={"port0/line0": lambda level: None})
    return SimNiDaq(wiring, now, np.random.default_rng(1))
