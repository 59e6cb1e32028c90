"""The data pipeline: events in, sequences, triggers, collective storage, and the tunnel out.

``README.md`` beside this file has the picture. Layers, top to bottom: ``flow`` (events to firings),
``ingest`` and ``tunnel`` (sockets), ``writer`` (the one thread that touches the database), ``storage`` over
``tables`` and ``outbox`` over ``database``; pure logic in ``pipeline``, ``matcher``, ``sequences``, ``event``.
"""
