"""The command that draws images, in parts."""
