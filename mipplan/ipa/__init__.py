"""IPA's integer program, as printed, for comparison: it bounds no tail latency and looks at no trace but its rate.

The mathematics, and what it leaves out, is on the page ``docs/ipa.md``.
"""

from mipplan.ipa.planning import Configured, Weights, check_weights, configure

__all__ = ["Configured", "Weights", "check_weights", "configure"]
