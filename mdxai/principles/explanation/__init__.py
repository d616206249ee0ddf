"""Principles of explanations: what the learned interactions should look like."""
