"""The few-shot laboratory: protocol, runs, scores, statistics and report of a study with few training cases."""
