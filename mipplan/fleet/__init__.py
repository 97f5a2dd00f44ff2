"""Many pipelines on shared hardware: the cheapest set of certified plans, with a proven gap."""
