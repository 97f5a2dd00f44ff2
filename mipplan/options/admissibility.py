"""Whether pipeline and profiles speak of the same models and hardware: a misspelt name is bad input, not infeasible."""

from __future__ import annotations

from mipplan.core import Fault, InputError, listed, suggestion
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles


def check_names(pipeline: Pipeline, profiles: Profiles) -> None:
    """Check that every model is measured somewhere and every hardware named in an allow-list exists.

    Raises
    ------
    InputError
        Listing every unknown name, with the closest known one.
    """
    faults: list[Fault] = []
    for name, stage in pipeline.stages.items():
        if stage.model not in profiles.models:
            hint = suggestion(stage.model, profiles.models) or f"; measured are {listed(profiles.models)}"
            place = pipeline.place(("stages", name, "model"))
            faults.append(Fault(place, f"the profiles have no model {stage.model!r}{hint}"))
        for hardware in stage.hardware or ():
            if hardware not in profiles.hardware:
                hint = suggestion(hardware, profiles.hardware) or f"; there are {listed(profiles.hardware)}"
                place = pipeline.place(("stages", name, "hardware"))
                faults.append(Fault(place, f"the profiles have no hardware {hardware!r}{hint}"))
    if faults:
        raise InputError(faults)
