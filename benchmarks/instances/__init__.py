"""Frozen planning problems for solver benchmarks, their best known values, and a checker of claimed plans."""
