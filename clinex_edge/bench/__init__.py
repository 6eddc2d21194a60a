"""The benchmark: labelled documents, every model on them, and what can be said of the answers."""
