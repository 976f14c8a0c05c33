"""Real-time cores: a schedule becomes records."""
