"""What a stated reliability costs: cost against the share of held-out traffic kept, of every planner and setting."""
