"""How long it takes to re-solve replica counts."""
