"""Sources: cameras, streams, files and pipes, each read in its own thread."""
