"""Repeatable measurements; results are committed under ``results/`` with machine and versions."""
