"""The ONNX models: out of wheels on PyPI, checked by their hashes, or made here; never committed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.models import resnets

#: Beside the other things that are built.
FOLDER = Path(__file__).resolve().parents[2] / "build" / "models"


class Source(NamedTuple):
    """Where a model is from, and what it must be."""

    requirement: str
    member: str  # Path in the wheel.
    sha256: str


SOURCES = {
    "ppocr-detect": Source(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "ppocr-classify": Source(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    "ppocr-recognise": Source(
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    "silero-vad": Source(
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    ),
}


#: Speaks the samples of `benchmarks.models.voice`: eSpeak NG, a shared library with its data.
SPEAKER = Source(
    "espeakng-loader==0.2.4",
    "espeakng_loader/libespeak-ng.so.1",
    "b15ce0803b26254e8a0d088c6b9281a2637b2b02613147cc320cfdefaf2c3ccf",
)


def path_of(name: str) -> Path:
    """The file of a model; ends with a hint where it has not been fetched."""
    path = FOLDER / f"{name}.onnx"
    if not path.exists():
        raise SystemExit(f"{path} is not there: python -m benchmarks.models fetch")
    return path


def fetch() -> None:
    """Download the wheels of models that are not there, without what they depend on; make the others."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    missing = {name: source for name, source in SOURCES.items() if not (FOLDER / f"{name}.onnx").exists()}
    for requirement in dict.fromkeys(source.requirement for source in missing.values()):
        with _wheel(requirement) as archive:
            for name, source in missing.items():
                if source.requirement == requirement:
                    path = FOLDER / f"{name}.onnx"
                    path.write_bytes(_checked(source, archive))
                    print(path)
    if not (FOLDER / SPEAKER.member).exists():
        with _wheel(SPEAKER.requirement) as archive:
            _checked(SPEAKER, archive)
            archive.extractall(FOLDER)
        print(FOLDER / SPEAKER.member)
    for depth in resnets.DEPTHS:
        path = FOLDER / f"resnet-{depth}.onnx"
        if not path.exists():
            resnets.write(depth, path)
            print(path)


@contextmanager
def _wheel(requirement: str) -> Iterator[zipfile.ZipFile]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--only-binary=:all:", "--dest", folder, requirement], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            yield archive


def _checked(source: Source, archive: zipfile.ZipFile) -> bytes:
    content = archive.read(source.member)
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise SystemExit(f"{source.member} of {source.requirement} is another file: {found}")
    return content
