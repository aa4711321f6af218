"""How training gets faster with several processes: see __main__.py."""
