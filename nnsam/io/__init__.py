"""Images in, label maps out: every reader, every writer, and who finds the files."""
