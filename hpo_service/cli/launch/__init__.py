"""`hpo-service launch`: have workers started where they are to run, and steer them later from anywhere."""

from hpo_service.cli.launch.steer import app

__all__ = ["app"]
