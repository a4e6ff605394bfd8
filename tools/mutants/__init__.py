"""Seeded mutation tests of the package: a sample of small defects, and whether the tests notice each one."""
