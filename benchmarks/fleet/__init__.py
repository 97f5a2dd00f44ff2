"""How long planning a fleet takes, how good its proven gap is, and how both grow with the number of pipelines."""
