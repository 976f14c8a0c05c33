"""A driver package: what a lab gets with ``pip install labctl-demo-source``."""
