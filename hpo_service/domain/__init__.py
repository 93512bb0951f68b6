"""Pure rules of the service: what a study is, which moves a trial may make, how a winner is chosen. No I/O."""
