"""Devices: finding one, what it has and why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from walle_control.console.frame import Page, Visit, go_to
from walle_control.features.releases.types import ExplainRequest
from walle_control.features.telemetry.types import ReportQuery
from walle_shared.errors import NotFound
from walle_shared.ids import DeviceId

if TYPE_CHECKING:
    from walle_control.app import Control

_PAGE: Final = 50
_REPORTS: Final = 50
_ID: Final = re.compile(r"[ -~]{1,128}")


class DeviceViews:
    """Pages and forms about devices."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def list(self, visit: Visit) -> Page | Response:
        """Devices by id; one that is asked for by its whole id is shown at once."""
        wanted = visit.query("id")
        if wanted and _ID.fullmatch(wanted):
            try:
                device = await self._control.devices.show(DeviceId(wanted))
            except NotFound:
                pass
            else:
                return go_to(f"/devices/{device.id}")
        start = visit.query("after") or wanted
        found = await self._control.devices.list(start if _ID.fullmatch(start) else "", _PAGE)
        devices = [each for each in found.devices if each.id.startswith(wanted)]
        facts = {
            "devices": devices,
            "wanted": wanted,
            "next": found.next if len(devices) == len(found.devices) else None,
        }
        return Page("devices.html", facts)

    async def show(self, visit: Visit) -> Page:
        """One device: what it has, why, and what it said last."""
        control = self._control
        device = await control.devices.show(DeviceId(visit.path("device_id")))
        explained = await control.releases.explain(ExplainRequest(device.id))
        facts = {
            "live": True,
            "device": device,
            "said": (await control.audiences.said_of("device", device.id)).values,
            "epoch": explained.epoch,
            "explanations": explained.releases,
            "reports": await control.telemetry.newest_reports(ReportQuery(device=device.id), _REPORTS),
            "may_revoke": device.state == "active" and visit.who.may("devices:write", ""),
            "done": visit.query("done"),
        }
        return Page("device.html", facts)

    async def revoke(self, visit: Visit) -> Response:
        """The form that ends a device's rights."""
        device_id = DeviceId(visit.path("device_id"))
        await self._control.devices.revoke(device_id, visit.who.name)
        return go_to(f"/devices/{device_id}", "revoked")
