"""The DICOM Storage Service for Python."""
