"""Golden answers of the whole package: see `regenerate`."""
