"""The main job, end to end, on this machine: ``make demo``, or ``python examples/demo [--keep]``.

Starts a control plane and three agents as real processes, sends two tasks from a git tag to the devices'
answers, then lets a broken version roll itself back. Exit code 0 if every stage came to its end, 1 with the
stage that failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "common"))

import stages
from play import Stage, options, play
from screen import Screen
from stages import PROFILES, Demo
from world import ControlPlane, Device, World

STAGES: tuple[Stage[Demo], ...] = (
    ("task repository with two tagged tasks", stages.make_repository),
    ("control plane", stages.start_control),
    ("three agents enrol", stages.start_devices),
    ("import: git tag to signed bundle", stages.import_tasks),
    ("release: push, pull, verify, activate", stages.release_tasks),
    ("apps emit events", stages.replay_events),
    ("trigger, run, feature to the cloud", stages.collect_features),
    ("a broken version goes to the beta group", stages.release_broken),
    ("it fails and is rolled back by itself", stages.watch_rollback),
    ("the device is back on the good version", stages.prove_recovery),
)


def main() -> int:
    """Run the demo; the exit code."""
    parser = options("demo", __doc__)
    parser.add_argument(
        "--digits", type=int, default=300, metavar="N", help="held-out digits to read (default 300)"
    )
    args = parser.parse_args()

    def make(folder: Path, screen: Screen) -> Demo:
        devices = {
            name: Device(name, folder, {"name": name, **profile}, args.agent)
            for name, profile in PROFILES.items()
        }
        return Demo(World(folder, ControlPlane(folder, screen.command), devices), max(3, args.digits))

    return play(args, "Walle, end to end", STAGES, make)


if __name__ == "__main__":
    raise SystemExit(main())
