"""`python -m hpo_service` is the command `hpo-service`."""

from hpo_service.cli import main

if __name__ == "__main__":
    main()
