"""What a run of watching shows and stores: terminal, window, recordings, thumbnails."""
