"""Time tags: streams, files, heralds and histograms."""
