"""``python -m walle_agent`` is ``walle-agent``."""

from walle_agent.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
