"""Predictions against real servers with models that sleep: how far means and quantiles are off."""
