"""Optical character recognition with PP-OCR: pages, and the work of each stage on them.

The stages are those of RapidOCR: find text on a page, cut out the lines, turn those that are upside down, read them.
Lines of the pages are level, so boxes are upright rectangles and need no library for geometry.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.models.fetch import path_of

Pixels = NDArray[np.uint8]
Tensor = NDArray[np.float32]

#: Pages of 480 by 640 pixels, as photographs of receipts, slides and labels are scaled down to.
WIDTH, HEIGHT = 480, 640
#: Lines are scaled to this height; longer ones than `LINE_WIDTH` are squeezed.
LINE_HEIGHT, LINE_WIDTH, TURN_WIDTH = 48, 320, 192
#: A page has up to this many lines, in text of this many pixels.
MOST_LINES, SMALLEST, LARGEST = 14, 16, 30
#: RapidOCR's thresholds: of a pixel, of a box, of a reading; and how much larger than its core a box is.
_PIXEL, _BOX, _READING, _UNCLIP = 0.3, 0.5, 0.5, 1.6
#: Of a line that is upside down to be turned.
TURNED = 0.9
#: One page in so many is scanned upside down.
_UPSIDE_DOWN = 10

_WORDS = (
    "total order batch queue latency price replica model token stage trace plan sample window budget rate server "
    "objective invoice amount date number street city name receipt table item tax cash card change thank you"
)


def pages(number: int, seed: int = 17) -> list[bytes]:
    """Make pages of text as PNG files: some empty, most of a few lines, some full."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    random = np.random.default_rng(seed)
    known, fonts = _WORDS.split(), Path(get_data_path()) / "fonts" / "ttf"
    made = []
    for _ in range(number):
        shade = int(random.integers(225, 256))
        page = Image.new("L", (WIDTH, HEIGHT), shade)
        draw, top = ImageDraw.Draw(page), 20
        for _ in range(int(random.binomial(MOST_LINES, random.beta(2, 3)))):
            size = int(random.integers(SMALLEST, LARGEST + 1))
            face = random.choice(["DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf"])
            font = ImageFont.truetype(str(fonts / face), size)
            words = random.choice(known, int(random.integers(1, 4)))
            text = (
                f"{' '.join(words)} {random.integers(0, 1000)}" if random.random() < 0.5 else " ".join(words)
            )
            draw.text((int(random.integers(10, 60)), top), text, fill=int(random.integers(0, 80)), font=font)
            top += round(size * 1.9)
            if top > HEIGHT - 50:
                break
        if not random.integers(_UPSIDE_DOWN):
            page = page.rotate(180)
        noisy = np.asarray(page, np.float64) + random.normal(0.0, 3.0, (HEIGHT, WIDTH))
        stream = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(stream, format="PNG")
        made.append(stream.getvalue())
    return made


# --- the work of the stages, on a batch ------------------------------------------------------------------------------


def decode(files: Sequence[bytes]) -> Tensor:
    """Read pages, and make of them what the detector takes."""
    from PIL import Image

    read = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.float32) for file in files]
    return np.stack([_normalised(page) for page in read])


def crop(found: Sequence[tuple[Tensor, Tensor]]) -> list[list[Tensor]]:
    """Cut the lines out of pages, given with the detector's map of text; each line as the recogniser takes it."""
    return [[_line(page, box) for box in boxes_in(text_map)] for page, text_map in found]


def read_text(readings: Sequence[Tensor]) -> list[str]:
    """Make text of what the recogniser says of lines: the likeliest sign at each place, without repeats and blanks."""
    signs = _signs()
    texts = []
    for reading in readings:
        likeliest = reading.argmax(axis=1)
        kept = (likeliest != 0) & np.insert(likeliest[1:] != likeliest[:-1], 0, True)
        scores = reading[np.arange(likeliest.size), likeliest][kept]
        is_sure = scores.size and scores.mean() >= _READING
        texts.append("".join(signs[sign] for sign in likeliest[kept]) if is_sure else "")
    return texts


def boxes_in(text_map: Tensor) -> list[tuple[int, int, int, int]]:
    """Rectangles (top, bottom, left, right) around connected pixels of text, as large as RapidOCR makes them."""
    from scipy import ndimage

    mask = ndimage.binary_dilation(text_map > _PIXEL, np.ones((2, 2)))
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    boxes = []
    for rows, columns in ndimage.find_objects(labels):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if min(height, width) < 3 or text_map[rows, columns].mean() < _BOX:
            continue
        grown = round(height * width * _UNCLIP / (2 * (height + width)))
        top, left = max(0, rows.start - grown), max(0, columns.start - grown)
        boxes.append((top, min(HEIGHT, rows.stop + grown), left, min(WIDTH, columns.stop + grown)))
    return boxes


def _normalised(pixels: NDArray[np.float32]) -> Tensor:
    scaled: Tensor = (pixels / 127.5 - 1.0).transpose(2, 0, 1)
    return scaled


def _line(page: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Cut out a line and scale it to the recogniser's height, with grey to its right."""
    from scipy import ndimage

    top, bottom, left, right = box
    cut = page[:, top:bottom, left:right]
    width = min(LINE_WIDTH, max(1, round(LINE_HEIGHT * cut.shape[2] / cut.shape[1])))
    rows = np.linspace(0, cut.shape[1] - 1, LINE_HEIGHT)
    columns = np.linspace(0, cut.shape[2] - 1, width)
    grid = np.meshgrid(rows, columns, indexing="ij")
    line = np.zeros((3, LINE_HEIGHT, LINE_WIDTH), np.float32)
    line[:, :, :width] = ndimage.map_coordinates(cut[0], grid, order=1)
    return line


@cache
def session(name: str) -> Any:
    """Return a model, loaded once; it runs on one processor core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path_of(name)), options, providers=["CPUExecutionProvider"])


@cache
def _signs() -> list[str]:
    listed = session("ppocr-recognise").get_modelmeta().custom_metadata_map["character"].splitlines()
    return ["", *listed, " "]


# --- inputs of measurements, real ones: a batch of each --------------------------------------------------------------


@cache
def _samples() -> tuple[list[bytes], Tensor, list[tuple[Tensor, Tensor]], list[Tensor]]:
    """Pages, their tensors, those with their maps of text, and all their lines."""
    files = [page for page in pages(24) if len(page)]
    tensors = decode(files)
    found = [(page, run_model("ppocr-detect", page[np.newaxis])[0, 0]) for page in tensors]
    return files, tensors, found, [line for lines in crop(found) for line in lines]


def run_model(name: str, batch: Tensor) -> Tensor:
    """Run a model on one processor core, and return its first output."""
    outputs: Tensor = session(name).run(None, {"x": batch})[0]
    return outputs


def _repeated(items: Sequence[Any], batch: int) -> list[Any]:
    return [items[number % len(items)] for number in range(batch)]


def page_files(batch: int) -> list[bytes]:
    """Pages as files."""
    return _repeated(_samples()[0], batch)


def page_tensors(batch: int) -> dict[str, Tensor]:
    """Pages as the detector takes them."""
    return {"x": np.stack(_repeated(_samples()[1], batch))}


def page_maps(batch: int) -> list[tuple[Tensor, Tensor]]:
    """Pages with their maps of text."""
    return _repeated(_samples()[2], batch)


def turn_tensors(batch: int) -> dict[str, Tensor]:
    """Lines as the classifier takes them."""
    return {"x": np.stack(_repeated(_samples()[3], batch))[:, :, :, :TURN_WIDTH].copy()}


def line_tensors(batch: int) -> dict[str, Tensor]:
    """Lines as the recogniser takes them."""
    return {"x": np.stack(_repeated(_samples()[3], batch))}


def readings(batch: int) -> list[Tensor]:
    """What the recogniser says of lines."""
    return _repeated(list(run_model("ppocr-recognise", np.stack(_samples()[3][:16]))), batch)


# --- one token after the other, for the scale factors ----------------------------------------------------------------


def step(stage: str, token: Any) -> Mapping[str, Sequence[Any]]:
    """Do a stage's work on one token; see ``profiles/pipelines/ocr.yaml``."""
    if stage == "decode":
        return {"detect": list(decode([token]))}
    if stage == "detect":
        return {"crop": [(token, run_model("ppocr-detect", token[np.newaxis])[0, 0])]}
    if stage == "crop":
        return {"classify": crop([token])[0]}
    if stage == "classify":
        is_turned = run_model("ppocr-classify", token[np.newaxis, :, :, :TURN_WIDTH])[0, 1] > TURNED
        return {"recognise": [token[:, ::-1, ::-1].copy() if is_turned else token]}
    if stage == "recognise":
        return {"read": [run_model("ppocr-recognise", token[np.newaxis])[0]]}
    return {}
