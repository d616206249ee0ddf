"""Objects ↔ plain data ↔ bytes: what checkpoints hold; and plain JSON."""

from mdxai.serialization.encoding import Packed, StateError, as_json, decode, encode, pack
from mdxai.serialization.object_state import is_kept, restore, snapshot

__all__ = [
    "Packed",
    "StateError",
    "as_json",
    "decode",
    "encode",
    "is_kept",
    "pack",
    "restore",
    "snapshot",
]
