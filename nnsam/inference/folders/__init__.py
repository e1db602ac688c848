"""From files to files: many cases, resumable, in parallel, over Ray."""
