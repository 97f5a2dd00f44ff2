"""Models that everybody can run: OCR and voice activity, from packages on PyPI, measured on a CPU.

``python -m benchmarks.models fetch`` brings them; ``measure``, ``repeat`` and ``trials`` measure on a quiet machine.
"""
