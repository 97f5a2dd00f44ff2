"""OCR end to end: real models profiled, planned, exported, served, driven and compared with the prediction."""
