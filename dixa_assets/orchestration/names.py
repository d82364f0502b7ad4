"""The address of `DixaAsset` in projects written for version 0.1; `naming.py` has the code."""

from dixa_assets.orchestration.naming import DixaAsset

__all__ = ["DixaAsset"]
