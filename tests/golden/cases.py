"""What golden answers there are: commands as a user types them, and the fields that may be new.

Library cases are functions in `library`; broken inputs are those of `bad_inputs`.
"""

from __future__ import annotations

#: JSON fields that came after the answers were recorded and are no mistake: by their bare names.
NEW_FIELDS: frozenset[str] = frozenset(
    {
        *("limit", "schedule", "until_s", "dispatch", "laws", "discipline", "overruns", "queries_lost"),
        *("certificate", "runs", "stagger_s", "staggers_ns", "stages_complete", "adopted"),
        *("sample", "samples", "samples_ns", "seeds", "others", "draws"),
        *("variant", "options", "min_accuracy", "accuracy", "accurate"),
        *("energy", "energy_reason", "stage_energy_j", "power_w", "zero", "kept"),
        *("judged_by", "remark"),
    }
)

#: Answers, by the beginning of their names, that other versions of these packages may give differently: wordings of the
#: parser of the command line, and how solvers get to their optimum. Under other versions they are not compared.
DEPENDING: dict[str, tuple[str, ...]] = {
    "usage/": ("typer", "rich"),
    "library/solvers-": ("highspy", "ortools", "pulp", "scipy"),
    "library/programmes": ("highspy", "scipy"),
    "library/time-cost-problems": ("highspy", "ortools", "scipy"),
}

#: Commands that are run for people and, with ``--json`` added, for programs.
COMMANDS: dict[str, str] = {
    # plan: every shipped pipeline
    "plan-video": "plan video-monitoring --trace bursty --to 10s --out plan.json",
    "plan-video-steady": "plan video-monitoring --trace steady --from 5s --to 12s --explain",
    "plan-cascade": "plan cascade --trace steady --to 10s --explain --out plan.json",
    "plan-cascade-bursty": "plan cascade --trace bursty --from 3s --to 10s",
    "plan-image": "plan image-processing --trace bursty --to 10s --explain",
    "plan-social": "plan social-media --trace steady --to 6s --out plan.json",
    "plan-audio": "plan audio-question-answering --trace bursty --to 6s",
    "plan-by-path": "plan profiles/pipelines/cascade.yaml --trace profiles/traces/steady.csv.gz --to 5s",
    # plan: what is asked for
    "plan-infeasible": "plan cascade --trace bursty --to 10s --slo 5ms --explain",
    "plan-infeasible-rate": "plan small.yaml --profiles small --trace rush.csv",
    "plan-infeasible-barely": "plan video-monitoring --trace steady --to 5s --slo 35ms --out plan.json",
    "plan-slo": "plan cascade --trace steady --to 8s --slo 200ms",
    "plan-every-query": "plan cascade --trace steady --to 8s --quantile 1",
    "plan-median": "plan image-processing --trace bursty --to 8s --quantile 0.5 --no-replay",
    "plan-headroom": "plan cascade --trace bursty --to 8s --headroom 1.3 --out plan.json",
    "plan-margin": "plan cascade --trace bursty --to 8s --margin 10ms --explain",
    "plan-headroom-margin": "plan image-processing --trace steady --to 8s --headroom 1.5 --margin 5ms",
    "plan-margin-too-large": "plan cascade --trace bursty --to 8s --margin 80ms",
    "plan-envelope": "plan image-processing --trace steady --to 8s --guarantee envelope --slo 300ms --out plan.json",
    "plan-envelope-given": "plan image-processing --trace steady --to 8s --guarantee envelope --envelope 20:150 "
    "--envelope 5:400 --slo 300ms --explain",
    "plan-envelope-infeasible": "plan cascade --trace bursty --to 8s --guarantee envelope --slo 30ms",
    "plan-budget": "plan cascade --trace steady --to 8s --budget 6 --out plan.json",
    "plan-budget-large": "plan image-processing --trace bursty --to 6s --budget 20 --explain",
    "plan-budget-too-small": "plan cascade --trace steady --to 8s --budget 0.5",
    "plan-seed": "plan cascade --trace bursty --to 8s --seed 7",
    "plan-counts": "plan cascade --trace counts.csv --expand poisson --seed 3 --slo 150ms",
    "plan-counts-even": "plan cascade --trace counts.csv --expand even",
    "plan-own-profiles": "plan small.yaml --profiles small --trace arrivals.csv --explain --out plan.json",
    "plan-join-each": "plan each.yaml --profiles small --trace arrivals.csv --explain",
    # plan: by the sharp certificate, where all there is can be searched
    "plan-sharp": "plan small.yaml --profiles small --trace arrivals.csv --certificate sharp --out plan.json",
    "plan-sharp-runs": "plan each.yaml --profiles small --trace arrivals.csv --certificate auto --runs 0.9:0.5:any",
    "plan-sharp-faults": "plan small.yaml --profiles small --trace arrivals.csv --certificate sharp --runs 2:1:settled "
    "--budget 3 --explain",
    # plan: for queues in order of arrival
    "plan-fifo": "plan cascade --trace bursty --to 8s --discipline fifo --runs 0.9:1:settled --explain --out plan.json",
    "plan-fifo-wide": "plan each.yaml --profiles small --trace arrivals.csv --discipline fifo",
    # plan: how it is found
    "plan-paths-highs": "plan cascade --trace steady --to 5s --formulation paths --solver highs",
    "plan-potentials-cp-sat": "plan cascade --trace steady --to 5s --formulation potentials --solver cp_sat",
    "plan-levels-highs": "plan video-monitoring --trace steady --to 5s --formulation levels --solver highs",
    "plan-paths-cbc": "plan cascade --trace steady --to 5s --formulation paths --solver cbc",
    "plan-pulp": "plan cascade --trace steady --to 5s --solver pulp_highs",
    # plan: faults
    "plan-faults": "plan nowhere.yaml --trace nowhere.csv --slo 300 --quantile 99 --headroom 0 --margin 5 "
    "--guarantee always --budget -1 --seed -2 --formulation path --time-limit 5 --out nowhere/plan.json",
    "plan-unknown-names": "plan cascad --trace stedy",
    "plan-unknown-solver": "plan cascade --trace steady --to 5s --solver gurobi",
    "plan-empty-window": "plan cascade --trace steady --from 500s --to 600s",
    "plan-window-backwards": "plan cascade --trace steady --from 8s --to 5s",
    "plan-counts-unexpanded": "plan cascade --trace counts.csv",
    "plan-envelope-with-budget": "plan cascade --trace steady --to 5s --guarantee envelope --budget 6",
    "plan-envelope-without-guarantee": "plan cascade --trace steady --to 5s --envelope 20:150",
    "plan-headroom-envelope": "plan cascade --trace steady --to 5s --guarantee envelope --headroom 1.2",
    "plan-broken-pipeline": "plan broken.yaml --trace steady --to 5s",
    "plan-broken-profiles": "plan small.yaml --profiles broken --trace arrivals.csv",
    "plan-over-input": "plan small.yaml --profiles small --trace arrivals.csv --out arrivals.csv",
    # energy: a cap, prices, what is not known, and fronts
    "plan-energy": "plan cascade --trace steady --to 8s --max-power 400 --usd-per-kwh 0.3 --gco2-per-kwh 300,500 "
    "--no-costs --out plan.json",
    "plan-energy-infeasible": "plan cascade --trace steady --to 5s --max-power 60 --no-costs",
    "plan-energy-unknown": "plan ocr --trace steady --to 5s --energy",
    "plan-energy-faults": "plan cascade --trace steady --to 5s --usd-per-kwh dear --gco2-per-kwh -1 --max-power -5",
    "pareto-energy": "pareto cascade --trace steady --to 5s --by energy",
    "weigh": "weigh video --trace steady --to 5s --alpha 20 --out plan.json",
    # variants: a least accuracy, the most within a budget, fronts and menus
    "plan-accuracy": "plan video --trace steady --to 5s --accuracy 0.4 --no-costs --out plan.json",
    "plan-accuracy-max": "plan video --trace steady --to 5s --accuracy max --budget 2 --no-costs",
    "plan-accuracy-infeasible": "plan video --trace steady --to 5s --accuracy 99% --no-costs",
    "plan-accuracy-faults": "plan cascade --trace steady --to 5s --accuracy 0.4",
    "pareto-accuracy": "pareto video --trace steady --to 5s",
    "menu-variants": "menu video --trace steady --to 5s --within 20% --by variants",
    "menu-accuracy": "menu video --trace steady --to 5s --within 40% --by accuracy",
    "menu-faults": "menu vide --trace steady --to 5s --within -1 --by price --most 0 --accuracy 40",
    # replay
    "replay": "replay cascade.json --trace steady --to 10s",
    "replay-other-trace": "replay cascade.json --trace bursty --to 20s --windows 5s",
    "replay-video": "replay video.json --trace bursty --to 20s --out replay.json --latencies latencies.csv",
    "replay-fifo": "replay video.json --trace bursty --to 10s --discipline fifo --windows 2s",
    "replay-numpy": "replay video.json --trace bursty --to 10s --engine numpy",
    "replay-numba": "replay video.json --trace bursty --to 10s --engine numba",
    "replay-python": "replay video.json --trace bursty --to 3s --engine python",
    "replay-seed": "replay cascade.json --trace steady --to 10s --seed 5 --latencies latencies.parquet",
    "replay-counts": "replay cascade.json --trace counts.csv --expand uniform",
    "replay-envelope-plan": "replay image.json --trace bursty --to 10s",
    "replay-plot": "replay cascade.json --trace steady --to 3s --windows 1s --plot plot.svg",
    "replay-stream": "replay cascade.json --trace profiles/traces/steady.csv.gz --stream",
    "replay-stream-video": "replay video.json --trace bursty --stream --out stream.json --engine numpy",
    "replay-stream-fifo": "replay cascade.json --trace arrivals.csv --stream --discipline fifo --seed 2",
    "replay-stream-flags": "replay cascade.json --trace steady --stream --from 5s --windows 5s --plot a.png",
    "replay-faults": "replay nowhere.json --trace nowhere.csv --discipline lifo --engine cython --windows 5 "
    "--seed -1 --latencies a.txt --plot a.txt --out nowhere/a.json",
    "replay-windows-too-many": "replay cascade.json --trace steady --windows 1us",
    "replay-no-plan": "replay infeasible.json --trace steady --to 5s",
    "replay-over-plan": "replay cascade.json --trace steady --out cascade.json",
    # verify
    "verify": "verify cascade.json --trace steady --to 20s",
    "verify-video": "verify video.json --trace bursty --to 20s",
    "verify-other-trace": "verify cascade.json --trace bursty --to 20s",
    "verify-envelope": "verify image.json --trace steady --to 10s",
    "verify-envelope-left": "verify image.json --trace bursty --to 20s",
    "verify-tampered": "verify tampered.json --trace steady --to 20s",
    "verify-infeasible": "verify infeasible.json --trace steady --to 20s",
    "verify-counts": "verify cascade.json --trace counts.csv --expand poisson --seed 1",
    "verify-sharp": "verify cascade.json --trace steady --to 20s --certificate sharp",
    "verify-faults": "verify broken.json --trace nowhere.csv --from 3",
    # compare
    "compare": "compare cascade --trace bursty --to 10s",
    "compare-some": "compare video-monitoring --trace steady --to 8s --split 0.3 "
    "--planners certified,inferline,half_slo",
    "compare-fifo": "compare image-processing --trace bursty --to 8s --planners certified,coarse_mean,coarse_peak "
    "--discipline fifo --seed 4 --slo 200ms --quantile 0.9",
    "compare-infeasible": "compare cascade --trace steady --to 6s --slo 10ms --planners certified,inferline,half_slo",
    "compare-faults": "compare cascade --trace steady --planners certified,best --split 2 --discipline lifo "
    "--quantile 0 --seed -1 --time-limit 3 --plot a.txt --slo 5",
    # fragility
    "fragility": "fragility cascade.json --trace steady --to 20s --engine numpy",
    "fragility-video": "fragility video.json --trace bursty --to 10s --discipline fifo --seed 3 --engine numpy "
    "--out fragility.json",
    "fragility-missed": "fragility cascade.json --trace bursty --to 10s --engine numpy",
    "fragility-plot": "fragility cascade.json --trace counts.csv --expand uniform --engine numpy "
    "--plot fragility.svg",
    "fragility-no-plan": "fragility infeasible.json --trace steady --to 5s",
    "fragility-faults": "fragility nowhere.json --trace nowhere.csv --discipline lifo --engine cython --seed -1 "
    "--plot a.txt --out nowhere/a.json",
    # tune
    "tune": "tune cascade.json --trace bursty --to 20s --sample steady",
    "tune-all": "tune cascade.json --trace bursty --to 25s "
    "--policy lp,lp-lean,inferline,hpa,ray,ray-tuned,static,oracle",
    "tune-image": "tune image.json --trace bursty --from 10s --to 30s --policy lp,static --split 0.3 --period 2s "
    "--activation-delay 3s --out tune.json",
    "tune-fifo": "tune cascade.json --trace counts.csv --expand poisson --policy lp-lean,hpa,static "
    "--discipline fifo --engine numpy --seed 2",
    "tune-faults": "tune cascade.json --trace steady --policy lp,best --sample nowhere.csv --split 0.5 --period 1 "
    "--activation-delay 0 --discipline lifo --plot a.txt",
    "tune-period": "tune cascade.json --trace steady --to 5s --period 0s",
    # fleet
    "fleet": "fleet fleet.yaml --out plans",
    "fleet-limits": "fleet fleet.yaml --limit t4=2 --limit v100=2 --method joint",
    "fleet-columns": "fleet fleet.yaml --method columns --jobs 1 --gap 0",
    "fleet-infeasible": "fleet fleet.yaml --budget 9",
    "fleet-one-infeasible": "fleet hopeless.yaml",
    "fleet-faults": "fleet broken-fleet.yaml --limit t4 --gap 2 --method best --budget -3 --time-limit 1 --plot a.txt",
    "fleet-broken": "fleet broken-fleet.yaml",
    # export
    "export-triton": "export cascade.json --to triton --out repository",
    "export-triton-emulated": "export image.json --to triton -o repository --emulate",
    "export-ray": "export video.json --to ray --out application --emulate",
    "export-mosec": "export image.json --to mosec --out service",
    "export-kserve": "export cascade.json --to kserve --out manifests --cpu t4",
    "export-keda": "export video.json --to keda --out manifests",
    "export-refused": "export video.json --to mosec --out service",
    "export-faults": "export nowhere.json --to tritn --out nowhere/here",
    "export-no-plan": "export infeasible.json --to triton --out repository",
    "export-full": "export cascade.json --to triton --out profiles --force",
    # profiles, solvers
    "profiles": "profiles",
    "profiles-check": "profiles --check",
    "profiles-small": "profiles --profiles small",
    "profiles-small-check": "profiles --profiles odd --check",
    "profiles-nowhere": "profiles --profiles nowhere",
    "profiles-import": "profiles import perf.csv --model net --hardware t4 --out imported",
    "profiles-import-refused": "profiles import loaded.csv --model net --hardware t4 --out imported",
    "profiles-import-faults": "profiles import perf.csv nowhere.csv counts.csv --format auto --batch 3 --out imported",
    "profiles-prices": "profiles prices list.csv --region us-east-1 --hardware t4=g4dn.xlarge --hardware "
    "a100=p4d.24xlarge/8 --out priced/hardware.yaml",
    "profiles-prices-faults": "profiles prices list.csv --region us-east1 --out priced/hardware.yaml",
    "solvers": "solvers",
}

#: What the parser of the command line says: its wording depends on the version of typer and what it builds on.
USAGE: dict[str, str] = {
    "help": "--help",
    "version": "--version",
    "nothing": "",
    "help-plan": "plan --help",
    "help-replay": "replay --help",
    "help-compare": "compare --help",
    "help-fragility": "fragility --help",
    "help-tune": "tune --help",
    "help-fleet": "fleet --help",
    "help-verify": "verify --help",
    "help-export": "export --help",
    "help-profiles": "profiles --help",
    "help-profiles-import": "profiles import --help",
    "help-profiles-prices": "profiles prices --help",
    "help-solvers": "solvers --help",
    "unknown-command": "paln cascade",
    "unknown-flag": "plan cascade --trace steady --colour",
    "missing-trace": "plan cascade",
    "no-number": "plan cascade --trace steady --quantile p99",
}
