"""Formulations and solvers on the frozen problems: which pair solves what, how fast, and whether all agree."""
