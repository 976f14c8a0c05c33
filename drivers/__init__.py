"""Instrument drivers of this lab, one file per instrument family."""
