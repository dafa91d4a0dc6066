"""Sources of instances: scan directories, files and lists, and read the heads of files."""
