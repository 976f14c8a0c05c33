"""From records to physics, each figure with its standard error."""
