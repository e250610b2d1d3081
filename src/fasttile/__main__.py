"""`python -m fasttile` is the command `fasttile`."""

import sys

from .cli import main

sys.exit(main())
