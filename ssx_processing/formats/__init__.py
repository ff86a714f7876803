"""The only code that opens files: frames, chunk folders, run folders, MTZ."""
