"""The NI core: buffered waveforms and gated counters on an NI card, through NI-DAQmx."""
