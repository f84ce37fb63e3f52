"""What happened: schema, recorder, run directory, readers; `loader.load` turns a path into a Run.

Nothing is imported here, so that a workload which only records does not pay for the readers.
"""
