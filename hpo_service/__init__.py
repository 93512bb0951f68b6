"""Find LoRA hyper-parameters in a fraction of the GPU-hours, and know whether the winner is really better."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["__version__"]

try:
    __version__ = version("hpo-service")
except PackageNotFoundError:  # a source tree on sys.path that was never installed
    __version__ = "0+unknown"
