"""Workers on a Ray cluster that exists: the launcher, the cluster as it sees it, and the actor that keeps a worker."""
