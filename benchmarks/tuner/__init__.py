"""Policies that follow traffic, in closed loop: misses and cost of ours beside those of others and of hindsight."""
