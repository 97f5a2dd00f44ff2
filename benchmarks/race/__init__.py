"""Policies as published and at every setting, on traffic drawn at random, in the plane of cost and misses."""
