"""Does the core put its events in early enough? Its CPU time per call, added up along a course.

Costs: ARTIQ.md 2.2 and 2.3 (its model of the compiled drivers on a Kasli, and the bound of 480 ns per TTL edge that
ARTIQ's own hardware tests set); those marked so are estimates. Machine units of 1 ns; scaled for other clocks.
"""

from __future__ import annotations

from collections import deque

import msgspec

from labctl.core.artiq.plan import Await, Block, Event, Feed, Follow, Keep, Pick, Stop
from labctl.core.artiq.tones import AD9910_SET, AD9910_TRACKING, AD9912_SET


class Costs(msgspec.Struct, frozen=True):
    """CPU time in ns.

    edge_ns, table_edge_ns:  a TTL or counter event written out, and from a table
    dma_start_ns, dma_edge_ns:  beginning a DMA playback, and each of its events (gateware before burst reads)
    read_ns:       reading one gate once it is closed
    gate_latency_coarse:  coarse cycles after its closing that a gate's clicks can still come in
    feed_ns, pick_ns, follow_ns, keep_ns:  phase word, drawn number, tracker update, record (estimates)
    realtime_ns:   slack that break_realtime makes
    fifo:          events that a lane holds
    free_ns:       slack that a free block begins with at least
    """

    edge_ns: int = 480
    table_edge_ns: int = 700
    dma_start_ns: int = 4_500
    dma_edge_ns: int = 245
    read_ns: int = 1_000
    gate_latency_coarse: int = 13
    feed_ns: int = 2_000
    pick_ns: int = 4_000
    follow_ns: int = 60_000
    keep_ns: int = 50_000
    realtime_ns: int = 125_000
    fifo: int = 128
    free_ns: int = 5_000


CALIBRATED = Costs()


class Slack(msgspec.Struct, frozen=True):
    """The least slack of a block over all courses looked at.

    slack_mu:  how long before its time the latest event was put in; negative: underflow
    time_mu, line:  of that event
    cpu_mu:    CPU time of the whole block
    """

    block: str
    slack_mu: int
    time_mu: int
    line: str
    cpu_mu: int
    first_mu: int
    """Slack of the block's first event."""


class Cpu:
    """The core's CPU along one course: when it has done what, mu from the origin of the segment."""

    def __init__(self, costs: Costs, ref_period_ps: int, coarse_mu: int, lead_mu: int) -> None:
        self._costs = costs
        self._ref_ps = ref_period_ps
        self._coarse = coarse_mu
        self._lead = lead_mu
        self._waiting: deque[int] = deque(maxlen=costs.fifo)
        self.begin()

    def begin(self) -> None:
        """A new timeline, after break_realtime."""
        self.now_mu = -self.mu(self._costs.realtime_ns) - self._lead
        self._waiting.clear()

    def mu(self, time_ns: int) -> int:
        """Machine units of a time in ns, rounded up."""
        return -(-time_ns * 1000 // self._ref_ps)

    def event_mu(self, event: Event, block: Block) -> int:
        """CPU time of one event."""
        if event.action == "set":
            ad9912 = event.update_after_mu == AD9912_SET.before_mu
            return self.mu(
                (AD9912_SET if ad9912 else AD9910_TRACKING if event.tracking else AD9910_SET).cpu_mu
            )
        costs = self._costs
        return self.mu({"table": costs.table_edge_ns, "dma": costs.dma_edge_ns}.get(block.how, costs.edge_ns))

    def block_mu(self, block: Block) -> int:
        """CPU time of all events of a block."""
        start = self.mu(self._costs.dma_start_ns) if block.how == "dma" else 0
        return start + sum(self.event_mu(event, block) for event in block.events)

    def free_mu(self, block: Block) -> int:
        """How long before its origin a free block has to be begun."""
        return block.lead_mu + self.mu(self._costs.free_ns)

    def play(self, block: Block, origin_mu: int) -> Slack | None:
        """Put in a block's events, then read its gates; None if it has no events."""
        first: int | None = None
        least, time_mu, line = 1 << 62, 0, ""
        if block.how == "dma":
            self.now_mu += self.mu(self._costs.dma_start_ns)
        for event in block.events:
            at = origin_mu + event.time_mu
            if len(self._waiting) == self._waiting.maxlen:
                self.now_mu = max(self.now_mu, self._waiting[0])
            # a set's events follow each other as its transfer goes: the first is the one that can be late
            slack = at - self.now_mu - (0 if event.action == "set" else self.event_mu(event, block))
            self.now_mu += self.event_mu(event, block)
            self._waiting.append(at)
            first = slack if first is None else first
            if slack < least:
                least, time_mu, line = slack, event.time_mu, event.line
        for window in block.windows:
            closed = origin_mu + window.close_mu + self._costs.gate_latency_coarse * self._coarse
            self.now_mu = max(self.now_mu, closed) + self.mu(self._costs.read_ns)
        if first is None:
            return None
        return Slack(block.name, least, time_mu, line, self.block_mu(block), first)

    def act(self, what: Follow | Feed | Pick | Keep | Stop | Await) -> None:
        """Do something that puts no event in."""
        costs = self._costs
        match what:
            case Follow():
                self.now_mu += self.mu(costs.follow_ns)
            case Feed():
                self.now_mu += self.mu(costs.feed_ns)
            case Pick():
                self.now_mu += self.mu(costs.pick_ns)
            case Keep():
                self.now_mu += self.mu(costs.keep_ns)
            case Stop():
                self.begin()
            case Await():  # the new timeline begins when the input closes; reading it ends the gate latency later
                self._waiting.clear()
                self.now_mu = costs.gate_latency_coarse * self._coarse + self.mu(costs.read_ns)
