"""Bringing a lab up: its processes, the simulated lab behind its addresses, and acquisitions on it."""
