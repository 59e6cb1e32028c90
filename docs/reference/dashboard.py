"""Makes ``configs/monitoring/grafana-dashboard.json`` of the table in ``panels.toml`` beside it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "configs" / "monitoring"
TARGET = FOLDER / "grafana-dashboard.json"

_COLUMNS = 24
_HEIGHTS = {"row": 1, "stat": 4, "timeseries": 8}
_SOURCE = {"type": "prometheus", "uid": "${source}"}


def rows() -> list[dict[str, Any]]:
    """The table."""
    found: list[dict[str, Any]] = tomllib.loads((FOLDER / "panels.toml").read_text())["rows"]
    return found


def query_of(text: str) -> str:
    """A query with the variable that Grafana fills in."""
    return text.replace("JOB", '{job=~"$job"}')


def text() -> str:
    """The file's text."""
    return json.dumps(_dashboard(), indent=1) + "\n"


def _dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    y = 0
    for row in rows():
        heading = {"type": "row", "title": row["title"], "collapsed": False, "panels": []}
        panels.append(_place(heading, 0, y, _COLUMNS))
        x, y = 0, y + _HEIGHTS["row"]
        for panel in row["panels"]:
            panels.append(_place(_drawn(panel), x, y, panel["width"]))
            x += panel["width"]
        y += max(_HEIGHTS[panel["kind"]] for panel in row["panels"])
    return {
        "uid": "walle-control",
        "title": "Walle control plane",
        "tags": ["walle"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_source_variable(), _job_variable()]},
        "panels": [{**panel, "id": number} for number, panel in enumerate(panels, 1)],
    }


def _source_variable() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _job_variable() -> dict[str, Any]:
    choice = {"multi": True, "includeAll": True, "refresh": 1}
    return {
        "name": "job",
        "type": "query",
        "datasource": _SOURCE,
        "query": "label_values(walle_epoch, job)",
        **choice,
    }


def _drawn(panel: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": panel["kind"],
        "title": panel["title"],
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel["unit"], "min": 0}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if panel["kind"] == "stat" else {},
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": _SOURCE,
                "expr": query_of(query),
                "legendFormat": legend,
            }
            for n, (legend, query) in enumerate(panel["queries"].items())
        ],
    }


def _place(panel: Mapping[str, Any], x: int, y: int, width: int) -> dict[str, Any]:
    return {**panel, "gridPos": {"x": x, "y": y, "w": width, "h": _HEIGHTS[panel["type"]]}}


if __name__ == "__main__":
    TARGET.write_text(text())
