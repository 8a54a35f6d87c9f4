"""`wnodes cloud images` and `sizes`: what a VM can be made of."""

import typer

from wnodes_lrms.cli.cloud import entities
from wnodes_lrms.cli.cloud.connection import opened
from wnodes_lrms.cli.out import Json, listing

_SHOWN = ("name", "title")


def images(ctx: typer.Context, as_json: Json = False) -> None:
    """List the images: the site's, and those that you saved."""
    _list(ctx, entities.IMAGES, as_json)


def sizes(ctx: typer.Context, as_json: Json = False) -> None:
    """List the sizes that a VM can have."""
    _list(ctx, entities.SIZES, as_json)


def _list(ctx: typer.Context, scheme: str, as_json: bool) -> None:
    with opened(ctx) as service:
        listing(entities.offers(service.get("/-/"), scheme), _SHOWN, as_json)
