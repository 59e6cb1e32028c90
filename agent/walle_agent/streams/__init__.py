"""The data pipeline: events in, sequences, triggers, collective storage, and the tunnel out.

``README.md`` beside this file has the picture. Top to bottom: ``service`` (what the agent holds), ``ingest``
and ``tunnel`` (sockets), ``flow`` (events to firings), ``storage`` over ``tables`` and ``outbox`` over
``database``; pure logic in ``pipeline``, ``matcher``, ``sequences`` and ``event``.
"""
