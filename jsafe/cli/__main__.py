"""`python -m jsafe.cli`."""

import sys

from jsafe.cli import main

sys.exit(main())
