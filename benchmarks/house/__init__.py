"""How far one request walks through the package, and the picture of a plan's life in docs/design.md."""
