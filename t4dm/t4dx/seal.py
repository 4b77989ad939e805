"""A user's key over the log and the manifest: HMAC-SHA256, chained, so that the order is covered as well.

Each record's MAC covers the one before it, each log's header the last MAC of the log before it; the manifest
carries a MAC of its own. Seen, and refused by name: a changed, spliced, reordered, replayed or dropped
record, and a log that ends early although another goes on behind it. Not seen: the whole folder put back to
an older copy of itself, and the last log cut at a record boundary (that state did exist: only an anchor
outside of the folder tells them apart). The bytes of segment and delta files are covered by the checksums in
the manifest, which find rot but not intent. Nothing is encrypted.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, final

from t4dm.errors import OptionError

MAC: Final = 32
LEAST: Final = 16


@final
class Seal:
    """Authenticates bytes with a key of at least 16 bytes.

    Raises:
        OptionError: for a key that is no bytes, or a short one.
    """

    def __init__(self, key: bytes) -> None:
        if not isinstance(key, bytes) or len(key) < LEAST:
            raise OptionError(
                f"key is {type(key).__name__} of {len(key)}; give at least {LEAST} secret bytes, for example "
                "key=os.urandom(32), and keep them"
            )
        self._base = hmac.new(key, digestmod=hashlib.sha256)

    def mac(self, *parts: bytes | memoryview) -> bytes:
        """The MAC [32] of the parts, one behind the other."""
        running = self._base.copy()
        for part in parts:
            running.update(part)
        return running.digest()

    def agrees(self, mac: bytes | memoryview, *parts: bytes | memoryview) -> bool:
        """Whether a MAC is that of the parts; in constant time."""
        return hmac.compare_digest(mac, self.mac(*parts))
