"""The operator's console: pages made on the server, which need no JavaScript and nothing from elsewhere.

``frame`` lets people in and dresses what they see; the modules called after what they show (``overview``,
``releases``, ...) ask the features' services what the admin API asks, behind the same permissions; ``charts``
draws. ``routes`` is the whole table.
"""
