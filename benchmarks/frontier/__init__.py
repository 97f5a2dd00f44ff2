"""Frontiers against planning every point of a grid anew."""
