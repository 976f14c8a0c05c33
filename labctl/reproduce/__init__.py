"""Published experiments, repeated on the simulated lab through the whole pipeline and compared with what was published."""
