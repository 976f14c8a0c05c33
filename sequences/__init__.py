"""Experiment sequences of this lab, one file per experiment."""
