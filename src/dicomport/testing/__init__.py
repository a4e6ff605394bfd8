"""The shipped test kit: what a test of one side needs of the other, without a socket.

- `CorePair`: two association cores back to back, over a link that cuts the bytes wherever the test says.
- `joined`: events with the pieces of each data set put together, so that two runs can be compared.
"""

from dicomport.testing.pair import CorePair, joined

__all__ = ["CorePair", "joined"]
