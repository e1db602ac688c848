"""`nnsam fewshot` and its sub-commands."""
