"""Principles of motion: what a frame must obey, with or without an explanation."""
