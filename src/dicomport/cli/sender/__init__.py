"""Parts of `storescu`: storage commitment, output, summary, dry run."""
