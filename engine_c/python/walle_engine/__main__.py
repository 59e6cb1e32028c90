"""``python -m walle_engine`` is ``walle-engine``."""

import sys

from walle_engine.cli import main

sys.exit(main())
