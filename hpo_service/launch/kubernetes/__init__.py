"""Workers as indexed Jobs of Kubernetes: the launcher, and the manifests that it submits."""
