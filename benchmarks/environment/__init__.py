"""How large an installation is: what each extra brings, and what each large package is for."""
