"""`python -m fasttile`: the command `fasttile`."""

import sys

from fasttile.cli import main

sys.exit(main())
