"""The machines of a launch: the cluster, what each node must have, what a trial may take of it."""
