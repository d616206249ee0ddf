"""Objects ↔ plain data ↔ bytes: what checkpoints hold; and plain JSON."""

from mdxai.serialization.encoding import Packed, StateError, as_json, decode, encode, pack
from mdxai.serialization.object_state import is_kept, restore, snapshot
from mdxai.serialization.plain_values import as_plain, from_plain

__all__ = [
    "Packed",
    "StateError",
    "as_json",
    "as_plain",
    "decode",
    "encode",
    "from_plain",
    "is_kept",
    "pack",
    "restore",
    "snapshot",
]
