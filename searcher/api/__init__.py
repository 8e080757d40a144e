"""What the command line and `import searcher` share: every verb's work as functions of plain arguments.

The names that `import searcher` gives are in `public`; the other modules serve them and the command line alike.
"""
