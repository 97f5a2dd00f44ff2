"""How long planning takes, where the time goes, and how it grows with stages and queries."""
