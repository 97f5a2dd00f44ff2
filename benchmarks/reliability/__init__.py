"""What a stated reliability costs: cost against the share of held-out traffic kept, for every planner at every setting."""
