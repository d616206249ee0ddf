"""Probes: principles that a model must obey at configurations made for the purpose, without MD."""
