"""The database of the index: its tables, queries and generations."""
