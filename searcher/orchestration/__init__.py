"""Running a study on Ray Tune: driver, search algorithm, trainable, scheduler, cluster."""
