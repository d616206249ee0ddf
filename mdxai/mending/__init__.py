"""Mending a potential: which frames to label, so that training closes what it does not know."""
