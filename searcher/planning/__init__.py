"""A first study for a data set: what its images and objects are, and the study file that follows from them."""
