"""Probes: what a model must obey on configurations made for the purpose, without any motion."""
