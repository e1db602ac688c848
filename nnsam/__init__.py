"""nnSAM: Segment Anything encoders, level-set heads and box prompts for nnU-Net v2.

This module is imported at every interpreter start (see :mod:`nnsam._autoload`), so it imports nothing.
"""

__version__ = "0.1.0.dev1"
