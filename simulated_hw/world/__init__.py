"""The simulated laboratory: from causes to counts."""
