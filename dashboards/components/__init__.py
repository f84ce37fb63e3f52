"""Building blocks of the pages: data in, Dash components out; none reads files or registers callbacks."""
