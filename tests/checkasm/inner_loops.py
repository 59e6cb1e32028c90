"""How near the inner loops of AArch64 kernels come to what a core can do, by LLVM's model of it.

``inner_loops.py BUILD``: finds loops in the kernels of a cross build and has ``llvm-mca`` say how many cycles
one turn takes: on a Neoverse N1, on an N2 for what needs bfloat16, which the N1 has not, and on a
Cortex-A72 for bytes without dot products. All do two multiply-adds a cycle, or on the A72 a product of
bytes and a sum by pairs. Two shares are printed:

- of the peak: multiply-adds over twice the cycles. A product's loop has little else, and is judged by it.
- of the floor: the cycles that the core's units need at least for the loop's arithmetic, loads and stores,
  over those it takes. Convolutions and their transforms store and clamp as they go, and are judged by it:
  what moves, spreads, spills or counts is what they could do without.

Fails where a loop reaches less than 85 % of what it is judged by, or than its row says, with the reason.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ADDS_PER_CYCLE, LEAST, ITERATIONS = 2, 0.85, 1_000
MULTIPLY_ADDS = ("fmla", "fmls", "bfdot", "bfmmla", "sdot", "smull", "smull2", "sadalp")
#: Conversions to and from bfloat16 too, and what makes zeros of denormals before.
ARITHMETIC = (
    *MULTIPLY_ADDS,
    "fadd",
    "fsub",
    "fmul",
    "fmax",
    "fmin",
    "shll",
    "bfcvtn",
    "bfcvtn2",
    "cmtst",
    "orr",
    "and",
)


@dataclass(frozen=True)
class Row:
    """A loop to judge: nearest to ``adds`` multiply-adds or ``work`` of arithmetic, else the most."""

    kernel: str
    function: str = ""  # what its name has in it, where a file has several
    isa: str = "neon"
    core: str = "neoverse-n1"
    adds: int | None = None
    work: int | None = None
    what: str = ""
    by_peak: bool = False
    longest: bool = (
        False  # by the way that stores all there is to store, not by that past edges and residuals
    )
    least: float = LEAST
    #: Vectors that have to wait in memory, as there are more at once than registers.
    waiting: int = 0


def _wide(kernel: str, **told: object) -> Row:
    return Row(kernel, isa="neonbf16", core="neoverse-n2", **told)  # type: ignore[arg-type]


ROWS = (
    Row("f32_matmul_8x12", by_peak=True),
    Row("f32_matmul_6x16", by_peak=True),
    Row("f32_gemv_16", by_peak=True),
    Row("f32_dense", by_peak=True),
    Row("f64_dense", by_peak=True),
    Row("f32_depthwise", what="rows of 5", adds=40),
    Row("f32_depthwise", what="rows of 7", adds=56),
    Row("f32_depthwise", what="3 x 3", work=13),
    # Of every second pixel (others go by rows): weights and sums fill the registers, and nothing is shared.
    Row("f32_depthwise", what="5 x 5", work=30, least=0.75),
    Row("f32_grouped", what="groups of 4", adds=32),
    Row("f32_grouped", what="groups of 8", adds=64),
    Row("f32_grouped", what="groups of 16", adds=12),
    Row("u8_byte_matmul_8x12", isa="neondot", by_peak=True),
    Row("u8_byte_matmul_4x12", core="cortex-a72", by_peak=True),
    Row("f32_winograd", "_in_", what="4 x 4, in", work=156),
    Row("f32_winograd", "_out_", what="4 x 4, out", work=164, longest=True),
    # 64 and 48 vectors on their way from columns to rows: all but those that fit pass through memory.
    Row("f32_winograd", "_in_", what="6 x 6, in", work=416, waiting=36),
    Row("f32_winograd", "_out_", what="6 x 6, out", work=460, waiting=20, longest=True),
    _wide("bf16x1_matmul_8x12", by_peak=True),
    _wide("bf16x1_matmul_6x16", by_peak=True),
    _wide("bf16_gemv_16"),
    _wide("bf16_depthwise", what="3 x 3", work=26),
)


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly; ``target`` is where it branches to."""

    address: int
    text: str
    target: int | None

    @property
    def name(self) -> str:
        return self.text.split()[0]


type Code = list[Instruction]


def disassembled(path: Path, function: str = "") -> Code:
    """The instructions of an object file, of all functions that have this in their name."""
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(path)]
    found, within = [], True
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        if line.endswith(">:"):
            within = function in line
        match = re.match(r"\s*([0-9a-f]+):\s+(\S+)\s*(.*)", line)
        if match and within:
            address, name, rest = match.groups()
            jumps = name == "b" or name.startswith(("b.", "cb", "tb"))
            target = re.search(r"\b([0-9a-f]+) <", rest) if jumps else None
            text = f"{name} {re.sub(r'(<|//).*', '', rest)}"
            found.append(Instruction(int(address, 16), text, int(target[1], 16) if target else None))
    return found


def of(code: Code, names: tuple[str, ...]) -> Code:
    """The instructions on vectors that are of these."""
    return [i for i in code if i.name in names and re.match(r"\w+ v", i.text)]


def counted(code: Code, names: tuple[str, ...]) -> int:
    """How many these are."""
    return len(of(code, names))


def next_of(code: Code, at: dict[int, int], i: int) -> list[int]:
    """Where one may go from instruction ``i``."""
    following = [] if code[i].name in ("b", "ret") else [i + 1]
    target = code[i].target
    return [j for j in (*following, *([at[target]] if target in at else [])) if j < len(code)]


def turn(code: Code, at: dict[int, int], begin: int, end: int, longest: bool) -> Code:
    """A way round a loop, without its branches: that which leaves out all it can, or that which does all."""
    lengths: dict[int, tuple[int, int]] = {end: (0, end)}  # to the end, and by way of which
    entered: set[int] = set()

    def length(i: int) -> int | None:
        if i not in lengths and i not in entered:
            entered.add(i)
            ways = [(found + 1, j) for j in next_of(code, at, i) if (found := length(j)) is not None]
            if ways:
                lengths[i] = max(ways) if longest else min(ways)
        return lengths[i][0] if i in lengths else None

    sys.setrecursionlimit(10 * len(code) + 1_000)
    path, i = [], begin
    while length(begin) is not None and i != end:
        path.append(code[i])
        i = lengths[i][1]
    return [i for i in path if i.target is None]


def loops(code: Code, longest: bool) -> Iterator[Code]:
    """A turn of each innermost loop."""
    at = {instruction.address: index for index, instruction in enumerate(code)}
    back = [
        (at[branch.target], index)
        for index, branch in enumerate(code)
        if branch.target is not None and at.get(branch.target, index) < index
    ]
    for begin, end in back:
        if not any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in back):
            yield turn(code, at, begin, end, longest)


def simulated(mca: str, core: str, loop: Code, figure: str) -> float:
    """A figure of the model's report. Prefetches are left out: it takes no hint."""
    text = "\n".join(i.text for i in loop if i.name != "prfm")
    command = [mca, "-mtriple=aarch64", f"-mcpu={core}", f"-iterations={ITERATIONS}"]
    report = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    found = re.search(rf"{figure}:\s+([0-9.]+)", report)
    assert found is not None, report
    return float(found[1])


def needed(loop: Code, waiting: int) -> Code:
    """Its arithmetic, loads and stores; of those on the stack, for ``waiting`` vectors one each."""
    moved = [i for i in loop if i.name.startswith(("ld", "st")) and "[sp" not in i.text]
    there = [Instruction(0, "str q0, [sp, #16]", None), Instruction(0, "ldr q0, [sp, #16]", None)]
    return of(loop, ARITHMETIC) + moved + there * waiting


@dataclass(frozen=True)
class Judged:
    """What the model says of a loop."""

    loop: Code
    cycles: float
    of_peak: float
    of_floor: float


def judged(mca: str, row: Row, loop: Code) -> Judged:
    """Have the model run it."""
    cycles = simulated(mca, row.core, loop, "Total Cycles") / ITERATIONS
    units = simulated(mca, row.core, needed(loop, row.waiting), "Block RThroughput")
    floor = max(units, counted(loop, ARITHMETIC) / ADDS_PER_CYCLE)
    return Judged(loop, cycles, counted(loop, MULTIPLY_ADDS) / ADDS_PER_CYCLE / cycles, floor / cycles)


def loads(loop: Code) -> int:
    """Of vectors, from elsewhere than the stack; the way past the last vector's edge has none."""
    return sum(
        i.name in ("ldr", "ldur", "ldp") and re.match(r"\w+ [qd]", i.text) is not None and "[sp" not in i.text
        for i in loop
    )


def chosen(row: Row, found: list[Code]) -> list[Code]:
    """The loops that a row means: edges of a vector, which take longer, come out alike."""
    distance: Callable[[Code], int]
    if row.adds is not None:
        distance = lambda loop: abs(counted(loop, MULTIPLY_ADDS) - (row.adds or 0))  # noqa: E731
    elif row.work is not None:
        distance = lambda loop: abs(counted(loop, ARITHMETIC) - (row.work or 0))  # noqa: E731
    else:
        distance = lambda loop: -counted(loop, MULTIPLY_ADDS)  # noqa: E731
    nearest = min(map(distance, found))
    alike = [loop for loop in found if distance(loop) == nearest]
    most = max(map(loads, alike))
    return [loop for loop in alike if 2 * loads(loop) >= most]


def main() -> None:
    """Print the table; exit 1 where a loop falls short."""
    names = [*(f"llvm-mca-{version}" for version in range(30, 16, -1)), "llvm-mca"]
    mca = next(filter(None, map(shutil.which, names)), None)
    if mca is None:
        print("inner loops: no llvm-mca of LLVM 17 or newer (apt-get install llvm-19): not judged")
        return
    build, short = Path(sys.argv[1]), False
    for row in ROWS:
        (path,) = build.glob(f"**/arm/{row.kernel}_{row.isa}.c.o")
        candidates = chosen(row, list(loops(disassembled(path, row.function), row.longest)))
        best = max((judged(mca, row, loop) for loop in candidates), key=lambda found: found.of_floor)
        share = best.of_peak if row.by_peak else best.of_floor
        short |= share < row.least
        print(
            f"{row.kernel:19} {row.what:12} {row.core:11} {counted(best.loop, MULTIPLY_ADDS):3} multiply-adds"
            f" of {counted(best.loop, ARITHMETIC):3} in {best.cycles:6.2f} cycles:"
            f" {best.of_peak:6.1%} of peak, {best.of_floor:6.1%} of floor,"
            f" {sum('[sp' in i.text for i in best.loop)} spills{'  TOO FEW' if share < row.least else ''}"
        )
    sys.exit(short)


if __name__ == "__main__":
    main()
