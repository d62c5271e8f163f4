"""What every container of a user's has, whatever it is for."""

from typing import Annotated

from pydantic import Field

from modelmill.api.schema import ATOMIC, Schema

Image = Annotated[str, Field(min_length=1, max_length=512, pattern=r"^[a-zA-Z0-9][-a-zA-Z0-9._/:@]*$")]


class UsersContainer(Schema):
    """An image, and what is started in it."""

    image: Image
    """The image. The Workspace says which are allowed."""
    command: Annotated[
        tuple[Annotated[str, Field(max_length=4096)], ...] | None,
        Field(min_length=1, max_length=64, json_schema_extra=ATOMIC),
    ] = None
    """What is started instead of the image's entrypoint. Absent: the entrypoint."""
