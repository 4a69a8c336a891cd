"""`python -m jsafe.cli`."""

import sys

from jsafe.cli.commands import main

sys.exit(main())
