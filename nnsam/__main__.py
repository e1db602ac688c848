"""Lets `python -m nnsam` stand for the `nnsam` command."""

import sys

from nnsam.cli.main import main

sys.exit(main())
