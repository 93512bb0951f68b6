"""Find LoRA hyper-parameters in a fraction of the GPU-hours, and know whether the winner is really better."""

import importlib
from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__", "connect"]

try:
    __version__ = version("hpo-service")
except PackageNotFoundError:  # a source tree on sys.path that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> object:
    """Load the client when it is asked for: whoever imports the package pays for nothing, and knows no room of it."""
    if name == "connect":
        return importlib.import_module("hpo_service.client").connect
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
