"""Picture of what a bound rests on: the arrival curve of a stage, its service curve, and the distance between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mipplan.calculus import ArrivalCurve, StageService, WindowCounts, empirical_envelope
from mipplan.certificate import plan_services
from mipplan.core import NS_PER_S, InputError, Int64, check_one_of
from mipplan.plots.style import BLUE, GREY, ORANGE, RED, new_axes, open_frames, short_name, unit_for
from mipplan.result import Plan
from mipplan.tokens import realise
from mipplan.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: So many windows of a trace are looked at for its arrival curve, evenly spread, and as many over their logarithms.
_WINDOWS = 60
_SHORTEST_NS = 1_000
#: The picture ends at this many times the deviation, or a little after the place where it is taken.
_SHOWN = 1.9


def draw_curves(plan: Plan, trace: Trace, stage: str, *, axes: Axes | None = None) -> Axes:
    """Draw the arrival curve of a stage's tokens, its service curve, and the horizontal deviation between them.

    The arrival curve α(u) is the most tokens that any window of length u of this trace brings, by the ingress of their
    queries; the service curve is β(t) = R·(t − T)⁺ of the stage's choice. No token leaves later after its arrival than
    the horizontal deviation, T + the longest wait. (The certificate adds waits along paths, not deviations of stages.)

    Parameters
    ----------
    plan : Plan
    trace : Trace
    stage : str
    axes : matplotlib.axes.Axes, optional
        To draw on; of a new figure by default.

    Raises
    ------
    InputError
        If there is no such stage, or the trace sends it no token.
    NoPlanError
        If the plan has no choices.

    References
    ----------
    J.-Y. Le Boudec and P. Thiran, Network Calculus, 2001, theorem 1.4.2, doi:10.1007/3-540-45318-0.
    """
    plan.require()
    check_one_of("stage", stage, list(plan.choices), repr)
    tokens = realise(plan.pipeline, trace, plan.seed)
    arrival_ns = tokens.ingress_ns[tokens.stages[stage].query]
    if not arrival_ns.size:
        raise InputError.one("stage", f"the trace sends no token to {stage}")
    service, envelope = plan_services(plan)[stage], empirical_envelope(arrival_ns)
    deviation_s, at_tokens = deviation(envelope, service)
    axes = new_axes(3.0) if axes is None else axes
    start_s = envelope.first_reach(at_tokens)
    longest_s = max(_SHOWN * deviation_s, 1.05 * (start_s + deviation_s))
    unit, scale = unit_for(longest_s)
    scale *= NS_PER_S
    windows_ns = _windows_ns(envelope, longest_s)
    most = WindowCounts.of_arrivals(arrival_ns, windows_ns).count
    axes.plot(
        windows_ns / NS_PER_S * scale,
        most,
        color=BLUE,
        drawstyle="steps-post",
        linewidth=1.4,
        label="arrival curve α",
    )
    times = np.linspace(0.0, longest_s, 200)
    concave = np.array([envelope(float(time)) for time in times])
    axes.plot(times * scale, concave, color=BLUE, linestyle=":", linewidth=1.2, label="its concave hull")
    latency_s = service.latency_ns / NS_PER_S
    if np.isfinite(service.rate_rps):
        served = service.rate_rps * np.maximum(0.0, times - latency_s)
        name = f"service curve β: R {service.rate_rps:,.4g}/s, T {latency_s * scale:.4g} {unit}"
        axes.plot(times * scale, served, color=ORANGE, linestyle="--", linewidth=1.6, label=name)
    ends = [start_s * scale, (start_s + deviation_s) * scale]
    axes.annotate(
        "", (ends[1], at_tokens), (ends[0], at_tokens), arrowprops={"arrowstyle": "<->", "color": RED}
    )
    axes.text(
        ends[0] + 0.7 * (ends[1] - ends[0]),
        1.03 * at_tokens,
        f"{deviation_s * scale:.4g} {unit}",
        color=RED,
        ha="center",
        va="bottom",
        fontsize=8.5,
        bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
    )
    axes.set_xlim(0.0, longest_s * scale)
    axes.set_ylim(0.0, 1.15 * max(float(concave[-1]), at_tokens))
    axes.set_xlabel(f"window ({unit})")
    axes.set_ylabel(f"tokens at {short_name(stage)}")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.grid(visible=True, color=GREY, alpha=0.15)
    open_frames([axes])
    return axes


def _windows_ns(envelope: ArrivalCurve, longest_s: float) -> Int64:
    """Return the windows of a curve, ns: densest where it is steepest, and where its hull touches it."""
    longest_ns = longest_s * NS_PER_S
    short = np.geomspace(min(_SHORTEST_NS, longest_ns / _WINDOWS), longest_ns, _WINDOWS)
    touched = NS_PER_S * np.array([time for time in envelope.breakpoints() if time <= longest_s])
    windows = np.concatenate([short, np.linspace(0.0, longest_ns, _WINDOWS), touched])
    return np.unique(np.maximum(np.rint(windows), 1.0).astype(np.int64))


def deviation(envelope: ArrivalCurve, service: StageService) -> tuple[float, float]:
    """Return the horizontal deviation of a concave arrival curve from a service curve, s, and at how many tokens.

    It is taken at a breakpoint of the arrival curve: between two of them both are straight.

    Raises
    ------
    InputError
        If more arrives in the long run than is served.
    """
    rate, latency_s = service.rate_rps, service.latency_ns / NS_PER_S
    if envelope.rate > rate:
        raise InputError.one(
            "stage", f"{envelope.rate:.4g} tokens/s arrive in the long run, {rate:.4g} are served"
        )
    after = [(time, envelope.just_after(time)) for time in (0.0, *envelope.breakpoints())]
    return max((latency_s + tokens / rate - time, tokens) for time, tokens in after)
