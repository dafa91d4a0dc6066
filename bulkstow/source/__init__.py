"""Where instances come from: directories, files, lists, and the heads of what is found there."""
