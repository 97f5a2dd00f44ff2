"""The command that measures: from a model to a profile folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import mipplan as mp
from mipplan import reporting
from mipplan.cli import config, flags, inputs, traces
from mipplan.cli.session import EXIT_NOT_MET, Session
from mipplan.core import Fault, Faults, InputError


@traces.placing
def profile(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An .onnx file, module:function, http://HOST:PORT/v2/models/NAME, or a shell command "
            "that holds {batch}.",
        ),
    ],
    out: Annotated[
        Path,
        flags.option(
            "DIR",
            "Profile folder to write into; what it holds already is kept. With --pipeline: the file.",
            "--out",
            "-o",
        ),
    ],
    hardware: Annotated[
        str | None, flags.option("NAME", "Hardware type that this machine stands for; required.")
    ] = None,
    pipeline: Annotated[
        str | None,
        flags.option(
            "FILE",
            "Instead: run this pipeline on samples, by MODULE:FUNCTION(stage, token), and measure how often its edges "
            "are taken and how many tokens they make. Samples are what --inputs MODULE:FUNCTION(number) returns.",
        ),
    ] = None,
    samples: Annotated[int, flags.option("N", "With --pipeline: number of samples.")] = 100,
    batches: Annotated[
        str | None, flags.option("SIZES", "Batch sizes, such as 1,2,4,8: exactly these.", "--batch")
    ] = None,
    max_batch: Annotated[
        int | None,
        flags.option("N", "Choose sizes up to this one: 1, 2, 4, …, then where the latency bends."),
    ] = None,
    tolerance: Annotated[
        str | None,
        flags.option(
            "SHARE", "Choose until straight lines between sizes are off by at most this; 5% by default."
        ),
    ] = None,
    for_: Annotated[
        str | None,
        flags.option(
            "FILE",
            "Choose sizes that could change the cheapest plan: a pipeline, or a plan file; with --trace.",
            "--for",
        ),
    ] = None,
    trace: Annotated[
        str | None, flags.option("FILE", "With --for: arrivals, as for `mipplan plan`, or a shipped trace.")
    ] = None,
    seed: flags.ArrivalSeed = None,
    profiles: Annotated[
        Path | None,
        flags.option("DIR", "With --for PIPELINE: the other models and hardware; those in --out by default."),
    ] = None,
    name: Annotated[
        str | None, flags.option("NAME", "What the model is called in the table; by default as MODEL is.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="What MODEL is: onnx, callable, oip or command; by default as it looks."),
    ] = None,
    usd_per_hour: Annotated[
        float | None, flags.option("USD", "Price of one device, where hardware.yaml does not have it.")
    ] = None,
    threads: Annotated[
        int | None, flags.option("N", "Threads of one replica; by default as many as the library likes.")
    ] = None,
    together: Annotated[int, flags.option("N", "Replicas that run at once on this machine.")] = 1,
    providers: Annotated[
        str | None, flags.option("NAMES", "Execution providers of onnxruntime, the best first.")
    ] = None,
    axes: Annotated[
        list[str] | None,
        flags.option(
            "NAME=SIZE", "Size of a free axis other than the batch's; repeat for several.", "--axis"
        ),
    ] = None,
    made_of: Annotated[
        str | None,
        flags.option("FILE", "Inputs: an .npz file, or module:function that makes a batch's.", "--inputs"),
    ] = None,
    latency: Annotated[str, typer.Option(help="What latency_ms holds: p99, p50, mean or max.")] = "p99",
    precision: Annotated[
        float, flags.option("SHARE", "Stop when P50 and P99 are known within this share.")
    ] = 0.05,
    time_limit: Annotated[str, flags.option("TIME", "Time for each batch size.")] = "60s",
    total_time: Annotated[
        str | None, flags.option("TIME", "Where sizes are chosen: time for all of them, such as 20min.")
    ] = None,
    timeout: Annotated[str, flags.option("TIME", "Longest time one run may take.")] = "60s",
    disturbed: Annotated[
        str, typer.Option(help="Runs disturbed by other load: reject them, or keep them.")
    ] = "reject",
    again: Annotated[bool, typer.Option("--again", help="Measure anew what has been measured.")] = False,
    json: flags.Json = False,
    **placed: Any,
) -> None:
    """Measure the latency of a model by batch size, and write it into a profile folder."""
    with Session(context, json) as session:
        from mipplan.core import check_one_of
        from mipplan.profiling import LATENCIES, check_numbers, check_sizes

        _check_pipeline(context, pipeline)
        if pipeline is not None:
            _measure_scale(session, model, pipeline, made_of, samples, out)
            return
        if for_ is None:  # those of a configuration file are for commands that plan
            trace = trace if config.is_typed(context, "trace") else None
            profiles = profiles if config.is_typed(context, "profiles") else None
        faults = Faults()
        if hardware is None:
            faults.add(Fault("--hardware", "missing: which hardware type does this machine stand for?"))
        sizes = faults.take(lambda: None if batches is None else _batch_sizes(batches))
        off = faults.take(lambda: inputs.share_of("--tolerance", tolerance))
        about = faults.take(lambda: None if for_ is None else _read_plan_or_pipeline(for_))
        drawn = traces.seed_of(about, seed)
        arrivals = faults.take(lambda: traces.read_if_given(context, "--trace", trace, drawn, **placed))
        known = faults.take(lambda: None if profiles is None else mp.Profiles.read(profiles))
        sizes_of_axes = faults.take(lambda: inputs.axis_sizes(axes or ()))
        limit_s = faults.take(lambda: inputs.seconds_of("--time-limit", time_limit))
        total_time_s = faults.take(lambda: inputs.optional_seconds("--total-time", total_time))
        timeout_s = faults.take(lambda: inputs.seconds_of("--timeout", timeout))
        # The library refuses the same, though not together with what could not be read.
        if sizes and off and total_time_s:
            chosen = sizes.value, max_batch, off.value, total_time_s.value, for_ is not None
            faults.take(lambda: check_sizes(*chosen))
        longest_s = timeout_s.value if timeout_s else 1.0
        faults.take(lambda: check_numbers(threads, together, precision, longest_s, sizes_of_axes.or_else({})))
        faults.take(lambda: check_one_of("latency", latency, LATENCIES))
        faults.take(lambda: check_one_of("disturbed", disturbed, ("reject", "keep")))
        faults.check()
        with session.progress(as_log=True, whole=False) as progress:
            found = mp.measure(
                model,
                hardware=hardware or "",
                batches=sizes.value,
                max_batch=max_batch,
                tolerance=off.value,
                for_=about.value,
                trace=arrivals.value,
                profiles=known.value,
                out=out,
                name=name,
                kind=kind,
                usd_per_hour=usd_per_hour,
                threads=threads,
                together=together,
                providers=() if providers is None else inputs.names_in(providers),
                axes=sizes_of_axes.value,
                inputs=made_of,
                latency=latency,
                precision=precision,
                time_limit_s=limit_s.value,
                total_time_s=total_time_s.value,
                timeout_s=timeout_s.value,
                disturbed=disturbed,
                again=again,
                progress=progress,
            )
        session.show(reporting.measurement_report(found, str(out)), reporting.show_measurement)
        if found.failures:
            session.exit_code = EXIT_NOT_MET


def _check_pipeline(context: typer.Context, pipeline: str | None) -> None:
    """Refuse what goes with latencies where a pipeline is run on samples, and the other way round."""
    both, alone = {"model", "out", "made_of", "json", "pipeline"}, {"samples"}
    faults = []
    for parameter in context.command.params:
        name = parameter.name or ""
        is_typed = config.is_typed(context, name)
        if is_typed and name not in both and (name in alone) is (pipeline is None):
            how = "goes with --pipeline" if name in alone else "does not go with --pipeline"
            faults.append(Fault(parameter.opts[0], how))
    InputError.raise_if(faults)


def _measure_scale(
    session: Session, step: str, pipeline: str, made_of: str | None, samples: int, out: Path
) -> None:
    """Measure the scale factors of a pipeline, and write it with them."""
    import yaml

    from mipplan.documents import write_text_atomically
    from mipplan.profiling import find_callable, raised

    faults = Faults()
    asked = faults.take(lambda: inputs.read_pipeline(pipeline))
    function = faults.take(lambda: find_callable(step, "MODEL"))
    if made_of is None:
        faults.add(Fault("--inputs", "missing: which MODULE:FUNCTION(number) makes samples?"))
    made = faults.take(lambda: None if made_of is None else find_callable(made_of, "--inputs"))
    if samples < 1:
        faults.add(Fault("--samples", f"expected a whole number above 0, found {samples}"))
    faults.take(lambda: inputs.check_out("--out", out, (".yaml", ".yml")))
    faults.take(lambda: inputs.check_apart({"pipeline": pipeline}, {"--out": out}))
    faults.check()
    step_function: Any = function.value  # of what, is found out when it is called
    make_samples: Any = made.value
    with session.progress() as progress:
        try:
            shown = make_samples(samples)
        except Exception as error:  # whatever a function of the user raises
            raise InputError.one(f"--inputs {made_of}", raised(error)) from error
        found = mp.measure_scale(asked.value, step_function, shown, progress=progress)
        document = found.document
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None)
    written = session.save(lambda file: write_text_atomically(file, text), out)
    session.show(reporting.scale_report(found, written), reporting.show_scale)
    if found.ended_early:
        session.exit_code = EXIT_NOT_MET


def _read_plan_or_pipeline(name: str) -> mp.Plan | mp.Pipeline:
    """Read what to measure for."""
    return mp.Plan.load(name) if inputs.is_plan(name) else inputs.read_pipeline(name)


def _batch_sizes(text: str) -> list[int]:
    sizes = []
    for word in inputs.names_in(text):
        if not word.isdecimal() or len(word) > 9:
            raise InputError.one("--batch", f"expected batch sizes such as 1,2,4,8, found {text[:80]!r}")
        sizes.append(int(word))
    return sizes
