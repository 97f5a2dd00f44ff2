"""Policies on real days: the race on traffic that takes as long as all of its draws."""
