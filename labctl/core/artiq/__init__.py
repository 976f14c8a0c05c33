"""ARTIQ as a real-time core: a schedule becomes an experiment file in integer machine units, and its expected timeline."""
