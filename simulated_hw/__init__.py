"""Simulated instruments of this lab, one file per driver, over one simulated world."""
