from hpo_service.client import connect as connect

__all__ = ["__version__", "connect"]
__version__: str
