"""What an app imports to tell the agent what its user does.

::

    from walle_agent.client import EventClient

    events = EventClient("/run/walle/events.sock")     # once, when the app starts
    events.emit("page_enter", page_id="item")
    events.emit("click", event_id="add_cart", page_id="item", args={"sku": "red"})
    events.close()                                     # or use it as a context manager

``emit`` checks the event and puts it into a bounded buffer: it never waits, whether the agent is slow, away
or not installed. A thread sends what is buffered, many at a time, and connects again by itself. An app under
Trio needs no thread::

    from walle_agent.client.under_trio import open_events

    async with open_events("/run/walle/events.sock") as events:
        events.emit("click", event_id="add_cart")

When the buffer is full, scrolls go first, then exposures, then custom events; clicks and pages push those
out and are lost last. ``statistics`` counts every loss. What was handed to the system when the agent dies is
lost with it.

What tasks return is heard with ``walle_agent.client.results``.
"""

from walle_agent.client.buffer import ClientStatistics
from walle_agent.client.threaded import EventClient

__all__ = ["ClientStatistics", "EventClient"]
