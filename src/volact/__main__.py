"""``python -m volact`` is the command ``volact``."""

import sys

from volact.cli import main

sys.exit(main())
