"""How fast replay is, beside SimPy, a heap event loop and Ciw, and how it grows with queries, stages and plans."""
