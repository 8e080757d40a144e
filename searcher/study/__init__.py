"""What a study is: its file, its configuration, its search space."""
