"""Drawings of schedules: text for the terminal, SVG for eyes, VCD for waveform viewers."""

from labctl.schedule.draw_svg import svg
from labctl.schedule.draw_text import text
from labctl.schedule.picture import Zoom
from labctl.schedule.vcd import vcd

__all__ = ["Zoom", "svg", "text", "vcd"]
