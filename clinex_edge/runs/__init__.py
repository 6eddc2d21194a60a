"""Runs over many documents that can be interrupted at any moment and gone on with."""
