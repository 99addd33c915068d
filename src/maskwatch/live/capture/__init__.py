"""From sources to frames: webcams, streams, files and pipes, each read in its own thread."""
