"""A trained network outside its study: a folder with weights, all that is known of them, and a digest of every file."""
