"""What `storescu` adds to its options: commitment, output, summary, dry run."""
