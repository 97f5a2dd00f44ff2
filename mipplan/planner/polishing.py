"""Between plans of equal cost the one with the least certificate found is the better answer: latency for free.

Batch caps cost nothing by themselves, so ties are common, and which of them a solver returns is arbitrary.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mipplan.options import StageOptions
from mipplan.planner.benders import Certified
from mipplan.planner.instance import Instance


def polish(instance: Instance, options: Mapping[str, StageOptions], found: Certified) -> Certified:
    """Exchange options for others of the same cost, one stage at a time, while the certificate falls.

    Parameters
    ----------
    instance : Instance
    options : mapping of str to StageOptions
    found : Certified

    Returns
    -------
    Certified
        Of the same cost and devices; no single exchange lowers its certificate.
    """
    selection, best = dict(found.selection), found.certificate_ns
    improved = True
    while improved:
        improved = False
        for stage, table in options.items():
            for option in _alternatives(table, selection[stage]):
                trial = {**selection, stage: option}
                services = {name: options[name].service(chosen) for name, chosen in trial.items()}
                if instance.oracle.floor_ns(services) >= best:
                    continue
                certificate_ns = instance.certificate_ns(services)
                if certificate_ns < best:
                    selection, best, improved = trial, certificate_ns, True
    return Certified(selection, found.cost, best)


def _alternatives(table: StageOptions, chosen: int) -> list[int]:
    """Other options of the same cost on the same hardware, so that no device limit is touched."""
    hardware = table.hardware
    alike = (table.cost == table.cost[chosen]) & (hardware == hardware[chosen])
    alike[chosen] = False
    return np.flatnonzero(alike).tolist()
