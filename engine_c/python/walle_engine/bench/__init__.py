"""Race inference engines on one model: each in a process of its own, in turns, the others stopped meanwhile.

::

    driver ─ starts ─► worker.py + engines/<engine>.py   (any Python from 3.11 on; JSON lines over a pipe)
       └──── "turn" ─► SIGCONT, calls for a while, median back, SIGSTOP; then the next worker

An engine is one file with a function ``load``; ``worker.py`` says what it gets and returns.
"""
