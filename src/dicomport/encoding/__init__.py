"""PS3.5: how data elements and data sets are encoded."""
