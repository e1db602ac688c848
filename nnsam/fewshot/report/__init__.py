"""The report of a study: from the scores of its runs to tables and pictures."""
