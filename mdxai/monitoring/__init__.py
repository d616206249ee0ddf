"""Watching a simulation: live, as replicas, or from a finished trajectory."""
