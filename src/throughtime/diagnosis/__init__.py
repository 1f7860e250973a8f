"""What is wrong with a model, and what cures it? Flow, report and training joined."""
