"""`python -m dicomport` is the `dicomport` command."""

from dicomport.cli import main

main()
