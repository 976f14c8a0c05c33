"""labctl: control and data acquisition for remote atomic nodes."""
