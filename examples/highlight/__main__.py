"""Livestream highlights, end to end: ``make demo APP=highlight``, or ``python examples/highlight [--keep]``.

Starts a control plane and three agents as real processes, releases one task to them, and plays SYNTHETIC
livestreams to each: one device asks the cloud where it is unsure, one never does, one always does. Then the
list of highlights at the control plane is compared with the truth. Exit code 0 if every stage ended well.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "common"))

import stages
from play import Stage, options, play

STAGES: tuple[Stage[stages.Show], ...] = (
    ("task repository: one task, three ways of watching", stages.make_repository),
    ("streams are drawn", stages.draw_streams),
    ("control plane", stages.start_control),
    ("three agents enrol", stages.start_devices),
    ("import: models converted, cloud half kept back", stages.import_tasks),
    ("release: a way for each device", stages.release_tasks),
    ("streams are watched", stages.play_streams),
    ("highlights at the control plane against the truth", stages.judge_highlights),
    ("the control plane goes away, and comes back", stages.fall_back),
    ("models on the clock, the paper's sizes beside them", stages.time_models),
)


def main() -> int:
    """Play it; the exit code."""
    parser = options("highlight", __doc__)
    parser.add_argument("--streams", type=int, default=4, metavar="N", help="how many streams (default 4)")
    parser.add_argument(
        "--ticks", type=int, default=120, metavar="N", help="half seconds of each (default 120)"
    )
    parser.add_argument(
        "--pause",
        type=float,
        default=0.05,
        metavar="S",
        help="seconds from tick to tick (default 0.05; live: 0.5)",
    )
    args = parser.parse_args()
    return play(
        args, "Walle: livestream highlights", STAGES,
        lambda folder, screen: stages.make(
            folder, screen, args.agent, max(1, args.streams), max(20, args.ticks), max(0.0, args.pause)
        ),
    )  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
