"""Files: the one way to write and to delete, and to read what is small; the user's own folder."""
