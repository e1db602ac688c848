"""MM-WHS: the official volumes, and CFDnet's slices of them, as raw nnU-Net data sets."""
