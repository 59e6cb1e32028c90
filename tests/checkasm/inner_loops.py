"""How near the inner loops of AArch64 kernels come to a core's peak, by LLVM's model of it.

``inner_loops.py BUILD``: finds in each kernel of a cross build the innermost loop with the most
multiply-adds, and has ``llvm-mca`` say how many cycles it takes on a Neoverse N1, which does two of them a
cycle. Fails where a loop of a product or convolution reaches less than 85 %.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CORE, PEAK_PER_CYCLE, LEAST = "neoverse-n1", 2, 0.85
#: Kernels whose inner loop is a product's; a convolution runs in the first two.
KERNELS = ("f32_matmul_8x12", "f32_matmul_6x16", "f32_gemv_16", "f32_dense", "f64_dense")
ITERATIONS = 1_000


@dataclass(frozen=True)
class Instruction:
    """One line of a disassembly; ``target`` is where it branches to."""

    address: int
    text: str
    target: int | None


def disassembled(path: Path) -> list[Instruction]:
    """All instructions of an object file."""
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(path)]
    found = []
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\s+(\S+)\s*(.*)", line)
        if match:
            address, name, rest = match.groups()
            target = re.search(r"\b([0-9a-f]+) <", rest) if name.startswith(("b.", "cb", "tb")) else None
            text = f"{name} {re.sub(r'<.*', '', rest)}"
            found.append(Instruction(int(address, 16), text, int(target[1], 16) if target else None))
    return found


def is_multiply_add(instruction: Instruction) -> bool:
    """Does it count towards the peak?"""
    return instruction.text.startswith("fmla")


def hottest_loop(code: list[Instruction]) -> list[Instruction]:
    """The innermost loop with the most multiply-adds, without the branch that closes it."""
    at = {instruction.address: index for index, instruction in enumerate(code)}
    loops = [
        (at[branch.target], index)
        for index, branch in enumerate(code)
        if branch.target is not None and at.get(branch.target, index) < index
    ]
    innermost = [
        (begin, end)
        for begin, end in loops
        if not any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in loops)
    ]
    bodies = [code[begin:end] for begin, end in innermost]
    return max(bodies, key=lambda body: sum(map(is_multiply_add, body)))


def cycles(mca: str, loop: list[Instruction]) -> float:
    """Of one iteration. Prefetches are left out: the model takes no hint."""
    text = "\n".join(i.text for i in loop if i.target is None and not i.text.startswith("prfm"))
    command = [mca, "-mtriple=aarch64", f"-mcpu={CORE}", f"-iterations={ITERATIONS}"]
    report = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    total = re.search(r"Total Cycles:\s+(\d+)", report)
    assert total is not None, report
    return int(total[1]) / ITERATIONS


def main() -> None:
    """Print the table; exit 1 where a loop falls short."""
    names = [*(f"llvm-mca-{version}" for version in range(30, 16, -1)), "llvm-mca"]
    mca = next(filter(None, map(shutil.which, names)), None)
    if mca is None:
        print("inner loops: no llvm-mca of LLVM 17 or newer (apt-get install llvm-19): not judged")
        return
    build, short = Path(sys.argv[1]), False
    for kernel in KERNELS:
        (path,) = build.glob(f"**/arm/{kernel}_neon.c.o")
        loop = hottest_loop(disassembled(path))
        adds, taken = sum(map(is_multiply_add, loop)), cycles(mca, loop)
        spills = sum("[sp" in instruction.text for instruction in loop)
        share = adds / taken / PEAK_PER_CYCLE
        short |= share < LEAST
        print(
            f"{kernel:18} {adds:3} multiply-adds in {taken:6.2f} cycles: {share:5.1%} of peak,"
            f" {spills} spills"
        )
    sys.exit(short)


if __name__ == "__main__":
    main()
