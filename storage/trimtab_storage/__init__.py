"""The database and the artifact files."""
