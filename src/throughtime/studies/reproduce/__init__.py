"""Published tables, each from one command: what is trained, and what the paper has for it."""
