"""Acquisition: runs, journals, published data and reports."""
