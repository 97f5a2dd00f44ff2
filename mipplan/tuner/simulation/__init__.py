"""Policies in closed loop on a trace, replayed exactly, and what came of it."""
