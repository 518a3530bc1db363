"""What this service signed is taken by whichever of its processes it comes back to."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from itsdangerous import SignatureExpired, TimestampSigner, URLSafeTimedSerializer

__all__ = ["ForgivingSigner", "forgiving"]

# Clocks of two machines are never quite the same, and signatures know whole seconds.
_SECONDS_AHEAD: Final = 60


class ForgivingSigner(TimestampSigner):
    """A signer that takes what a machine has signed whose clock is up to a minute ahead.

    Its parent refuses a signature from the future as expired, so that of two machines the one
    behind by a moment would refuse forms and sign-ins of the other.
    """

    def unsign(
        self, signed_value: str | bytes, max_age: int | None = None, return_timestamp: bool = False
    ) -> Any:
        """Give what was signed.

        Raises
        ------
        BadSignature
            If it was not signed with this secret, or is older than `max_age` seconds, or more than
            a minute ahead.
        """
        value, signed_at = super().unsign(signed_value, return_timestamp=True)
        at: datetime = signed_at
        age = self.get_timestamp() - at.timestamp()
        if max_age is not None and not -_SECONDS_AHEAD <= age <= max_age:
            raise SignatureExpired(
                f"Signature age {age:.0f} is not within {max_age} seconds", value, at
            )
        return (value, at) if return_timestamp else value


def forgiving(serializer: URLSafeTimedSerializer) -> URLSafeTimedSerializer:
    """Let a serializer sign and read by `ForgivingSigner`."""
    serializer.signer = ForgivingSigner
    return serializer
