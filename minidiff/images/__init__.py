"""Images and files: reading and writing them, finding their edges, and drawing charts."""
