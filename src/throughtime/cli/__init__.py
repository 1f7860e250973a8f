"""Which verbs has the command line? One module a verb; torch is imported when one runs."""
