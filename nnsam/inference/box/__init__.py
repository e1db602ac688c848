"""Models that segment what lies in a box."""
