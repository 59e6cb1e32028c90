"""Application B of the paper: a feed that the device ranks again, by what its user has just done.

Starts a control plane and three devices as real processes and releases the task to them. SYNTHETIC shoppers
use their apps: each visit to an item page becomes a feature and an encoding on the device, which go to the
cloud, and orders the rest of the feed anew. Then it counts what fresh features are worth. Exit code 0 if
every stage came to its end.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "common"))
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when NumPy loads: the apps have threads of their own

import stages
from dataset import open_reader
from play import Stage, options, play
from screen import Screen
from stages import Shop
from world import ControlPlane, Device, World

STAGES: tuple[Stage[Shop], ...] = (
    ("task repository: one task, three models", stages.make_repository),
    ("control plane", stages.start_control),
    ("devices enrol", stages.start_devices),
    ("import: models converted, bundle signed", stages.import_task),
    ("release: push, pull, verify, activate", stages.release_task),
    ("the days before: visits, kept and sent", stages.live_before),
    ("shoppers use their apps", stages.shop_today),
    ("features and encodings in the cloud", stages.collect),
    ("fresh against late features", stages.evaluate_offline),
    ("clicks by ways of ranking", stages.simulate_online),
)


def main() -> int:
    """Run it; the exit code."""
    parser = options("recommend", __doc__)
    parser.add_argument(
        "--devices", type=int, default=3, metavar="N", help="how many, a shopper each (default 3)"
    )
    parser.add_argument(
        "--sessions", type=int, default=5, metavar="N", help="of each shopper on a device (default 5)"
    )
    parser.add_argument(
        "--shoppers", type=int, default=100, metavar="N", help="of the comparisons (default 100)"
    )
    args = parser.parse_args()
    if min(args.devices, args.sessions) < 1 or args.shoppers < 2:
        parser.error("--devices and --sessions must be at least 1, --shoppers at least 2")

    with open_reader() as reader:

        def make(folder: Path, screen: Screen) -> Shop:
            names = [f"phone-{number}" for number in range(1, args.devices + 1)]
            devices = {name: Device(name, folder, {"name": name}, args.agent) for name in names}
            world = World(folder, ControlPlane(folder, screen.command), devices)
            return Shop(world, args.sessions, args.shoppers, reader)

        return play(args, "A feed ranked on the device", STAGES, make)


if __name__ == "__main__":
    raise SystemExit(main())
