"""Following a running system beside its simulation."""
