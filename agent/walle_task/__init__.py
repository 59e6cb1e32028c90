"""The only package a task script imports.

::

    from walle_task import events, log, model, params, store, tunnel

    def run():
        visit = events.visit()
        scores = model.load("digits").run({"image": visit.enter.args["pixels"]})["scores"]
        tunnel.send("digit", {"scores": scores.tolist()})

``events``, ``params``, ``log``, ``store``, ``tunnel``, ``cloud``, ``inbox``, ``clock`` and ``random`` speak
to the run that is going on: on a device that is the container's, in a plain Python it is the one
:func:`walle_task.testing.fake_host` makes, so a task is written, debugged and unit-tested in an editor. Only
``model``, ``matrix`` (arrays) and ``cv`` (images), the last two imported by themselves, need the engine.

Importable in an isolated interpreter: standard library and the plain modules of ``walle_shared`` only.
"""

from walle_task import (
    clock,
    cloud,
    events,
    inbox,
    learn,
    log,
    model,
    params,
    random,
    store,
    streams,
    tunnel,
)
from walle_task.events import Event, Visit

__all__ = [
    "Event",
    "Visit",
    "clock",
    "cloud",
    "events",
    "inbox",
    "learn",
    "log",
    "model",
    "params",
    "random",
    "store",
    "streams",
    "tunnel",
]
