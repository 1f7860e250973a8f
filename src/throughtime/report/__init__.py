"""How is what a run or a comparison left on disk drawn? From the record alone; no torch here."""
