"""The certificate: a proven bound on every query's latency, for one trace, seed and plan."""

from mipplan.certificate.certifying import (
    AUTO,
    Certificate,
    certified_figures,
    certify_services,
    certify_sharply,
    certify_stages,
    check_certificate,
    check_timed,
    plan_settings,
    resolve_certificate,
    state_certificate,
)
from mipplan.certificate.classic import (
    CertificateEvaluator,
    Overtaking,
    check_covered,
    check_discipline,
    fifo_exits_ns,
    plan_services,
    stage_exits_ns,
)
from mipplan.certificate.sharp import SharpEvaluator, StageBound, StageSetting

__all__ = [
    "AUTO",
    "Certificate",
    "CertificateEvaluator",
    "Overtaking",
    "SharpEvaluator",
    "StageBound",
    "StageSetting",
    "certified_figures",
    "certify_services",
    "certify_sharply",
    "certify_stages",
    "check_certificate",
    "check_covered",
    "check_discipline",
    "check_timed",
    "fifo_exits_ns",
    "plan_services",
    "plan_settings",
    "resolve_certificate",
    "stage_exits_ns",
    "state_certificate",
]
