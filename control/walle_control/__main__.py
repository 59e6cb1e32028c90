"""``python -m walle_control``."""

import sys

from walle_control.cli import main

sys.exit(main())
