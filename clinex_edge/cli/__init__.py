"""The command line: one module a command. Each parses, calls one function, and prints."""
