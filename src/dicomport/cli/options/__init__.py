"""Options that several commands share, one module for each subject."""
