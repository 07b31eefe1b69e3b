"""Makes `python -m gateway` the command `gateway`."""

import sys

from gateway.cli import main

sys.exit(main())
