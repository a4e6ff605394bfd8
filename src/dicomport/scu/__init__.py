"""The requestor: associations, and `send` for any number of instances.

contexts   presentation contexts and association requests
results    results of sending
inputs     instances in files, folders, archives and data sets
requestor  the requestor's side of an association, as generators that both kinds of associations run
transform  conversion and editing of instances before they are sent
sending    `send`: planning, queue, associations, retries, journal
explain    an association opened step by step, with advice for each failure
"""

from dicomport import late_imports

__all__, __getattr__, __dir__ = late_imports(__spec__)
