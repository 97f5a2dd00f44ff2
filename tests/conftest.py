"""Settings of the whole suite."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# No deadline: how long an example takes says nothing about whether it is right. CI draws the same examples
# every time, so that a red run is about the change at hand; elsewhere they vary and find new cases.
settings.register_profile("mipplan", deadline=None, print_blob=True)
settings.register_profile("mipplan-ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile("mipplan-ci" if os.environ.get("CI") else "mipplan")

# Shells start what runs in the background with Ctrl-C ignored, and programs inherit that; tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
