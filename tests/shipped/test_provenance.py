"""Every shipped figure must be traceable: a source in each row, the same digits in the collected original."""

from __future__ import annotations

import csv
import gzip
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml

from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.profiling import read_samples

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "profiles"
SHARED = ROOT.parent / "shared" / "data"
REPOSITORY = "NVIDIA/DeepLearningExamples/"
#: Single figures of IPA's variants are quoted from its notebooks.
IPA = "reconfigurable-ml-pipeline/ipa/experiments/profiling/single-node/notebooks/"
MOST_ROWS = 420

#: The chip as the collected table names it, and its memory: both must match, for they set the latency.
CHIPS = {
    "t4": ("T4", 16),
    "v100": ("V100", 16),
    "v100_32gb": ("V100", 32),
    "a100": ("A100", 40),
    "a100_80gb": ("A100", 80),
}
#: What we measured on, and what published tables of others than NVIDIA are of.
OUR_HARDWARE, OTHER_HARDWARE = ("epyc_core",), ("inf2", "rtx4090", "tpu_v5e_4")
STATISTICS = ("mean latency", "median latency", "1000 x batch / throughput")
PIPELINES = sorted((SHIPPED / "pipelines").glob("*.yaml"))
TRACES = {"bursty": (2020, 17_336, 4.0), "steady": (2021, 17_924, 1.0)}

needs_shared_data = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the public data sets are not beside the checkout"),
]


class Row(NamedTuple):
    file: str
    model: str
    hardware: str
    batch: int
    latency_ms: float
    latency_p99_ms: float | None
    source: str

    @property
    def is_assumed(self) -> bool:
        return self.source.startswith("assumption:")

    @property
    def is_ours(self) -> bool:
        return self.source.startswith("measured with mipplan")

    @property
    def is_imported(self) -> bool:
        """Whether `mipplan profiles import` wrote it, or it is from a page that has no file to import."""
        return " sha256:" in self.source or self.source.startswith("huggingface/blog ")

    @property
    def is_ipa(self) -> bool:
        return self.source.startswith(IPA)


class Source(NamedTuple):
    """A `source` cell taken apart: document | heading | note | row | statistic."""

    document: str
    heading: str
    note: str
    row: dict[str, str]
    statistic: str


def _read_rows() -> list[Row]:
    rows = []
    for path in sorted((SHIPPED / "models").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for cells in csv.DictReader(file):
                p99 = cells.get("latency_p99_ms")
                rows.append(
                    Row(
                        path.stem,
                        cells["model"],
                        cells["hardware"],
                        int(cells["batch"]),
                        float(cells["latency_ms"]),
                        float(p99) if p99 else None,
                        cells["source"],
                    )
                )
    return rows


ROWS = _read_rows()
OURS = [row for row in ROWS if row.is_ours]
IMPORTED = [row for row in ROWS if row.is_imported]
#: From IPA's notebooks.
QUOTED = [row for row in ROWS if row.is_ipa]
#: Quoted from NVIDIA's tables.
MEASURED = [row for row in ROWS if not (row.is_assumed or row.is_ours or row.is_imported or row.is_ipa)]


def _take_apart(source: str) -> Source:
    parts = source.split(" | ")
    document, heading, *notes, row, statistic = parts
    assert document.startswith(REPOSITORY)
    fields = dict(field.split("=", 1) for field in row.split(", "))
    return Source(document.removeprefix(REPOSITORY), heading, " | ".join(notes), fields, statistic)


def _read_hardware() -> dict[str, dict[str, Any]]:
    document = yaml.safe_load((SHIPPED / "hardware.yaml").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


@cache
def _collected() -> pd.DataFrame:
    table = pd.read_csv(SHARED / "profiles" / "nvidia_dle_inference.csv.gz")
    for column in ("heading", "note"):
        table[column] = table[column].fillna("").str.replace(r"\s+", " ", regex=True).str.strip()
    for column in ("model", "precision", "backend", "input", "scenario"):
        table[column] = table[column].fillna("")
    return table


def _table_of(row: Row) -> pd.DataFrame:
    """Return the published rows of this model on this device, over all batch sizes."""
    table = _collected()
    source = _take_apart(row.source)
    chip, memory_gb = CHIPS[row.hardware]
    wanted = {"hardware": chip, "gpu_memory_gb": memory_gb, "n_gpus": 1, "source_file": source.document}
    wanted |= {"heading": source.heading, "note": source.note}
    wanted |= {key: source.row.get(key, "") for key in ("model", "precision", "backend", "input", "scenario")}
    chosen = pd.Series(True, index=table.index)
    for column, value in wanted.items():
        chosen &= table[column] == value
    return table[chosen]


def _tables() -> dict[tuple[str, str], list[Row]]:
    tables = defaultdict(list)
    for row in ROWS:
        tables[row.model, row.hardware].append(row)
    return tables


def test_size_is_what_may_be_quoted() -> None:
    assert 250 <= len(ROWS) <= MOST_ROWS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.model}-{row.hardware}-{row.batch}")
def test_row_names_its_source(row: Row) -> None:
    assert row.model == row.file
    if row.is_assumed:
        assert row.hardware == "cpu"
        assert "not a measurement" in row.source
        return
    if row.is_ipa:
        assert row.hardware == "cpu"
        return
    if row.is_ours or row.is_imported:
        assert row.hardware in (OUR_HARDWARE if row.is_ours else OTHER_HARDWARE)
        return
    source = _take_apart(row.source)
    assert source.document.endswith("README.md")
    assert source.heading
    assert set(source.row) <= {"model", "precision", "backend", "input", "scenario"}
    assert source.statistic in STATISTICS
    assert row.hardware in CHIPS
    assert row.latency_p99_ms is None or row.latency_p99_ms >= row.latency_ms


def test_one_table_per_model_and_device() -> None:
    for key, rows in _tables().items():
        # A row of ours says how well it is known, and an imported one on which line it stands.
        if not (rows[0].is_ours or rows[0].is_imported):
            assert len({row.source for row in rows}) == 1, key
        batches = [row.batch for row in rows]
        assert batches == sorted(set(batches)), key
        assert batches[0] == 1 or rows[0].is_imported, key


def test_devices_of_one_model_share_document_and_statistic() -> None:
    kinds = defaultdict(set)
    for row in MEASURED:
        source = _take_apart(row.source)
        # GNMT's tables name their precision differently; everything else must agree.
        precision = "" if row.model == "gnmt" else source.row["precision"]
        details = (precision, source.row.get("backend"), source.row.get("input"), source.row["scenario"])
        kinds[row.model].add((source.document, source.statistic, details))
    assert {model: len(kind) for model, kind in kinds.items()} == dict.fromkeys(kinds, 1)


def test_readme_counts_are_true() -> None:
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert f"{len(MEASURED)} of the {len(ROWS)} rows" in text
    assumed, others = sum(row.is_assumed for row in ROWS), len(IMPORTED) + len(QUOTED)
    counts = (
        f"{len(OURS)} are measurements of ours, {others} are quoted from others, {assumed} are assumptions"
    )
    assert counts in " ".join(text.split())
    for name in {row.model for row in ROWS}:
        assert name in text or name.removeprefix("bert-base").removeprefix("bert-large") in text, name
    for name, fields in _read_hardware().items():
        assert f"| `{name}` | {fields['usd_per_hour']} |" in text


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row.model}-{row.hardware}-{row.batch}")
class TestNvidiaFigures:
    pytestmark = needs_shared_data

    def test_same_figure_in_the_original(self, row: Row) -> None:
        table = _table_of(row)
        published = table[table["batch_size"] == row.batch]
        assert len(published) == 1
        figures = published.iloc[0]
        expected = {
            "mean latency": figures["latency_avg_ms"],
            "median latency": figures["latency_p50_ms"],
            "1000 x batch / throughput": round(1000 * row.batch / figures["throughput_per_s"], 3),
        }[_take_apart(row.source).statistic]
        assert row.latency_ms == expected
        if row.latency_p99_ms is not None:
            assert row.latency_p99_ms == figures["latency_p99_ms"]


class TestImportedFigures:
    pytestmark = needs_shared_data

    def test_same_figure_on_the_line_that_the_source_names(self) -> None:
        names = {"aws_neuron_inference.csv": "latency_p50_ms", "timm_inference.csv": "step_ms"}
        for row in IMPORTED:
            match = re.match(r"(?P<file>[\w.]+):(?P<line>\d+) sha256:", row.source)
            if match is None:
                assert row.hardware == "tpu_v5e_4"
                continue
            path = SHARED / "profiles" / match["file"]
            packed = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
            lines = packed.decode().splitlines()
            cells = dict(zip(*csv.reader([lines[0], lines[int(match["line"]) - 1]]), strict=True))
            assert cells["model"] == row.model.replace("-", "")
            assert float(cells[names[match["file"]]]) == row.latency_ms
            assert int(cells["batch_size"]) == row.batch

    def test_prices_of_others(self) -> None:
        hardware = _read_hardware()
        offers = pd.read_csv(SHARED / "prices" / "other_clouds_gpu_prices.csv")
        offer = offers[(offers["accelerator"] == "RTX4090") & (offers["instance_or_tier"] == "secure")].iloc[
            0
        ]
        assert hardware["rtx4090"]["usd_per_hour"] == offer["on_demand_usd_per_hour"]
        assert hardware["rtx4090"]["memory_gib"] == offer["accelerator_memory_gb"]


def test_price_of_the_tpu_follows_from_both_rows_that_were_published_with_it() -> None:
    """Performance per dollar is in images per minute and dollars per hour, as its figures show."""
    published = {4: 21.46, 8: 20.04}
    rows = [row for row in IMPORTED if row.hardware == "tpu_v5e_4"]
    assert {row.batch for row in rows} == set(published)
    for row in rows:
        price = 60 * row.batch / (row.latency_ms / 1e3) / published[row.batch]
        assert price == pytest.approx(_read_hardware()["tpu_v5e_4"]["usd_per_hour"], rel=1e-3)


def test_our_figures_are_those_of_the_record() -> None:
    samples = read_samples(ROOT / "benchmarks" / "results" / "models" / "shipped")
    assert {(row.model, row.hardware) for row in OURS} == set(samples)
    for row in OURS:
        found = samples[row.model, row.hardware][row.batch]
        assert (
            row.latency_ms == row.latency_p99_ms == pytest.approx(np.quantile(found, 0.99, method="higher"))
        )
        assert f"the P99 of {found.size} runs" in row.source


#: What the last part of a source, before the accuracy, calls the columns of the collected table.
IPA_COLUMNS = {
    "least latency": "latency_min_ms",
    "mean latency": "latency_avg_ms",
    "P99 latency": "latency_p99_ms",
}
#: Notebooks whose tables were not collected: their figures were read from the notebooks themselves.
NOT_COLLECTED = ("series-97-sum.ipynb", "series-99-trans.ipynb")
#: Names of IPA's models that are not ours.
IPA_NAMES = {
    "s2t-small": "facebook-s2t-small-librispeech-asr",
    "s2t-medium": "facebook-s2t-medium-librispeech-asr",
    "s2t-large": "facebook-s2t-large-librispeech-asr",
    "xlm-roberta-language": "dinalzein-xlm-roberta-base-finetuned-language-identification",
    "roberta-qa": "deepset-roberta-base-squad2",
    "xlm-roberta-qa": "deepset-xlm-roberta-base-squad2",
    "distilbert-sst2": "distilbert-base-uncased-finetuned-sst-2-english",
    "bert-sentiment": "Souvikcmsa-BERT_sentiment_analysis",
    "distilbert-sentiment": "Souvikcmsa-SentimentAnalysisDistillBERT",
    "roberta-sentiment": "Souvikcmsa-Roberta_Sentiment_Analysis",
    "opus-mt": "Helsinki-NLP-opus-mt-fr-en",
    "opus-mt-big": "Helsinki-NLP-opus-mt-tc-big-fr-en",
    "resnet50-tv": "resnet50",
    **{
        f"distilbart-{k}": f"sshleifer-distilbart-xsum-{k}"
        for k in ("1-1", "12-1", "6-6", "12-3", "9-6", "12-6")
    },
}
IPA_PIPELINES = ("video", "audio-qa", "audio-sent", "sum-qa", "nlp")


class TestIpaFigures:
    pytestmark = needs_shared_data

    @pytest.mark.parametrize(
        "row",
        [row for row in QUOTED if not any(name in row.source for name in NOT_COLLECTED)],
        ids=lambda row: f"{row.model}-{row.batch}",
    )
    def test_same_figure_in_the_original(self, row: Row) -> None:
        table = pd.read_csv(SHARED / "profiles" / "ipa_cpu_profiles.csv")
        notebook, _, setting, what = row.source.removeprefix(IPA).split(" | ")
        fields = dict(field.split("=") for field in setting.split(", "))
        chosen = table[table["model"] == IPA_NAMES.get(row.model, row.model)]
        chosen = chosen[(chosen["source_notebook"] == notebook) & (chosen["batch_size"] == row.batch)]
        for column, value in fields.items():
            chosen = chosen[chosen[column] == int(value)]
        assert fields["cpu_cores"] == "2"
        assert chosen[IPA_COLUMNS[what.split(";")[0]]].tolist() == [row.latency_ms]

    def test_same_accuracy_in_the_original(self) -> None:
        table, profiles = (
            pd.read_csv(SHARED / "profiles" / "ipa_pipelines_accuracy.csv"),
            Profiles.read(SHIPPED),
        )
        for name in IPA_PIPELINES:
            own = table[table["pipeline"] == name]
            percent = dict(zip(own["model_variant"], own["accuracy_metric"], strict=True))
            pipeline = Pipeline.read(SHIPPED / "pipelines" / f"{name}.yaml")
            shipped = [model for stage in pipeline.stages.values() for model in stage.models]
            assert {IPA_NAMES.get(model, model) for model in shipped} == set(percent)
            for model in shipped:
                known = percent[IPA_NAMES.get(model, model)]
                # Errors of speech recognition are negative: 1 less the error is what IPA's notebooks count, too.
                expected = (known if known > 0 else 100 + known) / 100
                assert profiles.tables[model, "cpu"].accuracy_at(1) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", IPA_PIPELINES)
def test_objectives_are_by_the_rule_of_ipa(name: str) -> None:
    """Five times a query's time at each stage, on average over its variants; of `video` it was rounded to 1.5 s."""
    pipeline, profiles = Pipeline.read(SHIPPED / "pipelines" / f"{name}.yaml"), Profiles.read(SHIPPED)
    means_ms = [
        np.mean([profiles.tables[model, "cpu"].latency_ms[0] for model in stage.models])
        for stage in pipeline.stages.values()
    ]
    assert pipeline.slo_s == pytest.approx(5e-3 * sum(means_ms), abs=0.08 if name == "video" else 0.005)


class TestNvidiaTables:
    pytestmark = needs_shared_data

    def test_no_batch_size_is_picked_out(self) -> None:
        # A table may stop early (README says where), but has no holes.
        for key, rows in _tables().items():
            if rows[0] not in MEASURED:
                continue
            published = {int(batch) for batch in _table_of(rows[0])["batch_size"]}
            largest = rows[-1].batch
            assert {row.batch for row in rows} == {batch for batch in published if batch <= largest}, key

    def test_p99_is_shipped_wherever_the_tables_have_it(self) -> None:
        for key, rows in _tables().items():
            if rows[0] in MEASURED and rows[0].latency_p99_ms is None:
                assert _table_of(rows[0])["latency_p99_ms"].isna().all(), key


@pytest.mark.parametrize("name", sorted(_read_hardware()))
class TestPrices:
    pytestmark = needs_shared_data

    def test_same_price_in_the_list(self, name: str) -> None:
        fields = _read_hardware()[name]
        if name in ("rtx4090", "tpu_v5e_4"):
            pytest.skip("not in the list of AWS: see TestOtherPrices")
        match = re.match(
            r"AWS (?P<instance>\S+) \((?P<count>\d+) (?P<what>x|vCPU)[^)]*\)(?P<share> / \d+)?",
            fields["source"],
        )
        assert match is not None
        prices = pd.read_csv(SHARED / "prices" / "aws_on_demand.csv.gz")
        offers = prices[(prices["instance"] == match["instance"]) & (prices["region"] == "us-east-1")]
        assert len(offers) == 1
        offer = offers.iloc[0]
        assert offer["suspect_dedicated_tenancy"] == 0
        if match["what"] == "vCPU":
            devices = int((match["share"] or " / 1").removeprefix(" / "))
            memory = offer["memory_gib"] / devices
            assert offer["vcpus"] == int(match["count"])
        else:
            devices, memory = int(match["count"]), offer["accelerator_memory_gb"]
            assert (offer["accelerator"], memory) == {**CHIPS, "inf2": ("Inferentia2", 32)}[name]
            assert offer["accelerator_count"] == (1 if match["share"] is None else devices)
        assert fields["usd_per_hour"] == pytest.approx(offer["on_demand_usd_per_hour"] / devices, rel=1e-12)
        assert fields["memory_gib"] == memory


class TestPower:
    pytestmark = needs_shared_data

    def test_same_thermal_design_power_in_the_tables(self) -> None:
        gpus = pd.read_csv(SHARED / "prices" / "gpu_specs_tdp.csv").set_index("accelerator")["tdp_w"]
        cpus = pd.read_csv(SHARED / "prices" / "cpu_tdp.csv").set_index("cpu_model")["tdp_w"]
        hardware = _read_hardware()
        known = {name: fields for name, fields in hardware.items() if "tdp_w" in fields}
        for name, fields in known.items():
            model = fields["power_source"].rpartition(": ")[2]
            per_vcpu = cpus["Intel Xeon Platinum 8124M"] / 36
            assert fields["tdp_w"] == (round(2 * per_vcpu, 3) if name == "cpu" else gpus[model]), name
        assert set(hardware) - set(known) == {"epyc_core", "inf2", "tpu_v5e_4"}


def test_every_device_has_a_source_and_a_profile() -> None:
    hardware = _read_hardware()
    assert all(fields["source"].strip() for fields in hardware.values())
    assert {row.hardware for row in ROWS} == set(hardware)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_pipeline_loads_and_its_models_have_profiles(path: Path) -> None:
    pipeline = Pipeline.read(path)
    assert pipeline.name == path.stem
    assert pipeline.slo_ns is not None
    models = {row.model for row in ROWS}
    assert {model for stage in pipeline.stages.values() for model in stage.models} <= models


def test_all_pipelines_are_there() -> None:
    assert {path.stem for path in PIPELINES} == {
        "audio-qa",
        "audio-question-answering",
        "audio-sent",
        "cascade",
        "image-processing",
        "nlp",
        "ocr",
        "social-media",
        "sum-qa",
        "video",
        "video-monitoring",
        "voice",
    }


def test_profiles_load_with_every_row() -> None:
    profiles = Profiles.read(SHIPPED)
    assert set(profiles.hardware) == set(_read_hardware())
    assert set(profiles.tables) == set(_tables())
    assert sum(len(table.batch) for table in profiles.tables.values()) == len(ROWS)


@pytest.mark.parametrize("name", sorted(TRACES))
def test_trace_follows_its_recipe(name: str) -> None:
    seed, arrivals, cv = TRACES[name]
    draw = np.random.Generator(np.random.PCG64(seed))
    gaps = draw.gamma(1 / 16, 16 / 150, 40_000) if name == "bursty" else draw.exponential(1 / 150, 40_000)
    times = np.cumsum(gaps)
    with gzip.open(SHIPPED / "traces" / f"{name}.csv.gz", "rt", encoding="utf-8") as file:
        assert file.readline() == "arrival_s\n"
        shipped = np.array([float(line) for line in file])
    assert len(shipped) == arrivals <= 30_000
    np.testing.assert_allclose(shipped, times[times < 120.0], rtol=0, atol=1.01e-6)
    shipped_gaps = np.diff(shipped)
    assert np.all(shipped_gaps >= 0)
    assert shipped_gaps.std() / shipped_gaps.mean() == pytest.approx(cv, rel=0.05)
