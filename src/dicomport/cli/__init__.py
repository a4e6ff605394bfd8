"""The `dicomport` command: demo, storescp, storescu, echoscu."""

from dicomport.cli.main import main

__all__ = ["main"]
