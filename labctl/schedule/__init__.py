"""Schedules: what happens on which line and when. No hardware, no physics."""
