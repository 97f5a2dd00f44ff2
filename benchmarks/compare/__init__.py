"""Certified and refined plans beside InferLine's greedy search and simpler rules, on frozen instances."""
