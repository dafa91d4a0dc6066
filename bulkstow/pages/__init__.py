"""HTML pages that need no network: escaping, tables, the common style, and the frame of a page."""
