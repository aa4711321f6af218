"""Images: reading and writing image files, finding edges, drawing charts, and showing sampling as an animation."""
