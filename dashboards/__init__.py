"""The pages: a Dash app over a folder of runs. Nothing here computes; it asks `workbench` and lays the answers out."""
