"""The alert rules and the dashboard ask for metrics that there are, in words that Prometheus takes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from walle_control.metrics import METRICS
from walle_support.loading import load_script

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "configs" / "monitoring"
ALERTS = MONITORING / "alerts.yml"

#: What Prometheus' client tells of a process, and Prometheus of its targets.
_OTHERS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "up"}


dashboard = load_script(ROOT / "docs/reference/dashboard.py")
QUERIES = [
    query for row in dashboard.rows() for panel in row["panels"] for query in panel["queries"].values()
]


def _metrics(text: str) -> set[str]:
    return set(re.findall(r"\b(?:walle|process)_[a-z_]+", text)) - {"process_", "walle_control"}


def test_the_dashboard_is_made_of_its_table() -> None:
    assert dashboard.TARGET.read_text() == dashboard.text(), "run: .venv/bin/nox -s reference"
    assert json.loads(dashboard.text())["panels"]


def test_they_ask_only_for_metrics_that_there_are() -> None:
    known = {metric.name for metric in METRICS} | _OTHERS
    known |= {f"{metric.name}_bucket" for metric in METRICS if metric.kind == "histogram"}
    asked = _metrics(" ".join(QUERIES).replace("JOB", "")) | _metrics(ALERTS.read_text())
    assert asked <= known


def test_no_metric_is_left_out_of_the_dashboard() -> None:
    shown = _metrics(" ".join(QUERIES).replace("JOB", ""))
    told = {metric.name for metric in METRICS}
    quiet = {"walle_task_versions", "walle_sink_rows_total", "walle_sink_failures_total"}
    quiet |= {"walle_sink_failing", "walle_webhook_deliveries_total"}  # others tell the same, or alarms do
    assert {name.removesuffix("_bucket") for name in shown} >= told - quiet


def test_prometheus_takes_every_rule_and_query(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian: prometheus) is not installed")
    filled = [dashboard.query_of(query).replace("$job", ".+") for query in QUERIES]
    rules = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(filled)]
    queries = tmp_path / "queries.yml"  # JSON is YAML
    queries.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run(
        [promtool, "check", "rules", str(ALERTS), str(queries)], capture_output=True, text=True, timeout=30
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alarm_says_what_it_means_and_the_cure() -> None:
    text = ALERTS.read_text()
    alarms = text.count("- alert:")
    assert alarms > 5
    assert text.count("summary:") == text.count("cure:") == text.count("severity:") == alarms


def test_the_table_of_panels_fits_the_screen() -> None:
    for row in tomllib.loads((MONITORING / "panels.toml").read_text())["rows"]:
        assert sum(panel["width"] for panel in row["panels"]) <= 24
