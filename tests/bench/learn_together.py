"""What learning together reaches, beside the same training in one place and alone: ``nox -s learning``.

Devices, server and encodings are the product's own; only the network between them is not there.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from walle_control.features.learning.accountant import epsilon, multiplier_for
from walle_control.features.learning.types import PlanWish

sys.path.append(str(Path(__file__).parents[1] / "support"))
from walle_support.federation import Digits, Federation, deal

DELTA = 1e-5


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    name: str
    wish: PlanWish
    dropouts: float = 0.0
    poisoned: float = 0.0


def cases(devices: int, rounds: int) -> list[Case]:
    """What is compared."""
    base = PlanWish(
        "1.0.0", noise=0.0, rounds=rounds, goal=devices, epochs=5, batch=8, rate=0.3, clip_norm=2.0,
        samples_cap=50, delta=DELTA,
    )  # fmt: skip

    def wish(**change: object) -> PlanWish:
        return replace(base, **change)  # type: ignore[arg-type]  # names of its fields

    trimmed, loose = wish(rule="trimmed_mean"), wish(clip_norm=20.0)
    noise = multiplier_for(8.0, rounds, DELTA)
    return [
        Case("federated averaging", base),
        Case("with momentum", wish(optimizer="momentum", server_rate=0.5)),
        Case("30 % drop out of each round", base, dropouts=0.3),
        Case("5 % poisoned, mean", base, poisoned=0.05),
        Case("5 % poisoned, trimmed mean", trimmed, poisoned=0.05),
        Case("nobody poisoned, trimmed mean", trimmed),
        Case("5 % poisoned, mean, loose clip", loose, poisoned=0.05),
        Case(
            "5 % poisoned, trimmed mean, loose clip", wish(rule="trimmed_mean", clip_norm=20.0), poisoned=0.05
        ),
        Case("5 % poisoned, median, loose clip", wish(rule="median", clip_norm=20.0), poisoned=0.05),
        Case(f"noise {noise:.2f}: epsilon 8", wish(noise=noise, clip_norm=1.0)),
    ]


def main() -> None:
    """Run all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--skew", type=float, default=0.3, help="of classes; the smaller, the fewer a device has"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = deal(args.devices, skew=args.skew, seed=args.seed)
    shown = [n for n in (1, 2, 5, 10, 15, 20, 30, 40, 60, 80, 100) if n <= args.rounds]
    table = Table(title=_title(args, data), box=None)
    table.add_column("accuracy on held-out digits after round")
    for number in shown:
        table.add_column(str(number), justify="right")
    table.add_column("epsilon", justify="right")
    for case in cases(len(data.shares), args.rounds):
        learning = Federation(data, case.wish, dropouts=case.dropouts, poisoned=case.poisoned, seed=args.seed)
        found = [learning.round() for _ in range(args.rounds)]
        learning.close()
        spent = epsilon(case.wish.noise, args.rounds, DELTA) if case.wish.noise else None
        cells = [f"{found[number - 1]:.1%}" for number in shown]
        table.add_row(case.name, *cells, "-" if spent is None else f"{spent:.1f}")
    _add_references(table, data, args, shown)
    Console(width=140).print(table)


def _add_references(table: Table, data: Digits, args: argparse.Namespace, shown: list[int]) -> None:
    """As many passes over the data as the rounds make, in one place and alone."""
    wish = cases(len(data.shares), args.rounds)[0].wish
    learning = Federation(data, wish, seed=args.seed)
    some = range(0, len(data.shares), max(1, len(data.shares) // 20))
    central, local = list[str](), list[str]()
    for number in shown:
        central.append(f"{learning.central(number * wish.epochs):.1%}")
        local.append(f"{np.mean([learning.local(device, number * wish.epochs) for device in some]):.1%}")
    learning.close()
    table.add_section()
    table.add_row("all data in one place", *central, "-")
    table.add_row("each device alone (mean)", *local, "-")


def _title(args: argparse.Namespace, data: Digits) -> str:
    sizes = [len(share) for share in data.shares]
    classes = [len({sample["label"] for sample in share}) for share in data.shares]
    return (
        f"{len(sizes)} devices, {np.median(sizes):.0f} scans of {np.median(classes):.0f} digits each"
        f" (medians), skew {args.skew:g}, seed {args.seed}"
    )


if __name__ == "__main__":
    main()
