"""Voice activity with Silero: recordings, where somebody speaks in them, and what is cut out for a recogniser."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.models.fetch import FOLDER, SPEAKER, path_of

Sound = NDArray[np.float32]

#: Recordings of ten seconds at 16 kHz, looked at 512 samples (32 ms) at a time, each with 64 samples before it.
RATE, SECONDS, WINDOW, CONTEXT = 16_000, 10, 512, 64
#: Silero's rule: speech begins above the first probability and ends below the second; shorter speech, and shorter
#: silence within it, does not count; a segment is cut at seven seconds, as long as the recogniser is profiled for.
_BEGINS, _ENDS, _LEAST_SPEECH_S, _LEAST_SILENCE_S, _LONGEST_S = 0.5, 0.35, 0.25, 0.1, 7.0
#: One recording in so many holds no speech. Somebody else speaks between two sentences: pauses of a median of 1.5 s.
_SILENT, _PAUSE_S, _PAUSE_SIGMA = 6, 1.5, 0.8
_SPEAKS_SYNCHRONOUSLY = 2

_SENTENCES = (
    "I would like to change the address of my order.",
    "Could you tell me when it will arrive?",
    "Yes, that is right.",
    "No.",
    "The number is four, seven, one, nine.",
    "I have been waiting since Monday, and nobody has called me back.",
    "Thank you very much, goodbye.",
    "Let me see if I can find the invoice.",
    "It stopped working after the last update, and now the screen stays dark.",
)


@cache
def _speaker() -> tuple[Any, int]:
    """ESpeak NG, and its sampling rate."""
    library = ctypes.CDLL(str(FOLDER / SPEAKER.member))
    data = (FOLDER / SPEAKER.member).parent
    return library, library.espeak_Initialize(_SPEAKS_SYNCHRONOUSLY, 0, str(data).encode(), 0)


@cache
def _spoken(sentence: str, speed: int, pitch: int) -> Sound:
    from scipy.signal import resample_poly

    library, rate = _speaker()
    pieces: list[NDArray[np.int16]] = []
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    @kind
    def heard(samples: Any, count: int, _events: Any) -> int:
        if samples and count:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(heard)
    library.espeak_SetParameter(1, speed, 0)  # words per minute
    library.espeak_SetParameter(3, pitch, 0)
    text = sentence.encode()
    library.espeak_Synth(text, len(text) + 1, 0, 1, 0, 1, None, None)
    sound: Sound = (np.concatenate(pieces) / 32_768.0).astype(np.float32)
    resampled: Sound = resample_poly(sound, RATE // 50, rate // 50).astype(np.float32)
    return resampled


def recordings(number: int, seed: int = 23) -> list[Sound]:
    """Make recordings of one side of a telephone call: sentences, pauses, noise."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        sound = random.normal(0.0, 0.003, RATE * SECONDS).astype(np.float32)
        speed, pitch = int(random.integers(14, 21)) * 10, int(random.integers(3, 8)) * 10
        at = 0.0 if random.random() < 0.4 else float(random.lognormal(np.log(_PAUSE_S), _PAUSE_SIGMA))
        is_silent = not random.integers(_SILENT)
        while at < SECONDS and not is_silent:
            said = _spoken(_SENTENCES[random.integers(len(_SENTENCES))], speed, pitch)
            begin = round(at * RATE)
            piece = said[: max(0, sound.size - begin)]
            sound[begin : begin + piece.size] += 0.4 * piece
            at += said.size / RATE + float(random.lognormal(np.log(_PAUSE_S), _PAUSE_SIGMA))
        made.append(sound)
    return made


@cache
def _session() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(path_of("silero-vad")), options, providers=["CPUExecutionProvider"]
    )


def detect(sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of speech in each window of recordings, shape (recordings, windows): window after window."""
    batch, length = sounds.shape
    windows = -(-length // WINDOW)
    padded = np.zeros((batch, CONTEXT + windows * WINDOW), np.float32)
    padded[:, CONTEXT : CONTEXT + length] = sounds
    state, rate = np.zeros((2, batch, 128), np.float32), np.array(RATE, np.int64)
    found = np.empty((batch, windows), np.float32)
    for number in range(windows):
        part = padded[:, number * WINDOW : number * WINDOW + CONTEXT + WINDOW]
        output, state = _session().run(None, {"input": part, "state": state, "sr": rate})
        found[:, number] = output[:, 0]
    return found


def segments(probability: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Seconds from which and to which somebody speaks."""
    window_s, found, begin, quiet = WINDOW / RATE, [], -1.0, -1.0
    for number, value in enumerate(np.append(probability, 0.0)):
        now = number * window_s
        if begin < 0:
            begin, quiet = (now, -1.0) if value >= _BEGINS else (-1.0, -1.0)
            continue
        quiet = now if value < _ENDS and quiet < 0 else quiet
        quiet = -1.0 if value >= _BEGINS else quiet
        is_last = number == probability.size
        if (0 <= quiet <= now - _LEAST_SILENCE_S) or is_last or now - begin >= _LONGEST_S:
            end = quiet if quiet >= 0 else now
            if end - begin >= _LEAST_SPEECH_S:
                found.append((begin, end))
            begin = quiet = -1.0
    return found


def windows(batch: int) -> dict[str, NDArray[Any]]:
    """A window of as many recordings, with the state after a second: what the model takes."""
    sounds = _repeated(batch)
    state = np.zeros((2, batch, 128), np.float32)
    rate = np.array(RATE, np.int64)
    for number in range(31):
        part = sounds[:, number * WINDOW : number * WINDOW + CONTEXT + WINDOW]
        _, state = _session().run(None, {"input": part, "state": state, "sr": rate})
    return {"input": part, "state": state, "sr": rate}


@cache
def _sounds() -> list[Sound]:
    return recordings(16)


def _repeated(batch: int) -> NDArray[np.float32]:
    return np.stack([_sounds()[number % len(_sounds())] for number in range(batch)])


def sounds(batch: int) -> NDArray[np.float32]:
    """Recordings."""
    return _repeated(batch)


def step(stage: str, token: Any) -> Mapping[str, Sequence[Any]]:
    """Do a stage's work on one token; see ``profiles/pipelines/voice.yaml``."""
    if stage == "vad":
        spoken = segments(detect(token[np.newaxis])[0])
        return {"transcribe": [token[round(a * RATE) : round(b * RATE)] for a, b in spoken]}
    if stage == "transcribe":  # Its text plays no part in what comes of it.
        return {"answer": [len(token) / RATE]}
    return {}
