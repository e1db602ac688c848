"""The runs of a study: trained, predicted and scored, one by one or many at a time, and resumed."""
