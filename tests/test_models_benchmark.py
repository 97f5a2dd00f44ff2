"""What the benchmark of models does without the models: boxes, segments, architectures, verdicts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.models import ocr, resnets, voice
from benchmarks.models.run import AGAIN, JOBS, SIZES
from benchmarks.models.summary import differences, flagged, summarise


def test_boxes_are_around_what_is_text_and_grow_as_their_cores_do() -> None:
    text_map = np.zeros((ocr.HEIGHT, ocr.WIDTH), np.float32)
    text_map[100:110, 50:150] = 0.9
    text_map[300:320, 200:400] = 0.8
    text_map[500:540, 10:60] = 0.4  # not sure enough
    text_map[600, 400] = 0.99  # too small
    grown = [round(h * w * 1.6 / (2 * (h + w))) for h, w in ((11, 101), (21, 201))]
    boxes = ocr.boxes_in(text_map)
    # The map is widened by a pixel upwards and to the left first.
    assert [box[0] for box in boxes] == [99 - grown[0], 299 - grown[1]]
    assert all(top < bottom and left < right for top, bottom, left, right in boxes)


def test_pages_are_drawn_by_their_seed_and_decoded_as_the_detector_takes_them() -> None:
    pytest.importorskip("PIL")
    first, again, other = ocr.pages(2), ocr.pages(2), ocr.pages(2, seed=18)
    assert first == again
    assert first != other
    assert all(io.BytesIO(page).read(4) == b"\x89PNG" for page in first)
    tensor = ocr.decode(first)
    assert tensor.shape == (2, 3, ocr.HEIGHT, ocr.WIDTH)
    assert -1 <= tensor.min() <= tensor.max() <= 1


def test_segments_follow_both_thresholds() -> None:
    window_s = voice.WINDOW / voice.RATE
    probability = np.zeros(300, np.float32)
    probability[10:60] = 0.9
    probability[30:32] = 0.1  # too short a silence to end it
    probability[40:50] = 0.4  # between the thresholds: goes on
    probability[100:103] = 0.9  # too short to be speech
    probability[200:] = 0.9  # until the end
    found = voice.segments(probability)
    assert np.array(found) == pytest.approx(np.array([[10, 60], [200, 300]]) * window_s)
    long = voice.segments(np.ones(313, np.float32))
    assert len(long) == 2
    assert all(end - begin <= 7.0 + window_s for begin, end in long)
    assert voice.segments(np.zeros(50, np.float32)) == []


@pytest.mark.parametrize(("depth", "millions", "gigamacs"), [(18, 11.69, 1.82), (50, 25.56, 4.11)])
def test_resnets_are_of_the_size_that_is_published(depth: int, millions: float, gigamacs: float) -> None:
    """As timm counts them, but for the parameters of batch normalisation, which is folded."""
    onnx = pytest.importorskip("onnx")
    model = resnets.build(depth)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    weights = {weight.name: list(weight.dims) for weight in model.graph.initializer}
    assert sum(np.prod(dims) for dims in weights.values()) / 1e6 == pytest.approx(millions, rel=0.005)
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in inferred.value_info
    }
    macs = 0.0
    for node in model.graph.node:
        if node.op_type == "Conv":
            macs += np.prod(weights[node.input[1]]) * np.prod(shapes[node.output[0]][2:])
        if node.op_type == "Gemm":
            macs += np.prod(weights[node.input[1]])
    assert macs / 1e9 == pytest.approx(gigamacs, rel=0.01)


def test_verdicts_are_those_of_the_rows(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "model": ["a", "b"],
            "batch": [1, 4],
            "first_runs": [100, 100],
            "first_p50_ms": [10.0, 10.0],
            "first_p99_ms": [20.0, 20.0],
            "second_runs": [100, 0],
            "second_p50_ms": [10.9, np.nan],
            "second_p99_ms": [15.0, np.nan],
        }
    )
    rows.to_csv(tmp_path / "repeated.csv", index=False)
    trials = pd.DataFrame({"load": ["none", "memory", "memory"], "runs": [50, 0, 50], "disturbed": [4, 0, 5]})
    trials.to_csv(tmp_path / "trials.csv", index=False)
    assert differences(rows)["p99"].tolist()[0] == pytest.approx(-0.25)
    assert flagged(trials).tolist() == [False, True, True]
    told = summarise(tmp_path)
    assert "P50 within 10%, every model and batch size | 1 of 2; worst a, batch 1: +9.0% | **missed**" in told
    assert (
        "P99 within 20%, every model and batch size | 0 of 2; worst a, batch 1: -25.0% | **missed**" in told
    )
    assert "≥ 95% of trials | 2 of 2 trials | kept" in told
    assert "≤ 5% of trials | 0 of 1 trials | kept" in told


def test_models_are_measured_twice_and_under_names_of_their_own() -> None:
    names = [job.name for job in (*JOBS, *SIZES)]
    assert len(set(names)) == len(names)
    assert {job.name for job in AGAIN} == {
        job.name for job in JOBS if job.name.startswith(("ppocr", "silero"))
    }
