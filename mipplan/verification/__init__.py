"""Certificates of any plan on any traffic, and the re-check of a plan file without a solver."""

from mipplan.verification.certifying import certify, replayed_certificate
from mipplan.verification.verifying import Verification, verify

__all__ = ["Verification", "certify", "replayed_certificate", "verify"]
