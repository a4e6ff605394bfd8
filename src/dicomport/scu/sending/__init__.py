"""Sending many instances: plan, queue, associations, retries, report."""
