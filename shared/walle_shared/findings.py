"""What a ``doctor`` found: one finding each, in words, with its cure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

#: ``note``: it works, but somebody should know.
type Level = Literal["ok", "note", "wrong"]

_MARKS: dict[Level, str] = {"ok": "ok", "note": "!", "wrong": "WRONG"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do if that is not well."""

    about: str
    level: Level
    tells: str
    cure: str = ""


def fine(about: str, tells: str) -> Finding:
    """All is well with it."""
    return Finding(about, "ok", tells)


def note(about: str, tells: str, cure: str) -> Finding:
    """It works, but somebody should know."""
    return Finding(about, "note", tells, cure)


def wrong(about: str, tells: str, cure: str) -> Finding:
    """It does not work."""
    return Finding(about, "wrong", tells, cure)


def all_well(findings: Iterable[Finding]) -> bool:
    """Whether nothing is wrong; notes do not count."""
    return all(finding.level != "wrong" for finding in findings)


def tell(findings: Sequence[Finding]) -> str:
    """All of them for a person, a line each, cures below what they cure, and a last line that counts."""
    width = max((len(finding.about) for finding in findings), default=0)
    lines: list[str] = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.level]:<5}  {finding.about:<{width}}  {finding.tells}")
        if finding.cure:
            lines.append(f"{'':<5}  {'':<{width}}  -> {finding.cure}")
    wrongs = sum(finding.level == "wrong" for finding in findings)
    notes = sum(finding.level == "note" for finding in findings)
    lines += ["", f"{len(findings)} looked at: {wrongs} wrong, {notes} to know"]
    return "\n".join(lines)
