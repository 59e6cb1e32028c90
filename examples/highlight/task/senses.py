"""What models see and hear in one tick. Both halves of the task use it, each with its own models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from walle_task import cv, model

type Box = tuple[int, int, int, int]

#: How many items the catalogue has; the class after them is what is not for sale.
ITEMS = 8
STRIDE = 8  # the detector's: a place of its map stands for so many pixels of its input
CROP_MARGIN = 0.15  # of a thing's size, round it
MEAN, STD = 0.5, 0.25


@dataclass(frozen=True)
class Models:
    """Names of four models, and the sides of the pictures they take."""

    detector: str
    recogniser: str
    face: str
    voice: str
    detector_side: int
    recogniser_side: int
    face_side: int


DEVICE = Models("detector", "recogniser", "face", "voice", 64, 32, 48)
CLOUD = Models("cloud_detector", "cloud_recogniser", "cloud_face", "cloud_voice", 128, 48, 96)


@dataclass(frozen=True)
class Senses:
    """Scores of one tick, from 0 to 1.

    Attributes:
        held: something is held up.
        item: the likeliest item of the catalogue.
        sure: how likely it is that item.
        sold: how likely it is any of the catalogue.
        face: a face is seen.
        spoken: there is a voice.
        box: left, top, width and height of what is held, in pixels of the frame.
    """

    held: float
    item: int
    sure: float
    sold: float
    face: float
    spoken: float
    box: Box


def sense(
    image: Any, sound: Mapping[str, object], models: Models, lap: Callable[[str], None] = lambda part: None
) -> tuple[Senses, Any]:
    """Run all four models.

    Args:
        image: the frame, ``[height, width, 3]`` bytes in OpenCV's order.
        sound: what the voice model takes, by name.
        models: which.
        lap: told after each part of the work.

    Returns:
        The senses, and the spectrogram where the voice model tells it.
    """
    held, box = find(image, models)
    lap("detector")
    item, sure, sold = recognise(image, box, models)
    lap("recogniser")
    seen = face(image, models)
    lap("face")
    heard = model.load(models.voice).run(sound)
    spoken = sigmoid(heard["score"].tolist()[0][0])
    lap("voice")
    return Senses(held, item, sure, sold, seen, spoken, box), heard.get("steps")


def find(image: Any, models: Models) -> tuple[float, Box]:
    """The score and the box of the thing that is most likely held up."""
    batch = tensor(image, models.detector_side)
    channels = model.load(models.detector).run({"image": batch})["map"].tolist()[0]
    height, width = image.shape[:2]
    return best_box(channels, models.detector_side, width, height)


def best_box(
    channels: Sequence[Sequence[Sequence[float]]], side: int, width: int, height: int
) -> tuple[float, Box]:
    """The score of the best place of a detector's map, and its box in a frame of this size."""
    thing, middle, *edges = channels
    score, row, column = max(
        (sigmoid(thing[row][column]) * sigmoid(middle[row][column]), row, column)
        for row in range(len(thing))
        for column in range(len(thing))
    )
    left, top, right, bottom = (edge[row][column] * STRIDE for edge in edges)
    x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
    x0, x1 = (min(max(at / side * width, 0), width - 2) for at in (x - left, x + right))
    y0, y1 = (min(max(at / side * height, 0), height - 2) for at in (y - top, y + bottom))
    return score, (round(x0), round(y0), max(2, round(x1 - x0)), max(2, round(y1 - y0)))


def recognise(image: Any, box: Box, models: Models) -> tuple[int, float, float]:
    """The likeliest item, how likely it is, and how likely it is any of the catalogue."""
    height, width = image.shape[:2]
    batch = tensor(image, models.recogniser_side, crop=square(box, width, height))
    shares = softmax(model.load(models.recogniser).run({"image": batch})["scores"].tolist()[0])
    item = max(range(ITEMS), key=shares.__getitem__)
    return item, shares[item], sum(shares[:ITEMS])


def square(box: Box, width: int, height: int) -> Box:
    """A square round a box, a little wider than it, moved into the frame."""
    left, top, wide, high = box
    side = min(round(max(wide, high) * (1 + 2 * CROP_MARGIN)), width, height)
    x = round(left + wide / 2 - side / 2)
    y = round(top + high / 2 - side / 2)
    return min(max(x, 0), width - side), min(max(y, 0), height - side), side, side


def face(image: Any, models: Models) -> float:
    """How likely a face is seen."""
    found = model.load(models.face).run({"image": tensor(image, models.face_side)})["face"].tolist()[0]
    return sigmoid(found[0])


def tensor(image: Any, side: int, crop: Box | None = None) -> Any:
    """A frame, or a part of it, as models take it."""
    return cv.to_tensor(image, size=(side, side), mean=MEAN, std=STD, swap_rb=True, crop=crop)


def sigmoid(logit: float) -> float:
    """A logit as a share."""
    return 1 / (1 + exp(-min(max(logit, -30), 30)))


def softmax(logits: Sequence[float]) -> list[float]:
    """Logits as shares that add up to 1."""
    top = max(logits)
    shares = [exp(logit - top) for logit in logits]
    total = sum(shares)
    return [share / total for share in shares]
