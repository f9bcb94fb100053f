"""Which method runs on which architecture: judged by running it, never by hand."""
