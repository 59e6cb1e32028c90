"""Draw and sound a SYNTHETIC livestream of a seller, and know the truth about it.

    python examples/highlight/generate.py --out DIR

Nothing here was recorded from people: pictures are painted and voices are synthesised from a seeded random
generator, so the same seed gives the same stream. What is modelled on practice is what makes it hard: things
held up that are not for sale, faces on posters, backs of heads, hands before faces, music and murmurs under
the voice, dim light, motion blur and noise. How well models do on it says nothing about other streams.

A *tick* is half a second: one frame of 128 x 128 pixels and half a second of sound. A *highlight* is a span
in which the host holds up an item of the catalogue, shows their face, and speaks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from walle_task import cv

type Array = np.ndarray[Any, np.dtype[Any]]
type Rng = np.random.Generator
type Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels of the frame."""

NOTE = "SYNTHETIC stream made by generate.py; no person was filmed or recorded."
SIDE = 128
TICK_MS = 500
RATE_HZ = 8_000
SOUND_SAMPLES = RATE_HZ * TICK_MS // 1_000
JPEG_QUALITY = 80
#: What a voice must fill of a tick for the tick to be spoken.
SPOKEN_SHARE = 0.3


# The catalogue

type Inside = Callable[[Array, Array], Array]

#: Outlines in the square from -1 to 1: which points lie inside.
SHAPES: dict[str, Inside] = {
    "disc": lambda u, v: u**2 + v**2 < 0.9,
    "box": lambda u, v: np.maximum(np.abs(u), np.abs(v)) < 0.82,
    "bottle": lambda u, v: (
        ((np.abs(u) < 0.5) & (v > -0.35) & (v < 0.95)) | ((np.abs(u) < 0.2) & (v > -0.95) & (v < 0))
    ),
    "bag": lambda u, v: (
        ((np.abs(u) < 0.85) & (v > -0.2) & (v < 0.9))
        | ((np.abs(np.hypot(u, v + 0.2) - 0.5) < 0.12) & (v < 0))
    ),
    "shoe": lambda u, v: (
        ((v > 0.1) & (v < 0.65) & (np.abs(u) < 0.95)) | ((u < -0.15) & (u > -0.95) & (v > -0.6) & (v < 0.6))
    ),
    "lamp": lambda u, v: (
        ((v < 0) & (np.abs(u) < 0.35 + 0.5 * (v + 0.9)) & (v > -0.9))
        | ((np.abs(u) < 0.14) & (v > -0.1) & (v < 0.8))
        | ((np.abs(u) < 0.5) & (v > 0.7) & (v < 0.95))
    ),
    "star": lambda u, v: np.hypot(u, v) < 0.62 + 0.32 * np.cos(5 * np.arctan2(u, -v)),
    "cross": lambda u, v: (
        ((np.abs(u) < 0.34) | (np.abs(v) < 0.34)) & (np.maximum(np.abs(u), np.abs(v)) < 0.95)
    ),
}
#: Where the second colour is.
PATTERNS: dict[str, Inside] = {
    "plain": lambda u, v: np.zeros_like(u, bool),
    "stripes": lambda u, v: np.sin(9 * u) > 0,
    "hoops": lambda u, v: np.sin(9 * v) > 0,
    "dots": lambda u, v: np.sin(7 * u) * np.sin(7 * v) > 0.35,
    "band": lambda u, v: np.abs(v - 0.2) < 0.25,
    "halves": lambda u, v: u > 0,
}
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 50, 45),
    "blue": (45, 85, 200),
    "green": (50, 150, 75),
    "yellow": (235, 200, 60),
    "white": (240, 240, 238),
    "black": (35, 35, 40),
    "orange": (235, 125, 40),
    "purple": (130, 65, 165),
}


@dataclass(frozen=True)
class Look:
    """How a thing looks."""

    shape: str
    colour: str
    second: str
    pattern: str


CATALOGUE: tuple[Look, ...] = (
    Look("bottle", "green", "white", "band"),
    Look("box", "red", "yellow", "stripes"),
    Look("bag", "blue", "white", "dots"),
    Look("shoe", "white", "red", "hoops"),
    Look("lamp", "yellow", "black", "plain"),
    Look("disc", "orange", "black", "halves"),
    Look("star", "purple", "yellow", "plain"),
    Look("cross", "black", "orange", "dots"),
)
#: What is held up, but is none of the catalogue.
OTHER = len(CATALOGUE)


def decoy(rng: Rng) -> Look:
    """A thing that is not for sale; every second time it differs from one that is only in part."""
    shapes, colours, patterns = list(SHAPES), list(COLOURS), list(PATTERNS)
    while True:
        base = CATALOGUE[rng.integers(OTHER)]
        alike = rng.random() < 0.5
        made = Look(
            base.shape if alike else shapes[rng.integers(len(shapes))],
            base.colour if alike and rng.random() < 0.5 else colours[rng.integers(len(colours))],
            colours[rng.integers(len(colours))],
            patterns[rng.integers(len(patterns))],
        )
        if not any(_alike(made, item) for item in CATALOGUE):
            return made


def _alike(one: Look, other: Look) -> bool:
    """Whether two cannot be told apart: colours that no pattern shows do not count."""
    plain = one.pattern == other.pattern == "plain"
    return (one.shape, one.colour, one.pattern) == (other.shape, other.colour, other.pattern) and (
        plain or one.second == other.second
    )


# The script


@dataclass(frozen=True)
class Tick:
    """Half a second of a stream, and the truth about it."""

    number: int
    segment: str
    highlight: bool
    item: int  # of the catalogue, OTHER, or -1: nothing is held up
    look: Look | None
    face: str  # front, back, covered, none
    spoken: bool
    sound: str  # speech, music, murmur, silence
    hardness: float  # 0: studio; 1: barely


#: Kind of segment: how often, and for how many ticks.
SEGMENTS: dict[str, tuple[float, tuple[int, int]]] = {
    "present": (0.34, (5, 14)),
    "talk": (0.17, (3, 9)),
    "silent": (0.13, (3, 8)),  # an item is shown, and nobody speaks
    "hidden": (0.12, (3, 8)),  # it is spoken about, and no face is seen
    "decoy": (0.14, (3, 9)),  # what is shown is not for sale
    "away": (0.10, (3, 7)),
}


def write_script(seed: int, ticks: int) -> list[Tick]:
    """What happens in a stream, tick by tick; two highlights never touch."""
    rng = np.random.default_rng([seed, 1])
    kinds = list(SEGMENTS)
    weights = np.array([SEGMENTS[kind][0] for kind in kinds])
    script: list[Tick] = []
    kind = ""
    while len(script) < ticks:
        shares = np.where(np.array(kinds) == kind, 0, weights)
        kind = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
        length = int(rng.integers(SEGMENTS[kind][1][0], SEGMENTS[kind][1][1] + 1))
        script += _write_segment(kind, length, len(script), rng)
    return script[:ticks]


def _write_segment(kind: str, length: int, first: int, rng: Rng) -> Iterator[Tick]:
    hardness = float(rng.random() ** 1.6)
    item, look = -1, None
    if kind in ("present", "silent", "hidden"):
        item = int(rng.integers(OTHER))
        look = CATALOGUE[item]
    elif kind == "decoy":
        item, look = OTHER, decoy(rng)
    quiet = ("music", "murmur", "silence")
    unseen = "back" if rng.random() < 0.6 else "covered"
    for at in range(length):
        face = {"hidden": unseen, "away": "none"}.get(kind, "front")
        sound = "speech" if kind in ("present", "talk", "hidden", "decoy") else quiet[rng.integers(3)]
        if kind == "present" and 0 < at < length - 1:  # a highlight has its moments
            if rng.random() < 0.08:
                sound = quiet[rng.integers(3)]
            if rng.random() < 0.08:
                face = "covered"
        yield Tick(first + at, kind, kind == "present", item, look, face, sound == "speech", sound, hardness)


def spans(ticks: Sequence[Tick]) -> list[tuple[int, int, int]]:
    """The highlights of a stream: item, first and last tick."""
    found: list[tuple[int, int, int]] = []
    for tick in ticks:
        if not tick.highlight:
            continue
        if found and found[-1][2] == tick.number - 1:
            found[-1] = (*found[-1][:2], tick.number)
        else:
            found.append((tick.item, tick.number, tick.number))
    return found


# The picture


@dataclass(frozen=True)
class Frame:
    """A picture and where in it is what; a box is None where there is no such thing."""

    pixels: Array  # [SIDE, SIDE, 3], bytes; red, green, blue
    held: Box | None
    face: Box | None  # of a face that can be seen


class Painter:
    """Paints the frames of one stream: its room and its host stay the same."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 2])
        ys, xs = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
        self._xs, self._ys = xs, ys
        self._skin = np.array([225, 185, 155]) * rng.uniform(0.45, 1.05)
        self._hair = np.array(COLOURS["black"]) + rng.uniform(0, 1) * np.array([110, 70, 30])
        self._shirt = _colour(rng)
        self._centre = rng.uniform(48, 76)
        self._head = rng.uniform(13, 18)
        self._hand = -1 if rng.random() < 0.5 else 1
        self._room = self._paint_room(rng)

    def _paint_room(self, rng: Rng) -> Array:
        shade = self._ys[..., None] / SIDE * rng.uniform(-60, 60)
        room: Array = np.clip(_colour(rng) * 0.5 + 100 + shade, 0, 255).astype(np.float32)
        for _ in range(rng.integers(1, 4)):  # shelves
            x, y = rng.integers(0, SIDE - 30, 2)
            room[y : y + rng.integers(6, 30), x : x + rng.integers(10, 40)] = _colour(rng)
        if rng.random() < 0.6:  # a poster with a face on it
            x, y = rng.choice([18, 108]) + rng.uniform(-6, 6), rng.uniform(20, 40)
            self._stamp(room, x, y, 13, 0, SHAPES["box"], _colour(rng))
            self._paint_face(room, x, y, 8, 1, rng)
        table = int(rng.integers(100, 112))
        room[table:] = _colour(rng) * 0.6
        for _ in range(rng.integers(1, 5)):  # what lies on the table
            look = CATALOGUE[rng.integers(OTHER)] if rng.random() < 0.6 else decoy(rng)
            self._paint_thing(
                room, look, rng.uniform(8, SIDE - 8), table + rng.uniform(-4, 4), rng.uniform(5, 8), 0.0
            )
        return room

    def paint(self, tick: Tick, rng: Rng) -> Frame:
        """Paint one tick."""
        image = self._room.copy()
        hard, held, face = tick.hardness, None, None
        sway = rng.normal(0, 1.5, 2)
        x, y = self._centre + sway[0], 46 + sway[1]
        if tick.face != "none":
            self._paint_body(image, x, y)
            seen = tick.face in ("front", "covered")
            (self._paint_face if seen else self._paint_back)(
                image, x, y, self._head, 0.2 + 0.8 * tick.spoken * rng.random(), rng
            )
            face = (x - self._head, y - self._head * 1.25, x + self._head, y + self._head * 1.25)
        if tick.look is not None:
            radius = rng.uniform(13, 17) * (1 - 0.3 * hard)
            at_x = float(np.clip(x + self._hand * rng.uniform(24, 36), radius, SIDE - radius))
            at_y = float(rng.uniform(62, 86))
            if tick.face == "covered":
                at_x, at_y = x + rng.uniform(-3, 3), y + rng.uniform(-2, 4)
                radius = max(radius, self._head * 1.15)
            self._paint_arm(image, x, at_x, at_y + radius * 0.8)
            self._paint_thing(image, tick.look, at_x, at_y, radius, rng.normal(0, 0.15 + 0.25 * hard))
            self._stamp(image, at_x, at_y + radius * 0.9, radius * 0.4, 0, SHAPES["disc"], self._skin * 0.95)
            held = (at_x - radius, at_y - radius, at_x + radius, at_y + radius)
            if rng.random() < 0.5 * hard:  # something comes between
                side = radius * rng.uniform(0.5, 0.9)
                where = at_x + rng.uniform(-1, 1) * radius
                self._stamp(image, where, at_y + radius * 0.5, side, 0, SHAPES["box"], _colour(rng))
        elif tick.face == "covered":
            self._stamp(image, x, y + 4, self._head * 1.05, 0.3, SHAPES["box"], self._skin * 0.9)
        pixels = self._film(image, hard, rng)
        return Frame(pixels, held, None if tick.face in ("back", "covered") else face)

    def _film(self, image: Array, hard: float, rng: Rng) -> Array:
        """What the camera makes of it: movement, light, comments over it, noise."""
        if rng.random() < 0.2 + 0.5 * hard:
            steps = int(rng.integers(2, 3 + round(4 * hard)))
            axis = int(rng.integers(2))
            image = np.mean([np.roll(image, step, axis) for step in range(steps)], axis=0)
        if rng.random() < 0.5:  # viewers' comments
            rows = rng.integers(1, 4)
            image[SIDE - 10 * rows - 4 : SIDE - 4, 4 : 4 + rng.integers(30, 64)] *= 0.6
        light = rng.uniform(0.85, 1.1) * (1 - 0.6 * hard * rng.random()) * rng.uniform(0.93, 1.07, 3)
        noisy = image * light + rng.normal(0, 3 + 24 * hard, image.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)

    def _paint_body(self, image: Array, x: float, y: float) -> None:
        below = self._ys > y + self._head
        wide = 14 + np.minimum((self._ys - y - self._head) * 0.8, 16)
        image[below & (np.abs(self._xs - x) < wide)] = self._shirt

    def _paint_face(self, image: Array, x: float, y: float, size: float, mouth: float, rng: Rng) -> None:
        self._stamp(image, x, y - size * 0.35, size * 1.2, 0, SHAPES["disc"], self._hair)
        self._oval(image, x, y, size * 0.82, size * 1.1, self._skin)
        for side in (-1, 1):
            self._oval(image, x + side * size * 0.36, y - size * 0.15, size * 0.14, size * 0.11, (25, 20, 20))
        self._oval(
            image, x, y + size * 0.55, size * 0.32, size * (0.06 + 0.16 * mouth * rng.random()), (150, 50, 50)
        )

    def _paint_back(self, image: Array, x: float, y: float, size: float, _mouth: float, rng: Rng) -> None:
        self._oval(image, x, y, size * 0.9, size * 1.2, self._hair * rng.uniform(0.9, 1.1))

    def _paint_arm(self, image: Array, x: float, to_x: float, to_y: float) -> None:
        shoulder = x + self._hand * 16, 46 + self._head * 2
        for part in np.linspace(0, 1, 12):
            at_x = shoulder[0] + part * (to_x - shoulder[0])
            at_y = shoulder[1] + part * (to_y - shoulder[1])
            self._stamp(image, at_x, at_y, 5.5, 0, SHAPES["disc"], self._shirt * 0.92)

    def _paint_thing(self, image: Array, look: Look, x: float, y: float, radius: float, angle: float) -> None:
        first, second = (np.array(COLOURS[name], np.float32) for name in (look.colour, look.second))
        pattern = PATTERNS[look.pattern]

        def colour(u: Array, v: Array) -> Array:
            return np.where(pattern(u, v)[..., None], second, first)

        self._stamp(image, x, y, radius, angle, SHAPES[look.shape], colour)

    def _oval(self, image: Array, x: float, y: float, wide: float, high: float, colour: Any) -> None:
        size = max(wide, high)

        def inside(u: Array, v: Array) -> Array:
            return (u * size / wide) ** 2 + (v * size / max(high, 1e-6)) ** 2 < 1

        self._stamp(image, x, y, size, 0, inside, colour)

    def _stamp(
        self, image: Array, x: float, y: float, radius: float, angle: float, inside: Inside, colour: Any
    ) -> None:
        """Colour what is inside of an outline of this size and place; ``colour`` may depend on the place."""
        reach = radius * 1.45
        left, top = max(int(x - reach), 0), max(int(y - reach), 0)
        part = image[top : int(y + reach) + 2, left : int(x + reach) + 2]
        if not part.size:
            return
        rows, columns = part.shape[:2]
        dx = (self._xs[top : top + rows, left : left + columns] - x) / radius
        dy = (self._ys[top : top + rows, left : left + columns] - y) / radius
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        mask = inside(u, v)
        part[mask] = colour(u, v)[mask] if callable(colour) else colour


def _colour(rng: Rng) -> Array:
    return np.asarray(rng.uniform(30, 230, 3))


# The sound


def sing(tick: Tick, pitch_hz: float, rng: Rng) -> Array:
    """Half a second of sound as 16-bit samples; ``pitch_hz`` is the host's."""
    hard = tick.hardness
    wave = rng.normal(0, 0.004 + 0.012 * hard, SOUND_SAMPLES)
    if tick.sound == "speech":
        wave += speak(pitch_hz, rng) * rng.uniform(0.25, 0.7)
        if rng.random() < 0.25 + 0.5 * hard:  # there is music behind it
            wave += play(rng) * rng.uniform(0.02, 0.1 + 0.2 * hard)
    elif tick.sound == "music":
        wave += play(rng) * rng.uniform(0.2, 0.6)
    elif tick.sound == "murmur":  # others talk, further away
        for _ in range(3):
            wave += _smooth(speak(rng.uniform(90, 250), rng), 6) * rng.uniform(0.02, 0.09)
    return np.clip(wave * 32767, -32768, 32767).astype(np.int16)


def speak(pitch_hz: float, rng: Rng) -> Array:
    """A voice: harmonics of a gliding pitch under formants that change with each syllable."""
    t = np.arange(SOUND_SAMPLES) / RATE_HZ
    glide = 1 + 0.12 * np.sin(2 * np.pi * rng.uniform(1, 3) * t + rng.uniform(0, 6)) + rng.normal(0, 0.02)
    phase = 2 * np.pi * np.cumsum(pitch_hz * glide) / RATE_HZ
    wave = np.zeros(SOUND_SAMPLES)
    start = -int(rng.uniform(0, 0.12) * RATE_HZ)
    while start < SOUND_SAMPLES:
        length = int(rng.uniform(0.12, 0.24) * RATE_HZ)
        part = slice(max(start, 0), min(start + length, SOUND_SAMPLES))
        if part.stop > part.start and rng.random() < 0.88:
            envelope = np.hanning(length)[part.start - start : part.stop - start]
            formants = rng.uniform([280, 900, 2400], [800, 2200, 3000])
            harmonics = np.arange(1, int(3_400 / pitch_hz))[:, None]
            near = np.exp(-(((harmonics * pitch_hz - formants) / 180) ** 2) / 2) @ np.array([1, 0.6, 0.3])
            voiced = (near[:, None] * np.sin(harmonics * phase[part])).sum(0)
            wave[part] += envelope * voiced
            if rng.random() < 0.35:  # a consonant before the vowel
                hiss = np.diff(rng.normal(0, 0.25, part.stop - part.start + 1))
                wave[part] += hiss * np.roll(envelope, -len(envelope) // 3) * 0.6
        start += length
    return wave / max(1.0, float(np.abs(wave).max()))


def play(rng: Rng) -> Array:
    """Music: a chord that is held, a beat, now and then a tune over it."""
    t = np.arange(SOUND_SAMPLES) / RATE_HZ
    root = rng.uniform(110, 330)
    wave = np.zeros(SOUND_SAMPLES)
    for ratio in (1, *rng.choice([1.2, 1.25, 1.5, 1.335, 1.78, 2], 2, replace=False)):
        for harmonic in range(1, 5):
            wave += np.sin(2 * np.pi * root * ratio * harmonic * t + rng.uniform(0, 6)) / harmonic**1.3
    beat = rng.uniform(0.25, 0.5)
    wave *= 0.5 + 0.5 * np.exp(-((t + rng.uniform(0, beat)) % beat) * rng.uniform(1, 8))
    if rng.random() < 0.4:
        vibrato = 1 + 0.02 * np.sin(2 * np.pi * 5.5 * t)
        wave += 2 * np.sin(2 * np.pi * np.cumsum(root * 2 * vibrato) / RATE_HZ)
    return np.asarray(wave / np.abs(wave).max())


def _smooth(wave: Array, taps: int) -> Array:
    return np.convolve(wave, np.ones(taps) / taps, "same")


# The stream


@dataclass(frozen=True)
class Moment:
    """A tick with its picture and its sound, as the app hands them over."""

    tick: Tick
    frame: Frame
    jpeg: bytes
    sound: Array  # [SOUND_SAMPLES], 16-bit

    def about(self) -> dict[str, Any]:
        """The truth, as JSON."""
        return asdict(self.tick) | {"held": self.frame.held, "face_box": self.frame.face}


def stream(seed: int, ticks: int) -> Iterator[Moment]:
    """A stream, tick by tick; what comes first does not depend on how much follows."""
    painter = Painter(seed)
    pitch_hz = float(np.random.default_rng([seed, 3]).uniform(95, 230))
    for tick in write_script(seed, ticks):
        rng = np.random.default_rng([seed, 4, tick.number])
        frame = painter.paint(tick, rng)
        _, jpeg = cv.imencode(
            ".jpg", np.ascontiguousarray(frame.pixels[..., ::-1]), [cv.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        yield Moment(tick, frame, bytes(memoryview(jpeg)), sing(tick, pitch_hz, rng))


def main(argv: list[str] | None = None) -> int:
    """Write a stream as files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder for frames, sounds and truth")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ticks", type=int, default=120)
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    truth = []
    for moment in stream(args.seed, args.ticks):
        name = f"{moment.tick.number:05}"
        (args.out / f"{name}.jpg").write_bytes(moment.jpeg)
        (args.out / f"{name}.pcm").write_bytes(moment.sound.tobytes())
        truth.append(moment.about())
    document = {"note": NOTE, "seed": args.seed, "spans": spans(write_script(args.seed, args.ticks))}
    (args.out / "truth.json").write_text(json.dumps(document | {"ticks": truth}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
