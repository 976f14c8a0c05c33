"""ARTIQ's network: devices of the lab as ARTIQ controllers, figures of a run as ARTIQ datasets. Without ARTIQ or sipyco."""
