"""Mending a potential: choose the frames whose labels improve it most."""
