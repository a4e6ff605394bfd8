"""The `dicomport` command: demo, storescp, storescu, echoscu."""

from dicomport.cli.main import main as main
